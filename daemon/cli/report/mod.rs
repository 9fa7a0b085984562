//! `dropzone report`: what happened under one agreement in a span of days, as a page to print and as the same facts in JSON,
//! both signed. `gather` puts the facts together, `page` shows them; neither knows the other's business.

mod cases;
mod chart;
pub(super) mod columns;
mod counter;
mod evidence;
pub(super) mod facts;
mod figures;
mod gather;
mod kept;
pub(super) mod language;
pub(super) mod page;
mod papers;
mod rhythm;
pub(super) mod setup;
mod tally;
mod verdict;
mod wording;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::ToSpan;
use jiff::civil::Date;

use self::evidence::Span;
use self::facts::{Facts, Level};
use self::language::Language;
use super::check;
use super::exit::{EX_CANTCREAT, EX_USAGE};
use crate::config::{self, Config};
use crate::host::clock::Clock;
use crate::host::files;
use crate::policy::digest::sha256;
use crate::policy::published::ALLOWED_SIGNERS;
use crate::policy::signature::{ENDING, Namespace};
use crate::work::signer::Signer;

/// The longest span, in years.
const LONGEST: i32 = 20;

/// What to report on, and how.
#[derive(Debug, Args)]
pub struct Report {
    /// The exchange.
    exchange: String,
    /// First day, as in 2026-01-01 (Europe/Brussels).
    #[arg(long, value_name = "DAY")]
    from: Date,
    /// Last day, which belongs to it.
    #[arg(long, value_name = "DAY")]
    to: Date,
    /// The language of the page.
    #[arg(long, value_enum, default_value = "nl")]
    lang: Language,
    /// Do not sign, where the zone's signing key cannot be read; the page says so.
    #[arg(long)]
    unsigned: bool,
    /// The folder to put the files into.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// Makes the report.
pub fn run(zone: &Path, report: &Report) -> anyhow::Result<ExitCode> {
    let config = match config::load(zone) {
        Ok(config) => config,
        Err(errors) => {
            check::tell(&mut std::io::stderr().lock(), zone, &errors)?;
            return Ok(check::exit_code(&errors));
        }
    };
    let clock = Clock::system();
    let span = match report.span(&config, &clock) {
        Ok(span) => span,
        Err(problem) => return refused(&problem, EX_USAGE),
    };
    let signer = match report.signer(&config) {
        Ok(signer) => signer,
        Err(problem) => return refused(&problem, super::exit::EX_NOINPUT),
    };
    let paths = report.paths(signer.is_some());
    if let Some(there) = paths.all().find(|path| files::exists(path)) {
        let problem = format!("{} is there already; remove it, or name another folder", there.display());
        return refused(&problem, EX_CANTCREAT);
    }
    let progress = Progress::begin();
    let source = gather::Source { config: &config, clock: &clock, span, exchange: &report.exchange };
    let facts = gather::gather(&source, signer.as_ref().map(Signer::public), &progress)?;
    progress.end();
    if !files::exists(&report.directory) {
        files::make_folder(&report.directory, 0o750)
            .with_context(|| format!("{}: cannot make this folder", report.directory.display()))?;
    }
    let (page, json) = paths.write(&facts, report.lang, &clock, signer.as_ref())?;
    tell(&facts, &paths, (&page, &json), report.lang)?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn span(&self, config: &Config, clock: &Clock) -> Result<Span, String> {
        let today = clock.today();
        if !config.exchanges.keys().any(|name| name.as_str() == self.exchange) {
            let names: Vec<&str> = config.exchanges.keys().map(|name| name.as_str()).collect();
            return Err(format!("there is no exchange {:?}; there are: {}", self.exchange, names.join(", ")));
        }
        if self.from > self.to {
            return Err(format!("--from {} lies behind --to {}", self.from, self.to));
        }
        if self.to > today {
            return Err(format!("--to {} lies ahead: today is {today}", self.to));
        }
        if self.from.saturating_add(LONGEST.years()) < self.to {
            return Err(format!("the span is longer than {LONGEST} years; ask for less at a time"));
        }
        let end = self.to.tomorrow().map_or(jiff::Timestamp::MAX, |next| clock.begins(next));
        Ok(Span { from: self.from, to: self.to, begin: clock.begins(self.from), end })
    }

    fn signer(&self, config: &Config) -> Result<Option<Signer>, String> {
        if self.unsigned {
            return Ok(None);
        }
        let read = Signer::read(&config.machine.signing_key);
        read.map(Some).map_err(|error| {
            format!("{error:#}. Run this as the user `work` runs as, or say --unsigned: the page then says that it proves nothing by itself")
        })
    }

    fn paths(&self, signed: bool) -> Paths {
        let stem = format!("report-{}-{}-{}", self.exchange, self.from, self.to);
        let path = |ending: &str| self.directory.join(format!("{stem}{ending}"));
        Paths {
            page: path(&format!(".{}.html", self.lang.code())),
            json: path(&format!(".{}.json", self.lang.code())),
            signed,
        }
    }
}

/// Where the files go.
struct Paths {
    page: PathBuf,
    json: PathBuf,
    signed: bool,
}

impl Paths {
    fn all(&self) -> impl Iterator<Item = PathBuf> {
        let files = [self.page.clone(), self.json.clone()];
        let signatures = [&self.page, &self.json].map(|path| signature_of(path));
        files.into_iter().chain(signatures.into_iter().filter(|_| self.signed))
    }

    /// Gives the digests of both.
    fn write(
        &self,
        facts: &Facts,
        language: Language,
        clock: &Clock,
        signer: Option<&Signer>,
    ) -> anyhow::Result<(String, String)> {
        let mut json = serde_json::to_vec_pretty(facts).context("the report as JSON")?;
        json.push(b'\n');
        let page = page::page(facts, language, clock).into_string().into_bytes();
        for (path, text) in [(&self.page, &page), (&self.json, &json)] {
            // The names of people are in it.
            files::write_new(path, text, 0o640).with_context(|| path.display().to_string())?;
            if let Some(signer) = signer {
                let signature = signer.sign(Namespace::Report, text)?;
                let beside = signature_of(path);
                files::write_new(&beside, signature.as_bytes(), 0o640)
                    .with_context(|| beside.display().to_string())?;
            }
        }
        if let Some(signer) = signer {
            let signers = self.page.with_file_name(ALLOWED_SIGNERS);
            if !files::exists(&signers) {
                let text = signer.public().allowed_signers();
                files::write_new(&signers, text.as_bytes(), 0o644)
                    .with_context(|| signers.display().to_string())?;
            }
        }
        Ok((sha256(&page), sha256(&json)))
    }
}

fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ENDING);
    PathBuf::from(name)
}

/// Tells how far it is, on a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    fn begin() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn tell(&self, what: &str, done: usize, of: usize) {
        self.0.set_message(what.to_owned());
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn refused(problem: &str, code: u8) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr().lock(), "dropzone: {problem}")?;
    Ok(ExitCode::from(code))
}

fn tell(facts: &Facts, paths: &Paths, (page, json): (&str, &str), language: Language) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}  sha256 {page}", paths.page.display())?;
    writeln!(out, "{}  sha256 {json}", paths.json.display())?;
    match &facts.signed_with {
        Some(key) => writeln!(out, "signed by {key}; each signature lies beside its file ({ENDING})")?,
        None => writeln!(out, "NOT SIGNED")?,
    }
    for statement in &facts.statements {
        let mark = match statement.level {
            Level::Good => "ok ",
            Level::Attention => "!  ",
            Level::Bad => "BAD",
        };
        writeln!(out, "  {mark} {}", language.say(&statement.words))?;
    }
    Ok(())
}
