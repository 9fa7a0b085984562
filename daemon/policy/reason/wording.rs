//! What each reason is called, and what it tells the institution to do, in Dutch and in English. Never whose a file was, and
//! never an internal detail. Which reason holds when is for those who give it.

/// The words of a reason.
pub(super) struct Wording {
    /// Stable, for programs: kebab-case.
    pub code: &'static str,
    /// What to do, in Dutch.
    pub dutch: &'static str,
    /// What to do, in English.
    pub english: &'static str,
}

pub(super) const NO_SUCH_PATH: Wording = Wording {
    code: "no-such-path",
    dutch: "Dit pad bestaat niet. Bekijk de mappen /uitwisseling/in, out en receipts.",
    english: "No such path. Look at the folders /exchange/in, out and receipts.",
};

pub(super) const BAD_NAME: Wording = Wording {
    code: "bad-name",
    dutch: "Deze naam is niet toegelaten. Gebruik hoogstens 255 bytes UTF-8 zonder stuurtekens.",
    english: "This name is not allowed. Use at most 255 bytes of UTF-8 without control characters.",
};

pub(super) const FOLDER_IS_READ_ONLY: Wording = Wording {
    code: "folder-is-read-only",
    dutch: "In deze map kunt u niet schrijven. Zet uw bestand in de map in van de uitwisseling.",
    english: "You cannot write in this folder. Put your file into the exchange's folder in.",
};

pub(super) const DROP_IS_WRITE_ONLY: Wording = Wording {
    code: "drop-is-write-only",
    dutch: "Bestanden in de map in kunnen niet teruggelezen, hernoemd of verwijderd worden. Resultaten staan in out.",
    english: "Files in the folder in cannot be read back, renamed or removed. Results are in out.",
};

pub(super) const NOT_YOUR_PART: Wording = Wording {
    code: "not-your-part",
    dutch: "Uw organisatie mag dit niet doen in deze uitwisseling. Neem contact op met de beheerder.",
    english: "Your organisation may not do this in this exchange. Contact the operator.",
};

pub(super) const NAME_IN_USE: Wording = Wording {
    code: "name-in-use",
    dutch: "Een bestand met deze naam wordt nog verwerkt. Kies een andere naam of wacht op het ontvangstbewijs.",
    english: "A file of this name is still in progress. Choose another name or wait for its receipt.",
};

pub(super) const NAME_NOT_ACCEPTED: Wording = Wording {
    code: "name-not-accepted",
    dutch: "Deze bestandsnaam past niet bij de uitwisseling. Gebruik een naam die afgesproken is: de handleiding die u kreeg noemt ze, of vraag ze aan de beheerder.",
    english: "This file name does not fit the exchange. Use a name that was agreed: the guide you were given has them, or ask the operator.",
};

pub(super) const AGREEMENT_NOT_BEGUN: Wording = Wording {
    code: "agreement-not-begun",
    dutch: "Het protocol voor deze uitwisseling is nog niet in werking.",
    english: "The agreement for this exchange has not begun.",
};

pub(super) const AGREEMENT_ENDED: Wording = Wording {
    code: "agreement-ended",
    dutch: "Het protocol voor deze uitwisseling is beëindigd.",
    english: "The agreement for this exchange has ended.",
};

pub(super) const NOT_ENCRYPTED: Wording = Wording {
    code: "not-encrypted",
    dutch: "Dit bestand is niet versleuteld. Versleutel het met age voor de sleutel van deze zone en stuur het opnieuw.",
    english: "This file is not encrypted. Encrypt it with age to this zone's key and send it again.",
};

pub(super) const HEADER_MALFORMED: Wording = Wording {
    code: "header-malformed",
    dutch: "De kop van dit age-bestand is ongeldig. Versleutel de lijst opnieuw en stuur het nieuwe bestand.",
    english: "The header of this age file is invalid. Encrypt the list again and send the new file.",
};

pub(super) const HEADER_TOO_LARGE: Wording = Wording {
    code: "header-too-large",
    dutch: "De kop van dit age-bestand is te groot. Versleutel de lijst voor hoogstens 32 ontvangers.",
    english: "The header of this age file is too large. Encrypt the list to at most 32 recipients.",
};

pub(super) const PASSPHRASE_ENCRYPTED: Wording = Wording {
    code: "passphrase-encrypted",
    dutch: "Dit bestand is met een wachtwoordzin versleuteld. Versleutel het met age voor de publieke sleutel van deze zone.",
    english: "This file is encrypted with a passphrase. Encrypt it with age to this zone's public key.",
};

pub(super) const ARMOR_NOT_ACCEPTED: Wording = Wording {
    code: "armor-not-accepted",
    dutch: "Dit bestand is in tekstvorm versleuteld (age --armor). Stuur de binaire vorm.",
    english: "This file is encrypted as text (age --armor). Send the binary form.",
};

pub(super) const CUT_SHORT: Wording = Wording {
    code: "cut-short",
    dutch: "Het einde van dit bestand ontbreekt of is beschadigd; de overdracht is wellicht afgebroken. Stuur het bestand opnieuw.",
    english: "The end of this file is missing or damaged; the transfer was probably cut short. Send the file again.",
};

pub(super) const DAMAGED: Wording = Wording {
    code: "damaged",
    dutch: "De inhoud van dit bestand is gewijzigd of beschadigd. Versleutel de lijst opnieuw en stuur het nieuwe bestand.",
    english: "The content of this file was altered or damaged. Encrypt the list again and send the new file.",
};

pub(super) const NOT_FOR_US: Wording = Wording {
    code: "not-for-us",
    dutch: "Dit bestand is niet voor deze zone versleuteld. Gebruik de publieke sleutel (age1...) die u van de beheerder kreeg.",
    english: "This file is not encrypted to this zone. Use the public key (age1...) that the operator gave you.",
};

pub(super) const TOO_LARGE: Wording = Wording {
    code: "too-large",
    dutch: "Dit bestand is groter dan afgesproken. Splits de lijst of neem contact op met de beheerder.",
    english: "This file is larger than agreed. Split the list or contact the operator.",
};

pub(super) const EMPTY: Wording = Wording {
    code: "empty",
    dutch: "Dit bestand is leeg. Versleutel de lijst met age en stuur het resultaat.",
    english: "This file is empty. Encrypt the list with age and send the result.",
};

pub(super) const WRITES_OUT_OF_ORDER: Wording = Wording {
    code: "writes-out-of-order",
    dutch: "Uw programma stuurt de delen van het bestand te veel door elkaar. Stuur het met een gewone SFTP-client, van begin tot einde.",
    english: "Your program sends the parts of the file too far out of order. Send it with an ordinary SFTP client, from start to end.",
};

pub(super) const HEADER_REWRITTEN: Wording = Wording {
    code: "header-rewritten",
    dutch: "Het begin van dit bestand werd tijdens de overdracht overschreven. Stuur het bestand opnieuw, van begin tot einde.",
    english: "The beginning of this file was overwritten during the transfer. Send the file again, from start to end.",
};

pub(super) const NOT_A_TABLE: Wording = Wording {
    code: "not-a-table",
    dutch: "De lijst is geen geldige CSV-tabel in UTF-8 met een kopregel. Verbeter de lijst, versleutel ze opnieuw en stuur ze opnieuw.",
    english: "The list is not a valid CSV table in UTF-8 with a header line. Correct the list, encrypt it and send it again.",
};

pub(super) const COLUMNS_NOT_AGREED: Wording = Wording {
    code: "columns-not-agreed",
    dutch: "Het resultaat bevat andere kolommen dan afgesproken en werd tegengehouden. De beheerder ziet het.",
    english: "The result has columns other than those agreed and was held back. The operator sees it.",
};

pub(super) const CONTENT_RULES: Wording = Wording {
    code: "content-rules",
    dutch: "De inhoud voldoet niet aan de afspraken. Het kwaliteitsverslag in receipts zegt welke rijen en kolommen; verbeter ze en stuur de lijst opnieuw, onder een andere naam.",
    english: "The content does not meet what was agreed. The quality report in receipts says which rows and columns; correct them and send the list again, under another name.",
};

pub(super) const SHEET_UNREADABLE: Wording = Wording {
    code: "sheet-unreadable",
    dutch: "Dit werkboek kan niet als één tabel gelezen worden. Bewaar het als .xlsx zonder wachtwoord, met één zichtbaar werkblad, kolomnamen op de eerste rij, en zonder foutwaarden, koppelingen of getallen van meer dan 15 cijfers; of stuur CSV in UTF-8.",
    english: "This workbook cannot be read as a table. Save it as .xlsx without a password, with a single visible sheet, column names in the first row, and without error values, links or numbers of more than 15 digits; or send CSV in UTF-8.",
};

pub(super) const SURPLUS: Wording = Wording {
    code: "surplus",
    dutch: "Voor deze periode is al geleverd wat het protocol toelaat. Neem contact op met de beheerder als dit een verbetering is.",
    english: "What the agreement allows in this period has been delivered already. Contact the operator if this is a correction.",
};

pub(super) const SURPLUS_KEY: Wording = Wording {
    code: "surplus-key",
    dutch: "Dit werd al eens geleverd, en het protocol laat het één keer toe. Neem contact op met de beheerder als dit een verbetering is.",
    english: "This was delivered before, and the agreement allows it once. Contact the operator if this is a correction.",
};

pub(super) const FLOW_NOT_READY: Wording = Wording {
    code: "flow-not-ready",
    dutch: "Deze uitwisseling is nog niet klaar: een ontvanger heeft nog geen sleutel gegeven. Neem contact op met de beheerder.",
    english: "This exchange is not ready yet: a receiver has not given a key. Contact the operator.",
};

pub(super) const COMMAND_FAILED: Wording = Wording {
    code: "command-failed",
    dutch: "De verwerking is mislukt. De beheerder bekijkt uw bestand; u hoeft niets opnieuw te sturen.",
    english: "Processing failed. The operator looks at your file; you need not send anything again.",
};

pub(super) const JOB_FAILED: Wording = Wording {
    code: "job-failed",
    dutch: "De verwerking van deze lijst is mislukt. Vergelijk de kopregel met de afspraak; de beheerder ziet het en neemt contact op.",
    english: "Processing this list failed. Compare its header line with the agreement; the operator sees it and will be in touch.",
};

pub(super) const JOB_DEFERRED: Wording = Wording {
    code: "job-deferred",
    dutch: "De verwerking van deze lijst wordt later opnieuw geprobeerd. U hoeft niets te doen.",
    english: "Processing this list will be tried again later. There is nothing you need to do.",
};

pub(super) const TRIES_EXHAUSTED: Wording = Wording {
    code: "tries-exhausted",
    dutch: "De verwerking van deze lijst is herhaaldelijk mislukt. De beheerder ziet het; u hoeft niets te doen.",
    english: "Processing this list failed repeatedly. The operator sees it; there is nothing you need to do.",
};

pub(super) const JOB_TOO_LONG: Wording = Wording {
    code: "job-too-long",
    dutch: "De verwerking van deze lijst duurde te lang en werd gestopt. De beheerder ziet het; stuur de lijst desgevraagd in kleinere delen.",
    english: "Processing this list took too long and was stopped. The operator sees it; send the list in smaller parts if asked to.",
};

pub(super) const RESULT_TOO_LARGE: Wording = Wording {
    code: "result-too-large",
    dutch: "Het resultaat van deze lijst is te groot en werd niet afgewerkt. De beheerder ziet het; stuur de lijst desgevraagd in kleinere delen.",
    english: "The result of this list is too large and was not completed. The operator sees it; send the list in smaller parts if asked to.",
};

pub(super) const JOB_MEMORY: Wording = Wording {
    code: "job-memory",
    dutch: "Deze lijst is te groot om in één keer te verwerken. Neem contact op met de beheerder, of stuur ze in kleinere delen.",
    english: "This list is too large to be processed at once. Contact the operator, or send it in smaller parts.",
};

pub(super) const DISCARDED: Wording = Wording {
    code: "discarded",
    dutch: "De beheerder heeft dit bestand verwijderd; het wordt niet verder verwerkt. Neem contact op met de beheerder voor u het opnieuw stuurt.",
    english: "The operator removed this file; it is not processed any further. Contact the operator before you send it again.",
};

pub(super) const ARRIVAL_UNREADABLE: Wording = Wording {
    code: "arrival-unreadable",
    dutch: "Deze aankomst kan niet verwerkt worden. De beheerder ziet het.",
    english: "This arrival cannot be processed. The operator sees it.",
};

pub(super) const NO_LONGER_CONFIGURED: Wording = Wording {
    code: "no-longer-configured",
    dutch: "Deze uitwisseling is niet meer ingesteld. De beheerder ziet het.",
    english: "This exchange is no longer set up. The operator sees it.",
};

pub(super) const SAME_CONTENT_AGAIN: Wording = Wording {
    code: "same-content-again",
    dutch: "Dit is precies het bestand dat u al eerder stuurde; het wordt geen tweede keer verwerkt. Lees het ontvangstbewijs van die aankomst. \
         Moet de lijst opnieuw verwerkt worden, versleutel ze dan opnieuw.",
    english: "This is exactly the file that you sent before; it is not processed again. Read the receipt of that arrival. To have \
         the list processed once more, encrypt it again.",
};

pub(super) const SAME_CONTENT_HELD: Wording = Wording {
    code: "same-content-again",
    dutch: "Dit is precies het bestand dat u al eerder stuurde en dat werd tegengehouden. Het ontvangstbewijs van die aankomst zegt waarom; \
         stuur zo nodig een verbeterde lijst, opnieuw versleuteld.",
    english: "This is exactly the file that you sent before and that is held. The receipt of that arrival says why; if need be, send a \
         corrected list, encrypted again.",
};

pub(super) const SAME_CONTENT_ELSEWHERE: Wording = Wording {
    code: "same-content-elsewhere",
    dutch: "Precies dit versleutelde bestand werd al eerder elders ingediend en wordt hier niet verwerkt. Versleutel uw lijst opnieuw, voor deze \
         uitwisseling, en stuur het nieuwe bestand. De beheerder ziet het.",
    english: "Exactly this encrypted file was handed in elsewhere before and is not processed here. Encrypt your list again, for this \
         exchange, and send the new file. The operator sees it.",
};

pub(super) const TOO_MANY_OPEN: Wording = Wording {
    code: "too-many-open",
    dutch: "U hebt te veel bestanden of mappen tegelijk open. Sluit er enkele en probeer opnieuw.",
    english: "You have too many files or folders open at once. Close some and try again.",
};

pub(super) const TOO_MANY_UNFINISHED: Wording = Wording {
    code: "too-many-unfinished",
    dutch: "In deze map staan te veel onvolledige bestanden. Werk er enkele af of verwijder ze en probeer opnieuw.",
    english: "Too many incomplete files are in this folder. Complete or remove some and try again.",
};

pub(super) const UNAVAILABLE: Wording = Wording {
    code: "unavailable",
    dutch: "De server kan dit nu niet bewaren. Probeer het later opnieuw.",
    english: "The server cannot store this now. Try again later.",
};

pub(super) const SPOOL_FULL: Wording = Wording {
    code: "spool-full",
    dutch: "De server heeft op dit ogenblik geen plaats. Probeer het later opnieuw; wat al verstuurd was, blijft bewaard zodat u kunt hervatten.",
    english: "The server has no room at the moment. Try again later; what was sent is kept where it is, so that you can resume.",
};

pub(super) const CANNOT_BE_CHECKED: Wording = Wording {
    code: "cannot-be-checked",
    dutch: "Dit bestand kan nu niet gecontroleerd worden. Er is niets mis mee; probeer het later opnieuw.",
    english: "This file cannot be checked at the moment. Nothing is wrong with it; try again later.",
};

pub(super) const UNSUPPORTED: Wording = Wording {
    code: "unsupported",
    dutch: "Deze bewerking bestaat hier niet. U kunt bestanden plaatsen in in en ophalen uit out.",
    english: "This operation does not exist here. You can put files into in and collect them from out.",
};
