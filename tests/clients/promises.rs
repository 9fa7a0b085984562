//! What every client may rely on, written once for all of them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Barrier;

use rustix::process::{Signal, kill_process};

use crate::client::{Client, Kind, Said, Step, lack, step};
use crate::content::{TIME, large, medium, names, plaintext, set_time, small, time_of};
use crate::harness::programs::sha256;
use crate::harness::{AN, BO, Daemon, Person, Zone, pid, skip};

/// Keeps a promise to a client, if the client can do what it takes; says why where it cannot.
pub fn keep(client: &dyn Client, needs: &[Kind], promise: fn(&dyn Client)) {
    if let Some(what) = client.missing() {
        skip(&format!("{}: {what}", client.name()));
        return;
    }
    match needs.iter().find_map(|kind| Some((kind, lack(client.name(), *kind)?))) {
        Some((kind, why)) => eprintln!("{}: no {kind:?}: {why}", client.name()),
        None => promise(client),
    }
}

pub fn lists_what_is_there(client: &dyn Client) {
    let zone = Zone::new();
    put_out(&zone, "one.age", b"1");
    put_out(&zone, "two.age", b"2");
    let said = client.run(
        &zone,
        BO,
        &[step(Kind::List, "/", ""), step(Kind::List, "/relay", ""), step(Kind::List, "/relay/out", "")],
    );
    assert_eq!(listed(&said[0]), ["city-only", "relay", "small"], "{said:#?}");
    assert_eq!(listed(&said[1]), ["in", "out", "receipts"], "{said:#?}");
    assert_eq!(listed(&said[2]), ["one.age", "two.age"], "{said:#?}");
}

pub fn what_is_uploaded_arrives_unchanged_and_is_collected_unchanged(client: &dyn Client) {
    let zone = Zone::new();
    let content = medium(&zone);
    zone.put_here("local.age", &content);
    all_ok(&client.run(&zone, AN, &[step(Kind::Put, "local.age", "/relay/in/list.age")]));
    assert_eq!(delivered(&zone, AN, "relay", 1), expected(&[("list.age", &content)]));
    let result = format!("/relay/out/{}", zone.result("city", "relay"));
    all_ok(&client.run(&zone, BO, &[step(Kind::Get, &result, "collected")]));
    assert!(zone.read_here("collected") == content);
}

pub fn an_upload_by_temporary_name_is_published_by_the_rename_only(client: &dyn Client) {
    let zone = Zone::new();
    // Each file is its own: the same under another name would be no new arrival.
    let (content, other) = (medium(&zone), small(&zone, 1));
    zone.put_here("local.age", &content);
    zone.put_here("other.age", &other);
    let temporary = "/relay/in/list.age.part";
    all_ok(&client.run(&zone, AN, &[step(Kind::Put, "local.age", temporary)]));
    assert_eq!(zone.accepted(), 0, "a temporary name publishes nothing");
    let again = [
        step(Kind::Put, "other.age", "/relay/in/other.age.part"),
        step(Kind::Rename, "/relay/in/other.age.part", "/relay/in/other.age"),
        // This one lies there since the session before.
        step(Kind::Rename, temporary, "/relay/in/list.age"),
    ];
    all_ok(&client.run(&zone, AN, &again));
    let both = expected(&[("list.age", &content), ("other.age", &other)]);
    assert_eq!(delivered(&zone, AN, "relay", 2), both);
    assert_eq!(zone.partials(), Vec::<String>::new());
}

/// The local file is damaged in the part that the zone has already: a client that began anew would send the damage.
pub fn resumes_an_interrupted_upload(client: &dyn Client) {
    let zone = Zone::new();
    let content = medium(&zone);
    // A shorter payload is another file.
    let other = &content[..content.len() - 1];
    for (name, content) in [("list.age", &content[..]), ("other.age.part", other)] {
        zone.put_here("half", &content[..content.len() / 2]);
        // A connection that is lost before CLOSE, under a final and under a temporary name.
        let script = format!(
            "connection = sftp()\nfile = connection.open('/relay/in/{name}', 'w')\nfile.write(read('half'))\n\
             connection.stat('/relay/in/{name}')\nos._exit(0)"
        );
        let Some(ran) = zone.python(AN, &script) else { return };
        ran.must_succeed();
    }
    let mut damaged = content.clone();
    damaged[300_000 - 1000..300_000].fill(0);
    zone.put_here("other.age", &damaged[..other.len()]);
    zone.put_here("local.age", damaged);
    let steps = [
        step(Kind::Resume, "local.age", "/relay/in/list.age"),
        step(Kind::Resume, "other.age", "/relay/in/other.age.part"),
    ];
    all_ok(&client.run(&zone, AN, &steps));
    zone.sftp(AN, "rename /relay/in/other.age.part /relay/in/other.age").must_succeed();
    let both = expected(&[("list.age", &content), ("other.age", other)]);
    assert_eq!(delivered(&zone, AN, "relay", 2), both);
}

pub fn stat_after_an_upload_tells_its_size(client: &dyn Client) {
    let zone = Zone::new();
    let content = medium(&zone);
    zone.put_here("local.age", &content);
    let (path, temporary) = ("/relay/in/list.age", "/relay/in/other.age.part");
    let steps = [
        step(Kind::Put, "local.age", path),
        step(Kind::Stat, path, ""),
        step(Kind::Put, "local.age", temporary),
        step(Kind::Stat, temporary, ""),
    ];
    let said = client.run(&zone, AN, &steps);
    all_ok(&said);
    for said in [&said[1], &said[3]] {
        assert_eq!(said.text.split(' ').next(), Some(content.len().to_string().as_str()), "{said:?}");
    }
}

pub fn sixty_four_mebibytes_go_up(client: &dyn Client) {
    let zone = Zone::new();
    zone.put_here("large.age", large());
    all_ok(&client.run(&zone, AN, &[step(Kind::Put, "large.age", "/relay/in/large.age")]));
    assert_eq!(delivered(&zone, AN, "relay", 1), expected(&[("large.age", large())]));
}

pub fn sixty_four_mebibytes_come_down(client: &dyn Client) {
    let zone = Zone::new();
    put_out(&zone, "large.age", large());
    all_ok(&client.run(&zone, BO, &[step(Kind::Get, "/relay/out/large.age", "collected")]));
    assert!(zone.read_here("collected") == large());
}

pub fn two_hundred_small_files_go_up_in_one_go(client: &dyn Client) {
    let zone = Zone::new();
    // Encrypting each by a program of its own would take longer than the upload; a longer payload is another file.
    let longest = large();
    let content = |number: usize| &longest[..10_000 + number];
    let name = |number: usize| format!("s{number:03}.age");
    fs::create_dir(zone.here().join("all")).unwrap();
    for number in 0..200 {
        fs::write(zone.here().join("all").join(name(number)), content(number)).unwrap();
    }
    all_ok(&client.run(&zone, AN, &[step(Kind::PutAll, "all", "/relay/in")]));
    let sent = (0..200).map(|number| (name(number), sha256(content(number)))).collect();
    assert_eq!(delivered(&zone, AN, "relay", 200), sent);
}

pub fn the_time_of_an_uploaded_file_is_kept(client: &dyn Client) {
    let zone = Zone::new();
    set_time(&zone.put_here("local.age", medium(&zone)), TIME);
    let path = "/relay/in/list.age";
    let mut steps = vec![step(Kind::PutTimed, "local.age", path)];
    if lack(client.name(), Kind::Stat).is_none() {
        steps.push(step(Kind::Stat, path, ""));
    }
    let said = client.run(&zone, AN, &steps);
    all_ok(&said);
    let shown = said.get(1).and_then(|said| said.text.split_whitespace().nth(1)).unwrap_or("-");
    assert!(shown == "-" || shown == TIME.to_string(), "{shown}");
    delivered(&zone, AN, "relay", 1);
    // Some clients set it before CLOSE, when it still reaches the description of the arrival.
    if BEFORE_CLOSE.contains(&client.name()) {
        let id = zone.wait_for("the arrival to be done", || zone.arrivals("done").pop());
        let text = fs::read(zone.spool().join("done").join(id).join("arrival.json")).unwrap();
        let arrival: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(arrival["mtime"], TIME, "{arrival:#}");
    }
}

/// Who sets a file's time by FSETSTAT, while it is open.
const BEFORE_CLOSE: [&str; 3] = ["openssh-sftp", "openssh-scp", "lftp"];

pub fn the_time_of_a_collected_file_is_kept(client: &dyn Client) {
    let zone = Zone::new();
    let result = put_out(&zone, "result.age", b"result");
    // Young enough that its time has not passed.
    let time = time_of(&result) - 3600;
    set_time(&result, time);
    all_ok(&client.run(&zone, BO, &[step(Kind::GetTimed, "/relay/out/result.age", "collected")]));
    assert_eq!(time_of(&zone.here().join("collected")), time);
}

pub fn names_of_any_script_and_length_go_up(client: &dyn Client) {
    let zone = Zone::new();
    let names = names();
    let contents: Vec<Vec<u8>> = (0..names.len()).map(|number| small(&zone, number)).collect();
    let mut steps = Vec::new();
    for (name, content) in names.iter().zip(&contents) {
        zone.put_here(name, content);
        steps.push(step(Kind::Put, name, &format!("/relay/in/{name}")));
    }
    all_ok(&client.run(&zone, AN, &steps));
    let sent = names.iter().cloned().zip(contents.iter().map(|content| sha256(content))).collect();
    assert_eq!(delivered(&zone, AN, "relay", names.len()), sent);
}

pub fn names_of_any_script_and_length_are_listed_and_come_down(client: &dyn Client) {
    let zone = Zone::new();
    let mut names = names();
    let mut steps = Vec::new();
    for (number, name) in names.iter().enumerate() {
        put_out(&zone, name, name.as_bytes());
        steps.push(step(Kind::Get, &format!("/relay/out/{name}"), &format!("collected-{number}")));
    }
    all_ok(&client.run(&zone, BO, &steps));
    for (number, name) in names.iter().enumerate() {
        assert_eq!(zone.read_here(&format!("collected-{number}")), name.as_bytes());
    }
    if lack(client.name(), Kind::List).is_none() {
        let said = client.run(&zone, BO, &[step(Kind::List, "/relay/out", "")]);
        names.sort();
        assert_eq!(listed(&said[0]), names);
    }
}

pub fn a_folder_of_five_thousand_files_is_listed_whole(client: &dyn Client) {
    let zone = Zone::new();
    let names: Vec<String> = (0..5000).map(|number| format!("result-{number:04}.age")).collect();
    for name in &names {
        put_out(&zone, name, b"r");
    }
    let said = client.run(&zone, BO, &[step(Kind::List, "/relay/out", "")]);
    let listed = listed(&said[0]);
    assert!(listed == names, "{} names", listed.len());
}

pub fn refused_plaintext_is_reported_as_a_failure(client: &dyn Client) {
    refused_plaintext(client, "/relay/in/list.age");
}

pub fn refused_plaintext_under_a_temporary_name_is_reported_as_a_failure(client: &dyn Client) {
    refused_plaintext(client, "/relay/in/list.age.part");
}

fn refused_plaintext(client: &dyn Client, path: &str) {
    let zone = Zone::new();
    zone.put_here("local", plaintext());
    let said = client.run(&zone, AN, &[step(Kind::Put, "local", path)]);
    assert!(!said[0].ok, "{said:?}");
    let gone =
        |zone: &Zone| zone.receipts("agency", "relay").iter().any(|receipt| receipt["verdict"] == "refused");
    zone.wait_for("the receipt of the refusal", || gone(&zone).then_some(()));
    assert_eq!((zone.accepted(), zone.partials()), (0, Vec::new()));
    // The connection may be gone with it; the next one is as good as ever.
    let content = medium(&zone);
    zone.put_here("local", &content);
    all_ok(&client.run(&zone, AN, &[step(Kind::Put, "local", "/relay/in/list.age")]));
    zone.receipt("relay", "list.age", "delivered");
}

pub fn refused_operations_leave_the_connection_usable(client: &dyn Client) {
    let zone = Zone::new();
    let (one, two) = (small(&zone, 1), small(&zone, 2));
    zone.put_here("one.age", &one);
    zone.put_here("two.age", &two);
    let result = zone.folder_of("outbox", "city", "city-only").join("result.age");
    fs::write(&result, "result").unwrap();
    let receipt = zone.folder_of("receipts", "city", "city-only").join("receipt.json");
    fs::write(&receipt, "{}").unwrap();
    let refused: Vec<Step> = [
        step(Kind::Mkdir, "/city-only/in/folder.age", ""),
        step(Kind::Mkdir, "/folder", ""),
        step(Kind::Rmdir, "/city-only/in", ""),
        step(Kind::Symlink, "/city-only/out/result.age", "/city-only/in/link.age"),
        step(Kind::Chmod, "/city-only/out/result.age", ""),
        step(Kind::Chmod, "/city-only/out", ""),
        step(Kind::Get, "/city-only/in/one.age", "nothing"),
        step(Kind::Get, "/city-only/out/none.age", "nothing"),
        step(Kind::Put, "two.age", "/city-only/out/two.age"),
        step(Kind::Put, "two.age", "/city-only/in/two.txt"),
        step(Kind::Put, "two.age", "/city-only/two.age"),
        step(Kind::Put, "two.age", "/relay/in/two.age"),
        step(Kind::Put, "two.age", "/elsewhere/in/two.age"),
        step(Kind::Rename, "/city-only/out/result.age", "/city-only/out/renamed.age"),
        step(Kind::Rename, "/city-only/out/result.age", "/city-only/in/renamed.age"),
        step(Kind::Rename, "/city-only/in/none.age", "/city-only/in/renamed.age"),
        step(Kind::Remove, "/city-only/receipts/receipt.json", ""),
        step(Kind::Remove, "/city-only/in/none.age", ""),
        step(Kind::List, "/elsewhere", ""),
    ]
    .into_iter()
    .filter(|step| lack(client.name(), step.kind).is_none())
    .collect();
    let mut steps = vec![step(Kind::Put, "one.age", "/city-only/in/one.age")];
    steps.extend(refused.iter().cloned());
    steps.push(step(Kind::Put, "two.age", "/city-only/in/two.age"));
    steps.push(step(Kind::Get, "/city-only/out/result.age", "collected"));
    let said = client.run(&zone, BO, &steps);
    assert_eq!(said.len(), steps.len());
    for (at, (step, said)) in steps.iter().zip(&said).enumerate() {
        let expected = at == 0 || at > refused.len();
        assert_eq!(said.ok, expected, "{step:?}: {said:?}");
    }
    assert_eq!(zone.read_here("collected"), b"result");
    assert!(result.exists() && receipt.exists());
    let both = expected(&[("one.age", &one), ("two.age", &two)]);
    assert_eq!(delivered(&zone, BO, "city-only", 2), both);
}

pub fn other_content_under_a_taken_name_is_reported_as_a_failure(client: &dyn Client) {
    let zone = Zone::new();
    let (content, other) = (medium(&zone), small(&zone, 1));
    zone.put_here("local.age", &content);
    zone.put_here("other.age", &other);
    let path = "/relay/in/list.age";
    // While the first is waiting, its name is taken, for every session.
    let work = pid(*zone.pids(Daemon::Work).last().unwrap());
    kill_process(work, Signal::STOP).unwrap();
    let steps = [
        step(Kind::Put, "local.age", path),
        step(Kind::Put, "other.age", path),
        step(Kind::Put, "other.age", "/relay/in/other.age"),
    ];
    let said = client.run(&zone, AN, &steps);
    kill_process(work, Signal::CONT).unwrap();
    assert_eq!(said.iter().map(|said| said.ok).collect::<Vec<_>>(), [true, false, true], "{said:?}");
    let both = expected(&[("list.age", &content), ("other.age", &other)]);
    assert_eq!(delivered(&zone, AN, "relay", 2), both);
}

pub fn eight_connections_at_once_get_what_they_want(client: &dyn Client) {
    let zone = Zone::new();
    let contents: Vec<Vec<u8>> = (0..8).map(|number| small(&zone, number)).collect();
    let name = |number: usize| format!("list-{number}.age");
    for (number, content) in contents.iter().enumerate() {
        zone.put_here(&name(number), content);
        put_out(&zone, &name(number), content);
    }
    let start = Barrier::new(contents.len());
    let said: Vec<Vec<Said>> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let (zone, start, name) = (&zone, &start, name(number));
            scope.spawn(move || {
                start.wait();
                let path = format!("/relay/in/{name}");
                let put = client.run(zone, AN, &[step(Kind::Put, &name, &path)]);
                let from = format!("/relay/out/{name}");
                let get = client.run(zone, BO, &[step(Kind::Get, &from, &format!("collected-{name}"))]);
                [put, get].concat()
            })
        };
        let threads: Vec<_> = (0..contents.len()).map(one).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    all_ok(&said.concat());
    for (number, content) in contents.iter().enumerate() {
        assert!(zone.read_here(&format!("collected-{}", name(number))) == *content);
    }
    let sent = contents.iter().enumerate().map(|(number, content)| (name(number), sha256(content))).collect();
    assert_eq!(delivered(&zone, AN, "relay", 8), sent);
}

#[track_caller]
fn all_ok(said: &[Said]) {
    assert!(said.iter().all(|said| said.ok), "{said:#?}");
}

/// What a listing names, sorted; `.` and `..` are left to each client's taste.
#[track_caller]
fn listed(said: &Said) -> Vec<String> {
    assert!(said.ok, "{said:?}");
    let mut names: Vec<String> =
        said.text.lines().filter(|name| !["", ".", ".."].contains(name)).map(str::to_owned).collect();
    names.sort();
    names
}

/// Puts a file where the city collects.
fn put_out(zone: &Zone, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = zone.folder_of("outbox", "city", "relay").join(name);
    fs::write(&path, content).unwrap();
    path
}

fn expected(files: &[(&str, &[u8])]) -> BTreeMap<String, String> {
    files.iter().map(|(name, content)| ((*name).to_owned(), sha256(content))).collect()
}

/// Name and digest of what the zone says it has handed on, once it is so many.
fn delivered(zone: &Zone, person: Person, exchange: &str, count: usize) -> BTreeMap<String, String> {
    let folder = zone.folder_of("receipts", person.user, exchange);
    zone.wait_for(&format!("{count} receipts"), || {
        // Reading 200 receipts over and over again would take longer than waiting for them.
        let there = crate::harness::observe::names(&folder);
        (there.iter().filter(|name| name.ends_with(".json")).count() >= count).then_some(())
    });
    zone.wait_for(&format!("{count} deliveries"), || {
        let text = |receipt: &serde_json::Value, field: &str| receipt[field].as_str().unwrap().to_owned();
        let found: Vec<(String, String)> = zone
            .receipts(person.user, exchange)
            .iter()
            .filter(|receipt| receipt["verdict"] == "delivered")
            .map(|receipt| (text(receipt, "name"), text(receipt, "sha256")))
            .collect();
        assert!(found.len() <= count, "{found:?}");
        (found.len() == count).then(|| found.into_iter().collect())
    })
}
