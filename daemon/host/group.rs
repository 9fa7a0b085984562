//! The processes of one job's program: started together, watched together, ended together, however many there are of them and
//! whatever became of the first. They form one process group, which they cannot leave (`confine`).

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

/// This program's own file, also where another one has taken its name since.
pub const ITSELF: &str = "/proc/self/exe";
/// How long what was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A program's processes. Dropping it ends all of them.
#[derive(Debug)]
pub struct Group {
    first: Child,
    id: Pid,
}

/// The other ends of what the first process was given as its input, output and errors.
#[derive(Debug)]
pub struct Ends {
    /// Its standard input.
    pub input: ChildStdin,
    /// Its standard output.
    pub output: ChildStdout,
    /// Its standard error.
    pub errors: ChildStderr,
}

/// How many there are and what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Processes.
    pub processes: u64,
    /// Bytes of memory that is no file's. What several share counts for each.
    pub memory: u64,
}

impl Group {
    /// Starts the first process, in a group of its own, without an environment, in `/`.
    pub fn start(program: &Path, arguments: &[&str]) -> io::Result<(Self, Ends)> {
        let mut first = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let ends = (first.stdin.take(), first.stdout.take(), first.stderr.take());
        let group = Self { id: Pid::from_child(&first), first };
        match ends {
            (Some(input), Some(output), Some(errors)) => Ok((group, Ends { input, output, errors })),
            _ => Err(io::Error::other("the started process has no pipes")),
        }
    }

    /// Whether the first process has ended; the others may live. Its number stays its own until [`Group::finish`].
    pub fn has_ended(&self) -> io::Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(rustix::process::waitid(WaitId::Pid(self.id), look)?.is_some())
    }

    /// Ends all of them at once: the kernel lets none be born meanwhile. Only before [`Group::finish`], since afterwards the
    /// number may be another's.
    pub fn kill(&self) {
        // All of them may be gone already.
        let _ = rustix::process::kill_process_group(self.id, Signal::KILL);
    }

    /// What they are together, as far as this process may look.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for process in processes() {
            if group_of(&process) != Some(self.id.as_raw_nonzero().get()) {
                continue;
            }
            census.processes += 1;
            census.memory = census.memory.saturating_add(memory_of(&process).unwrap_or(0));
        }
        census
    }

    /// Ends what is left of them, and says how the first one ended.
    pub fn finish(mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = self.first.wait()?;
        self.see_off();
        Ok(status)
    }

    /// Where this process is the first of its container, those that lost their parent are its own to wait for.
    fn see_off(&self) {
        let begun = Instant::now();
        while begun.elapsed() < GONE_WITHIN {
            match rustix::process::waitpgid(self.id, WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => std::thread::sleep(BETWEEN_LOOKS),
                // None of them, or none that is this process's: those are init's, and killed.
                Err(_) => return,
            }
        }
        tracing::warn!(group = self.id.as_raw_nonzero().get(), "a process of an ended job is still there");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(None) = self.first.try_wait() {
            self.kill();
            let _ = self.first.wait();
        }
    }
}

/// Processes and threads of this process's user, as far as it may look.
pub fn tasks_of_this_user() -> u64 {
    let user = rustix::process::getuid().as_raw();
    let of_user = processes().filter_map(|process| {
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let owner: u32 = field(&status, "Uid:")?.parse().ok()?;
        (owner == user).then(|| field(&status, "Threads:")?.parse::<u64>().ok())?
    });
    of_user.sum()
}

fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    let is_number =
        |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(move |entry| is_number(&entry.file_name())).map(|entry| entry.path())
}

/// The third field behind the name, which may hold anything but is the last thing in brackets.
fn group_of(process: &Path) -> Option<i32> {
    let stat = std::fs::read(process.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
}

fn memory_of(process: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let kibibytes = |name| field(&status, name)?.parse::<u64>().ok();
    Some(kibibytes("RssAnon:")?.saturating_add(kibibytes("RssShmem:")?).saturating_mul(1024))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()
}
