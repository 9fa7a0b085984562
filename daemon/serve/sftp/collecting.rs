//! Which results their receivers have: what was removed, and, where the exchange says so, what was read to the end and closed.
//! Of each a record says who has it. What was read to the end is marked, and goes when its grace is over, which is
//! `serve::collected`'s business.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::block_in_place;

use super::Sftp;
use super::download::Sent;
use super::handles::Download;
use crate::host::spool::{FileIdentity, Mark, SpoolError};
use crate::policy::agreement::{Collected, Collecting};
use crate::policy::path::{Folder, Name, Place, RemotePath, Slug};
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::retention::Period;

/// Files of which a session remembers what was read by handles that are closed.
const READING_MAX: usize = 64;

/// What was read of results in part. Clients that resume, or read in several parts, open a file more than once.
#[derive(Debug, Default)]
pub(super) struct Reading(VecDeque<(FileIdentity, Arc<Sent>)>);

impl Reading {
    /// Whether all of a file of this size was sent, with what a handle that is closed now sent of it.
    fn is_whole(&mut self, file: FileIdentity, size: u64, sent: &Arc<Sent>) -> bool {
        if let Some((_, before)) = self.0.iter().find(|(known, _)| *known == file) {
            before.absorb(sent);
            return before.is_whole(size);
        }
        if sent.is_whole(size) {
            return true;
        }
        if self.0.len() >= READING_MAX {
            self.0.pop_front();
        }
        self.0.push_back((file, Arc::clone(sent)));
        false
    }
}

impl Sftp {
    /// A file that was open for reading is closed. What was read to the end before it broke off was not closed, and so counts
    /// as not read: its client may not have it.
    pub(super) async fn was_read(&mut self, download: &Download) -> Result<(), Reason> {
        let Ok(Place::File(exchange, Folder::Out, name)) = download.path.place() else { return Ok(()) };
        let Collected { by, grace } = self.collected_in(&exchange);
        match by {
            Collecting::Removal => return Ok(()),
            Collecting::Download => {}
        }
        let file = FileIdentity::of(&download.file).map_err(|error| {
            tracing::error!(%error, "a result that was read cannot be examined");
            Reason::Unavailable
        })?;
        let size = download.facts.size;
        if !self.reading.is_whole(file, size, &download.sent) {
            return Ok(());
        }
        let how = format!("downloaded; it goes {} after that", Period::After(grace));
        self.record_collected(&download.path, &exchange, (size, &how)).await?;
        let by = self.session.who().clone();
        let (session, at) = (self.session.id.clone(), self.server.clock.now());
        let mark = Mark { exchange, name, size, by, session, at, file };
        if let Err(error) = block_in_place(|| self.server.spool.mark_collected(&mark)) {
            tracing::error!(%error, path = mark.path(), "a result was collected and stays, because it could not be marked");
        }
        Ok(())
    }

    /// Who has it, before it goes.
    pub(super) async fn record_collected(
        &self,
        path: &RemotePath,
        exchange: &Slug,
        (size, how): (u64, &str),
    ) -> Result<(), Reason> {
        let record = self.session.record_at(Event::Collect, Outcome::Ok, path, Some(exchange));
        self.record(Record { bytes: Some(size), detail: Some(how.to_owned()), ..record }).await
    }

    /// Removes a result that its receiver has.
    pub(super) fn take_away(&self, exchange: &Slug, name: &Name) -> Result<(), SpoolError> {
        let institution = self.session.institution();
        self.server.spool.collect(institution, exchange, name)?;
        self.server.spool.unmark_collected(institution, exchange, name).or_else(|error| {
            // It speaks of a file that is gone, which who looks at it next will find.
            tracing::warn!(%error, "the mark of a result that was removed stays for now");
            Ok(())
        })
    }

    fn collected_in(&self, exchange: &Slug) -> Collected {
        let config = self.server.config();
        config.exchanges.get(exchange).map_or_else(Collected::default, |exchange| exchange.collected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_of_a_file_is_remembered_over_its_handles_and_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let identity = |name: usize| {
            let path = folder.path().join(name.to_string());
            std::fs::write(&path, "x").unwrap();
            FileIdentity::of(&std::fs::OpenOptions::new().read(true).open(path).unwrap()).unwrap()
        };
        let part = |from, to| Arc::new(Sent::of(from, to));
        let mut reading = Reading::default();
        let (one, other) = (identity(0), identity(1));
        assert!(!reading.is_whole(one, 100, &part(0, 60)));
        assert!(!reading.is_whole(other, 100, &part(60, 40)), "another file's part is no part of it");
        assert!(reading.is_whole(one, 100, &part(60, 40)));
        assert!(reading.is_whole(identity(2), 100, &part(0, 100)), "at once");
        (10..10 + READING_MAX).for_each(|name| assert!(!reading.is_whole(identity(name), 100, &part(0, 1))));
        assert_eq!(reading.0.len(), READING_MAX);
        assert!(!reading.is_whole(other, 100, &part(0, 60)), "what was read long ago is forgotten");
    }
}
