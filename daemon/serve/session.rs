//! Whom a connection belongs to once its key is proven, and what every record about it says.

use std::net::SocketAddr;

use russh::server::VerifiedPublicKey;

use crate::policy::account::Who;
use crate::policy::path::{RemotePath, Slug};
use crate::policy::record::{Event, Outcome, Record};

/// The proof that the peer holds the private key of a known person. Only a signature that russh has verified makes it;
/// file operations need it.
#[derive(Debug, Clone)]
pub struct Authenticated(Who);

impl Authenticated {
    /// `_proof` is a value that russh makes after checking the signature, and nobody else can.
    pub fn by(who: Who, _proof: VerifiedPublicKey<'_>) -> Self {
        Self(who)
    }

    /// Who it is.
    pub fn who(&self) -> &Who {
        &self.0
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
