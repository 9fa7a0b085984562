//! What is wrong with a configuration: where, why, and what to do about it. Nothing stops at the first: an operator sees all
//! that is wrong at once, up to a bound.

use std::fmt;

use serde::Serialize;

use crate::host::files::FileError;

/// Errors that are kept; what comes after is only counted.
const ERRORS_MAX: usize = 100;
/// Longest wording, in characters; what an operator wrote may be part of it.
const WORDING_MAX: usize = 400;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigError {
    /// The file, relative to the configuration folder where it lies in it.
    pub file: String,
    /// Its line, from 1.
    pub line: Option<usize>,
    /// Its column, from 1.
    pub column: Option<usize>,
    /// The key, as in `flows[0].to`.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// What kind of failure it is.
    pub cause: Cause,
}

/// What kind of failure an error is; the exit code follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Something is not there.
    Absent,
    /// The machine would not read it.
    Unreadable,
    /// It is there, and it is wrong.
    Wrong,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}. Remedy: {}.", self.problem, self.remedy)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// An error about a whole file or folder.
    pub fn of_file(file: impl Into<String>, error: &FileError) -> Self {
        let cause = match error {
            FileError::Io { .. } if error.is_absent() => Cause::Absent,
            FileError::Io { .. } => Cause::Unreadable,
            _ => Cause::Wrong,
        };
        Self { cause, ..Self::about(file, &Key::root(), error.to_string(), error.remedy()) }
    }

    /// An error about a key; its line is found later.
    pub fn about(
        file: impl Into<String>,
        key: &Key,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            line: None,
            column: None,
            key: (!key.0.is_empty()).then(|| key.to_string()),
            problem: short(&problem.into()),
            remedy: short(&remedy.into()),
            cause: Cause::Wrong,
        }
    }
}

/// Something an operator should know that harms nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The file or folder it is about.
    pub file: String,
    /// What.
    pub text: String,
}

/// Where a value stands in a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Key(Vec<Step>);

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A mapping's key.
    Name(String),
    /// A list's item.
    Item(usize),
}

impl Key {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A key of this mapping.
    pub fn at(&self, name: &str) -> Self {
        self.with(Step::Name(name.to_owned()))
    }

    /// An item of this list.
    pub fn item(&self, index: usize) -> Self {
        self.with(Step::Item(index))
    }

    /// The steps from the document's root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if index == 0 => f.write_str(&short(name))?,
                Step::Name(name) => write!(f, ".{}", short(name))?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Findings {
    errors: Vec<(ConfigError, Key)>,
    surplus: usize,
    notes: Vec<Note>,
}

impl Findings {
    /// Keeps an error about a key.
    pub fn wrong(&mut self, file: &str, key: &Key, problem: impl Into<String>, remedy: impl Into<String>) {
        self.push(ConfigError::about(file, key, problem, remedy), key);
    }

    /// Keeps an error that knows its place already.
    pub fn placed(&mut self, error: ConfigError) {
        self.push(error, &Key::root());
    }

    /// Keeps a note.
    pub fn note(&mut self, file: &str, text: impl Into<String>) {
        if self.notes.len() < ERRORS_MAX {
            self.notes.push(Note { file: short(file), text: short(&text.into()) });
        }
    }

    /// The notes, or all errors in the order of their files, each with the line that `line_of` finds for it.
    pub fn finish(
        self,
        line_of: impl Fn(&str, &Key) -> Option<(usize, usize)>,
    ) -> Result<Vec<Note>, Vec<ConfigError>> {
        if self.errors.is_empty() {
            return Ok(self.notes);
        }
        let mut errors: Vec<ConfigError> = self
            .errors
            .into_iter()
            .map(|(mut error, key)| {
                if error.line.is_none()
                    && !key.steps().is_empty()
                    && let Some((line, column)) = line_of(&error.file, &key)
                {
                    error.line = Some(line);
                    error.column = Some(column);
                }
                error
            })
            .collect();
        errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        if self.surplus > 0 {
            let problem = format!("{} more errors are not shown", self.surplus);
            errors.push(ConfigError::about("…", &Key::root(), problem, "correct these first"));
        }
        Err(errors)
    }

    fn push(&mut self, error: ConfigError, key: &Key) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push((error, key.clone()));
        } else {
            self.surplus += 1;
        }
    }
}

/// Bounded, on one line, and without anything that would drive a terminal.
pub(super) fn short(text: &str) -> String {
    let mut out: String =
        text.chars().take(WORDING_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(WORDING_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_line_key_problem_and_remedy() {
        let mut findings = Findings::default();
        let key = Key::root().at("flows").item(0).at("to");
        findings.wrong("exchanges/pillar-3.yaml", &key, "unknown institution \"atlsa\"", "correct it");
        let errors = findings.finish(|_, _| Some((14, 5))).unwrap_err();
        assert_eq!(
            errors.first().unwrap().to_string(),
            "exchanges/pillar-3.yaml:14: flows[0].to: unknown institution \"atlsa\". Remedy: correct it."
        );
    }

    #[test]
    fn errors_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        for _ in 0..ERRORS_MAX + 7 {
            findings.wrong("f", &Key::root(), "x".repeat(10_000), "y");
        }
        let errors = findings.finish(|_, _| None).unwrap_err();
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        assert!(errors.last().unwrap().problem.starts_with("7 more"));
        assert!(errors.first().unwrap().problem.len() < 1000);
    }
}
