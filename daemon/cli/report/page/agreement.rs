//! What was agreed: the protocol, its parties and people, what is exchanged.

use maud::{Markup, html};

use super::Page;
use crate::cli::report::columns::{Going, Table};
use crate::cli::report::setup::{Flow, KeyRow, Party, PersonRow};

impl Page<'_> {
    pub(super) fn agreement(&self) -> Markup {
        let agreement = &self.facts.agreement;
        html! {
            dl {
                (self.fact("Titel", "Title", Some(&agreement.title)))
                (self.fact("Referentie", "Reference", Some(&agreement.reference)))
                (self.fact("Rechtsgrond", "Legal basis", Some(&agreement.legal_basis)))
                dt { (self.t("In werking", "In force")) }
                dd {
                    (self.t("van ", "from ")) (self.language.day(agreement.from))
                    @match agreement.until {
                        Some(until) => { (self.t(" tot en met ", " up to and including ")) (self.language.day(until)) }
                        None => { (self.t(", zonder einddatum", ", without end date")) }
                    }
                    "; " (self.t("vandaag ", "today ")) (self.w(&agreement.standing))
                }
                @if let Some(months) = agreement.notice_months {
                    dt { (self.t("Opzegtermijn", "Notice")) }
                    dd { (months) " " (if months == 1 { self.t("maand", "month") } else { self.t("maanden", "months") }) }
                }
                (self.fact("Aanspreekpunt", "Contact", agreement.contact.as_deref()))
                @if let (Some(hours), Some(to)) = (agreement.incidents_within_hours, &agreement.incidents_to) {
                    dt { (self.t("Incidenten melden", "Incidents reported")) }
                    dd { (self.t("binnen ", "within ")) (hours) (self.t(" uur aan ", " hours to ")) (to) }
                }
                (self.fact("Partijen bewaren", "Parties keep", agreement.parties_keep.as_deref()))
                dt { (self.t("Na het einde", "After the end")) }
                dd { (self.t("niet-opgehaalde resultaten verdwijnen na ", "results that nobody fetched go after ")) (agreement.after_end_days) (self.t(" dagen", " days"))
                    @if agreement.has_pseudonyms { (self.t(", en de sleutel van de pseudoniemen wordt vernietigd", ", and the key of the pseudonyms is destroyed")) }
                }
                dt { (self.t("Opgehaald", "Collected")) }
                dd { (self.t("een resultaat geldt als opgehaald ", "a result counts as collected ")) (self.w(&agreement.collected)) }
            }
        }
    }

    fn fact(&self, nl: &str, en: &str, value: Option<&str>) -> Markup {
        html! { @if let Some(value) = value { dt { (self.t(nl, en)) } dd { (value) } } }
    }

    pub(super) fn parties(&self) -> Markup {
        html! {
            p class="note" { (self.t("Zoals ingesteld op de dag van dit verslag.", "As set up on the day of this report.")) }
            @for party in &self.facts.parties { (self.party(party)) }
        }
    }

    fn party(&self, party: &Party) -> Markup {
        let may = match (party.may_drop, party.may_collect) {
            (true, true) => self.t("dient in en haalt op", "puts files in and collects"),
            (true, false) => self.t("dient in", "puts files in"),
            (false, true) => self.t("haalt op", "collects"),
            (false, false) => self.t("geen rechten", "no rights"),
        };
        let count = party.people.len();
        html! {
            h3 { (party.title) " " span class="soft" { "(" (party.institution) ")" } }
            p {
                (may) "; "
                (count) " " (if count == 1 { self.t("persoon", "person") } else { self.t("personen", "people") })
                @match party.at_most {
                    Some(most) if count > most => { span class="bad-text" { (self.t(", méér dan de afgesproken ", ", MORE than the agreed ")) (most) } }
                    Some(most) => { (self.t(" van hoogstens ", " of at most ")) (most) }
                    None => {}
                }
                @if party.handoff { (self.t("; levert ook rechtstreeks op de server aan", "; also hands over on the server itself")) }
                @if let Some(contact) = &party.contact { " · " (contact) }
            }
            @if !party.people.is_empty() {
                table {
                    thead { tr {
                        th scope="col" { (self.t("Persoon", "Person")) }
                        th scope="col" { (self.t("Functie", "Function")) }
                        th scope="col" { (self.t("Vingerafdruk van de sleutel", "Fingerprint of the key")) }
                        th scope="col" { (self.t("Geldig", "Valid")) }
                    } }
                    tbody { @for person in &party.people { (self.person(person)) } }
                }
            }
        }
    }

    fn person(&self, person: &PersonRow) -> Markup {
        html! {
            @for (index, key) in person.keys.iter().enumerate() {
                tr {
                    td { @if index == 0 { (person.label) } }
                    td { @if index == 0 { @match &person.function { Some(function) => { (function) } None => { (self.none()) } } } }
                    td class="code" { (key.algorithm) " " (key.fingerprint) }
                    td { (self.validity(key)) }
                }
            }
            @if person.keys.is_empty() {
                tr { td { (person.label) } td { (person.function.as_deref().unwrap_or_default()) } td { (self.none()) } td { (self.t("geen sleutel", "no key")) } }
            }
        }
    }

    fn validity(&self, key: &KeyRow) -> Markup {
        html! {
            @match (key.not_before, key.not_after) {
                (None, None) => { (self.t("zonder einddatum", "without end date")) }
                (Some(from), None) => { (self.t("vanaf ", "from ")) (self.day(from)) }
                (None, Some(until)) => { (self.t("tot ", "until ")) (self.day(until)) }
                (Some(from), Some(until)) => { (self.day(from)) " – " (self.day(until)) }
            }
            @if !key.is_valid { " " strong { (self.t("(niet vandaag)", "(not today)")) } }
        }
    }

    pub(super) fn flows(&self) -> Markup {
        html! { @for flow in &self.facts.flows { (self.flow(flow)) } }
    }

    fn flow(&self, flow: &Flow) -> Markup {
        html! {
            h3 { (flow.flow) ": " (flow.from.join(", ")) " → " (self.receivers(flow)) }
            dl {
                dt { (self.t("Aanvaard", "Accepted")) }
                dd {
                    @if flow.names.is_empty() { (self.t("elke bestandsnaam", "any file name")) } @else { (flow.names.join(self.t(" of ", " or "))) }
                    (self.t(", hoogstens ", ", at most ")) (self.language.bytes(flow.max_size))
                }
                @if let Some(rhythm) = &flow.rhythm { dt { (self.t("Hoe vaak", "How often")) } dd { (self.w(rhythm)) } }
                dt { (self.t("Verwerking", "Work done")) } dd { (self.w(&flow.job)) }
                @if let Some(columns) = &flow.result { dt { (self.t("Kolommen van het resultaat", "Columns of the result")) } dd { (columns.join(", ")) } }
                @if let Some(fault) = &flow.on_fault { dt { (self.t("Foute rijen", "Faulty rows")) } dd { (self.w(fault)) } }
            }
            @match &flow.list {
                Some(table) => { (self.table(table)) }
                None => { p class="note" { (self.t("De inhoud van het ingediende bestand is in deze uitwisseling niet aan kolomregels gebonden.", "No rules on columns bind the content of the file that is handed in.")) } }
            }
            (self.deliveries(&flow.deliveries))
        }
    }

    fn receivers(&self, flow: &Flow) -> String {
        let all: std::collections::BTreeSet<&str> =
            flow.deliveries.iter().flat_map(|going| going.to.iter().map(String::as_str)).collect();
        all.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn table(&self, table: &Table) -> Markup {
        html! {
            table {
                caption { (self.t("Wat ingediend mag worden", "What may be handed in")) " (" (table.formats.join(self.t(" of ", " or "))) ")" }
                thead { tr {
                    th scope="col" { (self.t("Kolom", "Column")) }
                    th scope="col" { (self.t("Inhoud", "Content")) }
                    th scope="col" { (self.t("Verplicht", "Required")) }
                } }
                tbody { @for column in &table.columns { tr {
                    td { (column.name) }
                    td { (self.w(&column.holds)) }
                    td { (if column.required { self.t("ja", "yes") } else { self.t("nee", "no") }) }
                } } }
            }
            @if !table.rules.is_empty() {
                p { (self.t("Bovendien: ", "Besides: ")) @for (index, rule) in table.rules.iter().enumerate() {
                    @if index > 0 { "; " } (self.w(rule))
                } "." }
            }
        }
    }

    fn deliveries(&self, deliveries: &[Going]) -> Markup {
        html! {
            table class="whole" {
                caption { (self.t("Wat vertrekt, en naar wie", "What leaves, and to whom")) }
                thead { tr {
                    th scope="col" { (self.t("Ontvanger", "Receiver")) }
                    th scope="col" { (self.t("Rijen", "Rows")) }
                    th scope="col" { (self.t("Kolommen", "Columns")) }
                    th scope="col" { (self.t("Vorm", "Form")) }
                    th scope="col" { (self.t("Versleuteld", "Encrypted")) }
                } }
                tbody { @for going in deliveries { tr {
                    td { (going.to.join(", ")) }
                    td { (self.w(&going.rows)) }
                    td { @match &going.columns {
                        Some(columns) => { (columns.iter().map(|words| self.w(words)).collect::<Vec<_>>().join(", ")) }
                        None => { (self.t("alle", "all")) }
                    } }
                    td { (self.w(&going.form)) }
                    td { (self.w(&going.lock)) }
                } } }
            }
        }
    }
}
