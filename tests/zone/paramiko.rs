//! paramiko, the library behind many institutions' scripts: it asks for a whole file at once, thousands of requests ahead.

use std::fs;

use serde_json::Value;

use crate::harness::{AN, BO, Zone};

const SIZE: usize = 64 << 20;

/// Content that repeats nowhere.
fn content() -> Vec<u8> {
    let mut state: u64 = 42;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 24).to_le_bytes()
    };
    let mut content = Vec::with_capacity(SIZE);
    while content.len() < SIZE {
        content.extend_from_slice(&next());
    }
    content
}

fn zone_with_a_result() -> (Zone, Vec<u8>) {
    let (zone, content) = (Zone::new(), content());
    fs::write(zone.folder_of("outbox", "city", "relay").join("large.age"), &content).unwrap();
    (zone, content)
}

#[test]
fn a_get_of_64_mebibytes_completes() {
    let (zone, content) = zone_with_a_result();
    let script = "sftp().get('/relay/out/large.age', 'got'); os._exit(0)";
    let Some(ran) = zone.python(BO, script) else { return };
    ran.must_succeed();
    assert!(zone.read_here("got") == content);
}

#[test]
fn three_gets_at_once_complete() {
    let (zone, content) = zone_with_a_result();
    let script = r"
import threading
def get(name):
    sftp().get('/relay/out/large.age', name)
threads = [threading.Thread(target=get, args=(name,)) for name in ('got-1', 'got-2', 'got-3')]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.flush()
os._exit(0)
";
    let Some(ran) = zone.python(BO, script) else { return };
    ran.must_succeed();
    for name in ["got-1", "got-2", "got-3"] {
        assert!(zone.read_here(name) == content, "{name}");
    }
}

#[test]
fn a_get_that_is_read_slowly_and_out_of_order_is_right_too() {
    let (zone, content) = zone_with_a_result();
    let script = r"
import hashlib
file = sftp().open('/relay/out/large.age', 'rb')
ends = [(0, 100000), (50000000, 100000), (64 * 1024 * 1024 - 10, 100), (64 * 1024 * 1024, 10), (10, 0)]
print(json.dumps([hashlib.sha256(part).hexdigest() for part in file.readv(ends[:2])]
    + [hashlib.sha256((file.seek(at), file.read(size))[1]).hexdigest() for at, size in ends[2:]]))
sys.stdout.flush()
os._exit(0)
";
    let Some(ran) = zone.python(BO, script) else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    let parts = [
        &content[..100_000],
        &content[50_000_000..50_100_000],
        &content[SIZE - 10..],
        b"".as_slice(),
        b"".as_slice(),
    ];
    let expected: Vec<String> = parts.iter().map(|part| crate::harness::programs::sha256(part)).collect();
    assert_eq!(told, serde_json::json!(expected));
}

#[test]
fn a_pipelined_put_of_64_mebibytes_arrives_whole() {
    let zone = Zone::new();
    let sent = zone.age(&content(), &["-r", &zone.recipient()]);
    zone.put_here("large.age", &sent);
    let script =
        "print(sftp().put('large.age', '/relay/in/large.age').st_size); sys.stdout.flush(); os._exit(0)";
    let Some(ran) = zone.python(AN, script) else { return };
    assert_eq!(ran.must_succeed().text().trim(), sent.len().to_string(), "the size is read back after CLOSE");
    let result = zone.result("city", "relay");
    assert!(zone.download(BO, &format!("/relay/out/{result}")) == sent);
    let receipt = zone.receipt("relay", "large.age", "delivered");
    assert_eq!(receipt["sha256"], crate::harness::programs::sha256(&sent));
}

#[test]
fn a_put_of_plaintext_is_an_error_for_paramiko_too() {
    let zone = Zone::new();
    zone.put_here("plain", "insz\n85073003328\n");
    let script = "print(json.dumps(outcome(lambda: sftp().put('plain', '/pillar-3/in/a.csv.age')))); sys.stdout.flush(); os._exit(0)";
    let Some(ran) = zone.python(AN, script) else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    assert_eq!(told[0], "refused", "{told}");
    zone.receipt("pillar-3", "a.csv.age", "refused");
}
