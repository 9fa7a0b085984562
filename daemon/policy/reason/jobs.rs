//! The wording of reasons that come from jobs: what the institution should do. Which reason holds when is `policy::job`'s.

use super::Reason;

/// Code, Dutch and English of a job that failed.
pub(super) fn wording(reason: &Reason) -> (&'static str, &'static str, &'static str) {
    match reason {
        Reason::NotATable { .. } => (
            "not-a-table",
            "De lijst is geen geldige CSV-tabel in UTF-8 met een kopregel. Verbeter de lijst, versleutel ze opnieuw en stuur ze opnieuw.",
            "The list is not a valid CSV table in UTF-8 with a header line. Correct the list, encrypt it and send it again.",
        ),
        Reason::ColumnsNotAgreed => (
            "columns-not-agreed",
            "Het resultaat bevat andere kolommen dan afgesproken en werd tegengehouden. De beheerder ziet het.",
            "The result has columns other than those agreed and was held back. The operator sees it.",
        ),
        Reason::JobFailed => (
            "job-failed",
            "De verwerking van deze lijst is mislukt. Vergelijk de kopregel met de afspraak; de beheerder ziet het en neemt contact op.",
            "Processing this list failed. Compare its header line with the agreement; the operator sees it and will be in touch.",
        ),
        Reason::JobDeferred => (
            "job-deferred",
            "De verwerking van deze lijst wordt later opnieuw geprobeerd. U hoeft niets te doen.",
            "Processing this list will be tried again later. There is nothing you need to do.",
        ),
        Reason::TriesExhausted => (
            "tries-exhausted",
            "De verwerking van deze lijst is herhaaldelijk mislukt. De beheerder ziet het; u hoeft niets te doen.",
            "Processing this list failed repeatedly. The operator sees it; there is nothing you need to do.",
        ),
        Reason::ArrivalUnreadable => (
            "arrival-unreadable",
            "Deze aankomst kan niet verwerkt worden. De beheerder ziet het.",
            "This arrival cannot be processed. The operator sees it.",
        ),
        _ => (
            "no-longer-configured",
            "Deze uitwisseling is niet meer ingesteld. De beheerder ziet het.",
            "This exchange is no longer set up. The operator sees it.",
        ),
    }
}

/// The same of a job that passed a limit, and of an arrival that was discarded.
pub(super) fn wording_of_ends(reason: &Reason) -> (&'static str, &'static str, &'static str) {
    match reason {
        Reason::JobTooLong => (
            "job-too-long",
            "De verwerking van deze lijst duurde te lang en werd gestopt. De beheerder ziet het; stuur de lijst desgevraagd in kleinere delen.",
            "Processing this list took too long and was stopped. The operator sees it; send the list in smaller parts if asked to.",
        ),
        Reason::ResultTooLarge => (
            "result-too-large",
            "Het resultaat van deze lijst is te groot en werd niet afgewerkt. De beheerder ziet het; stuur de lijst desgevraagd in kleinere delen.",
            "The result of this list is too large and was not completed. The operator sees it; send the list in smaller parts if asked to.",
        ),
        Reason::JobMemory => (
            "job-memory",
            "Deze lijst is te groot om in één keer te verwerken. Neem contact op met de beheerder, of stuur ze in kleinere delen.",
            "This list is too large to be processed at once. Contact the operator, or send it in smaller parts.",
        ),
        _ => (
            "discarded",
            "De beheerder heeft dit bestand verwijderd; het wordt niet verder verwerkt. Neem contact op met de beheerder voor u het opnieuw stuurt.",
            "The operator removed this file; it is not processed any further. Contact the operator before you send it again.",
        ),
    }
}
