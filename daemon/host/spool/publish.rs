//! How an upload becomes an arrival, and how a refusal leaves its trace. The order is the promise: the file is durable
//! before it moves, it moves whole, and the move is durable before anybody is told.

use jiff::Timestamp;

use super::{ARRIVAL, Attempt, Directory, Partial, Spool, SpoolError, exists_or, to_json, write_durably};
use crate::policy::arrival::{Arrival, State};
use crate::policy::envelope::Envelope;

impl Spool {
    /// Moves a complete upload to `incoming`. The envelope is the proof that it was inspected to its last byte.
    pub fn publish(
        &self,
        partial: Partial,
        envelope: &Envelope,
        arrival: &Arrival,
    ) -> Result<(), SpoolError> {
        if partial.size()? != envelope.length() {
            return Err(SpoolError::Busy(partial.name.to_string()));
        }
        if let Err(error) = partial.sync() {
            // A second sync could succeed without the lost bytes being there: this file is never tried again.
            let _ = partial.remove();
            return Err(error);
        }
        write_durably(&partial.folder, ARRIVAL, &to_json(arrival)?)?;
        let incoming = self.state(State::Incoming);
        partial
            .parent
            .move_to(partial.name.as_str(), incoming, &arrival.id.to_string())
            .map_err(|error| exists_or(error, || arrival.id.to_string(), "publish"))?;
        let synced = incoming.sync().and_then(|()| partial.parent.sync());
        if synced.is_err() {
            // The peer will hear that it failed, so it must not be worked on; a worker that has it already is faster.
            let _ = incoming.move_to(&arrival.id.to_string(), &partial.parent, partial.name.as_str());
            let _ = partial.remove();
        }
        synced.attempt("sync", || arrival.id.to_string())?;
        self.remember(arrival);
        Ok(())
    }

    /// Leaves `refused/‹id›/arrival.json`, from which `work` writes the receipt, and keeps nothing of the content.
    pub fn refuse(&self, partial: Option<Partial>, arrival: &Arrival) -> Result<(), SpoolError> {
        let described = self.describe_refusal(arrival);
        partial.map_or(Ok(()), Partial::remove)?;
        described
    }

    fn describe_refusal(&self, arrival: &Arrival) -> Result<(), SpoolError> {
        let refused = self.state(State::Refused);
        let id = arrival.id.to_string();
        // Not an arrival's id, so no scan sees it before it is complete.
        let unfinished = format!("{id}.new");
        let folder = refused.make(&unfinished).attempt("make", || unfinished.clone())?;
        write_durably(&folder, ARRIVAL, &to_json(arrival)?)?;
        refused
            .move_to(&unfinished, refused, &id)
            .and_then(|()| refused.sync())
            .attempt("publish", || id.clone())
    }

    /// Removes what a crash left half-made: refusals that have not been completed for an hour. A younger one may be another
    /// process's, just being written.
    pub fn sweep_unfinished(&self, now: Timestamp) -> Result<(), SpoolError> {
        let refused = self.state(State::Refused);
        let is_old =
            |name: &str| refused.stat(name).is_ok_and(|facts| facts.st_mtime + 3600 < now.as_second());
        for entry in refused.entries().attempt("list", || State::Refused.as_str().to_owned())? {
            if entry.name.ends_with(".new") && is_old(&entry.name) {
                remove_arrival(refused, &entry.name)?;
            }
        }
        Ok(())
    }
}

/// Removes a folder with the files an arrival can have.
pub(super) fn remove_arrival(parent: &Directory, name: &str) -> Result<(), SpoolError> {
    let folder = parent.directory(name).attempt("open", || name.to_owned())?;
    for entry in folder.entries().attempt("list", || name.to_owned())? {
        folder.remove_if_there(&entry.name).attempt("remove", || format!("{name}/{}", entry.name))?;
    }
    parent.remove_directory(name).attempt("remove", || name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::PAYLOAD;
    use super::*;
    use crate::policy::arrival::tests::arrival_named;
    use crate::policy::envelope::Inspector;

    fn spool_in(folder: &Path) -> Spool {
        let arrival = arrival_named("x");
        Spool::open(folder, &[(arrival.id.institution().clone(), arrival.id.exchange().clone())]).unwrap()
    }

    fn age_file() -> Vec<u8> {
        let recipient = age::x25519::Identity::generate().to_public();
        age::encrypt(&recipient, b"text").unwrap()
    }

    fn inspected(file: &[u8]) -> Envelope {
        let mut inspector = Inspector::default();
        inspector.feed(file).unwrap();
        inspector.seal().unwrap()
    }

    #[test]
    fn what_is_published_lies_whole_in_incoming_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool_in(folder.path());
        let (arrival, file) = (arrival_named("list.csv.age"), age_file());
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let partial = spool.create_partial(institution, exchange, &arrival.name).unwrap();
        partial.write_at(&file, 0).unwrap();
        assert_eq!(spool.list(State::Incoming).unwrap(), []);
        spool.publish(partial, &inspected(&file), &arrival).unwrap();
        assert_eq!(spool.list(State::Incoming).unwrap(), std::slice::from_ref(&arrival.id));
        assert_eq!(spool.arrival(State::Incoming, &arrival.id).unwrap(), arrival);
        assert_eq!(
            std::fs::read(spool.incoming_path().join(arrival.id.to_string()).join(PAYLOAD)).unwrap(),
            file
        );
        assert_eq!(spool.partials_facts(institution, exchange).unwrap().len(), 0);
        assert!(spool.in_progress(institution, exchange, &arrival.name).unwrap().is_some());
    }

    #[test]
    fn an_envelope_of_another_length_publishes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool_in(folder.path());
        let (arrival, file) = (arrival_named("list.csv.age"), age_file());
        let partial =
            spool.create_partial(arrival.id.institution(), arrival.id.exchange(), &arrival.name).unwrap();
        partial.write_at(&file, 0).unwrap();
        partial.write_at(b"grown since", file.len() as u64).unwrap();
        assert!(spool.publish(partial, &inspected(&file), &arrival).is_err());
        assert_eq!(spool.list(State::Incoming).unwrap(), []);
    }

    #[test]
    fn one_session_holds_an_upload() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool_in(folder.path());
        let arrival = arrival_named("list.csv.age");
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let held = spool.create_partial(institution, exchange, &arrival.name).unwrap();
        assert!(matches!(
            spool.create_partial(institution, exchange, &arrival.name),
            Err(SpoolError::Busy(_))
        ));
        assert!(matches!(spool.open_partial(institution, exchange, &arrival.name), Err(SpoolError::Busy(_))));
        drop(held);
        assert!(spool.open_partial(institution, exchange, &arrival.name).unwrap().is_some());
    }

    #[test]
    fn a_refusal_leaves_its_description_and_no_content() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool_in(folder.path());
        let arrival = arrival_named("list.csv.age");
        let partial =
            spool.create_partial(arrival.id.institution(), arrival.id.exchange(), &arrival.name).unwrap();
        partial.write_at(&age_file(), 0).unwrap();
        spool.refuse(Some(partial), &arrival).unwrap();
        assert_eq!(spool.list(State::Refused).unwrap(), std::slice::from_ref(&arrival.id));
        let left = std::fs::read_dir(spool.refused_path().join(arrival.id.to_string())).unwrap().count();
        assert_eq!(left, 1);
        assert_eq!(spool.partials_facts(arrival.id.institution(), arrival.id.exchange()).unwrap().len(), 0);
    }
}
