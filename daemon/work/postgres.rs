//! A job's query on a PostgreSQL server: the list becomes the temporary table `arrival` of one transaction, which from then on
//! reads and does nothing else, and the rows of one SELECT go out as CSV. `session` reaches the server, `tls` proves that it is
//! the right one, `rows` turns rows into what the server takes and back, `error` says whether another try may help.
//!
//! The rows come as text and not by COPY: the same statement is prepared first, which refuses all but one statement, and
//! then run as it stands, so that the SQL is never put into other SQL.

mod error;
mod rows;
mod session;
mod tls;

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Column, SimpleQueryMessage};

pub use self::error::PostgresError;
use self::error::{Step, Told};
use self::rows::{Chunks, Writer};
use self::session::Session;
use super::query::{QueryError, Sink};
use super::stop::{Interrupted, Stop};
use crate::config::Postgres;
use crate::policy::agreement::Query;
use crate::policy::reason::Reason;
use crate::policy::table::{Dialect, Table};

/// Between two looks at the stop sign.
const LOOK: Duration = Duration::from_millis(100);
/// The column of `arrival` that holds the order of the list. As in SQLite, `*` does not give it.
const ROWID: &str = "rowid";
/// The server's columns that every table has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];
/// Longest name of a column, in bytes: the server cuts a longer one off without a word (NAMEDATALEN).
const NAME_MAX: usize = 63;
/// Most columns of a table are 1600; `arrival` has one of its own.
const COLUMNS_MAX: usize = 1599;

/// Whether the role could reach beyond the database, transaction or not. A superuser is a member of all roles.
const POWERS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(oid, 'MEMBER') AND rolname IN
    ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))";

/// What a list is joined with.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The query.
    pub query: &'a Query,
    /// Where it runs.
    pub server: &'a Postgres,
    /// Ends it early.
    pub stop: &'a Stop,
}

/// Runs the query on a list and writes its result, with a header line, in the list's dialect. Gives the number of rows.
pub fn join(table: &Table<'_>, source: Source<'_>, out: &mut impl Sink) -> Result<u64, QueryError> {
    let told = Told { database: &source.query.database, server: source.server };
    is_loadable(told, table.columns())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| told.unreachable(error.to_string(), "see what the machine lacks"))?;
    let joined = runtime.block_on(work(table, (told, source), out));
    // The name of a host that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    joined
}

async fn work(
    table: &Table<'_>,
    (told, source): (Told<'_>, Source<'_>),
    out: &mut impl Sink,
) -> Result<u64, QueryError> {
    let session = until_stop(source.stop, Session::open(told)).await??;
    let client = session.client();
    let sql = source.query.sql.as_str();
    let job = async {
        load(client, told, table).await?;
        let examined = examine(client, told, source.query).await?;
        run(client, told, (sql, &examined), table.dialect(), out).await
    };
    let joined = until_stop(source.stop, job).await.map_err(QueryError::from).flatten();
    session.close(joined.is_err()).await;
    joined
}

/// Waits for it as long as the job may go on.
async fn until_stop<T>(stop: &Stop, job: impl Future<Output = T>) -> Result<T, Interrupted> {
    let stopped = async {
        loop {
            if let Some(why) = stop.cause() {
                return why;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        why = stopped => Err(why),
        done = job => Ok(done),
    }
}

/// Refuses a list whose columns the server would call otherwise.
fn is_loadable(told: Told<'_>, columns: &[String]) -> Result<(), PostgresError> {
    let is_reserved = |name: &&String| name.as_str() == ROWID || SYSTEM_COLUMNS.contains(&name.as_str());
    if let Some(name) = columns.iter().find(is_reserved) {
        let what = format!("the list has a column {name:?}, a name that the table needs itself");
        return Err(told.not_loadable(what, "have it sent under another name", Reason::ColumnsNotAgreed));
    }
    if columns.len() > COLUMNS_MAX || columns.iter().any(|name| name.len() > NAME_MAX) {
        let what =
            format!("the list has more than {COLUMNS_MAX} columns, or a name of more than {NAME_MAX} bytes");
        return Err(told.not_loadable(what, "have it sent otherwise", Reason::ColumnsNotAgreed));
    }
    Ok(())
}

/// Begins the transaction, puts the list into it, and takes from it the right to change anything else.
async fn load(client: &Client, told: Told<'_>, table: &Table<'_>) -> Result<(), QueryError> {
    let attempt = told.attempt(Step::Begin);
    let powers = client.query_one(POWERS, &[]).await;
    if powers.and_then(|row| row.try_get(0)).map_err(|error| attempt.failed(&error))? {
        let what = format!("{} is a superuser, or may read or write the server's files", told.server.user);
        let remedy = "give dropzone a role of its own that may only read what the query names";
        return Err(told.unreachable(what, remedy).into());
    }
    // Not every server can look whether its client is still there (14 and later, on Linux), and none must.
    let _ = client.batch_execute("SET client_connection_check_interval = '10s'").await;
    client
        .batch_execute(&beginning(told.server, table.columns()))
        .await
        .map_err(|error| attempt.failed(&error))?;
    let attempt = told.attempt(Step::Load);
    let failed = |error| attempt.failed(&error);
    let names: Vec<String> = table.columns().iter().map(|name| quoted(name)).collect();
    let copy = format!("COPY pg_temp.arrival ({ROWID}, {}) FROM STDIN", names.join(", "));
    let sink = client.copy_in::<_, Bytes>(copy.as_str()).await.map_err(failed)?;
    let mut sink = pin!(sink);
    let mut chunks = Chunks::new(table.rows());
    while let Some(chunk) = chunks.next()? {
        // What the server has against it is told at the end.
        if sink.send(Bytes::from_owner(chunk)).await.is_err() {
            break;
        }
    }
    sink.finish().await.map_err(failed)?;
    client.batch_execute("ANALYZE pg_temp.arrival; SET TRANSACTION READ ONLY").await.map_err(failed)
}

/// The server forgets all of this at the end of the transaction.
fn beginning(server: &Postgres, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|name| format!("{} text", quoted(name))).collect();
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SET LOCAL statement_timeout = {timeout};
         SET LOCAL lock_timeout = '10s';
         SET LOCAL idle_in_transaction_session_timeout = '5min';
         SET LOCAL client_min_messages = error;
         SET LOCAL search_path = register, public;
         SET LOCAL timezone = 'Europe/Brussels';
         SET LOCAL datestyle = 'ISO, YMD';
         SET LOCAL bytea_output = 'hex';
         SET LOCAL standard_conforming_strings = on;
         SET LOCAL temp_buffers = '64MB';
         CREATE TEMPORARY TABLE pg_temp.arrival ({ROWID} bigint, {columns}) ON COMMIT DROP;",
        timeout = server.statement_timeout.as_millis(),
        columns = columns.join(", "),
    )
}

/// What is known of a query before it runs.
struct Examined {
    /// Which columns of its result go out, and their names.
    kept: Vec<usize>,
    names: Vec<String>,
}

/// Looks at a query without running it: one statement that gives rows, with the agreed columns.
async fn examine(client: &Client, told: Told<'_>, query: &Query) -> Result<Examined, QueryError> {
    let attempt = told.attempt(Step::Prepare).of(&query.sql);
    let rowid = client.query_one("SELECT 'pg_temp.arrival'::regclass::oid", &[]).await;
    let arrival: Option<u32> =
        rowid.and_then(|row| row.try_get(0)).map_err(|error| attempt.failed(&error))?;
    let statement = client
        .prepare(&query.sql)
        .await
        .map_err(|error| if is_several(&error) { QueryError::NotASelect } else { attempt.failed(&error) })?;
    let columns = statement.columns();
    if columns.is_empty() || !statement.params().is_empty() {
        return Err(QueryError::NotASelect);
    }
    // `arrival.*` is what the list has, as in SQLite; `arrival.rowid AS nr` is a column of the result.
    let is_rowid = |column: &&Column| {
        column.name() == ROWID && column.column_id() == Some(1) && column.table_oid() == arrival
    };
    let kept: Vec<(usize, &Column)> =
        columns.iter().enumerate().filter(|(_, column)| !is_rowid(column)).collect();
    if let Some(at) = kept.iter().position(|(_, column)| *column.type_() == Type::BYTEA) {
        return Err(QueryError::Value { column: at + 1, what: "binary data" });
    }
    let names: Vec<String> = kept.iter().map(|(_, column)| column.name().to_owned()).collect();
    if let Some(agreed) = query.columns.as_ref().filter(|agreed| **agreed != names) {
        return Err(QueryError::Columns { found: names, agreed: agreed.clone() });
    }
    if names.is_empty() {
        return Err(QueryError::NotASelect);
    }
    Ok(Examined { kept: kept.into_iter().map(|(at, _)| at).collect(), names })
}

/// More than one statement. The server has no code of its own for it, but an error of syntax has a place.
fn is_several(error: &tokio_postgres::Error) -> bool {
    let said = error.as_db_error();
    said.is_some_and(|said| *said.code() == SqlState::SYNTAX_ERROR && said.position().is_none())
}

async fn run(
    client: &Client,
    told: Told<'_>,
    (sql, examined): (&str, &Examined),
    dialect: Dialect,
    out: &mut impl Sink,
) -> Result<u64, QueryError> {
    let attempt = told.attempt(Step::Run).of(sql);
    let failed = |error| attempt.failed(&error);
    let mut rows = pin!(client.simple_query_raw(sql).await.map_err(failed)?);
    let mut writer = Writer::begin(out, dialect, &examined.names)?;
    while let Some(message) = rows.try_next().await.map_err(failed)? {
        if let SimpleQueryMessage::Row(row) = message {
            writer.write(&row, &examined.kept)?;
        }
    }
    let count = writer.finish()?;
    // Nothing was changed, and nothing is to stay.
    client.batch_execute("ROLLBACK").await.map_err(failed)?;
    Ok(count)
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests;
