//! How a program that an exchange's file names is run so that it can do nothing but compute: this process gives up all that the
//! program does not need, and becomes it. `reach` says which files that leaves, `calls` which system calls. What goes in and
//! comes out, and how long it may take, is for who starts it.
//!
//! Runs in a process of its own with one thread, before anything else happens there. What cannot be given up ends it: a
//! program is never run less confined than it says here.

mod calls;
mod lists;
pub mod reach;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use self::calls::{Allowance, Filters};
use self::reach::ReachError;
use super::files::FileError;
use super::files::program;

/// What this process prints when nothing is left but to become the program. What comes before it, or instead of it, is this
/// process's own word, and what comes behind it the program's.
pub const READY: &[u8] = b"confined\n";
/// Descriptors that the program may have open at a time.
const DESCRIPTORS: u64 = 1024;
/// Where the system says which parts of memory a dump has.
const DUMPED: &str = "/proc/self/coredump_filter";

/// What a program is confined to. No secret is in it: it is an argument of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Confinement {
    /// Its absolute path.
    pub program: PathBuf,
    /// What it is given.
    pub arguments: Vec<String>,
    /// Files and folders that it reads, beside the system's.
    pub reads: Vec<PathBuf>,
    /// Whether it may connect to other machines.
    pub network: bool,
    /// Bytes of address space of each of its processes.
    pub memory: u64,
    /// Seconds of processor time of each of its processes.
    pub processor_time: u64,
    /// Processes and threads that its user may have, with those there are.
    pub tasks: u64,
    /// The process that starts it, and with whose end it ends.
    pub parent: u32,
}

impl From<seccompiler::Error> for ConfineError {
    fn from(error: seccompiler::Error) -> Self {
        Self::Calls(error.to_string())
    }
}

/// Why a program is not run. Read by the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Whoever asked for it is gone.
    #[error("the process that started it has ended")]
    Orphaned,
    /// It is not what it was when the configuration was read.
    #[error("{path} {0}; {remedy}", path = .0.path().display(), remedy = .0.remedy())]
    Program(#[from] FileError),
    /// Files are not put out of reach.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// System calls are not put out of reach.
    #[error(
        "this kernel, or the container it runs in, sets no filter for system calls (seccomp), without which no command is run: {0}"
    )]
    Calls(String),
    /// The system refused.
    #[error("cannot {attempted}: {cause}")]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// The system's word.
        cause: io::Error,
    },
}

fn failed<E: Into<io::Error>>(attempted: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |cause| ConfineError::Io { attempted, cause: cause.into() }
}

impl Confinement {
    /// Gives up all but this, and becomes the program. Comes back only with the reason why not.
    pub fn enter(&self) -> ConfineError {
        match self.give_up() {
            Ok(()) => {}
            Err(error) => return error,
        }
        let mut program = Command::new(&self.program);
        let cause = program.args(&self.arguments).env_clear().exec();
        ConfineError::Io { attempted: "execute the program", cause }
    }

    fn give_up(&self) -> Result<(), ConfineError> {
        self.end_with_parent()?;
        program::trusted(&self.program)?;
        close_descriptors().map_err(failed("close what was left open"))?;
        keep_out_of_dumps().map_err(failed("keep its memory out of dumps"))?;
        rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
        let signals = reach::restrict(&self.program, &self.reads, self.network)?;
        let allowance = Allowance { network: self.network, signals, process: std::process::id() };
        let filters = Filters::new(allowance)?;
        filters.apply()?;
        self.limit().map_err(failed("set its limits"))?;
        let mut out = io::stdout().lock();
        out.write_all(READY).and_then(|()| out.flush()).map_err(failed("say that it is ready"))
    }

    /// The kernel ends it with the thread that started it, also where nobody is left to say so.
    fn end_with_parent(&self) -> Result<(), ConfineError> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(failed("end with the process that started it"))?;
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
        if parent == self.parent { Ok(()) } else { Err(ConfineError::Orphaned) }
    }

    fn limit(&self) -> rustix::io::Result<()> {
        for (resource, most) in [
            (Resource::Core, 0),
            // Not one byte into any file, wherever it comes from.
            (Resource::Fsize, 0),
            (Resource::Msgqueue, 0),
            (Resource::Memlock, 0),
            (Resource::Nofile, DESCRIPTORS),
            (Resource::Nproc, self.tasks),
            (Resource::Cpu, self.processor_time),
            (Resource::Data, self.memory),
            (Resource::As, self.memory),
        ] {
            // Never more than this process has.
            let most = rustix::process::getrlimit(resource).maximum.map_or(most, |had| had.min(most));
            rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        Ok(())
    }
}

/// What whoever started this left open beside input, output and errors. A descriptor of this program closes itself when it
/// becomes another one.
fn close_descriptors() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // The one that listed them is closed already.
        match nix::unistd::close(number) {
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A limit on dumps does not hold where a program takes them, so there is nothing in them: this outlives exec.
fn keep_out_of_dumps() -> io::Result<()> {
    match std::fs::write(Path::new(DUMPED), "0") {
        // A kernel that dumps nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}
