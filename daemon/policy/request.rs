//! Whether an institution may do what a request asks at a place in its tree. The one permission function; performing
//! the request is `serve::sftp`'s business.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::agreement::Exchange;
use super::arrival::is_of_another;
use super::path::{Folder, Name, Place, Slug};
use super::reason::Reason;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// STAT, LSTAT.
    Stat,
    /// OPENDIR.
    List,
    /// OPEN for reading.
    Read,
    /// OPEN for writing, and SETSTAT on what was written.
    Write,
    /// REMOVE.
    Remove,
    /// RENAME, judged once for the old and once for the new name.
    Rename,
}

/// The answer to a request, before anything is touched.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go ahead.
    Allow,
    /// Turn it down.
    Deny(Reason),
}

/// What is known about the one who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The institution of the session.
    pub institution: &'a Slug,
    /// The person's label.
    pub label: &'a str,
    /// Why this person has access.
    pub function: Option<&'a str>,
    /// The calendar day in Europe/Brussels.
    pub today: Date,
}

impl Asker<'_> {
    /// Whether a result in `out` is a colleague's own share, which nobody else is to see, fetch or remove.
    pub fn is_kept_from(&self, exchange: &Exchange, name: &Name) -> bool {
        exchange.has_shares_of_people(self.institution) && is_of_another(name, self.label)
    }
}

/// Exchanges that an institution, or this person of it, has no part in, and exchanges that do not exist, get the same answer.
pub fn judge(
    exchanges: &BTreeMap<Slug, Exchange>,
    asker: Asker<'_>,
    place: &Place,
    action: Action,
) -> Verdict {
    let Some(name) = place.exchange() else {
        return match action {
            Action::Stat | Action::List => Verdict::Allow,
            Action::Read | Action::Write | Action::Remove | Action::Rename => {
                Verdict::Deny(Reason::FolderIsReadOnly)
            }
        };
    };
    let party = exchanges
        .get(name)
        .filter(|exchange| exchange.admits(asker.institution, asker.label, asker.function))
        .and_then(|exchange| exchange.parties.get(asker.institution).map(|party| (exchange, *party)));
    let Some((exchange, party)) = party else {
        return Verdict::Deny(Reason::NoSuchPath);
    };
    if let Err(reason) = exchange.require_open(asker.today) {
        return Verdict::Deny(reason);
    }
    let verdict = match place {
        Place::Root | Place::Exchange(_) | Place::Folder(..) => match action {
            Action::Stat | Action::List => Ok(()),
            Action::Read | Action::Write | Action::Remove | Action::Rename => Err(Reason::FolderIsReadOnly),
        },
        Place::File(_, Folder::Out, name) if asker.is_kept_from(exchange, name) => Err(Reason::NoSuchPath),
        Place::File(_, folder, _) => match (folder, action) {
            (_, Action::List) => Err(Reason::NoSuchPath),
            (_, Action::Stat) => Ok(()),
            (Folder::In, Action::Read) => Err(Reason::DropIsWriteOnly),
            (Folder::In, Action::Write | Action::Remove | Action::Rename) if party.may_drop => Ok(()),
            (Folder::Out, Action::Read | Action::Remove) if party.may_collect => Ok(()),
            (Folder::Receipts, Action::Read) => Ok(()),
            (Folder::In, _) | (Folder::Out, Action::Read | Action::Remove) => Err(Reason::NotYourPart),
            (Folder::Out | Folder::Receipts, Action::Write | Action::Rename) => Err(Reason::FolderIsReadOnly),
            (Folder::Receipts, Action::Remove) => Err(Reason::FolderIsReadOnly),
        },
    };
    match verdict {
        Ok(()) => Verdict::Allow,
        Err(reason) => Verdict::Deny(reason),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::agreement::{Accept, Agreement, Collision, Flow, Job, Party};
    use super::super::arrival::personal_name;
    use super::super::arrival::tests::arrival_named;
    use super::super::outgoing::Receivers;
    use super::super::path::RemotePath;
    use super::super::question::Unasked;
    use super::*;

    fn exchanges() -> BTreeMap<Slug, Exchange> {
        let slug = |text| Slug::parse(text).unwrap();
        let (from, until) = (date(2026, 1, 1), Some(date(2026, 12, 31)));
        let agreement = Agreement { from, until, ..Agreement::default() };
        let parties = BTreeMap::from([
            (slug("dropper"), Party { may_drop: true, may_collect: false }),
            (slug("collector"), Party { may_drop: false, may_collect: true }),
        ]);
        let exchange = Exchange::plain(slug("x"), agreement, parties, vec![]);
        BTreeMap::from([(slug("x"), exchange)])
    }

    fn ask(who: &str, today: Date, path: &str, action: Action) -> Verdict {
        let institution = Slug::parse(who).unwrap();
        match RemotePath::parse(path).unwrap().place() {
            Ok(place) => {
                let asker = Asker { institution: &institution, label: "an", function: None, today };
                judge(&exchanges(), asker, &place, action)
            }
            Err(reason) => Verdict::Deny(reason),
        }
    }

    #[test]
    fn each_party_does_its_own_part_and_nothing_else() {
        let day = date(2026, 6, 1);
        let deny = Verdict::Deny;
        for (who, path, action, expected) in [
            ("dropper", "/x/in/a", Action::Write, Verdict::Allow),
            ("dropper", "/x/in/a", Action::Read, deny(Reason::DropIsWriteOnly)),
            ("dropper", "/x/out/a", Action::Read, deny(Reason::NotYourPart)),
            ("dropper", "/x/receipts/a", Action::Read, Verdict::Allow),
            ("dropper", "/x/receipts/a", Action::Remove, deny(Reason::FolderIsReadOnly)),
            ("collector", "/x/in/a", Action::Write, deny(Reason::NotYourPart)),
            ("collector", "/x/out/a", Action::Remove, Verdict::Allow),
            ("collector", "/x/out/a", Action::Write, deny(Reason::FolderIsReadOnly)),
            ("collector", "/x/out", Action::Remove, deny(Reason::FolderIsReadOnly)),
            ("collector", "/", Action::List, Verdict::Allow),
            ("collector", "/", Action::Write, deny(Reason::FolderIsReadOnly)),
        ] {
            assert_eq!(ask(who, day, path, action), expected, "{who} {action:?} {path}");
        }
    }

    #[test]
    fn a_colleagues_own_share_is_nothing_that_anybody_else_finds() {
        let name = |label| personal_name(&arrival_named("week.csv.age"), label).to_string();
        let institution = Slug::parse("collector").unwrap();
        let people = Receivers::People { by: "counsellor".into(), of: vec![institution.clone()] };
        let mut exchanges = exchanges();
        for (has_shares, found) in [(false, true), (true, false)] {
            if has_shares {
                let (unasked, collision) = (Unasked::Accept, Collision::Reject);
                let accept = Accept { names: vec![], max_size: 1, armored: false, collision, unasked };
                let to = vec![institution.clone()];
                let mut flow = Flow::plain(institution.clone(), vec![], accept, Job::Shape, to);
                flow.deliveries[0].receivers = people.clone();
                exchanges.get_mut(&Slug::parse("x").unwrap()).unwrap().flows.push(flow);
            }
            for (label, action, is_found) in [
                ("an", Action::Read, true),
                ("an", Action::Remove, true),
                ("bo", Action::Read, found),
                ("bo", Action::Remove, found),
                ("bo", Action::Stat, found),
            ] {
                let place = RemotePath::parse(&format!("/x/out/{}", name(label))).unwrap().place().unwrap();
                let today = date(2026, 6, 1);
                let asker = Asker { institution: &institution, label: "an", function: None, today };
                let verdict = judge(&exchanges, asker, &place, action);
                let expected = if is_found { Verdict::Allow } else { Verdict::Deny(Reason::NoSuchPath) };
                assert_eq!(verdict, expected, "{label} {action:?}");
            }
        }
    }

    #[test]
    fn a_stranger_cannot_tell_an_exchange_from_none() {
        let day = date(2026, 6, 1);
        for action in
            [Action::Stat, Action::List, Action::Read, Action::Write, Action::Remove, Action::Rename]
        {
            for path in ["/x", "/x/in", "/x/in/a", "/x/out/a"] {
                let there = ask("stranger", day, path, action);
                let nowhere = ask("stranger", day, &path.replacen("/x", "/y", 1), action);
                assert_eq!(there, nowhere, "{action:?} {path}");
            }
        }
    }

    #[test]
    fn nothing_moves_outside_the_agreement() {
        for day in [date(2025, 12, 31), date(2027, 1, 1)] {
            assert_ne!(ask("dropper", day, "/x/in/a", Action::Write), Verdict::Allow);
            assert_ne!(ask("collector", day, "/x/out/a", Action::Read), Verdict::Allow);
        }
    }
}
