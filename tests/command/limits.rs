//! Programs that take too much: memory, processes, time, room for results, or the patience of whoever reads what they say.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dropzone::policy::job::{Failure, JobLimits};
use dropzone::policy::reason::Reason;
use dropzone::work::command::CommandError;
use dropzone::work::encrypt::{self, Buffer, EncryptError, new_buffer};
use dropzone::work::query::Sink;
use dropzone::work::stop::Interrupted;

use crate::bench::Bench;

#[test]
fn each_process_has_its_limits_before_its_program_begins() {
    let bench = Bench::python(
        r#"
import resource
for name in ["CORE", "FSIZE", "MSGQUEUE", "MEMLOCK", "NOFILE", "NPROC", "CPU", "AS", "DATA"]:
    rows.append((name, "%d/%d" % resource.getrlimit(getattr(resource, "RLIMIT_" + name))))
rows.append(("raised", "no"))
"#,
    );
    let limits = bench.attempts();
    let memory = bench.limits.memory;
    let of = |name: &str| {
        let both = &limits.iter().find(|(what, _)| what == name).unwrap().1;
        let (soft, hard) = both.split_once('/').unwrap();
        assert_eq!(soft, hard, "{name} cannot be raised");
        soft.parse::<u64>().unwrap()
    };
    assert_eq!(["CORE", "FSIZE", "MSGQUEUE", "MEMLOCK"].map(of), [0; 4]);
    assert_eq!(["AS", "DATA"].map(of), [memory; 2]);
    assert_eq!(of("NOFILE"), 1024);
    assert!(of("NPROC") < 30_000 && of("CPU") < 100_000, "{limits:?}");
}

#[test]
fn one_process_that_eats_memory_is_refused_it() {
    let mut bench = Bench::python("x = bytearray(1 << 30)");
    bench.limits.memory = 256 << 20;
    let error = bench.fails();
    assert!(matches!(error, CommandError::Failed(1)), "{error}");
    assert_eq!(error.failure(), Failure::Lasting(Reason::CommandFailed));
}

#[test]
fn several_processes_that_eat_memory_together_are_ended() {
    let mut bench = Bench::python(
        r#"
import time
for _ in range(5):
    if os.fork() == 0:
        x = bytearray(b"x") * (100 << 20)
        time.sleep(600)
time.sleep(600)
"#,
    );
    bench.limits.memory = 256 << 20;
    let error = bench.fails();
    assert!(matches!(error, CommandError::Memory { .. }), "{error}");
    assert_eq!(error.failure(), Failure::Lasting(Reason::JobMemory));
}

#[test]
fn more_processes_than_a_program_may_have_end_it() {
    let bench = Bench::python(
        r#"
import time
for _ in range(500):
    try:
        if os.fork() == 0:
            time.sleep(600)
    except OSError:
        time.sleep(0.01)
time.sleep(600)
"#,
    );
    let limits = JobLimits { time: Duration::from_secs(30), ..bench.limits };
    let error = Bench { limits, ..bench }.fails();
    // Root has no limit of its own in the kernel; everybody else never gets further than it.
    let ended = matches!(error, CommandError::Processes { .. });
    let never_got_there = matches!(error, CommandError::Interrupted(Interrupted::TooLong { .. }));
    assert!(ended || (never_got_there && !rustix::process::geteuid().is_root()), "{error}");
}

#[test]
fn a_program_that_never_ends_is_ended_when_its_time_is_over() {
    for script in [
        "trap '' TERM INT HUP; while :; do sleep 1; done",
        "echo a; exec >&- 2>&-; while :; do sleep 1; done",
        "while :; do :; done",
    ] {
        let mut bench = Bench::sh(script);
        bench.limits.time = Duration::from_secs(1);
        bench.list = many_rows();
        let error = bench.fails();
        assert!(matches!(error, CommandError::Interrupted(Interrupted::TooLong { .. })), "{script}: {error}");
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobTooLong));
    }
}

#[test]
fn a_program_ends_when_the_process_stops_and_its_list_waits() {
    let bench = Bench::sh("while :; do sleep 1; done");
    let stop = bench.stop.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        let error = bench.fails();
        assert!(matches!(error, CommandError::Interrupted(Interrupted::Stopping)), "{error}");
        assert_eq!(error.failure(), Failure::Passing);
    });
}

#[test]
fn a_flood_of_rows_ends_at_the_size_of_a_result() {
    let bench = Bench::sh("echo a; yes 0123456789");
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let outputs = vec![(encrypt::begin(&[recipient]).unwrap(), Vec::new())];
    let error = encrypt::encrypt(outputs, 8 << 20, |pipe| bench.run_into(pipe)).map(|_| ()).unwrap_err();
    assert!(matches!(error, CommandError::Encrypt(EncryptError::TooLarge { .. })), "{error}");
    assert_eq!(error.failure(), Failure::Lasting(Reason::ResultTooLarge));
}

#[test]
fn who_no_longer_takes_the_rows_ends_the_program() {
    struct Closed(u8);
    impl Sink for Closed {
        fn buffer(&mut self) -> io::Result<Buffer> {
            Ok(new_buffer())
        }
        fn send(&mut self, _: Buffer) -> io::Result<()> {
            self.0 += 1;
            if self.0 > 2 { Err(io::Error::from(io::ErrorKind::BrokenPipe)) } else { Ok(()) }
        }
    }
    let error = Bench::sh("echo a; yes 0123456789").run_into(&mut Closed(0)).unwrap_err();
    assert!(matches!(error, CommandError::Encrypt(EncryptError::Io(_))), "{error}");
}

#[test]
fn a_flood_of_words_neither_stops_the_program_nor_fills_anything() {
    let bench = Bench::sh("cat >/dev/null; yes 'too much to say' | head -c 20000000 >&2; echo a; echo 1");
    assert_eq!(bench.run().unwrap(), "a\n1\n");
}

#[test]
fn one_line_that_never_ends_is_no_table() {
    let error = Bench::sh("echo a; yes | tr -d '\\n'").fails();
    assert!(matches!(error, CommandError::NotATable { line: 2, .. }), "{error}");
}

fn many_rows() -> Vec<u8> {
    let mut list = b"insz\n".to_vec();
    list.extend(b"85073003328\n".repeat(500_000));
    list
}

#[test]
fn neither_side_waits_for_the_other() {
    let mut bench = Bench::of(&["/bin/cat"]);
    bench.list = many_rows();
    assert_eq!(bench.run().unwrap().into_bytes(), bench.list);
}

#[test]
fn a_program_that_reads_nothing_or_stops_reading_is_judged_by_its_end() {
    for (script, rows) in [
        ("echo a; echo 1", "a\n1\n"),
        ("head -n 1; echo 1", "insz\n1\n"),
        ("exec <&-; sleep 1; echo a", "a\n"),
    ] {
        let mut bench = Bench::sh(script);
        bench.list = many_rows();
        assert_eq!(bench.run().unwrap(), rows, "{script}");
    }
}
