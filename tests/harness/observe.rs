//! What a zone left behind, as its operator or an attacker would find it: files, receipts, log lines, metrics.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::programs::run;
use super::{Daemon, Zone};

impl Zone {
    /// The receipts that an institution finds in an exchange.
    pub fn receipts(&self, institution: &str, exchange: &str) -> Vec<Value> {
        let folder = self.folder_of("receipts", institution, exchange);
        names(&folder)
            .iter()
            .filter(|name| name.ends_with(".json"))
            .map(|name| serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap())
            .collect()
    }

    /// The agency's receipt for a file, once it says this.
    pub fn receipt(&self, exchange: &str, name: &str, verdict: &str) -> Value {
        self.wait_for(&format!("the receipt of {name}, {verdict}"), || {
            let is_it = |receipt: &Value| receipt["name"] == name && receipt["verdict"] == verdict;
            self.receipts("agency", exchange).into_iter().find(is_it)
        })
    }

    /// What lies in an institution's `out`, by name.
    pub fn results(&self, institution: &str, exchange: &str) -> Vec<String> {
        names(&self.folder_of("outbox", institution, exchange))
    }

    /// The name of the one result there, once it is there.
    pub fn result(&self, institution: &str, exchange: &str) -> String {
        self.wait_for("a result", || self.results(institution, exchange).into_iter().next())
    }

    /// The arrivals in a state.
    pub fn arrivals(&self, state: &str) -> Vec<String> {
        names(&self.spool().join(state))
    }

    /// The uploads that are not complete, as far as they are on the disk.
    pub fn partials(&self) -> Vec<String> {
        let mut find = Command::new("find");
        find.arg(self.spool().join("partial")).args(["-type", "f", "-printf", "%P\n"]);
        run(&mut find).text().lines().map(str::to_owned).collect()
    }

    /// When anything was last made, renamed or removed in each folder of uploads: also a file that is gone again shows.
    pub fn partials_changed(&self) -> String {
        let mut find = Command::new("find");
        find.arg(self.spool().join("partial")).args(["-type", "d", "-printf", "%P %T@\n"]);
        run(&mut find).must_succeed().text()
    }

    /// How many arrivals there are that a worker may ever see.
    pub fn accepted(&self) -> usize {
        ["incoming", "active", "deferred", "hold", "done"]
            .iter()
            .map(|state| self.arrivals(state).len())
            .sum()
    }

    /// All access log lines, by time.
    pub fn log_lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for name in names(&self.log()).iter().filter(|name| name.ends_with(".jsonl")) {
            let text = fs::read_to_string(self.log().join(name)).unwrap();
            // A line that is being written has no end yet.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            lines.extend(whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        lines.sort_by_key(|line| line["time"].as_str().unwrap().to_owned());
        lines
    }

    /// The log lines for which all of these fields have these values.
    pub fn logged(&self, fields: &[(&str, &str)]) -> Vec<Value> {
        let fits = |line: &Value| fields.iter().all(|(name, value)| line[*name] == *value);
        self.log_lines().into_iter().filter(fits).collect()
    }

    pub fn program_log(&self) -> String {
        fs::read_to_string(self.program_log_file()).unwrap_or_default()
    }

    /// The process numbers that `run` gave a daemon so far, the last one last.
    pub fn pids(&self, daemon: Daemon) -> Vec<u32> {
        let lines = self.program_log();
        let started = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        started
            .filter(|line| line["message"] == "started" && line["daemon"] == daemon.name())
            .map(|line| u32::try_from(line["pid"].as_u64().unwrap()).unwrap())
            .collect()
    }

    pub fn http(&self, daemon: Daemon, path: &str) -> String {
        run(Command::new("curl").arg("-s").arg(format!("http://{}{path}", self.metrics(daemon)))).text()
    }

    pub fn http_status(&self, daemon: Daemon, path: &str) -> String {
        let url = format!("http://{}{path}", self.metrics(daemon));
        run(Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).arg(url)).text()
    }

    /// The value of a metric, by its name and labels as they stand in the text format.
    pub fn metric(&self, daemon: Daemon, series: &str) -> f64 {
        let text = self.http(daemon, "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// Every file of spool and logs, access log and program log, that holds these bytes, and every one whose name does.
    pub fn search_tree(&self, canary: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        search(&self.spool(), canary.as_bytes(), &mut found);
        search(&self.log(), canary.as_bytes(), &mut found);
        search(&self.program_log_file(), canary.as_bytes(), &mut found);
        found
    }
}

/// The names in a folder, sorted; none where it does not exist.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn search(path: &Path, canary: &[u8], found: &mut Vec<PathBuf>) {
    let holds = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
    let Ok(facts) = fs::symlink_metadata(path) else { return };
    let content = if facts.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
    if path.file_name().is_some_and(|name| holds(name.as_bytes())) || holds(&content) {
        found.push(path.to_owned());
    }
    if facts.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            search(&entry.unwrap().path(), canary, found);
        }
    }
}
