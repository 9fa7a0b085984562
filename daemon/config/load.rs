//! Reads a configuration folder and hands its documents to `check`. What it refuses before anything is understood: files
//! that strangers can write, files and folders beyond a bound, repeated values by alias. No secret is opened here: `serve`
//! must be able to load a zone whose identities it cannot read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::check::{self, Documents};
use super::error::{Cause, ConfigError, Findings, Key, Note, short};
use super::locate::locate;
use super::{Config, raw};
use crate::host::files::{FileError, Folder, host_name};
use crate::policy::digest::sha256;
use crate::policy::path::Slug;

/// Largest configuration file, in bytes.
pub const FILE_LIMIT: u64 = 1 << 20;
/// Most files in `institutions/` and in `exchanges/`.
pub const FILES_LIMIT: usize = 1_000;
/// Deepest nesting of brackets in one document. The longest legitimate one is four; the parser's time grows with its square.
const DEPTH_LIMIT: usize = 64;

const MAIN: &str = "dropzone.yaml";

/// A checked zone, and what its operator should know besides.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The zone.
    pub config: Config,
    /// Harmless oddities.
    pub notes: Vec<Note>,
}

impl Loaded {
    /// An error about a key of `dropzone.yaml`, with its line, found by somebody who looked further than `load` does.
    pub fn error_in_main(
        &self,
        key: &Key,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let place = locate(&self.config.main, key);
        ConfigError {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            ..ConfigError::about(MAIN, key, problem, remedy)
        }
    }
}

/// A parsed file and its place.
#[derive(Debug)]
pub struct Document<T> {
    /// Relative to the configuration folder.
    pub file: String,
    /// The file's name without `.yaml`.
    pub stem: Slug,
    /// The content; none if it could not be understood, which has been found already.
    pub raw: Option<T>,
}

/// Reads and checks a zone. The error holds all that is wrong.
pub fn load(directory: &Path) -> Result<Config, Vec<ConfigError>> {
    load_with_notes(directory).map(|loaded| loaded.config)
}

/// As `load`, with the notes.
pub fn load_with_notes(directory: &Path) -> Result<Loaded, Vec<ConfigError>> {
    load_all(directory, |folder| folder.read(MAIN.as_ref(), FILE_LIMIT))
}

/// As `load`, with this text in the place of `dropzone.yaml`.
pub fn load_beside(directory: &Path, main: &str) -> Result<Config, Vec<ConfigError>> {
    load_all(directory, |_| Ok(main.as_bytes().to_vec())).map(|loaded| loaded.config)
}

fn load_all(
    directory: &Path,
    main: impl FnOnce(&Folder) -> Result<Vec<u8>, FileError>,
) -> Result<Loaded, Vec<ConfigError>> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let folder = Folder::open(&directory)
        .map_err(|error| vec![ConfigError::of_file(directory.display().to_string(), &error)])?;
    let mut reader = Reader { directory, texts: BTreeMap::new(), findings: Findings::default() };
    let documents = Documents {
        machine: reader.parse::<raw::Machine>(MAIN, main(&folder)),
        institutions: reader.documents::<raw::Institution>(&folder, "institutions"),
        exchanges: reader.documents::<raw::Exchange>(&folder, "exchanges"),
    };
    reader.finish(&documents)
}

/// Checks a zone of one institution and one exchange whose files are given: what a fuzzer needs, without files of its own.
pub fn check_texts(
    directory: &Path,
    machine: &[u8],
    institution: (&Slug, &[u8]),
    exchange: (&Slug, &[u8]),
) -> Result<Loaded, Vec<ConfigError>> {
    let directory = directory.to_owned();
    let mut reader = Reader { directory, texts: BTreeMap::new(), findings: Findings::default() };
    let documents = Documents {
        machine: reader.parse(MAIN, Ok(machine.to_vec())),
        institutions: Some(vec![reader.read("institutions", institution.0, Ok(institution.1.to_vec()))]),
        exchanges: Some(vec![reader.read("exchanges", exchange.0, Ok(exchange.1.to_vec()))]),
    };
    reader.finish(&documents)
}

struct Reader {
    directory: PathBuf,
    texts: BTreeMap<String, String>,
    findings: Findings,
}

impl Reader {
    fn finish(mut self, documents: &Documents) -> Result<Loaded, Vec<ConfigError>> {
        let config = check::zone(&self.directory, &host_name(), documents, &mut self.findings);
        let mut texts = self.texts;
        let notes = self.findings.finish(|file, key| locate(texts.get(file)?, key))?;
        match config {
            Some(config) => {
                let files =
                    texts.iter().map(|(file, text)| (file.clone(), sha256(text.as_bytes()))).collect();
                let main = texts.remove(MAIN).unwrap_or_default();
                Ok(Loaded { config: Config { files, main, ..config }, notes })
            }
            // Every refusal has been found above; this is for the day one forgets to say so.
            None => Err(vec![ConfigError::about(
                self.directory.display().to_string(),
                &Key::root(),
                "the configuration is not complete",
                "compare it with a zone that `dropzone init` makes",
            )]),
        }
    }

    fn documents<T: DeserializeOwned>(&mut self, zone: &Folder, name: &str) -> Option<Vec<Document<T>>> {
        let listed = zone.open_inside(name).and_then(|folder| {
            let names = folder.names(FILES_LIMIT)?;
            Ok((folder, names))
        });
        let (folder, names) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.findings.placed(ConfigError::of_file(name, &error));
                return None;
            }
        };
        let mut documents = Vec::new();
        for entry in names {
            let shown = format!("{name}/{}", entry.to_string_lossy());
            if entry.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let Some(stem) = entry.to_str().and_then(|text| text.strip_suffix(".yaml")) else {
                self.findings.note(&shown, "is ignored: its name does not end in .yaml");
                continue;
            };
            match Slug::parse(stem) {
                Ok(stem) => documents.push(self.read(name, &stem, folder.read(&entry, FILE_LIMIT))),
                Err(problem) => {
                    let remedy = "rename the file, and the name inside it";
                    self.findings.wrong(&short(&shown), &Key::root(), problem, remedy);
                }
            }
        }
        Some(documents)
    }

    fn read<T: DeserializeOwned>(
        &mut self,
        folder: &str,
        stem: &Slug,
        content: Result<Vec<u8>, FileError>,
    ) -> Document<T> {
        let file = format!("{folder}/{stem}.yaml");
        let raw = self.parse(&file, content);
        Document { file, stem: stem.clone(), raw }
    }

    fn parse<T: DeserializeOwned>(&mut self, file: &str, content: Result<Vec<u8>, FileError>) -> Option<T> {
        let parsed = match content {
            Err(error) => Err(Box::new(ConfigError::of_file(file, &error))),
            Ok(content) => understand(file, content).and_then(|text| {
                let parsed = parse_yaml(file, &text);
                self.texts.insert(file.to_owned(), text);
                parsed
            }),
        };
        parsed.map_err(|error| self.findings.placed(*error)).ok()
    }
}

/// Text that the YAML parser may see.
fn understand(file: &str, content: Vec<u8>) -> Result<String, Box<ConfigError>> {
    let about = |line: Option<usize>, problem: &str, remedy: &str| {
        Box::new(ConfigError { line, ..ConfigError::about(file, &Key::root(), problem, remedy) })
    };
    let line_at = |content: &[u8], at: usize| 1 + content.iter().take(at).filter(|b| **b == b'\n').count();
    let text = String::from_utf8(content).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        about(Some(line_at(error.as_bytes(), at)), "is not UTF-8 text", "save the file as UTF-8")
    })?;
    if let Some((at, name)) = repeated_by_alias(&text) {
        let problem = format!("repeats a value by alias (&{name} and *{name})");
        let line = Some(line_at(text.as_bytes(), at));
        return Err(about(line, &problem, "write the value out; in SQL, put a space after & and *"));
    }
    if let Some(at) = too_deep(&text) {
        let line = Some(line_at(text.as_bytes(), at));
        return Err(about(line, "is nested too deeply", "close the brackets, or write fewer of them"));
    }
    Ok(text)
}

/// An alias needs an anchor of its name, whatever else the document holds, so a text without such a pair has none. That
/// needs no idea of quotes and blocks, and a pair that is no alias (`a &b` with `c *b` in SQL) is rare and easy to avoid.
fn repeated_by_alias(text: &str) -> Option<(usize, &str)> {
    let anchors: std::collections::BTreeSet<&str> = marked(text, '&').map(|(_, name)| name).collect();
    if anchors.is_empty() {
        return None;
    }
    marked(text, '*').find(|(_, name)| anchors.contains(name))
}

/// The names that follow a mark, and where.
fn marked(text: &str, mark: char) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices(mark).filter_map(move |(at, _)| {
        let rest = text.get(at.saturating_add(1)..)?;
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        let name = rest.get(..end)?;
        (!name.is_empty()).then_some((at, name))
    })
}

/// Where brackets are open beyond the limit, or a line opens more block levels than that. Brackets in texts and comments
/// count too: they come in pairs, or are few.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut start = 0_usize;
    for line in text.split_inclusive('\n') {
        let levels = line.split_whitespace().take_while(|word| matches!(*word, "-" | "?" | ":")).count();
        if levels > DEPTH_LIMIT {
            return Some(start);
        }
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEPTH_LIMIT {
                return Some(start);
            }
        }
        start += line.len();
    }
    None
}

fn parse_yaml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Box<ConfigError>> {
    serde_yaml::from_str(text).map_err(|error| {
        let location = error.location();
        let shown = error.to_string();
        // The place is told apart from the wording.
        let wording = match shown.rfind(" at line ") {
            Some(at) if location.is_some() => shown.get(..at).unwrap_or(&shown),
            _ => &shown,
        };
        let (key, problem) = match wording.split_once(": ") {
            Some((key, problem)) if is_key(key) => (Some(key), problem),
            _ => (None, wording),
        };
        Box::new(ConfigError {
            line: location.as_ref().map(serde_yaml::Location::line),
            column: location.as_ref().map(serde_yaml::Location::column),
            key: key.map(str::to_owned),
            ..ConfigError::about(file, &Key::root(), problem, remedy_for(problem))
        })
    })
}

/// Whether this is the parser's way of naming a place, and not the beginning of a sentence.
fn is_key(text: &str) -> bool {
    !text.contains(' ') && text.len() <= 200
}

fn remedy_for(problem: &str) -> &'static str {
    let known = [
        ("unknown field", "correct the key, or remove it"),
        ("unknown variant", "write one of the values that are expected"),
        ("missing field", "add the key"),
        ("duplicate", "keep one of them"),
        ("invalid type", "write the kind of value that is expected; text with special characters in quotes"),
        ("unknown job", "write `job: relay`, or `job: {query: …}`"),
        ("EOF while parsing", "the file is empty: fill it in, or remove it"),
        ("more than one document", "one document a file: remove the `---` in the middle"),
        ("recursion limit", "nest less deeply"),
    ];
    let found = known.iter().find(|(beginning, _)| problem.contains(beginning));
    found.map_or("correct the YAML at this place: indentation, quotes, brackets", |(_, remedy)| remedy)
}

/// So that callers can tell an absent folder from a wrong one.
pub fn worst(errors: &[ConfigError]) -> Option<Cause> {
    let has = |cause| errors.iter().any(|error| error.cause == cause);
    [Cause::Wrong, Cause::Unreadable, Cause::Absent].into_iter().find(|cause| has(*cause))
}
