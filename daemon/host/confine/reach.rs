//! What a confined program reaches (Landlock): itself, the system's programs and libraries, and what its configuration has it
//! read. Nothing of it can be written but what throws everything away. What the kernel cannot hold it to is refused here, not told.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};

/// The newest rules that have been tried out here.
const TRIED: ABI = ABI::V6;

/// The system's programs and libraries: read and executed. None of them is the zone's.
pub const SYSTEM: &[&str] = &["/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin"];
/// What the loader and the C library read: the libraries' places, the time zone, chance.
pub const ESSENTIALS: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];
/// What finding another machine, and knowing it by its certificate, takes.
pub const FOR_NETWORK: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl/certs",
];
/// What may be written to, because nothing comes of it.
const NOWHERE: &str = "/dev/null";

/// Why a program is not confined.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// What it is to read is not there.
    #[error("cannot open {path}: {cause}; correct `reads` or `argv` of the flow")]
    Missing {
        /// Where.
        path: PathBuf,
        /// The system's word.
        cause: std::io::Error,
    },
    /// The kernel has none, or it is switched off.
    #[error(
        "this kernel, or the container it runs in, offers no Landlock for files (Linux 5.19), without which no command is run: \
         see that `landlock` stands in /sys/kernel/security/lsm"
    )]
    NotOffered,
    /// The kernel refused a rule.
    #[error("the kernel refused a rule of Landlock: {0}")]
    Refused(#[from] RulesetError),
}

/// Holds the calling thread to `program`, to what the system has, and to `reads`, and all that it starts, for good. Says
/// whether signals stay within as well.
pub fn restrict(program: &Path, reads: &[PathBuf], network: bool) -> Result<bool, ReachError> {
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    hard().handle_access(AccessFs::Refer).map_err(|_| ReachError::NotOffered)?;
    let signals = hard().scope(Scope::Signal).is_ok();
    let ports = if network { AccessNet::BindTcp.into() } else { AccessNet::from_all(TRIED) };
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(ports)?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    let run = make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir});
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let mut rules = named(rules, program, run)?;
    for path in reads {
        rules = named(rules, path, read)?;
    }
    let rules = there(rules, SYSTEM, run)?;
    let rules = there(rules, ESSENTIALS, read)?;
    let rules = there(rules, if network { FOR_NETWORK } else { &[] }, read)?;
    let rules = there(rules, &[NOWHERE], make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}))?;
    let status = rules.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err(ReachError::NotOffered);
    }
    Ok(signals)
}

/// What the configuration names has to be there.
fn named(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, ReachError> {
    let missing = |cause| ReachError::Missing { path: path.to_owned(), cause };
    let opened = PathFd::new(path).map_err(|error| missing(std::io::Error::other(error.to_string())))?;
    let metadata = std::fs::metadata(path).map_err(missing)?;
    // Of a file, there is nothing to list.
    let access = if metadata.is_dir() { access } else { access & !BitFlags::from(AccessFs::ReadDir) };
    Ok(rules.add_rule(PathBeneath::new(opened, access))?)
}

/// What of these the system has.
fn there(
    mut rules: RulesetCreated,
    paths: &[&str],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, ReachError> {
    for path in paths.iter().map(Path::new).filter(|path| path.exists()) {
        rules = named(rules, path, access)?;
    }
    Ok(rules)
}
