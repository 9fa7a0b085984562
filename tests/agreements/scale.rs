//! A million rows through agreements 1 and 3, with the memory that one job may have.

use crate::harness::{Daemon, say};
use crate::people::{insz, register};
use crate::shipped::{AGII, FUNDS, Shipped, VSB};

/// In `tests/run --long`; a tenth of it otherwise.
fn rows() -> u64 {
    if std::env::var_os("DROPZONE_LONG").is_some() { 1_000_000 } else { 100_000 }
}

/// The most memory that `work` ever had, in MiB.
fn peak(zone: &Shipped) -> u64 {
    let pid = *zone.zone.pids(Daemon::Work).last().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_great_many_rows_need_no_more_memory_than_the_list_itself() {
    let mut zone = Shipped::lay_out();
    zone.write_register(&register(rows()));
    zone.start_at("2025-04-01 09:00:00");
    let numbers: String =
        std::iter::once("insz\n".to_owned()).chain((0..rows()).map(|at| insz(at) + "\n")).collect();
    let size = (numbers.len() >> 20) as u64;
    zone.send(AGII, "pillar-3", "insz-all.csv.age", &numbers);
    let receipt = zone.receipt("agii", "pillar-3", "insz-all.csv.age", "delivered");
    assert_eq!(receipt["job"]["rows-out"], rows());
    say(&format!("agreement 1: {} rows, list of {size} MiB, work's peak {} MiB", rows(), peak(&zone)));

    let members: String = std::iter::once("insz,zorgkas\n".to_owned())
        .chain((0..rows()).map(|at| format!("{},{}\n", insz(at), FUNDS[(at % 6) as usize].0)))
        .collect();
    zone.send(VSB, "social-protection", "leden-all.csv.age", &members);
    let receipt = zone.receipt("vsb", "social-protection", "leden-all.csv.age", "delivered");
    assert_eq!(receipt["deliveries"].as_array().unwrap().len(), FUNDS.len());
    let most = peak(&zone);
    say(&format!("agreement 3: {} rows to {} funds, work's peak {most} MiB", rows(), FUNDS.len()));
    assert!(most < 1024, "{most} MiB: job-memory is 1 GiB, and this is the whole process");
}
