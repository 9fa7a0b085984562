//! `dropzone incidents`: what may have to be reported, by when and to whom. Looking reads the spool and asks no daemon; closing is asked
//! of `work`, which records it with the operator and the reason before it takes effect.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::control::{load, reason, request, turned_down};
use super::exit::{EX_CONFIG, EX_DATAERR};
use super::status::{DETAIL_SHOWN, table, time};
use crate::config::Config;
use crate::host::clock::Clock;
use crate::host::control::{Answer, Ask, Closing, ask};
use crate::host::spool::{Cases, Spool, SpoolError};
use crate::policy::incident::case::Case;
use crate::policy::path::Slug;
use crate::policy::record::printable;

/// Incidents that an ambiguous beginning names.
const NAMED: usize = 5;

/// What to do with incidents.
#[derive(Debug, Subcommand)]
pub enum Incidents {
    /// List those that nobody has closed, the first to be reported first.
    List {
        /// Those that were closed too.
        #[arg(long)]
        all: bool,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show what is known of one, and how to go on.
    Show {
        /// Its id, or as much of its beginning as is unique.
        id: String,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Close one that was dealt with: reported where it must be, or found to be none.
    Close {
        /// Its id, or as much of its beginning as is unique.
        id: String,
        /// What came of it, for the access log, beside your name.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
}

/// Runs it.
pub fn run(directory: &Path, command: &Incidents) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    let spool = Spool::open(&config.machine.spool, &[])?;
    let cases = spool.incidents(|_| false)?;
    tell_unreadable(&cases)?;
    match command {
        Incidents::List { all, json } => list(cases.read, *all, *json, &super::hold::program(directory)),
        Incidents::Show { id, json } => match find(&cases.read, id) {
            Ok(case) => show(case, *json, &super::hold::program(directory)),
            Err(problem) => unknown(&problem),
        },
        Incidents::Close { id, reason } => match find(&cases.read, id) {
            Ok(case) => close(&config, case, reason),
            Err(problem) => unknown(&problem),
        },
    }
}

/// What `dropzone status` tells of incidents.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Summary {
    open: usize,
    overdue: usize,
    report_by: Option<Timestamp>,
}

impl Summary {
    pub(super) fn read(spool: &Spool, now: Timestamp) -> Result<Self, SpoolError> {
        let cases = spool.incidents(|_| false)?.read;
        let open: Vec<&Case> = cases.iter().filter(|case| case.closed.is_none()).collect();
        Ok(Self {
            open: open.len(),
            overdue: open.iter().filter(|case| case.is_overdue(now)).count(),
            report_by: open.iter().map(|case| case.report_by).min(),
        })
    }

    pub(super) fn print(&self, out: &mut impl Write, program: &str) -> std::io::Result<()> {
        if self.open == 0 {
            return Ok(());
        }
        let overdue = if self.overdue == 0 { String::new() } else { format!(", {} OVERDUE", self.overdue) };
        writeln!(
            out,
            "\nINCIDENTS: {} open{overdue}, the first to be reported by {}. `{program} incidents list` shows them",
            self.open,
            time(self.report_by)
        )
    }
}

fn tell_unreadable(cases: &Cases) -> std::io::Result<()> {
    let mut err = std::io::stderr().lock();
    cases.unreadable.iter().try_for_each(|error| writeln!(err, "an incident cannot be read: {error}"))
}

fn list(mut cases: Vec<Case>, all: bool, json: bool, program: &str) -> anyhow::Result<ExitCode> {
    cases.retain(|case| all || case.closed.is_none());
    cases.sort_by_key(|case| (case.closed.is_some(), case.report_by));
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &cases)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    if cases.is_empty() {
        writeln!(out, "no incident is {}", if all { "known" } else { "open" })?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Clock::system().now();
    let mut rows =
        table(["incident", "institution", "exchange", "signs", "first", "report by", "to", "state"]);
    for case in &cases {
        rows.add_row([
            case.id.to_string(),
            or_dash(case.institution.as_ref()),
            or_dash(case.exchange.as_ref()),
            case.count.to_string(),
            time(Some(case.first)),
            time(Some(case.report_by)),
            printable(case.report_to.as_deref().unwrap_or("-"), DETAIL_SHOWN),
            state(case, now),
        ]);
    }
    writeln!(out, "{rows}\n\nTo see one whole, and how to go on: `{program} incidents show ID`")?;
    Ok(ExitCode::SUCCESS)
}

fn or_dash(slug: Option<&Slug>) -> String {
    slug.map_or("-".to_owned(), Slug::to_string)
}

fn state(case: &Case, now: Timestamp) -> String {
    match &case.closed {
        Some(closed) => format!("closed {}", time(Some(closed.at))),
        None if case.is_overdue(now) => "OVERDUE".to_owned(),
        None => format!("open, {} left", left(case.report_by.duration_since(now))),
    }
}

/// In hours and minutes.
fn left(time: SignedDuration) -> String {
    format!("{} h {:02} min", time.as_hours(), time.as_mins() % 60)
}

fn show(case: &Case, json: bool, program: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, case)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", told(case, program, Clock::system().now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(case: &Case, program: &str, now: Timestamp) -> String {
    let Case { place, telling, .. } = case;
    let shown = |text: &str| printable(text, DETAIL_SHOWN);
    let mut text = format!(
        "{}\n{}{}\n\ninstitution  {}\nexchange     {}\nagreement    {}\nsigns        {}, from {} to {}\nreport       by {}, to {}\nstate        {}\n",
        case.id,
        case.kind.words(),
        if case.collective {
            "; one case for all further ones of this day, because there were too many"
        } else {
            ""
        },
        or_dash(case.institution.as_ref()),
        or_dash(case.exchange.as_ref()),
        shown(case.agreement.as_deref().unwrap_or("-")),
        case.count,
        time(Some(case.first)),
        time(Some(case.last)),
        time(Some(case.report_by)),
        shown(case.report_to.as_deref().unwrap_or("nobody that an agreement names")),
        state(case, now),
    );
    match (telling.taken, telling.tries) {
        (Some(at), _) => text += &format!("program      was told at {}\n", time(Some(at))),
        (None, 0) => {}
        (None, tries) => {
            text += &format!("program      did not take it, {tries} tries: {}\n", shown(&telling.why))
        }
    }
    text += &format!(
        "first sign   record {} of {}: `{program} log show --since {} --json | grep '\"seq\":{},'`\n",
        place.seq, place.file, place.file.day, place.seq
    );
    match &case.closed {
        Some(closed) => {
            text +=
                &format!("\nClosed at {} by {}: {}\n", time(Some(closed.at)), closed.operator, closed.reason);
        }
        None => {
            text += &format!(
                "\nFind out what happened, report it in time, and then: `{program} incidents close {} --reason TEXT`\n",
                case.id
            );
        }
    }
    text
}

fn close(config: &Config, case: &Case, reason: &str) -> anyhow::Result<ExitCode> {
    let closing = Closing { incident: case.id.clone(), reason: reason.to_owned() };
    match ask(&config.machine.sockets.work_control, &request(Ask::CloseIncident(closing))) {
        Ok(Answer::Done(told)) => {
            writeln!(std::io::stdout().lock(), "{told}")?;
            Ok(ExitCode::SUCCESS)
        }
        answer => turned_down("work", answer),
    }
}

/// The case of that id, or the one whose id begins so.
fn find<'a>(cases: &'a [Case], text: &str) -> Result<&'a Case, String> {
    if let Some(case) = cases.iter().find(|case| case.id.as_str() == text) {
        return Ok(case);
    }
    let mut meant = cases.iter().filter(|case| case.id.as_str().starts_with(text));
    match (meant.next(), meant.next()) {
        (Some(case), None) => Ok(case),
        (None, _) => Err(format!("no incident begins with {text:?}; see `dropzone incidents list --all`")),
        (Some(_), Some(_)) => {
            let ids: Vec<&str> = cases
                .iter()
                .map(|case| case.id.as_str())
                .filter(|id| id.starts_with(text))
                .take(NAMED)
                .collect();
            Err(format!("several incidents begin with {text:?}: {}", ids.join(", ")))
        }
    }
}

fn unknown(problem: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr().lock(), "{problem}")?;
    Ok(ExitCode::from(EX_DATAERR))
}
