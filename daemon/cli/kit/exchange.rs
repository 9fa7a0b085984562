//! What the page of a kit says of one exchange: its agreement, who of the institution takes part, what to put in under which
//! name and with which columns, what comes back and how long it stays. Of one that has ended, no more than that.

use std::time::Duration;

use maud::{Markup, html};

use super::contents::{SCRIPT, recipients_file};
use super::page::Guide;
use crate::cli::report::columns::{self, Table};
use crate::cli::report::language::Language;
use crate::policy::agreement::{Collecting, Exchange, Flow, Job, OnFault, Standing};
use crate::policy::outgoing::Lock;

/// The command that encrypts a list of a flow, under a name that the flow takes.
pub fn encrypting(language: Language, exchange: &Exchange, flow: &Flow) -> String {
    let list = list_name(language, flow);
    format!("age -R {} -o {list}.age {list}", recipients_file(exchange.name.as_str(), flow))
}

/// A name that a flow takes, before it is encrypted: its first pattern with a word in place of the star.
fn list_name(language: Language, flow: &Flow) -> String {
    let word = language.of("lijst", "list");
    let pattern = flow.accept.names.first().map_or("*.csv.age", |name| name.glob().glob());
    let name = pattern.strip_suffix(".age").unwrap_or(pattern).replacen('*', word, 1);
    let is_plain =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if is_plain && pattern.ends_with(".age") { name } else { format!("{word}.csv") }
}

/// One exchange in a guide.
pub(super) struct Chapter<'a> {
    pub(super) guide: &'a Guide<'a>,
    pub(super) exchange: &'a Exchange,
}

impl Chapter<'_> {
    fn t<'b>(&self, nl: &'b str, en: &'b str) -> &'b str {
        self.guide.t(nl, en)
    }

    /// All of it.
    pub(super) fn whole(&self) -> Markup {
        let (exchange, own) = (self.exchange, &self.guide.zone.institution.name);
        let receives = exchange.flows.iter().filter(|flow| flow.to.contains(own));
        html! {
            h3 { (exchange.name) ": " (exchange.agreement.title) }
            (self.agreement())
            @if let Standing::Ended { on } = exchange.agreement.standing(self.guide.zone.today) {
                p class="bad-text" { (self.t("Afgelopen op ", "Ended on ")) (self.guide.day(on)) (self.t(": de server neemt niets meer aan en geeft niets meer af.", ": the server takes nothing and hands out nothing any more.")) }
            } @else {
                @for flow in exchange.flows_from(own) { (self.flow(flow)) }
                @for flow in receives { (self.receiving(flow)) }
            }
        }
    }

    fn agreement(&self) -> Markup {
        let agreement = &self.exchange.agreement;
        html! {
            dl {
                dt { (self.t("Protocol", "Agreement")) } dd { (agreement.reference) "; " (agreement.legal_basis) }
                dt { (self.t("Loopt", "Runs")) } dd { (self.t("van ", "from ")) (self.guide.day(agreement.from))
                    @match agreement.until {
                        Some(until) => { (self.t(" tot en met ", " up to and including ")) (self.guide.day(until)) (self.t("; daarna sluit de toegang vanzelf", "; then access closes by itself")) }
                        None => { (self.t(", zonder einddatum", ", without end date")) }
                    }
                }
                @if let Some(people) = self.people() { dt { (self.t("Wie van u", "Who of you")) } dd { (people) } }
                @if let Some(keep) = &agreement.parties_keep { dt { (self.t("U bewaart", "You keep")) } dd { (keep) } }
                @if let Some(duty) = &agreement.incidents {
                    dt { (self.t("Incidenten", "Incidents")) }
                    dd { (self.t("(poging tot) onbevoegde toegang: te melden binnen ", "(attempted) unauthorised access: to be reported within ")) (self.span(duty.within)) (self.t(" aan ", " to ")) (duty.to) }
                }
                @if let Some(contact) = &agreement.contact { dt { (self.t("Aanspreekpunt", "Contact")) } dd { (contact) } }
            }
        }
    }

    /// Who of the institution may take part; none where anybody of it may.
    fn people(&self) -> Option<String> {
        let circle = self.exchange.circles.get(&self.guide.zone.institution.name)?;
        let mut told = Vec::new();
        match circle.at_most {
            Some(1) => told.push(self.t("hoogstens één persoon", "at most one person").to_owned()),
            Some(at_most) => told.push(format!(
                "{} {at_most} {}",
                self.t("hoogstens", "at most"),
                self.t("personen", "people")
            )),
            None => {}
        }
        let listed =
            |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        if let Some(functions) = &circle.functions {
            told.push(format!(
                "{} {}",
                self.t("enkel met de functie", "only with the function"),
                listed(functions)
            ));
        }
        if let Some(only) = &circle.only {
            told.push(format!("{} {}", self.t("enkel", "only"), listed(only)));
        }
        (!told.is_empty()).then(|| told.join("; "))
    }

    fn flow(&self, flow: &Flow) -> Markup {
        let (exchange, language) = (self.exchange, self.guide.language);
        let names: Vec<&str> = flow.accept.names.iter().map(|name| name.glob().glob()).collect();
        html! {
            p { strong { (self.t("U dient in: ", "You put in: ")) (flow.name) } (self.t(", in de map ", ", into the folder ")) code class="code" { "/" (exchange.name) "/in" } }
            dl {
                dt { (self.t("Bestandsnaam", "File name")) } dd { @if names.is_empty() { (self.t("vrij", "any")) } @else { (names.join(self.t(" of ", " or "))) } (self.t(", hoogstens ", ", at most ")) (language.bytes(flow.accept.max_size)) }
                @if let Some(rhythm) = &flow.rhythm { dt { (self.t("Hoe vaak", "How often")) } dd { (language.say(&columns::rhythm(rhythm))) } }
                dt { (self.t("Versleutelen", "Encrypt")) } dd class="code" { (encrypting(language, exchange, flow)) }
                dt { (self.t("Of alles samen", "Or all at once")) } dd class="code" { "./" (SCRIPT) " send " (exchange.name) " " (flow.name) " " (list_name(language, flow)) }
                @if flow.job == Job::Relay { dt { (self.t("Let op", "Mind")) } dd { (self.t("enkel de ontvanger kan dit lezen, de server niet", "only the receiver can read this, the server cannot")) } }
            }
            @if let Some(rules) = &flow.input { (self.table(&columns::table(rules), flow.on_fault)) }
        }
    }

    fn receiving(&self, flow: &Flow) -> Markup {
        let (own, language) = (&self.guide.zone.institution.name, self.guide.language);
        let going = flow.deliveries.iter().filter(|going| going.institutions().contains(&own));
        html! {
            p { strong { (self.t("U ontvangt: ", "You receive: ")) (flow.name) } (self.t(", in de map ", ", in the folder ")) code class="code" { "/" (self.exchange.name) "/out" } }
            ul {
                @for outgoing in going { @let told = columns::going(outgoing); li {
                    (language.say(&told.rows)) "; "
                    @if let Some(columns) = &told.columns { (columns.iter().map(|words| language.say(words)).collect::<Vec<_>>().join(", ")) "; " }
                    (language.say(&told.lock))
                    @if outgoing.lock == Lock::Passphrase { ". " strong { (self.t("Wij geven u de wachtwoordzin langs een ander kanaal.", "We give you the passphrase another way.")) } }
                } }
                @match self.exchange.collected.by {
                    Collecting::Removal => {}
                    Collecting::Download => li { (self.t("een bestand dat u volledig hebt opgehaald, verdwijnt ", "a file that you downloaded whole goes ")) (self.span(self.exchange.collected.grace)) (self.t(" later van de server: ga meteen na of u het kunt lezen", " later from the server: see at once that you can read it")) },
                }
            }
        }
    }

    fn table(&self, table: &Table, on_fault: OnFault) -> Markup {
        let language = self.guide.language;
        html! {
            table class="whole" {
                caption { (self.t("Gevraagde kolommen", "Columns asked for")) ": " (table.formats.join(self.t(" of ", " or "))) }
                thead { tr { th scope="col" { (self.t("Kolom", "Column")) } th scope="col" { (self.t("Inhoud", "Content")) } th scope="col" { (self.t("Verplicht", "Required")) } } }
                tbody { @for column in &table.columns { tr {
                    td { (column.name) }
                    td { (language.say(&column.holds)) }
                    td { (if column.required { self.t("ja", "yes") } else { self.t("nee", "no") }) }
                } } }
            }
            ul {
                @for rule in &table.rules { li { (language.say(rule)) } }
                @match on_fault {
                    OnFault::Hold => li { (self.t("één foute rij houdt de hele lijst tegen: verbeter ze en stuur ze opnieuw, onder een andere naam", "one faulty row stops the whole list: correct it and send it again, under another name")) },
                    OnFault::Report => li { (self.t("foute rijen blijven weg; het kwaliteitsverslag zegt welke", "faulty rows are left out; the quality report says which")) },
                }
            }
        }
    }

    fn span(&self, length: Duration) -> String {
        let seconds = length.as_secs();
        let (count, nl, en) = match seconds {
            0..60 => (seconds, ["seconde", "seconden"], ["second", "seconds"]),
            60..3_600 => (seconds / 60, ["minuut", "minuten"], ["minute", "minutes"]),
            3_600..259_200 => (seconds / 3_600, ["uur", "uur"], ["hour", "hours"]),
            259_200.. => (seconds / 86_400, ["dag", "dagen"], ["day", "days"]),
        };
        let [one, more] = match self.guide.language {
            Language::Nl => nl,
            Language::En => en,
        };
        format!("{count} {}", if count == 1 { one } else { more })
    }
}
