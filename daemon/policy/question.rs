//! Is it for us? Which uploads that is asked about, when, and what becomes of the file by the answer. Only `work` can give
//! one, for it alone holds the zone's identities; how a question gets there is `host::question`'s business.

use super::agreement::{Exchange, Flow, Job};
use super::path::{Name, Slug};
use super::reason::Reason;
use super::upload::{is_temporary, meant_for};

/// What the holder of the identities says about a header, and all that it ever says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One of the zone's identities opens it, and its MAC is right.
    Opens,
    /// None of its recipients is this zone.
    NotForUs,
    /// It is no whole header, or it was altered.
    Unreadable,
}

impl Answer {
    /// All, for metrics.
    pub const ALL: [Self; 3] = [Self::Opens, Self::NotForUs, Self::Unreadable];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Opens => "opens",
            Self::NotForUs => "not-for-us",
            Self::Unreadable => "unreadable",
        }
    }

    /// The one byte that it is between the two processes: a letter, so that neither silence nor zeros are an answer.
    pub fn byte(self) -> u8 {
        match self {
            Self::Opens => b'Y',
            Self::NotForUs => b'N',
            Self::Unreadable => b'U',
        }
    }

    /// The answer that a byte is.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|answer| answer.byte() == byte)
    }
}

/// What becomes of a file while nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// It is taken on its form; `work` finds out when it opens it.
    Accept,
    /// Its sender is told to try again later.
    Refuse,
}

/// What is known of a file that is not refused.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// This zone opens it.
    ForUs,
    /// Nothing yet.
    Unasked,
}

/// Whether an upload under this name is asked about as soon as its header is there, and what holds without an answer. None
/// where it may become a relayed file, which is not for this zone to open: then its final name decides.
pub fn early(exchange: &Exchange, institution: &Slug, name: &Name) -> Option<Unasked> {
    if !is_temporary(name) {
        return exchange.flow_for(institution, name).and_then(when_published);
    }
    let meant = meant_for(name);
    let mut candidates: Vec<&Flow> =
        meant.iter().filter_map(|meant| exchange.flow_for(institution, meant)).collect();
    if candidates.is_empty() {
        candidates = exchange.flows_from(institution).collect();
    }
    let rules: Vec<Unasked> = candidates.into_iter().map(when_published).collect::<Option<_>>()?;
    // It is asked again under the final name, so going on is safe while one of the flows would take it.
    let strict = !rules.is_empty() && rules.iter().all(|rule| *rule == Unasked::Refuse);
    (!rules.is_empty()).then_some(if strict { Unasked::Refuse } else { Unasked::Accept })
}

/// Whether the files of a flow are asked about, and what holds without an answer.
pub fn when_published(flow: &Flow) -> Option<Unasked> {
    match flow.job {
        Job::Relay => None,
        Job::Shape | Job::Query(_) | Job::Command(_) => Some(flow.accept.unasked),
    }
}

/// What the answer, or its absence, means for a file.
pub fn judge(answer: Option<Answer>, unasked: Unasked) -> Result<Known, Reason> {
    match (answer, unasked) {
        (Some(Answer::Opens), _) => Ok(Known::ForUs),
        (Some(Answer::NotForUs), _) => Err(Reason::NotForUs),
        (Some(Answer::Unreadable), _) => Err(Reason::Damaged),
        (None, Unasked::Accept) => Ok(Known::Unasked),
        (None, Unasked::Refuse) => Err(Reason::CannotBeChecked),
    }
}

#[cfg(test)]
mod tests {
    use globset::Glob;
    use jiff::civil::date;

    use super::*;
    use crate::policy::agreement::{Accept, Agreement, Collision, Query};

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn flow(pattern: &str, relay: bool, unasked: Unasked) -> Flow {
        let query = Query { database: slug("register"), sql: String::new(), columns: None };
        let names = vec![Glob::new(pattern).unwrap().compile_matcher()];
        let accept = Accept { names, max_size: 1, armored: false, collision: Collision::Reject, unasked };
        let job = if relay { Job::Relay } else { Job::Query(query) };
        Flow::plain(slug("flow"), vec![slug("agency")], accept, job, vec![])
    }

    fn exchange(flows: Vec<Flow>) -> Exchange {
        let agreement = Agreement { from: date(2026, 1, 1), ..Agreement::default() };
        Exchange::plain(slug("pillar-3"), agreement, [].into(), flows)
    }

    #[test]
    fn what_may_be_relayed_is_not_asked_about_before_it_has_its_final_name() {
        use Unasked::{Accept, Refuse};
        let queries = vec![flow("*.csv.age", false, Refuse), flow("*.age", false, Accept)];
        let mixed = vec![flow("*.csv.age", false, Refuse), flow("*.age", true, Accept)];
        let relay = vec![flow("*", true, Refuse)];
        for (flows, name, early_rule) in [
            (&queries, "a.csv.age", Some(Refuse)),
            (&queries, "a.age", Some(Accept)),
            (&queries, "a.txt", None),
            (&queries, "a.csv.age.filepart", Some(Refuse)),
            // It says nothing of what it is meant for: whichever it becomes, it must be for us.
            (&queries, "upload.tmp", Some(Accept)),
            (&mixed, "a.csv.age", Some(Refuse)),
            (&mixed, "a.age", None),
            (&mixed, "a.csv.age.1a2b3c4d.partial", Some(Refuse)),
            (&mixed, "a.age.part", None),
            (&mixed, "upload.tmp", None),
            (&relay, "a.age", None),
            (&relay, ".in.a.age", None),
        ] {
            let exchange = exchange(flows.clone());
            let name = Name::parse(name).unwrap();
            assert_eq!(early(&exchange, &slug("agency"), &name), early_rule, "{name}");
            assert_eq!(early(&exchange, &slug("stranger"), &name), None, "{name}");
        }
    }

    #[test]
    fn silence_follows_the_rule_and_an_answer_does_not() {
        for unasked in [Unasked::Accept, Unasked::Refuse] {
            assert_eq!(judge(Some(Answer::Opens), unasked), Ok(Known::ForUs));
            assert_eq!(judge(Some(Answer::NotForUs), unasked), Err(Reason::NotForUs));
            assert_eq!(judge(Some(Answer::Unreadable), unasked), Err(Reason::Damaged));
        }
        assert_eq!(judge(None, Unasked::Accept), Ok(Known::Unasked));
        assert_eq!(judge(None, Unasked::Refuse), Err(Reason::CannotBeChecked));
    }

    #[test]
    fn an_answer_is_one_byte_and_most_bytes_are_none() {
        let answers = (0..=u8::MAX).filter_map(Answer::from_byte).count();
        assert_eq!(answers, Answer::ALL.len());
        for answer in Answer::ALL {
            assert_eq!(Answer::from_byte(answer.byte()), Some(answer));
        }
        assert_eq!(Answer::from_byte(0), None);
    }
}
