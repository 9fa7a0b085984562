//! When a running job is to end before it is done: when the process stops, or when the job's time is over. Every loop of a
//! job asks here; what becomes of its arrival is `policy::job`'s question.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::policy::job::Failure;
use crate::policy::reason::Reason;

/// Whether a job may go on. Clones share the process's sign, and have the same end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Set when the process stops.
    asked: Arc<AtomicBool>,
    /// By a clock that nobody can set.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    at: Instant,
    limit: Duration,
}

/// Why a job ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The process is stopping.
    #[error("interrupted because the process is stopping")]
    Stopping,
    /// Its time was over.
    #[error(
        "the job took longer than {} (work.job-time): look at the query and its plan, raise work.job-time, or have the list \
         sent in parts", humantime::format_duration(*limit)
    )]
    TooLong {
        /// What it had.
        limit: Duration,
    },
}

impl Interrupted {
    /// Whether another try may help.
    pub fn failure(self) -> Failure {
        match self {
            Self::Stopping => Failure::Passing,
            Self::TooLong { .. } => Failure::Lasting(Reason::JobTooLong),
        }
    }
}

impl Stop {
    /// For a job that begins now, and has so much time.
    pub fn after(asked: &Arc<AtomicBool>, limit: Duration) -> Self {
        let end = Instant::now().checked_add(limit).map(|at| End { at, limit });
        Self { asked: Arc::clone(asked), end }
    }

    /// Nothing while the job may go on.
    pub fn cause(&self) -> Option<Interrupted> {
        if self.asked.load(Ordering::Relaxed) {
            return Some(Interrupted::Stopping);
        }
        let end = self.end.filter(|end| Instant::now() >= end.at);
        end.map(|End { limit, .. }| Interrupted::TooLong { limit })
    }

    /// The same as an error.
    pub fn go_on(&self) -> Result<(), Interrupted> {
        self.cause().map_or(Ok(()), Err)
    }

    /// Reads as long as the job may go on. What breaks off because of it is no fault of the file: ask `go_on` first.
    pub fn reading<R: Read>(&self, inner: R) -> impl Read {
        UntilStop { inner, stop: self.clone() }
    }
}

struct UntilStop<R> {
    inner: R,
    stop: Stop,
}

impl<R: Read> Read for UntilStop<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.go_on().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_goes_on_until_its_time_is_over_or_the_process_stops() {
        let asked = Arc::new(AtomicBool::new(false));
        let long = Stop::after(&asked, Duration::from_secs(3600));
        let short = Stop::after(&asked, Duration::ZERO);
        assert_eq!((Stop::default().cause(), long.cause()), (None, None));
        assert_eq!(short.cause(), Some(Interrupted::TooLong { limit: Duration::ZERO }));
        asked.store(true, Ordering::Relaxed);
        for stop in [&long, &short, &long.clone()] {
            assert_eq!(stop.cause(), Some(Interrupted::Stopping), "a process that stops holds nothing");
        }
        assert_eq!(Stop::after(&Arc::default(), Duration::MAX).cause(), None);
    }

    #[test]
    fn reading_breaks_off_when_the_time_is_over() {
        let over = Stop::after(&Arc::default(), Duration::ZERO);
        assert!(over.reading(&b"x"[..]).read(&mut [0; 1]).is_err());
        assert_eq!(Stop::default().reading(&b"x"[..]).read(&mut [0; 1]).unwrap(), 1);
    }
}
