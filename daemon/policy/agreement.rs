//! An exchange and the agreement it rests on: who takes part, from when until when, what may be dropped, and what
//! happens to it. Calendar days are those of Europe/Brussels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobMatcher;
use jiff::civil::Date;

use super::account::{Institution, Person};
use super::insz;
use super::outgoing::Outgoing;
use super::path::{Name, Slug};
use super::question::Unasked;
use super::reason::Reason;
use super::rhythm::Rhythm;
use super::rules::TableRules;

/// How long after its end an agreement's results and pseudonym key are kept, where it does not say.
const AFTER_END: Duration = Duration::from_secs(14 * 86_400);
/// How long a collected result is kept, where the exchange does not say.
const COLLECTED_GRACE: Duration = Duration::from_secs(3_600);

/// One data exchange between institutions, as `exchanges/‹name›.yaml` describes it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The folder that its parties see.
    pub name: Slug,
    /// What it rests on.
    pub agreement: Agreement,
    /// The institutions that take part.
    pub parties: BTreeMap<Slug, Party>,
    /// Which of their people take part; an institution that is not here takes part with everybody.
    pub circles: BTreeMap<Slug, Circle>,
    /// The party that files put into `handoff` on this machine count as dropped by.
    pub handoff: Option<Slug>,
    /// When a result counts as collected.
    pub collected: Collected,
    /// What happens to an arrival, in order of precedence.
    pub flows: Vec<Flow>,
}

/// Which people of an institution take part in an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Circle {
    /// No more than so many.
    pub at_most: Option<usize>,
    /// These only, by label.
    pub only: Option<BTreeSet<String>>,
    /// People with one of these functions only.
    pub functions: Option<BTreeSet<String>>,
}

/// When a result counts as collected, and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// By what.
    pub by: Collecting,
    /// How long it stays after a complete download.
    pub grace: Duration,
}

/// What counts as having collected a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collecting {
    /// Its receiver removed it.
    #[default]
    Removal,
    /// Its receiver downloaded it to the end, or removed it.
    Download,
}

impl Default for Collected {
    fn default() -> Self {
        Self { by: Collecting::Removal, grace: COLLECTED_GRACE }
    }
}

/// The published protocol (decree of 18 July 2008, article 8 §1) behind an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The published protocol's own reference.
    pub reference: String,
    /// Its title.
    pub title: String,
    /// The legal basis it names.
    pub legal_basis: String,
    /// First day in force.
    pub from: Date,
    /// Last day in force; none for an agreement without end date.
    pub until: Option<Date>,
    /// Months of notice.
    pub notice: Option<u16>,
    /// Who answers for it where the zone is hosted.
    pub contact: Option<String>,
    /// Within which time whom incidents are reported to.
    pub incidents: Option<ReportBy>,
    /// How long after `until` results that nobody collected and the pseudonym key are kept.
    pub after_end: Duration,
    /// How long the parties may keep the data, in words.
    pub parties_keep: Option<String>,
}

/// The duty to report incidents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportBy {
    /// From the incident.
    pub within: Duration,
    /// To whom.
    pub to: String,
}

impl Default for Agreement {
    fn default() -> Self {
        Self {
            reference: String::new(),
            title: String::new(),
            legal_basis: String::new(),
            from: Date::MIN,
            until: None,
            notice: None,
            contact: None,
            incidents: None,
            after_end: AFTER_END,
            parties_keep: None,
        }
    }
}

/// What an institution may do in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Party {
    /// Put files into `in`.
    pub may_drop: bool,
    /// Fetch from `out` and remove there.
    pub may_collect: bool,
}

/// What happens to the arrivals of some institutions.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Named in records and receipts.
    pub name: Slug,
    /// Whose arrivals.
    pub from: Vec<Slug>,
    /// Which arrivals.
    pub accept: Accept,
    /// How often.
    pub rhythm: Option<Rhythm>,
    /// What the list must be.
    pub input: Option<TableRules>,
    /// What becomes of a list some rows of which are not so.
    pub on_fault: OnFault,
    /// What is done with them.
    pub job: Job,
    /// What the result must be.
    pub output: Option<TableRules>,
    /// What leaves for whom.
    pub deliveries: Vec<Outgoing>,
    /// Every institution that receives something, in the order of `deliveries`.
    pub to: Vec<Slug>,
    /// Receivers that nothing can be encrypted to yet: until there are none, nothing may be dropped.
    pub unready: Vec<Slug>,
}

/// What becomes of a list with rows that break its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFault {
    /// All of it is held.
    #[default]
    Hold,
    /// Those rows are left out, and reported.
    Report,
}

impl Flow {
    /// A flow without rules on content or rhythm, all of whose result goes to each of `to`.
    pub fn plain(name: Slug, from: Vec<Slug>, accept: Accept, job: Job, to: Vec<Slug>) -> Self {
        Self {
            name,
            from,
            accept,
            rhythm: None,
            input: None,
            on_fault: OnFault::Hold,
            job,
            output: None,
            deliveries: vec![Outgoing::plain(to.clone())],
            to,
            unready: Vec::new(),
        }
    }

    /// Names are in listings and records that nobody encrypts, and go on to results: where no cell may hold a national
    /// number, no name may.
    fn forbids(&self, name: &Name) -> bool {
        let mut rules = self.input.iter().chain(&self.output);
        rules.any(|rules| rules.forbids_insz) && insz::is_held_by(name.as_str())
    }
}

/// What may be dropped.
#[derive(Debug, Clone)]
pub struct Accept {
    /// Patterns a final name must match, one of them; empty accepts every name.
    pub names: Vec<GlobMatcher>,
    /// Largest encrypted file, in bytes.
    pub max_size: u64,
    /// Whether age's text armor is accepted beside the binary form.
    pub armored: bool,
    /// What becomes of other content under the name of an arrival in progress. The same content is no collision.
    pub collision: Collision,
    /// What becomes of a file while nobody can say whether it is for this zone.
    pub unasked: Unasked,
}

/// What becomes of an upload whose name an arrival in progress has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collision {
    /// It is refused.
    #[default]
    Reject,
    /// It becomes an arrival of its own, under a name made different.
    Version,
}

/// What is done with an arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Handed on unchanged, end to end: this zone cannot read it.
    Relay,
    /// The list itself is the result.
    Shape,
    /// Joined with a database.
    Query(Query),
    /// Given to a program.
    Command(Command),
}

impl Job {
    /// As the configuration, receipts and metrics call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Shape => "shape",
            Self::Query(_) => "query",
            Self::Command(_) => "command",
        }
    }
}

/// A SQL query over the table `arrival` and one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which of the machine's databases, by its name in `dropzone.yaml`.
    pub database: Slug,
    /// One SELECT; end it with `ORDER BY arrival.rowid` where the planner could choose another order.
    pub sql: String,
    /// The agreed result columns, in order; any other set holds the arrival. None leaves them to the query.
    pub columns: Option<Vec<String>>,
}

/// A program that reads rows and writes rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program's absolute path and its arguments.
    pub argv: Vec<String>,
    /// Whether it may use the network.
    pub network: bool,
    /// What it may read beside itself and the system's libraries; absolute.
    pub reads: Vec<PathBuf>,
    /// The agreed result columns, in order; any other set holds the arrival.
    pub columns: Option<Vec<String>>,
}

/// Whether an agreement is in force.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not begun.
    Ahead {
        /// First day in force.
        from: Date,
    },
    /// In force.
    Open,
    /// Over.
    Ended {
        /// Last day in force.
        on: Date,
    },
}

impl Agreement {
    /// First and last day count as in force.
    pub fn standing(&self, today: Date) -> Standing {
        match self.until {
            Some(on) if today > on => Standing::Ended { on },
            _ if today < self.from => Standing::Ahead { from: self.from },
            _ => Standing::Open,
        }
    }
}

impl Exchange {
    /// An exchange in which everybody of each party takes part and results count as collected when they are removed.
    pub fn plain(name: Slug, agreement: Agreement, parties: BTreeMap<Slug, Party>, flows: Vec<Flow>) -> Self {
        let (circles, handoff, collected) = Default::default();
        Self { name, agreement, parties, circles, handoff, collected, flows }
    }

    /// Fails with the reason why nothing may move today.
    pub fn require_open(&self, today: Date) -> Result<(), Reason> {
        match self.agreement.standing(today) {
            Standing::Open => Ok(()),
            Standing::Ahead { from } => Err(Reason::AgreementNotBegun { from }),
            Standing::Ended { on } => Err(Reason::AgreementEnded { on }),
        }
    }

    /// The flow that an arrival of this institution under this final name belongs to.
    pub fn flow_for<'a>(&'a self, institution: &'a Slug, name: &Name) -> Option<&'a Flow> {
        self.flows_from(institution).find(|flow| flow.accept.takes(name)).filter(|flow| !flow.forbids(name))
    }

    /// The flow that takes an arrival of this institution under this final name, or why none does.
    pub fn flow_taking<'a>(&'a self, institution: &'a Slug, name: &Name) -> Result<&'a Flow, Reason> {
        match self.flow_for(institution, name) {
            None => Err(Reason::NameNotAccepted),
            Some(flow) if !flow.unready.is_empty() => Err(Reason::FlowNotReady),
            Some(flow) => Ok(flow),
        }
    }

    /// The flows that this institution feeds.
    pub fn flows_from<'a>(&'a self, institution: &'a Slug) -> impl Iterator<Item = &'a Flow> {
        self.flows.iter().filter(move |flow| flow.from.contains(institution))
    }

    /// The flow of that name.
    pub fn flow(&self, name: &Slug) -> Option<&Flow> {
        self.flows.iter().find(|flow| &flow.name == name)
    }

    /// Whether a person of an institution, whose function is this, takes part.
    pub fn admits(&self, institution: &Slug, label: &str, function: Option<&str>) -> bool {
        let circle = self.circles.get(institution);
        self.parties.contains_key(institution) && circle.is_none_or(|circle| circle.admits(label, function))
    }

    /// The same, of a person whose description is at hand.
    pub fn admits_person(&self, institution: &Slug, person: &Person) -> bool {
        self.admits(institution, &person.label, person.function.as_deref())
    }

    /// The people of an institution who have a key and take part.
    pub fn people_of<'a>(&self, institution: &'a Institution) -> Vec<&'a Person> {
        let takes_part =
            |person: &&Person| !person.keys.is_empty() && self.admits_person(&institution.name, person);
        institution.people.iter().filter(takes_part).collect()
    }
}

impl Circle {
    /// Whether it holds a person: who must be named where people are, and have one of the functions where these are.
    pub fn admits(&self, label: &str, function: Option<&str>) -> bool {
        let is_named = self.only.as_ref().is_none_or(|only| only.contains(label));
        let has_function = |functions: &BTreeSet<String>| function.is_some_and(|one| functions.contains(one));
        is_named && self.functions.as_ref().is_none_or(has_function)
    }
}

impl Accept {
    /// Whether a final name matches.
    pub fn takes(&self, name: &Name) -> bool {
        self.names.is_empty() || self.names.iter().any(|pattern| pattern.is_match(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_name_that_holds_a_national_number_belongs_to_no_flow_whose_rules_forbid_one() {
        let slug = |text: &str| Slug::parse(text).unwrap();
        let flow = |name: &str, pattern: &str| {
            let accept = Accept {
                names: vec![globset::Glob::new(pattern).unwrap().compile_matcher()],
                max_size: 1,
                armored: false,
                collision: Collision::default(),
                unasked: Unasked::Accept,
            };
            Flow::plain(slug(name), vec![slug("agii")], accept, Job::Shape, Vec::new())
        };
        let rules = TableRules {
            name: "list".into(),
            formats: Vec::new(),
            columns: Vec::new(),
            is_template: false,
            conditions: Vec::new(),
            forbids_insz: true,
        };
        let input = Flow { input: Some(rules.clone()), ..flow("in", "in*") };
        let output = Flow { output: Some(rules), ..flow("out", "out*") };
        let exchange = Exchange {
            name: slug("e"),
            agreement: Agreement::default(),
            parties: BTreeMap::new(),
            collected: Collected::default(),
            circles: BTreeMap::new(),
            handoff: None,
            flows: vec![input, output, flow("any", "*")],
        };
        let agii = slug("agii");
        let found =
            |name: &str| exchange.flow_for(&agii, &Name::parse(name).unwrap()).map(|flow| flow.name.as_str());
        assert_eq!((found("in 85073003328.csv.age"), found("out-85.07.30-033.28.age")), (None, None));
        assert_eq!((found("in 85073003329.csv.age"), found("out.age")), (Some("in"), Some("out")));
        assert_eq!(found("85073003328.age"), Some("any"), "nothing forbids it there");
    }

    #[test]
    fn an_agreement_holds_from_its_first_to_its_last_day() {
        let agreement = Agreement {
            reference: "P-1".into(),
            title: "Test".into(),
            legal_basis: "decree".into(),
            from: date(2021, 7, 1),
            until: Some(date(2022, 6, 30)),
            ..Agreement::default()
        };
        for (day, standing) in [
            (date(2021, 6, 30), Standing::Ahead { from: date(2021, 7, 1) }),
            (date(2021, 7, 1), Standing::Open),
            (date(2022, 6, 30), Standing::Open),
            (date(2022, 7, 1), Standing::Ended { on: date(2022, 6, 30) }),
        ] {
            assert_eq!(agreement.standing(day), standing, "{day}");
        }
        let endless = Agreement { until: None, ..agreement };
        assert_eq!(endless.standing(date(2999, 1, 1)), Standing::Open);
    }
}
