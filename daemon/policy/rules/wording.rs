//! What each fault in a list is called, and what it tells the institution to do, in Dutch and in English. When one is found is
//! `checker`'s question.

/// The words of a fault.
pub(super) struct Wording {
    /// Stable, for programs: kebab-case.
    pub code: &'static str,
    /// What to do, in Dutch.
    pub dutch: &'static str,
    /// What to do, in English.
    pub english: &'static str,
}

pub(super) const COLUMN_MISSING: Wording = Wording {
    code: "column-missing",
    dutch: "Deze kolom ontbreekt. Voeg ze toe, met precies deze naam in de eerste rij.",
    english: "This column is missing. Add it, with exactly this name in the first row.",
};

pub(super) const COLUMN_NOT_AGREED: Wording = Wording {
    code: "column-not-agreed",
    dutch: "De kolom op deze plaats (geteld van links) is niet afgesproken. Verwijder ze, of zet de kolomnamen in de eerste rij.",
    english: "The column in this place (counted from the left) is not agreed. Remove it, or put the names of the columns in the first row.",
};

pub(super) const COLUMN_OUT_OF_ORDER: Wording = Wording {
    code: "column-out-of-order",
    dutch: "Deze kolom staat niet op haar plaats. Gebruik het afgesproken sjabloon, ongewijzigd.",
    english: "This column is not in its place. Use the agreed template, unchanged.",
};

pub(super) const EMPTY: Wording = Wording {
    code: "empty",
    dutch: "Dit veld is verplicht. Vul het in.",
    english: "This field is required. Fill it in.",
};

pub(super) const INSZ_FORM: Wording = Wording {
    code: "insz-form",
    dutch: "Geen INSZ. Gebruik elf cijfers, alleen of als JJ.MM.DD-VVV.CC, met niets ervoor of erna.",
    english: "No national number. Use eleven digits, alone or as YY.MM.DD-SSS.CC, with nothing before or behind.",
};

pub(super) const INSZ_LOST_ZERO: Wording = Wording {
    code: "insz-lost-zero",
    dutch: "Dit INSZ heeft zijn nul vooraan verloren. Maak van de kolom tekst (in Excel: Celeigenschappen, Tekst).",
    english: "This national number has lost the zero in front. Make the column text (in Excel: Format Cells, Text).",
};

pub(super) const INSZ_CHECK: Wording = Wording {
    code: "insz-check",
    dutch: "Dit INSZ bestaat niet: het controlegetal of de datum klopt niet. Kijk het na.",
    english: "There is no such national number: check digits or date do not fit. Look it up.",
};

pub(super) const NOT_A_DATE: Wording = Wording {
    code: "not-a-date",
    dutch: "Geen datum. Schrijf 2026-03-01 of 01/03/2026.",
    english: "No date. Write 2026-03-01 or 01/03/2026.",
};

pub(super) const TOO_LONG: Wording = Wording { code: "too-long", dutch: "Te lang.", english: "Too long." };

pub(super) const CHARACTERS: Wording = Wording {
    code: "characters",
    dutch: "Dit veld bevat tekens die er niet in horen. Verwijder ze.",
    english: "This field holds characters that do not belong in it. Remove them.",
};

pub(super) const FORMULA: Wording = Wording {
    code: "formula",
    dutch: "Een rekenblad kan dit als formule uitvoeren. Verwijder het teken vooraan (=, +, - of @).",
    english: "A spreadsheet could run this as a formula. Remove the sign in front (=, +, - or @).",
};

pub(super) const NOT_AGREED_VALUE: Wording = Wording {
    code: "not-agreed-value",
    dutch: "Geen van de afgesproken waarden. Gebruik er een, letterlijk.",
    english: "None of the agreed values. Use one of them, to the letter.",
};

pub(super) const NOT_YES_NO: Wording =
    Wording { code: "not-yes-no", dutch: "Schrijf ja of nee.", english: "Write yes or no." };

pub(super) const ROW_NOT_AGREED: Wording = Wording {
    code: "row-not-agreed",
    dutch: "Deze rij mag volgens het protocol niet uitgewisseld worden. Verwijder de hele rij.",
    english: "The agreement does not let this row be exchanged. Remove the whole row.",
};

pub(super) const INSZ_FORBIDDEN: Wording = Wording {
    code: "insz-forbidden",
    dutch: "Hier staat een INSZ, en dat mag in deze uitwisseling nergens staan. Verwijder het.",
    english: "There is a national number here, and this exchange allows none anywhere. Remove it.",
};

pub(super) const NOBODYS: Wording = Wording {
    code: "nobodys-row",
    dutch: "Deze waarde zegt voor wie de rij is, en noemt geen ontvanger. Kijk ze na.",
    english: "This value says whose the row is, and names no receiver. Look it up.",
};

pub(super) const NOBODYS_IN_RESULT: Wording = Wording {
    code: "nobodys-row-in-result",
    dutch: "Een rij van het resultaat (daarin geteld, niet in uw lijst) is voor geen ontvanger bestemd. Vraag ernaar bij wie deze dienst beheert.",
    english: "A row of the result (counted there, not in your list) is for no receiver. Ask whoever runs this service about it.",
};
