//! Holds a decrypted list against the rules of its flow before anything is done with it, and tells its sender what was found.
//! What the rules are and what breaks them is `policy::rules`' question; what a held list comes to, `worker`'s.

use std::ops::Range;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::deliver::{JobError, Progress};
use super::outgoing::Plan;
use super::query::{QueryError, ROWS_BETWEEN_LOOKS};
use super::shape::Strays;
use super::stop::Stop;
use super::{Workshop, record_of};
use crate::host::spool::{Claim, SpoolError};
use crate::policy::agreement::{Flow, Job, OnFault};
use crate::policy::arrival::{Arrival, quality_name};
use crate::policy::digest::hex;
use crate::policy::path::Folder;
use crate::policy::quality::{Counts, Quality, QualityReport};
use crate::policy::record::{Event, Outcome, Record};
use crate::policy::rules::{Checker, Fault, Finding, Place, TableRules};
use crate::policy::table::Table;

/// What was found in a list.
struct Checked {
    /// What its sender is told.
    report: QualityReport,
    /// Without the header, no row can be taken.
    is_header_agreed: bool,
    /// Where the rows with findings lie, in order.
    faulty: Vec<Range<usize>>,
}

impl Workshop {
    /// Lets a list pass that is within the rules of its flow, or has become so because its faulty rows were left out. Either
    /// way its sender has a quality report.
    pub(super) fn check_list(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        (flow, plan): (&Flow, &Plan<'_>),
        list: &mut Zeroizing<Vec<u8>>,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        // Where the list is the result, its own rows show already whose they are; else there may be more to report.
        let (split, is_result) = (plan.is_split(), flow.job == Job::Shape);
        let plan = Some(plan).filter(|_| split && is_result);
        if flow.input.is_none() && plan.is_none() {
            return Ok(());
        }
        let Checked { report, is_header_agreed, faulty } = check(list, (flow.input.as_ref(), plan), stop)?;
        progress.report = (split && !is_result).then(|| report.clone());
        let (report, counts) = report.finish();
        progress.rows_in = Some(counts.rows);
        let passes = match flow.on_fault {
            OnFault::Hold => counts.findings == 0,
            OnFault::Report => is_header_agreed,
        };
        let quality = Quality {
            report: quality_name(arrival),
            sha256: hex(&Sha256::digest(&report)),
            counts,
            left_out: passes && counts.findings > 0,
        };
        self.publish_quality(claim, arrival, &quality, &report)?;
        progress.quality = Some(quality);
        if !passes {
            let Counts { rows, faulty_rows, findings } = counts;
            let table = flow.input.as_ref().map_or_else(|| "split".to_owned(), |rules| rules.name.clone());
            let report = quality_name(arrival);
            return Err(JobError::ContentRules { table, findings, faulty_rows, rows, report });
        }
        leave_out(list, &faulty);
        Ok(())
    }

    /// Tells the sender of rows of the result that are nobody's, and were left out or hold the job.
    pub(super) fn report_strays(
        &self,
        claim: &Claim<'_>,
        arrival: &Arrival,
        (strays, on_fault): (&Strays, OnFault),
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let rows = progress.rows_in.unwrap_or_default();
        let mut report = progress.report.take().unwrap_or_else(|| QualityReport::of_faultless(rows));
        for at in 0..strays.count {
            // Behind those that are listed, they are only counted.
            let known =
                usize::try_from(at).ok().and_then(|at| strays.listed.get(at)).or(strays.listed.last());
            let Some((row, column)) = known else { break };
            let (column, fault) = (Place::Agreed(column.as_str()), Fault::NobodysInResult);
            report.header(&[Finding { row: row + 1, column, fault }]);
        }
        let (report, counts) = report.finish();
        let (name, sha256) = (quality_name(arrival), hex(&Sha256::digest(&report)));
        let quality = Quality { report: name, sha256, counts, left_out: on_fault == OnFault::Report };
        self.publish_quality(claim, arrival, &quality, &report)?;
        progress.quality = Some(quality);
        Ok(())
    }

    fn publish_quality(
        &self,
        claim: &Claim<'_>,
        arrival: &Arrival,
        quality: &Quality,
        report: &[u8],
    ) -> Result<(), JobError> {
        // Only the move itself is safe from a claim that is lost now; this spares the log a record of what will not be.
        if claim.is_lost() {
            return Err(SpoolError::Lost(arrival.id.to_string()).into());
        }
        let Counts { rows, faulty_rows, findings } = quality.counts;
        self.log.append(&Record {
            path: Some(format!(
                "/{}/{}/{}",
                arrival.id.exchange(),
                Folder::Receipts.as_str(),
                quality.report
            )),
            bytes: Some(report.len() as u64),
            sha256: Some(quality.sha256.clone()),
            detail: Some(format!("quality report: {findings} findings in {faulty_rows} of {rows} rows")),
            ..record_of(Event::Receipt, Outcome::Ok, arrival)
        })?;
        Ok(claim.publish_quality((&quality.report, report))?)
    }
}

/// Reads every row, also of a list whose header is wrong: the report says how many there are.
fn check(
    list: &[u8],
    (rules, plan): (Option<&TableRules>, Option<&Plan<'_>>),
    stop: &Stop,
) -> Result<Checked, QueryError> {
    let table = Table::parse(list).map_err(QueryError::List)?;
    let mut report = QualityReport::default();
    let checker = rules.map(|rules| Checker::new(rules, table.columns()));
    let checker = checker.transpose().inspect_err(|findings| report.header(findings));
    let is_header_agreed = checker.is_ok();
    let mut checker = checker.unwrap_or_default();
    let owners = plan.map(|plan| plan.owners(table.columns())).unwrap_or_default();
    let (mut rows, mut fields, mut found) = (table.rows(), Vec::new(), Vec::new());
    let mut faulty: Vec<Range<usize>> = Vec::new();
    for number in 0_u64.. {
        let start = list.len() - rows.left();
        if !rows.read(&mut fields).map_err(QueryError::List)? {
            break;
        }
        if number.is_multiple_of(ROWS_BETWEEN_LOOKS) {
            stop.go_on()?;
        }
        if let Some(checker) = &mut checker {
            checker.row(&fields, &mut found);
        }
        for (at, by, owners) in &owners {
            if fields.get(*at).is_none_or(|value| owners.of(value).is_none()) {
                // The header is row 1.
                found.push(Finding { row: number + 2, column: Place::Agreed(by), fault: Fault::Nobodys });
            }
        }
        report.row(&found);
        if !found.is_empty() {
            found.clear();
            let end = list.len() - rows.left();
            match faulty.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => faulty.push(start..end),
            }
        }
    }
    Ok(Checked { report, is_header_agreed, faulty })
}

/// Takes these parts out of the list where it lies: no second copy of it is made.
fn leave_out(list: &mut Vec<u8>, parts: &[Range<usize>]) {
    let left = close_up(list, parts);
    list.truncate(left);
}

/// Moves what stands between these parts together, wipes what that leaves behind it, and says how much is left.
fn close_up(list: &mut [u8], parts: &[Range<usize>]) -> usize {
    let whole = list.len();
    let (mut end, mut from) = (0, 0);
    for part in parts.iter().chain([&(whole..whole)]) {
        list.copy_within(from..part.start, end);
        end += part.start - from;
        from = part.end;
    }
    if let Some(rest) = list.get_mut(end..) {
        rest.zeroize();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules::{Alphabet, Column, Condition, Format, Kind};

    fn rules() -> TableRules {
        let column = |name: &str, kind| Column { name: name.into(), kind, is_required: true };
        TableRules {
            name: "list".into(),
            formats: vec![Format::Csv],
            columns: vec![
                column("insz", Kind::Insz),
                column("name", Kind::Text { at_most: 20, alphabet: Alphabet::Any }),
            ],
            is_template: false,
            conditions: vec![Condition { column: "name".into(), is: vec!["An".into(), "B\n\"o\"".into()] }],
            forbids_insz: false,
        }
    }

    fn left_of(list: &str) -> (String, Counts) {
        let mut bytes = list.as_bytes().to_vec();
        let checked = check(&bytes, (Some(&rules()), None), &Stop::default()).unwrap();
        leave_out(&mut bytes, &checked.faulty);
        (String::from_utf8(bytes).unwrap(), checked.report.finish().1)
    }

    #[test]
    fn the_rows_that_are_left_are_byte_for_byte_those_without_a_finding() {
        let good = "85073003328,An\n";
        let quoted = "85.07.30-033.28,\"B\n\"\"o\"\"\"\r\n";
        let bad = ["8507,An\n", "85073003328,Cas\n", "\n", "\"8507\n\",An\r\n"];
        for (list, left, faulty_rows, rows) in [
            (format!("insz,name\n{good}{quoted}"), format!("insz,name\n{good}{quoted}"), 0, 2),
            (format!("insz,name\n{}{good}{}{}", bad[0], bad[1], bad[2]), format!("insz,name\n{good}"), 3, 4),
            (
                format!("insz,name\r\n{}{quoted}{}{good}", bad[3], bad[0]),
                format!("insz,name\r\n{quoted}{good}"),
                2,
                4,
            ),
            (format!("insz,name\n{good}8507,An"), format!("insz,name\n{good}"), 1, 2),
            (
                format!("\u{feff}insz,name\n{}{}", bad[0], good.trim_end()),
                format!("\u{feff}insz,name\n{}", good.trim_end()),
                1,
                2,
            ),
            (format!("insz,name\n{}", bad.concat()), "insz,name\n".to_owned(), 4, 4),
            ("insz,name".to_owned(), "insz,name".to_owned(), 0, 0),
        ] {
            let (found, counts) = left_of(&list);
            assert_eq!(found, left, "{list:?}");
            assert_eq!((counts.faulty_rows, counts.rows), (faulty_rows, rows), "{list:?}");
        }
    }

    #[test]
    fn what_was_left_out_is_gone_from_memory() {
        let mut bytes = b"insz,name\n8507,An\n85073003328,An\n".to_vec();
        let checked = check(&bytes, (Some(&rules()), None), &Stop::default()).unwrap();
        let end = close_up(&mut bytes, &checked.faulty);
        assert_eq!(bytes.split_at(end), (&b"insz,name\n85073003328,An\n"[..], &[0; 8][..]));
    }

    #[test]
    fn a_list_with_another_header_is_counted_and_none_of_its_rows_is_taken() {
        let checked =
            check(b"85073003328,An\n85073003328,An\n", (Some(&rules()), None), &Stop::default()).unwrap();
        assert!(!checked.is_header_agreed && checked.faulty.is_empty());
        let (report, counts) = checked.report.finish();
        assert_eq!(counts, Counts { rows: 1, faulty_rows: 1, findings: 4 });
        assert!(!String::from_utf8(report).unwrap().contains("85073003328"));
    }
}
