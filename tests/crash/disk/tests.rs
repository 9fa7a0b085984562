//! That the disk is as hostile as it says.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::rules::{Action, Filter, Room, Rule};
use super::tree::{Bytes, Loss, Names, Renames};
use super::{Disk, Recording};
use crate::harness::Daemon;

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// A disk with the folders `a` and `b` and the file `a/old`, all of them safe.
fn disk() -> Option<Disk> {
    let disk = Disk::mounted()?;
    fs::create_dir(disk.join("a")).unwrap();
    fs::create_dir(disk.join("b")).unwrap();
    fs::write(disk.join("a/old"), "old").unwrap();
    disk.settle();
    Some(disk)
}

fn cut(disk: &Disk, loss: Loss) {
    disk.cut(loss);
    assert!(fs::write(disk.join("a/dark"), "x").is_err(), "written without power");
    disk.power_on();
}

fn text(disk: &Disk, name: &str) -> Option<String> {
    fs::read_to_string(disk.join(name)).ok()
}

#[test]
fn it_does_what_a_file_system_does() {
    let Some(disk) = disk() else { return };
    let path = disk.join("b/file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    assert!(OpenOptions::new().write(true).create_new(true).open(&path).is_err());
    file.write_all(&[7; 300_000]).unwrap();
    file.write_all_at(b"head", 0).unwrap();
    file.set_len(200_000).unwrap();
    let mut end = [0; 10];
    assert_eq!(file.read_at(&mut end, 199_998).unwrap(), 2);
    assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)), Ok(200_000));
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    let other = File::open(&path).unwrap();
    assert_eq!(rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 200_000);
    let mut log = OpenOptions::new().append(true).open(disk.join("a/old")).unwrap();
    log.write_all(b" and").unwrap();
    log.write_all(b" new").unwrap();
    assert_eq!(text(&disk, "a/old").unwrap(), "old and new");
    let folder = rustix::fs::open(disk.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let kept = |flags| rustix::fs::renameat_with(&folder, "b/file", &folder, "a/old", flags);
    assert_eq!(kept(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    fs::hard_link(&path, disk.join("b/second")).unwrap();
    assert_eq!(kept(RenameFlags::empty()), Ok(()));
    assert_eq!(fs::metadata(disk.join("b/second")).unwrap().len(), 200_000);
    assert!(fs::remove_dir(disk.join("a")).is_err());
    fs::set_permissions(disk.join("b"), PermissionsExt::from_mode(0o2770)).unwrap();
    assert_eq!(fs::metadata(disk.join("b")).unwrap().permissions().mode() & 0o7777, 0o2770);
    for at in 0..500 {
        fs::write(disk.join(&format!("b/{at}")), "").unwrap();
    }
    assert_eq!(fs::read_dir(disk.join("b")).unwrap().count(), 501);
    fs::remove_file(disk.join("a/old")).unwrap();
    let mut rest = String::new();
    File::open(disk.join("b/second")).unwrap().take(4).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "head");
}

#[test]
fn bytes_are_safe_after_a_sync_of_the_file_and_names_after_one_of_the_folder() {
    let Some(disk) = disk() else { return };
    let cases =
        [("neither", false, false), ("file", true, false), ("folder", false, true), ("both", true, true)];
    for (name, ..) in cases {
        fs::create_dir(disk.join(name)).unwrap();
    }
    disk.settle();
    for (name, sync_file, sync_folder) in cases {
        let folder = disk.join(name);
        fs::write(folder.join("new"), "content").unwrap();
        if sync_file {
            sync(&folder.join("new"));
        }
        if sync_folder {
            sync(&folder);
        }
    }
    cut(&disk, Loss::ALL);
    assert_eq!(text(&disk, "neither/new"), None);
    assert_eq!(text(&disk, "file/new"), None);
    assert_eq!(text(&disk, "folder/new").as_deref(), Some(""));
    assert_eq!(text(&disk, "both/new").as_deref(), Some("content"));
}

#[test]
fn what_was_written_or_removed_since_the_last_sync_is_as_it_was() {
    let Some(disk) = disk() else { return };
    OpenOptions::new().append(true).open(disk.join("a/old")).unwrap().write_all(b" more").unwrap();
    fs::create_dir_all(disk.join("b/deep/er")).unwrap();
    cut(&disk, Loss::ALL);
    assert_eq!(text(&disk, "a/old").as_deref(), Some("old"));
    assert!(!disk.join("b/deep").exists());
    fs::remove_file(disk.join("a/old")).unwrap();
    cut(&disk, Loss::ALL);
    assert_eq!(text(&disk, "a/old").as_deref(), Some("old"));
    fs::remove_file(disk.join("a/old")).unwrap();
    sync(&disk.join("a"));
    cut(&disk, Loss::ALL);
    assert_eq!(text(&disk, "a/old"), None);
}

#[test]
fn bytes_may_be_lost_or_zeros_or_there_and_names_ahead_of_them() {
    for (bytes, found) in [(Bytes::Lost, "old"), (Bytes::Zeroed, "old\0\0\0\0\0"), (Bytes::Kept, "old more")]
    {
        let Some(disk) = disk() else { return };
        OpenOptions::new().append(true).open(disk.join("a/old")).unwrap().write_all(b" more").unwrap();
        fs::write(disk.join("b/new"), "").unwrap();
        cut(&disk, Loss { names: Names::Kept, bytes });
        assert_eq!(text(&disk, "a/old").as_deref(), Some(found));
        assert_eq!(text(&disk, "b/new").as_deref(), Some(""));
    }
}

/// Where a file is found that was moved from `a` to `b`, with these folders synced since.
fn found_after_move(renames: Renames, synced: &[&str], names: Names) -> Option<(bool, bool)> {
    let disk = disk()?;
    disk.renames(renames);
    fs::rename(disk.join("a/old"), disk.join("b/old")).unwrap();
    for folder in synced {
        sync(&disk.join(folder));
    }
    cut(&disk, Loss { names, bytes: Bytes::Lost });
    let there = |name: &str| text(&disk, name).is_some_and(|content| content == "old");
    Some((there("a/old"), there("b/old")))
}

#[test]
fn a_move_is_whole_or_torn_as_the_test_wants_it() {
    let (before, after, both, neither) = ((true, false), (false, true), (true, true), (false, false));
    for (renames, synced, names, expected) in [
        (Renames::Whole, &[][..], Names::Forgotten, before),
        (Renames::Whole, &["a"][..], Names::Forgotten, after),
        (Renames::Whole, &["b"][..], Names::Forgotten, after),
        (Renames::Torn, &[][..], Names::Forgotten, before),
        (Renames::Torn, &["a"][..], Names::Forgotten, neither),
        (Renames::Torn, &["b"][..], Names::Forgotten, both),
        (Renames::Torn, &["a", "b"][..], Names::Forgotten, after),
        (Renames::Torn, &[][..], Names::Kept, after),
        (Renames::Torn, &[][..], Names::Doubled, both),
        (Renames::Torn, &[][..], Names::Gone, neither),
    ] {
        let Some(found) = found_after_move(renames, synced, names) else { return };
        assert_eq!(found, expected, "{renames:?} {synced:?} {names:?}");
    }
}

#[test]
fn a_lying_sync_makes_nothing_safe() {
    let Some(disk) = disk() else { return };
    disk.rule(Rule::new(Filter::kind("fsync", "a/old"), Action::Lie));
    fs::write(disk.join("a/old"), "new").unwrap();
    sync(&disk.join("a/old"));
    assert_eq!(disk.struck(), 1);
    cut(&disk, Loss::ALL);
    assert_eq!(text(&disk, "a/old").as_deref(), Some("old"));
}

#[test]
fn errors_strike_where_and_when_they_should_and_healing_ends_them() {
    let Some(disk) = disk() else { return };
    disk.rule(Rule::at(Filter::kind("fsync", "a"), 1, Action::Fail(Errno::IO)));
    disk.rule(Rule::new(Filter::under("b"), Action::Fail(Errno::ROFS)));
    let file = File::open(disk.join("a/old")).unwrap();
    let answers: Vec<_> = (0..3).map(|_| file.sync_all().is_ok()).collect();
    assert_eq!(answers, [true, false, true]);
    let error = fs::write(disk.join("b/new"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    assert_eq!(fs::rename(disk.join("a/old"), disk.join("b/old")).unwrap_err().raw_os_error(), Some(30));
    disk.heal();
    fs::write(disk.join("b/new"), "x").unwrap();
}

#[test]
fn there_is_only_so_much_room_and_statvfs_says_so() {
    let Some(disk) = disk() else { return };
    disk.room("a", Room { bytes: 10_000, inodes: 3 });
    let error = fs::write(disk.join("a/big"), vec![1; 20_000]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    assert_eq!(fs::metadata(disk.join("a/big")).unwrap().len(), 9_997, "what fits is written");
    assert!(fs::write(disk.join("a/third"), "x").is_err(), "no inode is left");
    let facts = rustix::fs::statvfs(disk.join("a").as_path()).unwrap();
    assert_eq!((facts.f_bavail, facts.f_ffree), (0, 0));
    fs::write(disk.join("b/elsewhere"), vec![1; 20_000]).unwrap();
    fs::remove_file(disk.join("a/big")).unwrap();
    let file = File::create(disk.join("a/big")).unwrap();
    assert_eq!(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 10_000), Err(Errno::NOSPC));
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 9_000).unwrap();
    assert_eq!(disk.used("a"), (9_003, 3));
    disk.heal();
    fs::write(disk.join("a/third"), vec![1; 20_000]).unwrap();
}

#[test]
fn a_slow_sync_keeps_no_other_file_waiting() {
    let Some(disk) = disk() else { return };
    fs::write(disk.join("b/other"), "x").unwrap();
    disk.rule(Rule::new(Filter::under("a"), Action::Slow(Duration::from_secs(2))));
    let slow = disk.join("a/old");
    let start = Instant::now();
    let thread = std::thread::spawn(move || sync(&slow));
    let mut others = 0;
    while !thread.is_finished() {
        sync(&disk.join("b/other"));
        others += 1;
    }
    thread.join().unwrap();
    assert!(others > 1 && start.elapsed() >= Duration::from_secs(2), "{others}");
}

/// A program that writes until it is killed, known to the disk as a daemon.
fn writer(disk: &Disk) -> std::process::Child {
    let script = "read go; for i in 1 2 3 4 5; do echo $i > a/$i; done; echo all";
    let mut shell = Command::new("sh");
    let child = shell
        .args(["-c", script])
        .current_dir(disk.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    disk.started(Daemon::Work, child.id());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    child
}

#[test]
fn a_process_is_killed_before_or_after_the_operation_that_was_chosen() {
    for (action, there) in [(Action::KillBefore, 2), (Action::KillAfter, 3)] {
        let Some(disk) = disk() else { return };
        let filter = Filter::new(|call| call.kind == "create");
        disk.rule(Rule::at(filter.clone().by(Daemon::Serve), 0, action));
        disk.rule(Rule::at(filter.by(Daemon::Work), 2, action));
        let output = writer(&disk).wait_with_output().unwrap();
        assert!(output.stdout.is_empty() && output.status.code().is_none(), "{output:?}");
        assert_eq!(fs::read_dir(disk.join("a")).unwrap().count(), 1 + there);
    }
}

#[test]
fn a_power_cut_at_an_operation_takes_the_processes_with_it() {
    let Some(disk) = disk() else { return };
    let third = Filter::new(|call| call.kind == "create");
    disk.rule(Rule::at(third, 2, Action::CutAfter(Loss { names: Names::Kept, bytes: Bytes::Lost })));
    let output = writer(&disk).wait_with_output().unwrap();
    assert!(output.stdout.is_empty() && !disk.has_power());
    disk.power_on();
    assert_eq!(["a/1", "a/2", "a/3"].map(|name| text(&disk, name)), [const { Some(String::new()) }; 3]);
}

#[test]
fn what_was_recorded_gives_the_same_disk_again_at_each_step() {
    let Some(disk) = disk() else { return };
    disk.record();
    fs::write(disk.join("a/new"), "new").unwrap();
    disk.note("written");
    sync(&disk.join("a/new"));
    sync(&disk.join("a"));
    let recording: Recording = disk.recorded();
    let steps: Vec<String> = recording.steps.iter().map(|step| step.call.to_string()).collect();
    assert_eq!(steps, ["create a/new", "write a/new", "fsync a/new", "fsync a/"]);
    assert_eq!(recording.noted("written"), Some(2));
    let found = |steps, lies: fn(&super::Step) -> bool| {
        let files = recording.replayed(steps, lies).after_cut(Loss::ALL).files();
        files.get("a/new").map(|content| content.as_ref().unwrap().len())
    };
    assert_eq!(found(3, |_| false), None);
    assert_eq!(found(4, |_| false), Some(3));
    assert_eq!(found(4, |step| step.call.path == "a/new"), Some(0));
    assert_eq!(found(4, |step| step.call.path == "a/"), None);
    let early = recording.replayed(0, |_| false);
    disk.exchange(early);
    assert_eq!(text(&disk, "a/new"), None);
    assert_eq!(text(&disk, "a/old").as_deref(), Some("old"));
}
