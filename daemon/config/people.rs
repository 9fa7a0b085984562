//! Whether more people of an institution take part in an exchange than its agreement allows. Both files say something about
//! it, so it is asked when all are read. Everybody with a key counts, also with one that is not valid yet or any more: reading
//! a configuration must not come out differently on another day.

use std::collections::BTreeMap;

use super::error::{Findings, Key};
use crate::policy::account::Institution;
use crate::policy::agreement::Exchange;
use crate::policy::path::Slug;

/// Names that are told one by one.
const TOLD: usize = 20;

/// Tells every circle that holds too many.
pub fn too_many(
    institutions: &BTreeMap<Slug, Institution>,
    exchanges: &BTreeMap<Slug, Exchange>,
    findings: &mut Findings,
) {
    for (exchange, name) in exchanges.values().flat_map(|one| one.circles.keys().map(move |name| (one, name)))
    {
        let (Some(circle), Some(institution)) = (exchange.circles.get(name), institutions.get(name)) else {
            continue;
        };
        let people = exchange.people_of(institution);
        let Some(at_most) = circle.at_most.filter(|at_most| people.len() > *at_most) else { continue };
        let mut labels: Vec<&str> = people.iter().map(|person| person.label.as_str()).collect();
        let more = labels.len().saturating_sub(TOLD);
        labels.truncate(TOLD);
        let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
        findings.wrong(
            &format!("exchanges/{}.yaml", exchange.name),
            &Key::root().at("parties").at(name.as_str()).at("people").at("at-most"),
            format!(
                "{} people of {name} have a key and take part, and the agreement allows {at_most}: {}{and_more}",
                people.len(),
                labels.join(", ")
            ),
            format!(
                "remove the keys of those who do not take part any more from institutions/{name}.yaml, or name those who do \
                 under `only`"
            ),
        );
    }
}
