//! Holds a process to what it needs (Landlock): files, TCP ports and other processes beyond that are out of its reach from
//! then on, and nothing gives them back. What a process needs says the caller; what a kernel cannot hold it to is told, and
//! the process runs without. No new privileges, no dumps: that is `process`.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, make_bitflags,
};

/// The newest rules that have been tried out here.
const TRIED: ABI = ABI::V6;

/// What is done in the folders that are changed.
const CHANGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// Whatever is not named is out of reach. What is not there at the start is left out, and stays out of reach.
#[derive(Debug, Default)]
pub struct Needs {
    /// Folders below which files and folders are read, written, made, removed and moved about.
    pub change: Vec<PathBuf>,
    /// Where there are any: what lies below them, of all that lies below those folders. Of the rest, names can be listed.
    pub parts: Vec<PathBuf>,
    /// Folders below which everything is read.
    pub read_folders: Vec<PathBuf>,
    /// Folders below which names are listed, and nothing is read.
    pub list_folders: Vec<PathBuf>,
    /// Single files that are read. One that takes the place of such a file is another file.
    pub read_files: Vec<PathBuf>,
    /// Folders in which Unix sockets are made and removed, and nothing else.
    pub socket_folders: Vec<PathBuf>,
    /// TCP ports that are listened on; 0 stands for one that the kernel picks. None is ever connected to.
    pub listen: Vec<u16>,
    /// Whether the service manager must be reached through an abstract Unix socket.
    pub abstract_sockets: bool,
}

/// What the kernel holds the process to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Containment {
    /// The files it needs.
    pub files: bool,
    /// The ports it listens on.
    pub network: bool,
    /// No signal to another process.
    pub processes: bool,
}

impl Containment {
    /// For metrics: each part by its name.
    pub fn parts(self) -> [(&'static str, bool); 3] {
        [("files", self.files), ("network", self.network), ("processes", self.processes)]
    }
}

/// The parts that are missing.
impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<_> =
            self.parts().into_iter().filter(|(_, held)| !held).map(|(part, _)| part).collect();
        f.write_str(&missing.join(", "))
    }
}

/// Holds the calling thread, and every thread and process that it begins from now on, to its needs: so this comes before
/// the first thread. Says once in the program's log what could not be done.
pub fn contain(needs: &Needs) -> Containment {
    let within = |held: RestrictionStatus| if needs.parts.is_empty() { Ok(held) } else { narrow(needs) };
    let contained = match restrict(needs).and_then(within) {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => offered(),
        Ok(_) => Containment::default(),
        Err(error) => {
            tracing::warn!(%error, "the kernel refused a rule of Landlock");
            Containment::default()
        }
    };
    if contained.parts().iter().all(|(_, held)| *held) {
        tracing::info!("contained: files, network and processes beyond what is needed are out of reach");
    } else {
        tracing::warn!(
            without = %contained,
            "not fully contained: this kernel, or the container it runs in, offers no Landlock for that (files need Linux 5.19, \
             network 6.7, processes 6.12)"
        );
    }
    contained
}

/// What this kernel can hold a process to.
pub fn offered() -> Containment {
    let rules = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    Containment {
        files: rules().handle_access(AccessFs::Refer).is_ok(),
        network: rules().handle_access(AccessNet::BindTcp).is_ok(),
        processes: rules().scope(Scope::Signal).is_ok(),
    }
}

fn restrict(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    let scopes = if needs.abstract_sockets { BitFlags::from(Scope::Signal) } else { Scope::from_all(TRIED) };
    let rules = Ruleset::default()
        // Without this right, which the first Landlock did not have, nothing could be moved from folder to folder any more.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(scopes)?
        .create()?;
    let mut rules = files(beneath(rules, &needs.change, CHANGE)?, needs)?;
    for port in &needs.listen {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    rules.restrict_self()
}

/// A second set of rules beside the first, for both must allow what is done: a part that leaves its folder is out of reach
/// by the first, what lies beside the parts by the second.
fn narrow(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .create()?;
    let rules = beneath(rules, &needs.parts, CHANGE)?;
    files(beneath(rules, &needs.change, AccessFs::ReadDir.into())?, needs)?.restrict_self()
}

/// The rules for what is not changed.
fn files(rules: RulesetCreated, needs: &Needs) -> Result<RulesetCreated, RulesetError> {
    let rules = beneath(rules, &needs.read_folders, make_bitflags!(AccessFs::{ReadFile | ReadDir}))?;
    let rules = beneath(rules, &needs.list_folders, AccessFs::ReadDir.into())?;
    let rules = beneath(rules, &needs.read_files, AccessFs::ReadFile.into())?;
    let sockets = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
    beneath(rules, &needs.socket_folders, sockets)
}

fn beneath(
    mut rules: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        // What is not there is reported by who needs it, in better words.
        if let Ok(opened) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    Ok(rules)
}

/// Whether a path, as the file system has it, lies below a folder. What is not there is judged by its name.
pub fn is_below(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    path.starts_with(folder) || real(path).starts_with(real(folder))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use super::*;

    /// What came of a try: nothing wrong, or the kind of error.
    fn came<T>(of: std::io::Result<T>) -> Result<(), ErrorKind> {
        of.map(drop).map_err(|error| error.kind())
    }

    /// Runs in a thread of its own, which alone is contained. `None` where the kernel has no Landlock.
    fn contained<T: Send>(needs: &Needs, part: &str, attempt: impl FnOnce() -> T + Send) -> Option<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let held = contain(needs);
                assert_eq!(held, offered(), "all that the kernel offers is made use of");
                if held.parts().contains(&(part, true)) {
                    return Some(attempt());
                }
                eprintln!("SKIPPED: this kernel's Landlock does not cover {part}");
                None
            });
            thread.join().unwrap()
        })
    }

    struct Zone(tempfile::TempDir);

    impl Zone {
        fn new() -> Self {
            let zone = Self(tempfile::tempdir().unwrap());
            for folder in ["spool/one", "spool/two", "config/institutions", "run", "keys"] {
                fs::create_dir_all(zone.path(folder)).unwrap();
            }
            for file in [
                "spool/one/file",
                "config/dropzone.yaml",
                "config/secret",
                "config/institutions/a.yaml",
                "keys/host",
            ] {
                fs::write(zone.path(file), "x").unwrap();
            }
            zone
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn needs(&self) -> Needs {
            Needs {
                change: vec![self.path("spool")],
                read_folders: vec![self.path("config/institutions")],
                list_folders: vec![self.path("config")],
                read_files: vec![self.path("config/dropzone.yaml"), self.path("keys/absent")],
                socket_folders: vec![self.path("run")],
                ..Needs::default()
            }
        }
    }

    const OUT_OF_REACH: Result<(), ErrorKind> = Err(ErrorKind::PermissionDenied);

    #[test]
    fn what_is_needed_goes_on_working() {
        let zone = Zone::new();
        let all = contained(&zone.needs(), "files", || {
            fs::write(zone.path("spool/new"), "y")?;
            fs::OpenOptions::new().write(true).open(zone.path("spool/new"))?.set_len(0)?;
            fs::create_dir(zone.path("spool/one/more"))?;
            fs::rename(zone.path("spool/one"), zone.path("spool/two/one"))?;
            fs::hard_link(zone.path("spool/new"), zone.path("spool/two/new"))?;
            fs::remove_file(zone.path("spool/two/one/file"))?;
            fs::remove_dir(zone.path("spool/two/one/more"))?;
            fs::read_dir(zone.path("config"))?.for_each(drop);
            fs::write(zone.path("spool/b.yaml"), "z")?;
            fs::read(zone.path("config/institutions/a.yaml"))?;
            fs::read(zone.path("config/dropzone.yaml"))?;
            drop(UnixListener::bind(zone.path("run/socket"))?);
            UnixListener::bind(zone.path("run/other"))?;
            fs::remove_file(zone.path("run/socket"))
        });
        assert!(matches!(all, None | Some(Ok(()))), "{all:?}");
    }

    #[test]
    fn files_beyond_what_is_needed_are_out_of_reach() {
        let zone = Zone::new();
        let tries = contained(&zone.needs(), "files", || {
            vec![
                ("read a secret", came(fs::read(zone.path("config/secret")))),
                ("read outside", came(fs::read("/etc/passwd"))),
                ("list outside", came(fs::read_dir("/"))),
                ("read a key", came(fs::read(zone.path("keys/host")))),
                ("write the configuration", came(fs::write(zone.path("config/institutions/a.yaml"), "evil"))),
                (
                    "add to the configuration",
                    came(fs::write(zone.path("config/institutions/b.yaml"), "evil")),
                ),
                ("remove configuration", came(fs::remove_file(zone.path("config/dropzone.yaml")))),
                ("move out", came(fs::rename(zone.path("spool/one/file"), zone.path("run/file")))),
                ("write outside", came(fs::write(zone.path("new"), "y"))),
                ("a link", came(std::os::unix::fs::symlink("/", zone.path("spool/link")))),
                ("a program", came(Command::new("/bin/true").status())),
                ("memory", came(fs::read("/proc/self/mem"))),
            ]
        });
        for (what, came_of_it) in tries.into_iter().flatten() {
            assert_eq!(came_of_it, OUT_OF_REACH, "{what}");
        }
    }

    #[test]
    fn a_file_that_replaces_one_that_is_read_is_another_file_unless_its_folder_is_read() {
        let zone = Zone::new();
        let narrow = zone.needs();
        let wide = Needs { read_folders: vec![zone.path("config")], ..zone.needs() };
        for (needs, expected) in [(narrow, OUT_OF_REACH), (wide, Ok(()))] {
            let (go_on, wait) = std::sync::mpsc::sync_channel::<()>(0);
            let (started, start) = std::sync::mpsc::sync_channel::<()>(0);
            let came_of_it = std::thread::scope(|scope| {
                let zone = &zone;
                let thread = scope.spawn(move || {
                    let held = contain(&needs);
                    started.send(()).unwrap();
                    wait.recv().unwrap();
                    held.files.then(|| came(fs::read(zone.path("config/dropzone.yaml"))))
                });
                start.recv().unwrap();
                fs::write(zone.path("config/new"), "y").unwrap();
                fs::rename(zone.path("config/new"), zone.path("config/dropzone.yaml")).unwrap();
                go_on.send(()).unwrap();
                thread.join().unwrap()
            });
            assert!(came_of_it.is_none_or(|came_of_it| came_of_it == expected), "{came_of_it:?}");
        }
    }

    #[test]
    fn only_the_ports_that_are_needed_can_be_listened_on_and_none_is_connected_to() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let needs = Needs { listen: vec![free.port()], ..Needs::default() };
        let tries = contained(&needs, "network", || {
            [
                came(TcpListener::bind(free)),
                came(TcpListener::bind(other)),
                came(TcpStream::connect(elsewhere.local_addr().unwrap())),
            ]
        });
        assert!(tries.is_none_or(|tries| tries == [Ok(()), OUT_OF_REACH, OUT_OF_REACH]), "{tries:?}");
    }

    #[test]
    fn other_processes_get_no_signal_and_no_hidden_socket_is_reached() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("dropzone-test-{}", std::process::id());
        let hidden = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        let _listener = UnixListener::bind_addr(&hidden).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let attempt = || {
            [
                came(rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(Into::into)),
                came(UnixStream::connect_addr(&hidden)),
            ]
        };
        let tries = contained(&Needs::default(), "processes", attempt);
        let excepted = contained(&Needs { abstract_sockets: true, ..Needs::default() }, "processes", attempt);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tries.is_none_or(|tries| tries == [OUT_OF_REACH, OUT_OF_REACH]), "{tries:?}");
        assert!(excepted.is_none_or(|tries| tries == [OUT_OF_REACH, Ok(())]), "{excepted:?}");
    }

    #[test]
    fn of_a_folder_with_parts_only_the_parts_are_within_reach() {
        let zone = Zone::new();
        fs::create_dir(zone.path("spool/work")).unwrap();
        fs::write(zone.path("spool/work/file"), "x").unwrap();
        let needs = Needs { parts: vec![zone.path("spool/one"), zone.path("spool/two")], ..zone.needs() };
        let Some(tried) = contained(&needs, "files", || {
            vec![
                ("read in a part", came(fs::read(zone.path("spool/one/file")))),
                (
                    "move between parts",
                    came(fs::rename(zone.path("spool/one/file"), zone.path("spool/two/file"))),
                ),
                ("read beside the parts", came(fs::read(zone.path("spool/work/file")))),
                ("write beside the parts", came(fs::write(zone.path("spool/work/new"), ""))),
                ("remove beside the parts", came(fs::remove_file(zone.path("spool/work/file")))),
            ]
        }) else {
            return;
        };
        let refused = Err(ErrorKind::PermissionDenied);
        let expected = [Ok(()), Ok(()), refused, refused, refused];
        assert_eq!(tried.iter().map(|(_, came)| *came).collect::<Vec<_>>(), expected, "{tried:?}");
    }

    #[test]
    fn below_is_judged_by_what_is_really_there() {
        let zone = Zone::new();
        std::os::unix::fs::symlink(zone.path("config"), zone.path("link")).unwrap();
        assert!(is_below(&zone.path("config/secret"), &zone.path("link")));
        assert!(is_below(&zone.path("config/absent"), &zone.path("config")));
        assert!(!is_below(&zone.path("keys/host"), &zone.path("config")));
    }
}
