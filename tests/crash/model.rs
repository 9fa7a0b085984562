//! What must be true whatever happened: each list that was acknowledged is delivered exactly once, byte for byte, with a final
//! receipt whose signature counts, and its records; the log is intact; nothing half-made stays behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::programs::{run_with_input, sha256};
use crate::zone::Site;

/// What is on its way arrives within this, in seconds.
const REST: u64 = 30;

/// The exchange that all lists here go through, and come back from.
pub const EXCHANGE: &str = "pillar-3";

/// A list that somebody sends.
#[derive(Debug, Clone)]
pub struct List {
    pub name: String,
    pub sent: Vec<u8>,
    /// The result that the zone must make of it.
    pub expected: String,
}

/// Makes lists, no two alike.
pub struct Lists {
    zone: age::x25519::Recipient,
    next: u32,
}

impl Lists {
    pub fn of(site: &Site) -> Self {
        Self { zone: age::x25519::Recipient::from_str(&site.zone.recipient()).unwrap(), next: 0 }
    }

    pub fn next(&mut self) -> List {
        self.next += 1;
        let number = format!("{:011}", 20_000_000_000_u64 + u64::from(self.next));
        let plain = format!("insz\n85073003328\n{number}\n");
        List {
            name: format!("list-{}.csv.age", self.next),
            sent: age::encrypt(&self.zone, plain.as_bytes()).unwrap(),
            expected: format!("insz,category,registered\n85073003328,werkzoekend,2021-04-01\n{number},,\n"),
        }
    }
}

/// What an institution and an operator would find of a list.
#[derive(Debug, Default)]
struct Found {
    results: Vec<String>,
    receipts: Vec<Value>,
}

/// Says what is wrong; nothing when all is well. Waits for what is on its way.
pub fn check(site: &Site, lists: &[List], acknowledged: bool) -> Result<(), String> {
    wait_for_the_end(site, lists, acknowledged)?;
    let receivers = age_identity(site);
    let found = found(site, &receivers)?;
    let log = log_lines(site);
    for list in lists {
        let empty = Found::default();
        let of = found.get(&list.name).unwrap_or(&empty);
        check_list(list, of, &log, acknowledged).map_err(|what| format!("{}: {what}", list.name))?;
    }
    check_signatures(site)
}

/// The same, and that nothing stays behind, and that the log is intact. Stops both daemons, whose stop seals the log.
pub fn check_all(site: &mut Site, lists: &[List]) -> Result<(), String> {
    check(site, lists, true)?;
    site.stop_all();
    let (intact, told) = site.verify_log(&site.zone.log());
    if !intact {
        return Err(format!("log verify: {told}"));
    }
    site.start_all();
    let left = leftovers(site);
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
}

/// What no process works on any more and nobody will remove: temporary files, staged results, empty folders of uploads.
pub fn leftovers(site: &Site) -> Vec<String> {
    // Temporary files of receipts and markers are swept by nobody yet; they are never read.
    let is_old = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_temporary =
            name.ends_with(".new") && !(path.starts_with("receipts/") || path.starts_with("seen/"));
        is_temporary || (name.starts_with("result-") && name.ends_with(".age")) || path.starts_with("active/")
    };
    let tree = site.disk.tree();
    let files = tree.files();
    let spool = files.keys().filter_map(|path| path.strip_prefix("spool/"));
    spool.filter(|path| is_old(path)).map(str::to_owned).collect()
}

fn wait_for_the_end(site: &Site, lists: &[List], acknowledged: bool) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let busy: usize =
            ["incoming", "active", "deferred"].iter().map(|state| site.zone.arrivals(state).len()).sum();
        let told: BTreeSet<String> = receipts(site)?
            .iter()
            .filter(|receipt| receipt["verdict"] != "in-progress")
            .map(|receipt| receipt["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let all_told = !acknowledged || lists.iter().all(|list| told.contains(&list.name));
        if busy == 0 && all_told {
            return Ok(());
        }
        // Where nothing is on its way, waiting is in vain.
        if busy == 0 && start.elapsed().as_secs() >= 2 {
            let untold: Vec<&str> =
                lists.iter().map(|list| list.name.as_str()).filter(|name| !told.contains(*name)).collect();
            return Err(format!("lost: {untold:?} were acknowledged, and nothing is on its way"));
        }
        if start.elapsed().as_secs() > REST {
            let states = ["incoming", "active", "deferred"].map(|state| site.zone.arrivals(state));
            return Err(format!("the zone does not come to rest: {states:?}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn age_identity(site: &Site) -> age::x25519::Identity {
    let text = fs::read_to_string(site.zone.identity_of("agency")).unwrap();
    let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).unwrap();
    age::x25519::Identity::from_str(line).unwrap()
}

/// By the name of the list: results are found through the receipts and through what is in them.
fn found(site: &Site, identity: &age::x25519::Identity) -> Result<BTreeMap<String, Found>, String> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for receipt in receipts(site)? {
        let name = receipt["name"].as_str().unwrap().to_owned();
        found.entry(name).or_default().receipts.push(receipt);
    }
    let folder = site.zone.folder_of("outbox", "agency", EXCHANGE);
    for result in names(&folder) {
        let encrypted = fs::read(folder.join(&result)).map_err(|error| format!("{result}: {error}"))?;
        let list = result.find('.').map(|end| format!("{}.csv.age", &result[..end]));
        let plain = age::decrypt(identity, &encrypted).map_err(|error| format!("{result}: {error}"))?;
        let text = String::from_utf8(plain).map_err(|error| format!("{result}: {error}"))?;
        let list = list.ok_or_else(|| format!("{result}: the result of what?"))?;
        found.entry(list).or_default().results.push(text);
    }
    Ok(found)
}

/// What a power cut left of a receipt is none.
fn receipts(site: &Site) -> Result<Vec<Value>, String> {
    let folder = site.zone.folder_of("receipts", "agency", EXCHANGE);
    let read = |name: &String| {
        let text = fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))
    };
    names(&folder).iter().filter(|name| name.ends_with(".json")).map(read).collect()
}

/// The records; a line that a crash cut short is none.
fn log_lines(site: &Site) -> Vec<Value> {
    let folder = site.zone.log();
    let files = names(&folder).into_iter().filter(|name| name.ends_with(".jsonl"));
    let text = |name: String| fs::read(folder.join(name)).unwrap_or_default();
    let lines = |text: Vec<u8>| -> Vec<Value> {
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    };
    files.map(text).flat_map(lines).collect()
}

fn check_list(list: &List, found: &Found, log: &[Value], acknowledged: bool) -> Result<(), String> {
    if found.results.len() > 1 || (acknowledged && found.results.is_empty()) {
        return Err(format!("delivered {} times", found.results.len()));
    }
    if found.results.iter().any(|result| *result != list.expected) {
        return Err(format!("another result than the list's: {:?}", found.results));
    }
    // The same list may have come twice, where the answer to the first was lost: each arrival has its final receipt, and
    // one of them is the delivery's.
    if found.receipts.is_empty() && !acknowledged {
        return Ok(());
    }
    let told: Vec<&str> = found.receipts.iter().filter_map(|receipt| receipt["verdict"].as_str()).collect();
    let delivered = |receipt: &&Value| {
        receipt["verdict"] == "delivered"
            && receipt["sha256"] == sha256(&list.sent)
            && log.iter().any(|line| line["event"] == "deliver" && line["arrival"] == receipt["arrival"])
    };
    let Some(receipt) = found.receipts.iter().find(delivered) else {
        return Err(format!("no receipt of its delivery, but {told:?}"));
    };
    if told.contains(&"in-progress") {
        return Err(format!("a receipt that is not the last: {told:?}"));
    }
    let has = |event: &str, outcome: &str| {
        log.iter().any(|line| {
            line["event"] == event && line["outcome"] == outcome && line["arrival"] == receipt["arrival"]
        })
    };
    for event in ["publish", "deliver", "receipt", "job"] {
        if !has(event, "ok") {
            return Err(format!("there is no record of {event}"));
        }
    }
    Ok(())
}

/// Every receipt has a signature that stock `ssh-keygen` accepts; one that is just being written may be a step ahead.
fn check_signatures(site: &Site) -> Result<(), String> {
    let folder = site.zone.folder_of("receipts", "agency", EXCHANGE);
    let last = names(&folder).into_iter().rfind(|name| name.ends_with(".json"));
    let Some(name) = last else { return Ok(()) };
    let mut text = String::new();
    let read = fs::File::open(folder.join(&name)).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|error| format!("{name}: {error}"))?;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "verify", "-I", "dropzone-zone", "-n", "receipt@dropzone", "-f"]);
    keygen.arg(folder.join("allowed_signers")).arg("-s").arg(folder.join(format!("{name}.sig")));
    let ran = run_with_input(&mut keygen, &text);
    if ran.succeeded() { Ok(()) } else { Err(format!("{name}: {}", ran.stderr)) }
}
