//! What `work` keeps of an exchange beside the ledgers of its flows: the secret that marks are made with, and when the end of
//! its agreement was noticed. What follows from that end is `work::end`'s question.

use std::io::Read;

use jiff::Timestamp;
use jiff::civil::Date;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::ledger::{RHYTHM, write_temporary};
use super::{Attempt, Directory, Spool, SpoolError, exists_or, read_own_json, to_json, write_durably};
use crate::policy::path::Slug;

/// When the end of an exchange's agreement was first noticed.
const END: &str = "end.json";
/// What marks are made with, encrypted.
const SECRET: &str = "secret.age";
/// More than a secret has, in bytes.
const SECRET_MAX: u64 = 64 << 10;

/// When the end of an agreement was first noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Noticed {
    /// The agreement's last day, as it was then.
    pub until: Date,
    /// UTC.
    pub at: Timestamp,
}

impl Spool {
    /// What an exchange's marks are made with, encrypted; `make` says what it is to be where there is none. Of several that ask
    /// at the same time all get the same.
    pub fn rhythm_secret<E: From<SpoolError>>(
        &self,
        exchange: &Slug,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let folder = self.rhythm_of(exchange)?;
        if let Some(secret) = read_secret(&folder)? {
            return Ok(secret);
        }
        let secret = make()?;
        let temporary = write_temporary(&folder, &secret).attempt("write", || SECRET.to_owned())?;
        match folder.move_to(&temporary, &folder, SECRET) {
            Ok(()) => {}
            Err(error) => {
                let _ = folder.remove_if_there(&temporary);
                if error != Errno::EXIST {
                    return Err(exists_or(error, || SECRET.to_owned(), "make").into());
                }
            }
        }
        folder.sync().attempt("sync", || SECRET.to_owned())?;
        Ok(read_secret(&folder)?.ok_or_else(|| SpoolError::Busy(SECRET.to_owned()))?)
    }

    /// Destroys it: the marks in the ledgers mean nothing from then on. Says whether it was there; `record` gets its length and
    /// digest first, and says whether it may go.
    pub fn destroy_rhythm_secret(
        &self,
        exchange: &Slug,
        record: impl FnOnce(&str, u64, String) -> bool,
    ) -> Result<bool, SpoolError> {
        let folder = self.rhythm_of(exchange)?;
        let Some(secret) = read_secret(&folder)? else { return Ok(false) };
        let path = format!("{RHYTHM}/{exchange}/{SECRET}");
        if !record(&path, secret.len() as u64, crate::policy::digest::sha256(&secret)) {
            return Ok(false);
        }
        folder.remove_if_there(SECRET).and_then(|()| folder.sync()).attempt("remove", || path)?;
        Ok(true)
    }

    /// When the end of an exchange's agreement was first noticed; from now on, where it was not, or where that was another end.
    pub fn notice_end(&self, exchange: &Slug, now: Noticed) -> Result<Noticed, SpoolError> {
        let folder = self.rhythm_of(exchange)?;
        match self.end_noticed(exchange)? {
            Some(before) if before.until == now.until => Ok(before),
            Some(_) | None => write_durably(&folder, END, &to_json(&now)?).map(|()| now),
        }
    }

    /// The same, without making anything.
    pub fn end_noticed(&self, exchange: &Slug) -> Result<Option<Noticed>, SpoolError> {
        let folder = match self.top.directory(RHYTHM).and_then(|top| top.directory(exchange.as_str())) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).attempt("open", || format!("{RHYTHM}/{exchange}")),
        };
        match read_own_json(&folder, END) {
            Err(error) if error.is_not_found() => Ok(None),
            other => other,
        }
    }

    /// The agreement is in force, or has no end: what was noticed of one is forgotten.
    pub fn forget_end(&self, exchange: &Slug) -> Result<(), SpoolError> {
        if self.end_noticed(exchange)?.is_none() {
            return Ok(());
        }
        let folder = self.rhythm_of(exchange)?;
        folder
            .remove_if_there(END)
            .and_then(|()| folder.sync())
            .attempt("remove", || format!("{RHYTHM}/{exchange}/{END}"))
    }
}

fn read_secret(folder: &Directory) -> Result<Option<Vec<u8>>, SpoolError> {
    let file = match folder.file(SECRET) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).attempt("open", || SECRET.to_owned()),
    };
    let mut secret = Vec::new();
    file.take(SECRET_MAX).read_to_end(&mut secret).attempt("read", || SECRET.to_owned())?;
    Ok(Some(secret))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const DAY: Date = date(2026, 11, 22);

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &[]).unwrap();
        (folder, spool)
    }

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    #[test]
    fn a_secret_is_made_once_and_destroyed_after_its_record() {
        let (_folder, spool) = spool();
        let secret = |bytes: &[u8]| {
            spool.rhythm_secret::<SpoolError>(&slug("pillar-3"), || Ok(bytes.to_vec())).unwrap()
        };
        assert_eq!((secret(b"one"), secret(b"other")), (b"one".to_vec(), b"one".to_vec()));
        let destroy = |may| spool.destroy_rhythm_secret(&slug("pillar-3"), |_, _, _| may).unwrap();
        assert!(!destroy(false) && secret(b"x") == b"one", "no record, no destruction");
        assert!(destroy(true) && !destroy(true));
    }

    #[test]
    fn the_end_of_an_agreement_is_noticed_once_and_another_end_anew() {
        let (_folder, spool) = spool();
        let at = |until, at: &str| Noticed { until, at: at.parse().unwrap() };
        let first = at(DAY, "2026-11-23T00:00:00Z");
        let exchange = slug("pillar-3");
        assert_eq!(spool.notice_end(&exchange, first).unwrap(), first);
        assert_eq!(spool.notice_end(&exchange, at(DAY, "2026-12-01T00:00:00Z")).unwrap(), first);
        let other = at(date(2026, 11, 1), "2026-12-01T00:00:00Z");
        assert_eq!(spool.notice_end(&exchange, other).unwrap(), other);
        spool.forget_end(&exchange).unwrap();
        assert_eq!(spool.end_noticed(&exchange).unwrap(), None);
    }
}
