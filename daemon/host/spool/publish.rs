//! How an upload becomes an arrival, and how a refusal leaves its trace. The order is the promise: the file is durable
//! before it moves, it moves whole, and the move is durable before anybody is told.

use super::{ARRIVAL, Attempt, Directory, Partial, Spool, SpoolError, exists_or, to_json, write_durably};
use crate::policy::arrival::{Arrival, State, UNFINISHED};
use crate::policy::envelope::Envelope;

/// An upload that did not become an arrival.
#[derive(Debug)]
pub struct Unpublished {
    /// The upload as it was, where nothing is wrong with it; one that the disk failed is gone.
    pub partial: Option<Partial>,
    /// What went wrong.
    pub error: SpoolError,
}

impl Spool {
    /// Moves a complete upload to `incoming`. The envelope is the proof that it was inspected to its last byte.
    pub fn publish(
        &self,
        mut partial: Partial,
        envelope: &Envelope,
        arrival: &Arrival,
    ) -> Result<(), Box<Unpublished>> {
        match self.make_arrival(&mut partial, envelope, arrival) {
            Ok(()) => {
                self.remember(arrival);
                Ok(())
            }
            // Nothing has moved: its sender can have it published when there is room.
            Err(error) if error.is_full() || !matches!(error, SpoolError::Io { .. }) => {
                Err(Box::new(Unpublished { partial: Some(partial), error }))
            }
            Err(error) => {
                // A second sync could succeed without the lost bytes being there: this file is never tried again.
                if let Err(error) = partial.discard() {
                    tracing::warn!(%error, "a failed upload could not be removed; nobody goes on with it");
                }
                Err(Box::new(Unpublished { partial: None, error }))
            }
        }
    }

    fn make_arrival(
        &self,
        partial: &mut Partial,
        envelope: &Envelope,
        arrival: &Arrival,
    ) -> Result<(), SpoolError> {
        if partial.size()? != envelope.length() {
            return Err(SpoolError::Busy(partial.name.to_string()));
        }
        partial.trim();
        partial.sync_bytes().attempt("sync", || partial.name.to_string())?;
        let description = to_json(arrival)?;
        write_durably(&partial.folder, ARRIVAL, &description)?;
        // A descriptor of its own, from before the move: the system tells each of them once of what it could not write, and one
        // that others sync too might have told them.
        let id = arrival.id.to_string();
        let incoming = self.state(State::Incoming).again().attempt("open", || "incoming".to_owned())?;
        partial
            .parent
            .move_to(partial.name.as_str(), &incoming, &id)
            .map_err(|error| exists_or(error, || id.clone(), "publish"))?;
        incoming.sync().and_then(|()| partial.parent.sync()).attempt("sync", || id.clone()).inspect_err(
            |_| {
                // The peer will hear that it failed, so it must not be worked on; a worker that has it already is faster.
                let _ = incoming.move_to(&id, &partial.parent, partial.name.as_str());
            },
        )
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
        let unfinished = format!("{id}{UNFINISHED}");
        let refused = refused.again().attempt("open", || State::Refused.as_str().to_owned())?;
        let described = || {
            let folder = refused.make(&unfinished).attempt("make", || unfinished.clone())?;
            write_durably(&folder, ARRIVAL, &to_json(arrival)?)?;
            refused
                .move_to(&unfinished, &refused, &id)
                .and_then(|()| refused.sync())
                .attempt("publish", || id.clone())
        };
        described().inspect_err(|_| {
            let _ = remove_arrival(&refused, &unfinished);
        })
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
        let mut partial = spool.create_partial(institution, exchange, &arrival.name).unwrap();
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
        let mut partial =
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
        let mut partial =
            spool.create_partial(arrival.id.institution(), arrival.id.exchange(), &arrival.name).unwrap();
        partial.write_at(&age_file(), 0).unwrap();
        spool.refuse(Some(partial), &arrival).unwrap();
        assert_eq!(spool.list(State::Refused).unwrap(), std::slice::from_ref(&arrival.id));
        let left = std::fs::read_dir(spool.refused_path().join(arrival.id.to_string())).unwrap().count();
        assert_eq!(left, 1);
        assert_eq!(spool.partials_facts(arrival.id.institution(), arrival.id.exchange()).unwrap().len(), 0);
    }
}
