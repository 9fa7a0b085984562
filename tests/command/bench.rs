//! Where a program is tried out: a folder with what it must not reach, and a list that it is given.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dropzone::policy::agreement::Command;
use dropzone::policy::job::JobLimits;
use dropzone::policy::table::Table;
use dropzone::work::command::{CommandError, Run};
use dropzone::work::encrypt::{Buffer, new_buffer};
use dropzone::work::query::Sink;
use dropzone::work::stop::Stop;

/// Long enough for whatever should end by itself.
pub const PATIENCE: Duration = Duration::from_secs(120);
pub const PYTHON: &str = "/usr/bin/python3";

/// A program, what it may, and what it is given.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub command: Command,
    pub limits: JobLimits,
    pub list: Vec<u8>,
    pub stop: Arc<AtomicBool>,
}

/// Keeps what comes; each buffer must end where a row does.
#[derive(Default)]
pub struct Kept(pub Vec<u8>);

impl Sink for Kept {
    fn buffer(&mut self) -> io::Result<Buffer> {
        Ok(new_buffer())
    }

    fn send(&mut self, buffer: Buffer) -> io::Result<()> {
        assert!(buffer.is_empty() || buffer.ends_with(b"\n"), "a buffer that ends within a row");
        self.0.extend_from_slice(&buffer);
        Ok(())
    }
}

impl Bench {
    pub fn of(argv: &[&str]) -> Self {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        Self {
            folder: tempfile::tempdir().unwrap(),
            command: Command { argv, network: false, reads: Vec::new(), columns: None },
            limits: JobLimits { time: PATIENCE, result_size: u64::MAX, memory: 512 << 20 },
            list: b"insz\n85073003328\n".to_vec(),
            stop: Arc::default(),
        }
    }

    pub fn sh(script: &str) -> Self {
        Self::of(&["/bin/sh", "-c", script])
    }

    /// A script that may use `attempt(what, function)`, which notes what came of it: `done`, or the number of the error.
    pub fn python(script: &str) -> Self {
        Self::of(&[
            PYTHON,
            "-I",
            "-c",
            &format!("{PRELUDE}\n{script}\nprint('what,came')\nfor row in rows: print(*row, sep=',')"),
        ])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in the folder.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// The words of the command line with each `{}` replaced by the folder.
    pub fn in_folder(mut self) -> Self {
        let folder = self.folder.path().display().to_string();
        for word in &mut self.command.argv {
            *word = word.replace("{}", &folder);
        }
        self
    }

    pub fn run_into(&self, out: &mut impl Sink) -> Result<u64, CommandError> {
        let table = Table::parse(&self.list).unwrap();
        let stop = Stop::after(&self.stop, self.limits.time);
        let (itself, limits) = (Path::new(env!("CARGO_BIN_EXE_dropzone")), self.limits);
        Run { command: &self.command, itself, limits, stop: &stop, arrival: "test" }.perform(&table, out)
    }

    pub fn run(&self) -> Result<String, CommandError> {
        let mut kept = Kept::default();
        self.run_into(&mut kept)?;
        Ok(String::from_utf8(kept.0).unwrap())
    }

    pub fn fails(&self) -> CommandError {
        self.run().unwrap_err()
    }

    /// What came of each thing that a script tried.
    pub fn attempts(&self) -> Vec<(String, String)> {
        let told = self.run().unwrap();
        let rows = told.lines().skip(1).map(|row| row.split_once(',').unwrap());
        rows.map(|(what, came)| (what.to_owned(), came.to_owned())).collect()
    }

    /// All that a script tried, and none of it worked: not permitted, no access, or no such call.
    #[track_caller]
    pub fn nothing_works(&self, tried: usize) {
        let attempts = self.attempts();
        assert_eq!(attempts.len(), tried, "{attempts:?}");
        for (what, came) in attempts {
            assert!(["1", "13", "38"].contains(&came.as_str()), "{what}: {came}");
        }
    }
}

const PRELUDE: &str = r#"
import os, sys, ctypes
rows = []
def attempt(what, function):
    try:
        function()
        rows.append((what, "done"))
    except OSError as error:
        rows.append((what, error.errno))
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]) < 0:
        raise OSError(ctypes.get_errno(), "call")
"#;
