//! `dropzone check`: validates a zone and tells who may do what in which exchange. What is wrong goes to standard error,
//! one line each; the table goes to standard output.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table};
use jiff::civil::Date;
use serde::Serialize;

use super::exit::{EX_CONFIG, EX_IOERR, EX_NOINPUT};
use super::{secrets, waiting};
use crate::config::{self, Cause, Config, ConfigError, Loaded, Note};
use crate::host::clock::Clock;
use crate::policy::account::PersonKey;
use crate::policy::agreement::{Exchange, Standing};
use crate::policy::path::Slug;
use crate::policy::retention::Kind;

/// Validates the zone in `directory` and prints it, as tables or as JSON.
pub fn run(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let today = Clock::system().today();
    let checked = config::load_with_notes(directory).and_then(|mut loaded| {
        let examined = secrets::examine(&loaded);
        loaded.notes.extend(examined.notes);
        loaded.notes.extend(waiting::notes(&loaded.config, today));
        if examined.errors.is_empty() { Ok(loaded) } else { Err(examined.errors) }
    });
    let mut out = std::io::stdout().lock();
    match checked {
        Ok(loaded) => {
            let report = Report::of(&loaded, today);
            if json {
                serde_json::to_writer_pretty(&mut out, &report)?;
                writeln!(out)?;
            } else {
                print(&mut out, &report)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            if json {
                serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "errors": errors }))?;
                writeln!(out)?;
            }
            tell(&mut std::io::stderr().lock(), directory, &errors)?;
            Ok(exit_code(&errors))
        }
    }
}

/// The exit code for a configuration that is not usable.
pub fn exit_code(errors: &[ConfigError]) -> ExitCode {
    ExitCode::from(match config::worst(errors) {
        Some(Cause::Absent) => EX_NOINPUT,
        Some(Cause::Unreadable) => EX_IOERR,
        Some(Cause::Wrong) | None => EX_CONFIG,
    })
}

/// Prints what is wrong, one line each.
pub fn tell(out: &mut impl Write, directory: &Path, errors: &[ConfigError]) -> std::io::Result<()> {
    let count = errors.len();
    let noun = if count == 1 { "error" } else { "errors" };
    writeln!(out, "dropzone: {count} {noun} in the configuration {}:", directory.display())?;
    errors.iter().try_for_each(|error| writeln!(out, "{error}"))?;
    if config::worst(errors) == Some(Cause::Absent) {
        writeln!(out, "`dropzone init DIR` makes a zone; --config DIR names one elsewhere.")?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    node: String,
    people: Vec<PersonRow>,
    kept: BTreeMap<&'static str, String>,
    exchanges: Vec<ExchangeRow>,
    notes: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PersonRow {
    institution: String,
    label: String,
    function: Option<String>,
    algorithm: String,
    fingerprint: String,
    not_before: Option<Date>,
    not_after: Option<Date>,
    valid_today: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExchangeRow {
    exchange: String,
    reference: String,
    from: Date,
    until: Option<Date>,
    today: &'static str,
    parties: Vec<PartyRow>,
    flows: Vec<FlowRow>,
    legal_hold: bool,
    kept: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PartyRow {
    institution: String,
    may_drop: bool,
    may_collect: bool,
    /// Who of its people takes part and has a key.
    people: Vec<String>,
    /// How many may, at most.
    at_most: Option<usize>,
    /// Files that lie in the spool's `handoff` count as dropped by it.
    handoff: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct FlowRow {
    flow: String,
    from: Vec<String>,
    job: &'static str,
    to: Vec<String>,
}

impl Report {
    fn of(loaded: &Loaded, today: Date) -> Self {
        let Loaded { config, notes, .. } = loaded;
        Self {
            node: config.machine.node.to_string(),
            people: people(config, today),
            kept: kept(config, None),
            exchanges: config
                .exchanges
                .values()
                .map(|exchange| exchange_row(config, exchange, today))
                .collect(),
            notes: notes.clone(),
        }
    }
}

fn people(config: &Config, today: Date) -> Vec<PersonRow> {
    let mut rows = Vec::new();
    for institution in config.institutions.values() {
        for person in &institution.people {
            rows.extend(person.keys.iter().map(|key| PersonRow {
                institution: institution.name.to_string(),
                label: person.label.clone(),
                function: person.function.clone(),
                algorithm: key.algorithm.clone(),
                fingerprint: key.fingerprint.clone(),
                not_before: key.not_before,
                not_after: key.not_after,
                valid_today: is_valid(key, today),
            }));
        }
    }
    rows
}

fn is_valid(key: &PersonKey, today: Date) -> bool {
    key.not_before.is_none_or(|day| day <= today) && key.not_after.is_none_or(|day| today <= day)
}

fn exchange_row(config: &Config, exchange: &Exchange, today: Date) -> ExchangeRow {
    let names = |slugs: &[crate::policy::path::Slug]| slugs.iter().map(ToString::to_string).collect();
    ExchangeRow {
        exchange: exchange.name.to_string(),
        reference: exchange.agreement.reference.clone(),
        from: exchange.agreement.from,
        until: exchange.agreement.until,
        today: match exchange.agreement.standing(today) {
            Standing::Ahead { .. } => "not begun",
            Standing::Open => "open",
            Standing::Ended { .. } => "ended",
        },
        legal_hold: config.retention.exchanges.get(&exchange.name).is_some_and(|of| of.legal_hold),
        kept: kept(config, Some(&exchange.name)),
        parties: exchange
            .parties
            .iter()
            .map(|(name, party)| PartyRow {
                institution: name.to_string(),
                may_drop: party.may_drop,
                may_collect: party.may_collect,
                at_most: exchange.circles.get(name).and_then(|circle| circle.at_most),
                handoff: exchange.handoff.as_ref() == Some(name),
                people: config.institutions.get(name).map_or_else(Vec::new, |institution| {
                    exchange.people_of(institution).iter().map(|person| person.label.clone()).collect()
                }),
            })
            .collect(),
        flows: exchange
            .flows
            .iter()
            .map(|flow| FlowRow {
                flow: flow.name.to_string(),
                from: names(&flow.from),
                job: flow.job.kind(),
                to: names(&flow.to),
            })
            .collect(),
    }
}

/// How long each kind of thing is kept, of an exchange or where none says otherwise.
fn kept(config: &Config, exchange: Option<&Slug>) -> BTreeMap<&'static str, String> {
    let of_zone = |kind: &Kind| matches!(kind, Kind::Digest | Kind::HeadCopy);
    let kinds = Kind::ALL.into_iter().filter(|kind| exchange.is_none() || !of_zone(kind));
    kinds.map(|kind| (kind.code(), config.retention.period(kind, exchange).to_string())).collect()
}

fn print_kept(out: &mut impl Write, kept: &BTreeMap<&'static str, String>) -> std::io::Result<()> {
    let told: Vec<String> = kept.iter().map(|(kind, period)| format!("{kind} {period}")).collect();
    writeln!(out, "{}", told.join(", "))
}

fn print(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(out, "Who may log in:")?;
    let mut table = table(&["institution", "person", "function", "key", "fingerprint", "valid"]);
    for row in &report.people {
        let PersonRow { institution, label, function, algorithm, fingerprint, .. } = row;
        let function = function.as_deref().unwrap_or_default();
        let valid = span(row.not_before, row.not_after, if row.valid_today { "today" } else { "not today" });
        table.add_row([institution, label, function, algorithm, fingerprint, &valid]);
    }
    writeln!(out, "{table}")?;
    write!(out, "\nKept, unless an exchange says otherwise: ")?;
    print_kept(out, &report.kept)?;
    for exchange in &report.exchanges {
        print_exchange(out, exchange)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {}: {}", note.file, note.text)?;
    }
    writeln!(out, "The configuration is sound.")
}

fn print_exchange(out: &mut impl Write, row: &ExchangeRow) -> std::io::Result<()> {
    let standing = span(Some(row.from), row.until, row.today);
    writeln!(out, "\nExchange {} ({}), {standing}:", row.exchange, row.reference)?;
    let mut parties = table(&["party", "drop", "collect", "people"]);
    let yes = |may: bool| if may { "yes" } else { "" };
    for party in &row.parties {
        let mut people = party.people.join(", ");
        if let Some(at_most) = party.at_most {
            people += &format!(" ({} of at most {at_most})", party.people.len());
        }
        let drop = if party.handoff { "yes, and handoff" } else { yes(party.may_drop) };
        parties.add_row([party.institution.as_str(), drop, yes(party.may_collect), people.trim_start()]);
    }
    writeln!(out, "{parties}")?;
    let mut flows = table(&["flow", "from", "job", "to"]);
    for flow in &row.flows {
        flows.add_row([flow.flow.as_str(), &flow.from.join(", "), flow.job, &flow.to.join(", ")]);
    }
    writeln!(out, "{flows}")?;
    if row.legal_hold {
        return writeln!(out, "LEGAL HOLD: nothing of it is deleted, and no log day");
    }
    write!(out, "Kept: ")?;
    print_kept(out, &row.kept)
}

fn span(from: Option<Date>, until: Option<Date>, today: &str) -> String {
    match (from, until) {
        (Some(from), Some(until)) => format!("{from} to {until}: {today}"),
        (Some(from), None) => format!("from {from}: {today}"),
        (None, Some(until)) => format!("until {until}: {today}"),
        (None, None) => today.to_owned(),
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}
