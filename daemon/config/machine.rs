//! Checks `dropzone.yaml`. Whether keys, identities and databases are what they should be is left to those who open them,
//! and to `dropzone check`: this process may not be the one that can read them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::databases::databases;
use super::error::Key;
use super::limits::{limits, penalties, proxies};
use super::raw;
use super::values::Desk;
use super::{Algorithms, HeadsTo, Log, Machine, MetricsListen, Sockets, Work};
use crate::host::files::examine_folder;
use crate::policy::job::JobLimits;
use crate::policy::path::Slug;

const LISTEN_MAX: usize = 16;
const IDENTITIES_MAX: usize = 16;
const KEEP_DAYS: u64 = 31;
/// Longest path of a socket, in bytes (unix(7): `sun_path`, with its end).
const SOCKET_PATH_MAX: usize = 107;

/// The machine's part of a zone in `directory`, on a machine that calls itself `host`.
pub fn machine(desk: &mut Desk<'_>, directory: &Path, host: &str, raw: &raw::Machine) -> Option<Machine> {
    let root = Key::root();
    let node = node(desk, host, raw.node.as_deref());
    let listen = listen(desk, &raw.listen);
    let host_key = path(desk, directory, &root.at("host-key"), &raw.host_key);
    let signing_key = path(desk, directory, &root.at("signing-key"), &raw.signing_key);
    let identities = identities(desk, directory, &raw.identities);
    let spool = folder(desk, directory, &root.at("spool"), &raw.spool);
    let log = log(desk, directory, &raw.log);
    let metrics = metrics(desk, raw.metrics.as_ref());
    let sockets = sockets(desk, directory, &raw.sockets);
    let databases = databases(desk, directory, &raw.databases);
    let work = work(desk, &raw.work);
    let limits = limits(desk, &raw.limits);
    let penalties = penalties(desk, &raw.penalties);
    let proxies = proxies(desk, &raw.proxy_protocol);
    let passphrase_program = program(desk, &root.at("passphrases").at("program"), &raw.passphrases.program);
    let incident_program = program(desk, &root.at("incidents").at("program"), &raw.incidents.program);
    Some(Machine {
        node: node?,
        listen: listen?,
        host_key: host_key?,
        identities: identities?,
        signing_key: signing_key?,
        spool: spool?,
        log: log?,
        metrics: metrics?,
        sockets: sockets?,
        databases: databases?,
        work: work?,
        limits: limits?,
        algorithms: match raw.algorithms {
            raw::Algorithms::Compat => Algorithms::Compat,
            raw::Algorithms::Strict => Algorithms::Strict,
        },
        penalties: penalties?,
        proxies: proxies?,
        passphrase_program: passphrase_program?,
        incident_program: incident_program?,
    })
}

/// Without a name of its own, a node is called as its host is, as far as that can be a name.
fn node(desk: &mut Desk<'_>, host: &str, raw: Option<&str>) -> Option<Slug> {
    if let Some(text) = raw {
        return desk.slug(&Key::root().at("node"), text);
    }
    let first = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let text: String =
        first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let text = text.trim_matches('-');
    desk.slug(&Key::root().at("node"), if text.is_empty() { "zone" } else { text })
}

fn listen(desk: &mut Desk<'_>, raw: &[String]) -> Option<Vec<SocketAddr>> {
    let key = Key::root().at("listen");
    if raw.is_empty() {
        desk.wrong(&key, "is empty: nobody could connect", "name an address, as in [\"0.0.0.0:2222\"]");
        return None;
    }
    if !desk.at_most(&key, raw.len(), LISTEN_MAX) {
        return None;
    }
    let mut addresses = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let address = desk.address(&key.item(index), text)?;
        if address.port() != 0 && addresses.contains(&address) {
            desk.wrong(&key.item(index), format!("{address} is there twice"), "keep one of them");
        }
        addresses.push(address);
    }
    Some(addresses)
}

/// A program and its arguments: no shell stands between.
fn program(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<Vec<String>> {
    if raw.first().is_some_and(|program| !program.starts_with('/')) {
        let remedy = "begin with the program's absolute path";
        desk.wrong(list, "does not begin with an absolute path", remedy);
        return None;
    }
    raw.iter().enumerate().map(|(index, word)| desk.line(&list.item(index), word)).collect()
}

/// Relative paths are meant from the folder of `dropzone.yaml`.
pub(super) fn path(desk: &mut Desk<'_>, directory: &Path, key: &Key, text: &str) -> Option<PathBuf> {
    desk.line(key, text).map(|text| directory.join(text))
}

fn folder(desk: &mut Desk<'_>, directory: &Path, key: &Key, text: &str) -> Option<PathBuf> {
    let path = path(desk, directory, key, text)?;
    match examine_folder(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            desk.wrong(key, format!("{}: {error}", path.display()), error.remedy());
            None
        }
    }
}

fn identities(desk: &mut Desk<'_>, directory: &Path, raw: &[String]) -> Option<Vec<PathBuf>> {
    let key = Key::root().at("identities");
    if !desk.at_most(&key, raw.len(), IDENTITIES_MAX) {
        return None;
    }
    raw.iter().enumerate().map(|(index, text)| path(desk, directory, &key.item(index), text)).collect()
}

fn log(desk: &mut Desk<'_>, directory: &Path, raw: &raw::Log) -> Option<Log> {
    let key = Key::root().at("log");
    let folder = folder(desk, directory, &key.at("directory"), &raw.directory);
    let days = desk.count(&key.at("keep-days"), raw.keep_days.unwrap_or(KEEP_DAYS), 1..=3660);
    let to = &raw.heads_to;
    let file = match to.file.as_deref() {
        Some(text) => Some(path(desk, directory, &key.at("heads-to").at("file"), text)?),
        None => None,
    };
    let heads_to = HeadsTo { file, receipts: to.receipts, syslog: to.syslog };
    Some(Log { directory: folder?, keep_days: u16::try_from(days?).ok()?, heads_to })
}

fn metrics(desk: &mut Desk<'_>, raw: Option<&raw::Metrics>) -> Option<MetricsListen> {
    let key = Key::root().at("metrics");
    let (serve, work) = match raw {
        Some(raw) => (raw.serve.as_str(), raw.work.as_str()),
        None => ("127.0.0.1:9721", "127.0.0.1:9722"),
    };
    let serve = loopback(desk, &key.at("serve"), serve);
    let work = loopback(desk, &key.at("work"), work);
    let (serve, work) = (serve?, work?);
    if serve == work && serve.port() != 0 {
        desk.wrong(&key.at("work"), format!("{work} is also the address of serve"), "choose another port");
    }
    Some(MetricsListen { serve, work })
}

fn loopback(desk: &mut Desk<'_>, key: &Key, text: &str) -> Option<SocketAddr> {
    let address = desk.address(key, text)?;
    if address.ip().is_loopback() {
        return Some(address);
    }
    desk.wrong(
        key,
        format!("{address} can be reached from the network"),
        "use a loopback address, as in 127.0.0.1:9721; let the collector's agent run on this machine",
    );
    None
}

/// Their folder is not looked at: systemd makes it when the process that owns it starts, and takes it away with that.
fn sockets(desk: &mut Desk<'_>, directory: &Path, raw: &raw::Sockets) -> Option<Sockets> {
    let key = Key::root().at("sockets");
    let mut socket = |name: &str, raw: Option<&str>, default: &str| {
        let key = key.at(name);
        let path = path(desk, directory, &key, raw.unwrap_or(default))?;
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            let problem = format!("{} has {length} bytes, and a socket's path may have 107", path.display());
            desk.wrong(&key, problem, "name a shorter path, as in /run/dropzone/work.sock");
            return None;
        }
        Some(path)
    };
    let serve = socket("serve", raw.serve.as_deref(), "run/serve.sock");
    let work = socket("work", raw.work.as_deref(), "run/work.sock");
    let work_control = socket("work-control", raw.work_control.as_deref(), "run/work-control.sock");
    let (serve, work, work_control) = (serve?, work?, work_control?);
    if serve == work {
        desk.wrong(&key.at("work"), "is also the socket of serve", "choose another name");
    }
    if [&serve, &work].contains(&&work_control) {
        desk.wrong(&key.at("work-control"), "is also another socket", "choose another name");
    }
    Some(Sockets { serve, work, work_control })
}

fn work(desk: &mut Desk<'_>, raw: &raw::Work) -> Option<Work> {
    let key = Key::root().at("work");
    let every = Duration::from_millis(50)..=Duration::from_secs(3600);
    let scan_every = desk.duration(&key.at("scan-every"), raw.scan_every.as_deref().unwrap_or("2s"), every);
    let jobs = desk.count(&key.at("jobs"), raw.jobs.unwrap_or(2), 1..=64);
    let tries = desk.count(&key.at("tries"), raw.tries.unwrap_or(10), 1..=100);
    let job = job_limits(desk, &key, raw);
    let lease = Duration::from_secs(1)..=crate::policy::lease::LONGEST;
    let lease = desk.duration(&key.at("lease"), raw.lease.as_deref().unwrap_or("30s"), lease);
    Some(Work {
        scan_every: scan_every?,
        jobs: usize::try_from(jobs?).ok()?,
        tries: u32::try_from(tries?).ok()?,
        job: job?,
        lease: lease?,
    })
}

fn job_limits(desk: &mut Desk<'_>, key: &Key, raw: &raw::Work) -> Option<JobLimits> {
    let times = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
    let time = desk.duration(&key.at("job-time"), raw.job_time.as_deref().unwrap_or("1h"), times);
    let mut size = |name: &str, text: Option<&str>, default: &str, allowed| {
        desk.size(&key.at(name), text.unwrap_or(default), allowed)
    };
    let result_size = size("result-size", raw.result_size.as_deref(), "8 GiB", 1 << 10..=1 << 50);
    // Below that, SQLite cannot even open a register.
    let memory = size("job-memory", raw.job_memory.as_deref(), "1 GiB", 16 << 20..=1 << 46);
    Some(JobLimits { time: time?, result_size: result_size?, memory: memory? })
}
