//! Why something was refused or held. The reason is data; its code and its Dutch and English sentences are written
//! here once, for status messages, receipts, the access log and metrics. No sentence holds an internal detail.

mod all;
mod jobs;
mod replay;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::arrival::ArrivalId;

/// Why a peer, a request or an arrival was turned away. Serialised as `{"code": "too-large", "limit": 1048576}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Reason {
    /// The path names nothing that this institution can see; also the answer for other institutions' things.
    NoSuchPath,
    /// The name is not UTF-8, too long, or holds control characters.
    BadName,
    /// Writing, removing or renaming where only reading is possible.
    FolderIsReadOnly,
    /// Reading back from a drop folder.
    DropIsWriteOnly,
    /// This institution has no part in this exchange that allows the operation.
    NotYourPart,
    /// An arrival of this name is still in progress, or another session is writing it.
    NameInUse,
    /// The exchange accepts other file names only.
    NameNotAccepted,
    /// The agreement has not begun.
    AgreementNotBegun {
        /// First day on which it holds.
        from: Date,
    },
    /// The agreement has ended.
    AgreementEnded {
        /// Last day on which it held.
        on: Date,
    },
    /// The content does not begin as an age file does.
    NotEncrypted,
    /// The age header breaks the specification (age-encryption.org/v1).
    HeaderMalformed,
    /// The age header exceeds the limits on its size, stanzas or line length.
    HeaderTooLarge,
    /// The file is encrypted with a passphrase; only public keys are accepted inbound.
    PassphraseEncrypted,
    /// The file is in text armor, and this exchange takes the binary form only.
    ArmorNotAccepted,
    /// The end of the file is missing or damaged.
    CutShort,
    /// The content was altered: a part before the end does not authenticate.
    Damaged,
    /// None of the recipients in the header is this zone.
    NotForUs,
    /// The file exceeds the exchange's size.
    TooLarge {
        /// The largest size accepted, in bytes.
        limit: u64,
    },
    /// The upload ended without one byte of content.
    Empty,
    /// Writes came in an order that cannot be followed within the memory a session may use.
    WritesOutOfOrder,
    /// The header that was inspected was overwritten with something else.
    HeaderRewritten,
    /// The decrypted list is no table: row and column counts do not fit, or it is not UTF-8.
    NotATable {
        /// Line in the decrypted list at which reading stopped, 1 for the header line.
        row: u64,
    },
    /// The result has columns other than those agreed.
    ColumnsNotAgreed,
    /// The job failed in a way that another try will not mend.
    JobFailed,
    /// The job failed for a passing cause and will be tried again.
    JobDeferred,
    /// The job failed too often.
    TriesExhausted,
    /// The job took more time than one may.
    JobTooLong,
    /// The job made more bytes of results than one may.
    ResultTooLarge,
    /// The job needed more memory than one may.
    JobMemory,
    /// An operator discarded the held arrival.
    Discarded,
    /// The arrival's own description is unreadable or does not fit its folder.
    ArrivalUnreadable,
    /// The configuration no longer knows the exchange, the flow or the institution of this arrival.
    NoLongerConfigured,
    /// The same encrypted file is here already, from the same institution in the same exchange.
    SameContentAgain {
        /// The arrival that it is the same as.
        arrival: ArrivalId,
        /// Whether that one is held, so that nothing comes of either for the time being.
        is_held: bool,
    },
    /// The same encrypted file was handed in before by somebody else, or in another exchange.
    SameContentElsewhere,
    /// More files and folders open at once than a session may have.
    TooManyOpen,
    /// More uploads that are not complete than an institution may have in an exchange.
    TooManyUnfinished,
    /// The server cannot store or log at the moment.
    Unavailable,
    /// The spool has no room for uploads at the moment.
    SpoolFull,
    /// Nobody can say at the moment whether the file is for this zone, and the flow does not take it unasked.
    CannotBeChecked,
    /// The operation is outside what a drop zone does.
    Unsupported,
}

impl Reason {
    /// The stable, machine-readable code: kebab-case, used in the log, receipts and as a metric label.
    pub fn code(&self) -> &'static str {
        self.wording().0
    }

    /// What to do, in Dutch.
    pub fn dutch(&self) -> &'static str {
        self.wording().1
    }

    /// What to do, in English.
    pub fn english(&self) -> &'static str {
        self.wording().2
    }

    /// Whether this machine is the cause, so that the same thing may be tried again later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable | Self::CannotBeChecked | Self::SpoolFull)
    }

    /// Every code, to give metrics their full set of labels from the start.
    pub fn codes() -> Vec<&'static str> {
        Self::one_of_each().iter().map(Self::code).collect()
    }

    fn wording(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NotEncrypted
            | Self::HeaderMalformed
            | Self::HeaderTooLarge
            | Self::PassphraseEncrypted
            | Self::ArmorNotAccepted
            | Self::NotForUs
            | Self::HeaderRewritten => self.wording_of_envelopes(),
            Self::CutShort | Self::Damaged | Self::TooLarge { .. } | Self::Empty | Self::WritesOutOfOrder => {
                self.wording_of_content()
            }
            Self::NotATable { .. }
            | Self::ColumnsNotAgreed
            | Self::JobFailed
            | Self::JobDeferred
            | Self::TriesExhausted
            | Self::ArrivalUnreadable
            | Self::NoLongerConfigured => jobs::wording(self),
            Self::JobTooLong | Self::ResultTooLarge | Self::JobMemory | Self::Discarded => {
                jobs::wording_of_ends(self)
            }
            Self::SameContentAgain { .. } | Self::SameContentElsewhere => self.wording_of_repetitions(),
            Self::NoSuchPath
            | Self::BadName
            | Self::FolderIsReadOnly
            | Self::DropIsWriteOnly
            | Self::NotYourPart
            | Self::NameInUse
            | Self::NameNotAccepted
            | Self::Unsupported => self.wording_of_requests(),
            Self::AgreementNotBegun { .. }
            | Self::AgreementEnded { .. }
            | Self::TooManyOpen
            | Self::TooManyUnfinished
            | Self::CannotBeChecked
            | Self::SpoolFull
            | Self::Unavailable => self.wording_of_service(),
        }
    }

    fn wording_of_envelopes(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NotEncrypted => (
                "not-encrypted",
                "Dit bestand is niet versleuteld. Versleutel het met age voor de sleutel van deze zone en stuur het opnieuw.",
                "This file is not encrypted. Encrypt it with age to this zone's key and send it again.",
            ),
            Self::HeaderMalformed => (
                "header-malformed",
                "De kop van dit age-bestand is ongeldig. Versleutel de lijst opnieuw en stuur het nieuwe bestand.",
                "The header of this age file is invalid. Encrypt the list again and send the new file.",
            ),
            Self::HeaderTooLarge => (
                "header-too-large",
                "De kop van dit age-bestand is te groot. Versleutel de lijst voor hoogstens 32 ontvangers.",
                "The header of this age file is too large. Encrypt the list to at most 32 recipients.",
            ),
            Self::PassphraseEncrypted => (
                "passphrase-encrypted",
                "Dit bestand is met een wachtwoordzin versleuteld. Versleutel het met age voor de publieke sleutel van deze zone.",
                "This file is encrypted with a passphrase. Encrypt it with age to this zone's public key.",
            ),
            Self::ArmorNotAccepted => (
                "armor-not-accepted",
                "Dit bestand is in tekstvorm versleuteld (age --armor). Stuur de binaire vorm.",
                "This file is encrypted as text (age --armor). Send the binary form.",
            ),
            Self::NotForUs => (
                "not-for-us",
                "Dit bestand is niet voor deze zone versleuteld. Gebruik de publieke sleutel (age1...) die u van de beheerder kreeg.",
                "This file is not encrypted to this zone. Use the public key (age1...) that the operator gave you.",
            ),
            _ => (
                "header-rewritten",
                "Het begin van dit bestand werd tijdens de overdracht overschreven. Stuur het bestand opnieuw, van begin tot einde.",
                "The beginning of this file was overwritten during the transfer. Send the file again, from start to end.",
            ),
        }
    }

    fn wording_of_content(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::CutShort => (
                "cut-short",
                "Het einde van dit bestand ontbreekt of is beschadigd; de overdracht is wellicht afgebroken. Stuur het bestand opnieuw.",
                "The end of this file is missing or damaged; the transfer was probably cut short. Send the file again.",
            ),
            Self::Damaged => (
                "damaged",
                "De inhoud van dit bestand is gewijzigd of beschadigd. Versleutel de lijst opnieuw en stuur het nieuwe bestand.",
                "The content of this file was altered or damaged. Encrypt the list again and send the new file.",
            ),
            Self::TooLarge { .. } => (
                "too-large",
                "Dit bestand is groter dan afgesproken. Splits de lijst of neem contact op met de beheerder.",
                "This file is larger than agreed. Split the list or contact the operator.",
            ),
            Self::Empty => (
                "empty",
                "Dit bestand is leeg. Versleutel de lijst met age en stuur het resultaat.",
                "This file is empty. Encrypt the list with age and send the result.",
            ),
            _ => (
                "writes-out-of-order",
                "Uw programma stuurt de delen van het bestand in een te losse volgorde. Stuur het met een gewone SFTP-client, van begin tot einde.",
                "Your program sends the parts of the file too far out of order. Send it with an ordinary SFTP client, from start to end.",
            ),
        }
    }

    fn wording_of_requests(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NoSuchPath => (
                "no-such-path",
                "Dit pad bestaat niet. Bekijk de mappen /uitwisseling/in, out en receipts.",
                "No such path. Look at the folders /exchange/in, out and receipts.",
            ),
            Self::BadName => (
                "bad-name",
                "Deze naam is niet toegelaten. Gebruik hoogstens 255 bytes UTF-8 zonder stuurtekens.",
                "This name is not allowed. Use at most 255 bytes of UTF-8 without control characters.",
            ),
            Self::FolderIsReadOnly => (
                "folder-is-read-only",
                "In deze map kunt u niet schrijven. Zet uw bestand in de map in van de uitwisseling.",
                "You cannot write in this folder. Put your file into the exchange's folder in.",
            ),
            Self::DropIsWriteOnly => (
                "drop-is-write-only",
                "Bestanden in de map in kunnen niet teruggelezen, hernoemd of verwijderd worden. Resultaten staan in out.",
                "Files in the folder in cannot be read back, renamed or removed. Results are in out.",
            ),
            Self::NotYourPart => (
                "not-your-part",
                "Uw organisatie mag dit niet doen in deze uitwisseling. Neem contact op met de beheerder.",
                "Your organisation may not do this in this exchange. Contact the operator.",
            ),
            Self::NameInUse => (
                "name-in-use",
                "Een bestand met deze naam wordt nog verwerkt. Kies een andere naam of wacht op het ontvangstbewijs.",
                "A file of this name is still in progress. Choose another name or wait for its receipt.",
            ),
            Self::NameNotAccepted => (
                "name-not-accepted",
                "Deze bestandsnaam past niet bij de uitwisseling. Gebruik de afgesproken naam, bijvoorbeeld lijst.csv.age.",
                "This file name does not fit the exchange. Use the agreed name, for example list.csv.age.",
            ),
            _ => (
                "unsupported",
                "Deze bewerking bestaat hier niet. U kunt bestanden plaatsen in in en ophalen uit out.",
                "This operation does not exist here. You can put files into in and collect them from out.",
            ),
        }
    }

    fn wording_of_service(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AgreementNotBegun { .. } => (
                "agreement-not-begun",
                "Het protocol voor deze uitwisseling is nog niet in werking.",
                "The agreement for this exchange has not begun.",
            ),
            Self::AgreementEnded { .. } => (
                "agreement-ended",
                "Het protocol voor deze uitwisseling is beëindigd.",
                "The agreement for this exchange has ended.",
            ),
            Self::TooManyOpen => (
                "too-many-open",
                "U hebt te veel bestanden of mappen tegelijk open. Sluit er enkele en probeer opnieuw.",
                "You have too many files or folders open at once. Close some and try again.",
            ),
            Self::TooManyUnfinished => (
                "too-many-unfinished",
                "In deze map staan te veel onvolledige bestanden. Werk er enkele af of verwijder ze en probeer opnieuw.",
                "Too many incomplete files are in this folder. Complete or remove some and try again.",
            ),
            Self::CannotBeChecked => (
                "cannot-be-checked",
                "Dit bestand kan nu niet gecontroleerd worden. Er is niets mis mee; probeer het later opnieuw.",
                "This file cannot be checked at the moment. Nothing is wrong with it; try again later.",
            ),
            Self::SpoolFull => (
                "spool-full",
                "De server heeft op dit ogenblik geen plaats. Probeer het later opnieuw; wat al verstuurd was, blijft bewaard zodat u kunt hervatten.",
                "The server has no room at the moment. Try again later; what was sent is kept where it is, so that you can resume.",
            ),
            _ => (
                "unavailable",
                "De server kan dit nu niet bewaren. Probeer het later opnieuw.",
                "The server cannot store this now. Try again later.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_in_json_is_the_code_in_the_log_and_no_two_reasons_share_one() {
        let all = Reason::one_of_each();
        let mut codes = Reason::codes();
        assert!(codes.contains(&"same-content-again"));
        for reason in &all {
            let json = serde_json::to_value(reason).unwrap();
            assert_eq!(json["code"], reason.code());
            assert_eq!(&serde_json::from_value::<Reason>(json).unwrap(), reason);
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all.len());
    }
}
