//! The same on a real file system: ext4 in a file, mounted. The power cut is a copy of that file as it is at that moment, without
//! a sync and without unmounting: what the kernel had not written yet is not in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::programs::{Ran, run};
use crate::harness::{Daemon, skip};
use crate::model::{self, EXCHANGE, Lists};
use crate::zone::Site;

const SIZE: &str = "64M";
/// Of the same disk one after the other, until two are the same: the kernel may be writing.
const COPIES: usize = 50;

/// An image that is mounted. Dropping it unmounts it.
struct Mounted {
    image: PathBuf,
    on: tempfile::TempDir,
}

impl Mounted {
    /// What the file system has not been told to write by a sync, it keeps for itself as long as it can.
    fn new(image: PathBuf) -> Result<Self, String> {
        let on = tempfile::Builder::new().prefix("dropzone-ext4-").tempdir().unwrap();
        told(Command::new("mount").args(["-t", "ext4", "-o", "loop,commit=300"]).arg(&image).arg(on.path()))?;
        Ok(Self { image, on })
    }

    /// What a power cut would leave now. Nobody may be writing.
    fn cut(&self, copy: &Path) -> PathBuf {
        let mut last = None;
        for _ in 0..COPIES {
            let now = std::fs::read(&self.image).unwrap();
            if last.as_ref() == Some(&now) {
                std::fs::write(copy, now).unwrap();
                return copy.to_owned();
            }
            last = Some(now);
        }
        panic!("the image does not come to rest");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = told(Command::new("umount").arg(self.on.path())) {
            eprintln!("the test's file system was not unmounted: {why}");
        }
    }
}

fn told(command: &mut Command) -> Result<Ran, String> {
    // Debian keeps such programs where not every user looks.
    let path = std::env::var("PATH").unwrap_or_default();
    let ran = run(command.env("PATH", format!("{path}:/usr/sbin:/sbin")));
    if ran.succeeded() { Ok(ran) } else { Err(ran.stderr) }
}

/// `None`, and said, where nobody may mount.
fn made(image: PathBuf) -> Option<Mounted> {
    if !rustix::process::geteuid().is_root() {
        skip("a real file system with a power cut: only root may mount one");
        return None;
    }
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let mounted = told(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&image).arg(SIZE))
        .and_then(|_| Mounted::new(image));
    mounted.inspect_err(|why| skip(&format!("an ext4 image cannot be made and mounted here: {why}"))).ok()
}

#[test]
fn what_was_acknowledged_is_on_a_real_file_system_after_a_power_cut() {
    let images = tempfile::tempdir().unwrap();
    let Some(mut mounted) = made(images.path().join("0")) else { return };
    let Some(mut site) = Site::lay_out() else { return };
    site.zone.configure("limits: {spool-reserve: 4 MiB}");
    site.move_to(mounted.on.path());
    site.start_all();
    let (mut lists, mut sent) = (Lists::of(&site), Vec::new());
    // At once, in the middle of the job, and when it is over.
    for (number, wait) in [0, 15, 40, 100, 1500].into_iter().enumerate() {
        let list = lists.next();
        assert!(site.put(EXCHANGE, &list.name, &list.sent), "{}", site.zone.program_log());
        sent.push(list);
        std::thread::sleep(Duration::from_millis(wait));
        [Daemon::Work, Daemon::Serve].into_iter().for_each(|daemon| site.kill(daemon));
        let copy = mounted.cut(&images.path().join((number + 1).to_string()));
        mounted = Mounted::new(copy).unwrap();
        site.move_to(mounted.on.path());
        site.start_all();
        model::check(&site, &sent, true)
            .unwrap_or_else(|what| panic!("cut {wait} ms later: {what}\n{}", site.zone.program_log()));
        site.stop_all();
        let (is_intact, told) = site.verify_log(&site.zone.log());
        assert!(is_intact, "cut {wait} ms later: {told}");
        site.start_all();
    }
    site.stop_all();
}
