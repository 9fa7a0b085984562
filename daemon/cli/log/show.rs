//! `dropzone log show`: finds records by what they are about, and prints them as a table, as the lines they are, or as CSV.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::host::evidence::LogFolder;
use crate::policy::head::day;
use crate::policy::record::{Event, Line, Outcome};
use crate::policy::retention::LogName;
use crate::policy::search::Wanted;

/// Longest cell of a table, in characters; CSV and JSON have all of it.
const CELL_SHOWN: usize = 200;

const COLUMNS: [&str; 14] = [
    "time",
    "process",
    "seq",
    "event",
    "outcome",
    "institution",
    "person",
    "operator",
    "exchange",
    "path",
    "bytes",
    "session",
    "peer",
    "reason",
];

/// Which records, and how.
#[derive(Debug, Args)]
pub struct Show {
    /// The folder of the log, or a copy of it; the zone's own if left out.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Of this institution.
    #[arg(long)]
    institution: Option<String>,
    /// By the person whose key has this label.
    #[arg(long, value_name = "LABEL")]
    person: Option<String>,
    /// Done by an operator in whose name this is: a user id as in "uid 0", or a name that was claimed.
    #[arg(long, value_name = "PART")]
    operator: Option<String>,
    /// Of this event, as in collect, passphrase or login.
    #[arg(long, value_parser = event)]
    event: Option<Event>,
    /// In this exchange.
    #[arg(long)]
    exchange: Option<String>,
    /// Whose path or arrival has this in it.
    #[arg(long, value_name = "PART")]
    file: Option<String>,
    /// Of this session.
    #[arg(long)]
    session: Option<String>,
    /// That ended so.
    #[arg(long)]
    outcome: Option<Ended>,
    /// From this day (UTC) or time on, as in 2026-11-21 or 2026-11-21T08:00:00Z.
    #[arg(long, value_parser = beginning, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Up to and with this day (UTC), or before this time.
    #[arg(long, value_parser = end, value_name = "TIME")]
    until: Option<Timestamp>,
    /// How many of the newest a table shows.
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    last: usize,
    /// The lines as they stand in the log.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// All as comma-separated values.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ended {
    Ok,
    Denied,
    Failed,
}

/// Prints the records that are asked for.
pub fn run(zone: &Path, show: &Show) -> anyhow::Result<ExitCode> {
    let folder = match super::folder(show.folder.as_ref(), zone)? {
        Ok(folder) => LogFolder::open(&folder)?,
        Err(code) => return Ok(code),
    };
    let wanted = show.wanted();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut rows, mut count) = (VecDeque::new(), 0_usize);
    if show.csv {
        writeln!(out, "{}", COLUMNS.join(","))?;
    }
    let names: Vec<LogName> = folder.names()?.into_iter().filter(|name| may_hold(name, &wanted)).collect();
    for of_a_day in names.chunk_by(|one, other| one.day == other.day) {
        for (line, text) in records(&folder, of_a_day, &wanted)? {
            count += 1;
            if show.json {
                out.write_all(&text)?;
                out.write_all(b"\n")?;
            } else if show.csv {
                writeln!(out, "{}", cells(&line).map(|cell| quoted(&cell)).join(","))?;
            } else {
                rows.push_back(cells(&line).map(shown));
                if rows.len() > show.last {
                    rows.pop_front();
                }
            }
        }
    }
    if !show.json && !show.csv {
        let shown = rows.len();
        writeln!(out, "{}", table(rows))?;
        writeln!(
            out,
            "{count} records{}",
            if shown < count { format!(", the last {shown} shown") } else { String::new() }
        )?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl Show {
    fn wanted(&self) -> Wanted {
        Wanted {
            institution: self.institution.clone(),
            person: self.person.clone(),
            operator: self.operator.clone(),
            event: self.event,
            exchange: self.exchange.clone(),
            file: self.file.clone(),
            session: self.session.clone(),
            outcome: self.outcome.map(|outcome| match outcome {
                Ended::Ok => Outcome::Ok,
                Ended::Denied => Outcome::Denied,
                Ended::Failed => Outcome::Failed,
            }),
            since: self.since,
            until: self.until,
        }
    }
}

fn may_hold(name: &LogName, wanted: &Wanted) -> bool {
    wanted.since.is_none_or(|since| day(since) <= name.day)
        && wanted.until.is_none_or(|until| name.day <= day(until))
}

/// The records of a day by time, and their lines.
fn records(folder: &LogFolder, names: &[LogName], wanted: &Wanted) -> anyhow::Result<Vec<(Line, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names {
        folder.lines(name, |text| {
            // What is no record is `verify`'s business.
            if let Ok(line) = serde_json::from_slice::<Line>(text)
                && wanted.takes(&line)
            {
                found.push((line, text.to_vec()));
            }
        })?;
    }
    // Stable: within a file, the order of the chain stays also where the clock was set back by less than a day.
    found.sort_by_key(|(line, _)| line.time);
    Ok(found)
}

fn cells(line: &Line) -> [String; COLUMNS.len()] {
    let record = &line.record;
    let text = |value: &Option<String>| value.as_deref().map(visible).unwrap_or_default();
    let path = match (&record.path, &record.new_path) {
        (Some(path), Some(new)) => format!("{} -> {}", visible(path), visible(new)),
        (Some(path), None) => visible(path),
        (None, _) => text(&record.arrival),
    };
    let reason = [&record.reason, &record.detail].map(text);
    [
        line.time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
        format!("{}/{}", visible(&line.process), visible(&line.node)),
        line.seq.to_string(),
        word(record.event),
        word(record.outcome),
        text(&record.institution),
        text(&record.key_label),
        text(&record.operator),
        record.exchange.as_ref().map(ToString::to_string).unwrap_or_default(),
        path,
        record.bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
        text(&record.session),
        record.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        reason.join(" ").trim().to_owned(),
    ]
}

/// As it stands in the log.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default().trim_matches('"').to_owned()
}

/// Names and client versions come from peers: what a terminal would obey is shown as what it is.
fn visible(text: &str) -> String {
    let show = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(show).collect()
}

/// One long reason would make all rows of a table as wide as itself.
fn shown(cell: String) -> String {
    match cell.char_indices().nth(CELL_SHOWN) {
        Some((end, _)) => format!("{}…", cell.get(..end).unwrap_or_default()),
        None => cell,
    }
}

/// A cell of CSV (RFC 4180). A spreadsheet would take one that begins like a formula for one.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

fn table(rows: VecDeque<[String; COLUMNS.len()]>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(COLUMNS);
    for row in rows {
        table.add_row(row);
    }
    table
}

fn event(text: &str) -> Result<Event, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "write an event as the log has it, as in collect, passphrase or login".to_owned())
}

fn beginning(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Date>() {
        Ok(day) if text.len() == 10 => midnight(day),
        _ => text
            .parse()
            .map_err(|_| "write a day as in 2026-11-21, or a time as in 2026-11-21T08:00:00Z".to_owned()),
    }
}

fn end(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Date>() {
        Ok(day) if text.len() == 10 => midnight(day.tomorrow().map_err(|error| error.to_string())?),
        _ => beginning(text),
    }
}

fn midnight(day: Date) -> Result<Timestamp, String> {
    day.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_means_all_of_it_and_a_time_means_itself() {
        let shown = |time: Result<Timestamp, String>| time.unwrap().to_string();
        assert_eq!(shown(beginning("2026-11-21")), "2026-11-21T00:00:00Z");
        assert_eq!(shown(end("2026-11-21")), "2026-11-22T00:00:00Z");
        assert_eq!(shown(end("2026-11-21T08:00:00+01:00")), "2026-11-21T07:00:00Z");
        assert_eq!(event("open-read"), Ok(Event::OpenRead));
        assert!(event("Collect").is_err() && event("everything").is_err());
        assert!(beginning("yesterday").is_err() && end("20261121").is_err());
    }

    #[test]
    fn what_a_peer_named_commands_neither_terminal_nor_spreadsheet() {
        assert_eq!(visible("a\u{1b}[2Jb\u{85}"), "a\\u{1b}[2Jb\\u{85}");
        assert_eq!(quoted("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\"");
        assert_eq!(quoted("a \"b\", c"), "\"a \"\"b\"\", c\"");
    }

    #[test]
    fn a_table_names_the_operator_beside_the_sender_and_cuts_what_is_too_long() {
        let line: Line = serde_json::from_str(
            r#"{"time":"2026-11-21T12:00:00Z","node":"n","process":"work","seq":1,"prev":"","event":"discard",
                "outcome":"ok","institution":"agii","key-label":"an","operator":"uid 7, by own account piet"}"#,
        )
        .unwrap();
        let of = |column: &str| COLUMNS.iter().position(|name| *name == column).unwrap();
        let cells = cells(&line);
        assert_eq!(
            (cells[of("person")].as_str(), cells[of("operator")].as_str()),
            ("an", "uid 7, by own account piet")
        );
        assert_eq!(shown("é".repeat(CELL_SHOWN)), "é".repeat(CELL_SHOWN));
        assert_eq!(shown("é".repeat(CELL_SHOWN + 1)), format!("{}…", "é".repeat(CELL_SHOWN)));
    }
}
