//! sshfs: the zone as a folder of this machine, and the machine's own programs on it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{files_of, login, own_file, run_client, said, ssh_options};
use crate::client::{Client, Kind, Said, Step};
use crate::harness::programs::run;
use crate::harness::{PATIENCE, Person, Zone};

pub struct Sshfs;

pub const CLIENT: &dyn Client = &Sshfs;

impl Client for Sshfs {
    fn name(&self) -> &'static str {
        "sshfs"
    }

    fn missing(&self) -> Option<&'static str> {
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        fuse.err().map(|_| "/dev/fuse cannot be opened here: a container needs --device /dev/fuse")
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let mount = Mount::new(zone, person);
        let answer = |step| match command(zone, &mount, step) {
            Some(mut command) => said(&run_client(zone, &mut command)),
            None => Said { ok: false, text: "nothing there to go on with".to_owned() },
        };
        steps.iter().map(answer).collect()
    }
}

/// Programs on the mounted folder; each ends within the harness's patience, also where the file system hangs.
fn command(zone: &Zone, mount: &Mount, step: &Step) -> Option<Command> {
    let remote = |path: &str| mount.folder.join(path.trim_start_matches('/'));
    let local = |path: &str| zone.here().join(path);
    let (from, to) = (step.from.as_str(), step.to.as_str());
    let (program, options, paths): (_, &[&str], _) = match step.kind {
        Kind::List => ("ls", &["-1", "-U"], vec![remote(from)]),
        Kind::Stat => ("stat", &["-c", "%s %Y"], vec![remote(from)]),
        Kind::Put => ("cp", &[], vec![local(from), remote(to)]),
        Kind::PutTimed => ("cp", &["-p"], vec![local(from), remote(to)]),
        Kind::PutAll => {
            let files = files_of(zone, from).into_iter().map(|file| local(&file));
            ("cp", &[], files.chain([remote(to)]).collect())
        }
        Kind::Resume => return append(&local(from), &remote(to)),
        Kind::Get => ("cp", &[], vec![remote(from), local(to)]),
        Kind::GetTimed => ("cp", &["-p"], vec![remote(from), local(to)]),
        Kind::Rename => ("mv", &["-T"], vec![remote(from), remote(to)]),
        Kind::Remove => ("rm", &[], vec![remote(from)]),
        Kind::Mkdir => ("mkdir", &[], vec![remote(from)]),
        Kind::Rmdir => ("rmdir", &[], vec![remote(from)]),
        Kind::Symlink => ("ln", &["-s"], vec![PathBuf::from(from), remote(to)]),
        Kind::Chmod => ("chmod", &["600"], vec![remote(from)]),
        Kind::Overwrite => panic!("no step"),
    };
    let mut command = Command::new(program);
    command.args(options).args(paths);
    Some(command)
}

/// Appends what a remote file lacks of a local one; nothing if it is not there.
fn append(local: &Path, remote: &Path) -> Option<Command> {
    let there = run(Command::new("stat").args(["-c", "%s"]).arg(remote));
    let there: u64 = there.text().trim().parse().ok()?;
    let mut dd = Command::new("dd");
    dd.args(["bs=64K", "iflag=skip_bytes", "oflag=append", "conv=notrunc"]).arg(format!("skip={there}"));
    dd.arg(format!("if={}", local.display())).arg(format!("of={}", remote.display()));
    Some(dd)
}

/// A mounted zone, unmounted with it.
struct Mount {
    folder: PathBuf,
    sshfs: Child,
}

impl Mount {
    fn new(zone: &Zone, person: Person) -> Self {
        let folder = own_file(zone, "mount");
        fs::create_dir(&folder).unwrap();
        let log = fs::File::create(own_file(zone, "sshfs-log")).unwrap();
        let ssh = format!("ssh {}", ssh_options(zone, person).join(" "));
        let mut sshfs = Command::new("sshfs");
        sshfs.args(["-f", "-o", &format!("ssh_command={ssh}"), "-p", &zone.ssh().port().to_string()]);
        sshfs.arg(format!("{}:/", login(zone, person))).arg(&folder);
        let sshfs = sshfs.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mount = Self { folder, sshfs };
        zone.wait_for("the mounted folder", || {
            run(Command::new("mountpoint").arg("-q").arg(&mount.folder)).succeeded().then_some(())
        });
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let start = Instant::now();
        // Busy until the kernel has let go of the last file.
        while !run(Command::new("fusermount3").arg("-u").arg(&self.folder)).succeeded()
            && start.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.sshfs.kill();
        let _ = self.sshfs.wait();
    }
}
