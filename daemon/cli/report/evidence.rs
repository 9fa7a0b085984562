//! The access log as the report's witness: whether it is as it was written (`host::evidence::examine`), which days of the span it
//! covers, and its records of the span, read once each.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use crate::host::evidence::examine::{Examination, examine};
use crate::host::evidence::heads::Heads;
use crate::host::evidence::{LogFolder, copies};
use crate::policy::head::day;
use crate::policy::record::Line;
use crate::policy::retention::LogName;
use crate::policy::signature::ZoneKey;

/// So many findings are told one by one.
const FINDINGS: usize = 20;

/// What is told of the log as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// Whether the whole log is as it was written; none where it could not be examined.
    pub intact: Option<bool>,
    /// Why it could not be.
    pub problem: Option<String>,
    /// The fingerprint of the key that its seals were believed by.
    pub key: Option<String>,
    /// The seals that were believed.
    pub seals: u64,
    /// When the last of them was made.
    pub last_seal: Option<Timestamp>,
    /// Records whose chain holds, in all files.
    pub records: u64,
    /// Of them, those that no seal stands for yet.
    pub not_yet_sealed: u64,
    /// What is wrong, as `dropzone log verify` says it.
    pub findings: Vec<String>,
    /// How many are not told.
    pub more_findings: u64,
    /// For how many days records are kept.
    pub keep_days: u16,
    /// The first day (UTC) of the log that is there.
    pub first_day: Option<Date>,
    /// The last day (UTC).
    pub last_day: Option<Date>,
    /// The first day of the span of which there is a log.
    pub covered_from: Option<Date>,
    /// Days of the span, behind that one, of which there is none.
    pub days_missing: Vec<Date>,
}

/// Both days belong to it.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// First day, Europe/Brussels.
    pub from: Date,
    /// Last day, Europe/Brussels.
    pub to: Date,
    /// When the first day begins.
    pub begin: Timestamp,
    /// When the day after the last begins.
    pub end: Timestamp,
}

impl Span {
    /// Whether a time belongs to it.
    pub fn holds(&self, time: Timestamp) -> bool {
        self.begin <= time && time < self.end
    }
}

/// Examines the log with the zone's key, or the one that lies beside its seals.
pub fn look(
    folder: &Path,
    key: Option<&ZoneKey>,
    kept_elsewhere: Option<&Path>,
    (span, keep_days): (&Span, u16),
) -> Evidence {
    let examined = examine_with(folder, key, kept_elsewhere);
    let names = LogFolder::open(folder).and_then(|folder| folder.names()).unwrap_or_default();
    let mut evidence = Evidence {
        intact: None,
        problem: None,
        key: None,
        seals: 0,
        last_seal: None,
        records: 0,
        not_yet_sealed: 0,
        findings: Vec::new(),
        more_findings: 0,
        keep_days,
        first_day: names.first().map(|name| name.day),
        last_day: names.last().map(|name| name.day),
        covered_from: None,
        days_missing: Vec::new(),
    };
    evidence.cover(&names, span);
    match examined {
        Ok(examination) => evidence.found(&examination),
        Err(error) => evidence.problem = Some(error.to_string()),
    }
    evidence
}

fn examine_with(
    folder: &Path,
    key: Option<&ZoneKey>,
    kept_elsewhere: Option<&Path>,
) -> anyhow::Result<Examination> {
    let beside = || Heads::open(&LogFolder::open(folder).ok()?).ok()??.key();
    let key = match key {
        Some(key) => Some(key.clone()),
        None => beside().and_then(|text| ZoneKey::parse(&text)),
    };
    let key = key.ok_or_else(|| anyhow::anyhow!("there is no public key to check the seals with"))?;
    let copies = kept_elsewhere.map(copies::read).transpose()?.unwrap_or_default();
    Ok(examine(folder, &key, copies)?)
}

impl Evidence {
    fn found(&mut self, examination: &Examination) {
        self.intact = Some(examination.intact);
        self.key = Some(examination.key.clone());
        self.seals = examination.heads as u64;
        self.last_seal = examination.last_head;
        self.records = examination.files.iter().map(|file| file.records).sum();
        self.not_yet_sealed = examination.files.iter().map(|file| file.not_yet_sealed).sum();
        let told = |finding: &crate::policy::evidence::Finding| match finding.line {
            Some(line) => format!("{}, line {line}: {}", finding.file, finding.what),
            None => format!("{}: {}", finding.file, finding.what),
        };
        self.findings = examination.findings.iter().take(FINDINGS).map(told).collect();
        self.more_findings = examination.findings.len().saturating_sub(FINDINGS) as u64;
    }

    fn cover(&mut self, names: &[LogName], span: &Span) {
        let there: BTreeSet<Date> =
            names.iter().map(|name| name.day).filter(|day| (span.from..=span.to).contains(day)).collect();
        self.covered_from = there.first().copied();
        let Some(mut day) = self.covered_from else { return };
        while day < span.to {
            let Ok(next) = day.tomorrow() else { return };
            day = next;
            if !there.contains(&day) {
                self.days_missing.push(day);
            }
        }
    }
}

/// Shows every record of the span, and says before each file which of how many it is.
pub fn records(
    folder: &Path,
    span: &Span,
    mut progress: impl FnMut(usize, usize),
    mut each: impl FnMut(&Line),
) -> anyhow::Result<()> {
    let log = LogFolder::open(folder)?;
    let days = day(span.begin)..=day(span.end);
    let names: Vec<LogName> = log.names()?.into_iter().filter(|name| days.contains(&name.day)).collect();
    for (index, name) in names.iter().enumerate() {
        progress(index, names.len());
        log.lines(name, |text| {
            // What is no record, the examination tells.
            if let Ok(line) = serde_json::from_slice::<Line>(text)
                && span.holds(line.time)
            {
                each(&line);
            }
        })?;
    }
    Ok(())
}
