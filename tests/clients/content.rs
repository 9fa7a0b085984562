//! Files to send: valid age files, and what is none.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::Zone;
use crate::harness::programs::run;

/// A kilobyte per number, so that each differs from the others in content and in length.
pub fn small(zone: &Zone, number: usize) -> Vec<u8> {
    zone.encrypt(vec![b'x'; 1000 + number])
}

/// Several of age's chunks: more than fits into one write of any client.
pub fn medium(zone: &Zone) -> Vec<u8> {
    zone.encrypt(vec![b'y'; 600_000])
}

/// 64 MiB, made once for all tests; nobody in these tests opens it.
pub fn large() -> &'static [u8] {
    static LARGE: OnceLock<Vec<u8>> = OnceLock::new();
    LARGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::File::create(path("zeros")).unwrap().set_len(64 << 20).unwrap();
        run(Command::new("age-keygen").arg("-o").arg(path("key"))).must_succeed();
        let recipient = crate::harness::programs::recipient(&path("key"));
        let mut age = Command::new("age");
        run(age.args(["-r", &recipient, "-o"]).arg(path("large")).arg(path("zeros"))).must_succeed();
        std::fs::read(path("large")).unwrap()
    })
}

/// Longer than any header may be, so that a client has much left to say when it is turned down.
pub fn plaintext() -> Vec<u8> {
    b"insz\n85073003328\n".repeat(20_000)
}

/// 2024-01-02T03:04:05Z
pub const TIME: i64 = 1_704_164_645;

pub fn set_time(path: &Path, to: i64) {
    run(Command::new("touch").arg("-d").arg(format!("@{to}")).arg(path)).must_succeed();
}

pub fn time_of(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().mtime()
}

/// Names that are right and that clients and servers get wrong; the last is as long as a name may be.
pub fn names() -> Vec<String> {
    let filled = |at: usize| "é".repeat((255 - ".age".len() - at) / 2);
    vec![
        "with two  blanks.age".to_owned(),
        "lijst één – ŁÓDŹ – Ελλάδα.age".to_owned(),
        "列表 قائمة.age".to_owned(),
        "ready 🎉👩‍👧 ok.age".to_owned(),
        format!("a{}.age", filled(1)),
    ]
}
