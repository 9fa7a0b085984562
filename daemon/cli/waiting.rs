//! What a sound zone still waits for before its agreements can be used: people who may log in, and what results are encrypted
//! to. One line for all institutions or one for a flow, however many it waits for; nothing of agreements that have ended.

use jiff::civil::Date;

use crate::config::{Config, Note};
use crate::policy::account::Institution;
use crate::policy::agreement::{Exchange, Flow, Standing};
use crate::policy::outgoing::{Lock, Receivers};
use crate::policy::path::Slug;

/// A note for each.
pub fn notes(config: &Config, today: Date) -> Vec<Note> {
    let mut notes: Vec<Note> = no_people(config, today).into_iter().collect();
    for exchange in config.exchanges.values().filter(|exchange| !has_ended(exchange, today)) {
        let file = format!("exchanges/{}.yaml", exchange.name);
        let texts = exchange.flows.iter().flat_map(|flow| {
            let for_people = no_shares(config, exchange, flow);
            no_recipients(flow).into_iter().chain(for_people)
        });
        notes.extend(texts.map(|text| Note { file: file.clone(), text }));
    }
    notes
}

fn has_ended(exchange: &Exchange, today: Date) -> bool {
    matches!(exchange.agreement.standing(today), Standing::Ended { .. })
}

/// Institutions for which nobody can log in, though something is open or to come.
fn no_people(config: &Config, today: Date) -> Option<Note> {
    let is_over = |institution: &Institution| {
        let mut exchanges = config.exchanges_of(&institution.name).peekable();
        exchanges.peek().is_some() && exchanges.all(|exchange| has_ended(exchange, today))
    };
    let waiting = config.institutions.values().filter(|one| one.people.is_empty() && !is_over(one));
    let names: Vec<&str> = waiting.map(|institution| institution.name.as_str()).collect();
    let (subject, file) = match names.as_slice() {
        [] => return None,
        [one] => (format!("{one} has no people"), format!("institutions/{one}.yaml")),
        several => (format!("{} have no people", listed(several)), "institutions".to_owned()),
    };
    Some(Note {
        file,
        text: format!("{subject}: nobody can log in there until their public keys are under `people`"),
    })
}

fn no_recipients(flow: &Flow) -> Option<String> {
    let names: Vec<&str> = flow.unready.iter().map(Slug::as_str).collect();
    let (noun, file) = match names.as_slice() {
        [] => return None,
        [one] => ("has a recipient", format!("its age1... line to institutions/{one}.yaml")),
        _ => ("have recipients", "their age1... lines to institutions/".to_owned()),
    };
    Some(format!("flow {} takes nothing until {} {noun}: add {file}", flow.name, listed(&names)))
}

/// Institutions whose people receive shares of their own, and of whom nobody could.
fn no_shares(config: &Config, exchange: &Exchange, flow: &Flow) -> Option<String> {
    let can_receive = |name: &Slug| {
        config.institutions.get(name).is_some_and(|institution| {
            exchange.people_of(institution).iter().any(|person| !person.recipients.is_empty())
        })
    };
    let mut names = Vec::new();
    for delivery in flow.deliveries.iter().filter(|delivery| delivery.lock == Lock::Recipients) {
        if let Receivers::People { of, .. } = &delivery.receivers {
            names.extend(of.iter().filter(|name| !can_receive(name)).map(Slug::as_str));
        }
    }
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "flow {}: nobody of {} can receive a share yet: a person needs a key, a place in `parties`, and `recipients` of her own \
         in institutions/",
        flow.name,
        listed(&names)
    ))
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}
