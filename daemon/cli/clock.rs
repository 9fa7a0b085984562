//! `dropzone clock`: what is known of the clock by which things are deleted, and confirming it after a jump or a long stop. What
//! is known stands in files, so `show` also tells it when no daemon runs; confirming is the daemons' own to do.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::control::{ask_both, load, reason};
use super::exit::{EX_CONFIG, EX_DATAERR};
use crate::config::Config;
use crate::host::clock;
use crate::host::control::Ask;
use crate::host::guard::{self, GuardError, Told};
use crate::host::log::AccessLog;
use crate::policy::trust::{TOLERANCE, words};

/// What to do about the clock.
#[derive(Debug, Subcommand)]
pub enum Clock {
    /// Show what the daemons know of the clock, and whether deletions wait.
    Show {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Say that the clock is right: what had its time is deleted again.
    Confirm {
        /// Why; it stands in the access log, with your name.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
}

/// Runs it on the zone in `directory`.
pub fn run(directory: &Path, command: Clock) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    match command {
        Clock::Show { json } => show(&config, json),
        // Each daemon has a clock of its own to know; one that does not run is told when it does.
        Clock::Confirm { reason } => ask_both(&config, &Ask::ConfirmClock(reason), EX_DATAERR),
    }
}

/// What is known of a process's clock, for people and programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    #[serde(flatten)]
    told: Told,
    /// Whether deletions wait, or would at a start.
    pub waits: bool,
}

impl Row {
    /// In words.
    pub fn text(&self, now: Timestamp) -> String {
        let Told { process, node, known } = &self.told;
        let off = now.duration_since(known.time);
        if known.held {
            format!(
                "{process} of {node}: NOTHING IS DELETED: the clock is {} of what was known; `dropzone clock confirm` if it is right",
                words(off)
            )
        } else if self.waits {
            format!(
                "{process} of {node}: last known time {}; it has not run since, and would delete nothing until confirmed",
                known.time
            )
        } else {
            format!("{process} of {node}: as expected, last known time {}", known.time)
        }
    }
}

/// What is known of all clocks that write into the log's folder.
pub fn rows(config: &Config, now: Timestamp) -> Result<Vec<Row>, GuardError> {
    let row = |told: Told| {
        let waits = told.known.held || now.duration_since(told.known.time).abs() > TOLERANCE;
        Row { told, waits }
    };
    Ok(guard::told(&config.machine.log.directory)?.into_iter().map(row).collect())
}

fn show(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let now = clock::Clock::system().now();
    let rows = rows(config, now)?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "now: {now}")?;
    rows.iter().try_for_each(|row| writeln!(out, "{}", row.text(now)))?;
    if rows.is_empty() {
        writeln!(out, "no daemon has run yet")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// For a command that has opened a log of its own: deletes the days of commands whose time has passed. In a sticky folder nobody else
/// may, for the files belong to who ran the commands. What `work` knows of the clock counts.
pub fn expire_log_days(config: &Config, clock: &clock::Clock, log: &AccessLog) -> anyhow::Result<()> {
    let machine = &config.machine;
    if config.retention.any_legal_hold() {
        return Ok(());
    }
    if let Some(leave) = guard::leave_of_work(&machine.log.directory, &machine.node, clock)? {
        log.expire(leave, machine.log.keep_days)?;
    }
    Ok(())
}
