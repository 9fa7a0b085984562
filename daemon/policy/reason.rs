//! Why something was refused or held. The reason is data; its code and its Dutch and English sentences are written once, in
//! `wording`, for status messages, receipts, the access log and metrics.

mod wording;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use self::wording::Wording;
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
    /// Rows or columns break the rules that the agreement sets; the quality report says which.
    ContentRules,
    /// The list is a workbook that cannot be read as one table.
    SheetUnreadable {
        /// Row of the sheet at which reading stopped, from 1; none where it is about the workbook as a whole.
        row: Option<u64>,
    },
    /// As many lists have come in this period as the agreement allows.
    Surplus {
        /// First day of the next period.
        again: Date,
    },
    /// What comes once only has come before.
    SurplusKey,
    /// The exchange is not set up to its end: a receiver has no recipient yet.
    FlowNotReady,
    /// The program that makes the result failed.
    CommandFailed,
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
        self.wording().code
    }

    /// What to do, in Dutch.
    pub fn dutch(&self) -> &'static str {
        self.wording().dutch
    }

    /// What to do, in English.
    pub fn english(&self) -> &'static str {
        self.wording().english
    }

    /// Whether this machine is the cause, so that the same thing may be tried again later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable | Self::CannotBeChecked | Self::SpoolFull)
    }

    /// Every code, to give metrics their full set of labels from the start.
    pub fn codes() -> Vec<&'static str> {
        Self::one_of_each().iter().map(Self::code).collect()
    }

    /// A reason that has this code, for its sentences; what else it says is made up.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::one_of_each().into_iter().find(|reason| reason.code() == code)
    }

    fn wording(&self) -> &'static Wording {
        match self {
            Self::NoSuchPath => &wording::NO_SUCH_PATH,
            Self::BadName => &wording::BAD_NAME,
            Self::FolderIsReadOnly => &wording::FOLDER_IS_READ_ONLY,
            Self::DropIsWriteOnly => &wording::DROP_IS_WRITE_ONLY,
            Self::NotYourPart => &wording::NOT_YOUR_PART,
            Self::NameInUse => &wording::NAME_IN_USE,
            Self::NameNotAccepted => &wording::NAME_NOT_ACCEPTED,
            Self::AgreementNotBegun { .. } => &wording::AGREEMENT_NOT_BEGUN,
            Self::AgreementEnded { .. } => &wording::AGREEMENT_ENDED,
            Self::NotEncrypted => &wording::NOT_ENCRYPTED,
            Self::HeaderMalformed => &wording::HEADER_MALFORMED,
            Self::HeaderTooLarge => &wording::HEADER_TOO_LARGE,
            Self::PassphraseEncrypted => &wording::PASSPHRASE_ENCRYPTED,
            Self::ArmorNotAccepted => &wording::ARMOR_NOT_ACCEPTED,
            Self::CutShort => &wording::CUT_SHORT,
            Self::Damaged => &wording::DAMAGED,
            Self::NotForUs => &wording::NOT_FOR_US,
            Self::TooLarge { .. } => &wording::TOO_LARGE,
            Self::Empty => &wording::EMPTY,
            Self::WritesOutOfOrder => &wording::WRITES_OUT_OF_ORDER,
            Self::HeaderRewritten => &wording::HEADER_REWRITTEN,
            Self::NotATable { .. } => &wording::NOT_A_TABLE,
            Self::ColumnsNotAgreed => &wording::COLUMNS_NOT_AGREED,
            Self::ContentRules => &wording::CONTENT_RULES,
            Self::SheetUnreadable { .. } => &wording::SHEET_UNREADABLE,
            Self::Surplus { .. } => &wording::SURPLUS,
            Self::SurplusKey => &wording::SURPLUS_KEY,
            Self::FlowNotReady => &wording::FLOW_NOT_READY,
            Self::CommandFailed => &wording::COMMAND_FAILED,
            Self::JobFailed => &wording::JOB_FAILED,
            Self::JobDeferred => &wording::JOB_DEFERRED,
            Self::TriesExhausted => &wording::TRIES_EXHAUSTED,
            Self::JobTooLong => &wording::JOB_TOO_LONG,
            Self::ResultTooLarge => &wording::RESULT_TOO_LARGE,
            Self::JobMemory => &wording::JOB_MEMORY,
            Self::Discarded => &wording::DISCARDED,
            Self::ArrivalUnreadable => &wording::ARRIVAL_UNREADABLE,
            Self::NoLongerConfigured => &wording::NO_LONGER_CONFIGURED,
            Self::SameContentAgain { is_held: false, .. } => &wording::SAME_CONTENT_AGAIN,
            Self::SameContentAgain { is_held: true, .. } => &wording::SAME_CONTENT_HELD,
            Self::SameContentElsewhere => &wording::SAME_CONTENT_ELSEWHERE,
            Self::TooManyOpen => &wording::TOO_MANY_OPEN,
            Self::TooManyUnfinished => &wording::TOO_MANY_UNFINISHED,
            Self::Unavailable => &wording::UNAVAILABLE,
            Self::SpoolFull => &wording::SPOOL_FULL,
            Self::CannotBeChecked => &wording::CANNOT_BE_CHECKED,
            Self::Unsupported => &wording::UNSUPPORTED,
        }
    }

    fn one_of_each() -> Vec<Self> {
        let mut all = vec![
            Self::NoSuchPath,
            Self::BadName,
            Self::FolderIsReadOnly,
            Self::DropIsWriteOnly,
            Self::NotYourPart,
            Self::NameInUse,
            Self::NameNotAccepted,
            Self::AgreementNotBegun { from: Date::MIN },
            Self::AgreementEnded { on: Date::MIN },
            Self::NotEncrypted,
            Self::HeaderMalformed,
            Self::HeaderTooLarge,
            Self::PassphraseEncrypted,
            Self::ArmorNotAccepted,
            Self::CutShort,
            Self::Damaged,
            Self::NotForUs,
            Self::TooLarge { limit: 0 },
            Self::Empty,
            Self::WritesOutOfOrder,
            Self::HeaderRewritten,
            Self::NotATable { row: 0 },
            Self::ColumnsNotAgreed,
            Self::ContentRules,
            Self::SheetUnreadable { row: None },
            Self::Surplus { again: Date::MIN },
            Self::SurplusKey,
            Self::FlowNotReady,
            Self::CommandFailed,
            Self::JobFailed,
            Self::JobDeferred,
            Self::TriesExhausted,
            Self::JobTooLong,
            Self::ResultTooLarge,
            Self::JobMemory,
            Self::Discarded,
            Self::ArrivalUnreadable,
            Self::NoLongerConfigured,
            Self::SameContentElsewhere,
            Self::TooManyOpen,
            Self::TooManyUnfinished,
            Self::Unavailable,
            Self::SpoolFull,
            Self::CannotBeChecked,
            Self::Unsupported,
        ];
        let any = ArrivalId::parse("19700101T000000000Z-00000000-00000000.a.a");
        all.extend(any.map(|arrival| Self::SameContentAgain { arrival, is_held: false }));
        all
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
