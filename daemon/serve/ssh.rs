//! The SSH side of a connection: who may log in, which channels may open, and that nothing but the sftp subsystem runs on
//! them. SFTP itself is `sftp`'s business; it gets the channel's bytes and gives back answers.

use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::{Algorithm, HashAlg};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Ssh, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty};

use super::Server;
use super::algorithms::may_sign;
use super::connection::Connection;
pub use super::disorder::ConnectionError;
use super::session::{Authenticated, Session};
use super::sessions::Present;
use super::sftp::Sftp;
use super::sftp::framing::Violation;
use super::unread::Unread;
use crate::host::metrics::{ConnectionRefusal, Limit, Open as OpenCount, SessionEnd};
use crate::policy::account::{Attempt, LoginRefusal, Who, identify};
use crate::policy::record::{Event, Outcome, Record, printable};

/// Channels over a connection's whole life: the library keeps a few KiB of each that this side closes first, for good.
const CHANNELS_MAX: usize = 1000;
/// What a channel's window and largest packet must both have room for. Cut into packets of one byte, an answer would take
/// fifty times its memory, and its client would not have to send much for that.
const ROOM_MIN: usize = 1024;
/// What of a client's identification string is kept, in characters: all that RFC 4253 §4.2 allows it.
const CLIENT_MAX: usize = 255;

/// What is told to whom has proven who it is while nothing can be recorded, in Dutch and English.
const UNAVAILABLE: &str = "De server is op dit ogenblik niet beschikbaar; probeer het later opnieuw. / \
                           The server is not available at the moment; try again later.";

/// One connection's handler. Channels without an SFTP session are open and mute.
pub struct Peer {
    server: Arc<Server>,
    connection: Arc<Connection>,
    admitted: Option<Authenticated>,
    session: Option<Arc<Session>>,
    /// Keeps the session in the metric of open ones.
    counted: Option<OpenCount>,
    /// Keeps it among the live ones.
    present: Option<Present>,
    channels: HashMap<ChannelId, Option<Sftp>>,
    /// Channels that ended while answers waited for room in them: the library holds those, so they still count.
    unfinished: Vec<ChannelId>,
    /// Channels opened so far.
    opened: usize,
    unread: Unread,
    probes: usize,
}

impl Peer {
    /// Of a connection that has not said anything yet.
    pub fn new(server: Arc<Server>, connection: Arc<Connection>) -> Self {
        Self {
            server,
            connection,
            admitted: None,
            session: None,
            counted: None,
            present: None,
            channels: HashMap::new(),
            unfinished: Vec::new(),
            opened: 0,
            unread: Unread::default(),
            probes: 0,
        }
    }

    fn identify(&self, user: &str, key: &russh::keys::PublicKey, algorithm: &Algorithm) -> Option<Who> {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let today = self.server.clock.today();
        let config = &self.server.config();
        // On a socket for both families an IPv4 peer shows up as ::ffff:a.b.c.d.
        let peer = self.connection.origin.peer.ip().to_canonical();
        let attempt = Attempt { user, fingerprint: &fingerprint, peer, today };
        // The answer takes the same time for every refusal, because russh waits it out; it differs in the log only.
        let known = identify(
            &config.institutions,
            |name, person| config.has_open_exchange(name, person, today),
            &attempt,
        );
        match known {
            Ok(who) if may_sign(config.machine.algorithms, algorithm) => Some(who),
            Ok(_) => {
                self.refuse(user, LoginRefusal::AlgorithmNotAccepted, fingerprint);
                None
            }
            Err(refusal) => {
                self.refuse(user, refusal, fingerprint);
                None
            }
        }
    }

    fn refuse(&self, user: &str, refusal: LoginRefusal, fingerprint: String) {
        self.server.metrics.authentication(Some(refusal));
        self.connection.rejects();
        self.connection.refused(user, refusal, fingerprint);
    }

    fn count(&self, violation: Violation) {
        match violation {
            Violation::TooLarge => self.server.metrics.limit_reached(Limit::PacketSize),
            Violation::TooManyOutstanding => {
                self.server.metrics.limit_reached(Limit::OutstandingRequests);
            }
            Violation::TooShort
            | Violation::OutOfSequence
            | Violation::Ended
            | Violation::TooManyRefusals => {}
        }
    }

    /// Other channels would go on as this one did: the connection ends.
    fn spent(&self) -> ConnectionError {
        self.server.metrics.session_ended(SessionEnd::TooManyRefusals);
        if let Some(session) = &self.session {
            self.connection.breaks_off(Record {
                detail: Some("ended: too many requests turned down within a minute".to_owned()),
                ..session.record(Event::Other, Outcome::Denied)
            });
        }
        ConnectionError::TooManyRefusals
    }

    fn forget_channel(&mut self, channel: ChannelId, ssh: &Ssh) {
        self.channels.remove(&channel);
        self.unread.forget(channel);
        if ssh.has_pending_data(channel) {
            self.unfinished.push(channel);
        }
    }

    fn end_channel(&mut self, channel: ChannelId, ssh: &mut Ssh) -> Result<(), ConnectionError> {
        self.forget_channel(channel, ssh);
        // Without an exit status OpenSSH's scp and sftp report a failure after a perfect transfer.
        ssh.exit_status_request(channel, 0)?;
        ssh.eof(channel)?;
        ssh.close(channel)?;
        Ok(())
    }
}

impl Handler for Peer {
    type Error = ConnectionError;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, ConnectionError> {
        self.connection.asks(user);
        self.connection.rejects();
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, ConnectionError> {
        self.connection.asks(user);
        self.connection.rejects();
        Ok(Auth::reject())
    }

    /// Not among the methods that are named to the client; who asks for it all the same is known for having asked.
    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, ConnectionError> {
        self.connection.asks(user);
        self.connection.rejects();
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, ConnectionError> {
        self.connection.asks(user);
        self.probes += 1;
        if self.probes > self.server.config().machine.limits.key_probes {
            self.server.metrics.connection_refused(ConnectionRefusal::Attempts);
            return Err(ConnectionError::TooManyKeys);
        }
        let known = self.identify(user, offer.public_key, offer.algorithm).is_some();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, ConnectionError> {
        let Some(who) = self.identify(user, key.public_key, key.algorithm) else { return Ok(Auth::reject()) };
        self.admitted = Some(Authenticated::by(who, key));
        Ok(Auth::Accept)
    }

    /// Runs before the peer hears of its success: without a record there is none.
    async fn auth_succeeded(&mut self, ssh: &mut Ssh) -> Result<(), ConnectionError> {
        let Some(authenticated) = self.admitted.take() else {
            return Err(ConnectionError::Ssh(russh::Error::NotAuthenticated));
        };
        let client = printable(&String::from_utf8_lossy(ssh.remote_sshid()), CLIENT_MAX);
        let session = Arc::new(Session {
            id: self.connection.id.clone(),
            peer: self.connection.origin.peer,
            client,
            authenticated,
        });
        self.connection.proves();
        let proxy = self.connection.origin.proxy;
        if let Err(bound) = self.connection.place.logs_in(&self.server, session.institution()) {
            self.server.metrics.authentication(Some(bound.refusal()));
            let reason = Some(bound.refusal().code().to_owned());
            let denied = Record { proxy, reason, ..session.record(Event::Login, Outcome::Denied) };
            self.server.log.append_async(denied).await?;
            return Ok(ssh.disconnect(Disconnect::TooManyConnections, bound.sentence(), "nl")?);
        }
        let login = Record { proxy, ..session.login_record(self.connection.negotiated()) };
        if let Err(error) = self.server.log.append_async(login).await {
            tracing::error!(%error, "a login is refused because it could not be recorded");
            return Ok(ssh.disconnect(Disconnect::ServiceNotAvailable, UNAVAILABLE, "nl")?);
        }
        self.server.metrics.authentication(None);
        self.counted = Some(self.server.metrics.session());
        self.connection.logged_in(Arc::clone(&session));
        self.present = Some(self.server.sessions.enter(&self.connection, &session, self.server.clock.now()));
        self.session = Some(session);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        ssh: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        let ended = |sftp: &Option<Sftp>| sftp.as_ref().is_some_and(Sftp::has_ended);
        let ended: Vec<_> = self.channels.iter().filter(|(_, sftp)| ended(sftp)).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|channel| self.forget_channel(channel, ssh));
        // Refused ones too: the library queues its refusals without bound.
        self.opened += 1;
        if self.opened > CHANNELS_MAX {
            self.server.metrics.limit_reached(Limit::Channels);
            return Err(ConnectionError::TooManyChannels);
        }
        self.unfinished.retain(|&ended| ssh.has_pending_data(ended));
        let taken = self.channels.len() + self.unfinished.len();
        let is_full = taken >= self.server.config().machine.limits.channels;
        if self.session.is_none() || is_full || channel.writable_packet_size().await < ROOM_MIN {
            self.server.metrics.limit_reached(Limit::Channels);
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.insert(channel.id(), None);
        reply.accept().await;
        // The channel's own queue is not used; held, it would fill and stop the connection for good.
        drop(channel);
        Ok(())
    }

    /// This side opens no channel, so there is none to confirm; the library takes over another window and packet size.
    async fn channel_open_confirmation(
        &mut self,
        _: ChannelId,
        _: u32,
        _: u32,
        _: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        Err(ConnectionError::Ssh(russh::Error::Inconsistent))
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        ssh: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        match (self.channels.get_mut(&channel), &self.session) {
            (Some(slot @ None), Some(session)) if name == "sftp" => {
                let sink = (ssh.handle(), channel);
                *slot = Some(Sftp::begin(&self.server, session, &self.connection, sink));
                ssh.channel_success(channel)?;
            }
            _ => ssh.channel_failure(channel)?,
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], ssh: &mut Ssh) -> Result<(), ConnectionError> {
        let Some(Some(sftp)) = self.channels.get_mut(&channel) else { return Ok(()) };
        if sftp.has_ended() {
            self.forget_channel(channel, ssh);
            return Ok(());
        }
        let answers = match sftp.receive(data).await {
            Ok(answers) => answers,
            Err(Violation::TooManyRefusals) => return Err(self.spent()),
            Err(violation) => {
                tracing::info!(session = self.connection.id, %violation, "channel ended");
                self.count(violation);
                self.server.metrics.session_ended(SessionEnd::Protocol);
                return self.end_channel(channel, ssh);
            }
        };
        self.connection.made_progress();
        self.connection.flow.received(data.len());
        self.connection.flow.sent(answers.len());
        let waits = ssh.has_pending_data(channel);
        if let Err(violation) = self.unread.grows(channel, (waits, answers.len())) {
            self.count(violation);
            return Err(violation.into());
        }
        if !answers.is_empty() {
            ssh.data(channel, answers)?;
        }
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, ssh: &mut Ssh) -> Result<(), ConnectionError> {
        match self.channels.get(&channel) {
            Some(Some(sftp)) if sftp.has_ended() => self.forget_channel(channel, ssh),
            Some(_) => self.end_channel(channel, ssh)?,
            None => {}
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, ssh: &mut Ssh) -> Result<(), ConnectionError> {
        self.channels.remove(&channel);
        self.unread.forget(channel);
        if ssh.has_pending_data(channel) {
            // Its client will never make room, and the library sends no read on any channel while one has none.
            return Err(ConnectionError::AnswersUnread);
        }
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, ssh: &mut Ssh) -> Result<(), ConnectionError> {
        Ok(ssh.channel_failure(channel)?)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        ssh: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        Ok(ssh.channel_failure(channel)?)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        ssh: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        Ok(ssh.channel_failure(channel)?)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        ssh: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        Ok(ssh.channel_failure(channel)?)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        ssh: &mut Ssh,
    ) -> Result<(), ConnectionError> {
        Ok(ssh.channel_failure(channel)?)
    }
}

/// What the peer is told when the server stops.
pub async fn say_goodbye(handle: &russh::server::Handle) {
    let _ = handle.disconnect(Disconnect::ByApplication, "the server is stopping".into(), "en".into()).await;
}
