//! Puts a report's facts together: configuration, receipts, access log, spool. Each source is read once, and nothing of it is
//! kept but what the report says.

use std::collections::BTreeSet;

use anyhow::Context;

use super::counter::{Counter, Weighed};
use super::evidence::{self, Span};
use super::facts::{Facts, Level};
use super::figures::{Counted, Figures};
use super::papers::{Collector, Taken};
use super::{Progress, cases, kept, rhythm, setup, verdict};
use crate::cli::secrets;
use crate::config::Config;
use crate::host::archive::{Archive, Paper};
use crate::host::clock::Clock;
use crate::policy::arrival::State;
use crate::policy::path::Slug;
use crate::policy::record::Line;
use crate::policy::signature::ZoneKey;

/// Receipts between two signs of life.
const TOLD_EVERY: usize = 500;

/// What the report is about, and where it comes from.
pub struct Source<'a> {
    /// The zone.
    pub config: &'a Config,
    /// What day and time it is.
    pub clock: &'a Clock,
    /// The days.
    pub span: Span,
    /// The exchange, which there is.
    pub exchange: &'a str,
}

/// Gathers all facts. `signs` is the key that will sign them.
pub fn gather(source: &Source<'_>, signs: Option<ZoneKey>, progress: &Progress) -> anyhow::Result<Facts> {
    let Source { config, clock, span, exchange } = source;
    let exchange = config.exchanges.values().find(|there| there.name.as_str() == *exchange);
    let exchange = exchange.context("the exchange is gone")?;
    let machine = &config.machine;
    let key = signs.clone().or_else(|| secrets::zone_key(&machine.signing_key));
    let archive = Archive::open(&machine.spool)?;
    let mut gathering = Gathering {
        clock,
        span,
        figures: Figures::over(span.from, span.to),
        collector: Collector::new(key.clone()),
        counter: Counter::new(exchange.name.as_str(), exchange.parties.keys().map(Slug::to_string).collect()),
    };
    gathering.receipts(&archive, &exchange.name, progress)?;
    let log = &machine.log;
    let told = |done, of| progress.tell("access log", done, of);
    evidence::records(&log.directory, span, told, |line| gathering.record(line))?;
    progress.tell("checking the access log against its seals", 1, 2);
    let evidence =
        evidence::look(&log.directory, key.as_ref(), log.heads_to.file.as_deref(), (span, log.keep_days));
    let waiting = waiting(&archive, &exchange.name)?;
    let tally = gathering.counter.finish();
    let mut facts = Facts {
        report: 1,
        exchange: exchange.name.to_string(),
        from: span.from,
        to: span.to,
        made: clock.now(),
        node: machine.node.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        signed_with: signs.map(|key| key.fingerprint()),
        overall: Level::Good,
        statements: Vec::new(),
        agreement: setup::agreement(exchange, clock.today()),
        parties: setup::parties(config, exchange, clock.today()),
        flows: setup::flows(exchange),
        kept: kept::kept(&archive, config, &exchange.name, (clock, &tally.deletions))?,
        figures: gathering.figures,
        arrivals: gathering.collector.finish(waiting),
        rhythm: Vec::new(),
        incidents: cases::merge(&tally.incidents, archive.incidents()?.read, (exchange, span), clock),
        log: tally,
        evidence,
        protection: setup::protection(config),
        not_known: Vec::new(),
    };
    facts.rhythm = rhythm::rhythm(exchange, &facts.arrivals, &archive, clock.today())?;
    facts.not_known = verdict::not_known(&facts);
    facts.statements = verdict::statements(&facts);
    facts.overall = facts.statements.iter().map(|statement| statement.level).max().unwrap_or(Level::Good);
    Ok(facts)
}

struct Gathering<'a> {
    clock: &'a Clock,
    span: &'a Span,
    figures: Figures,
    collector: Collector,
    counter: Counter,
}

impl Gathering<'_> {
    fn receipts(&mut self, archive: &Archive, exchange: &Slug, progress: &Progress) -> anyhow::Result<()> {
        let mut seen = 0_usize;
        archive.receipts(exchange, |paper| {
            seen += 1;
            if seen.is_multiple_of(TOLD_EVERY) {
                progress.tell("receipts", seen, seen);
            }
            // Its name tells without a look into it; what cannot be told that way is read.
            if paper.received().is_none_or(|received| self.span.holds(received)) {
                self.receipt(paper);
            }
        })?;
        Ok(())
    }

    fn receipt(&mut self, paper: &Paper<'_>) {
        let Some((text, signature)) = paper.read() else { return };
        let span = self.span;
        let taken = self.collector.receipt((&text, &signature), |receipt| {
            span.holds(receipt.received) && &receipt.institution == paper.institution
        });
        self.taken(taken);
    }

    fn record(&mut self, line: &Line) {
        match self.counter.take(line) {
            Weighed::Access => self.count(line.time, Counted::Access),
            Weighed::Refusal => self.count(line.time, Counted::Refusal),
            Weighed::RefusedFile => {
                let taken = self.collector.record(line, true);
                self.taken(taken);
            }
            Weighed::TakenIn => {
                self.count(line.time, Counted::Access);
                let taken = self.collector.record(line, false);
                self.taken(taken);
            }
            Weighed::Nothing => {}
        }
    }

    fn taken(&mut self, taken: Option<Taken>) {
        if let Some(Taken { time, is_refused }) = taken {
            self.count(time, if is_refused { Counted::Refusal } else { Counted::Delivery });
        }
    }

    fn count(&mut self, time: jiff::Timestamp, what: Counted) {
        self.figures.count(self.clock.local(time).date(), what);
    }
}

/// Arrivals that nobody has come to yet.
fn waiting(archive: &Archive, exchange: &Slug) -> anyhow::Result<u64> {
    let mut waiting = BTreeSet::new();
    for state in [State::Incoming, State::Active, State::Deferred] {
        archive.arrivals(state, exchange, |id, _| {
            waiting.insert(id.clone());
        })?;
    }
    Ok(waiting.len() as u64)
}
