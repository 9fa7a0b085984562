//! A small disk of its own for a folder of a zone, so that it can be full, or take no writing, without harm to anything else.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::programs::run;
use super::skip;

/// A file system in memory, mounted until this is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one there with these options; `None`, and said, where that is not allowed.
    pub fn mount(folder: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("{options},mode=2770")).arg("tmpfs").arg(folder);
        let mounted = run(&mut mount);
        if !mounted.succeeded() {
            skip(&format!("only root can mount a small disk: {}", mounted.stderr.trim()));
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    /// Bytes that are free, and files that can still be made.
    pub fn free(&self) -> (u64, u64) {
        let facts = rustix::fs::statvfs(&self.0).unwrap();
        (facts.f_bavail * facts.f_frsize, facts.f_favail)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}
