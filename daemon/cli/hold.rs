//! `dropzone hold` and `dropzone retry`: what lies on hold and why, and what operators decide about it. Looking reads the spool and
//! asks no daemon; a change is asked of `work`, which records it with the operator and the reason before it takes effect.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::control::{load, reason, request, turned_down};
use super::exit::{EX_CONFIG, EX_DATAERR};
use super::status;
use crate::config::{Config, DEFAULT_DIRECTORY};
use crate::host::control::{Answer, Ask, Change, Course, ask};
use crate::host::spool::{Spool, SpoolError};
use crate::policy::arrival::{Arrival, ArrivalId, State, receipt_name};
use crate::policy::path::Folder;
use crate::policy::reason::Reason;
use crate::policy::receipt::Receipt;
use crate::policy::record::printable;

/// Longer than any receipt, in bytes.
const RECEIPT_MAX: u64 = 1 << 20;
/// Arrivals that an ambiguous beginning names.
const NAMED: usize = 5;

/// What to do with held arrivals.
#[derive(Debug, Subcommand)]
pub enum Hold {
    /// List the held arrivals, oldest first.
    List {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show why an arrival is held, what is known of it, and how to go on.
    Show {
        /// The arrival's id, or as much of its beginning as is unique.
        id: String,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Have a held arrival worked on again; its tries count anew.
    Release(Decision),
    /// Discard a held arrival: its payload is removed for good, and its sender gets a receipt that says so.
    Discard(Decision),
}

/// About which arrival, and why.
#[derive(Debug, Args)]
pub struct Decision {
    /// The arrival's id, or as much of its beginning as is unique.
    id: String,
    /// Why, for the access log, beside your name.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// Runs it.
pub fn run(directory: &Path, command: &Hold) -> anyhow::Result<ExitCode> {
    match command {
        Hold::List { json } => list(directory, *json),
        Hold::Show { id, json } => show(directory, id, *json),
        Hold::Release(decision) => change(directory, decision, Course::Release, &[State::Hold]),
        Hold::Discard(decision) => change(directory, decision, Course::Discard, &[State::Hold]),
    }
}

/// Has a deferred arrival tried at once, and a held one worked on again.
pub fn retry(directory: &Path, decision: &Decision) -> anyhow::Result<ExitCode> {
    change(directory, decision, Course::Retry, &[State::Deferred, State::Hold])
}

fn list(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    let spool = Spool::open(&config.machine.spool, &[])?;
    let held: Vec<Held> = spool.list(State::Hold)?.iter().map(|id| Held::read(&spool, id)).collect();
    let discarding = spool.discarding()?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &held)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    if held.is_empty() {
        writeln!(out, "nothing is held")?;
    } else {
        let mut table = status::table(["held arrival", "file", "since", "reason", "detail"]);
        for held in &held {
            let file = held.arrival.as_ref().map_or("unknown", |arrival| arrival.name.as_str());
            let detail = printable(held.detail.as_deref().unwrap_or_default(), status::DETAIL_SHOWN);
            table.add_row([
                held.id.to_string(),
                file.to_owned(),
                status::time(held.since),
                held.code().to_owned(),
                detail,
            ]);
        }
        writeln!(
            out,
            "{table}\n\nTo see one whole, and how to go on: `{} hold show ARRIVAL`",
            program(directory)
        )?;
    }
    for id in discarding {
        writeln!(out, "{id} is being discarded; that goes on while `work` runs")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(directory: &Path, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    let spool = Spool::open(&config.machine.spool, &[])?;
    let id = match find(&spool, id, &[State::Hold])? {
        Ok(id) => id,
        Err(problem) => return unknown(&problem),
    };
    let held = Held::read(&spool, &id);
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &held)?;
        writeln!(out)?;
    } else {
        held.print(&mut out, directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn change(
    directory: &Path,
    decision: &Decision,
    course: Course,
    states: &[State],
) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    let spool = Spool::open(&config.machine.spool, &[])?;
    let arrival = match find(&spool, &decision.id, states)? {
        Ok(id) => id,
        Err(problem) => return unknown(&problem),
    };
    let change = Change { course, arrival, reason: decision.reason.clone() };
    match ask_work(&config, change) {
        Ok(Answer::Done(told)) => {
            writeln!(std::io::stdout().lock(), "{told}")?;
            Ok(ExitCode::SUCCESS)
        }
        answer => turned_down("work", answer),
    }
}

fn ask_work(config: &Config, change: Change) -> Result<Answer, crate::host::control::AskError> {
    ask(&config.machine.sockets.work_control, &request(Ask::Arrival(change)))
}

/// The one arrival in these states whose id begins so.
fn find(spool: &Spool, beginning: &str, states: &[State]) -> Result<Result<ArrivalId, String>, SpoolError> {
    let mut found = Vec::new();
    for state in states {
        found.extend(spool.list(*state)?.into_iter().filter(|id| id.to_string().starts_with(beginning)));
    }
    // An id may be the beginning of another: exchanges are called as they are.
    if let Some(whole) = found.iter().find(|id| id.to_string() == beginning) {
        return Ok(Ok(whole.clone()));
    }
    let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    let place = states.join(" or ");
    Ok(match &found[..] {
        [one] if !beginning.is_empty() => Ok(one.clone()),
        [] => Err(nowhere(spool, beginning, &place)?),
        several => {
            let named: Vec<String> = several.iter().take(NAMED).map(ArrivalId::to_string).collect();
            let more = several.len().saturating_sub(NAMED);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            Err(format!(
                "write more of the id, for several in {place} begin so:\n  {}{more}",
                named.join("\n  ")
            ))
        }
    })
}

/// None of the states that were asked for has it; where it lies instead says more.
fn nowhere(spool: &Spool, beginning: &str, place: &str) -> Result<String, SpoolError> {
    for state in State::ALL {
        let ids = spool.list(state)?;
        if let Some(id) = ids.iter().find(|id| !beginning.is_empty() && id.to_string().starts_with(beginning))
        {
            return Ok(format!("{id} is not in {place}: {}", whereabouts(state)));
        }
    }
    Ok(format!(
        "no arrival in {place} begins with {:?}; `hold list` and `status` show what there is",
        printable(beginning, 200)
    ))
}

fn whereabouts(state: State) -> &'static str {
    match state {
        State::Incoming => "it is in incoming and is worked on soon",
        State::Active => "it is in active: it is worked on now",
        State::Deferred => "it is in deferred and mends itself; `retry` has it tried at once",
        State::Hold => "it is in hold; `hold show` says why",
        State::Done => "it is in done, finished; its receipt says how",
        State::Refused => "it is in refused: it was turned away, or discarded; its receipt says why",
    }
}

fn unknown(problem: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr().lock(), "{problem}")?;
    Ok(ExitCode::from(EX_DATAERR))
}

/// The command to type again.
pub(super) fn program(directory: &Path) -> String {
    if directory == Path::new(DEFAULT_DIRECTORY) {
        return "dropzone".to_owned();
    }
    format!("dropzone --config {}", directory.display())
}

/// A held arrival, as far as its folder and its receipt tell.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Held {
    id: ArrivalId,
    /// None where its description cannot be read.
    arrival: Option<Arrival>,
    since: Option<Timestamp>,
    /// None where the note beside it cannot be read.
    reason: Option<Reason>,
    detail: Option<String>,
    tries: Option<u32>,
    /// As the sender sees it.
    receipt: Option<String>,
}

impl Held {
    fn read(spool: &Spool, id: &ArrivalId) -> Self {
        let note = spool.hold_note(id).ok();
        let arrival = spool.arrival(State::Hold, id).ok();
        let receipt = arrival.as_ref().and_then(|arrival| receipt(spool, arrival));
        Self {
            id: id.clone(),
            since: spool.since(State::Hold, id).ok(),
            reason: note.as_ref().map(|note| note.reason.clone()),
            detail: note.map(|note| note.detail),
            tries: receipt.and_then(|receipt| receipt.job).map(|job| job.tries),
            receipt: arrival.as_ref().map(|arrival| {
                format!("/{}/{}/{}", id.exchange(), Folder::Receipts.as_str(), receipt_name(arrival))
            }),
            arrival,
        }
    }

    fn code(&self) -> &'static str {
        self.reason.as_ref().map_or("unknown: hold.json cannot be read", Reason::code)
    }

    fn print(&self, out: &mut impl Write, directory: &Path) -> std::io::Result<()> {
        let mut line = |name: &str, text: &str| {
            // What peers and databases said commands no terminal.
            writeln!(out, "{name:<12} {}", printable(text, usize::MAX))
        };
        line("arrival", &self.id.to_string())?;
        match &self.arrival {
            Some(arrival) => {
                let Arrival { name, size, sha256, by, session, flow, received, .. } = arrival;
                let flow = flow.as_ref().map_or("none", |flow| flow.as_str());
                line(
                    "file",
                    &format!("{name}, {size} bytes, SHA-256 {}", sha256.as_deref().unwrap_or("unknown")),
                )?;
                line(
                    "dropped into",
                    &format!("{}, flow {flow}, at {}", self.id.exchange(), status::time(Some(*received))),
                )?;
                line(
                    "dropped by",
                    &format!("{} of {}, key {}, session {session}", by.label, by.institution, by.fingerprint),
                )?;
            }
            None => line("file", "unknown: arrival.json cannot be read")?,
        }
        line("held since", &status::time(self.since))?;
        line("reason", self.code())?;
        line("sender reads", self.reason.as_ref().map_or("-", Reason::english))?;
        line("detail", self.detail.as_deref().unwrap_or("-"))?;
        line("tries", &self.tries.map_or("unknown".to_owned(), |tries| tries.to_string()))?;
        line("receipt", self.receipt.as_deref().unwrap_or("none"))?;
        self.advise(out, &program(directory))
    }

    /// How to go on.
    fn advise(&self, out: &mut impl Write, program: &str) -> std::io::Result<()> {
        let release = format!("{program} hold release {} --reason \"…\"", self.id);
        let is = |reasons: fn(&Reason) -> bool| self.reason.as_ref().is_some_and(reasons);
        if is(|reason| matches!(reason, Reason::CutShort | Reason::Damaged)) {
            writeln!(
                out,
                "\nThe file itself is at fault: tried again, it fails again. Its sender has to send another."
            )?;
        } else if is(|reason| matches!(reason, Reason::ContentRules)) {
            writeln!(
                out,
                "\nThe list itself is at fault: tried again, it fails again. Its sender has the quality report, and sends the \
                 corrected list under another name, or under this one once it is discarded."
            )?;
        } else if is(|reason| matches!(reason, Reason::Surplus { .. } | Reason::SurplusKey)) {
            writeln!(
                out,
                "\nIt came more often than agreed. To let it through all the same, a correction for one:\n  {release}"
            )?;
        } else {
            if is(|reason| matches!(reason, Reason::SameContentElsewhere)) {
                writeln!(
                    out,
                    "\nThis is an incident. Released, it counts as the first of its content from then on, wherever that came from."
                )?;
            }
            writeln!(out, "\nWhen its cause is mended, have it worked on again:\n  {release}")?;
        }
        writeln!(out, "When nothing can mend it, remove its payload for good; its receipt then says so:")?;
        writeln!(out, "  {program} hold discard {} --reason \"…\"", self.id)
    }
}

/// Only to tell an operator something: whether it is signed matters to its sender.
fn receipt(spool: &Spool, arrival: &Arrival) -> Option<Receipt> {
    let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
    let file = spool.open_file(institution, exchange, Folder::Receipts, &receipt_name(arrival)).ok()?;
    let mut text = Vec::new();
    file.take(RECEIPT_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 3] = [
        "20261121T120000000Z-0a1b2c3d-00000abc.agency.p",
        "20261121T120000000Z-0a1b2c3d-00000abc.agency.pillar-3",
        "20261121T130000000Z-0a1b2c3d-00000abc.agency.p",
    ];

    #[test]
    fn an_arrival_is_named_by_its_id_or_by_a_beginning_that_no_other_has() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::open(root.path(), &[]).unwrap();
        for (id, state) in IDS.iter().zip(["hold", "hold", "deferred"]) {
            std::fs::create_dir(root.path().join(state).join(id)).unwrap();
        }
        let found = |beginning: &str, states: &[State]| {
            find(&spool, beginning, states).unwrap().map(|id| id.to_string())
        };
        for (beginning, states, expected) in [
            (IDS[0], &[State::Hold][..], Some(IDS[0])),
            (IDS[1], &[State::Hold], Some(IDS[1])),
            ("20261121T120000000Z-0a1b2c3d-00000abc.agency.pi", &[State::Hold], Some(IDS[1])),
            ("20261121T13", &[State::Deferred, State::Hold], Some(IDS[2])),
            ("20261121T13", &[State::Hold], None),
            ("20261121", &[State::Hold], None),
            ("", &[State::Deferred], None),
            ("x", &[State::Hold], None),
        ] {
            assert_eq!(found(beginning, states).ok().as_deref(), expected, "{beginning:?} in {states:?}");
        }
        for (beginning, expected) in
            [(IDS[2], "is in deferred"), ("20261121T12", "is in hold"), ("x", "no arrival")]
        {
            let told = nowhere(&spool, beginning, "done").unwrap();
            assert!(told.contains(expected), "{beginning}: {told}");
        }
        let ambiguous = found("2026", &[State::Hold]).unwrap_err();
        assert!(ambiguous.contains(IDS[0]) && ambiguous.contains(IDS[1]), "{ambiguous}");
    }

    #[test]
    fn a_reason_says_something_and_fits_into_a_record() {
        assert!(reason("").is_err() && reason(" \n").is_err() && reason(&"x".repeat(501)).is_err());
        assert_eq!(reason(" the register is back\n").unwrap(), "the register is back");
    }
}
