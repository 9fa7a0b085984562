//! A spool that fills up, on a small disk of its own: uploads leave what they must leave, are turned down for a reason that
//! passes, keep what was sent, and go on when there is room.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::disk::SmallDisk;
use crate::harness::observe::names;
use crate::harness::{AN, BO, Daemon, Zone};

const MIB: u64 = 1 << 20;

/// A zone with its spool on a disk of its own, running.
fn zone_on(options: &str, limits: &str) -> Option<(Zone, SmallDisk)> {
    let mut zone = Zone::lay_out();
    let disk = SmallDisk::mount(&zone.spool(), options)?;
    zone.configure(&format!("limits: {limits}"));
    zone.start();
    Some((zone, disk))
}

/// Takes room in the spool, down to so many bytes.
fn fill(zone: &Zone, disk: &SmallDisk, down_to: u64) {
    let bytes = disk.free().0 - down_to;
    fs::write(zone.spool().join("filler"), vec![0; usize::try_from(bytes).unwrap()]).unwrap();
}

fn random_list(zone: &Zone, bytes: u64) -> Vec<u8> {
    zone.encrypt(vec![b'x'; usize::try_from(bytes).unwrap()])
}

#[test]
fn a_full_spool_turns_uploads_down_keeps_what_was_sent_and_goes_on_when_there_is_room() {
    let Some((zone, disk)) = zone_on("size=64m", "{spool-reserve: 16 MiB}") else { return };
    let list = random_list(&zone, 20 * MIB);
    zone.put_here("big.age", &list);
    fill(&zone, &disk, 28 * MIB);
    zone.sftp(AN, "put big.age /relay/in/big.age").must_fail();
    assert!(disk.free().0 >= 16 * MIB, "uploads leave what they must: {:?}", disk.free());
    assert_eq!(zone.accepted(), 0);
    assert_eq!(names(&zone.spool().join("refused")).len(), 0, "nothing is wrong with the file");
    let [partial] = zone.partials().try_into().unwrap();
    let kept = fs::metadata(zone.spool().join("partial").join(&partial)).unwrap();
    assert!(kept.len() > 10 * MIB, "what was sent stays: {}", kept.len());
    assert!(kept.blocks() * 512 <= kept.len() + MIB, "and nothing is set aside behind it");
    let [line] = zone.logged(&[("event", "refuse")]).try_into().unwrap();
    assert_eq!((&line["reason"], &line["outcome"]), (&"spool-full".into(), &"failed".into()), "{line:#}");
    assert!(zone.metric(Daemon::Serve, "dropzone_spool_full_total") >= 1.0);
    assert!((zone.metric(Daemon::Serve, "dropzone_spool_reserve_bytes") - 16.0 * 1_048_576.0).abs() < 1.0);

    fs::remove_file(zone.spool().join("filler")).unwrap();
    fill(&zone, &disk, 16 * MIB);
    zone.put_here("small.age", random_list(&zone, 1000));
    let before = zone.partials_changed();
    zone.sftp(AN, "put small.age /relay/in/small.age").must_fail();
    assert_eq!(zone.partials_changed(), before, "what cannot begin leaves no trace");
    let [line] = zone.logged(&[("event", "open-write"), ("outcome", "failed")]).try_into().unwrap();
    assert_eq!(line["reason"], "spool-full");
    assert_eq!(zone.http_status(Daemon::Serve, "/readyz"), "503");
    let told = zone.http(Daemon::Serve, "/readyz");
    assert!(told.contains("spool is full") && told.contains("spool-reserve"), "{told}");
    let room = zone.sftp(AN, "df /relay/in").must_succeed().text();
    let numbers: Vec<&str> = room.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(numbers[2], "0", "the client is told the same: {room}");

    fs::remove_file(zone.spool().join("filler")).unwrap();
    zone.wait_until_ready();
    zone.sftp(AN, "reput big.age /relay/in/big.age").must_succeed();
    zone.receipt("relay", "big.age", "delivered");
    let result = zone.result("city", "relay");
    assert!(zone.download(BO, &format!("/relay/out/{result}")) == list, "it is what was sent");
    zone.sftp(AN, "put small.age /relay/in/small.age").must_succeed();
}

/// Many uploads at once, small ones and large ones, each a little further in turn.
const TOGETHER: &str = r#"
client = sftp()
content = read("list")
files = [client.open(f"/relay/in/{n}.age", "wb") for n in range(60)]
ended = {}
for at in range(0, len(content), 250000):
    for n, file in enumerate(files):
        if n not in ended and at < (len(content) if n % 2 else 500000):
            told = outcome(lambda: client._request(paramiko.sftp.CMD_WRITE, file.handle, paramiko.sftp.int64(at), content[at:at + 250000]))
            if told[0] != "ok":
                ended[n] = told
print(json.dumps(ended))
"#;

#[test]
fn many_uploads_together_leave_what_each_must_leave() {
    let Some((zone, disk)) = zone_on("size=96m", "{spool-reserve: 32 MiB}") else { return };
    zone.put_here("list", random_list(&zone, 2 * MIB));
    let (done, mut least) = (AtomicBool::new(false), u64::MAX);
    let told = std::thread::scope(|scope| {
        let uploads = scope.spawn(|| {
            let told = zone.python(AN, TOGETHER);
            done.store(true, Ordering::Release);
            told
        });
        while !done.load(Ordering::Acquire) {
            least = least.min(disk.free().0);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        uploads.join().unwrap()
    });
    let Some(told) = told else { return };
    let ended: serde_json::Value = serde_json::from_str(&told.must_succeed().text()).unwrap();
    let ended = ended.as_object().unwrap();
    assert!((1..60).contains(&ended.len()), "some found room, and some none: {}", ended.len());
    for answer in ended.values() {
        let text = answer[2].as_str().unwrap();
        assert!(text.contains("geen plaats") && text.contains("no room"), "{text}");
    }
    // Folders and descriptions take a little of it, which is what it is for.
    assert!(least >= 31 * MIB, "{least} bytes were left when it was fullest");
    assert!(least < 48 * MIB, "and what may be taken was: {least}");
}

#[test]
fn a_disk_without_room_for_files_turns_uploads_down_before_they_begin() {
    let Some((zone, disk)) = zone_on("size=64m,nr_inodes=600", "{spool-reserve: 1 MiB}") else { return };
    zone.put_here("list.age", random_list(&zone, 1000));
    let fillers = zone.spool().join("fillers");
    fs::create_dir(&fillers).unwrap();
    for number in 0.. {
        if disk.free().1 <= 100 {
            break;
        }
        fs::write(fillers.join(number.to_string()), "").unwrap();
    }
    let before = zone.partials_changed();
    zone.sftp(AN, "put list.age /relay/in/").must_fail();
    assert_eq!(zone.partials_changed(), before);
    let [line] = zone.logged(&[("event", "open-write"), ("outcome", "failed")]).try_into().unwrap();
    assert_eq!(line["reason"], "spool-full");
    assert!(zone.http(Daemon::Serve, "/readyz").contains("no room for more files"));
    fs::remove_dir_all(fillers).unwrap();
    zone.wait_until_ready();
    zone.upload(AN, "/relay/in/list.age", &zone.read_here("list.age"));
    zone.receipt("relay", "list.age", "delivered");
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_fails_cleanly_at_every_step() {
    let Some((zone, disk)) = zone_on("size=24m", "{spool-reserve: 0 B}") else { return };
    // Between none at all and enough for all of it: the disk is full at another step each time.
    for left in
        [0, 4 << 10, 8 << 10, 64 << 10, 72 << 10, MIB, 3 * MIB, 3 * MIB + (4 << 10), 3 * MIB + (12 << 10)]
    {
        // Encrypted anew each time: the same file again would be the same arrival.
        let list = random_list(&zone, 3 * MIB);
        zone.put_here("list.age", &list);
        fill(&zone, &disk, left);
        let uploaded = zone.sftp(AN, "put list.age /relay/in/list.age");
        let filler = zone.spool().join("filler");
        fs::remove_file(&filler).unwrap();
        if !uploaded.succeeded() {
            assert_eq!(zone.accepted(), 0, "{left} bytes left: what failed is not there");
            zone.wait_until_ready();
            zone.sftp(AN, "put list.age /relay/in/list.age").must_succeed();
        }
        let result = zone.result("city", "relay");
        assert!(zone.download(BO, &format!("/relay/out/{result}")) == list, "{left} bytes left: whole");
        zone.sftp(BO, &format!("rm /relay/out/{result}")).must_succeed();
        for id in zone.wait_for("its end", || Some(zone.arrivals("done")).filter(|ids| !ids.is_empty())) {
            fs::remove_dir_all(zone.spool().join("done").join(id)).unwrap();
        }
        assert_eq!(names(&zone.spool().join("refused")).len(), 0, "{left} bytes left: no refusal");
        assert_eq!(zone.partials().len(), 0, "{left} bytes left: nothing half-made");
    }
}
