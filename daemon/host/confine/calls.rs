//! Which system calls a confined program has (seccomp). A list of what ordinary programs that read, compute and print need: what
//! is not on it does not exist for them, also what a later kernel brings. What programs try and must not do is refused by name.
//! Which files the calls reach is `reach`'s question.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::lists::{
    OF_THIS_MACHINE, ORDINARY, REFUSED, REFUSED_OF_THIS_MACHINE, WITH_NETWORK, WITHOUT_NETWORK,
};

/// A call's rules: none means always; otherwise one of them has to fit.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// What differs from program to program, and from kernel to kernel.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Whether it may connect to other machines.
    pub network: bool,
    /// Whether something else (Landlock) keeps its signals to itself.
    pub signals: bool,
    /// The process that asks.
    pub process: u32,
}

/// Both filters, made before anything is given up.
pub struct Filters {
    refused: BpfProgram,
    known: BpfProgram,
}

impl Filters {
    /// Compiles them for this machine.
    pub fn new(allowance: Allowance) -> Result<Self, seccompiler::Error> {
        let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
        let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
        let refused =
            SeccompFilter::new(refused(allowance), SeccompAction::Allow, errno(libc::EPERM), architecture)?;
        let known =
            SeccompFilter::new(known(allowance)?, errno(libc::ENOSYS), SeccompAction::Allow, architecture)?;
        Ok(Self { refused: refused.try_into()?, known: known.try_into()? })
    }

    /// Holds the calling thread to them, and all that it starts, for good.
    pub fn apply(&self) -> Result<(), seccompiler::Error> {
        apply_filter(&self.refused)?;
        // Afterwards no more filters can be set: what that takes is not on its list.
        apply_filter(&self.known)
    }
}

fn refused(allowance: Allowance) -> Rules {
    let without_network = if allowance.network { &[] } else { WITHOUT_NETWORK };
    let calls = REFUSED.iter().chain(REFUSED_OF_THIS_MACHINE).chain(without_network);
    calls.map(|call| (*call, Vec::new())).collect()
}

fn known(allowance: Allowance) -> Result<Rules, seccompiler::Error> {
    let Allowance { network, signals, process } = allowance;
    let mut rules: Rules = ORDINARY.iter().chain(OF_THIS_MACHINE).map(|call| (*call, Vec::new())).collect();
    // The other filter's to refuse: of two answers, the kernel gives the one that denies more.
    rules.extend(refused(allowance));
    // No namespaces. What says so in memory (clone3) does not exist, and the C libraries then take this one.
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)?]);
    // Its own limits, and nobody else's of the same user.
    for call in [libc::SYS_prlimit64, libc::SYS_sched_setaffinity] {
        rules.insert(call, vec![rule(0, SeccompCmpOp::Eq, 0)?]);
    }
    // Nor has it the kernel signal others, or tell it of what others do with files.
    for (call, unwanted) in [(libc::SYS_fcntl, UNWANTED_OF_FILES), (libc::SYS_ioctl, UNWANTED_OF_DEVICES)] {
        rules.insert(call, vec![none_of(1, unwanted)?]);
    }
    let options =
        HARMLESS_OPTIONS.iter().map(|option| rule(0, SeccompCmpOp::Eq, u64::from(option.unsigned_abs())));
    rules.insert(libc::SYS_prctl, options.collect::<Result<_, _>>()?);
    if signals {
        rules.extend([libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill].map(|call| (call, Vec::new())));
    } else {
        // To itself, as abort() does.
        rules.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, u64::from(process))?]);
    }
    if network {
        // No Unix sockets: those have paths, and nothing else would keep it from them.
        let families = [libc::AF_INET, libc::AF_INET6]
            .map(|family| rule(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs())));
        rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
        rules.extend(WITH_NETWORK.iter().map(|call| (*call, Vec::new())));
    }
    Ok(rules)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::Error> {
    let length = match operator {
        // Flags fill the whole register; numbers of processes, options and families are 32 bits wide.
        SeccompCmpOp::MaskedEq(_) => SeccompCmpArgLen::Qword,
        _ => SeccompCmpArgLen::Dword,
    };
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])?)
}

fn none_of(argument: u8, values: &[u64]) -> Result<SeccompRule, seccompiler::Error> {
    let condition =
        |value: &u64| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value);
    Ok(SeccompRule::new(values.iter().map(condition).collect::<Result<_, _>>()?)?)
}

/// Of fcntl(2), the same everywhere: F_SETOWN, F_SETSIG and F_SETOWN_EX, by which the kernel would signal any process of this user when
/// a pipe has room; F_SETLEASE, which keeps others from opening a file; F_NOTIFY, which tells what happens in a folder.
const UNWANTED_OF_FILES: &[u64] = &[8, 10, 15, 1024, 1026];
/// Of ioctl(2): FIOSETOWN and SIOCSPGRP, the first of these for sockets.
const UNWANTED_OF_DEVICES: &[u64] = &[0x8901, 0x8902];

/// Flags of clone(2) that make a namespace, and `CLONE_NEWTIME`, which lies among the bits of its exit signal.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | 0x80) as u64;

/// Of prctl(2). Not among them: being told nothing of its parent's end, and being traced by others.
const HARMLESS_OPTIONS: &[i32] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_DUMPABLE,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_SECCOMP,
    libc::PR_SET_VMA,
    libc::PR_SET_THP_DISABLE,
];
