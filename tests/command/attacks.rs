//! Programs that reach for what is not theirs: files, the network, other processes, the kernel.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Instant;

use dropzone::work::command::CommandError;

use crate::bench::{Bench, PATIENCE};

#[test]
fn no_file_but_the_systems_and_its_own_is_read_and_none_is_written() {
    let mut bench = Bench::python(
        r#"
where = "{}"
def write(path): return lambda: open(path, "w").write("x")
for path in [where + "/key", "/etc/passwd", "/etc/shadow", "/proc/self/status", f"/proc/{os.getppid()}/environ",
             f"/proc/{os.getppid()}/mem", "/proc/version", "/sys/kernel/notes", "/etc/gshadow", "/dev/kmsg"]:
    attempt("read " + path, lambda: open(path, "rb").read(1))
for path in ["/", "/tmp", "/proc", "/var", "/home", where, "/dev"]:
    attempt("list " + path, lambda: os.listdir(path))
for path in ["/tmp/dropzone-new", "/dev/shm/dropzone-new", "/var/tmp/dropzone-new", where + "/new", where + "/key",
             where + "/mine/file", "/usr/dropzone-new"]:
    attempt("write " + path, write(path))
for what, function in [
    ("remove", lambda: os.unlink(where + "/key")),
    ("cut", lambda: os.truncate(where + "/mine/file", 0)),
    ("mode", lambda: os.chmod(where + "/key", 0o777)),
    ("owner", lambda: os.chown(where + "/key", os.getuid(), os.getgid())),
    ("times", lambda: os.utime(where + "/key", (1, 1))),
    ("attribute", lambda: os.setxattr(where + "/key", "user.x", b"x")),
    ("rename", lambda: os.rename(where + "/key", where + "/mine/key")),
    ("link", lambda: os.link(where + "/key", where + "/mine/key")),
    ("symlink", lambda: os.symlink(where + "/key", where + "/mine/key")),
    ("folder", lambda: os.mkdir(where + "/new")),
    ("pipe", lambda: os.mkfifo(where + "/new")),
    ("file in memory", lambda: os.memfd_create("x")),
    ("run", lambda: os.execv(where + "/tool", ["tool"])),
]:
    attempt(what, function)
"#,
    )
    .in_folder();
    fs::create_dir(bench.path("mine")).unwrap();
    bench.file("key", "secret");
    bench.file("mine/file", "content");
    let tool = bench.file("tool", "#!/bin/sh\necho ran");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    bench.command.reads = vec![bench.path("mine")];
    bench.nothing_works(37);
    assert_eq!(fs::read_to_string(bench.path("key")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(bench.path("mine/file")).unwrap(), "content");
}

#[test]
fn what_it_is_to_read_it_reads_and_a_program_outside_of_the_system_runs() {
    let mut bench = Bench::of(&["{}/tool"]).in_folder();
    let tool = bench.file(
        "tool",
        &format!("#!/bin/sh\nset -e\ncat '{}'\ncat >/dev/null", bench.path("mine/file").display()),
    );
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(bench.path("mine")).unwrap();
    bench.file("mine/file", "a\n1\n");
    assert!(matches!(bench.fails(), CommandError::Failed(_)), "without being told to");
    bench.command.reads = vec![bench.path("mine")];
    assert_eq!(bench.run().unwrap(), "a\n1\n");
    bench.command.reads = vec![bench.path("absent")];
    let error = bench.fails();
    assert!(matches!(&error, CommandError::NotConfined(why) if why.contains("absent")), "{error}");
}

#[test]
fn a_program_that_others_could_have_changed_is_not_run() {
    let bench = Bench::of(&["{}/tool"]).in_folder();
    let tool = bench.file("tool", "#!/bin/sh\necho a");
    let fails = |mode: u32| {
        fs::set_permissions(&tool, fs::Permissions::from_mode(mode)).unwrap();
        matches!(bench.run(), Err(CommandError::NotConfined(_)))
    };
    assert!(fails(0o775) && fails(0o757) && fails(0o644));
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
    assert!(fails(0o755), "nor one in a folder that others can change");
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!fails(0o755));
}

fn network(bench: &Bench) -> (TcpListener, UnixListener, UnixListener, String) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(bench.path("socket")).unwrap();
    let name = format!("dropzone-test-{}", bench.folder.path().file_name().unwrap().display());
    let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    (tcp, unix, hidden, format!("{port} {name}"))
}

const CONNECTING: &str = r#"
import socket
port, name = sys.argv[1].split()
def tcp(): socket.create_connection(("127.0.0.1", int(port)), 5)
def unix(to): socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(to)
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
def listen(): socket.socket(socket.AF_INET, socket.SOCK_STREAM).bind(("127.0.0.1", 0))
attempt("unix", lambda: unix("{}/socket"))
attempt("abstract", lambda: unix("\0" + name))
attempt("pair", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
attempt("listen", listen)
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("tcp", tcp)
attempt("udp", udp)
"#;

#[test]
fn there_is_no_network_and_no_socket() {
    let mut bench = Bench::python(CONNECTING).in_folder();
    let (_tcp, _unix, _hidden, where_to) = network(&bench);
    bench.command.argv.push(where_to);
    bench.nothing_works(8);
}

#[test]
fn with_a_network_there_are_still_no_sockets_of_the_zone_and_nobody_is_let_in() {
    let mut bench = Bench::python(CONNECTING).in_folder();
    bench.command.network = true;
    let (_tcp, _unix, _hidden, where_to) = network(&bench);
    bench.command.argv.push(where_to);
    let attempts = bench.attempts();
    assert_eq!(attempts.len(), 8);
    for (what, came) in attempts {
        let works = ["tcp", "udp"].contains(&what.as_str());
        assert_eq!(came == "done", works, "{what}: {came}");
    }
}

#[test]
fn other_processes_are_out_of_reach_and_so_is_the_kernel() {
    let bench = Bench::python(
        r#"
import fcntl, resource, signal, platform
parent = os.getppid()
# Their numbers here; those that all machines share begin at 424.
of = {"x86_64": dict(ptrace=101, vm=310, keyctl=250, bpf=321, mount=165, perf=298, uffd=323, shm=29, kcmp=312, clone=56),
      "aarch64": dict(ptrace=117, vm=270, keyctl=219, bpf=280, mount=40, perf=241, uffd=282, shm=194, kcmp=272, clone=220)}
number = of[platform.machine()]
attempt("signal", lambda: os.kill(parent, 0))
attempt("kill", lambda: os.kill(parent, signal.SIGUSR1))
attempt("signal by a pipe", lambda: fcntl.fcntl(1, 8, parent))
attempt("another signal by a pipe", lambda: fcntl.fcntl(1, 10, 9))
attempt("lease", lambda: fcntl.fcntl(os.open("/usr/bin/env", os.O_RDONLY), 1024, 0))
attempt("watch", lambda: fcntl.fcntl(os.open("/usr", os.O_RDONLY), 1026, 0))
attempt("signal by a socket", lambda: fcntl.ioctl(1, 0x8901, parent.to_bytes(4, "little")))
attempt("trace", lambda: call(number["ptrace"], 16, parent, 0, 0))
attempt("trace me", lambda: call(number["ptrace"], 0, 0, 0, 0))
attempt("memory", lambda: call(number["vm"], parent, 0, 0, 0, 0, 0))
attempt("compare", lambda: call(number["kcmp"], parent, os.getpid(), 0, 0, 0))
attempt("limit", lambda: resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1)))
attempt("processors", lambda: os.sched_setaffinity(parent, {0}))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
attempt("session", os.setsid)
attempt("group", lambda: os.setpgid(0, 0))
attempt("outlive", lambda: libc.prctl(1, 0, 0, 0, 0) == 0 or (_ for _ in ()).throw(OSError(ctypes.get_errno(), "")))
attempt("user namespace", lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else libc.unshare(0x10000000) == 0 or (_ for _ in ()).throw(OSError(ctypes.get_errno(), "")))
attempt("namespace by clone", lambda: call(number["clone"], 0x10000000 | 17, 0, 0, 0, 0))
attempt("clone3", lambda: call(435, 0, 0))
attempt("ring", lambda: call(425, 1, 0))
attempt("pidfd", lambda: call(434, parent, 0))
attempt("keys", lambda: call(number["keyctl"], 0, -3, 0))
attempt("bpf", lambda: call(number["bpf"], 0, 0, 0))
attempt("mount", lambda: call(number["mount"], 0, 0, 0, 0, 0))
attempt("perf", lambda: call(number["perf"], 0, 0, -1, -1, 0))
attempt("faults", lambda: call(number["uffd"], 0))
attempt("shared memory", lambda: call(number["shm"], 0, 4096, 0o1600))
attempt("a call of the future", lambda: call(999))
"#,
    );
    bench.nothing_works(29);
}

#[test]
fn it_has_no_environment_and_no_open_files_of_whoever_started_it() {
    // As a parent would that is careless: it stays open in what this process starts.
    let leaked = tempfile::tempfile().unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let bench = Bench::python(
        r#"
import fcntl
for name in os.environ: rows.append((name, "is set"))
for number in range(3, 1024): attempt(number, lambda: fcntl.fcntl(number, fcntl.F_GETFD))
rows = [row for row in rows if row[1] != 9] + [("folder", os.getcwd())]
"#,
    );
    // Python sets one for itself, and only where there is no other.
    let mut attempts = bench.attempts();
    attempts.retain(|(what, _)| what != "LC_CTYPE");
    assert_eq!(attempts, [("folder".to_owned(), "/".to_owned())]);
    drop(leaked);
}

#[test]
fn every_process_ends_with_the_first_one_however_it_hides() {
    let bench = Bench::python(
        r#"
import signal, time
for at in range(3):
    if os.fork() == 0:
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        try: os.setsid()
        except OSError: pass
        if os.fork() == 0:
            if at == 0:
                for number in range(3): os.close(number)
            time.sleep(600)
        os._exit(0)
time.sleep(1)
rows.append(("left", os.getpid()))
"#,
    );
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || ended.send(bench.attempts()));
    let attempts = end.recv_timeout(PATIENCE).expect("who hides keeps nobody waiting");
    let group = rustix::process::Pid::from_raw(attempts[0].1.parse().unwrap()).unwrap();
    let begun = Instant::now();
    while rustix::process::test_kill_process_group(group).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "a process of an ended job lives");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A kernel without one of the two is played by a filter on the thread that starts the program.
#[test]
fn where_the_kernel_cannot_confine_it_nothing_is_run() {
    for (missing, said) in [(libc::SYS_landlock_create_ruleset, "Landlock"), (libc::SYS_seccomp, "seccomp")] {
        let why = std::thread::spawn(move || {
            let rules = [(missing, Vec::new())].into_iter().collect();
            let without = seccompiler::SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
            let arch = std::env::consts::ARCH.try_into().unwrap();
            let filter =
                seccompiler::SeccompFilter::new(rules, seccompiler::SeccompAction::Allow, without, arch);
            let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
            seccompiler::apply_filter(&program).unwrap();
            Bench::sh("echo a; echo ran >&2").fails()
        });
        let why = why.join().unwrap();
        assert!(matches!(&why, CommandError::NotConfined(why) if why.contains(said)), "{why}");
    }
}
