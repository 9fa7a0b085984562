//! What the sender of a file that was here before is told. Never whose it was.

use super::Reason;

impl Reason {
    pub(super) fn wording_of_repetitions(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::SameContentAgain { is_held: false, .. } => (
                "same-content-again",
                "Dit is precies het bestand dat u al eerder stuurde; het wordt geen tweede keer verwerkt. Lees het ontvangstbewijs van die aankomst. \
                 Moet de lijst opnieuw verwerkt worden, versleutel ze dan opnieuw.",
                "This is exactly the file that you sent before; it is not processed again. Read the receipt of that arrival. To have \
                 the list processed once more, encrypt it again.",
            ),
            Self::SameContentAgain { is_held: true, .. } => (
                "same-content-again",
                "Dit is precies het bestand dat u al eerder stuurde en dat werd tegengehouden. Het ontvangstbewijs van die aankomst zegt waarom; \
                 stuur zo nodig een verbeterde lijst, opnieuw versleuteld.",
                "This is exactly the file that you sent before and that is held. The receipt of that arrival says why; if need be, send a \
                 corrected list, encrypted again.",
            ),
            _ => (
                "same-content-elsewhere",
                "Precies dit versleutelde bestand werd al eerder elders ingediend en wordt hier niet verwerkt. Versleutel uw lijst opnieuw, voor deze \
                 uitwisseling, en stuur het nieuwe bestand. De beheerder ziet het.",
                "Exactly this encrypted file was handed in elsewhere before and is not processed here. Encrypt your list again, for this \
                 exchange, and send the new file. The operator sees it.",
            ),
        }
    }
}
