//! What operators may ask of `serve` at its control socket: to reload, which sessions are live, to cut some.

use std::sync::Arc;

use super::Server;
use super::connection::Ended;
use super::upkeep;
use crate::host::control::{Answer, Ask, Operator, Target};
use crate::policy::record::{Event, Outcome, Record};

/// Does what was asked.
pub async fn perform(server: Arc<Server>, ask: Ask, operator: Operator) -> Answer {
    match ask {
        Ask::Reload => server.reload(operator.to_string()).await.into(),
        Ask::Sessions => {
            Answer::Sessions(server.sessions.find(None).iter().map(|entry| entry.told()).collect())
        }
        Ask::Kick(target) => kick(&server, &target, &operator).await,
        Ask::ConfirmClock(reason) => upkeep::confirm_clock(server, operator, reason).await,
        Ask::Arrival(_) => Answer::Refused(vec!["arrivals are work's, not serve's".to_owned()]),
        Ask::CloseIncident(_) => Answer::Refused(vec!["incidents are work's, not serve's".to_owned()]),
        Ask::Passphrases | Ask::Passphrase(_) | Ask::PassphraseShown(_) => {
            Answer::Refused(vec!["passphrases are work's, not serve's".to_owned()])
        }
    }
}

/// Each is recorded before it is cut: the log must be able to say who ended it.
async fn kick(server: &Arc<Server>, target: &Target, operator: &Operator) -> Answer {
    let meant = server.sessions.find(Some(target));
    if meant.is_empty() {
        return Answer::Refused(vec!["no such session is live; see `dropzone sessions`".to_owned()]);
    }
    let mut cut = Vec::new();
    for entry in meant {
        let operator = operator.to_string();
        let record =
            Record { operator: Some(operator.clone()), ..entry.session.record(Event::Kick, Outcome::Ok) };
        if let Err(error) = server.log.append_async(record).await {
            return Answer::Refused(vec![error.to_string()]);
        }
        tracing::info!(session = entry.connection.id, operator, "session kicked");
        entry.connection.end(Ended { reason: "kicked", operator: Some(operator) });
        cut.push(entry.told());
    }
    Answer::Sessions(cut)
}
