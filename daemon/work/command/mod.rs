//! Runs the program of a `command` job: the list's rows go in, rows come out, and what it says goes to the program log. What
//! it can reach, `host::confine` decides; which processes are its own, `host::group` knows; `fit` says whether it is run at all,
//! `rows` takes apart what it prints, `said` what it says.
//!
//! All that flows at the same time, in pieces of bounded size, so that neither side waits for the other. When the first process ends, or
//! the job does, all processes end.

pub mod error;
pub mod fit;
mod rows;
mod said;

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdin, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

pub use self::error::CommandError;
use self::error::TRY_AGAIN;
use self::rows::{PLAIN, Printed};
use super::query::Sink;
use super::stop::Stop;
use crate::host::confine::{Confinement, READY};
use crate::host::group::{self, Group};
use crate::policy::agreement::Command;
use crate::policy::job::JobLimits;
use crate::policy::table::Table;

/// Processes that a program may have at a time.
pub const PROCESSES: u64 = 64;
/// Bytes of rows that are written to the program at a time.
const PIECE: usize = 64 << 10;
/// The longest word of the confining process.
const LONGEST_WORD: usize = 4 << 10;
/// Between two looks whether the program or its time is over.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// Between two counts of its processes and their memory, which takes a look at every process there is.
const BETWEEN_COUNTS: Duration = Duration::from_millis(200);

/// One run of a program.
pub struct Run<'a> {
    /// What the exchange's file says.
    pub command: &'a Command,
    /// Whose program confines itself: this one, but in tests.
    pub itself: &'a Path,
    /// What one job may take.
    pub limits: JobLimits,
    /// When it is to end.
    pub stop: &'a Stop,
    /// For the program log: which arrival.
    pub arrival: &'a str,
}

impl Run<'_> {
    /// Gives the program the list and puts what it prints into `out`, in the list's dialect. Gives the number of rows.
    pub fn perform(&self, list: &Table<'_>, out: &mut impl Sink) -> Result<u64, CommandError> {
        let description = serde_json::to_string(&self.confinement()?)
            .map_err(|error| CommandError::NotConfined(error.to_string()))?;
        let (group, mut ends) =
            Group::start(self.itself, &["confined", &description]).map_err(CommandError::Start)?;
        let given_up = AtomicBool::new(false);
        let (flowed, fed, over) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| self.watch(&group, &given_up));
            let (errors, input) = (ends.errors, ends.input);
            scope.spawn(|| said::listen(errors, |line| self.tell(line)));
            let flowed = is_ready(&mut ends.output).map(|()| {
                let feeding = scope.spawn(|| {
                    let fed = feed(list, input);
                    given_up.fetch_or(fed.is_err(), Ordering::Relaxed);
                    fed
                });
                let printed = Printed::new(list.dialect(), self.command.columns.as_deref(), out);
                let flowed = printed.and_then(|mut printed| printed.read(&mut ends.output).map(|()| printed));
                (flowed, feeding)
            });
            if !matches!(&flowed, Ok((Ok(_), _))) {
                given_up.store(true, Ordering::Relaxed);
            }
            let over = joined(watching);
            let (flowed, fed) = match flowed {
                Ok((flowed, feeding)) => (flowed, joined(feeding)),
                Err(error) => (Err(error), Ok(())),
            };
            (flowed, fed, over)
        });
        let status = group.finish().map_err(CommandError::Pipe)?;
        match over {
            Over::Ended => {}
            Over::GivenUp => return Err(flowed.err().or(fed.err()).unwrap_or(CommandError::Failed(0))),
            Over::Refused(error) => return Err(error),
        }
        if let Err(error @ CommandError::NotConfined(_)) = flowed {
            return Err(error);
        }
        succeeded(status)?;
        fed?;
        flowed?.finish()
    }

    fn confinement(&self) -> Result<Confinement, CommandError> {
        let Some((program, arguments)) = self.command.argv.split_first() else {
            return Err(CommandError::NotConfined("argv of the flow is empty".to_owned()));
        };
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Ok(Confinement {
            program: program.into(),
            arguments: arguments.to_vec(),
            reads: self.command.reads.clone(),
            network: self.command.network,
            memory: self.limits.memory,
            // Should nobody be left to end it by the clock.
            processor_time: self.limits.time.as_secs().saturating_add(1).saturating_mul(processors),
            tasks: group::tasks_of_this_user().saturating_add(PROCESSES),
            parent: std::process::id(),
        })
    }

    /// Until the first process has ended or must; then all of them end, which closes the pipes that others wait at.
    fn watch(&self, group: &Group, given_up: &AtomicBool) -> Over {
        let mut counted = Instant::now();
        let over = loop {
            match group.has_ended() {
                Ok(true) => break Over::Ended,
                Ok(false) => {}
                Err(error) => break Over::Refused(CommandError::Pipe(error)),
            }
            if given_up.load(Ordering::Relaxed) {
                break Over::GivenUp;
            }
            if let Some(cause) = self.stop.cause() {
                break Over::Refused(cause.into());
            }
            if counted.elapsed() >= BETWEEN_COUNTS {
                counted = Instant::now();
                if let Err(error) = self.count(group) {
                    break Over::Refused(error);
                }
            }
            std::thread::sleep(BETWEEN_LOOKS);
        };
        group.kill();
        over
    }

    fn count(&self, group: &Group) -> Result<(), CommandError> {
        let census = group.census();
        if census.processes > PROCESSES {
            return Err(CommandError::Processes { limit: PROCESSES });
        }
        let limit = self.limits.memory;
        if census.memory > limit { Err(CommandError::Memory { limit }) } else { Ok(()) }
    }

    fn tell(&self, line: &str) {
        tracing::warn!(arrival = self.arrival, line, "the program of a command says");
    }
}

/// Why nobody watches any more.
enum Over {
    /// The first process has ended by itself.
    Ended,
    /// Nobody wants what it prints.
    GivenUp,
    /// It had to end.
    Refused(CommandError),
}

/// Reads the confining process's word. What comes behind it is the program's.
fn is_ready(output: &mut impl Read) -> Result<(), CommandError> {
    let (mut word, mut byte) = (Vec::new(), [0; 1]);
    // Byte by byte, since not one byte of the program's own may be taken here.
    while word.len() < LONGEST_WORD && output.read(&mut byte).map_err(CommandError::Pipe)? > 0 {
        word.extend_from_slice(&byte);
        if word == READY {
            return Ok(());
        }
    }
    let told = said::cleaned(&word);
    let told = if told.is_empty() {
        "the process that confines it ended early; the program log may say why".to_owned()
    } else {
        told
    };
    Err(CommandError::NotConfined(told))
}

/// Writes the list to the program. That it wants no more is its own decision: its exit code says whether all is well.
fn feed(list: &Table<'_>, mut input: ChildStdin) -> Result<(), CommandError> {
    let mut piece = Zeroizing::new(Vec::with_capacity(2 * PIECE));
    PLAIN.write_header(&mut piece, list.columns().iter().map(String::as_bytes));
    let (mut rows, mut fields) = (list.rows(), Vec::new());
    while rows.read(&mut fields).map_err(CommandError::List)? {
        PLAIN.write_row(&mut piece, fields.iter().map(|field| field.as_bytes()));
        if piece.len() >= PIECE {
            if !give(&mut input, &piece)? {
                return Ok(());
            }
            piece.clear();
        }
    }
    give(&mut input, &piece).map(drop)
}

/// Whether it took them.
fn give(input: &mut ChildStdin, piece: &[u8]) -> Result<bool, CommandError> {
    match input.write_all(piece) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::Pipe(error)),
    }
}

fn succeeded(status: ExitStatus) -> Result<(), CommandError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(TRY_AGAIN), _) => Err(CommandError::TryAgain),
        (Some(code), _) => Err(CommandError::Failed(code)),
        (None, signal) => Err(CommandError::Killed(signal.unwrap_or_default())),
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
