//! `dropzone reload`, `dropzone sessions` and `dropzone kick`: what operators ask of the daemons that run, over their control
//! sockets. What the daemons do with it is theirs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table};

use super::check;
use super::exit::{EX_CONFIG, EX_DATAERR, EX_UNAVAILABLE};
use crate::config::{self, Config};
use crate::host::control::{Answer, Ask, AskError, LiveSession, Request, Target, ask};
use crate::policy::record::{OPERATOR_REASON_MAX, operator_reason};

/// Checks the configuration, then has both daemons take it over. One that does not run will read it when it starts.
pub fn reload(directory: &Path) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    ask_both(&config, &Ask::Reload, EX_CONFIG)
}

/// Asks both daemons, and tells what each did. One that does not run is no failure, as long as the other did it; the exit code
/// where one of them would not is the caller's.
pub(super) fn ask_both(config: &Config, what: &Ask, refused: u8) -> anyhow::Result<ExitCode> {
    let sockets = &config.machine.sockets;
    let mut out = std::io::stdout().lock();
    let (mut done, mut worst) = (0, None);
    for (daemon, socket) in [("serve", &sockets.serve), ("work", &sockets.work_control)] {
        match ask(socket, &request(what.clone())) {
            Ok(Answer::Done(told)) => {
                done += 1;
                writeln!(out, "{daemon}: {told}")?;
            }
            Ok(answer) => {
                worst = Some(refused);
                tell_refusal(daemon, &answer)?;
            }
            Err(error @ AskError::Absent(_)) => writeln!(out, "{daemon}: {error}")?,
            Err(error) => {
                worst = worst.or(Some(EX_UNAVAILABLE));
                writeln!(std::io::stderr().lock(), "{daemon}: {error}")?;
            }
        }
    }
    let none = (done == 0).then_some(EX_UNAVAILABLE);
    Ok(worst.or(none).map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Prints the live sessions, as a table or as JSON.
pub fn sessions(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    match ask(&config.machine.sockets.serve, &request(Ask::Sessions)) {
        Ok(Answer::Sessions(sessions)) => show(&sessions, json).map(|()| ExitCode::SUCCESS),
        answer => turned_down("serve", answer),
    }
}

/// Cuts sessions and says which.
pub fn kick(directory: &Path, target: Target) -> anyhow::Result<ExitCode> {
    let Some(config) = load(directory)? else { return Ok(ExitCode::from(EX_CONFIG)) };
    match ask(&config.machine.sockets.serve, &request(Ask::Kick(target))) {
        Ok(Answer::Sessions(cut)) => {
            let mut out = std::io::stdout().lock();
            for LiveSession { id, institution, person, peer, .. } in cut {
                writeln!(out, "cut {id}: {person} of {institution} from {peer}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        answer => turned_down("serve", answer),
    }
}

/// None, and its problems told, if the zone is not to be used: where the sockets are stands in it.
pub(super) fn load(directory: &Path) -> anyhow::Result<Option<Config>> {
    match config::load(directory) {
        Ok(config) => Ok(Some(config)),
        Err(errors) => {
            check::tell(&mut std::io::stderr().lock(), directory, &errors)?;
            Ok(None)
        }
    }
}

pub(super) fn request(ask: Ask) -> Request {
    Request { ask, name: claimed_name() }
}

/// With a shared account, the log then still has a name, if only the one that is claimed.
pub(super) fn claimed_name() -> Option<String> {
    ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| std::env::var(name).ok())
}

/// Reads `--reason`: what the access log keeps beside the operator's name.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let reason = operator_reason(text).ok_or("write why, in a few words")?;
    let is_whole = text.trim().chars().count() <= OPERATOR_REASON_MAX;
    if is_whole { Ok(reason) } else { Err(format!("at most {OPERATOR_REASON_MAX} characters")) }
}

/// Tells why a daemon did not do it.
pub(super) fn turned_down(daemon: &str, answer: Result<Answer, AskError>) -> anyhow::Result<ExitCode> {
    match answer {
        Ok(answer) => {
            tell_refusal(daemon, &answer)?;
            Ok(ExitCode::from(EX_DATAERR))
        }
        Err(error) => {
            writeln!(std::io::stderr().lock(), "{daemon}: {error}")?;
            Ok(ExitCode::from(EX_UNAVAILABLE))
        }
    }
}

fn tell_refusal(daemon: &str, answer: &Answer) -> std::io::Result<()> {
    let mut err = std::io::stderr().lock();
    match answer {
        Answer::Refused(problems) => {
            problems.iter().try_for_each(|problem| writeln!(err, "{daemon}: {problem}"))
        }
        Answer::Done(_) | Answer::Sessions(_) | Answer::Passphrases(_) | Answer::Passphrase(_) => {
            writeln!(err, "{daemon}: gave an answer to another question; is it another version?")
        }
    }
}

fn show(sessions: &[LiveSession], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, sessions)?;
        writeln!(out)?;
        return Ok(());
    }
    if sessions.is_empty() {
        writeln!(out, "nobody is logged in")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "session",
        "institution",
        "person",
        "peer",
        "client",
        "since",
        "idle",
        "up",
        "down",
        "bytes in",
        "bytes out",
    ]);
    for session in sessions {
        table.add_row([
            session.id.clone(),
            session.institution.clone(),
            session.person.clone(),
            session.peer.clone(),
            session.client.clone(),
            session.since.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            format!("{} s", session.idle_seconds),
            session.uploads.to_string(),
            session.downloads.to_string(),
            session.received_bytes.to_string(),
            session.sent_bytes.to_string(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
