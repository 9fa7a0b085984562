//! The open files and folders of one SFTP session. A handle is a number that this session gave out; numbers of other
//! sessions mean nothing here.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Weak};

use super::download::Sent;
use super::upload::Upload;
use crate::host::spool::FileFacts;
use crate::policy::path::{Name, RemotePath, Slug};

/// What a handle stands for.
#[derive(Debug)]
pub enum Open {
    /// A file being written.
    Upload(Box<Upload>),
    /// A file being read.
    Download(Download),
    /// A folder being listed.
    Listing(std::vec::IntoIter<Entry>),
}

/// What a listing says of one thing. How that looks to a client is made when it asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder, by its name.
    Folder(String),
    /// A file.
    File(FileFacts),
}

/// A file being read. The task that reads files shares it.
#[derive(Debug)]
pub struct Download {
    /// The open file.
    pub file: Arc<File>,
    /// Its path in the tree.
    pub path: RemotePath,
    /// Its exchange.
    pub exchange: Slug,
    /// Size and time when it was opened.
    pub facts: FileFacts,
    /// Bytes sent so far, and which.
    pub sent: Arc<Sent>,
}

/// All of a session.
#[derive(Debug)]
pub struct Handles {
    open: HashMap<u32, Open>,
    /// Files whose handle is closed while reads of them may still wait, which keeps them open.
    lingering: Vec<Weak<File>>,
    next: u32,
    limit: usize,
}

impl Handles {
    /// At most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self { open: HashMap::new(), lingering: Vec::new(), next: 0, limit }
    }

    /// Whether another one would be too many.
    pub fn are_full(&mut self) -> bool {
        self.lingering.retain(|file| file.strong_count() > 0);
        self.open.len() + self.lingering.len() >= self.limit
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The new handle's text.
    pub fn insert(&mut self, open: Open) -> String {
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.open.insert(number, open);
        self.next = self.next.wrapping_add(1);
        format!("{number:08x}")
    }

    /// What a handle stands for.
    pub fn find(&mut self, handle: &[u8]) -> Option<&mut Open> {
        self.open.get_mut(&number_of(handle)?)
    }

    /// Closes it.
    pub fn remove(&mut self, handle: &[u8]) -> Option<Open> {
        let closed = self.open.remove(&number_of(handle)?)?;
        if let Open::Download(download) = &closed {
            self.lingering.push(Arc::downgrade(&download.file));
        }
        Some(closed)
    }

    /// All that is open.
    pub fn all(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Entries of the open listings that wait to be asked for.
    pub fn entries_left(&self) -> usize {
        let left = |open: &Open| if let Open::Listing(entries) = open { entries.len() } else { 0 };
        self.open.values().map(left).sum()
    }

    /// The open upload of this name.
    pub fn upload(&self, exchange: &Slug, name: &Name) -> Option<&Upload> {
        self.uploads().find(|upload| &upload.exchange == exchange && &upload.name == name)
    }

    /// The same, to change it.
    pub fn upload_mut(&mut self, exchange: &Slug, name: &Name) -> Option<&mut Upload> {
        self.open
            .values_mut()
            .filter_map(|open| if let Open::Upload(upload) = open { Some(&mut **upload) } else { None })
            .find(|upload| &upload.exchange == exchange && &upload.name == name)
    }

    /// How many files are open for writing, and for reading.
    pub fn files(&self) -> (usize, usize) {
        self.open.values().fold((0, 0), |(up, down), open| match open {
            Open::Upload(_) => (up + 1, down),
            Open::Download(_) => (up, down + 1),
            Open::Listing(_) => (up, down),
        })
    }

    /// The uploads that are open.
    pub fn uploads(&self) -> impl Iterator<Item = &Upload> {
        self.open
            .values()
            .filter_map(|open| if let Open::Upload(upload) = open { Some(&**upload) } else { None })
    }
}

/// Exactly as we gave it out: eight lower-case hexadecimal digits.
fn number_of(handle: &[u8]) -> Option<u32> {
    let is_ours = handle.len() == 8 && handle.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let text = std::str::from_utf8(handle).ok().filter(|_| is_ours)?;
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_handles_that_were_given_out_mean_anything() {
        let mut handles = Handles::new(2);
        let first = handles.insert(Open::Listing(Vec::new().into_iter()));
        assert!(handles.find(first.as_bytes()).is_some());
        for wrong in ["", "0", "00000001", "+0000000", "0000000000000000", "0000000g", "\u{0}\u{0}\u{0}\u{0}"]
        {
            assert!(handles.find(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        assert!(!handles.are_full());
        handles.insert(Open::Listing(Vec::new().into_iter()));
        assert!(handles.are_full());
        assert!(handles.remove(first.as_bytes()).is_some());
        assert!(handles.remove(first.as_bytes()).is_none());
    }
}
