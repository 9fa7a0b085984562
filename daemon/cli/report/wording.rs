//! What codes of the log and of receipts are called in a report, in Dutch and English, for somebody who does not know the program.

use super::facts::Words;
use crate::policy::account::LoginRefusal;
use crate::policy::incident;
use crate::policy::reason::Reason;
use crate::policy::receipt::Verdict;
use crate::policy::record::Event;
use crate::policy::retention::Kind;

/// The code under which a broken log is told among the incidents.
pub const LOG_BROKEN: &str = "log-broken";

/// What senders are told for a reason.
pub fn reason(code: &str) -> Option<Words> {
    Reason::of_code(code).map(|reason| Words::new(reason.dutch(), reason.english()))
}

/// What became of a file.
pub fn verdict(verdict: Verdict) -> Words {
    match verdict {
        Verdict::InProgress => Words::new("in verwerking", "in progress"),
        Verdict::Delivered => Words::new("geleverd", "delivered"),
        Verdict::Repeated => Words::new("herhaling", "repeated"),
        Verdict::Held => Words::new("aangehouden", "held"),
        Verdict::Refused => Words::new("geweigerd", "refused"),
        Verdict::Discarded => Words::new("verworpen", "discarded"),
    }
}

/// Why a login was refused.
pub fn login_refusal(code: &str) -> Words {
    let Some(refusal) = LoginRefusal::ALL.into_iter().find(|refusal| refusal.code() == code) else {
        return Words::new(code, code);
    };
    match refusal {
        LoginRefusal::UnknownUser => Words::new("onbekende gebruiker", "unknown user"),
        LoginRefusal::UnknownKey => Words::new("onbekende sleutel", "unknown key"),
        LoginRefusal::KeyNotYetValid => Words::new("sleutel nog niet geldig", "key not yet valid"),
        LoginRefusal::KeyExpired => Words::new("sleutel vervallen", "key expired"),
        LoginRefusal::WrongNetwork => Words::new("vanaf een ander netwerk", "from another network"),
        LoginRefusal::NoOpenExchange => Words::new("geen protocol in werking", "no agreement in force"),
        LoginRefusal::AlgorithmNotAccepted => {
            Words::new("ondertekend met een zwak algoritme", "signed with a weak algorithm")
        }
        LoginRefusal::NotProven => Words::new("sleutel niet bewezen", "key not proven"),
        LoginRefusal::TooManyFromSource => {
            Words::new("te veel sessies van één adres", "too many sessions from one address")
        }
        LoginRefusal::TooManyOfInstitution => {
            Words::new("te veel sessies van de instelling", "too many sessions of the institution")
        }
    }
}

/// What an operator did.
pub fn action(event: Event) -> Words {
    match event {
        Event::Release => Words::new("aangehouden bestand vrijgegeven", "released a held file"),
        Event::Discard => Words::new("aangehouden bestand verworpen", "discarded a held file"),
        Event::Retry => Words::new("verwerking opnieuw gestart", "had a job tried again"),
        Event::Kick => Words::new("sessie afgebroken", "cut a session"),
        Event::Confirm => Words::new("klok bevestigd", "confirmed the clock"),
        Event::Config => Words::new("configuratie gewijzigd", "configuration changed"),
        Event::Backup => Words::new("reservekopie", "backup"),
        Event::Passphrase => Words::new("wachtwoordzin uitgereikt", "handed out a passphrase"),
        Event::Destroy => Words::new("pseudoniemsleutel vernietigd", "pseudonym key destroyed"),
        Event::IncidentClose => Words::new("incident afgesloten", "closed an incident"),
        other => {
            let name = serde_json::to_string(&other).unwrap_or_default();
            Words::new(name.trim_matches('"'), name.trim_matches('"'))
        }
    }
}

/// What happened.
pub fn incident(code: &str) -> Words {
    use incident::Incident;
    if code == LOG_BROKEN {
        return Words::new(
            "het toegangslogboek was niet meer zoals het geschreven werd, of kon niet verzegeld worden",
            "the access log was not as it had been written, or could not be sealed",
        );
    }
    let Some(incident) = Incident::ALL.into_iter().find(|incident| incident.code() == code) else {
        return Words::new(code, code);
    };
    match incident {
        Incident::OtherInstitution => Words::new(
            "een versleuteld bestand van een instelling werd door een andere instelling ingediend",
            "the encrypted file of one institution was handed in by another",
        ),
        Incident::OtherExchange => Words::new(
            "een versleuteld bestand van dit protocol werd onder een ander protocol ingediend",
            "the encrypted file of this agreement was handed in under another",
        ),
        Incident::Substituted => Words::new(
            "een bestand op de schijf was niet het bestand dat was ingediend",
            "a file on the disk was not the one that had been handed in",
        ),
        Incident::MarkerForged => Words::new(
            "een merkteken van eerder ontvangen bestanden was vervalst of onleesbaar",
            "a marker of files that were here before was forged or unreadable",
        ),
        Incident::PlaintextRefused => Words::new(
            "een bestand dat niet versleuteld was, werd verzonden; het werd geweigerd en niet bewaard",
            "a file that was not encrypted was sent; it was refused and not stored",
        ),
        Incident::ForeignPath => Words::new(
            "een instelling zocht toegang tot een uitwisseling waaraan zij geen deel heeft; zij kreeg niets te zien",
            "an institution reached for an exchange that it has no part in; it was shown nothing",
        ),
        Incident::UnknownKey => Words::new(
            "iemand wou aanmelden als een instelling met een sleutel die niet van haar is; niemand werd toegelaten",
            "somebody tried to log in as an institution with a key that is none of its; nobody was let in",
        ),
        Incident::LogTampered => Words::new(
            "het toegangslogboek was niet meer zoals het verzegeld werd",
            "the access log was not as it was sealed",
        ),
    }
}

/// What is kept.
pub fn kind(kind: Kind) -> Words {
    match kind {
        Kind::Partial => Words::new("onvolledige verzendingen", "unfinished uploads"),
        Kind::Refused => Words::new("gegevens over geweigerde bestanden", "descriptions of refused files"),
        Kind::Done => Words::new("afgehandelde bestanden, versleuteld", "finished files, encrypted"),
        Kind::Result => Words::new("resultaten die niemand ophaalde", "results that nobody collected"),
        Kind::Receipt => Words::new("ontvangstbewijzen", "receipts"),
        Kind::HeadCopy => Words::new("kopieën van logboekzegels", "copies of log seals"),
        Kind::Digest => {
            Words::new("vingerafdrukken van ontvangen bestanden", "fingerprints of files received")
        }
    }
}
