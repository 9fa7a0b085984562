//! Hands one line to a program of the operator's, on its standard input: no shell, nothing in its environment or arguments
//! but what the configuration says, a process group of its own, and an end to waiting for it. What the line says is others'
//! business; nothing of it is ever written to a log, nor what the program says about it.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Less than a pipe takes without anybody reading, in bytes.
const LINE_MAX: usize = 32 << 10;

/// Why a program did not take a line.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// The configuration names none.
    #[error("no program is configured")]
    None,
    /// More than such a line may hold.
    #[error("the line has more than {LINE_MAX} bytes")]
    TooLong,
    /// It cannot be started.
    #[error(
        "{program} cannot be started: {cause}; see that the user that runs this may execute it (under systemd, ExecPaths=)"
    )]
    Start {
        /// Its path.
        program: String,
        /// The cause.
        cause: io::Error,
    },
    /// It ended, and not with success.
    #[error("the program ended with {0}")]
    Failed(ExitStatus),
    /// It did not end, and was ended with all that it had started.
    #[error("the program had not ended after {} s and was killed", .0.as_secs())]
    Slow(Duration),
    /// This process stops.
    #[error("this process stops, and the program was killed")]
    Stopped,
    /// The system is at fault.
    #[error("the program cannot be waited for: {0}")]
    Io(#[from] io::Error),
}

/// Starts the program, gives it the line, and waits for its end, which must be a success. What it says is dropped. Blocks.
pub fn hand_over(
    argv: &[String],
    line: &[u8],
    patience: Duration,
    is_stopping: &dyn Fn() -> bool,
) -> Result<(), Untaken> {
    let (program, arguments) = argv.split_first().ok_or(Untaken::None)?;
    if line.len() > LINE_MAX {
        return Err(Untaken::TooLong);
    }
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|cause| Untaken::Start { program: program.clone(), cause })?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends without reading says by its exit code what that means. The pipe takes it all: nobody waits here.
        let _ = input.write_all(line);
    }
    let begin = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(Untaken::Failed(status)),
            Ok(None) if begin.elapsed() >= patience => break Untaken::Slow(patience),
            Ok(None) if is_stopping() => break Untaken::Stopped,
            Ok(None) => std::thread::sleep(LOOK),
            Err(error) => break error.into(),
        }
    };
    end(&mut child);
    Err(ended)
}

/// With all that it has started and not put into another group.
fn end(child: &mut Child) {
    // It has not been waited for, so its number is still its own.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn script(text: &str) -> Vec<String> {
        ["/bin/sh", "-c", text].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_program_gets_the_line_on_its_input_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("got");
        let text = format!("cat > {0}; env >> {0}; pwd >> {0}; echo noise; echo noise >&2", there.display());
        hand_over(&script(&text), b"the line\n", LONG, &|| false).unwrap();
        let got = std::fs::read_to_string(there).unwrap();
        let foreign: Vec<&str> = got
            .lines()
            .filter(|line| !["the line", "PWD=/", "/"].contains(line) && !line.starts_with("_="))
            .collect();
        assert!(got.starts_with("the line\n") && got.ends_with("/\n"), "{got}");
        assert!(foreign.is_empty(), "an empty environment, but for what the shell makes itself: {foreign:?}");
    }

    #[test]
    fn only_success_counts_and_each_failure_says_what_it_was() {
        let failed = |argv: &[String]| hand_over(argv, b"x\n", LONG, &|| false).unwrap_err().to_string();
        assert!(failed(&script("cat; exit 3")).contains("exit status: 3"));
        assert!(failed(&script("kill -9 $$")).contains("signal: 9"));
        assert!(failed(&["/nowhere/sms".to_owned()]).contains("/nowhere/sms cannot be started"));
        assert!(failed(&[]).contains("no program"));
        assert!(hand_over(&script("cat"), &vec![0; LINE_MAX + 1], LONG, &|| false).is_err());
        assert!(hand_over(&script("exit 0"), b"not read\n", LONG, &|| false).is_ok(), "its word counts");
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("pids");
        let text = format!("sleep 600 & echo $! > {0}; echo $$ >> {0}; wait", there.display());
        let patience = Duration::from_millis(500);
        let slow = hand_over(&script(&text), b"x\n", patience, &|| false).unwrap_err();
        assert!(matches!(slow, Untaken::Slow(_)), "{slow}");
        let pids = std::fs::read_to_string(&there).unwrap();
        for pid in pids.lines().map(|line| line.parse::<i32>().unwrap()) {
            let gone = || rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_err();
            // What was orphaned is waited for by another process.
            let begin = Instant::now();
            while !gone() && !is_zombie(pid) && begin.elapsed() < LONG {
                std::thread::sleep(LOOK);
            }
            assert!(gone() || is_zombie(pid), "{pid} is still there");
        }
        let stopped = hand_over(&script("sleep 600"), b"x\n", LONG, &|| true).unwrap_err();
        assert!(matches!(stopped, Untaken::Stopped), "{stopped}");
    }

    fn is_zombie(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| text.contains(") Z "))
    }
}
