//! Lists that break the rules of their flow: what becomes of them, and what their sender reads about them.

use sha2::{Digest, Sha256};

use super::*;
use crate::host::control::{Change, Course, Operator};
use crate::policy::agreement::OnFault;
use crate::policy::arrival::quality_name;
use crate::policy::digest::hex;
use crate::policy::quality::Counts;
use crate::policy::rules::{Alphabet, Column, Format, Kind, TableRules};

const LIST: &[u8] = b"insz,note\n1,x\n,a secret\n2,85.07.30-033.28\n2,\n";
/// What is left of it.
const RIGHT: &str = "insz,category\n1,sought\n2,\"found, \"\"well\"\"\"\n";

fn rules() -> TableRules {
    let text = || Kind::Text { at_most: 20, alphabet: Alphabet::Line };
    TableRules {
        name: "list".into(),
        formats: vec![Format::Csv],
        columns: vec![
            Column { name: "insz".into(), kind: text(), is_required: true },
            Column { name: "note".into(), kind: text(), is_required: false },
        ],
        is_template: false,
        conditions: Vec::new(),
        forbids_insz: true,
    }
}

impl Zone {
    /// Rules for what comes into every flow.
    fn with_rules(on_fault: OnFault) -> Self {
        let zone = Self::new();
        zone.workshop.config.send_modify(|config| {
            let mut changed = Config::clone(config);
            for flow in changed.exchanges.values_mut().flat_map(|exchange| &mut exchange.flows) {
                (flow.input, flow.on_fault) = (Some(rules()), on_fault);
            }
            *config = Arc::new(changed);
        });
        zone
    }

    fn quality_report(&self, arrival: &Arrival) -> String {
        let (institution, exchange) = (arrival.id.institution(), arrival.id.exchange());
        let name = quality_name(arrival);
        let mut file = self.workshop.spool.open_file(institution, exchange, Folder::Receipts, &name).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        text
    }
}

#[test]
fn one_faulty_row_holds_the_list_and_its_sender_reads_which_and_why() {
    let zone = Zone::with_rules(OnFault::Hold);
    let arrival = zone.drop_list(LIST);
    assert_eq!(zone.work(&arrival), End::Held(Reason::ContentRules));
    let receipt = zone.receipt(&arrival);
    assert_eq!((receipt.verdict, receipt.reason.unwrap().code.as_str()), (Verdict::Held, "content-rules"));
    let (quality, report) = (receipt.quality.unwrap(), zone.quality_report(&arrival));
    assert_eq!(quality.counts, Counts { rows: 4, faulty_rows: 2, findings: 2 });
    assert_eq!((quality.report, quality.left_out), (quality_name(&arrival), false));
    assert_eq!(quality.sha256, hex(&Sha256::digest(report.as_bytes())));
    let places: Vec<&str> = report.lines().map(|line| line.split(";").take(3).last().unwrap()).collect();
    assert_eq!(places, ["code", "empty", "insz-forbidden", "total"]);
    assert!(
        report.contains("\r\n3;insz;empty;") && report.contains("\r\n4;note;insz-forbidden;"),
        "{report}"
    );
    for value in ["secret", "85.07.30", "85073003328"] {
        assert!(!report.contains(value), "{report}");
    }
    let record = zone.records().into_iter().find(|record| record.sha256.as_ref() == Some(&quality.sha256));
    let record = record.unwrap();
    assert_eq!((record.event, record.outcome), (Event::Receipt, Outcome::Ok));
    assert_eq!(record.path, Some(format!("/pillar-3/receipts/{}", quality_name(&arrival))));
    let note = zone.workshop.spool.hold_note(&arrival.id).unwrap();
    let discard = Change { course: Course::Discard, arrival: arrival.id.clone(), reason: "corrected".into() };
    zone.workshop.change(&discard, &Operator::new(0, None)).unwrap();
    assert_eq!(zone.receipt(&arrival).verdict, Verdict::Discarded);
    assert_eq!(
        zone.receipt(&arrival).quality.unwrap().report,
        quality_name(&arrival),
        "it goes on vouching for it"
    );
    assert!(
        note.detail.contains("2 of 4 rows break the rules of table list (2 findings in all)"),
        "{}",
        note.detail
    );
}

#[test]
fn a_flow_that_reports_joins_the_rows_that_are_right_and_tells_of_the_others() {
    let zone = Zone::with_rules(OnFault::Report);
    let arrival = zone.drop_list(LIST);
    assert_eq!(zone.work(&arrival), End::Done);
    let result = age::decrypt(&zone.receiver_key, &zone.result("agii", &arrival)).unwrap();
    assert_eq!(String::from_utf8(result).unwrap(), RIGHT);
    let receipt = zone.receipt(&arrival);
    let job = receipt.job.unwrap();
    assert_eq!((job.rows_in, job.rows_out), (Some(4), Some(2)));
    let quality = receipt.quality.unwrap();
    assert_eq!((quality.counts.faulty_rows, quality.left_out), (2, true));
    assert!(zone.quality_report(&arrival).contains("\r\n4;note;insz-forbidden;"));
}

#[test]
fn a_list_with_columns_that_nobody_agreed_is_held_whatever_the_flow_does_with_rows() {
    for on_fault in [OnFault::Hold, OnFault::Report] {
        let zone = Zone::with_rules(on_fault);
        let arrival = zone.drop_list(b"insz,phone\n1,2\n");
        assert_eq!(zone.work(&arrival), End::Held(Reason::ContentRules));
        let report = zone.quality_report(&arrival);
        assert!(report.contains("\r\n1;#2;column-not-agreed;"), "{report}");
        assert!(!report.contains("phone"), "{report}");
        assert_eq!(zone.receipt(&arrival).quality.unwrap().counts.rows, 1);
    }
}

#[test]
fn a_list_without_faults_has_a_report_that_says_so_also_after_a_crash_at_its_end() {
    let zone = Zone::with_rules(OnFault::Hold);
    let arrival = zone.drop_list(b"insz\n1\n2\n");
    assert_eq!(zone.work(&arrival), End::Done);
    let result = age::decrypt(&zone.receiver_key, &zone.result("atlas", &arrival)).unwrap();
    assert_eq!(String::from_utf8(result).unwrap(), RIGHT);
    let first = zone.receipt(&arrival);
    assert_eq!(first.quality.clone().unwrap().counts, Counts { rows: 2, faulty_rows: 0, findings: 0 });
    assert_eq!(zone.quality_report(&arrival).lines().count(), 2);
    // The crash came before the last step: its notes are there, and there is no other job.
    let at = |state: &str| zone.path().join("spool").join(state).join(arrival.id.to_string());
    std::fs::rename(at("done"), at("incoming")).unwrap();
    std::fs::remove_dir_all(zone.path().join("spool/receipts/agii/pillar-3")).unwrap();
    std::fs::create_dir(zone.path().join("spool/receipts/agii/pillar-3")).unwrap();
    assert_eq!(zone.work(&arrival), End::Done);
    assert_eq!(zone.receipt(&arrival).quality, first.quality);
}
