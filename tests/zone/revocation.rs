//! What operators take away is gone at once, what they add is there at once, and nobody else notices.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dropzone::host::clock::Clock;
use dropzone::host::containment::Containment;
use dropzone::host::process::{Hangup, Shutdown};
use russh::client;
use russh::keys::{PrivateKeyWithHashAlg, load_secret_key};
use russh_sftp::client::SftpSession;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::algorithms::Anyone;
use crate::harness::programs::{Ran, person_key, public_key, recipient, run};
use crate::harness::{AN, BO, Daemon, Person, Zone, pid};

/// No answer may take longer; how quick it is, no test asks.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session of somebody, with an upload of it that has begun.
struct Client {
    sftp: SftpSession,
    upload: Option<russh_sftp::client::fs::File>,
    _connection: client::Handle<Anyone>,
}

impl Client {
    async fn log_in(zone: &Zone, person: Person) -> Self {
        let key = load_secret_key(zone.key_of(person), None).unwrap();
        let login = async {
            let config = Arc::new(client::Config::default());
            let mut connection = client::connect(config, zone.ssh(), Anyone).await.unwrap();
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
            assert!(connection.authenticate_publickey(person.user, key).await.unwrap().success());
            let channel = connection.channel_open_session().await.unwrap();
            channel.request_subsystem(true, "sftp").await.unwrap();
            let sftp = SftpSession::new(channel.into_stream()).await.unwrap();
            Self { sftp, upload: None, _connection: connection }
        };
        tokio::time::timeout(PATIENCE, login).await.unwrap()
    }

    async fn uploading(zone: &Zone, person: Person, path: &str) -> Self {
        let mut client = Self::log_in(zone, person).await;
        let mut file = client.sftp.create(path).await.unwrap();
        let content = zone.encrypt(vec![b'x'; 300_000]);
        let sent = file.write_all(&content[..200_000]);
        tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
        file.flush().await.unwrap();
        client.upload = Some(file);
        client
    }

    async fn is_served(&self) -> bool {
        let listing = tokio::time::timeout(PATIENCE, self.sftp.read_dir("/")).await;
        matches!(listing, Ok(Ok(_)))
    }

    /// Waits until it hears that it is gone.
    async fn must_be_cut(&mut self) {
        let mut file = self.upload.take().unwrap();
        let going_on =
            async { while file.write_all(&[b'y'; 4096]).await.is_ok() && file.flush().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, going_on)
            .await
            .expect("the upload goes on as if nothing had happened");
        assert!(!self.is_served().await);
    }
}

fn dropzone(zone: &Zone, arguments: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_dropzone")).arg("--config").arg(zone.directory()).args(arguments))
}

/// Sends SIGHUP to `dropzone run`, the parent of both daemons.
fn hang_up(zone: &Zone) {
    let serve = zone.pids(Daemon::Serve).pop().unwrap();
    let status = fs::read_to_string(format!("/proc/{serve}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    kill_process(pid(parent.trim().parse().unwrap()), Signal::HUP).unwrap();
}

fn live(zone: &Zone) -> Vec<Value> {
    serde_json::from_slice(&dropzone(zone, &["sessions", "--json"]).must_succeed().stdout).unwrap()
}

fn edit(zone: &Zone, file: &str, old: &str, new: &str) {
    let path = zone.directory().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{file} has no {old:?}");
    fs::write(path, text.replacen(old, new, 1)).unwrap();
}

/// The configuration as it was, to go back to.
struct Kept(Vec<(std::path::PathBuf, Vec<u8>)>);

impl Kept {
    fn of(zone: &Zone) -> Self {
        let folders = ["institutions", "exchanges"].map(|folder| zone.directory().join(folder));
        let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
        Self(
            files
                .map(|file| file.unwrap().path())
                .map(|path| (path.clone(), fs::read(path).unwrap()))
                .collect(),
        )
    }

    fn put_back(&self) {
        self.0.iter().for_each(|(path, text)| fs::write(path, text).unwrap());
    }
}

type Change = fn(&Zone);

/// Why a session ends, and what is changed for that.
const CHANGES: [(&str, Change); 7] = [
    ("key-removed", |zone| {
        let public = public_key(&zone.key_of(AN));
        edit(zone, "institutions/agency.yaml", &format!("      - \"{public}\"\n"), "      []\n");
    }),
    ("key-expired", |zone| {
        let public = public_key(&zone.key_of(AN));
        let dated = format!("{{key: \"{public}\", not-after: 2026-01-01}}");
        edit(zone, "institutions/agency.yaml", &format!("\"{public}\""), &dated);
    }),
    ("wrong-network", |zone| {
        edit(zone, "institutions/agency.yaml", "people:", "networks: [192.0.2.0/24]\npeople:");
    }),
    ("exchange-removed", |zone| remove(zone, "exchanges/pillar-3.yaml")),
    ("not-admitted", |zone| {
        let circle = "agency: {may: [drop, collect], people: {only: [els]}}";
        edit(zone, "exchanges/pillar-3.yaml", "agency: [drop, collect]", circle);
    }),
    ("agreement-ended", |zone| {
        edit(zone, "exchanges/pillar-3.yaml", "from: 2023-03-03", "from: 2023-03-03\n  until: 2026-01-01");
    }),
    ("institution-removed", |zone| {
        for name in ["pillar-3", "notes", "relay", "small", "closed"] {
            remove(zone, &format!("exchanges/{name}.yaml"));
        }
        remove(zone, "institutions/agency.yaml");
    }),
];

fn remove(zone: &Zone, file: &str) {
    fs::remove_file(zone.directory().join(file)).unwrap();
}

/// The record of the end of the session that was uploading there.
fn end_of_the_upload(zone: &Zone, path: &str) -> Value {
    zone.wait_for("the last record", || {
        let broken_off = zone.logged(&[("event", "close"), ("path", path), ("outcome", "failed")]).pop()?;
        zone.logged(&[("event", "logout"), ("session", broken_off["session"].as_str()?)]).pop()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_cuts_its_sessions_aborts_their_uploads_and_leaves_the_others_alone() {
    let zone = Zone::new();
    let kept = Kept::of(&zone);
    let bystander = Client::log_in(&zone, BO).await;
    assert!(bystander.is_served().await);
    for (at, (reason, change)) in CHANGES.into_iter().enumerate() {
        let path = format!("/pillar-3/in/{at}.csv.age");
        let mut cut = Client::uploading(&zone, AN, &path).await;
        let elsewhere = Client::uploading(&zone, AN, &format!("/notes/in/{at}.csv.age")).await;
        assert_eq!(live(&zone).len(), 3);
        change(&zone);
        dropzone(&zone, &["reload"]).must_succeed();
        cut.must_be_cut().await;
        let line = end_of_the_upload(&zone, &path);
        assert_eq!(line["reason"], reason, "{line:#}");
        // Of the same institution, in an exchange from which these two take nothing away.
        let goes_on = ["exchange-removed", "not-admitted", "agreement-ended"].contains(&reason);
        assert_eq!(elsewhere.is_served().await, goes_on, "{reason}");
        assert!(bystander.is_served().await, "{reason}");
        drop(elsewhere);
        kept.put_back();
        dropzone(&zone, &["reload"]).must_succeed();
        zone.wait_for("the others' end", || (live(&zone).len() == 1).then_some(()));
    }
    let published = zone.logged(&[("event", "publish")]);
    assert!(published.iter().all(|line| line["exchange"] == "notes"), "{published:#?}");
    assert_eq!(live(&zone)[0]["institution"], "city");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_passing_of_the_last_day_cuts_live_sessions() {
    let zone = Zone::lay_out();
    edit(&zone, "exchanges/pillar-3.yaml", "from: 2023-03-03", "from: 2023-03-03\n  until: 2030-06-30");
    edit(
        &zone,
        "institutions/agency.yaml",
        "people:",
        "people:\n  # An's key ends later than the agreement.",
    );
    let clock = Clock::fixed("2030-06-30T21:59:58Z".parse().unwrap());
    let config = dropzone::config::load(&zone.directory()).unwrap();
    let (shutdown, hangup) = (Shutdown::listen(false).unwrap(), Hangup::listen().unwrap());
    let serving =
        tokio::spawn(dropzone::serve::run(config, clock.clone(), shutdown, hangup, Containment::default()));
    zone.wait_for("an open SSH port", || std::net::TcpStream::connect(zone.ssh()).ok());
    let mut cut = Client::uploading(&zone, AN, "/pillar-3/in/a.csv.age").await;
    let stays = Client::uploading(&zone, AN, "/notes/in/a.csv.age").await;
    // Several looks later, still the same day.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(cut.is_served().await);
    clock.set("2030-06-30T22:00:00Z".parse().unwrap());
    cut.must_be_cut().await;
    assert!(stays.is_served().await);
    zone.wait_for("the record", || zone.logged(&[("event", "logout"), ("reason", "agreement-ended")]).pop());
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_changes_nothing_but_readiness_and_a_metric() {
    let mut zone = Zone::lay_out();
    zone.start();
    let kept = Kept::of(&zone);
    let client = Client::uploading(&zone, AN, "/pillar-3/in/a.csv.age").await;
    let good = |daemon| zone.metric(daemon, "dropzone_config_last_reload_successful") > 0.5;
    let loaded = |daemon| zone.metric(daemon, "dropzone_config_loaded_timestamp_seconds");
    let before = [loaded(Daemon::Serve), loaded(Daemon::Work)];
    assert!(before.iter().all(|at| *at > 0.0));
    // A change that would take the key away, beside a mistake.
    edit(&zone, "institutions/agency.yaml", &public_key(&zone.key_of(AN)), "ssh-ed25519 AAAA");
    let refused = dropzone(&zone, &["reload"]);
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    assert!(refused.stderr.contains("institutions/agency.yaml:"), "{}", refused.stderr);
    assert!(good(Daemon::Serve), "the command itself saw the mistake, and told the daemons nothing");
    let run = std::fs::read_to_string(zone.program_log_file()).unwrap();
    assert!(!run.contains("SIGHUP"));
    hang_up(&zone);
    for daemon in [Daemon::Serve, Daemon::Work] {
        zone.wait_for("the reload to be turned down", || (!good(daemon)).then_some(()));
        assert_eq!(zone.http_status(daemon, "/readyz"), "503");
        let told = zone.http(daemon, "/readyz");
        assert!(told.contains("not in force") && told.contains("institutions/agency.yaml:"), "{told}");
    }
    assert_eq!([loaded(Daemon::Serve), loaded(Daemon::Work)], before);
    assert!(client.is_served().await);
    assert_eq!(zone.logged(&[("event", "config"), ("outcome", "failed"), ("operator", "SIGHUP")]).len(), 2);
    // A key that a running process cannot change turns the whole down, by its name.
    kept.put_back();
    let main = fs::read_to_string(zone.directory().join("dropzone.yaml")).unwrap();
    edit(&zone, "dropzone.yaml", "node: test", "node: other");
    let refused = dropzone(&zone, &["reload"]);
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    for daemon in ["serve", "work"] {
        let told = format!("{daemon}: dropzone.yaml: node: cannot change");
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    }
    fs::write(zone.directory().join("dropzone.yaml"), main).unwrap();
    hang_up(&zone);
    for daemon in [Daemon::Serve, Daemon::Work] {
        zone.wait_for("the good one again", || (zone.http_status(daemon, "/readyz") == "200").then_some(()));
        assert!(good(daemon));
    }
    assert!(client.is_served().await);
    assert_eq!(zone.pids(Daemon::Serve).len() + zone.pids(Daemon::Work).len(), 2, "nothing was started anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_institution_and_its_exchange_are_at_home_after_a_reload_and_the_log_has_the_digests() {
    let zone = Zone::new();
    let client = Client::log_in(&zone, AN).await;
    let newcomer = Person { user: "province", key: "eva" };
    person_key(&zone.key_of(newcomer));
    run(Command::new("age-keygen").arg("-o").arg(zone.identity_of("province"))).must_succeed();
    let directory = zone.directory();
    let agency = fs::read_to_string(directory.join("institutions/agency.yaml")).unwrap();
    let text = format!(
        "institution: province\ntitle: Province\nrecipients: [{}]\npeople: [{{label: eva, keys: [\"{}\"]}}]\n",
        recipient(&zone.identity_of("province")),
        public_key(&zone.key_of(newcomer)),
    );
    fs::write(directory.join("institutions/province.yaml"), &text).unwrap();
    let exchange = fs::read_to_string(directory.join("exchanges/notes.yaml")).unwrap();
    let exchange = exchange.replace("notes", "fresh").replace("agency", "province");
    fs::write(directory.join("exchanges/fresh.yaml"), exchange).unwrap();
    let told = dropzone(&zone, &["reload"]).must_succeed().text();
    assert!(told.contains("serve: in force; sessions cut: 0") && told.contains("work: in force"), "{told}");
    zone.upload(newcomer, "/fresh/in/a.csv.age", &zone.encrypt("insz\n85073003328\n"));
    let result = zone.result("province", "fresh");
    assert!(!zone.download(newcomer, &format!("/fresh/out/{result}")).is_empty());
    zone.metric(Daemon::Serve, "dropzone_received_bytes_total{institution=\"province\"}");
    zone.metric(Daemon::Work, "dropzone_jobs_total{exchange=\"fresh\",result=\"done\"}");
    assert!(client.is_served().await);
    let lines = zone.logged(&[("event", "config"), ("outcome", "ok")]);
    let digests: BTreeSet<&str> = lines.iter().map(|line| line["sha256"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), digests.len()), (4, 2), "both at their start, and both now");
    let now = lines.last().unwrap();
    let detail = now["detail"].as_str().unwrap();
    let first = lines.first().unwrap();
    assert!(detail.starts_with(&format!("before {}; ", first["sha256"].as_str().unwrap())), "{detail}");
    let sha256 = crate::harness::programs::sha256(text.as_bytes());
    assert!(detail.contains(&format!("institutions/province.yaml: none -> {sha256}")), "{detail}");
    assert!(!detail.contains("agency"), "{detail}");
    let sha256 = crate::harness::programs::sha256(agency.as_bytes());
    assert!(
        first["detail"].as_str().unwrap().contains(&format!("institutions/agency.yaml: none -> {sha256}"))
    );
    assert!(now["operator"].as_str().unwrap().starts_with("uid "), "{now:#}");
    assert!(dropzone(&zone, &["reload"]).must_succeed().text().contains("serve: nothing has changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_who_is_there_and_cut_whom_they_mean() {
    let zone = Zone::new();
    assert!(dropzone(&zone, &["sessions"]).must_succeed().text().contains("nobody"));
    let mut an = Client::uploading(&zone, AN, "/pillar-3/in/a.csv.age").await;
    let mut second = Client::uploading(&zone, AN, "/pillar-3/in/b.csv.age").await;
    let bo = Client::log_in(&zone, BO).await;
    let sessions = live(&zone);
    assert_eq!(sessions.len(), 3);
    let of = |institution: &str| {
        sessions.iter().filter(|one| one["institution"] == institution).collect::<Vec<_>>()
    };
    let [one, _] = of("agency")[..] else { panic!("{sessions:#?}") };
    assert_eq!((&one["person"], &one["uploads"], &one["downloads"]), (&"an".into(), &1.into(), &0.into()));
    assert!(one["received-bytes"].as_u64().unwrap() >= 200_000, "{one:#}");
    assert!(one["client"].as_str().unwrap().starts_with("SSH-2.0-"), "{one:#}");
    assert!(one["peer"].as_str().unwrap().starts_with("127."), "{one:#}");
    let table = dropzone(&zone, &["sessions"]).must_succeed().text();
    assert!(table.contains("agency") && table.contains("bo"), "{table}");
    let id = of("city")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(dropzone(&zone, &["kick", "0123456789abcdef"]).code, Some(65));
    assert!(bo.is_served().await);
    dropzone(&zone, &["kick", &id]).must_succeed();
    assert!(!bo.is_served().await);
    let told = dropzone(&zone, &["kick", "--institution", "agency"]).must_succeed().text();
    assert_eq!(told.lines().count(), 2, "{told}");
    an.must_be_cut().await;
    second.must_be_cut().await;
    let kicks = zone.logged(&[("event", "kick")]);
    assert_eq!(kicks.len(), 3);
    let user = rustix::process::geteuid().as_raw();
    for kick in kicks {
        let operator = kick["operator"].as_str().unwrap();
        assert!(operator.starts_with(&format!("uid {user}")), "{operator}");
        let session = kick["session"].as_str().unwrap();
        let logout =
            zone.wait_for("its end", || zone.logged(&[("event", "logout"), ("session", session)]).pop());
        assert_eq!((&logout["reason"], &logout["operator"]), (&"kicked".into(), &operator.into()));
    }
    assert_eq!(zone.accepted(), 0);
    assert!(live(&zone).is_empty());
    Client::log_in(&zone, AN).await;
}

#[test]
fn without_a_daemon_the_commands_say_so() {
    let zone = Zone::lay_out();
    for arguments in [&["reload"][..], &["sessions"], &["kick", "x"]] {
        let ran = dropzone(&zone, arguments);
        assert_eq!(ran.code, Some(69), "{}", ran.stderr);
        assert!(format!("{}{}", ran.text(), ran.stderr).contains("does not run"), "{arguments:?}");
    }
    assert_eq!(dropzone(&zone, &["kick"]).code, Some(64));
}
