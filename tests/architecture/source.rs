//! What a source file names: the paths in it, `use` trees spelled out, `self` and `super` resolved, outside comments,
//! strings and test modules. What it may name is the rules' question.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of the program.
pub struct Source {
    /// Relative to `daemon/`.
    pub name: String,
    /// The whole file.
    pub text: String,
}

/// A path that the source names, `self` and `super` resolved, with its line.
#[derive(Debug, PartialEq)]
pub struct Named {
    /// Counted from 1.
    pub line: usize,
    /// `crate::policy::path`.
    pub text: String,
}

impl Named {
    /// Whether `wanted` occurs in the path, segment by segment. A crate's name counts only at its beginning.
    pub fn names(&self, wanted: &str) -> bool {
        if !wanted.contains("::") && wanted.starts_with(char::is_lowercase) {
            return self.text == wanted || self.text.starts_with(&format!("{wanted}::"));
        }
        format!("::{}::", self.text).contains(&format!("::{wanted}::"))
    }
}

impl Source {
    /// One line for each path that is a breach.
    pub fn breaches(&self, breach: impl Fn(&Named) -> bool, why: &str) -> Vec<String> {
        let named = self.named();
        let found = named.iter().filter(|path| breach(path));
        found.map(|path| format!("daemon/{}:{}: names {}; {why}", self.name, path.line, path.text)).collect()
    }

    /// Every path outside comments, strings and test modules.
    fn named(&self) -> Vec<Named> {
        let code = without_test_modules(&blank_comments_and_strings(&self.text));
        let mut reader =
            Reader { rest: code.chars().collect(), at: 0, line: 1, after_use: false, found: Vec::new() };
        reader.read_all();
        let home = self.module();
        reader.found.into_iter().map(|(line, path)| Named { line, text: resolve(&home, &path) }).collect()
    }

    /// The file's own module as path segments: `["crate", "serve", "sftp"]`.
    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs").trim_end_matches("/mod");
        let root = matches!(path, "lib" | "main" | "mod");
        let below = path.split('/').filter(|_| !root);
        std::iter::once("crate").chain(below).map(String::from).collect()
    }
}

/// Spells out a path from the crate's root where it begins with `self` or `super`.
fn resolve(home: &[String], path: &[String]) -> String {
    let mut base = home.to_vec();
    let mut rest = path;
    let relative = path.first().is_some_and(|first| first == "self" || first == "super");
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = after;
    }
    if !relative {
        base.clear();
    }
    base.extend(rest.iter().filter(|segment| *segment != "self").cloned());
    base.join("::")
}

/// Finds paths in code and follows the braces of `use` trees.
struct Reader {
    rest: Vec<char>,
    at: usize,
    line: usize,
    after_use: bool,
    found: Vec<(usize, Vec<String>)>,
}

impl Reader {
    fn read_all(&mut self) {
        while let Some(next) = self.peek() {
            if begins_word(next) { self.read_path(&[]) } else { self.step() }
        }
    }

    /// Reads `a::b::c`, and for `a::{b, c::d}` each branch with what stands before it.
    fn read_path(&mut self, before: &[String]) {
        let line = self.line;
        let mut path = before.to_vec();
        loop {
            path.push(self.read_word());
            if !self.skip_colons() {
                break;
            }
            match self.peek() {
                Some('{') => return self.read_tree(&path),
                Some(next) if begins_word(next) => {}
                _ => break,
            }
        }
        // A lone word is a local name, except in `use tokio;`.
        if path.len() > 1 || self.after_use {
            self.found.push((line, path.clone()));
        }
        self.after_use = path == ["use"];
    }

    fn read_tree(&mut self, before: &[String]) {
        self.step();
        while let Some(next) = self.peek() {
            match next {
                '}' => return self.step(),
                next if begins_word(next) => self.read_path(before),
                _ => self.step(),
            }
        }
    }

    fn read_word(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.peek().filter(|next| next.is_alphanumeric() || *next == '_') {
            word.push(next);
            self.step();
        }
        word
    }

    fn skip_colons(&mut self) -> bool {
        let found = self.rest.get(self.at..self.at + 2) == Some(&[':', ':']);
        if found {
            self.at += 2;
        }
        found
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek() == Some('\n'));
        self.at += 1;
    }
}

fn begins_word(next: char) -> bool {
    next.is_alphabetic() || next == '_'
}

/// The text with comments, strings and character literals blanked; every line keeps its number.
fn blank_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length =
            length_of_comment(rest).or_else(|| length_of_string(rest)).or_else(|| length_of_char(rest));
        let taken = length.unwrap_or(next.len_utf8());
        let (piece, after) = rest.split_at(taken);
        match length {
            Some(_) => code.extend(piece.chars().map(|blanked| if blanked == '\n' { '\n' } else { ' ' })),
            None => code.push(next),
        }
        rest = after;
    }
    code
}

fn length_of_comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

fn length_of_string(text: &str) -> Option<usize> {
    let raw = text
        .strip_prefix('r')
        .map(|after| after.trim_start_matches('#'))
        .filter(|after| after.starts_with('"'));
    if let Some(inside) = raw {
        let opening = text.len() - inside.len();
        let closing = format!("\"{}", "#".repeat(opening - 1));
        let end = inside.split_at(1).1.find(&closing).map(|end| opening + 1 + end + closing.len());
        return Some(end.unwrap_or(text.len()));
    }
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|next| {
        let closes = next == '"' && !escaped;
        escaped = next == '\\' && !escaped;
        closes
    });
    Some(end.map_or(text.len(), |end| end + 2))
}

/// `'a'` and `'\n'`, but not the lifetime `'a`.
fn length_of_char(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let from = if first == '\\' { 2 } else { first.len_utf8() };
    let end = inside.get(from..)?.find('\'')?;
    let short = if first == '\\' { end < 9 } else { end == 0 };
    short.then_some(1 + from + end + 1)
}

/// Blanks `#[cfg(test)] mod … { … }` at the top level, as rustfmt sets it: it ends with a brace in the first column.
fn without_test_modules(code: &str) -> String {
    let lines = code.lines().collect::<Vec<_>>();
    let mut inside = false;
    let mut kept = String::new();
    for (number, line) in lines.iter().enumerate() {
        let opens = |next: &&&str| next.starts_with("mod ") && next.ends_with('{');
        inside |= line.starts_with("#[cfg(test)]") && lines.get(number + 1).as_ref().is_some_and(opens);
        if !inside {
            kept.push_str(line);
        }
        kept.push('\n');
        inside &= !line.starts_with('}');
    }
    kept
}

/// The top of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the program, without those that hold nothing but tests.
pub fn sources() -> io::Result<Vec<Source>> {
    let daemon = root().join("daemon");
    let mut found = Vec::new();
    let mut folders = vec![daemon.clone()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&folder)? {
            let path = folder.join(name);
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&daemon, &path)?);
            }
        }
    }
    found.retain(|source| !source.name.ends_with("/tests.rs") && !source.name.contains("/tests/"));
    Ok(found)
}

fn read(daemon: &Path, path: &Path) -> io::Result<Source> {
    let name = path.strip_prefix(daemon).map_err(io::Error::other)?;
    Ok(Source { name: name.to_string_lossy().into_owned(), text: fs::read_to_string(path)? })
}

/// What lies in a folder, sorted.
pub fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
