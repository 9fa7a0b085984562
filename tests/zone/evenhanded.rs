//! Whoever is refused learns nothing from it: not why, not by the order of messages, and not by the time it takes.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client;
use russh::keys::{PrivateKeyWithHashAlg, load_secret_key};

use crate::algorithms::Anyone;
use crate::harness::programs::{person_key, public_key, run};
use crate::harness::{AN, ELS, OTTO, Person, Zone};

const PATIENCE: Duration = Duration::from_secs(30);
/// Of an institution whose networks are elsewhere.
const FAR: Person = Person { user: "remote", key: "far" };
/// Of an institution that takes part, and nobody's choice to do so.
const OUTSIDE: Person = Person { user: "guarded", key: "outside" };
/// Each way to be refused, with the reason that the log gives.
const REFUSED: [(Person, &str); 7] = [
    (Person { user: "nobody", key: "stranger" }, "unknown-user"),
    (Person { user: "agency", key: "stranger" }, "unknown-key"),
    (Person { user: "city", key: AN.key }, "unknown-key"),
    (ELS, "key-expired"),
    (OTTO, "no-open-exchange"),
    (FAR, "wrong-network"),
    (OUTSIDE, "no-open-exchange"),
];

fn zone() -> Zone {
    let mut zone = Zone::lay_out();
    person_key(&zone.key_of(FAR));
    let institution = format!(
        "institution: remote\ntitle: Remote\nnetworks: [192.0.2.0/24]\npeople: [{{label: far, keys: [\"{}\"]}}]\n",
        public_key(&zone.key_of(FAR))
    );
    fs::write(zone.directory().join("institutions/remote.yaml"), institution).unwrap();
    person_key(&zone.key_of(OUTSIDE));
    let institution = format!(
        "institution: guarded\ntitle: Guarded\npeople: [{{label: outside, keys: [\"{}\"]}}]\n",
        public_key(&zone.key_of(OUTSIDE))
    );
    fs::write(zone.directory().join("institutions/guarded.yaml"), institution).unwrap();
    let file = zone.directory().join("exchanges/relay.yaml");
    let parties =
        "city: [collect]\n  remote: [collect]\n  guarded: {may: [collect], people: {only: [somebody else]}}";
    let text = fs::read_to_string(&file).unwrap().replace("city: [collect]", parties);
    fs::write(file, text).unwrap();
    zone.start();
    zone
}

/// What OpenSSH's client says of its try, every packet's type included, without what differs by the person's own name and
/// keys. More keys than may be tried are offered: `person`'s comes first, the others are nobody's.
fn transcript(zone: &Zone, person: Person) -> String {
    let key = zone.here().join("id");
    fs::copy(zone.key_of(person), &key).unwrap();
    fs::copy(zone.key_of(person).with_extension("pub"), key.with_extension("pub")).unwrap();
    let mut ssh = Command::new("ssh");
    ssh.args(["-vvv", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-p"]);
    ssh.arg(zone.ssh().port().to_string()).arg("-o");
    ssh.arg(format!("UserKnownHostsFile={}", zone.known_hosts().display())).arg("-i").arg(&key);
    for number in 0..8 {
        let spare = zone.here().join(format!("spare-{number}"));
        if !spare.exists() {
            person_key(&spare);
        }
        ssh.arg("-i").arg(spare);
    }
    ssh.env("SSH_AUTH_SOCK", "").arg(format!("{}@{}", person.user, zone.ssh().ip()));
    let ran = run(&mut ssh).must_fail();
    let mut told = ran.stderr.replace(person.user, "USER");
    let own = crate::harness::programs::fingerprint(&zone.key_of(person));
    told = told.replace(&own, "FINGERPRINT");
    let is_of_the_conversation = |line: &&str| {
        ["debug1: ", "debug2: ", "debug3: "].iter().all(|level| !line.starts_with(level))
            || ["Authenti", "Offering", "packet", "Server accepts", "Next auth", "Disconnect", "Trying"]
                .iter()
                .any(|part| line.contains(part))
    };
    told.lines().filter(is_of_the_conversation).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_refused_login_has_the_same_conversation_and_its_own_reason_in_the_log() {
    let zone = zone();
    let expected = transcript(&zone, REFUSED[0].0);
    assert!(expected.matches("Offering public key").count() >= 5, "{expected}");
    assert!(expected.contains("receive packet: type 51"), "{expected}");
    for (person, reason) in REFUSED {
        assert_eq!(transcript(&zone, person), expected, "{person:?}");
        let fingerprint = crate::harness::programs::fingerprint(&zone.key_of(person));
        zone.wait_for("the record", || {
            let fields = [("outcome", "denied"), ("institution", person.user), ("reason", reason)];
            zone.logged(&fields).into_iter().find(|line| line["key-fingerprint"] == *fingerprint)
        });
    }
    // Of somebody who is let in it is another: a difference would show.
    assert!(!expected.contains("Server accepts key") && expected.contains("FINGERPRINT"), "{expected}");
}

/// How long the server takes to refuse a key that is offered with its signature.
async fn refusal_takes(zone: &Zone, person: Person) -> Duration {
    let key = load_secret_key(zone.key_of(person), None).unwrap();
    let config = Arc::new(client::Config::default());
    let mut connection = client::connect(config, zone.ssh(), Anyone).await.unwrap();
    // As clients do; it also makes the next answer a full one.
    assert!(!connection.authenticate_none(person.user).await.unwrap().success());
    let asked = Instant::now();
    let answer =
        connection.authenticate_publickey(person.user, PrivateKeyWithHashAlg::new(Arc::new(key), None));
    let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert!(!answer.success());
    asked.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refused_login_takes_the_same_time() {
    let zone = zone();
    let mut took: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for _ in 0..7 {
        // Turn by turn, so that whatever else runs on this machine disturbs all alike.
        for (at, (person, _)) in REFUSED.into_iter().enumerate() {
            took.entry(at).or_default().push(refusal_takes(&zone, person).await);
        }
    }
    let mut medians: Vec<Duration> = took
        .values_mut()
        .map(|times| {
            times.sort();
            times[times.len() / 2]
        })
        .collect();
    medians.sort();
    // Whatever differs within the server is hidden by a wait that is longer than all of it.
    let soonest = took.values().flatten().min().unwrap();
    assert!(*soonest >= Duration::from_millis(190), "a refusal came after {soonest:?}");
    assert!(medians[medians.len() - 1] < medians[0] * 3 / 2, "{medians:?} for {REFUSED:?}");
}
