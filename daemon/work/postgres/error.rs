//! What a PostgreSQL server said when it did not do what it was asked, for the operator: what, where, what to do next. And
//! whether another try may help: where the server, the way to it or another's work is at fault, it may; the SQL and what it
//! names do not mend themselves.
//!
//! A server's message can quote the value that it could not use. So of what it says while the list is there, only the
//! messages are repeated that cannot.

use std::time::{Duration, Instant};

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_rustls::rustls;

use super::super::query::QueryError;
use crate::config::Postgres;
use crate::policy::job::Failure;
use crate::policy::path::Slug;
use crate::policy::reason::Reason;

/// Why a query on a PostgreSQL server came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} database {}: {}; {}", .0.attempted, .0.database, .0.what, .0.remedy)]
pub struct PostgresError(Box<Failed>);

/// Boxed, because every function of a job may give it and few do.
#[derive(Debug)]
struct Failed {
    attempted: &'static str,
    /// Its name in the configuration, and where it is.
    database: String,
    what: String,
    remedy: String,
    failure: Failure,
}

impl PostgresError {
    /// Whether another try may help.
    pub fn failure(&self) -> Failure {
        self.0.failure.clone()
    }
}

/// Which server errors speak of.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Its name in `dropzone.yaml`.
    pub database: &'a Slug,
    /// What is said there.
    pub server: &'a Postgres,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To begin the transaction.
    Begin,
    /// To take the list.
    Load,
    /// To look at the query.
    Prepare,
    /// To run it.
    Run,
}

/// A step that is being taken.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    told: Told<'a>,
    step: Step,
    since: Instant,
    sql: &'a str,
}

impl<'a> Told<'a> {
    /// Begins a step now.
    pub fn attempt(self, step: Step) -> Attempt<'a> {
        Attempt { told: self, step, since: Instant::now(), sql: "" }
    }

    /// There is no connection. That passes, or an operator mends it, and the lists that wait go on by themselves.
    pub fn unreachable(self, what: impl Into<String>, remedy: impl Into<String>) -> PostgresError {
        self.error("connect to", what.into(), remedy.into(), Failure::Passing)
    }

    /// The same, by what the library says. Nothing of a list is there yet.
    pub fn not_connected(self, error: &Error) -> PostgresError {
        let remedy = match error.as_db_error() {
            Some(error) if error.code().code().starts_with("28") => {
                "see `user` and the file that `password` names, and the server's pg_hba.conf"
            }
            Some(error) if error.code().code() == "3D000" => "see `database`",
            Some(_) => "it is tried again",
            None if is_certificate(error) => {
                "the server must show a certificate for the very name in `host`, under an authority in the file that `ca` names"
            }
            None => {
                "see that the server runs, takes TLS if `tls` asks for it, and can be reached from here (under systemd: IPAddressAllow=)"
            }
        };
        self.unreachable(chain(error), remedy)
    }

    /// The list cannot be a table there.
    pub fn not_loadable(self, what: String, remedy: &str, reason: Reason) -> PostgresError {
        self.error("make the table arrival in", what, remedy.to_owned(), Failure::Lasting(reason))
    }

    fn error(self, attempted: &'static str, what: String, remedy: String, failure: Failure) -> PostgresError {
        let Postgres { host, port, database, .. } = self.server;
        let database = format!("{} ({database} on {host}, port {port})", self.database);
        PostgresError(Box::new(Failed { attempted, database, what, remedy, failure }))
    }
}

impl<'a> Attempt<'a> {
    /// The SQL that errors may point into.
    pub fn of(self, sql: &'a str) -> Self {
        Self { sql, ..self }
    }

    /// What became of it, by what the library says.
    pub fn failed(self, error: &Error) -> QueryError {
        let Some(said) = error.as_db_error() else {
            let remedy = "it is tried again; see the server's own log".to_owned();
            return self.error(chain(error), remedy, Failure::Passing).into();
        };
        let code = said.code().code();
        let limit = self.told.server.statement_timeout;
        if code == "57014" && self.since.elapsed() >= limit {
            return self.too_long(limit).into();
        }
        let failure =
            if self.may_pass(code) { Failure::Passing } else { Failure::Lasting(Reason::JobFailed) };
        self.error(self.words(said), self.remedy(code).to_owned(), failure).into()
    }

    fn too_long(self, limit: Duration) -> PostgresError {
        let limit = humantime::format_duration(limit);
        let what = format!("it took longer than {limit}, the database's statement-timeout");
        let remedy =
            "look at the query and its plan, raise statement-timeout, or have the list sent in parts";
        self.error(what, remedy.to_owned(), Failure::Lasting(Reason::JobTooLong))
    }

    fn error(self, what: String, remedy: String, failure: Failure) -> PostgresError {
        let attempted = match self.step {
            Step::Begin => "begin the transaction in",
            Step::Load => "load the list into the table arrival of",
            Step::Prepare => "prepare the query for",
            Step::Run => "run the query in",
        };
        self.told.error(attempted, what, remedy, failure)
    }

    /// By SQLSTATE (PostgreSQL manual, appendix A): the connection, others' transactions, locks, room, an operator of the
    /// server, its disk. At the beginning also a server that is a standby, because a fail-over ends.
    fn may_pass(self, code: &str) -> bool {
        let by_class = ["08", "40", "53", "57", "58", "72"].contains(&code.get(..2).unwrap_or_default());
        let is_standby = self.step == Step::Begin && matches!(code, "25006" | "0A000");
        // 53400: a limit in the server's own configuration.
        (by_class && code != "53400") || matches!(code, "55P03" | "55006" | "25P03" | "25P04") || is_standby
    }

    fn words(self, said: &DbError) -> String {
        let code = said.code().code();
        let is_harmless = match self.step {
            Step::Begin | Step::Prepare => true,
            Step::Load | Step::Run => {
                matches!(code.get(..2), Some("08" | "25" | "53" | "55" | "57" | "58"))
                    || matches!(code, "42501" | "42P01")
            }
        };
        if !is_harmless {
            return format!(
                "SQLSTATE {code}; what the server says to it may hold a value of the list and stands in its own log"
            );
        }
        let place = match said.position() {
            Some(ErrorPosition::Original(position)) if !self.sql.is_empty() => {
                let before = usize::try_from(*position).unwrap_or(usize::MAX).saturating_sub(1);
                let line = self.sql.chars().take(before).filter(|c| *c == '\n').count() + 1;
                format!(", line {line} of the SQL")
            }
            _ => String::new(),
        };
        let hint = said.hint().filter(|_| self.step == Step::Prepare).map(|hint| format!(" ({hint})"));
        format!("{} (SQLSTATE {code}{place}){}", said.message(), hint.unwrap_or_default())
    }

    fn remedy(self, code: &str) -> &'static str {
        match code {
            _ if self.may_pass(code) => "it is tried again; see the server's own log if it goes on",
            "42501" if self.step == Step::Begin => {
                "let the role make temporary tables: GRANT TEMPORARY ON DATABASE … TO …"
            }
            "42501" => {
                "let the role read what the query names: GRANT USAGE ON SCHEMA … TO …; GRANT SELECT ON … TO …"
            }
            "42P01" | "3F000" => {
                "correct `sql` of the flow or make the table; names without a schema are looked for in register and public"
            }
            "42883" | "42804" | "42846" => {
                "correct `sql` of the flow; the list's columns are text, so compare with text, as in j.insz::text"
            }
            "25006" => "a query of a flow only reads; correct its `sql`",
            _ if code.starts_with("22") => {
                "a value could not be converted: convert the register's column to text, not the list's to a number or date"
            }
            _ => "correct `sql` of the flow, or see the server's own log",
        }
    }
}

impl From<PostgresError> for QueryError {
    fn from(error: PostgresError) -> Self {
        Self::Postgres(error)
    }
}

/// An error with its causes, each said once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    // No library makes chains as long as this.
    for _ in 0..8 {
        let Some(next) = cause else { break };
        let text = next.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = next.source();
    }
    told
}

/// Whether the server did not prove who it is.
fn is_certificate(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let cause = cause.and_then(std::io::Error::get_ref).and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}
