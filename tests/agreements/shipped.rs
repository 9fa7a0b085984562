//! A zone as `dropzone init` lays it out, in which the operator has filled in people, recipients and addresses, and nothing
//! else; and the hands of everybody in it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::observe::names;
use crate::harness::programs::{
    Ran, person_key, public_key, recipient, run, run_with_input, sqlite, with_clock,
};
use crate::harness::{Daemon, Person, Zone};
use crate::people::Jobseeker;

/// Label, institution, function. The first of an institution is who acts for it in these tests.
const PEOPLE: [(&str, &str, &str); 18] = [
    ("an.peeters", "agii", "data steward"),
    ("tine.maes", "agii", "trajectbegeleider"),
    ("bart.claes", "atlas", "trajectbegeleider"),
    ("ilse.gent", "amal", "trajectbegeleider"),
    ("jan.maes", "vdab", "data steward"),
    ("eva.janssens", "vdab", "systeembeheerder"),
    ("els.wouters", "lommel", "inburgeringsambtenaar"),
    ("kris.balie", "lommel", "onthaal"),
    ("tom.jacobs", "mechelen", "netwerkcoördinator"),
    ("lies.peeters", "vsb", "dossierbeheerder"),
    ("karel.smet", "zorgkas-cm", "medewerker"),
    ("mia.dubois", "zorgkas-helan", "medewerker"),
    ("nele.baert", "zorgkas-lm", "medewerker"),
    ("piet.lenaerts", "zorgkas-neutraal", "medewerker"),
    ("rosa.martens", "zorgkas-solidaris", "medewerker"),
    ("wim.goossens", "zorgkas-vlaams", "medewerker"),
    ("jo.derde", "", ""),
    ("sara.vreemd", "", ""),
];

pub const AGII: Person = Person { user: "agii", key: "an.peeters" };
pub const TINE: Person = Person { user: "agii", key: "tine.maes" };
pub const ATLAS: Person = Person { user: "atlas", key: "bart.claes" };
pub const AMAL: Person = Person { user: "amal", key: "ilse.gent" };
pub const VDAB: Person = Person { user: "vdab", key: "jan.maes" };
pub const LOMMEL: Person = Person { user: "lommel", key: "els.wouters" };
pub const LOMMEL_DESK: Person = Person { user: "lommel", key: "kris.balie" };
pub const MECHELEN: Person = Person { user: "mechelen", key: "tom.jacobs" };
pub const VSB: Person = Person { user: "vsb", key: "lies.peeters" };
/// A key that is nobody's yet.
pub const THIRD: Person = Person { user: "vdab", key: "jo.derde" };

/// The care funds' codes, users and people.
pub const FUNDS: [(&str, Person); 6] = [
    ("200", Person { user: "zorgkas-cm", key: "karel.smet" }),
    ("300", Person { user: "zorgkas-neutraal", key: "piet.lenaerts" }),
    ("400", Person { user: "zorgkas-solidaris", key: "rosa.martens" }),
    ("500", Person { user: "zorgkas-lm", key: "nele.baert" }),
    ("600", Person { user: "zorgkas-helan", key: "mia.dubois" }),
    ("900", Person { user: "zorgkas-vlaams", key: "wim.goossens" }),
];

pub struct Shipped {
    pub zone: Zone,
}

impl Shipped {
    /// Laid out, and not started.
    pub fn lay_out() -> Self {
        let zone = Zone::lay_out();
        fs::remove_dir_all(zone.directory()).unwrap();
        run(Command::new(env!("CARGO_BIN_EXE_dropzone")).arg("init").arg(zone.directory())).must_succeed();
        let shipped = Self { zone };
        shipped.write_machine();
        for (label, ..) in PEOPLE {
            person_key(&shipped.zone.key_of(Person { user: "", key: label }));
        }
        let institutions = names(&shipped.zone.directory().join("institutions"));
        for name in institutions.iter().map(|file| file.trim_end_matches(".yaml")) {
            for holder in PEOPLE.iter().filter(|person| person.1 == name).map(|person| person.0).chain([name])
            {
                run(Command::new("age-keygen").arg("-o").arg(shipped.zone.identity_of(holder)))
                    .must_succeed();
            }
            shipped.fill_in(name);
        }
        shipped
    }

    /// Running since a moment (UTC, as in `2026-03-01 12:00:00`).
    pub fn at(moment: &str) -> Self {
        let mut shipped = Self::lay_out();
        shipped.start_at(moment);
        shipped
    }

    pub fn start_at(&mut self, moment: &str) {
        self.zone.clock = Some(format!("@{moment}"));
        self.zone.start();
    }

    /// The same zone at another time. Its clock has not jumped: an operator says so.
    pub fn go_on_at(&mut self, moment: &str) {
        self.zone.end_with(rustix::process::Signal::TERM);
        self.start_at(moment);
        self.dropzone(&["clock", "confirm", "--reason", "the test goes on at another date"]);
    }

    fn write_machine(&self) {
        let zone = &self.zone;
        let text = format!(
            "node: test\nlisten: [\"{}\"]\nhost-key: keys/ssh_host_ed25519_key\nidentities: [keys/zone.agekey]\n\
             signing-key: keys/signing_ed25519\nspool: spool\nlog: {{directory: log, keep-days: 31}}\n\
             metrics: {{serve: \"{}\", work: \"{}\"}}\ndatabases:\n  register: {{sqlite: register.db}}\n\
             work: {{scan-every: 200ms, jobs: 2, tries: 10}}\npenalties: {{exempt: [127.0.0.0/8]}}\n",
            zone.ssh(),
            zone.metrics(Daemon::Serve),
            zone.metrics(Daemon::Work)
        );
        fs::write(zone.directory().join("dropzone.yaml"), text).unwrap();
    }

    /// What an operator writes into an institution's file once it has answered.
    fn fill_in(&self, name: &str) {
        let people: String = PEOPLE
            .iter()
            .filter(|person| person.1 == name)
            .map(|person| self.entry(person.0, person.2))
            .collect();
        let own = recipient(&self.zone.identity_of(name));
        self.edit(&format!("institutions/{name}.yaml"), "people: []", &format!("people:\n{people}"));
        self.edit(&format!("institutions/{name}.yaml"), "recipients: []", &format!("recipients: [{own}]"));
    }

    fn entry(&self, label: &'static str, function: &str) -> String {
        let key = public_key(&self.zone.key_of(Person { user: "", key: label }));
        let own = recipient(&self.zone.identity_of(label));
        format!("  - {{label: {label}, function: {function}, keys: [\"{key}\"], recipients: [{own}]}}\n")
    }

    /// Lets somebody in who was not there before.
    pub fn add_person(&self, institution: &str, label: &'static str, function: &str) {
        run(Command::new("age-keygen").arg("-o").arg(self.zone.identity_of(label))).must_succeed();
        let entry = self.entry(label, function);
        self.edit(&format!("institutions/{institution}.yaml"), "people:\n", &format!("people:\n{entry}"));
    }

    /// Changes a configuration file; the first place that fits.
    pub fn edit(&self, file: &str, old: &str, new: &str) {
        let path = self.zone.directory().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old:?}");
        fs::write(path, text.replacen(old, new, 1)).unwrap();
    }

    /// A register of these jobseekers in place of the sample's.
    pub fn write_register(&self, people: &[Jobseeker]) {
        let columns = "insz TEXT PRIMARY KEY, eerste_inschrijving TEXT, laatste_inschrijving TEXT, categorie TEXT, \
                       status_dienstverlening TEXT, acties TEXT, uitstroom_naar_werk TEXT";
        let csv = self.zone.put_here("register.csv", crate::people::register_csv(people));
        let new = self.zone.directory().join("register.new");
        let load = format!(
            "CREATE TABLE jobseekers ({columns}) WITHOUT ROWID;\n.mode csv\n.import {} jobseekers\n",
            csv.display()
        );
        sqlite(&new, &load);
        fs::rename(new, self.zone.register()).unwrap();
    }

    /// The program at the zone's time.
    pub fn dropzone(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dropzone"));
        command.arg("--config").arg(self.zone.directory()).args(arguments);
        if let Some(clock) = &self.zone.clock {
            with_clock(&mut command, clock);
        }
        run(&mut command)
    }

    /// Encrypts a list to the zone and drops it, and must succeed. Gives its name.
    pub fn send(&self, person: Person, exchange: &str, name: &str, list: impl AsRef<[u8]>) {
        self.zone.upload(person, &format!("/{exchange}/in/{name}"), &self.zone.encrypt(list));
    }

    /// The last receipt of a file, once it says this.
    pub fn receipt(&self, institution: &str, exchange: &str, name: &str, verdict: &str) -> Value {
        self.zone.wait_for(&format!("the receipt of {name}, {verdict}"), || {
            let is_it = |receipt: &Value| receipt["name"] == name && receipt["verdict"] == verdict;
            self.zone.receipts(institution, exchange).into_iter().find(is_it)
        })
    }

    /// The names in a receiver's `out`, as its own client lists them.
    pub fn listed(&self, person: Person, folder: &str) -> Vec<String> {
        let ran = self.zone.sftp(person, &format!("ls -1 \"{folder}\"")).must_succeed();
        let name = |line: &str| line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        ran.text()
            .lines()
            .filter(|line| !line.starts_with("sftp>"))
            .map(name)
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// Collects the results that a receipt names for a receiver, and opens them with the key of this holder.
    pub fn collect(&self, person: Person, receipt: &Value, holder: &str) -> Vec<Vec<u8>> {
        let exchange = receipt["exchange"].as_str().unwrap();
        let mine = receipt["deliveries"].as_array().unwrap().iter().filter(|delivery| {
            delivery["to"] == person.user && delivery.get("person").is_none_or(|label| label == person.key)
        });
        mine.map(|delivery| {
            let name = delivery["name"].as_str().unwrap();
            let file = self.zone.download(person, &format!("/{exchange}/out/{name}"));
            assert_eq!(crate::harness::programs::sha256(&file), delivery["sha256"].as_str().unwrap());
            self.zone.decrypt(holder, &file)
        })
        .collect()
    }

    /// The one such result, as text.
    pub fn collect_one(&self, person: Person, receipt: &Value, holder: &str) -> String {
        let mut all = self.collect(person, receipt, holder);
        assert_eq!(all.len(), 1, "{receipt:#}");
        String::from_utf8(all.remove(0)).unwrap()
    }

    /// What `expect.py` computes.
    pub fn expected(&self, question: &str, files: &[&PathBuf]) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/agreements/expect.py");
        let mut python = Command::new("/usr/bin/python3");
        run(python.arg(script).arg(question).args(files)).must_succeed().text()
    }

    /// What `expect.py` computes of one file for one of several.
    pub fn expected_with(&self, question: &str, file: &PathBuf, which: &str) -> String {
        self.expected(question, &[file, &PathBuf::from(which)])
    }

    /// The quality report that a sender fetches from its receipts.
    pub fn quality_report(&self, person: Person, receipt: &Value) -> String {
        let exchange = receipt["exchange"].as_str().unwrap();
        let name = self
            .listed(person, &format!("/{exchange}/receipts"))
            .into_iter()
            .find(|name| name.ends_with(".quality.csv") && name.contains(receipt["name"].as_str().unwrap()))
            .unwrap_or_else(|| panic!("no quality report for {receipt:#}"));
        String::from_utf8(self.zone.download(person, &format!("/{exchange}/receipts/{name}"))).unwrap()
    }

    /// Opens a file that is locked with a passphrase, as its receiver does at a terminal.
    pub fn unlock(&self, file: &[u8], passphrase: &str) -> Option<Vec<u8>> {
        let from = self.zone.put_here("locked.age", file);
        let to = self.zone.here().join("unlocked");
        let _ = fs::remove_file(&to);
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/agreements/unlock.py");
        let mut python = Command::new("/usr/bin/python3");
        let ran = run_with_input(python.arg(script).arg(from).arg(&to), &format!("{passphrase}\n"));
        ran.succeeded().then(|| fs::read(to).unwrap())
    }
}
