//! What a flow gives out, before a row of it is there: its deliveries, who has a share in each, under which name it will lie
//! in whose outbox, and what it is encrypted to. Making the shares is `shape`'s business, delivering them `deliver`'s.

use age::Encryptor;

use super::deliver::{JobError, Order, Progress};
use super::encrypt;
use super::passphrase::Keyring;
use crate::policy::account::Person;
use crate::policy::arrival::{Arrival, delivery_name, personal_name, with_form};
use crate::policy::outgoing::{Lock, Outgoing, Receivers};
use crate::policy::path::{Name, Slug};
use crate::policy::receipt::Receiver;
use crate::policy::rules::Format;
use crate::policy::shape::Owners;

/// All that an arrival's flow gives out.
pub struct Plan<'a> {
    /// In the order of the flow.
    pub parts: Vec<Part<'a>>,
}

/// One delivery of a flow.
pub struct Part<'a> {
    /// As the flow has it.
    pub outgoing: &'a Outgoing,
    /// How it is written down.
    pub form: Format,
    /// Who has a share in it.
    pub shares: Vec<Share<'a>>,
    /// Which share a row belongs to, by the value that says so; not asked where every row is in the one share.
    pub owners: Owners<'a>,
}

/// What some receivers get, all of them the same.
#[derive(Default)]
pub struct Share<'a> {
    /// Those of them who do not have it yet.
    pub targets: Vec<Target<'a>>,
    /// Nothing is delivered of it where no row is theirs.
    pub is_only_with_rows: bool,
}

/// One encrypted file, to be made.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// Whose it is.
    pub receiver: Receiver,
    /// Its name in `out`.
    pub name: Name,
    /// What it is locked with.
    pub lock: Lock,
    /// The `age1…` lines that open it, where they do.
    pub recipients: &'a [String],
}

impl<'a> Plan<'a> {
    /// What is still to be delivered of an arrival: who has a result gets no second one, also where it has been collected since.
    /// `sent` is the form in which the list came.
    pub fn of(order: Order<'a>, (arrival, sent): (&Arrival, Format), progress: &Progress) -> Self {
        let planner = Planner { order, arrival, sent, progress };
        Self { parts: order.flow.deliveries.iter().map(|outgoing| planner.part(outgoing)).collect() }
    }

    /// All files, for one who gives the same to all.
    pub fn targets(&self) -> impl Iterator<Item = &Target<'a>> {
        self.parts.iter().flat_map(|part| &part.shares).flat_map(|share| &share.targets)
    }

    /// Whether everybody gets the result as the job makes it.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(Part::is_raw)
    }

    /// Whether some rows are for some receivers only.
    pub fn is_split(&self) -> bool {
        self.parts.iter().any(|part| part.outgoing.receivers.by().is_some())
    }

    /// Whose rows are in each delivery that is split: the place and name of the column that says so, and who they are. What
    /// has no such column fails when it is shaped.
    pub fn owners<'s>(&'s self, columns: &[String]) -> Vec<(usize, &'a str, &'s Owners<'a>)> {
        let place = |by: &str| columns.iter().position(|column| column == by);
        let of = |part: &'s Part<'a>| {
            let by = part.outgoing.receivers.by()?;
            Some((place(by)?, by, &part.owners))
        };
        self.parts.iter().filter_map(of).collect()
    }

    /// Whether a delivery has a pseudonym.
    pub fn has_pseudonym(&self) -> bool {
        self.parts.iter().any(|part| part.outgoing.has_pseudonym())
    }
}

impl Part<'_> {
    /// Whether its receivers get the result's own bytes.
    pub fn is_raw(&self) -> bool {
        self.outgoing.is_whole() && self.form == Format::Csv
    }
}

struct Planner<'a, 'p> {
    order: Order<'a>,
    arrival: &'p Arrival,
    sent: Format,
    progress: &'p Progress,
}

impl<'a> Planner<'a, '_> {
    fn part(&self, outgoing: &'a Outgoing) -> Part<'a> {
        let (mut shares, mut owners) = (Vec::new(), Owners::default());
        match &outgoing.receivers {
            Receivers::All(to) => shares.push(self.share(to.iter().map(|to| self.institution(outgoing, to)))),
            Receivers::Split { among, .. } => {
                let receivers = outgoing.institutions();
                for (value, to) in among {
                    let whose = receivers.iter().position(|receiver| *receiver == to);
                    whose.into_iter().for_each(|whose| owners.add(value, whose));
                }
                shares.extend(receivers.into_iter().map(|to| self.share([self.institution(outgoing, to)])));
            }
            Receivers::People { of, .. } => {
                for (institution, person) in of.iter().flat_map(|of| self.people(of)) {
                    owners.add(&person.label, shares.len());
                    let share = self.share([self.person(outgoing, institution, person)]);
                    shares.push(Share { is_only_with_rows: true, ..share });
                }
            }
        }
        Part { outgoing, form: outgoing.format.unwrap_or(self.sent), shares, owners }
    }

    fn share(&self, targets: impl IntoIterator<Item = Target<'a>>) -> Share<'a> {
        let is_open = |target: &Target<'a>| !self.progress.has_delivered(&target.receiver);
        Share { targets: targets.into_iter().filter(is_open).collect(), is_only_with_rows: false }
    }

    fn institution(&self, outgoing: &Outgoing, to: &'a Slug) -> Target<'a> {
        let institution = self.order.config.institutions.get(to);
        let recipients = institution.map_or(&[][..], |institution| &institution.recipients);
        self.target(outgoing, (Receiver::from(to.clone()), recipients), delivery_name(self.arrival))
    }

    fn person(&self, outgoing: &Outgoing, of: &'a Slug, person: &'a Person) -> Target<'a> {
        let receiver = Receiver { institution: of.clone(), person: Some(person.label.clone()) };
        self.target(outgoing, (receiver, &person.recipients), personal_name(self.arrival, &person.label))
    }

    fn target(
        &self,
        outgoing: &Outgoing,
        (receiver, recipients): (Receiver, &'a [String]),
        name: Name,
    ) -> Target<'a> {
        let name = match outgoing.format {
            Some(Format::Csv) => with_form(&name, "csv"),
            Some(Format::Xlsx) => with_form(&name, "xlsx"),
            None => name,
        };
        Target { receiver, name, lock: outgoing.lock, recipients }
    }

    /// The people of an institution who can have a share: they take part in the exchange, and have a recipient of their own.
    /// A row of anybody else is nobody's.
    fn people(&self, of: &'a Slug) -> impl Iterator<Item = (&'a Slug, &'a Person)> + use<'a> {
        let exchange = self.order.exchange;
        let institution = self.order.config.institutions.get(of);
        let people = institution.into_iter().flat_map(|institution| &institution.people);
        people
            .filter(|person| !person.recipients.is_empty())
            .filter(move |person| exchange.admits_person(of, person))
            .map(move |person| (of, person))
    }
}

/// What a file is encrypted with, chosen in this one place.
pub fn encryptor(target: &Target<'_>, keyring: &Keyring) -> Result<Encryptor, JobError> {
    match target.lock {
        Lock::Recipients => Ok(encrypt::begin(target.recipients)?),
        Lock::Passphrase => Ok(keyring.begin(&target.receiver)?),
    }
}
