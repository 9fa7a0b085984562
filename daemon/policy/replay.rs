//! Whether an arrival's encrypted file was here before. The same ciphertext from the same institution in the same exchange
//! is the same arrival; anywhere else it is somebody else's, or was handed in under another agreement, and no job may
//! touch it. age never makes the same file twice, so two equal ones are copies, and never two lists with the same rows.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::arrival::ArrivalId;
use super::incident::Incident;

/// What is kept of an encrypted file that was seen, under its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Marker {
    /// The first arrival with this content. Its id says whose it is, and in which exchange.
    pub arrival: ArrivalId,
    /// When it was published, as its description says.
    pub received: Timestamp,
    /// When `work` saw it, by its own clock.
    pub seen: Timestamp,
}

/// How an arrival relates to the first one with its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Replay {
    /// It is the first; its job goes on, whichever try this is.
    First,
    /// It is the same arrival, sent once more.
    Again,
    /// It is not its sender's to use here.
    Elsewhere(Incident),
}

/// Says which it is. Another exchange of the same institution is not the same arrival: each exchange is another
/// agreement, with fields, purpose and receivers of its own, and a copy of a ciphertext is no proof that its sender wants
/// those persons joined under this one too. Who does encrypts the list once more, which nobody but its owner can.
pub fn relate(first: &ArrivalId, arrival: &ArrivalId) -> Replay {
    if first == arrival {
        Replay::First
    } else if first.institution() != arrival.institution() {
        Replay::Elsewhere(Incident::OtherInstitution)
    } else if first.exchange() != arrival.exchange() {
        Replay::Elsewhere(Incident::OtherExchange)
    } else {
        Replay::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(stamp: &str, institution: &str, exchange: &str) -> ArrivalId {
        ArrivalId::parse(&format!("20261121T22590812{stamp}Z-0a1b2c3d-00000abc.{institution}.{exchange}"))
            .unwrap()
    }

    #[test]
    fn only_the_same_institution_in_the_same_exchange_sends_the_same_arrival() {
        let first = id("3", "agency", "pillar-3");
        for (arrival, replay) in [
            (id("3", "agency", "pillar-3"), Replay::First),
            (id("4", "agency", "pillar-3"), Replay::Again),
            (id("3", "agency", "relay"), Replay::Elsewhere(Incident::OtherExchange)),
            (id("4", "city", "pillar-3"), Replay::Elsewhere(Incident::OtherInstitution)),
            (id("4", "city", "relay"), Replay::Elsewhere(Incident::OtherInstitution)),
        ] {
            assert_eq!(relate(&first, &arrival), replay, "{arrival}");
        }
    }
}
