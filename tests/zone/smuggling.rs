//! Ways to get plaintext past the gate, or half a file past CLOSE: other orders, overwriting, lost connections, renames.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{AN, Zone};

const CANARY: &str = "kanarie-66060600642";

/// Each case is a file name and its writes; all are made on a connection of their own, then the file is closed.
const SMUGGLE: &str = r#"
good, armored, CANARY = read("good.age"), read("armored.age"), b"kanarie-66060600642\n"
header = good.index(b"\n", good.index(b"\n--- ") + 1) + 1
middle = armored.index(b"\n", len(armored) // 2) + 1
cases = {
    "over-the-start": [(0, good), (0, CANARY)],
    "over-a-stanza": [(0, good), (30, CANARY)],
    "over-the-end-of-the-header": [(0, good), (header - 5, CANARY)],
    "over-it-in-pieces": [(0, good[:header]), (header, good[header:]), (22, CANARY[:1]), (23, CANARY[1:])],
    "early-and-closed": [(100000, CANARY)],
    "early-then-plain": [(100000, CANARY), (0, CANARY)],
    "plain-from-the-second-byte": [(1, CANARY), (0, b"a")],
    "magic-then-plain": [(0, good[:22]), (22, CANARY)],
    "piece-by-piece": [(at, bytes([byte])) for at, byte in enumerate(CANARY)],
    "inside-armor": [(0, armored[:middle]), (middle, CANARY), (middle + len(CANARY), armored[middle:])],
    "behind-armor": [(0, armored), (len(armored), CANARY)],
    "before-armor": [(0, CANARY + armored)],
    "over-armor": [(0, armored), (middle, CANARY)],
    "a-line-ahead-in-armor": [(len(armored), CANARY), (0, armored)],
}
told = {}
for name, writes in cases.items():
    client = sftp()
    file = client.open(f"/pillar-3/in/{name}.csv.age", "wb")
    answers = []
    for offset, data in writes:
        file.seek(offset)
        answers.append(outcome(lambda: file.write(data)))
    # paramiko's own close swallows the answer.
    answers.append(outcome(lambda: client._request(paramiko.sftp.CMD_CLOSE, file.handle)))
    answers.append(outcome(lambda: client.stat(f"/pillar-3/in/{name}.csv.age")))
    told[name] = answers
    client.get_channel().get_transport().close()
print(json.dumps(told))
"#;

#[test]
fn plaintext_reaches_the_disk_in_no_order_of_writes() {
    let zone = Zone::new();
    zone.put_here("good.age", zone.encrypt("x".repeat(3000)));
    zone.put_here("armored.age", zone.age(&[7; 3000], &["-a", "-r", &zone.recipient()]));
    let Some(ran) = zone.python(AN, SMUGGLE) else { return };
    let told: Value = serde_json::from_str(&ran.must_succeed().text()).unwrap();
    for (name, answers) in told.as_object().unwrap() {
        let answers = answers.as_array().unwrap();
        let [.., close, stat] = answers.as_slice() else { panic!("{name}: {answers:?}") };
        assert_eq!(close[0], "refused", "CLOSE of {name}: {answers:?}");
        assert_eq!((&stat[0], &stat[1]), (&"refused".into(), &2.into()), "STAT of {name}: {answers:?}");
        let path = format!("/pillar-3/in/{name}.csv.age");
        assert_eq!(zone.logged(&[("event", "refuse"), ("path", &path)]).len(), 1, "{name}");
        zone.receipt("pillar-3", &format!("{name}.csv.age"), "refused");
    }
    assert_eq!(told.as_object().unwrap().len(), 14);
    assert_eq!(zone.search_tree(CANARY), Vec::<PathBuf>::new());
    assert!(zone.partials().is_empty());
    assert_eq!(zone.accepted(), 0);
}

/// Half of a file is written and acknowledged, then the connection goes without a word.
const LOSE: &str = r#"
content = read("list.csv.age")
client = sftp()
file = client.open("/pillar-3/in/list.csv.age", "wb")
file.set_pipelined(False)
file.write(content[:len(content) // 2])
client.get_channel().get_transport().sock.close()
os._exit(0)
"#;

#[test]
fn a_lost_connection_publishes_nothing_and_reput_completes_the_file() {
    let zone = Zone::new();
    let list = format!("insz\n{}", "85073003328\n".repeat(50_000));
    let whole = zone.put_here("list.csv.age", zone.encrypt(list));
    let Some(ran) = zone.python(AN, LOSE) else { return };
    ran.must_succeed();
    zone.wait_for("the end of the session", || {
        (!zone.logged(&[("event", "logout")]).is_empty()).then_some(())
    });
    assert_eq!((zone.accepted(), zone.arrivals("refused").len()), (0, 0));
    assert!(zone.receipts("agency", "pillar-3").is_empty());
    let half = std::fs::metadata(&whole).unwrap().len() / 2;
    let listing = zone.sftp(AN, "ls -l /pillar-3/in").must_succeed().text();
    assert!(
        listing.contains(&half.to_string()),
        "what came stays for its institution to go on with: {listing}"
    );
    zone.sftp(AN, "reput list.csv.age /pillar-3/in/list.csv.age").must_succeed();
    let receipt = zone.receipt("pillar-3", "list.csv.age", "delivered");
    assert_eq!(receipt["size"], std::fs::metadata(&whole).unwrap().len());
    assert_eq!(receipt["job"]["rows-in"], 50_000);
}

#[test]
fn a_client_that_is_killed_in_the_middle_publishes_nothing() {
    let zone = Zone::new();
    zone.put_here("list.csv.age", zone.encrypt(vec![b'\n'; 4 << 20]));
    let mut sftp = Command::new("sftp")
        .args(["-l", "4000", "-b", "-", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .args(["-o", &format!("UserKnownHostsFile={}", zone.known_hosts().display())])
        .arg("-i")
        .arg(zone.key_of(AN))
        .arg("-P")
        .arg(zone.ssh().port().to_string())
        .arg(format!("agency@{}", zone.ssh().ip()))
        .current_dir(zone.here())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let batch = b"put list.csv.age /pillar-3/in/\n";
    std::io::Write::write_all(&mut sftp.stdin.take().unwrap(), batch).unwrap();
    zone.wait_for("a partial", || (!zone.partials().is_empty()).then_some(()));
    sftp.kill().unwrap();
    sftp.wait().unwrap();
    zone.wait_for("the end of the session", || {
        (!zone.logged(&[("event", "logout")]).is_empty()).then_some(())
    });
    assert_eq!((zone.accepted(), zone.arrivals("refused").len()), (0, 0));
    assert!(zone.logged(&[("event", "publish")]).is_empty());
}

#[test]
fn a_rename_from_a_temporary_name_publishes() {
    let zone = Zone::new();
    for (at, (begin, end)) in [
        ("", ".filepart"),
        ("", ".part"),
        ("", ".partial"),
        ("", ".tmp"),
        (".in.", ""),
        ("", ".1a2b3c4d.partial"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{at}.csv.age");
        zone.put_here("list", zone.encrypt("insz\n85073003328\n"));
        let temporary = format!("/pillar-3/in/{begin}{name}{end}");
        zone.sftp(AN, &format!("put list {temporary}")).must_succeed();
        assert_eq!(zone.accepted(), at, "{temporary} is not complete yet");
        let legacy = if at % 2 == 0 { "-l " } else { "" };
        zone.sftp(AN, &format!("rename {legacy}{temporary} /pillar-3/in/{name}")).must_succeed();
        zone.receipt("pillar-3", &name, "delivered");
    }
}

#[test]
fn a_rename_to_a_name_that_is_not_accepted_is_refused() {
    let zone = Zone::new();
    zone.put_here("list", zone.encrypt("insz\n85073003328\n"));
    zone.sftp(
        AN,
        "put list /pillar-3/in/a.csv.age.part\n-rename /pillar-3/in/a.csv.age.part /pillar-3/in/a.txt",
    )
    .must_succeed();
    let [line] = zone.logged(&[("event", "rename"), ("outcome", "denied")]).try_into().unwrap();
    assert_eq!(line["reason"], "name-not-accepted");
    assert_eq!(zone.accepted(), 0);
    for target in
        ["/relay/in/a.csv.age", "/pillar-3/out/a.csv.age", "/a.csv.age", "/pillar-3/receipts/a.json"]
    {
        zone.sftp(
            AN,
            &format!("put list /pillar-3/in/b.csv.age.part\nrename /pillar-3/in/b.csv.age.part {target}"),
        )
        .must_fail();
    }
    assert_eq!(zone.accepted(), 0);
    assert!(zone.results("agency", "pillar-3").is_empty());
}

#[test]
fn half_a_file_cannot_be_published_by_a_rename() {
    let zone = Zone::new();
    let whole = zone.encrypt("insz\n85073003328\n");
    zone.put_here("half", &whole[..whole.len() - 20]);
    zone.sftp(
        AN,
        "-put half /pillar-3/in/a.csv.age.part\n-rename /pillar-3/in/a.csv.age.part /pillar-3/in/a.csv.age",
    )
    .must_succeed();
    assert_eq!(zone.accepted(), 0);
    assert!(zone.logged(&[("event", "publish")]).is_empty());
}
