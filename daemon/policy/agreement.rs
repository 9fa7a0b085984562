//! An exchange and the agreement it rests on: who takes part, from when until when, what may be dropped, and what
//! happens to it. Calendar days are those of Europe/Brussels.

use std::collections::BTreeMap;

use globset::GlobMatcher;
use jiff::civil::Date;

use super::path::{Name, Slug};
use super::question::Unasked;
use super::reason::Reason;

/// One data exchange between institutions, as `exchanges/‹name›.yaml` describes it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The folder that its parties see.
    pub name: Slug,
    /// What it rests on.
    pub agreement: Agreement,
    /// The institutions that take part.
    pub parties: BTreeMap<Slug, Party>,
    /// What happens to an arrival, in order of precedence.
    pub flows: Vec<Flow>,
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
    /// What is done with them.
    pub job: Job,
    /// Who receives the result.
    pub to: Vec<Slug>,
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
    /// Joined with a database.
    Query(Query),
}

impl Job {
    /// As the configuration, receipts and metrics call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Query(_) => "query",
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
        self.flows_from(institution).find(|flow| flow.accept.takes(name))
    }

    /// The flows that this institution feeds.
    pub fn flows_from<'a>(&'a self, institution: &'a Slug) -> impl Iterator<Item = &'a Flow> {
        self.flows.iter().filter(move |flow| flow.from.contains(institution))
    }

    /// The flow of that name.
    pub fn flow(&self, name: &Slug) -> Option<&Flow> {
        self.flows.iter().find(|flow| &flow.name == name)
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
    fn an_agreement_holds_from_its_first_to_its_last_day() {
        let agreement = Agreement {
            reference: "P-1".into(),
            title: "Test".into(),
            legal_basis: "decree".into(),
            from: date(2021, 7, 1),
            until: Some(date(2022, 6, 30)),
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
