//! `dropzone passphrase`: shows an operator the passphrase of a result, once, to be sent on by another way than the file. It is
//! asked of `work`, which alone can read it, and which records who was told before it tells. Once it stands on the terminal,
//! `work` is told that it need not be kept any longer.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::control::{load, request, turned_down};
use super::exit::{EX_CONFIG, EX_UNAVAILABLE, EX_USAGE};
use super::status::{DETAIL_SHOWN, table, time};
use crate::config::Config;
use crate::host::control::{Answer, Ask, AskError, PassphraseRow, ask};
use crate::host::spool::PassphraseKey;
use crate::policy::passphrase::{Meant, Shown};
use crate::policy::path::Slug;
use crate::policy::record::printable;

/// Which passphrase.
#[derive(Debug, Args)]
pub struct Asked {
    /// The result's name or path in `out`, or as much of its arrival's id as is unique.
    #[arg(required_unless_present = "list")]
    delivery: Option<String>,
    /// Its receiver, where several have a result of that name.
    #[arg(long, value_name = "INSTITUTION", value_parser = Slug::parse)]
    to: Option<Slug>,
    /// List the passphrases that wait to be handed out, without showing any.
    #[arg(long, conflicts_with_all = ["delivery", "to", "piped"])]
    list: bool,
    /// With --list: print JSON, for programs.
    #[arg(long, requires = "list")]
    json: bool,
    /// Show it although the standard output is no terminal.
    #[arg(long)]
    piped: bool,
}

/// Runs it.
pub fn run(directory: &Path, asked: Asked) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    let Some(delivery) = asked.delivery else { return list(&config, asked.json) };
    if !asked.piped && !std::io::stdout().is_terminal() {
        writeln!(
            std::io::stderr().lock(),
            "a passphrase is shown on a terminal, and this output is none: it could stay in a file or a log. Nothing was asked for; \
             --piped shows it all the same"
        )?;
        return Ok(ExitCode::from(EX_USAGE));
    }
    match ask_work(&config, Ask::Passphrase(Meant { delivery, to: asked.to })) {
        Ok(Answer::Passphrase(shown)) => show(&config, &shown),
        answer => turned_down("work", answer),
    }
}

fn ask_work(config: &Config, what: Ask) -> Result<Answer, AskError> {
    ask(&config.machine.sockets.work_control, &request(what))
}

fn show(config: &Config, shown: &Shown) -> anyhow::Result<ExitCode> {
    let Shown { locked, title, contact, phone, passphrase } = shown;
    let ways: Vec<&str> = [phone, contact].into_iter().filter_map(Option::as_deref).collect();
    let ways = if ways.is_empty() { "no phone or contact is configured".to_owned() } else { ways.join(", ") };
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "{}\nfor {} ({}; {ways}), made {}\n\n    {}\n\n\
         Send it by another way than the file, to whoever opens it there. It is typed with its hyphens.\n",
        locked.path(),
        title.as_deref().unwrap_or("an institution that is not configured any more"),
        locked.to,
        time(Some(locked.made)),
        passphrase.as_str()
    )?;
    // From here on it has been seen. Until here an error leaves it where it is kept, and it can be asked for again.
    out.flush()?;
    let key = PassphraseKey { arrival: locked.arrival.clone(), to: locked.to.clone() };
    match ask_work(config, Ask::PassphraseShown(key)) {
        Ok(Answer::Done(_)) => {
            writeln!(out, "Nobody is shown it again.")?;
            Ok(ExitCode::SUCCESS)
        }
        answer => {
            writeln!(std::io::stderr().lock(), "it is still kept, and can be shown again, because:")?;
            turned_down("work", answer).map(|_| ExitCode::from(EX_UNAVAILABLE))
        }
    }
}

fn list(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    match ask_work(config, Ask::Passphrases) {
        Ok(Answer::Passphrases(rows)) => print(&rows, json).map(|()| ExitCode::SUCCESS),
        answer => turned_down("work", answer),
    }
}

fn print(rows: &[PassphraseRow], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, rows)?;
        writeln!(out)?;
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(out, "no passphrase waits to be handed out")?;
        return Ok(());
    }
    let mut all = table(["result", "for", "arrival", "made", "tries", "next try", "why"]);
    for PassphraseRow { locked, handing_over } in rows {
        let of = handing_over.as_ref();
        all.add_row([
            locked.path(),
            locked.to.to_string(),
            locked.arrival.to_string(),
            time(Some(locked.made)),
            of.map_or("-".to_owned(), |of| of.tries.to_string()),
            time(of.map(|of| of.next)),
            of.map_or(String::new(), |of| printable(&of.why, DETAIL_SHOWN)),
        ]);
    }
    writeln!(out, "{all}")?;
    Ok(())
}
