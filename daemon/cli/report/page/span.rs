//! What happened in the span: files, refusals, access.

use maud::{Markup, html};

use super::Page;
use crate::cli::report::figures::Unit;
use crate::cli::report::papers::{Row, Sent};
use crate::cli::report::{chart, wording};

impl Page<'_> {
    pub(super) fn arrivals(&self) -> Markup {
        let arrivals = &self.facts.arrivals;
        html! {
            @if arrivals.rows.count == 0 { p { (self.t("In deze periode werd niets ingediend.", "Nothing was handed in in this span.")) } }
            @else {
                p {
                    (self.t("Ingediend: ", "Handed in: ")) strong { (self.n(arrivals.rows.count)) }
                    @if arrivals.rows_in > 0 { (self.t("; rijen gelezen: ", "; rows read: ")) (self.n(arrivals.rows_in)) }
                    @if arrivals.rows_out > 0 { (self.t("; rijen teruggegeven: ", "; rows given back: ")) (self.n(arrivals.rows_out)) }
                    (self.t("; geleverde resultaten: ", "; results delivered: ")) (self.n(arrivals.deliveries)) "."
                }
                table {
                    thead { tr {
                        th scope="col" { (self.t("Wanneer", "When")) }
                        th scope="col" { (self.t("Bestand", "File")) }
                        th scope="col" { (self.t("Door", "By")) }
                        th scope="col" { (self.t("Besluit", "Verdict")) }
                        th scope="col" class="n" { (self.t("Rijen in", "Rows in")) }
                        th scope="col" class="n" { (self.t("Rijen uit", "Rows out")) }
                        th scope="col" { (self.t("Ontvangers", "Receivers")) }
                    } }
                    @for row in &arrivals.rows.listed { (self.arrival(row)) }
                }
                (self.left_out(arrivals.rows.left_out()))
            }
            @if arrivals.waiting > 0 {
                p { (self.t("Nu nog in verwerking: ", "Being worked on now: ")) (self.n(arrivals.waiting)) "." }
            }
            @if arrivals.without_receipt > 0 {
                p class="note" { (self.t("Enkel uit het toegangslogboek bekend, zonder ontvangstbewijs: ", "Known from the access log only, without a receipt: ")) (self.n(arrivals.without_receipt)) "." }
            }
            (self.per_unit())
        }
    }

    fn arrival(&self, row: &Row) -> Markup {
        let number = |number: Option<u64>| number.map(|number| self.n(number)).unwrap_or_default();
        html! {
            tbody class="one" {
                tr {
                    td class="t" { (self.time(row.time)) }
                    td { (row.name) }
                    td { (row.institution) @if !row.person.is_empty() { ", " (row.person) } }
                    td { (self.verdict(row)) }
                    td class="n" { (number(row.rows_in)) }
                    td class="n" { (number(row.rows_out)) }
                    td { (receivers(&row.deliveries).join(", ")) }
                }
                tr class="soft small" { td colspan="7" {
                    @if let Some(reason) = row.reason.as_ref().filter(|_| is_told(row)) { (self.w(reason)) " " }
                    @if let Some(quality) = row.quality.filter(|quality| quality.findings > 0) {
                        (self.t("Kwaliteit: ", "Quality: ")) (self.n(quality.faulty_rows)) (self.t(" foute rijen, ", " faulty rows, "))
                        (self.n(quality.findings)) (self.t(" vaststellingen. ", " findings. "))
                    }
                    span class="code" {
                        (row.arrival)
                        @if let Some(sha256) = &row.sha256 { " · SHA-256 " (sha256) }
                    }
                } }
            }
        }
    }

    fn verdict(&self, row: &Row) -> Markup {
        html! {
            @match row.verdict {
                Some(verdict) => { (self.w(&wording::verdict(verdict))) }
                None => { (self.t("nog onbekend", "not known yet")) }
            }
            @if !row.is_signed { " " span class="attention-text small" { (self.t("(handtekening niet bevestigd)", "(signature not confirmed)")) } }
        }
    }

    fn per_unit(&self) -> Markup {
        let figures = &self.facts.figures;
        let by_day = figures.unit == Unit::Day;
        let busy =
            figures.figures.iter().filter(|figure| figure.deliveries + figure.refusals + figure.accesses > 0);
        let mut busy = busy.peekable();
        if busy.peek().is_none() {
            return html! {};
        }
        html! {
            h3 { (self.t("Aantallen ", "Numbers ")) (chart::unit(figures.unit, self.language)) }
            table {
                thead { tr {
                    @if by_day { th scope="col" { (self.t("Dag", "Day")) } }
                    @else {
                        th scope="col" { (self.t("Van", "From")) }
                        th scope="col" { (self.t("Tot en met", "Up to and including")) }
                    }
                    th scope="col" class="n" { (self.t("Ingediend en aanvaard", "Handed in and accepted")) }
                    th scope="col" class="n" { (self.t("Geweigerd", "Refused")) }
                    th scope="col" class="n" { (self.t("Toegangen", "Accesses")) }
                } }
                tbody { @for figure in busy { tr {
                    td class="t" { (self.day(figure.from)) }
                    @if !by_day { td class="t" { (self.day(figure.to)) } }
                    td class="n" { (self.n(figure.deliveries)) }
                    td class="n" { (self.n(figure.refusals)) }
                    td class="n" { (self.n(figure.accesses)) }
                } } }
            }
            p class="note" { (self.t("Wat hier niet staat, telde nul.", "What is not listed was zero.")) }
        }
    }

    pub(super) fn refusals(&self) -> Markup {
        let refusals = &self.facts.log.refusals;
        html! {
            p { (self.t(
                "Wat de server niet toeliet, en wat hij daarbij zei. Een weigering is geen fout van de server: zo houdt hij tegen wat niet afgesproken is.",
                "What the server did not allow, and what it said then. A refusal is no fault of the server: that is how it stops what is not agreed."))
            }
            @if refusals.is_empty() { p { (self.t("Er werd niets geweigerd.", "Nothing was refused.")) } }
            @else {
                table {
                    thead { tr {
                        th scope="col" class="n" { (self.t("Aantal", "Number")) }
                        th scope="col" { (self.t("Wat de verzender te lezen kreeg", "What the sender was told")) }
                        th scope="col" { (self.t("Code", "Code")) }
                    } }
                    tbody { @for refusal in refusals { tr {
                        td class="n" { (self.n(refusal.count)) }
                        td { @match &refusal.told { Some(told) => { (self.w(told)) } None => { (self.none()) } } }
                        td class="code" { (refusal.code) }
                    } } }
                }
            }
        }
    }

    pub(super) fn access(&self) -> Markup {
        let people = &self.facts.log.people;
        html! {
            @if self.facts.evidence.covered_from.is_none() { p { (self.t("Niet na te gaan: van deze periode is er geen toegangslogboek.", "Not to be known: there is no access log of this span.")) } }
            @else if people.is_empty() { p { (self.t("Niemand meldde zich aan.", "Nobody logged in.")) } }
            @else {
                table {
                    caption { (self.t("Per persoon, volgens het toegangslogboek", "By person, as the access log has it")) }
                    thead { tr {
                        th scope="col" { (self.t("Persoon", "Person")) }
                        th scope="col" class="n" { (self.t("Aanmeldingen", "Logins")) }
                        th scope="col" class="n" { (self.t("Ingediend", "Put in")) }
                        th scope="col" class="n" { (self.t("Opgehaald", "Fetched")) }
                        th scope="col" class="n" { (self.t("Verwijderd", "Removed")) }
                        th scope="col" class="n" { (self.t("Bewijzen", "Receipts")) }
                        th scope="col" class="n" { (self.t("Afgewezen", "Turned down")) }
                        th scope="col" { (self.t("Laatst", "Last")) }
                    } }
                    tbody { @for person in people { tr {
                        td class="t" {
                            (person.person) @if !person.person.is_empty() { br; }
                            span class="soft" { (person.institution) }
                            @if !self.facts.is_party(&person.institution) { " " span class="attention-text" { (self.t("(geen partij)", "(no party)")) } }
                        }
                        td class="n" { (self.n(person.logins)) }
                        td class="n" { (self.n(person.uploads)) }
                        td class="n" { (self.n(person.downloads)) }
                        td class="n" { (self.n(person.removals)) }
                        td class="n" { (self.n(person.other_downloads)) }
                        td class="n" { (self.n(person.turned_down)) }
                        td class="t" { (self.time(person.last)) }
                    } } }
                }
            }
            p class="note" { (self.t(
                "Opgehaald: volledig afgehaalde resultaten. Verwijderd: resultaten die de ontvanger weghaalde. Bewijzen: ontvangstbewijzen en wat erbij hoort. Afgewezen: verzoeken die niet mochten.",
                "Fetched: results downloaded whole. Removed: results that their receiver took away. Receipts: receipts and what goes with them. Turned down: requests that were not allowed."))
            }
            (self.refused_logins())
        }
    }

    fn refused_logins(&self) -> Markup {
        let log = &self.facts.log;
        html! {
            h3 { (self.t("Geweigerde aanmeldingen", "Refused logins")) }
            @if log.refused_logins.is_empty() { p { (self.t("Geen, in naam van een partij.", "None in the name of a party.")) } }
            @else {
                table {
                    thead { tr {
                        th scope="col" { (self.t("In naam van", "In the name of")) }
                        th scope="col" { (self.t("Reden", "Reason")) }
                        th scope="col" class="n" { (self.t("Aantal", "Number")) }
                        th scope="col" { (self.t("Laatst", "Last")) }
                    } }
                    tbody { @for refused in &log.refused_logins { tr {
                        td { (refused.institution) }
                        td { (self.w(&refused.why)) }
                        td class="n" { (self.n(refused.count)) }
                        td class="t" { (self.time(refused.last)) }
                    } } }
                }
            }
            @if log.refused_strangers > 0 {
                p class="note" { (self.t("Geweigerd in naam van iemand die hier geen partij is (hele server): ", "Refused in the name of somebody who is no party here (whole server): ")) (self.n(log.refused_strangers)) "." }
            }
        }
    }
}

/// Each receiver once, with how many results it got where there are several.
fn receivers(sent: &[Sent]) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for Sent { to, person, .. } in sent {
        let who = person.as_ref().map_or_else(|| to.clone(), |person| format!("{to}: {person}"));
        *counts.entry(who).or_default() += 1;
    }
    let told = |(who, count): (String, u64)| if count > 1 { format!("{who} ({count})") } else { who };
    counts.into_iter().map(told).collect()
}

/// A delivered file needs no explanation.
fn is_told(row: &Row) -> bool {
    row.verdict != Some(crate::policy::receipt::Verdict::Delivered)
}
