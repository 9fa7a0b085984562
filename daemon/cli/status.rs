//! `dropzone status`: what lies in the spool, for a person or (`--json`) for a program. It reads folders and asks no daemon,
//! so that it also tells the truth when none runs.

mod agreements;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use serde::Serialize;

use crate::config::Config;
use crate::host::clock::Clock;
use crate::host::spool::{Mark, Spool, SpoolError};
use crate::policy::arrival::{ArrivalId, State};
use crate::policy::reason::Reason;
use crate::policy::record::printable;

/// Held arrivals, and deferred ones, that are told one by one; the table says how many there are.
const HELD_SHOWN: usize = 100;
/// Longest detail in a table, in characters; `hold show` has all of it.
pub(super) const DETAIL_SHOWN: usize = 100;

/// Prints the state of the zone in `directory`, as tables or as JSON.
pub fn run(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let config = match crate::config::load(directory) {
        Ok(config) => config,
        Err(errors) => {
            super::check::tell(&mut std::io::stderr().lock(), directory, &errors)?;
            return Ok(super::check::exit_code(&errors));
        }
    };
    let spool = Spool::open(&config.machine.spool, &[])?;
    spool.keep_free(config.machine.limits.spool_reserve);
    let mut status =
        Status::read(&spool, &config, Clock::system().now()).context("the spool cannot be read")?;
    status.clocks = super::clock::rows(&config, status.time)?;
    let (clock, done) = (Clock::system(), spool.list(State::Done)?);
    status.agreements = agreements::agreement_rows(&spool, &config, &clock)?;
    status.flows = agreements::flow_rows(&spool, &config, &done, clock.today())?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &status)?;
        writeln!(out)?;
    } else {
        print(&mut out, &status, &super::hold::program(directory))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    time: Timestamp,
    node: String,
    spool_free_bytes: u64,
    spool_reserve_bytes: u64,
    /// An upload could begin now.
    has_room: bool,
    arrivals: Vec<StateRow>,
    exchanges: Vec<ExchangeRow>,
    agreements: Vec<agreements::AgreementRow>,
    flows: Vec<agreements::FlowRow>,
    held: Vec<HeldRow>,
    deferred: Vec<DeferredRow>,
    /// Results that were downloaded to the end and lie there until their grace is over.
    collected: Vec<Mark>,
    /// Passphrases that wait to be handed out; none where this user may not look.
    passphrases: Option<PassphraseRow>,
    incidents: super::incidents::Summary,
    clocks: Vec<super::clock::Row>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct StateRow {
    state: State,
    count: usize,
    oldest: Option<ArrivalId>,
    oldest_received: Option<Timestamp>,
    oldest_age_seconds: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExchangeRow {
    exchange: String,
    in_progress: usize,
    held: usize,
    last_arrival: Option<Timestamp>,
    last_done: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct HeldRow {
    arrival: ArrivalId,
    since: Option<Timestamp>,
    /// None where the note beside the arrival cannot be read.
    reason: Option<Reason>,
    detail: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PassphraseRow {
    waiting: usize,
    oldest: Option<Timestamp>,
    /// Of those, how many the configured program was told in vain.
    not_taken: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct DeferredRow {
    arrival: ArrivalId,
    since: Option<Timestamp>,
    next_try: Option<Timestamp>,
}

impl Status {
    fn read(spool: &Spool, config: &Config, now: Timestamp) -> Result<Self, SpoolError> {
        let listed: Vec<(State, Vec<ArrivalId>)> = State::ALL
            .into_iter()
            .map(|state| Ok((state, spool.list(state)?)))
            .collect::<Result<_, SpoolError>>()?;
        let of = |wanted: State| {
            let states = listed.iter().filter(move |(state, _)| *state == wanted);
            states.flat_map(|(_, ids)| ids).take(HELD_SHOWN)
        };
        Ok(Self {
            time: now,
            node: config.machine.node.to_string(),
            spool_free_bytes: spool.free_bytes()?,
            spool_reserve_bytes: config.machine.limits.spool_reserve,
            has_room: spool.room()?.is_enough(),
            arrivals: listed.iter().map(|(state, ids)| state_row(*state, ids, now)).collect(),
            held: of(State::Hold).map(|id| held_row(spool, id)).collect(),
            deferred: of(State::Deferred).map(|id| deferred_row(spool, id)).collect(),
            exchanges: exchange_rows(spool, config, &listed),
            collected: spool.collected()?,
            passphrases: passphrase_row(spool),
            incidents: super::incidents::Summary::read(spool, now)?,
            clocks: Vec::new(),
            agreements: Vec::new(),
            flows: Vec::new(),
        })
    }
}

fn state_row(state: State, ids: &[ArrivalId], now: Timestamp) -> StateRow {
    // The list is sorted by time.
    let oldest = ids.first();
    let received = oldest.and_then(received);
    StateRow {
        state,
        count: ids.len(),
        oldest: oldest.cloned(),
        oldest_received: received,
        oldest_age_seconds: received.map(|at| now.duration_since(at).as_secs()),
    }
}

/// The exchanges of the configuration, and those that only the spool still knows.
fn exchange_rows(spool: &Spool, config: &Config, listed: &[(State, Vec<ArrivalId>)]) -> Vec<ExchangeRow> {
    let mut rows: BTreeMap<&str, ExchangeRow> = BTreeMap::new();
    let found = listed.iter().flat_map(|(_, ids)| ids).map(|id| id.exchange().as_str());
    let names: BTreeSet<&str> = config.exchanges.keys().map(|name| name.as_str()).chain(found).collect();
    for exchange in names {
        let of = |wanted: fn(State) -> bool| {
            let states = listed.iter().filter(move |(state, _)| wanted(*state));
            states.flat_map(|(_, ids)| ids).filter(move |id| id.exchange().as_str() == exchange)
        };
        let last_done = of(|state| state == State::Done).max();
        let row = ExchangeRow {
            exchange: exchange.to_owned(),
            in_progress: of(|state| State::IN_PROGRESS.contains(&state) && state != State::Hold).count(),
            held: of(|state| state == State::Hold).count(),
            last_arrival: of(|state| state != State::Refused).max().and_then(received),
            last_done: last_done.and_then(|id| spool.since(State::Done, id).ok()),
        };
        rows.insert(exchange, row);
    }
    rows.into_values().collect()
}

fn held_row(spool: &Spool, id: &ArrivalId) -> HeldRow {
    let note = spool.hold_note(id).ok();
    HeldRow {
        arrival: id.clone(),
        since: spool.since(State::Hold, id).ok(),
        reason: note.as_ref().map(|note| note.reason.clone()),
        detail: note.map(|note| note.detail),
    }
}

fn deferred_row(spool: &Spool, id: &ArrivalId) -> DeferredRow {
    let since = spool.since(State::Deferred, id).ok();
    DeferredRow { arrival: id.clone(), since, next_try: spool.next_try(id) }
}

fn passphrase_row(spool: &Spool) -> Option<PassphraseRow> {
    // Only root and the user of `work` may look.
    let ready: Vec<_> = spool.passphrases().ok()?.into_iter().filter(|entry| entry.is_ready).collect();
    Some(PassphraseRow {
        waiting: ready.len(),
        oldest: ready.iter().map(|entry| entry.made).min(),
        not_taken: ready.iter().filter(|entry| spool.handing_over(&entry.key).is_some()).count(),
    })
}

/// When an arrival was published or refused, from its id.
fn received(id: &ArrivalId) -> Option<Timestamp> {
    let text = id.stamp().get(..18)?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", text.get(..15)?).ok()?;
    let millis = text.get(15..18)?.parse::<i64>().ok()?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    at.checked_add(jiff::SignedDuration::from_millis(millis)).ok()
}

fn print(out: &mut impl Write, status: &Status, program: &str) -> anyhow::Result<()> {
    let mut arrivals = table(["state", "arrivals", "oldest", "age"]);
    for row in &status.arrivals {
        let oldest = row.oldest.as_ref().map_or("-".to_owned(), ArrivalId::to_string);
        let age = row.oldest_age_seconds.map_or("-".to_owned(), age);
        arrivals.add_row([row.state.as_str().to_owned(), row.count.to_string(), oldest, age]);
    }
    let mut exchanges = table(["exchange", "in progress", "held", "last arrival", "last done"]);
    for row in &status.exchanges {
        exchanges.add_row([
            row.exchange.clone(),
            row.in_progress.to_string(),
            row.held.to_string(),
            time(row.last_arrival),
            time(row.last_done),
        ]);
    }
    let [free, reserve] = [status.spool_free_bytes, status.spool_reserve_bytes].map(bytesize::ByteSize);
    writeln!(
        out,
        "node {}, {}, {free} free in the spool, of which uploads leave {reserve}\n",
        status.node,
        time(Some(status.time))
    )?;
    if !status.has_room {
        writeln!(out, "THE SPOOL IS FULL: uploads are turned down until there is more room\n")?;
    }
    writeln!(out, "{arrivals}\n\n{exchanges}")?;
    agreements::print(out, &status.agreements, &status.flows)?;
    for row in status.clocks.iter().filter(|row| row.waits) {
        writeln!(out, "\nclock: {}", row.text(status.time))?;
    }
    status.incidents.print(out, program)?;
    print_passphrases(out, status, program)?;
    print_collected(out, status)?;
    print_deferred(out, status, program)?;
    print_held(out, status, program)
}

fn print_passphrases(out: &mut impl Write, status: &Status, program: &str) -> anyhow::Result<()> {
    let Some(PassphraseRow { waiting: waiting @ 1.., oldest, not_taken }) = &status.passphrases else {
        return Ok(());
    };
    let since = time(*oldest);
    write!(out, "\npassphrases that wait to be handed out: {waiting}, the oldest since {since}")?;
    if *not_taken > 0 {
        write!(out, "; the program did not take {not_taken} of them")?;
    }
    writeln!(out, ". `{program} passphrase --list` shows them")?;
    Ok(())
}

fn print_collected(out: &mut impl Write, status: &Status) -> anyhow::Result<()> {
    if status.collected.is_empty() {
        return Ok(());
    }
    let mut collected = table(["collected result", "institution", "by", "at"]);
    for mark in status.collected.iter().take(HELD_SHOWN) {
        let by = printable(&mark.by.label, DETAIL_SHOWN);
        collected.add_row([mark.path(), mark.by.institution.to_string(), by, time(Some(mark.at))]);
    }
    writeln!(
        out,
        "\n{collected}\nThey go when their grace is over. `log show --event collect` has all of them"
    )?;
    Ok(())
}

fn print_deferred(out: &mut impl Write, status: &Status, program: &str) -> anyhow::Result<()> {
    if status.deferred.is_empty() {
        return Ok(());
    }
    let mut deferred = table(["deferred arrival", "since", "next try"]);
    for row in &status.deferred {
        deferred.add_row([row.arrival.to_string(), time(row.since), time(row.next_try)]);
    }
    writeln!(out, "\n{deferred}")?;
    tell_more(out, status, State::Deferred, status.deferred.len())?;
    writeln!(
        out,
        "\nThe program log of `work` says why. Not to wait: `{program} retry ARRIVAL --reason TEXT`"
    )?;
    Ok(())
}

fn tell_more(out: &mut impl Write, status: &Status, state: State, shown: usize) -> std::io::Result<()> {
    let count = status.arrivals.iter().find(|row| row.state == state).map_or(0, |row| row.count);
    if count > shown { writeln!(out, "and {} more", count - shown) } else { Ok(()) }
}

fn print_held(out: &mut impl Write, status: &Status, program: &str) -> anyhow::Result<()> {
    if status.held.is_empty() {
        return Ok(());
    }
    let mut held = table(["held arrival", "since", "reason", "detail"]);
    for row in &status.held {
        let reason = row.reason.as_ref().map_or("unknown: hold.json cannot be read", Reason::code);
        let detail = printable(row.detail.as_deref().unwrap_or_default(), DETAIL_SHOWN);
        held.add_row([row.arrival.to_string(), time(row.since), reason.to_owned(), detail]);
    }
    writeln!(out, "\n{held}")?;
    tell_more(out, status, State::Hold, status.held.len())?;
    writeln!(out, "\nTo see one whole, and how to go on: `{program} hold show ARRIVAL`")?;
    Ok(())
}

pub(super) fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

pub(super) fn time(at: Option<Timestamp>) -> String {
    at.map_or("-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Whole seconds, in the units a person thinks in; a clock that was set back makes no negative age.
fn age(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ArrivalId {
        ArrivalId::parse(text).unwrap()
    }

    #[test]
    fn the_time_of_an_arrival_is_read_from_its_id() {
        let id = id("20261121T225908123Z-0a1b2c3d-00000abc.agency.pillar-3");
        assert_eq!(received(&id).unwrap().to_string(), "2026-11-21T22:59:08.123Z");
        assert_eq!(received(&self::id("20269999T225908123Z-0a1b2c3d-00000abc.agency.pillar-3")), None);
    }

    #[test]
    fn the_oldest_arrival_of_a_state_and_its_age_are_shown() {
        let ids = [
            "20261121T120000000Z-0a1b2c3d-00000abc.agency.p",
            "20261121T130000000Z-0a1b2c3d-00000abc.agency.p",
        ];
        let row = state_row(State::Incoming, &ids.map(id), "2026-11-21T13:00:05Z".parse().unwrap());
        assert_eq!((row.count, row.oldest_age_seconds), (2, Some(3605)));
        assert_eq!(row.oldest, Some(id(ids[0])));
        assert_eq!((age(3605).as_str(), age(-5).as_str()), ("1h 5s", "0s"));
        assert_eq!(state_row(State::Done, &[], Timestamp::UNIX_EPOCH).oldest_age_seconds, None);
    }
}
