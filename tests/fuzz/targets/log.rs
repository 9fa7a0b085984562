//! The access log's verifier: nothing that stands in a log folder makes it panic, and of what heads have sealed, only what is
//! as it was written is taken for that.

#![no_main]

use std::sync::LazyLock;

use dropzone::policy::chain::{Hash, Place, START, Seal, Walker};
use dropzone::policy::digest::hex;
use dropzone::policy::evidence::{Found, Trail};
use dropzone::policy::head::{Known, Making, Walked, next};
use dropzone::policy::path::Slug;
use dropzone::policy::record::Line;
use dropzone::policy::retention::LogName;
use dropzone::policy::signature::{Namespace, ZoneKey};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

/// Records of the day that is altered, and those that a head speaks of.
const RECORDS: u64 = 12;
const SEALED: [u64; 2] = [7, RECORDS];

static DAY: LazyLock<Vec<Vec<u8>>> = LazyLock::new(day);
static HEADS: LazyLock<(ZoneKey, Vec<Vec<u8>>)> = LazyLock::new(heads);

// The first byte says what the rest is: a log folder as it comes, or alterations of one that is as it was written.
fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => as_it_comes(rest),
        1 => altered_day(rest),
        _ => altered_heads(rest),
    }
});

fn as_it_comes(bytes: &[u8]) {
    let mut walker = Walker::new(Place::START, seals());
    let mut last = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(link) = walker.feed(line) {
            assert_eq!(link.seq, last + 1, "records are counted");
            last = link.seq;
        }
        let _ = serde_json::from_slice::<Line>(line);
        let _ = std::str::from_utf8(line).map(LogName::parse);
    }
    let _ = walker.finish().map_err(|found| found.to_string());
    let (key, _) = &*HEADS;
    let (text, signature) = bytes.split_at(bytes.len() / 2);
    let mut trail = Trail::from(1);
    for number in [1, 2, 9, 3] {
        trail.take(&Found { file: "h", number, text, signature }, key);
    }
    assert!(!trail.findings.is_empty(), "believed what nobody signed");
}

fn altered_day(script: &[u8]) {
    let mut text = DAY.join(&b'\n');
    text.push(b'\n');
    alter(&mut text, script);
    let (mut walker, mut accepted) = (Walker::new(Place::START, seals()), Vec::new());
    for line in text.split(|byte| *byte == b'\n') {
        if walker.feed(line).is_some() {
            accepted.push(line.to_vec());
        }
    }
    if walker.finish().is_ok() {
        assert!(accepted == *DAY, "taken for untouched:\n{}", String::from_utf8_lossy(&text));
    }
}

fn altered_heads(script: &[u8]) {
    let (key, heads) = &*HEADS;
    let Some((which, script)) = script.split_first() else { return };
    let mut altered = heads.clone();
    let at = usize::from(*which) % altered.len();
    if which & 0x80 == 0 {
        alter(&mut altered[at], script);
    } else {
        // Whole texts and signatures in each other's places.
        let other = script.first().map_or(0, |byte| usize::from(*byte) % altered.len());
        altered.swap(at, other);
    }
    let mut trail = Trail::from(1);
    for (number, pair) in (1..).zip(altered.chunks(2)) {
        trail.take(&Found { file: "h", number, text: &pair[0], signature: &pair[1] }, key);
    }
    if trail.findings.is_empty() {
        assert!(altered.iter().step_by(2).eq(heads.iter().step_by(2)), "believed a head that was altered");
    }
}

/// Up to eight alterations: what, where, with which byte.
fn alter(text: &mut Vec<u8>, script: &[u8]) {
    for step in script.chunks_exact(4).take(8) {
        if text.is_empty() {
            return;
        }
        let at = usize::from(u16::from_be_bytes([step[1], step[2]])) % text.len();
        let line = |text: &[u8], at: usize| {
            let begin = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let end =
                text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| at + end + 1);
            begin..end
        };
        match step[0] % 7 {
            0 => text[at] = step[3],
            1 => text.insert(at, step[3]),
            2 => drop(text.remove(at)),
            3 => text.truncate(at),
            4 => drop(text.drain(line(text, at))),
            5 => {
                // A line once more, somewhere else.
                let copy = text[line(text, at)].to_vec();
                let to = line(text, usize::from(step[3]) * text.len() / 256).start;
                text.splice(to..to, copy);
            }
            _ => {
                let moved: Vec<u8> = text.drain(line(text, at)).collect();
                let to = if text.is_empty() {
                    0
                } else {
                    line(text, usize::from(step[3]) * text.len() / 256).start
                };
                text.splice(to..to, moved);
            }
        }
    }
}

fn day() -> Vec<Vec<u8>> {
    let mut prev = START;
    let record = |seq: u64| {
        let hash = hex(&prev);
        let line = format!(
            r#"{{"time":"2026-11-21T12:00:{seq:02}Z","node":"n","process":"serve","seq":{seq},"prev":"{hash}","event":"login","outcome":"ok","institution":"agency"}}"#
        );
        prev = Sha256::digest(&line).into();
        line.into_bytes()
    };
    (1..=RECORDS).map(record).collect()
}

fn seals() -> Vec<Seal> {
    let seal = |(head, seq): (u64, u64)| {
        let hash: Hash = Sha256::digest(&DAY[usize::try_from(seq - 1).unwrap()]).into();
        Seal { seq, hash, head }
    };
    (1..).zip(SEALED).map(seal).collect()
}

/// The key, and texts and signatures of three heads in turn.
fn heads() -> (ZoneKey, Vec<Vec<u8>>) {
    let private = PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[7; 32])), "").unwrap();
    let (mut known, mut heads) = (Known::default(), Vec::new());
    for seq in 1..=3_u8 {
        let making = Making {
            time: format!("2026-11-21T1{seq}:00:00Z").parse().unwrap(),
            node: Slug::parse("n").unwrap(),
            keep_days: 31,
        };
        let place = Place { line: seq.into(), seq: seq.into(), hash: [seq; 32], bytes: seq.into() };
        let walked = Walked { outcome: Ok(place), expired: Vec::new(), tells_of_heads: false };
        let name = LogName::parse("2026-11-21.serve.n.jsonl").unwrap();
        let head = next(&known, &making, [(name, walked)].into()).unwrap();
        let text = serde_json::to_vec(&head).unwrap();
        known.follow(&head, &text);
        let signature = private.sign(Namespace::LogHead.as_str(), HashAlg::Sha512, &text).unwrap();
        heads.push(text);
        heads.push(signature.to_pem(LineEnding::LF).unwrap().into_bytes());
    }
    (ZoneKey::new(private.public_key().clone()), heads)
}
