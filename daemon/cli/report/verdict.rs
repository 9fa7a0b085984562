//! What the facts come to, in plain words: the statements of the first page, and what a report cannot know.

use super::facts::{Facts, Level, Statement, Words};
use super::language::Language::{En, Nl};
use super::language::counted;
use super::setup::Party;

/// The statements, the same for every report and in the same order, so that two can be laid side by side.
pub fn statements(facts: &Facts) -> Vec<Statement> {
    let mut all = vec![in_force(facts), arrivals(facts), people(facts), logins(facts), incidents(facts)];
    all.extend(facts.rhythm.iter().map(|rhythm| {
        statement(
            "rhythm",
            rhythm.level,
            format!("Ritme van {}: {}.", rhythm.flow, rhythm.found.nl),
            format!("Rhythm of {}: {}.", rhythm.flow, rhythm.found.en),
        )
    }));
    all.extend([retention(facts), receipts(facts), log(facts), coverage(facts)]);
    all
}

fn statement(about: &'static str, level: Level, nl: impl Into<String>, en: impl Into<String>) -> Statement {
    Statement { about, level, words: Words::new(nl, en) }
}

fn in_force(facts: &Facts) -> Statement {
    let (from, until) = (facts.agreement.from, facts.agreement.until);
    let whole = from <= facts.from && until.is_none_or(|until| facts.to <= until);
    if whole {
        return statement(
            "agreement",
            Level::Good,
            "Het protocol was de hele periode in werking.",
            "The agreement was in force for the whole span.",
        );
    }
    let (mut nl, mut en) = (format!("vanaf {}", Nl.day(from)), format!("from {}", En.day(from)));
    if let Some(until) = until {
        nl += &format!(" tot en met {}", Nl.day(until));
        en += &format!(" up to and including {}", En.day(until));
    }
    if from > facts.to || until.is_some_and(|until| until < facts.from) {
        return statement(
            "agreement",
            Level::Attention,
            format!(
                "Het protocol was in deze periode niet in werking (wel {nl}): de server laat dan niemand toe."
            ),
            format!(
                "The agreement was not in force in this span (but {en}): the server then lets nobody in."
            ),
        );
    }
    statement(
        "agreement",
        Level::Attention,
        format!(
            "Het protocol was niet de hele periode in werking, maar {nl}; daarbuiten laat de server niemand toe."
        ),
        format!(
            "The agreement was not in force for the whole span, but {en}; outside it, the server lets nobody in."
        ),
    )
}

fn arrivals(facts: &Facts) -> Statement {
    let of = |verdict: &str| facts.arrivals.verdicts.get(verdict).copied().unwrap_or(0);
    let (count, refused) = (facts.arrivals.rows.count, of("refused"));
    if count == 0 {
        return statement("arrivals", Level::Good, "Er werd niets ingediend.", "Nothing was handed in.");
    }
    let held = of("held");
    let parts = |names: [&str; 5]| {
        let counts = [of("delivered"), refused, held, of("discarded"), of("repeated")];
        let told = counts.into_iter().zip(names).filter(|(count, _)| *count > 0);
        told.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    };
    let nl = parts(["geleverd", "geweigerd", "aangehouden", "verworpen", "herhaald"]);
    let en = parts(["delivered", "refused", "held", "discarded", "repeated"]);
    let with = |begin: String, rest: String| if rest.is_empty() { begin } else { format!("{begin}: {rest}") };
    statement(
        "arrivals",
        if held > 0 { Level::Attention } else { Level::Good },
        with(counted(count, "bestand ingediend", "bestanden ingediend", Nl), nl) + ".",
        with(counted(count, "file was handed in", "files were handed in", En), en) + ".",
    )
}

fn people(facts: &Facts) -> Statement {
    let over = |party: &&Party| party.at_most.is_some_and(|most| party.people.len() > most);
    let limited = facts.parties.iter().filter(|party| party.at_most.is_some()).count();
    let count: usize = facts.parties.iter().map(|party| party.people.len()).sum();
    if let Some(party) = facts.parties.iter().find(over) {
        let (people, most) = (party.people.len(), party.at_most.unwrap_or(0));
        return statement(
            "people",
            Level::Bad,
            format!(
                "{} heeft {people} personen met toegang; afgesproken zijn er hoogstens {most}.",
                party.title
            ),
            format!("{} has {people} people with access; at most {most} are agreed.", party.title),
        );
    }
    let strangers = facts.log.people.iter().filter(|person| !facts.is_party(&person.institution)).count();
    if strangers > 0 {
        return statement(
            "people",
            Level::Attention,
            "Iemand die geen partij is, vroeg iets van deze uitwisseling en werd afgewezen (zie Toegang).",
            "Somebody who is no party asked for something of this exchange and was turned down (see Access).",
        );
    }
    if facts.agreement.has_ended {
        return statement(
            "people",
            Level::Good,
            "Niemand heeft nog toegang: het protocol is beëindigd.",
            "Nobody has access any more: the agreement has ended.",
        );
    }
    let (mut nl, mut en) = (
        counted(count as u64, "persoon heeft toegang", "personen hebben toegang", Nl),
        counted(count as u64, "person has access", "people have access", En),
    );
    if limited > 0 {
        nl += ", niet meer dan afgesproken";
        en += ", no more than agreed";
    }
    statement("people", Level::Good, nl + ".", en + ".")
}

fn logins(facts: &Facts) -> Statement {
    let count: u64 = facts.log.refused_logins.iter().map(|refused| refused.count).sum();
    let is_foreign = |code: &str| matches!(code, "unknown-key" | "wrong-network" | "not-proven");
    let foreign: u64 = facts
        .log
        .refused_logins
        .iter()
        .filter(|refused| is_foreign(&refused.code))
        .map(|refused| refused.count)
        .sum();
    if facts.evidence.covered_from.is_none() {
        return statement(
            "logins",
            Level::Attention,
            "Of er aanmeldingen geweigerd werden, is niet na te gaan: van deze periode is er geen toegangslogboek.",
            "Whether logins were refused cannot be known: there is no access log of this span.",
        );
    }
    if count == 0 {
        return statement(
            "logins",
            Level::Good,
            "Geen enkele aanmelding in naam van een partij werd geweigerd.",
            "No login in the name of a party was refused.",
        );
    }
    let nl = counted(
        count,
        "geweigerde aanmelding in naam van een partij",
        "geweigerde aanmeldingen in naam van een partij",
        Nl,
    );
    let en =
        counted(count, "refused login in the name of a party", "refused logins in the name of a party", En);
    let (of_them_nl, of_them_en) = if foreign == count {
        (
            " met een onbekende sleutel of van elders".to_owned(),
            " with an unknown key or from elsewhere".to_owned(),
        )
    } else if foreign > 0 {
        (
            format!(", waarvan {foreign} met een onbekende sleutel of van elders"),
            format!(", {foreign} of them with an unknown key or from elsewhere"),
        )
    } else {
        (String::new(), String::new())
    };
    let level = if foreign > 0 { Level::Attention } else { Level::Good };
    statement("logins", level, format!("{nl}{of_them_nl}."), format!("{en}{of_them_en}."))
}

fn incidents(facts: &Facts) -> Statement {
    let count = facts.incidents.count;
    if count == 0 {
        return statement(
            "incidents",
            Level::Good,
            "Er werden geen incidenten vastgesteld.",
            "No incidents were found.",
        );
    }
    statement(
        "incidents",
        Level::Attention,
        counted(count, "incident vastgesteld", "incidenten vastgesteld", Nl) + " (zie Incidenten).",
        counted(count, "incident was found", "incidents were found", En) + " (see Incidents).",
    )
}

fn retention(facts: &Facts) -> Statement {
    let overdue: Vec<&super::facts::Kept> = facts.kept.iter().filter(|kept| kept.overdue).collect();
    if overdue.is_empty() {
        return statement(
            "retention",
            Level::Good,
            "Wat zijn bewaartermijn had bereikt, is verwijderd.",
            "What had reached the end of its retention period was deleted.",
        );
    }
    let names =
        |of: fn(&Words) -> &str| overdue.iter().map(|kept| of(&kept.what)).collect::<Vec<_>>().join(", ");
    statement(
        "retention",
        Level::Bad,
        format!("Langer bewaard dan afgesproken: {}.", names(|words| &words.nl)),
        format!("Kept longer than agreed: {}.", names(|words| &words.en)),
    )
}

fn receipts(facts: &Facts) -> Statement {
    let signatures = facts.arrivals.signatures;
    if signatures.bad > 0 {
        return statement(
            "receipts",
            Level::Bad,
            format!(
                "{} met een handtekening die niet past: gewijzigd, of niet van deze server.",
                counted(signatures.bad, "ontvangstbewijs", "ontvangstbewijzen", Nl)
            ),
            format!(
                "{} with a signature that does not fit: altered, or not of this server.",
                counted(signatures.bad, "receipt", "receipts", En)
            ),
        );
    }
    if signatures.other_key + signatures.unchecked > 0 {
        return statement(
            "receipts",
            Level::Attention,
            "Niet van elk ontvangstbewijs kon de handtekening met de huidige sleutel nagegaan worden.",
            "Not every receipt's signature could be checked with the present key.",
        );
    }
    statement(
        "receipts",
        Level::Good,
        "De handtekening onder elk ontvangstbewijs klopt.",
        "The signature under every receipt fits.",
    )
}

fn log(facts: &Facts) -> Statement {
    match facts.evidence.intact {
        Some(true) => statement(
            "log",
            Level::Good,
            "Het toegangslogboek is ongewijzigd: elke regel volgt op de vorige en past bij de zegels.",
            "The access log is unaltered: each line follows the one before and fits the seals.",
        ),
        Some(false) => statement(
            "log",
            Level::Bad,
            "Het toegangslogboek is niet meer zoals het geschreven werd (zie Bewijskracht).",
            "The access log is not as it was written (see Evidence).",
        ),
        None => statement(
            "log",
            Level::Attention,
            "Het toegangslogboek kon niet nagegaan worden (zie Bewijskracht).",
            "The access log could not be checked (see Evidence).",
        ),
    }
}

fn coverage(facts: &Facts) -> Statement {
    let evidence = &facts.evidence;
    let keep = evidence.keep_days;
    match evidence.covered_from {
        Some(from) if from <= facts.from && evidence.days_missing.is_empty() => statement(
            "coverage",
            Level::Good,
            "Het toegangslogboek dekt de hele periode.",
            "The access log covers the whole span.",
        ),
        Some(from) if from <= facts.from => {
            let days = evidence.days_missing.len() as u64;
            statement(
                "coverage",
                Level::Attention,
                format!(
                    "Van {} in de periode is er geen toegangslogboek: de server draaide toen niet.",
                    counted(days, "dag", "dagen", Nl)
                ),
                format!(
                    "Of {} in the span there is no access log: the server did not run then.",
                    counted(days, "day", "days", En)
                ),
            )
        }
        Some(from) => statement(
            "coverage",
            Level::Attention,
            format!(
                "Het toegangslogboek wordt {keep} dagen bewaard en dekt deze periode pas vanaf {}; voordien spreken enkel de ontvangstbewijzen.",
                Nl.day(from)
            ),
            format!(
                "The access log is kept for {keep} days and covers this span from {} only; before that, only the receipts speak.",
                En.day(from)
            ),
        ),
        None => statement(
            "coverage",
            Level::Attention,
            format!(
                "Van deze periode is er geen toegangslogboek meer (het wordt {keep} dagen bewaard); enkel de ontvangstbewijzen spreken."
            ),
            format!(
                "There is no access log of this span any more (it is kept for {keep} days); only the receipts speak."
            ),
        ),
    }
}

impl Facts {
    /// Whether an institution takes part now.
    pub fn is_party(&self, institution: &str) -> bool {
        self.parties.iter().any(|party| party.institution == institution)
    }

    /// The access log does not speak of the whole span.
    pub fn has_gaps(&self) -> bool {
        self.evidence.covered_from.is_none_or(|from| from > self.from)
            || !self.evidence.days_missing.is_empty()
    }
}

/// What this report cannot know.
pub fn not_known(facts: &Facts) -> Vec<Words> {
    let mut all = vec![Words::new(
        "Partijen, personen, sleutels en afspraken staan hier zoals ze ingesteld waren toen dit verslag gemaakt werd. Vroegere instellingen worden niet bewaard; wanneer ze wijzigden, staat bij Handelingen van de beheerders.",
        "Parties, people, keys and rules are told as they were set up when this report was made. Earlier settings are not kept; when they changed is told under Operators' actions.",
    )];
    if facts.has_gaps() {
        all.push(Words::new(
            "Wie zich aanmeldde, iets ophaalde of afgewezen werd op dagen zonder toegangslogboek, is niet meer na te gaan. De aantallen bij Toegang gelden enkel voor de dagen die het logboek dekt.",
            "Who logged in, fetched anything or was turned down on days without access log cannot be known any more. The numbers under Access are of the days that the log covers.",
        ));
    }
    if let Some(days) = facts.kept.iter().find(|kept| kept.kind == "receipts").and_then(|kept| kept.days) {
        all.push(Words::new(
            format!(
                "Ontvangstbewijzen worden {days} dagen bewaard; oudere bestanden worden hier niet meegeteld."
            ),
            format!("Receipts are kept for {days} days; older files are not counted here."),
        ));
    }
    if facts.arrivals.not_opened > 0 || facts.flows.iter().any(|flow| flow.list.is_none()) {
        all.push(Words::new(
            "De inhoud van bestanden die enkel doorgegeven worden, kan de server niet lezen. Of er enkel de afgesproken gegevens in staan, kan hij daarvan niet zeggen.",
            "The server cannot read files that it only hands on. Whether they hold nothing but the agreed data it cannot say.",
        ));
    }
    all.push(Words::new(
        "Wat de partijen met een bestand doen nadat ze het hebben opgehaald, ziet de server niet.",
        "What the parties do with a file after they fetched it the server does not see.",
    ));
    all.push(Words::new(
        "Aanmelden geldt voor de server, niet voor één uitwisseling: een aanmelding kan ook voor een ander protocol gediend hebben.",
        "A login is to the server, not to one exchange: it may have served another agreement.",
    ));
    all
}
