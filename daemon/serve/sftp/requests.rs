//! The cold requests: decide by `policy::request`, perform, record, answer. What would open, change or list something is
//! recorded when it is turned down as well; questions about names that need not exist, which clients ask all the time,
//! are not, nor is what does not exist in the protocol. Attributes are `attributes`' business.

use std::sync::Arc;

use russh_sftp::protocol::{File, FileAttributes, OpenFlags, Packet};
use tokio::task::block_in_place;

use super::Sftp;
use super::decode::cold_request;
use super::handles::{Download, Entry, Open};
use super::reply::{Answer, Fault};
use super::tree::unavailable;
use crate::host::metrics::Limit;
use crate::policy::path::{Folder, Name, Place, RemotePath, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::request::{Action, Asker, Verdict, judge};

/// Entries per READDIR, as OpenSSH's server has it.
const ENTRIES_PER_ANSWER: usize = 100;
/// Entries of a session's open listings that wait to be asked for, about 100 bytes each; one listing may be longer.
const ENTRIES_MAX: usize = 100_000;

impl Sftp {
    /// The table of cold requests: packet, handler.
    pub(super) async fn answer_cold(&mut self, frame: &[u8]) -> Result<Answer, Fault> {
        match cold_request(frame)? {
            Packet::Open(open) => self.open(&open.filename, open.pflags, &open.attrs).await,
            Packet::Close(close) => self.close(close.handle.as_bytes()).await,
            Packet::Lstat(request) => self.stat(&request.path).await,
            Packet::Stat(request) => self.stat(&request.path).await,
            Packet::Fstat(request) => self.fstat(request.handle.as_bytes()),
            Packet::SetStat(request) => self.set_stat(&request.path, &request.attrs).await,
            Packet::FSetStat(request) => self.fset_stat(request.handle.as_bytes(), &request.attrs).await,
            Packet::OpenDir(request) => self.open_dir(&request.path).await,
            Packet::ReadDir(request) => self.read_dir(request.handle.as_bytes()),
            Packet::Remove(request) => self.remove(&request.filename).await,
            Packet::Rename(request) => self.rename(&request.oldpath, &request.newpath).await,
            Packet::RealPath(request) => real_path(&request.path),
            Packet::MkDir(request) => self.unsupported(&request.path).await,
            Packet::RmDir(request) => self.unsupported(&request.path).await,
            Packet::ReadLink(request) => self.unsupported(&request.path).await,
            Packet::Symlink(request) => self.unsupported(&request.linkpath).await,
            Packet::Extended(request) => self.extended(&request.request, &request.data).await,
            // Answers are no requests; INIT, READ and WRITE never get here.
            _ => Err(Reason::Unsupported.into()),
        }
    }

    /// Parses a path and judges an action on it.
    pub(super) fn resolve(&self, path: &str, action: Action) -> Result<(RemotePath, Place), Reason> {
        let path = RemotePath::parse(path)?;
        let place = path.place()?;
        let (config, who) = (self.server.config(), self.session.who());
        let asker = Asker {
            institution: &who.institution,
            label: &who.label,
            function: config.function_of(who),
            today: self.server.clock.today(),
        };
        match judge(&config.exchanges, asker, &place, action) {
            Verdict::Allow => {
                let used = place.exchange().and_then(|name| config.exchanges.get(name));
                if let Some(exchange) = used
                    && let Some(party) = exchange.parties.get(asker.institution)
                {
                    self.connection.uses(&exchange.name, *party);
                }
                Ok((path, place))
            }
            Verdict::Deny(reason) => Err(reason),
        }
    }

    /// The same, and a denial is recorded.
    pub(super) async fn resolve_recorded(
        &self,
        path: &str,
        action: Action,
        event: Event,
    ) -> Result<(RemotePath, Place), Reason> {
        match self.resolve(path, action) {
            Ok(resolved) => Ok(resolved),
            Err(reason) => Err(self.denied(path, event, reason).await),
        }
    }

    /// Records a denial and hands its reason back; without a record the answer is that the server is not available.
    pub(super) async fn denied(&self, path: &str, event: Event, reason: Reason) -> Reason {
        if reason == Reason::TooManyOpen {
            self.server.metrics.limit_reached(Limit::Handles);
        }
        self.turned_down();
        self.server.metrics.request_denied(&reason);
        // What is no path is shown as far as it helps to see what was tried.
        let excerpt = || format!("{:?}", path.chars().take(200).collect::<String>());
        let shown = RemotePath::parse(path).map_or_else(|_| excerpt(), |path| path.to_string());
        let outcome = if reason.is_passing() { Outcome::Failed } else { Outcome::Denied };
        let record = Record { path: Some(shown), ..self.session.record(event, outcome).because(&reason) };
        self.record(record).await.err().unwrap_or(reason)
    }

    /// One more for the count of what a session may have turned down.
    pub(super) fn turned_down(&self) {
        self.connection.turned_down(self.server.config().machine.limits.refusals_per_session);
    }

    /// No record, no reply.
    pub(super) async fn record(&self, record: Record) -> Result<(), Reason> {
        self.server.log.append_async(record).await.map_err(|error| {
            tracing::error!(%error, "the access log failed");
            Reason::Unavailable
        })
    }

    async fn open(
        &mut self,
        path: &str,
        flags: OpenFlags,
        attributes: &FileAttributes,
    ) -> Result<Answer, Fault> {
        let writes = OpenFlags::WRITE | OpenFlags::APPEND | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let (action, event) = if flags.intersects(writes) {
            (Action::Write, Event::OpenWrite)
        } else {
            (Action::Read, Event::OpenRead)
        };
        let (remote, place) = self.resolve_recorded(path, action, event).await?;
        if self.handles.are_full() {
            return Err(self.denied(path, event, Reason::TooManyOpen).await.into());
        }
        match (place, action) {
            (Place::File(exchange, Folder::In, name), Action::Write) => {
                self.open_upload(&exchange, &name, flags, attributes).await
            }
            (Place::File(exchange, folder, name), Action::Read) => {
                self.open_download(remote, exchange, folder, &name).await
            }
            _ => Err(Reason::NoSuchPath.into()),
        }
    }

    async fn open_download(
        &mut self,
        path: RemotePath,
        exchange: Slug,
        folder: Folder,
        name: &Name,
    ) -> Result<Answer, Fault> {
        let (spool, institution) = (&self.server.spool, self.session.institution());
        let opened = block_in_place(|| {
            let facts = spool.file_facts(institution, &exchange, folder, name)?;
            Ok(facts.map(|facts| (spool.open_file(institution, &exchange, folder, name), facts)))
        });
        let (file, facts) = match opened.map_err(|error| unavailable(&error))? {
            Some((Ok(file), facts)) => (file, facts),
            Some((Err(error), _)) if !error.is_not_found() => return Err(unavailable(&error).into()),
            Some((Err(_), _)) | None => {
                return Err(self.denied(&path.to_string(), Event::OpenRead, Reason::NoSuchPath).await.into());
            }
        };
        let mut record = self.session.record_at(Event::OpenRead, Outcome::Ok, &path, Some(&exchange));
        record.bytes = Some(facts.size);
        self.record(record).await?;
        let (file, sent) = (Arc::new(file), Arc::default());
        let download = Download { file, path, exchange, facts, sent };
        Ok(Answer::Handle(self.handles.insert(Open::Download(download))))
    }

    async fn close(&mut self, handle: &[u8]) -> Result<Answer, Fault> {
        match self.handles.remove(handle) {
            None => Err(Fault::BadMessage),
            Some(Open::Listing(_)) => Ok(Answer::Done),
            Some(Open::Upload(upload)) => self.close_upload(*upload).await,
            Some(Open::Download(download)) => {
                let sent = download.sent.bytes();
                self.server.metrics.sent(self.session.institution(), sent);
                let whole =
                    if download.sent.is_whole(download.facts.size) { "sent whole" } else { "sent in part" };
                let record = self.session.record_at(
                    Event::Close,
                    Outcome::Ok,
                    &download.path,
                    Some(&download.exchange),
                );
                self.record(Record { bytes: Some(sent), detail: Some(whole.to_owned()), ..record }).await?;
                self.was_read(&download).await?;
                Ok(Answer::Done)
            }
        }
    }

    async fn open_dir(&mut self, path: &str) -> Result<Answer, Fault> {
        let (remote, place) = self.resolve_recorded(path, Action::List, Event::List).await?;
        if self.handles.are_full() {
            return Err(self.denied(path, Event::List, Reason::TooManyOpen).await.into());
        }
        let entries = block_in_place(|| self.entries(&place))?;
        let others = self.handles.entries_left();
        if others > 0 && others + entries.len() > ENTRIES_MAX {
            return Err(self.denied(path, Event::List, Reason::TooManyOpen).await.into());
        }
        self.record(self.session.record_at(Event::List, Outcome::Ok, &remote, place.exchange())).await?;
        Ok(Answer::Handle(self.handles.insert(Open::Listing(entries.into_iter()))))
    }

    fn read_dir(&mut self, handle: &[u8]) -> Result<Answer, Fault> {
        let Some(Open::Listing(entries)) = self.handles.find(handle) else { return Err(Fault::BadMessage) };
        let batch: Vec<Entry> = entries.by_ref().take(ENTRIES_PER_ANSWER).collect();
        if batch.is_empty() {
            return Ok(Answer::End);
        }
        Ok(Answer::Names(batch.into_iter().map(|entry| self.shown(entry)).collect()))
    }

    /// An operation that no drop zone has.
    async fn unsupported(&self, path: &str) -> Result<Answer, Fault> {
        Err(self.denied(path, Event::Other, Reason::Unsupported).await.into())
    }
}

/// The canonical form of a path, whether or not anything is there.
pub(super) fn real_path(path: &str) -> Result<Answer, Fault> {
    let path = RemotePath::parse(path)?.to_string();
    Ok(Answer::Names(vec![File { longname: path.clone(), filename: path, attrs: FileAttributes::default() }]))
}
