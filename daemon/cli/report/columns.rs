//! What a list may hold and what leaves, in words that a reader of the agreement knows.

use serde::Serialize;

use super::facts::Words;
use crate::policy::agreement::{Command, Job, Query};
use crate::policy::outgoing::{Lock, OutColumn, Outgoing, Receivers};
use crate::policy::rhythm::{ArrivalKey, Period, Quota, Rhythm};
use crate::policy::rules::{Alphabet, Column, Condition, Format, Kind, TableRules};

/// What a list may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Table {
    /// Its forms.
    pub formats: Vec<&'static str>,
    /// Its columns, in order.
    pub columns: Vec<ColumnRow>,
    /// What else holds for it.
    pub rules: Vec<Words>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ColumnRow {
    /// As the header line spells it.
    pub name: String,
    /// What stands in it.
    pub holds: Words,
    /// It is there, and never empty.
    pub required: bool,
}

/// One delivery of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Going {
    /// The institutions.
    pub to: Vec<String>,
    /// Which rows each receives.
    pub rows: Words,
    /// Which columns; none: all of the result.
    pub columns: Option<Vec<Words>>,
    /// In which form.
    pub form: Words,
    /// With what it is encrypted.
    pub lock: Words,
}

/// A table's rules.
pub fn table(rules: &TableRules) -> Table {
    let mut told = Vec::new();
    if rules.is_template {
        told.push(Words::new(
            "precies deze kolommen, in deze volgorde",
            "exactly these columns, in this order",
        ));
    } else {
        told.push(Words::new("geen andere kolommen dan deze", "no columns but these"));
    }
    told.extend(rules.conditions.iter().map(condition));
    if rules.forbids_insz {
        told.push(without_insz(rules));
    }
    Table {
        formats: rules.formats.iter().map(|format| format_name(*format)).collect(),
        columns: rules.columns.iter().map(column).collect(),
        rules: told,
    }
}

/// Columns of national numbers are what they are; everywhere else there is none.
fn without_insz(rules: &TableRules) -> Words {
    let of_numbers = rules.columns.iter().filter(|column| matches!(column.kind, Kind::Insz));
    let names: Vec<&str> = of_numbers.map(|column| column.name.as_str()).collect();
    if names.is_empty() {
        return Words::new(
            "nergens een rijksregisternummer, ook niet in een langere tekst",
            "no national number anywhere, not even inside a longer text",
        );
    }
    let names = names.join(", ");
    Words::new(
        format!("buiten {names} nergens een rijksregisternummer, ook niet in een langere tekst"),
        format!("no national number anywhere but in {names}, not even inside a longer text"),
    )
}

fn column(column: &Column) -> ColumnRow {
    let holds = match &column.kind {
        Kind::Insz => Words::new("rijksregisternummer (INSZ)", "national number (INSZ)"),
        Kind::Date => Words::new("datum, zoals 2026-03-01", "date, as in 2026-03-01"),
        Kind::Text { at_most, alphabet } => {
            let (nl, en) = match alphabet {
                Alphabet::Any => ("tekst", "text"),
                Alphabet::Line => ("tekst op één regel", "text on one line"),
                Alphabet::Letters => ("letters", "letters"),
                Alphabet::Digits => ("cijfers", "digits"),
            };
            Words::new(
                format!("{nl}, hoogstens {at_most} tekens"),
                format!("{en}, at most {at_most} characters"),
            )
        }
        Kind::OneOf(values) => {
            let values = values.join(", ");
            Words::new(format!("één van: {values}"), format!("one of: {values}"))
        }
        Kind::YesNo => Words::new("ja of nee", "yes or no"),
    };
    ColumnRow { name: column.name.clone(), holds, required: column.is_required }
}

fn condition(condition: &Condition) -> Words {
    let (column, values) = (&condition.column, &condition.is);
    Words::new(
        format!("alleen rijen waarin {column} is: {}", values.join(" of ")),
        format!("only rows in which {column} is: {}", values.join(" or ")),
    )
}

/// As the ending of a file's name.
pub fn format_name(format: Format) -> &'static str {
    match format {
        Format::Csv => "CSV",
        Format::Xlsx => "Excel (XLSX)",
    }
}

/// What leaves for whom.
pub fn going(outgoing: &Outgoing) -> Going {
    Going {
        to: outgoing.institutions().into_iter().map(ToString::to_string).collect(),
        rows: rows(&outgoing.receivers),
        columns: outgoing.columns.as_ref().map(|columns| columns.iter().map(out_column).collect()),
        form: match outgoing.format {
            None => Words::new("zoals ontvangen", "as received"),
            Some(format) => Words::new(format_name(format), format_name(format)),
        },
        lock: match outgoing.lock {
            Lock::Recipients if matches!(outgoing.receivers, Receivers::People { .. }) => Words::new(
                "met de openbare sleutel van die persoon alleen (age)",
                "with the public key of that person alone (age)",
            ),
            Lock::Recipients => Words::new(
                "met de openbare sleutel van de ontvanger (age)",
                "with the receiver's public key (age)",
            ),
            Lock::Passphrase => Words::new(
                "met een wachtwoordzin die langs een ander kanaal gaat (age)",
                "with a passphrase that goes another way (age)",
            ),
        },
    }
}

fn rows(receivers: &Receivers) -> Words {
    match receivers {
        Receivers::All(_) => Words::new("alle rijen", "all rows"),
        Receivers::Split { by, .. } => Words::new(
            format!("elke ontvanger enkel de eigen rijen (volgens {by})"),
            format!("each receiver its own rows only (by {by})"),
        ),
        Receivers::People { by, .. } => Words::new(
            format!("elke persoon enkel de eigen rijen (volgens {by})"),
            format!("each person her own rows only (by {by})"),
        ),
    }
}

fn out_column(column: &OutColumn) -> Words {
    let OutColumn { from, name, is_pseudonym } = column;
    match (is_pseudonym, from == name) {
        (true, _) => Words::new(
            format!("{name} (pseudoniem in plaats van {from})"),
            format!("{name} (pseudonym in place of {from})"),
        ),
        (false, true) => Words::new(name.as_str(), name.as_str()),
        (false, false) => Words::new(format!("{name} (uit {from})"), format!("{name} (from {from})")),
    }
}

/// What is done with a file.
pub fn job(job: &Job) -> Words {
    match job {
        Job::Relay => Words::new(
            "ongewijzigd doorgegeven, van begin tot eind versleuteld: deze server kan het niet lezen",
            "handed on unchanged, encrypted from end to end: this server cannot read it",
        ),
        Job::Shape => Words::new(
            "de lijst zelf gaat naar de ontvangers, in de vorm die hieronder staat",
            "the list itself goes to the receivers, in the form given below",
        ),
        Job::Query(Query { database, .. }) => Words::new(
            format!("gekoppeld aan de databank {database}, die enkel gelezen wordt"),
            format!("joined with the database {database}, which is only read"),
        ),
        Job::Command(Command { network, .. }) => {
            let (nl, en) = if *network {
                ("met toegang tot het netwerk", "with access to the network")
            } else {
                ("zonder toegang tot het netwerk", "without access to the network")
            };
            Words::new(
                format!("verwerkt door een afgeschermd programma, {nl}"),
                format!("worked on by a confined program, {en}"),
            )
        }
    }
}

/// The columns that a job was agreed to give; none where its table of results or its deliveries say it.
pub fn job_columns(job: &Job) -> Option<&[String]> {
    match job {
        Job::Relay | Job::Shape => None,
        Job::Query(query) => query.columns.as_deref(),
        Job::Command(command) => command.columns.as_deref(),
    }
}

/// How often a list may come.
pub fn rhythm(rhythm: &Rhythm) -> Words {
    let mut told: Vec<Words> = Vec::new();
    if let Some(Quota { period, at_most, is_expected, .. }) = rhythm.quota {
        let (nl, en) = match period {
            Period::CalendarYear => ("kalenderjaar".to_owned(), "calendar year".to_owned()),
            Period::Months(1) => ("maand".to_owned(), "month".to_owned()),
            Period::Months(months) => (format!("{months} maanden"), format!("{months} months")),
        };
        told.push(Words::new(format!("hoogstens {at_most} per {nl}"), format!("at most {at_most} per {en}")));
        if is_expected {
            told.push(Words::new("telkens verwacht", "expected each time"));
        }
    }
    match &rhythm.once_per {
        None => {}
        Some(ArrivalKey::Name) => {
            told.push(Words::new("elke bestandsnaam één keer", "each file name once"));
        }
        Some(ArrivalKey::Columns(columns)) => {
            let columns = columns.join(" + ");
            told.push(Words::new(format!("elke {columns} één keer"), format!("each {columns} once")));
        }
    }
    let join = |of: fn(&Words) -> &str| told.iter().map(of).collect::<Vec<_>>().join(", ");
    Words::new(join(|words| &words.nl), join(|words| &words.en))
}
