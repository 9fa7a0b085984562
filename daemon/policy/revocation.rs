//! Whether a session that was let in may go on: asked again for every live session when the configuration changes and when a
//! day begins. Cutting it is `serve::sessions`'s business.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::civil::Date;

use super::account::{Attempt, Institution, LoginRefusal, Person, Who, identify};
use super::agreement::{Exchange, Party, Standing};
use super::path::Slug;

/// Why a session may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Its institution is no longer configured.
    InstitutionRemoved,
    /// Its key is no longer one of the institution's, or is another person's.
    KeyRemoved,
    /// The key's `not-before` was moved ahead.
    KeyNotYetValid,
    /// The key's `not-after` has passed.
    KeyExpired,
    /// The institution's networks no longer hold the peer.
    WrongNetwork,
    /// None of the institution's agreements is in force any more.
    NoOpenExchange,
    /// An exchange that the session has used is no longer configured, or the institution has no part in it any more.
    ExchangeRemoved,
    /// The institution lost a right in an exchange that the session has used.
    PartReduced,
    /// The agreement behind an exchange that the session has used is not in force.
    AgreementEnded,
    /// The person does not take part any more in an exchange that the session has used.
    NotAdmitted,
}

impl Revoked {
    /// The stable code for the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::InstitutionRemoved => "institution-removed",
            Self::KeyRemoved => "key-removed",
            Self::KeyNotYetValid => "key-not-yet-valid",
            Self::KeyExpired => "key-expired",
            Self::WrongNetwork => "wrong-network",
            Self::NoOpenExchange => "no-open-exchange",
            Self::ExchangeRemoved => "exchange-removed",
            Self::PartReduced => "part-reduced",
            Self::AgreementEnded => "agreement-ended",
            Self::NotAdmitted => "not-admitted",
        }
    }
}

/// A session that was let in.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    /// Whose it is.
    pub who: &'a Who,
    /// Where it comes from.
    pub peer: IpAddr,
    /// The exchanges it has used, each with the part that its institution had in it then. The others are judged request by
    /// request: a session that never touched an exchange goes on when that one ends.
    pub used: &'a BTreeMap<Slug, Party>,
}

/// Why a session may not go on today (Europe/Brussels), if it may not.
pub fn revoked(
    institutions: &BTreeMap<Slug, Institution>,
    exchanges: &BTreeMap<Slug, Exchange>,
    live: Live<'_>,
    today: Date,
) -> Option<Revoked> {
    let Live { who, peer, used } = live;
    let open = |exchange: &Exchange| exchange.agreement.standing(today) == Standing::Open;
    let has_open_exchange = |name: &Slug, person: &Person| {
        exchanges.values().any(|exchange| exchange.admits_person(name, person) && open(exchange))
    };
    let attempt = Attempt { user: who.institution.as_str(), fingerprint: &who.fingerprint, peer, today };
    match identify(institutions, has_open_exchange, &attempt) {
        Ok(now) if now == *who => {}
        Ok(_) => return Some(Revoked::KeyRemoved),
        Err(refusal) => return Some(of(refusal)),
    }
    used.iter().find_map(|(name, had)| {
        let Some(exchange) = exchanges.get(name) else { return Some(Revoked::ExchangeRemoved) };
        let Some(has) = exchange.parties.get(&who.institution) else { return Some(Revoked::ExchangeRemoved) };
        if had.may_drop && !has.may_drop || had.may_collect && !has.may_collect {
            return Some(Revoked::PartReduced);
        }
        let person = institutions.get(&who.institution).and_then(|found| found.person(&who.label));
        if !person.is_some_and(|person| exchange.admits_person(&who.institution, person)) {
            return Some(Revoked::NotAdmitted);
        }
        (!open(exchange)).then_some(Revoked::AgreementEnded)
    })
}

fn of(refusal: LoginRefusal) -> Revoked {
    match refusal {
        LoginRefusal::UnknownUser => Revoked::InstitutionRemoved,
        LoginRefusal::KeyNotYetValid => Revoked::KeyNotYetValid,
        LoginRefusal::KeyExpired => Revoked::KeyExpired,
        LoginRefusal::WrongNetwork => Revoked::WrongNetwork,
        LoginRefusal::NoOpenExchange => Revoked::NoOpenExchange,
        LoginRefusal::UnknownKey => Revoked::KeyRemoved,
        // These are about the login itself, which is over: `identify` knows none of them.
        LoginRefusal::AlgorithmNotAccepted
        | LoginRefusal::NotProven
        | LoginRefusal::TooManyFromSource
        | LoginRefusal::TooManyOfInstitution => Revoked::KeyRemoved,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::account::{Person, PersonKey};
    use super::super::agreement::Agreement;
    use super::*;

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    const BOTH: Party = Party { may_drop: true, may_collect: true };

    struct Zone {
        institutions: BTreeMap<Slug, Institution>,
        exchanges: BTreeMap<Slug, Exchange>,
    }

    fn exchange(name: &str, until: Date) -> (Slug, Exchange) {
        let agreement = Agreement { from: date(2026, 1, 1), until: Some(until), ..Agreement::default() };
        let parties = BTreeMap::from([(slug("agency"), BOTH)]);
        (slug(name), Exchange::plain(slug(name), agreement, parties, vec![]))
    }

    fn zone() -> Zone {
        let key = PersonKey {
            fingerprint: "SHA256:an".into(),
            algorithm: "ssh-ed25519".into(),
            not_before: None,
            not_after: Some(date(2026, 9, 30)),
        };
        let agency = Institution {
            name: slug("agency"),
            title: "Agency".into(),
            contact: None,
            phone: None,
            people: vec![Person { label: "an".into(), function: None, keys: vec![key], recipients: vec![] }],
            recipients: vec![],
            networks: vec![],
        };
        Zone {
            institutions: BTreeMap::from([(slug("agency"), agency)]),
            exchanges: BTreeMap::from([
                exchange("used", date(2026, 6, 30)),
                exchange("unused", date(2026, 12, 31)),
            ]),
        }
    }

    fn judged(zone: &Zone, today: Date) -> Option<Revoked> {
        let who = Who { institution: slug("agency"), label: "an".into(), fingerprint: "SHA256:an".into() };
        let used = BTreeMap::from([(slug("used"), BOTH)]);
        let live = Live { who: &who, peer: "192.0.2.1".parse().unwrap(), used: &used };
        revoked(&zone.institutions, &zone.exchanges, live, today)
    }

    fn agency(zone: &mut Zone) -> &mut Institution {
        zone.institutions.get_mut(&slug("agency")).unwrap()
    }

    #[test]
    fn what_a_session_rests_on_ends_it_when_it_goes_and_nothing_else_does() {
        let june = date(2026, 6, 30);
        assert_eq!(judged(&zone(), june), None, "the last day of the agreement counts");
        type Change = fn(&mut Zone);
        let changes: [(Option<Revoked>, Change); 12] = [
            (Some(Revoked::InstitutionRemoved), |zone| zone.institutions.clear()),
            (Some(Revoked::KeyRemoved), |zone| agency(zone).people.clear()),
            (Some(Revoked::KeyRemoved), |zone| agency(zone).people[0].label = "bo".into()),
            (Some(Revoked::KeyExpired), |zone| {
                agency(zone).people[0].keys[0].not_after = Some(date(2026, 6, 29));
            }),
            (Some(Revoked::KeyNotYetValid), |zone| {
                agency(zone).people[0].keys[0].not_before = Some(date(2026, 7, 1));
            }),
            (Some(Revoked::WrongNetwork), |zone| {
                agency(zone).networks = vec!["10.0.0.0/8".parse().unwrap()];
            }),
            (Some(Revoked::NoOpenExchange), |zone| zone.exchanges.clear()),
            (Some(Revoked::ExchangeRemoved), |zone| drop(zone.exchanges.remove(&slug("used")))),
            (Some(Revoked::ExchangeRemoved), |zone| {
                zone.exchanges.get_mut(&slug("used")).unwrap().parties.clear();
            }),
            (Some(Revoked::PartReduced), |zone| {
                let parties = &mut zone.exchanges.get_mut(&slug("used")).unwrap().parties;
                parties.insert(slug("agency"), Party { may_drop: false, may_collect: true });
            }),
            // What it never touched is not its end.
            (None, |zone| drop(zone.exchanges.remove(&slug("unused")))),
            (None, |zone| {
                agency(zone).networks = vec!["192.0.2.0/24".parse().unwrap()];
                agency(zone).title = "Another".into();
            }),
        ];
        for (at, (expected, change)) in changes.into_iter().enumerate() {
            let mut zone = zone();
            change(&mut zone);
            assert_eq!(judged(&zone, june), expected, "change {at}");
        }
    }

    #[test]
    fn the_passing_of_a_day_ends_it() {
        assert_eq!(judged(&zone(), date(2026, 7, 1)), Some(Revoked::AgreementEnded));
        assert_eq!(judged(&zone(), date(2026, 10, 1)), Some(Revoked::KeyExpired));
    }
}
