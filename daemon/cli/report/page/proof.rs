//! What was done about it, and what all of it is worth: operators, incidents, rhythm, retention, the log as evidence.

use maud::{Markup, html};

use super::{Page, level_class};
use crate::policy::signature::{Namespace, SIGNER};

impl Page<'_> {
    pub(super) fn actions(&self) -> Markup {
        let actions = &self.facts.log.actions;
        html! {
            p { (self.t(
                "Wat beheerders van de server deden dat deze uitwisseling raakt, met hun eigen woorden waarom.",
                "What operators of the server did that touches this exchange, and why in their own words."))
            }
            @if actions.count == 0 { p { (self.t("Geen.", "None.")) } }
            @else {
                table {
                    thead { tr {
                        th scope="col" { (self.t("Wanneer", "When")) }
                        th scope="col" { (self.t("Wat", "What")) }
                        th scope="col" { (self.t("Wie", "Who")) }
                        th scope="col" { (self.t("Waarom", "Why")) }
                    } }
                    @for action in &actions.listed { tbody class="one" {
                        tr {
                            td class="t" { (self.time(action.time)) }
                            td { (self.w(&action.what)) @if action.failed { " " strong { (self.t("(mislukt)", "(failed)")) } } }
                            td { @match &action.operator { Some(operator) => { (operator) } None => { (self.t("de server zelf", "the server itself")) } } }
                            td { @match &action.reason { Some(reason) => { (reason) } None => { (self.none()) } } }
                        }
                        tr class="soft small" { td colspan="4" class="code" { @if let Some(to) = &action.to { (to) } } }
                    } }
                }
                (self.left_out(actions.left_out()))
            }
        }
    }

    pub(super) fn incidents(&self) -> Markup {
        let incidents = &self.facts.incidents;
        html! {
            @if incidents.count == 0 { p { (self.t("Er werden geen incidenten vastgesteld.", "No incidents were found.")) } }
            @else {
                table {
                    thead { tr {
                        th scope="col" { (self.t("Vastgesteld", "Found")) }
                        th scope="col" { (self.t("Wat", "What")) }
                        th scope="col" { (self.t("Instelling", "Institution")) }
                        th scope="col" { (self.t("Stand", "Standing")) }
                    } }
                    @for incident in &incidents.listed { tbody class="one" {
                        tr {
                            td class="t" { (self.time(incident.time)) }
                            td { (self.w(&incident.what)) }
                            td { @match &incident.institution { Some(institution) => { (institution) } None => { (self.none()) } } }
                            td { @match &incident.standing { Some(standing) => { (self.w(standing)) } None => { (self.none()) } } }
                        }
                        tr class="soft small" { td colspan="4" class="code" { (incident.code) @if let Some(arrival) = &incident.arrival { " · " (arrival) } } }
                    } }
                }
                (self.left_out(incidents.left_out()))
            }
            @if let (Some(hours), Some(to)) = (self.facts.agreement.incidents_within_hours, &self.facts.agreement.incidents_to) {
                p class="note" { (self.t("Te melden binnen ", "To be reported within ")) (hours) (self.t(" uur aan ", " hours to ")) (to) "." }
            }
        }
    }

    pub(super) fn rhythm(&self) -> Markup {
        html! {
            @if self.facts.rhythm.is_empty() {
                p { (self.t("Er is geen ritme afgesproken dat de server bewaakt.", "No rhythm is agreed that the server watches.")) }
            } @else {
                table {
                    thead { tr {
                        th scope="col" { (self.t("Stroom", "Flow")) }
                        th scope="col" { (self.t("Afgesproken", "Agreed")) }
                        th scope="col" { (self.t("Vastgesteld", "Found")) }
                    } }
                    tbody { @for rhythm in &self.facts.rhythm { tr {
                        td { (rhythm.flow) }
                        td { (self.w(&rhythm.agreed)) }
                        td { span class={ (level_class(rhythm.level)) "-text" } { (self.w(&rhythm.found)) } }
                    } } }
                }
            }
        }
    }

    pub(super) fn kept(&self) -> Markup {
        html! {
            table {
                thead { tr {
                    th scope="col" { (self.t("Wat", "What")) }
                    th scope="col" class="n" { (self.t("Bewaard (dagen)", "Kept (days)")) }
                    th scope="col" class="n" { (self.t("Verwijderd in deze periode", "Deleted in this span")) }
                    th scope="col" class="n" { (self.t("Omvang", "Size")) }
                    th scope="col" class="n" { (self.t("Nu aanwezig", "There now")) }
                    th scope="col" { (self.t("Oudste", "Oldest")) }
                } }
                tbody { @for kept in &self.facts.kept { tr {
                    td { (self.w(&kept.what)) }
                    td class="n" { @match kept.days { Some(days) => { (self.n(days)) } None => { (self.t("altijd", "always")) } } }
                    td class="n" { (self.n(kept.deleted)) }
                    td class="n" { @if kept.deleted_bytes > 0 { (self.language.bytes(kept.deleted_bytes)) } }
                    td class="n" { @if let Some(left) = kept.left { (self.n(left)) } }
                    td class="t" {
                        @if let Some(oldest) = kept.oldest { (self.day(oldest)) }
                        @if kept.overdue { " " span class="bad-text" { (self.t("te oud", "too old")) } }
                    }
                } } }
            }
            p class="note" { (self.t(
                "Elke verwijdering staat in het toegangslogboek. Waar ‘altijd’ staat, wordt niets verwijderd, bijvoorbeeld omdat een bewaarplicht geldt.",
                "Every deletion is in the access log. Where ‘always’ stands, nothing is deleted, for example under a legal hold."))
            }
        }
    }

    pub(super) fn evidence(&self) -> Markup {
        let (evidence, log) = (&self.facts.evidence, &self.facts.log);
        let day = |day: Option<jiff::civil::Date>| day.map(|day| self.language.day(day));
        let time = |time: Option<jiff::Timestamp>| time.map(|time| self.time(time));
        html! {
            p { (self.t(
                "Het toegangslogboek is zo geschreven dat niemand er ongemerkt iets aan kan wijzigen: elke regel bevat een vingerafdruk van de vorige, en elk uur wordt de stand ondertekend. Voor dit verslag werd het helemaal nagerekend.",
                "The access log is written so that nobody can alter it unnoticed: each line holds a fingerprint of the one before, and every hour its state is signed. For this report all of it was checked."))
            }
            dl {
                dt { (self.t("Uitkomst", "Result")) }
                dd { @match evidence.intact {
                    Some(true) => { strong class="good-text" { (self.t("ongewijzigd", "unaltered")) } }
                    Some(false) => { strong class="bad-text" { (self.t("gewijzigd of beschadigd", "altered or damaged")) } }
                    None => { strong class="attention-text" { (self.t("niet nagegaan", "not checked")) } }
                } }
                @if let Some(problem) = &evidence.problem { dt { (self.t("Waarom niet", "Why not")) } dd { (problem) } }
                dt { (self.t("Logboek aanwezig", "Log there")) }
                dd { @match (day(evidence.first_day), day(evidence.last_day)) {
                    (Some(first), Some(last)) => { (first) " – " (last) (self.t(" (bewaard: ", " (kept: ")) (evidence.keep_days) (self.t(" dagen)", " days)")) }
                    _ => { (self.none()) }
                } }
                dt { (self.t("Van deze periode gedekt", "Covered of this span")) }
                dd { @match day(evidence.covered_from) {
                    Some(from) => { (self.t("vanaf ", "from ")) (from) @if !evidence.days_missing.is_empty() { (self.t(", zonder ", ", without ")) (evidence.days_missing.len()) (self.t(" dag(en)", " day(s)")) } }
                    None => { (self.t("geen enkele dag", "no day of it")) }
                } }
                @if let (Some(first), Some(last)) = (time(log.first), time(log.last)) {
                    dt { (self.t("Eerste en laatste regel", "First and last line")) } dd { (first) " – " (last) }
                }
                dt { (self.t("Regels in deze periode", "Lines in this span")) }
                dd { (self.n(log.records)) (self.t(", waarvan over deze uitwisseling: ", ", of them about this exchange: ")) (self.n(log.about)) }
                dt { (self.t("Zegels", "Seals")) }
                dd { (self.n(evidence.seals)) @if let Some(last) = time(evidence.last_seal) { (self.t(", het laatste van ", ", the last of ")) (last) } (self.t("; nog niet verzegeld: ", "; not sealed yet: ")) (self.n(evidence.not_yet_sealed)) (self.t(" regels", " lines")) }
                @if let Some(key) = &evidence.key { dt { (self.t("Nagerekend met sleutel", "Checked with key")) } dd class="code" { (key) } }
            }
            @if !evidence.findings.is_empty() {
                h3 { (self.t("Wat niet klopt", "What does not fit")) }
                ul { @for finding in &evidence.findings { li class="code" { (finding) } } }
                (self.left_out(evidence.more_findings))
            }
            (self.signatures())
        }
    }

    fn signatures(&self) -> Markup {
        let signatures = self.facts.arrivals.signatures;
        html! {
            h3 { (self.t("Handtekeningen", "Signatures")) }
            p {
                (self.t("Ontvangstbewijzen waarvan de handtekening klopt: ", "Receipts whose signature fits: ")) (self.n(signatures.good))
                @if signatures.other_key > 0 { (self.t("; met een andere sleutel: ", "; with another key: ")) (self.n(signatures.other_key)) }
                @if signatures.unchecked > 0 { (self.t("; niet nagegaan: ", "; not checked: ")) (self.n(signatures.unchecked)) }
                @if signatures.bad > 0 { span class="bad-text" { (self.t("; die niet past: ", "; that does not fit: ")) (self.n(signatures.bad)) } }
                "."
            }
            @match &self.facts.signed_with {
                Some(key) => {
                    p { (self.t("Dit verslag is ondertekend; de handtekening is het bestand ernaast dat op .sig eindigt. Zo controleert u ze:", "This report is signed; the signature is the file beside it that ends in .sig. To check it:")) }
                    pre class="code" { "ssh-keygen -Y verify -f allowed_signers -I " (SIGNER) " -n " (Namespace::Report.as_str()) " -s " (self.t("VERSLAG", "REPORT")) ".html.sig < " (self.t("VERSLAG", "REPORT")) ".html" }
                    p { (self.t("Vergelijk de vingerafdruk die verschijnt met die welke u langs een andere weg kreeg. De server zegt: ", "Compare the fingerprint that is shown with the one you were given another way. The server says: ")) span class="code" { (key) } }
                }
                None => { p class="bad-text" { (self.t("Dit verslag is niet ondertekend.", "This report is not signed.")) } }
            }
        }
    }

    pub(super) fn protection(&self) -> Markup {
        html! {
            dl { @for row in &self.facts.protection { dt { (self.w(&row.what)) } dd { (self.w(&row.with)) } } }
        }
    }

    pub(super) fn not_known(&self) -> Markup {
        html! { ul { @for words in &self.facts.not_known { li { (self.w(words)) } } } }
    }
}
