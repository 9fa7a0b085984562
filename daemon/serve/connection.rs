//! What is known about one TCP connection beside its SSH state: when it began, whether it has logged in, when it last moved
//! something, and how to cut it whatever the peer or the library is doing.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::admission::{Origin, Place};
use super::negotiation::Negotiated;
use super::session::Session;
use crate::config::Limits;
use crate::policy::account::LoginRefusal;
use crate::policy::agreement::Party;
use crate::policy::path::Slug;
use crate::policy::record::{Record, printable};

/// A connection, shared by its tasks.
#[derive(Debug)]
pub struct Connection {
    /// Unique; records call it the session.
    pub id: String,
    /// Who it comes from.
    pub origin: Origin,
    /// Its place among the others.
    pub place: Place,
    socket: TcpStream,
    began: Instant,
    /// Milliseconds after `began`.
    progress: AtomicU64,
    login: Mutex<Login>,
    /// What it is secured with, once that is agreed.
    negotiated: OnceLock<Negotiated>,
    /// Why it was cut, if it was.
    ended: OnceLock<Ended>,
    /// The exchanges it has used, and the part its institution had in them.
    used: Mutex<BTreeMap<Slug, Party>>,
    /// What moves on it, for operators.
    pub flow: Flow,
    /// Files that were still open when their channel ended, for the records at the connection's end.
    broken_off: Mutex<Vec<Record>>,
    /// Requests turned down, and since when they are counted.
    turned_down: Mutex<(Instant, usize)>,
    is_spent: AtomicBool,
    questions: AtomicUsize,
    inspected_again: AtomicU64,
    hashed_in_vain: AtomicU64,
}

/// How far the login has come.
#[derive(Debug, Default, Clone)]
pub struct Login {
    /// Once it succeeded.
    pub session: Option<Arc<Session>>,
    /// What was tried in vain, for the records at the connection's end.
    pub refused: Vec<Refused>,
    /// For whom it asked to log in last, in whatever way.
    pub asked: Option<String>,
    /// How many of its requests to log in were rejected.
    pub rejected: usize,
    /// A key was proven and accepted, whether or not that became a session.
    pub proven: bool,
}

/// A key that was offered for a user and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The user name, as the peer gave it.
    pub user: String,
    /// Why.
    pub refusal: LoginRefusal,
    /// The key's fingerprint.
    pub fingerprint: String,
}

/// Why a session was ended from this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The code for its last record.
    pub reason: &'static str,
    /// Whose wish it was.
    pub operator: Option<String>,
}

/// What moves on a connection, as operators see it. Counted where it happens, once per packet: nothing here waits.
#[derive(Debug, Default)]
pub struct Flow {
    /// Files open for writing.
    pub uploads: AtomicUsize,
    /// Files open for reading.
    pub downloads: AtomicUsize,
    /// SFTP bytes that came in.
    pub received: AtomicU64,
    /// SFTP bytes that went out.
    pub sent: AtomicU64,
}

impl Flow {
    /// SFTP bytes came in.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// SFTP bytes went out.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What of a user name that somebody asked for goes into records, in characters.
const USER_MAX: usize = 64;
/// Offers remembered per connection; their number is bounded before, by the limits on probes and attempts.
const REFUSED_MAX: usize = 32;
/// What turned-down requests are counted over.
const REFUSALS_WITHIN: Duration = Duration::from_secs(60);
/// Questions about places of others recorded per connection.
const QUESTIONS_RECORDED: usize = 20;
/// Broken-off transfers remembered per connection.
const BROKEN_OFF_MAX: usize = 256;

impl Connection {
    /// `socket` is a second descriptor of the connection, which began then: shutting it down reaches the first, even where
    /// the library waits.
    pub fn new(id: String, origin: Origin, place: Place, (socket, began): (TcpStream, Instant)) -> Self {
        Self {
            id,
            origin,
            place,
            socket,
            began,
            progress: AtomicU64::new(0),
            login: Mutex::new(Login::default()),
            negotiated: OnceLock::new(),
            ended: OnceLock::new(),
            used: Mutex::default(),
            flow: Flow::default(),
            broken_off: Mutex::default(),
            turned_down: Mutex::new((Instant::now(), 0)),
            is_spent: AtomicBool::new(false),
            questions: AtomicUsize::new(0),
            inspected_again: AtomicU64::new(0),
            hashed_in_vain: AtomicU64::new(0),
        }
    }

    /// Ends it at once.
    pub fn cut(&self) {
        // It may be closed already, which is what we want.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Cuts a session and keeps the reason for its record. False if it was ended before.
    pub fn end(&self, ended: Ended) -> bool {
        let is_first = self.ended.set(ended).is_ok();
        self.cut();
        is_first
    }

    /// Why it was ended from this side. Once that is set, nothing of it may be performed: a socket that is shut down still
    /// hands out what came before.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// A request on an exchange was allowed, by this part.
    pub fn uses(&self, exchange: &Slug, party: Party) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(exchange) != Some(&party) {
            used.insert(exchange.clone(), party);
        }
    }

    /// The exchanges it has used.
    pub fn used(&self) -> BTreeMap<Slug, Party> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long nothing has moved.
    pub fn idle(&self) -> Duration {
        let progress = Duration::from_millis(self.progress.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(progress)
    }

    /// Something of a file or an answer moved.
    pub fn made_progress(&self) {
        self.progress
            .store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request was turned down; more than `limit` within a minute are too many.
    pub fn turned_down(&self, limit: usize) {
        let mut turned_down = self.turned_down.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = &mut *turned_down;
        if since.elapsed() > REFUSALS_WITHIN {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > limit {
            self.is_spent.store(true, Ordering::Relaxed);
        }
    }

    /// Whether too many of its requests were turned down.
    pub fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// So many bytes of unfinished uploads were inspected again when they went on, on all its channels; `more` are added.
    pub fn inspected_again(&self, more: u64) -> u64 {
        self.inspected_again.fetch_add(more, Ordering::Relaxed).saturating_add(more)
    }

    /// So many bytes of complete uploads were read for a digest and not published, on all its channels; `more` are added.
    pub fn hashed_in_vain(&self, more: u64) -> u64 {
        self.hashed_in_vain.fetch_add(more, Ordering::Relaxed).saturating_add(more)
    }

    /// Whether one more question about a place that is not the asker's is worth a record: a few show what was tried.
    pub fn may_record_question(&self) -> bool {
        self.questions.fetch_add(1, Ordering::Relaxed) < QUESTIONS_RECORDED
    }

    /// How far the login has come.
    pub fn login(&self) -> Login {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The algorithms are agreed.
    pub fn secured_with(&self, negotiated: Negotiated) {
        // There is one first key exchange in a connection.
        let _ = self.negotiated.set(negotiated);
    }

    /// What it is secured with, as far as that was heard.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.get()
    }

    /// It asks to log in.
    pub fn asks(&self, user: &str) {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).asked = Some(printable(user, USER_MAX));
    }

    /// A request to log in is rejected.
    pub fn rejects(&self) {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).rejected += 1;
    }

    /// A key was proven and accepted.
    pub fn proves(&self) {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).proven = true;
    }

    /// The login succeeded.
    pub fn logged_in(&self, session: Arc<Session>) {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).session = Some(session);
        self.made_progress();
    }

    /// An offered key was refused.
    pub fn refused(&self, user: &str, refusal: LoginRefusal, fingerprint: String) {
        let refused = Refused { user: printable(user, USER_MAX), refusal, fingerprint };
        let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if login.refused.len() < REFUSED_MAX && !login.refused.contains(&refused) {
            login.refused.push(refused);
        }
    }

    /// A file was still open when its channel ended.
    pub fn breaks_off(&self, record: Record) {
        let mut broken_off = self.broken_off.lock().unwrap_or_else(PoisonError::into_inner);
        if broken_off.len() < BROKEN_OFF_MAX {
            broken_off.push(record);
        }
    }

    /// Takes the records of what broke off.
    pub fn take_broken_off(&self) -> Vec<Record> {
        std::mem::take(&mut *self.broken_off.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it must be cut if nothing happens until then, and why.
    pub fn deadline(&self, limits: &Limits) -> (Instant, &'static str) {
        if self.login().session.is_none() {
            return (self.began + limits.login_grace, "login grace");
        }
        let progress = Duration::from_millis(self.progress.load(Ordering::Relaxed));
        (self.began + progress + limits.idle, "idle")
    }
}
