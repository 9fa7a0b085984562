//! Whether an arrival's file is what was published, and was not here before. `work` computes its SHA-256 itself, from the
//! same bytes that the job gets: what stands in the spool beside it was written by `serve`, which may be taken over. What
//! the digest means is `policy::replay`'s question; nothing of a file is looked at, or handed on, before it is answered.

use std::io::{self, Read, Take};

use sha2::{Digest, Sha256};

use super::deliver::JobError;
use super::receipts::repetition;
use super::worker::End;
use super::{Unfinished, Workshop, record_of};
use crate::host::spool::{Claim, Seen};
use crate::policy::arrival::{Arrival, ArrivalId, State};
use crate::policy::digest::hex;
use crate::policy::incident::Incident;
use crate::policy::reason::Reason;
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::replay::{Marker, Replay, relate};

/// What a file is, by its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// Lower-case hex of their SHA-256.
    pub sha256: String,
}

/// Computes what a file is while somebody reads it.
pub struct Digesting<R> {
    inner: Take<R>,
    hasher: Sha256,
    size: u64,
}

impl<R: Read> Digesting<R> {
    /// Of a file that should have `size` bytes: one byte more is read at most, for a file can be made to look endless.
    pub fn new(inner: R, size: u64) -> Self {
        Self { inner: inner.take(size.saturating_add(1)), hasher: Sha256::new(), size: 0 }
    }

    /// Reads what was left, and says.
    pub fn finish(mut self) -> io::Result<Content> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Content { size: self.size, sha256: hex(&self.hasher.finalize()) })
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }
}

impl Workshop {
    /// Lets a job go on with a file, or says why not. Marks it as seen; a later try of the same arrival meets that mark.
    pub(super) fn admit(&self, arrival: &Arrival, content: &Content) -> Result<(), JobError> {
        if content.size != arrival.size || arrival.sha256.as_ref() != Some(&content.sha256) {
            let told = arrival.sha256.as_deref().unwrap_or("none");
            let detail = format!("published were {} bytes with SHA-256 {told}", arrival.size);
            return Err(self.report(Incident::Substituted, arrival, content, detail));
        }
        let marker =
            Marker { arrival: arrival.id.clone(), received: arrival.received, seen: self.clock.now() };
        match self.spool.mark_seen(&content.sha256, &marker)? {
            Seen::Forged { path, cause } => {
                Err(self.report(Incident::MarkerForged, arrival, content, format!("{path}: {cause}")))
            }
            Seen::By(first) => match relate(&first.arrival, &arrival.id) {
                Replay::First => Ok(()),
                Replay::Again => Err(JobError::Repeated(first.arrival)),
                Replay::Elsewhere(incident) => {
                    Err(self.report(incident, arrival, content, format!("first seen as {}", first.arrival)))
                }
            },
        }
    }

    /// Tells everybody who has to know. The detail is for the operator alone: it goes into `hold.json` and the program log, not
    /// into the access log, whose records about an institution may be shown to it.
    fn report(&self, incident: Incident, arrival: &Arrival, content: &Content, detail: String) -> JobError {
        let reason = match incident {
            Incident::OtherInstitution | Incident::OtherExchange | Incident::MarkerForged => {
                Reason::SameContentElsewhere
            }
            Incident::Substituted => Reason::Damaged,
            // Met in the log, and never by a job.
            Incident::PlaintextRefused
            | Incident::ForeignPath
            | Incident::UnknownKey
            | Incident::LogTampered => Reason::Damaged,
        };
        let record = Record {
            bytes: Some(content.size),
            sha256: Some(content.sha256.clone()),
            detail: Some(incident.code().to_owned()),
            ..record_of(Event::Incident, Outcome::Denied, arrival)
        };
        if let Err(error) = self.log.append(&record.because(&reason)) {
            return error.into();
        }
        tracing::error!(
            arrival = %arrival.id, incident = incident.code(), sha256 = content.sha256, person = arrival.by.label,
            session = arrival.session, detail, "incident: the arrival is held; find out how this file came here"
        );
        self.metrics.incident(incident);
        JobError::Incident { incident, reason, detail }
    }

    /// Ends an arrival that is the same as an earlier one: no job, no delivery, and for its sender no fault.
    pub(super) fn end_repetition(
        &self,
        claim: &Claim<'_>,
        arrival: &Arrival,
        first: ArrivalId,
    ) -> Result<End, Unfinished> {
        let is_held = self.spool.since(State::Hold, &first).is_ok();
        let detail = format!("the same as {first}");
        let reason = Reason::SameContentAgain { arrival: first, is_held };
        let told = repetition(arrival, &self.agreement(arrival), &reason, self.clock.now());
        self.write_receipt(claim, arrival, &told)?;
        let record = Record { detail: Some(detail), ..record_of(Event::Job, Outcome::Ok, arrival) };
        self.log.append(&record.because(&reason))?;
        claim.finish()?;
        Ok(End::Repeated)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Zone;
    use super::*;
    use crate::policy::path::Slug;
    use crate::policy::receipt::Verdict;

    const ENRICH: Option<&str> = Some("enrich");
    const RELAY: Option<&str> = Some("hand-on");

    /// The same payload, sent by another institution.
    fn of_atlas(zone: &Zone, flow: Option<&str>, name: &str, payload: &[u8]) -> Arrival {
        let mut arrival = zone.arrival("pillar-3", flow, name, payload);
        let atlas = Slug::parse("atlas").unwrap();
        let id = arrival.id.to_string().replace(".agii.", ".atlas.");
        arrival.id = ArrivalId::parse(&id).unwrap();
        arrival.by.institution = atlas;
        zone.publish_as(arrival, payload)
    }

    fn delivered(zone: &Zone) -> usize {
        zone.records().iter().filter(|record| record.event == Event::Deliver).count()
    }

    fn incidents(zone: &Zone, incident: Incident) -> (usize, u64) {
        let is_it = |record: &&Record| {
            (record.event, record.detail.as_deref()) == (Event::Incident, Some(incident.code()))
        };
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&zone.workshop.metrics.registry().gather())
            .unwrap();
        let series = format!("dropzone_incidents_total{{kind=\"{}\"}} ", incident.code());
        let counted = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap();
        (zone.records().iter().filter(is_it).count(), counted.parse().unwrap())
    }

    #[test]
    fn the_same_file_again_is_the_same_arrival_whatever_becomes_of_the_first() {
        let zone = Zone::new();
        for (at, (flow, content, first_end)) in [
            (ENRICH, &b"insz\n1\n"[..], End::Done),
            (RELAY, b"end to end", End::Done),
            (ENRICH, b"a,b\n1\n", End::Held(Reason::NotATable { row: 2 })),
        ]
        .into_iter()
        .enumerate()
        {
            let payload = zone.encrypted(content);
            let first = zone.publish("pillar-3", flow, &format!("one{at}.age"), &payload);
            assert_eq!(zone.work(&first), first_end);
            let before = delivered(&zone);
            let again = zone.publish("pillar-3", flow, &format!("two{at}.age"), &payload);
            assert_eq!(zone.work(&again), End::Repeated);
            assert_eq!((zone.state_of(&again), delivered(&zone)), (State::Done, before));
            let receipt = zone.receipt(&again);
            let reason = receipt.reason.unwrap();
            assert_eq!((receipt.verdict, reason.arrival.as_ref()), (Verdict::Repeated, Some(&first.id)));
            assert_eq!(reason.code, "same-content-again");
            assert_eq!(reason.en.contains("is held"), first_end != End::Done, "{}", reason.en);
            assert!(receipt.deliveries.is_empty() && receipt.job.is_none());
            let last = zone.records().pop().unwrap();
            assert_eq!((last.event, last.outcome), (Event::Job, Outcome::Ok));
            assert_eq!(last.detail, Some(format!("the same as {}", first.id)));
        }
        let new = zone.publish("pillar-3", ENRICH, "new.age", &zone.encrypted(b"insz\n1\n"));
        assert_eq!(zone.work(&new), End::Done, "the same list encrypted anew is another file");
    }

    #[test]
    fn a_file_that_another_institution_sent_is_held_and_reported_and_it_does_not_learn_whose_it_is() {
        let zone = Zone::new();
        for flow in [ENRICH, RELAY] {
            let payload = zone.encrypted(b"insz\n1\n");
            let name = flow.unwrap();
            let first = zone.publish("pillar-3", flow, &format!("{name}.age"), &payload);
            assert_eq!(zone.work(&first), End::Done);
            let (before, reported) = (delivered(&zone), incidents(&zone, Incident::OtherInstitution).0);
            let stolen = of_atlas(&zone, flow, &format!("{name}.mine.age"), &payload);
            assert_eq!(zone.work(&stolen), End::Held(Reason::SameContentElsewhere));
            assert_eq!(delivered(&zone), before, "nothing is delivered");
            assert_eq!(incidents(&zone, Incident::OtherInstitution), (reported + 1, reported as u64 + 1));
            let records = zone.records();
            let record = records.iter().rfind(|record| record.event == Event::Incident).unwrap();
            assert_eq!(record.institution.as_deref(), Some("atlas"));
            assert_eq!(record.arrival, Some(stolen.id.to_string()));
            assert_eq!((&record.sha256, &record.session), (&stolen.sha256, &Some(stolen.session.clone())));
            let receipt = zone.receipt(&stolen);
            assert_eq!(receipt.verdict, Verdict::Held);
            for told in [serde_json::to_string(&receipt).unwrap(), serde_json::to_string(record).unwrap()] {
                assert!(!told.contains("agii"), "{told}");
            }
            let note = zone.workshop.spool.hold_note(&stolen.id).unwrap();
            assert!(note.detail.contains(&first.id.to_string()), "the operator learns it: {}", note.detail);
        }
    }

    #[test]
    fn a_file_under_another_agreement_is_held() {
        let zone = Zone::new();
        let payload = zone.encrypted(b"insz\n1\n");
        assert_eq!(zone.work(&zone.publish("pillar-3", ENRICH, "a.age", &payload)), End::Done);
        let elsewhere = zone.publish("pillar-4", ENRICH, "a.age", &payload);
        assert_eq!(zone.work(&elsewhere), End::Held(Reason::SameContentElsewhere));
        assert_eq!(incidents(&zone, Incident::OtherExchange), (1, 1));
    }

    #[test]
    fn a_file_that_is_not_what_was_published_is_held_before_anything_is_done_with_it() {
        let zone = Zone::new();
        let list = zone.encrypted(b"insz\n1\n");
        // Well-formed, for this zone, and of the same length, which age makes vary.
        let mut others = (0..10_000).map(|_| zone.encrypted(b"insz\n2\n"));
        let other = others.find(|other| other.len() == list.len()).unwrap();
        let longer = zone.encrypted(b"insz\n1\n2\n");
        let mut reported = 0;
        for flow in [ENRICH, RELAY] {
            for (what, put) in [
                ("other", &other),
                ("longer", &longer),
                ("cut", &list[..list.len() - 1].to_vec()),
                ("begins alike", &[&list[..], b"x"].concat()),
                ("empty", &Vec::new()),
            ] {
                let name = format!("{what}.{}.age", flow.unwrap());
                let arrival = zone.publish("pillar-3", flow, &name, &list);
                let path = zone.workshop.spool.incoming_path().join(arrival.id.to_string());
                std::fs::write(path.join("payload.age"), put).unwrap();
                assert_eq!(zone.work(&arrival), End::Held(Reason::Damaged), "{what}");
                reported += 1;
                assert_eq!(incidents(&zone, Incident::Substituted), (reported, reported as u64), "{what}");
            }
        }
        assert_eq!(delivered(&zone), 0);
        let good = zone.publish("pillar-3", ENRICH, "good.age", &list);
        assert_eq!(zone.work(&good), End::Done, "what was held so has not used the content up");
    }

    #[test]
    fn a_description_without_a_digest_does_not_switch_the_check_off() {
        let zone = Zone::new();
        for flow in [ENRICH, RELAY] {
            let payload = zone.encrypted(b"insz\n1\n");
            let name = format!("{}.age", flow.unwrap());
            let arrival = Arrival { sha256: None, ..zone.arrival("pillar-3", flow, &name, &payload) };
            let arrival = zone.publish_as(arrival, &payload);
            assert_eq!(zone.work(&arrival), End::Held(Reason::Damaged));
        }
    }

    #[test]
    fn what_is_discarded_may_be_sent_again_and_what_an_operator_allows_goes_on() {
        let zone = Zone::new();
        let spool = &zone.workshop.spool;
        let payload = zone.encrypted(b"insz\n1\n");
        let stolen = of_atlas(&zone, ENRICH, "stolen.age", &payload);
        assert_eq!(zone.work(&stolen), End::Done, "nobody was before it");
        let ours = zone.publish("pillar-3", ENRICH, "ours.age", &payload);
        assert_eq!(zone.work(&ours), End::Held(Reason::SameContentElsewhere));
        let release = || {
            let from = zone.workshop.spool.incoming_path().with_file_name("hold").join(ours.id.to_string());
            std::fs::rename(from, zone.workshop.spool.incoming_path().join(ours.id.to_string())).unwrap();
        };
        release();
        assert_eq!(zone.work(&ours), End::Held(Reason::SameContentElsewhere), "a move alone allows nothing");
        spool.allow_seen(&ours, zone.workshop.clock.now()).unwrap();
        release();
        assert_eq!(zone.work(&ours), End::Done);
        assert!(spool.forget_seen(&ours).unwrap());
        assert_eq!(zone.work(&zone.publish("pillar-3", ENRICH, "again.age", &payload)), End::Done);
    }

    #[test]
    fn a_marker_that_work_did_not_write_holds_the_arrival() {
        let zone = Zone::new();
        let payload = zone.encrypted(b"insz\n1\n");
        let arrival = zone.publish("pillar-3", ENRICH, "a.age", &payload);
        let sha256 = arrival.sha256.clone().unwrap();
        let seen = zone.workshop.spool.incoming_path().with_file_name("seen").join(&sha256[..2]);
        std::fs::create_dir(&seen).unwrap();
        std::fs::write(seen.join(format!("{sha256}.json")), "{}").unwrap();
        assert_eq!(zone.work(&arrival), End::Held(Reason::SameContentElsewhere));
        assert_eq!(incidents(&zone, Incident::MarkerForged), (1, 1));
        assert_eq!(delivered(&zone), 0);
    }

    #[test]
    fn a_try_that_ended_behind_the_marker_is_followed_by_another_of_the_same_arrival() {
        let zone = Zone::new();
        let payload = zone.encrypted(b"insz\n1\n");
        let arrival = zone.publish("pillar-3", ENRICH, "a.age", &payload);
        let sha256 = arrival.sha256.clone().unwrap();
        // As if the process had ended there.
        let content = Content { size: payload.len() as u64, sha256 };
        zone.workshop.admit(&arrival, &content).unwrap();
        assert_eq!(zone.work(&zone.publish("pillar-3", ENRICH, "b.age", &payload)), End::Repeated);
        assert_eq!(zone.work(&arrival), End::Done);
        assert_eq!(delivered(&zone), 2, "one for each receiver");
    }

    #[test]
    fn a_digest_is_of_the_whole_file_also_where_its_reader_stops_early() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
        let whole = Content { size: 300_000, sha256: crate::policy::digest::sha256(&bytes) };
        for taken in [0, 1, 100_000, 300_000] {
            let mut digesting = Digesting::new(&bytes[..], 300_000);
            (&mut digesting).take(taken).read_to_end(&mut Vec::new()).unwrap();
            assert_eq!(digesting.finish().unwrap(), whole, "{taken}");
        }
        assert_eq!(Digesting::new(io::repeat(0), 5).finish().unwrap().size, 6, "too long is told, not read");
    }
}
