//! One reason of each kind, so that codes and metrics can be listed.

use jiff::civil::Date;

use super::Reason;
use crate::policy::arrival::ArrivalId;

impl Reason {
    pub(super) fn one_of_each() -> Vec<Self> {
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
