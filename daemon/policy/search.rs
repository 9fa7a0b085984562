//! Which records of the access log somebody asks for. Reading them is `host::evidence`'s business.

use jiff::Timestamp;

use super::record::{Event, Line, Outcome};

/// What is asked for; what is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The institution, or the user name of a login that was refused.
    pub institution: Option<String>,
    /// The label of the person's key.
    pub person: Option<String>,
    /// Part of the name of the operator behind it.
    pub operator: Option<String>,
    /// What happened, by its name in the log.
    pub event: Option<Event>,
    /// The exchange.
    pub exchange: Option<String>,
    /// Part of a path or of an arrival's id.
    pub file: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

impl Wanted {
    /// Whether a record is asked for.
    pub fn takes(&self, line: &Line) -> bool {
        let record = &line.record;
        let is = |wanted: &Option<String>, there: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| there == Some(wanted))
        };
        let paths = [&record.path, &record.new_path, &record.arrival];
        let holds =
            |part: &str| paths.iter().any(|path| path.as_ref().is_some_and(|path| path.contains(part)));
        is(&self.institution, record.institution.as_deref())
            && is(&self.person, record.key_label.as_deref())
            && self
                .operator
                .as_deref()
                .is_none_or(|part| record.operator.as_deref().is_some_and(|name| name.contains(part)))
            && is(&self.exchange, record.exchange.as_ref().map(super::path::Slug::as_str))
            && is(&self.session, record.session.as_deref())
            && self.file.as_deref().is_none_or(holds)
            && self.event.is_none_or(|event| event == record.event)
            && self.outcome.is_none_or(|outcome| outcome == record.outcome)
            && self.since.is_none_or(|since| since <= line.time)
            && self.until.is_none_or(|until| line.time < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_takes_what_it_names_and_nothing_else() {
        let line: Line = serde_json::from_str(
            r#"{"time":"2026-11-21T12:00:00Z","node":"n","process":"serve","seq":1,"prev":"","event":"rename",
                "outcome":"denied","session":"s1","institution":"agii","key-label":"an","exchange":"pillar-3",
                "operator":"uid 7, by own account piet",
                "path":"/pillar-3/in/a.tmp","new-path":"/pillar-3/in/a.age","arrival":"2026-x"}"#,
        )
        .unwrap();
        let some = |text: &str| Some(text.to_owned());
        let time = |text: &str| Some(text.parse().unwrap());
        let none = Wanted::default;
        let table = [
            (none(), true),
            (Wanted { institution: some("agii"), ..none() }, true),
            (Wanted { institution: some("agi"), ..none() }, false),
            (Wanted { person: some("an"), ..none() }, true),
            (Wanted { person: some("bo"), ..none() }, false),
            (Wanted { operator: some("piet"), ..none() }, true),
            (Wanted { operator: some("uid 8"), ..none() }, false),
            (Wanted { exchange: some("pillar-3"), ..none() }, true),
            (Wanted { exchange: some("relay"), ..none() }, false),
            (Wanted { session: some("s1"), ..none() }, true),
            (Wanted { session: some("s2"), ..none() }, false),
            (Wanted { file: some("a.tmp"), ..none() }, true),
            (Wanted { file: some("a.age"), ..none() }, true),
            (Wanted { file: some("2026-x"), ..none() }, true),
            (Wanted { file: some("b.age"), ..none() }, false),
            (Wanted { outcome: Some(Outcome::Denied), ..none() }, true),
            (Wanted { outcome: Some(Outcome::Ok), ..none() }, false),
            (Wanted { event: Some(Event::Rename), ..none() }, true),
            (Wanted { event: Some(Event::Collect), ..none() }, false),
            (Wanted { since: time("2026-11-21T12:00:00Z"), ..none() }, true),
            (Wanted { since: time("2026-11-21T12:00:01Z"), ..none() }, false),
            (Wanted { until: time("2026-11-21T12:00:01Z"), ..none() }, true),
            (Wanted { until: time("2026-11-21T12:00:00Z"), ..none() }, false),
            (Wanted { institution: some("agii"), person: some("bo"), ..none() }, false),
        ];
        for (wanted, takes) in table {
            assert_eq!(wanted.takes(&line), takes, "{wanted:?}");
        }
    }
}
