//! Files that look like age from outside and turn out not to be what they seem once they are opened: no job, its own reason.

use std::path::PathBuf;

use crate::harness::programs::recipient;
use crate::harness::{AN, Daemon, Zone};

const CANARY: &str = "66060600642";

/// Long enough for four chunks of 64 KiB, so that there is a middle to damage.
fn long_list() -> String {
    let lines = (0..20_000).map(|at| format!("{:011}\n", 10_000_000_000_u64 + at)).collect::<String>();
    format!("insz\n{CANARY}\n{lines}")
}

fn flip(file: &[u8], at: usize) -> Vec<u8> {
    let mut flipped = file.to_vec();
    flipped[at] ^= 1;
    flipped
}

/// Where the payload begins: behind the header's last line.
fn payload_of(file: &[u8]) -> usize {
    let mac = file.windows(5).position(|window| window == b"\n--- ").unwrap() + 1;
    mac + file[mac..].iter().position(|byte| *byte == b'\n').unwrap() + 1
}

#[test]
fn a_cut_altered_or_foreign_file_starts_no_job_and_each_has_its_own_reason() {
    let zone = Zone::new();
    let good = zone.encrypt(long_list());
    let payload = payload_of(&good);
    assert!(good.len() - payload > 3 * 65_552);
    let stranger = zone.age(long_list().as_bytes(), &["-r", &recipient(&zone.identity_of("city"))]);
    // One character of the MAC, still base64: only the key can tell.
    let mut other_mac = good.clone();
    let at = payload - 20;
    other_mac[at] = if other_mac[at] == b'A' { b'B' } else { b'A' };
    let third_chunk = payload + 16 + 2 * 65_552;
    for (name, content, code) in [
        ("cut-at-a-chunk", good[..third_chunk].to_vec(), "cut-short"),
        ("cut-in-a-chunk", good[..third_chunk + 1000].to_vec(), "cut-short"),
        ("flip-in-the-first-chunk", flip(&good, payload + 16 + 100), "damaged"),
        ("flip-in-the-second-chunk", flip(&good, payload + 16 + 65_552 + 100), "damaged"),
        ("flip-in-the-nonce", flip(&good, payload + 3), "damaged"),
    ] {
        let name = format!("{name}.csv.age");
        zone.upload(AN, &format!("/pillar-3/in/{name}"), &content);
        let receipt = zone.receipt("pillar-3", &name, "held");
        assert_eq!(receipt["reason"]["code"], code, "{name}");
        assert!(receipt["job"].get("rows-in").is_none(), "{name}: nothing was read");
        assert_eq!(receipt["content"], "structure-only");
        let arrival = receipt["arrival"].as_str().unwrap();
        // The receipt comes first: what is told in it must not be told before it can be read.
        zone.wait_for("the record and the metric", || {
            let lines = zone.logged(&[("event", "job"), ("arrival", arrival), ("reason", code)]);
            let series = format!("dropzone_jobs_held_total{{reason=\"{code}\"}}");
            (lines.len() == 1 && zone.metric(Daemon::Work, &series) >= 1.0).then_some(())
        });
    }
    // What the header alone shows is refused while it comes in.
    for (name, content, code) in
        [("flip-in-the-mac.csv.age", other_mac, "damaged"), ("for-another.csv.age", stranger, "not-for-us")]
    {
        zone.put_here(name, content);
        zone.sftp(AN, &format!("put {name} /pillar-3/in/{name}")).must_fail();
        assert_eq!(zone.receipt("pillar-3", name, "refused")["reason"]["code"], code, "{name}");
    }
    assert!(zone.results("agency", "pillar-3").is_empty());
    assert!(zone.logged(&[("event", "deliver")]).is_empty());
    assert_eq!(zone.search_tree(CANARY), Vec::<PathBuf>::new());
}

#[test]
fn a_flip_in_the_last_chunk_of_a_file_is_never_taken_for_content() {
    let zone = Zone::new();
    let good = zone.encrypt(long_list());
    zone.upload(AN, "/pillar-3/in/a.csv.age", &flip(&good, good.len() - 20));
    let receipt = zone.receipt("pillar-3", "a.csv.age", "held");
    let code = receipt["reason"]["code"].as_str().unwrap();
    assert!(["cut-short", "damaged"].contains(&code), "{code}");
    assert!(zone.results("agency", "pillar-3").is_empty());
}

#[test]
fn bytes_behind_the_end_of_the_list_are_no_part_of_it() {
    let zone = Zone::new();
    let short = [zone.encrypt("insz\n1\n"), b"insz,66060600642".repeat(4)].concat();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &short);
    zone.receipt("pillar-3", "a.csv.age", "held");
    assert!(zone.results("agency", "pillar-3").is_empty());
}
