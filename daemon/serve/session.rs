//! Whom a connection belongs to once its key is proven, and what every record about it says.

use std::net::SocketAddr;

use russh::server::VerifiedPublicKey;

use super::negotiation::Negotiated;
use crate::policy::account::Who;
use crate::policy::path::{RemotePath, Slug};
use crate::policy::record::{Event, Outcome, Record};

/// The proof that the peer holds the private key of a known person. Only a signature that russh has verified makes it;
/// file operations need it.
#[derive(Debug, Clone)]
pub struct Authenticated {
    who: Who,
    algorithm: String,
}

impl Authenticated {
    /// `proof` is a value that russh makes after checking the signature, and nobody else can.
    pub fn by(who: Who, proof: VerifiedPublicKey<'_>) -> Self {
        Self { who, algorithm: proof.algorithm.to_string() }
    }

    /// Who it is.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// What the key signed with.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Session {
    /// Unique per connection.
    pub id: String,
    /// The peer.
    pub peer: SocketAddr,
    /// The client's identification string.
    pub client: String,
    /// Whose it is.
    pub authenticated: Authenticated,
}

impl Session {
    /// Who it is.
    pub fn who(&self) -> &Who {
        self.authenticated.who()
    }

    /// The institution.
    pub fn institution(&self) -> &Slug {
        &self.who().institution
    }

    /// A record of this session.
    pub fn record(&self, event: Event, outcome: Outcome) -> Record {
        Record {
            session: Some(self.id.clone()),
            peer: Some(self.peer),
            client: Some(self.client.clone()),
            ..Record::new(event, outcome).by(self.who())
        }
    }

    /// The record of the login, with what the connection is secured with.
    pub fn login_record(&self, negotiated: Option<&Negotiated>) -> Record {
        Record {
            kex: negotiated.map(|agreed| agreed.kex.clone()),
            cipher: negotiated.map(|agreed| agreed.cipher.clone()),
            mac: negotiated.and_then(|agreed| agreed.mac.clone()),
            key_algorithm: Some(self.authenticated.algorithm().to_owned()),
            ..self.record(Event::Login, Outcome::Ok)
        }
    }

    /// A record of this session about a path.
    pub fn record_at(
        &self,
        event: Event,
        outcome: Outcome,
        path: &RemotePath,
        exchange: Option<&Slug>,
    ) -> Record {
        Record { path: Some(path.to_string()), exchange: exchange.cloned(), ..self.record(event, outcome) }
    }
}
