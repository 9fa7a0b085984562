//! What a file costs on its way up and down, against OpenSSH's own server in the same run on the same machine: the same
//! client, the same cipher, the same file, both servers asked to have it on the disk before they say so (`put -f`). Needs a
//! release build (`DROPZONE_RELEASE_BIN`) and OpenSSH's `sshd`; without one of them it says so and passes. Elapsed time is
//! reported, not judged: a busy machine is no defect. Judged is the servers' processor time, one against the other.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and tells what it saw"
)]

#[expect(dead_code, reason = "the zone's own tests use what is left over")]
#[path = "harness/mod.rs"]
mod harness;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use self::harness::programs::{person_key, public_key, recipient, run};
use self::harness::{AN, BO, Daemon, Person, Zone};

const SSHD: &str = "/usr/sbin/sshd";
const SSHD_PORT: u16 = 2223;
/// The profile offers it, as every OpenSSH does.
const CIPHER: &str = "aes256-gcm@openssh.com";
const ROUNDS: usize = 3;
/// How long one transfer may take before the test gives up on it.
const TRANSFER: Duration = Duration::from_secs(600);
/// `serve` may need so much of `sshd`'s processor time, though it also computes the SHA-256 that the record names. Measured:
/// 0.8 up and 0.5 down.
const RATIO_MAX: f64 = 1.5;

/// One transfer: how long it took, and the server's processor time.
#[derive(Debug, Clone, Copy)]
struct Cost {
    took: Duration,
    processor: f64,
}

/// OpenSSH's server with a configuration and a host key of its own, on the zone's address.
struct Sshd {
    child: Child,
    root: PathBuf,
}

impl Sshd {
    fn start(zone: &Zone, folder: &Path) -> Self {
        let host_key = folder.join("host_key");
        person_key(&host_key);
        let allowed = folder.join("authorized_keys");
        fs::write(&allowed, public_key(&zone.key_of(AN))).unwrap();
        let root = folder.join("files");
        fs::create_dir(&root).unwrap();
        let config = folder.join("sshd_config");
        let text = format!(
            "ListenAddress {}\nPort {SSHD_PORT}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp -d {}\nCiphers {CIPHER}\n",
            zone.ssh().ip(),
            host_key.display(),
            allowed.display(),
            root.display()
        );
        fs::write(&config, text).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where systemd does not make it, sshd refuses to start as root.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let log = fs::File::create(folder.join("sshd.log")).unwrap();
        let child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        zone.wait_for("sshd", || TcpStream::connect((zone.ssh().ip(), SSHD_PORT)).ok());
        Self { child, root }
    }

    /// All it ever spent on connections, once none is left: the processes that had them are waited for by then.
    fn processor_time(&self, zone: &Zone) -> u64 {
        let id = self.child.id();
        let children = format!("/proc/{id}/task/{id}/children");
        zone.wait_for("sshd to be done", || {
            fs::read_to_string(&children).unwrap().trim().is_empty().then(|| times(id).iter().sum())
        })
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ticks of a process: user and system, its own and of the children that it has waited for.
fn times(process: u32) -> [u64; 4] {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name in brackets may hold anything; utime is the twelfth field after it.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
    let fields: Vec<u64> = fields.take(4).map(|field| field.parse().unwrap()).collect();
    fields.try_into().unwrap()
}

/// `sftp` with one command. The host key is not the question here.
fn sftp(zone: &Zone, port: u16, (user, person): (&str, Person), command: &str) -> Duration {
    let batch = zone.put_here("batch", format!("{command}\n"));
    let seconds = TRANSFER.as_secs().to_string();
    let mut sftp = Command::new("timeout");
    sftp.args(["--kill-after=5", &seconds, "sftp", "-q", "-F", "none", "-o", "BatchMode=yes"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-o", &format!("Ciphers={CIPHER}"), "-o"])
        .arg(format!("IdentityFile={}", zone.key_of(person).display()))
        .args(["-P", &port.to_string(), "-b"])
        .arg(batch)
        .arg(format!("{user}@{}", zone.ssh().ip()))
        .env("SSH_AUTH_SOCK", "")
        .current_dir(zone.here())
        .stdin(Stdio::null());
    let start = Instant::now();
    let output = sftp.output().unwrap();
    let took = start.elapsed();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

fn through_dropzone(zone: &Zone, person: Person, command: &str) -> Cost {
    let serve = *zone.pids(Daemon::Serve).last().unwrap();
    let used = || times(serve).iter().take(2).sum::<u64>();
    let before = used();
    let took = sftp(zone, zone.ssh().port(), (person.user, person), command);
    zone.wait_for("the session's end", || {
        (zone.metric(Daemon::Serve, "dropzone_sessions") == 0.0).then_some(())
    });
    Cost { took, processor: seconds(used() - before) }
}

fn through_sshd(zone: &Zone, sshd: &Sshd, command: &str) -> Cost {
    let user = run(Command::new("id").arg("-un")).must_succeed().text();
    let before = sshd.processor_time(zone);
    let took = sftp(zone, SSHD_PORT, (user.trim(), AN), command);
    Cost { took, processor: seconds(sshd.processor_time(zone) - before) }
}

fn seconds(ticks: u64) -> f64 {
    // Linux shows processor time in hundredths of a second, on every machine.
    f64::from(u32::try_from(ticks).unwrap()) / 100.0
}

/// Without instructions for it the SHA-256 alone costs as much as all that sshd does.
fn hashes_quickly() -> bool {
    let facts = fs::read_to_string("/proc/cpuinfo").unwrap();
    facts.split_whitespace().any(|flag| ["sha_ni", "sha2"].contains(&flag))
}

/// An age file that the city can open; what it holds is of no matter for what it costs.
fn make_file(zone: &Zone, mebibytes: usize) -> u64 {
    let plain = zone.here().join("plain");
    fs::File::create(&plain).unwrap().set_len((mebibytes as u64) << 20).unwrap();
    let file = zone.here().join("list.age");
    let city = recipient(&zone.identity_of("city"));
    run(Command::new("age").args(["-r", &city, "-o"]).arg(&file).arg(&plain)).must_succeed();
    fs::remove_file(plain).unwrap();
    fs::metadata(file).unwrap().len()
}

fn is_same(zone: &Zone, one: &Path, other: &Path) -> bool {
    let same = run(Command::new("cmp").arg(one).arg(other)).succeeded();
    fs::remove_file(zone.here().join("got")).unwrap();
    same
}

/// The middle of several, by what is looked at.
fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap()
}

/// Tells both sides and their ratio, and returns that of the processor times.
fn compare(way: &str, gibibytes: f64, ours: &[Cost], theirs: &[Cost]) -> f64 {
    let took = |costs| median(costs, |cost| cost.took.as_secs_f64());
    let processor = |costs| median(costs, |cost| cost.processor);
    let ratio = processor(ours) / processor(theirs);
    println!(
        "{way}: dropzone {:.0} MiB/s, {:.2} s of processor per GiB; sshd {:.0} MiB/s, {:.2} s; \
         time {:.2}, processor {ratio:.2} of sshd's",
        gibibytes * 1024.0 / took(ours),
        processor(ours) / gibibytes,
        gibibytes * 1024.0 / took(theirs),
        processor(theirs) / gibibytes,
        took(ours) / took(theirs),
    );
    ratio
}

#[test]
fn a_transfer_costs_little_more_than_with_openssh() {
    let Ok(program) = std::env::var("DROPZONE_RELEASE_BIN") else {
        println!("skipped: DROPZONE_RELEASE_BIN names no release build");
        return;
    };
    if !Path::new(SSHD).exists() {
        println!("skipped: there is no {SSHD} to compare with");
        return;
    }
    let mut zone = Zone::lay_out();
    zone.start_program(Path::new(&program));
    let folder = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(&zone, folder.path());
    let size = make_file(&zone, if std::env::var_os("DROPZONE_LONG").is_some() { 960 } else { 256 });
    let (sent, got) = (zone.here().join("list.age"), zone.here().join("got"));
    let [mut up, mut their_up, mut down, mut their_down] = [(); 4].map(|()| Vec::new());
    for round in 0..ROUNDS {
        // The same file again would be no new arrival. Nobody opens what is relayed: another end makes it another file.
        let file = fs::OpenOptions::new().write(true).open(&sent).unwrap();
        file.write_all_at(format!("{round:>16}").as_bytes(), size - 16).unwrap();
        let put = format!("put -f list.age /relay/in/round-{round}.age");
        up.push(through_dropzone(&zone, AN, &put));
        // The job must not run beside what is measured next.
        zone.receipt("relay", &format!("round-{round}.age"), "delivered");
        their_up.push(through_sshd(&zone, &sshd, "put -f list.age list.age"));
        let result = zone.result("city", "relay");
        down.push(through_dropzone(&zone, BO, &format!("get \"/relay/out/{result}\" got")));
        assert!(is_same(&zone, &sent, &got), "what was collected is not what was sent");
        their_down.push(through_sshd(&zone, &sshd, "get list.age got"));
        assert!(is_same(&zone, &sent, &got));
        assert_eq!(fs::metadata(sshd.root.join("list.age")).unwrap().len(), size);
        sftp(&zone, zone.ssh().port(), (BO.user, BO), &format!("rm \"/relay/out/{result}\""));
    }
    let gibibytes = f64::from(u32::try_from(size >> 10).unwrap()) / f64::from(1 << 20);
    let (up, down) =
        (compare("upload", gibibytes, &up, &their_up), compare("download", gibibytes, &down, &their_down));
    if hashes_quickly() {
        assert!(up < RATIO_MAX, "an upload costs {up:.2} times sshd's processor time");
    } else {
        println!("the upload is not judged: this processor has no instructions for SHA-256");
    }
    assert!(down < RATIO_MAX, "a download costs {down:.2} times sshd's processor time");
}
