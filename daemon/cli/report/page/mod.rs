//! The report as one page of HTML: nothing is fetched, nothing runs, and whatever comes from outside is text, because the macro
//! that writes markup escapes it. This file holds the first page and the frame; the others hold the sections.

mod agreement;
mod proof;
mod span;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::chart::{self, Chart};
use super::facts::{Facts, Level, Words};
use super::language::Language;
use crate::host::clock::Clock;

const STYLE: &str = include_str!("page.css");

/// What all sections need.
struct Page<'a> {
    facts: &'a Facts,
    language: Language,
    clock: &'a Clock,
}

/// The whole page.
pub fn page(facts: &Facts, language: Language, clock: &Clock) -> Markup {
    let page = Page { facts, language, clock };
    let sections = page.sections();
    html! {
        (DOCTYPE)
        html lang=(language.code()) {
            (head(&format!("{} {} {} – {}", page.t("Verslag", "Report"), facts.agreement.reference, facts.from, facts.to)))
            body {
                main {
                    (page.first())
                    nav aria-label=(page.t("Inhoud", "Contents")) {
                        ol { @for (index, (title, _)) in sections.iter().enumerate() {
                            li { a href={ "#s" (index + 1) } { (title) } }
                        } }
                    }
                    div class="details" {
                        @for (index, (title, body)) in sections.iter().enumerate() {
                            section id={ "s" (index + 1) } {
                                h2 { (index + 1) ". " (title) }
                                (body)
                            }
                        }
                    }
                }
                footer { (page.colophon()) }
            }
        }
    }
}

/// The head of a page that fetches nothing and runs nothing, and whose browser is told so.
pub fn head(title: &str) -> Markup {
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let allowed =
        format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'");
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(allowed);
            meta name="viewport" content="width=device-width";
            meta name="referrer" content="no-referrer";
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

impl Page<'_> {
    fn sections(&self) -> Vec<(&'static str, Markup)> {
        vec![
            (self.t("Het protocol", "The agreement"), self.agreement()),
            (self.t("Partijen en personen", "Parties and people"), self.parties()),
            (self.t("Wat uitgewisseld wordt", "What is exchanged"), self.flows()),
            (self.t("Ingediende bestanden", "Files handed in"), self.arrivals()),
            (self.t("Weigeringen", "Refusals"), self.refusals()),
            (self.t("Toegang", "Access"), self.access()),
            (self.t("Handelingen van de beheerders", "Operators' actions"), self.actions()),
            (self.t("Incidenten", "Incidents"), self.incidents()),
            (self.t("Ritme", "Rhythm"), self.rhythm()),
            (self.t("Bewaartermijnen", "Retention"), self.kept()),
            (self.t("Bewijskracht", "Evidence"), self.evidence()),
            (self.t("Beveiliging", "Protection"), self.protection()),
            (self.t("Wat dit verslag niet weet", "What this report does not know"), self.not_known()),
        ]
    }

    /// What somebody reads who reads one page.
    fn first(&self) -> Markup {
        let Facts { agreement, from, to, overall, statements, figures, .. } = self.facts;
        let (class, mark) = (level_class(*overall), self.overall(*overall));
        html! {
            header {
                p class="kicker" { (self.t("Verslag over een gegevensuitwisseling", "Report on an exchange of data")) " · " (self.facts.exchange) }
                h1 { (agreement.title) }
                p class="span" { (self.language.day(*from)) (self.t(" tot en met ", " up to and including ")) (self.language.day(*to)) }
            }
            (self.at_a_glance())
            @if self.facts.signed_with.is_none() {
                p class="warning" { (self.t(
                    "Dit verslag is niet ondertekend. Het bewijst op zichzelf niets: vraag een ondertekend exemplaar.",
                    "This report is not signed. It proves nothing by itself: ask for a signed one."))
                }
            }
            section class={ "verdict " (class) } aria-label=(self.t("Besluit", "Verdict")) {
                p class={ (class) "-text" } { (mark) }
                ul { @for statement in statements {
                    li class=(level_class(statement.level)) {
                        span class="mark" aria-hidden="true" { (mark_of(statement.level)) }
                        span class="hidden" { (self.level(statement.level)) ": " }
                        (self.w(&statement.words))
                    }
                } }
            }
            div class="charts" {
                h3 { (self.t("Verloop ", "Course ")) (chart::unit(figures.unit, self.language)) }
                (chart::draw(figures, &Chart { title: self.t("Ingediend en aanvaard", "Handed in and accepted"), of: |figure| figure.deliveries, class: "bar" }, self.language))
                (chart::draw(figures, &Chart { title: self.t("Geweigerd", "Refused"), of: |figure| figure.refusals, class: "bar-refused" }, self.language))
                (chart::draw(figures, &Chart { title: self.t("Toegangen: aanmelden, indienen, ophalen, verwijderen", "Accesses: logins, files put in, fetched, removed"), of: |figure| figure.accesses, class: "bar-access" }, self.language))
            }
        }
    }

    fn at_a_glance(&self) -> Markup {
        let Facts { agreement, parties, made, .. } = self.facts;
        let titles: Vec<&str> = parties.iter().map(|party| party.title.as_str()).collect();
        html! {
            dl {
                dt { (self.t("Protocol", "Agreement")) }
                dd { (agreement.reference) " (" (self.w(&agreement.standing)) ")" }
                dt { (self.t("Partijen", "Parties")) }
                dd { (titles.join(" · ")) }
                dt { (self.t("Opgemaakt", "Made")) }
                dd {
                    (self.time(*made)) ", "
                    (if self.facts.signed_with.is_some() { self.t("ondertekend door de server", "signed by the server") } else { self.t("niet ondertekend", "not signed") })
                }
            }
        }
    }

    fn colophon(&self) -> Markup {
        let Facts { made, node, version, .. } = self.facts;
        html! {
            (self.t("Gemaakt op ", "Made on ")) (self.time(*made))
            (self.t(" door dropzone ", " by dropzone ")) (version)
            (self.t(" op ", " on ")) (node) ". "
            (self.t("Alle tijden zijn Belgische tijd.", "All times are Belgian time."))
        }
    }

    fn overall(&self, level: Level) -> &'static str {
        match level {
            Level::Good => self.t("In orde", "In order"),
            Level::Attention => self.t(
                "Geen inbreuken vastgesteld, wel aandachtspunten",
                "No breaches found, but points to look at",
            ),
            Level::Bad => self.t("Niet in orde", "Not in order"),
        }
    }

    fn level(&self, level: Level) -> &'static str {
        match level {
            Level::Good => self.t("in orde", "in order"),
            Level::Attention => self.t("aandachtspunt", "point to look at"),
            Level::Bad => self.t("niet in orde", "not in order"),
        }
    }

    fn t<'b>(&self, nl: &'b str, en: &'b str) -> &'b str {
        self.language.of(nl, en)
    }

    fn w<'b>(&self, words: &'b Words) -> &'b str {
        self.language.say(words)
    }

    fn n(&self, number: u64) -> String {
        self.language.number(number)
    }

    fn time(&self, at: Timestamp) -> String {
        self.language.time(self.clock.local(at))
    }

    fn day(&self, day: Date) -> String {
        self.language.short_day(day)
    }

    /// What stands where nothing is known.
    fn none(&self) -> Markup {
        html! { span class="soft" { "–" } }
    }

    fn left_out(&self, count: u64) -> Markup {
        html! {
            @if count > 0 {
                p class="note" {
                    (self.t("Enkel de nieuwste staan hier; ouder en niet getoond: ", "Only the newest are told here; older and not shown: "))
                    (self.n(count)) "."
                }
            }
        }
    }
}

fn level_class(level: Level) -> &'static str {
    match level {
        Level::Good => "good",
        Level::Attention => "attention",
        Level::Bad => "bad",
    }
}

fn mark_of(level: Level) -> &'static str {
    match level {
        Level::Good => "✓",
        Level::Attention => "!",
        Level::Bad => "✕",
    }
}
