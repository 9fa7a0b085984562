//! Second places for heads, so that rewriting history on this host is found out: a file to which they are appended, which
//! may lie on another mount, and the machine's syslog. One line is `{"head": ‹text›, "signature": ‹PEM›}`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::heads::Kept;
use super::{EvidenceError, failed};
use crate::policy::head::{Head, digest};

/// Where syslog listens on this machine.
pub const SYSLOG: &str = "/dev/log";
/// Facility "log audit" (13), severity "notice" (5); RFC 5424, 6.2.1.
const PRIORITY: u8 = 13 * 8 + 5;
/// syslog is told, not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// No line is longer.
const LINE_MAX: u64 = 32 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    head: String,
    signature: String,
}

/// The number of the last head in a file of copies; 0 where there is none.
pub fn last_number(path: &Path) -> Result<u64, EvidenceError> {
    let read = || -> std::io::Result<u64> {
        let mut file = match open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            opened => opened?,
        };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LINE_MAX)))?;
        let mut text = Vec::new();
        file.take(LINE_MAX).read_to_end(&mut text)?;
        let lines = text.rsplit(|byte| *byte == b'\n');
        Ok(lines.filter_map(kept).next().map_or(0, |kept| kept.number))
    };
    read().map_err(failed("read", path))
}

/// Appends heads, durably.
pub fn append(path: &Path, heads: &[Kept]) -> Result<(), EvidenceError> {
    let write = || -> std::io::Result<()> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?);
        let mut text = Vec::new();
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            // What a crash left of a line is ended.
            text.extend((last != *b"\n").then_some(b'\n'));
        }
        for kept in heads {
            let line = Line {
                head: String::from_utf8_lossy(&kept.text).into_owned(),
                signature: String::from_utf8_lossy(&kept.signature).into_owned(),
            };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
        file.sync_data()
    };
    write().map_err(failed("append to", path))
}

/// All heads in a file of copies; lines that are none are left out.
pub fn read(path: &Path) -> Result<Vec<Kept>, EvidenceError> {
    let read = || -> std::io::Result<Vec<Kept>> {
        let mut reader = BufReader::new(open(path)?);
        let (mut heads, mut line) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            if (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(heads);
            }
            heads.extend(kept(&line));
        }
    };
    read().map_err(failed("read", path))
}

/// Tells syslog a head's number and digest.
pub fn tell_syslog(socket: &Path, kept: &Kept) -> Result<(), EvidenceError> {
    let tell = || -> std::io::Result<()> {
        let datagram = UnixDatagram::unbound()?;
        datagram.set_write_timeout(Some(PATIENCE))?;
        let (number, digest) = (kept.number, digest(&kept.text));
        let text = format!("<{PRIORITY}>dropzone: access log head {number} sha256 {digest}");
        datagram.send_to(text.as_bytes(), socket).map(|_| ())
    };
    tell().map_err(failed("tell syslog at", socket))
}

fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn kept(line: &[u8]) -> Option<Kept> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let head: Head = serde_json::from_str(&line.head).ok()?;
    let file = format!("copy of head {}", head.number);
    Some(Kept {
        number: head.number,
        file,
        text: line.head.into_bytes(),
        signature: line.signature.into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> Kept {
        let text = format!(
            r#"{{"head":1,"number":{number},"previous":"","time":"2026-11-21T12:00:00Z","node":"n","keep-days":31,"complete":true,"files":[]}}"#
        );
        let file = format!("copy of head {number}");
        Kept { number, file, text: text.into_bytes(), signature: b"-----BEGIN\nx\n".to_vec() }
    }

    #[test]
    fn copies_are_appended_and_read_back_also_behind_a_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads.jsonl");
        assert_eq!(last_number(&path).unwrap(), 0);
        append(&path, &[head(1), head(2)]).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"{\"head\":\"{").unwrap();
        assert_eq!(last_number(&path).unwrap(), 2);
        append(&path, &[head(3)]).unwrap();
        assert_eq!(read(&path).unwrap(), [head(1), head(2), head(3)]);
        assert_eq!(last_number(&path).unwrap(), 3);
    }

    #[test]
    fn syslog_hears_the_number_and_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(tell_syslog(&path, &head(7)).is_err());
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        tell_syslog(&path, &head(7)).unwrap();
        let mut text = [0; 200];
        let length = listener.recv(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        assert_eq!(text, format!("<109>dropzone: access log head 7 sha256 {}", digest(&head(7).text)));
    }
}
