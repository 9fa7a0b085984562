//! What operators may ask of `work` at its control socket: to reload, to believe its clock, to change the course of an arrival
//! that waits, to hand passphrases out, to close incidents.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{Workshop, held, incidents, passphrase};
use crate::host::control::{Answer, Ask, Operator};

/// Does what an operator asked at the control socket.
pub(super) async fn perform(workshop: Arc<Workshop>, ask: Ask, operator: Operator) -> Answer {
    match ask {
        Ask::Reload => workshop.reload(operator.to_string()).await.into(),
        Ask::ConfirmClock(reason) => confirm_clock(workshop, operator, reason).await,
        Ask::Arrival(change) => held::perform(workshop, change, operator).await,
        Ask::Passphrases => passphrase::list(workshop).await,
        Ask::Passphrase(meant) => passphrase::show(workshop, meant, operator).await,
        Ask::PassphraseShown(key) => passphrase::shown(workshop, key, operator).await,
        Ask::CloseIncident(closing) => incidents::perform(workshop, closing, operator).await,
        Ask::Sessions | Ask::Kick(_) => Answer::Refused(vec!["sessions are serve's, not work's".to_owned()]),
    }
}

/// Each process has a clock of its own to know.
async fn confirm_clock(workshop: Arc<Workshop>, operator: Operator, reason: String) -> Answer {
    Answer::of(spawn_blocking(move || workshop.upkeep.confirm(&workshop.log, &operator, &reason))).await
}
