//! The database that an exchange's SQL runs in: a list becomes the table `arrival` in memory, the register is attached
//! read-only beside it, and the rows of one SELECT go out as CSV. What a list is, `policy::table` says; how one is shared
//! out among several of these, `join`.
//!
//! Memory is bounded by the list and by what of the register may be mapped, not by the register.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement, params_from_iter};

use super::encrypt::{BUFFER, Buffer, EncryptError};
pub use super::query_error::QueryError;
use super::query_error::{attempt, sql_error};
use super::split::{Instruction, is_row_by_row};
use super::stop::Stop;
use crate::policy::agreement::Query;
use crate::policy::table::{Dialect, Rows};

/// How long a database that another program is writing is waited for, before the arrival is deferred.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Steps of SQLite's machine between two looks at the stop sign; a few hundred microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 20_000;
/// Rows read between two such looks.
pub const ROWS_BETWEEN_LOOKS: u64 = 4096;
/// Values bound at a time: rows go in by the bundle, which saves most of the cost of a statement.
const VALUES_AT_A_TIME: usize = 64;
/// Pages of a register beyond what is mapped that a connection keeps.
const CACHE_KIB: u32 = 4096;

/// Bounds the memory that all databases of this process may take together, besides what they map; for good, since SQLite
/// only ever lowers it.
pub fn bound_memory(bytes: u64) -> Result<(), QueryError> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let bound = || {
        let connection = Connection::open_in_memory()?;
        connection.query_row(&format!("PRAGMA hard_heap_limit={bytes}"), [], |_| Ok(()))
    };
    bound().map_err(attempt("bound the memory of databases"))
}

/// Takes the bytes of a result.
pub trait Sink {
    /// An empty buffer to fill.
    fn buffer(&mut self) -> io::Result<Buffer>;
    /// Hands a buffer over; rows end where buffers end.
    fn send(&mut self, buffer: Buffer) -> io::Result<()>;
}

/// One database in memory, for a list or a part of one.
pub struct Engine {
    connection: Connection,
}

/// What is known of a query before it runs.
pub struct Examined {
    /// The names of its result's columns.
    pub columns: Vec<String>,
    /// Whether parts of a list can be joined apart.
    pub is_row_by_row: bool,
}

impl Engine {
    /// An empty table `arrival` with these columns, verbatim, all of them text.
    pub fn new(columns: &[String]) -> Result<Self, QueryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_MEMORY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let attempted = attempt("prepare the database in memory");
        let connection = Connection::open_with_flags(":memory:", flags).map_err(attempted)?;
        // Sorting and automatic indexes stay in memory too: no value of a list reaches a disk unencrypted.
        connection
            .execute_batch(
                "PRAGMA main.page_size=16384; PRAGMA main.journal_mode=OFF; PRAGMA main.synchronous=OFF;
                 PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;",
            )
            .map_err(attempted)?;
        let columns: Vec<String> = columns.iter().map(|name| format!("{} TEXT", quoted(name))).collect();
        connection
            .execute_batch(&format!("CREATE TABLE main.arrival ({});", columns.join(", ")))
            .map_err(attempt("make the table arrival"))?;
        Ok(Self { connection })
    }

    /// Takes in the next rows of a list, `most` of them or as many as are left; `rowid` is their order.
    pub fn load(
        &self,
        rows: &mut Rows<'_>,
        width: usize,
        most: usize,
        stop: &Stop,
    ) -> Result<(), QueryError> {
        let failed = attempt("fill the table arrival");
        self.connection.execute_batch("BEGIN;").map_err(failed)?;
        insert(&self.connection, rows, width, most, stop)?;
        self.connection.execute_batch("COMMIT;").map_err(failed)
    }

    /// Removes the rows of the part before, and lets the next ones in.
    pub fn empty(&mut self) -> Result<(), QueryError> {
        let unrestricted: Option<fn(AuthContext<'_>) -> Authorization> = None;
        self.connection
            .authorizer(unrestricted)
            .and_then(|()| self.connection.execute_batch("PRAGMA query_only=OFF; DELETE FROM main.arrival;"))
            .map_err(attempt("empty the table arrival"))
    }

    /// Attaches a register, read-only, as the schema `register`. Names that only it has need no prefix. At most `mapped`
    /// bytes of it are mapped into memory. Replace a register by renaming a new file over it: one that is overwritten in
    /// place gives any reader nonsense, and ends a process that has mapped it with SIGBUS.
    pub fn attach(&self, register: &Path, mapped: u64) -> Result<(), QueryError> {
        let attempted = attempt("open the register");
        self.connection.busy_timeout(BUSY_WAIT).map_err(attempted)?;
        let uri = format!("file:{}?mode=ro", percent_encoded(register));
        self.connection.execute("ATTACH DATABASE ?1 AS register", [uri]).map_err(attempted)?;
        let sizes = format!("PRAGMA register.mmap_size={mapped}; PRAGMA register.cache_size=-{CACHE_KIB};");
        self.connection.execute_batch(&sizes).map_err(attempted)?;
        // The first read: a register that is no database or is locked shows itself here.
        self.connection
            .query_row("SELECT count(*) FROM register.sqlite_schema", [], |_| Ok(()))
            .map_err(attempted)
    }

    /// Keeps the register as it is now until this is dropped, for all connections of this process. Gives its size in
    /// bytes; `None` for one that is written ahead (WAL), where each connection sees a moment of its own.
    pub fn hold(&self) -> Result<Option<u64>, QueryError> {
        let held = || {
            self.connection.execute_batch("BEGIN; SELECT count(*) FROM register.sqlite_schema;")?;
            let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
            let bytes =
                number("PRAGMA register.page_count")?.saturating_mul(number("PRAGMA register.page_size")?);
            let mode: String =
                self.connection.query_row("PRAGMA register.journal_mode", [], |row| row.get(0))?;
            Ok((mode != "wal").then_some(bytes.unsigned_abs()))
        };
        held().map_err(attempt("hold the register"))
    }

    /// Looks at a query without running it: one SELECT, with the agreed columns.
    pub fn examine(&mut self, query: &Query, stop: &Stop) -> Result<Examined, QueryError> {
        self.restrict(stop).map_err(attempt("restrict the query"))?;
        let statement = self.prepare(query, stop)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        if let Some(agreed) = query.columns.as_ref().filter(|agreed| **agreed != columns) {
            return Err(QueryError::Columns { found: columns, agreed: agreed.clone() });
        }
        let program = self.program(&query.sql).map_err(attempt("explain the query"))?;
        Ok(Examined { columns, is_row_by_row: is_row_by_row(&program) })
    }

    /// Runs the SQL, which can do nothing but read, and writes its rows in `dialect`, without a header line. Gives the
    /// number of rows. `stop` ends it early.
    pub fn run(
        &mut self,
        query: &Query,
        dialect: Dialect,
        stop: &Stop,
        out: &mut impl Sink,
    ) -> Result<u64, QueryError> {
        self.restrict(stop).map_err(attempt("restrict the query"))?;
        let failed = |cause| sql_error("run the query", cause, stop);
        let mut as_text = self.connection.prepare("SELECT CAST(?1 AS TEXT)").map_err(failed)?;
        let mut statement = self.prepare(query, stop)?;
        let width = statement.column_count();
        let mut buffer = out.buffer().map_err(EncryptError::Io)?;
        let mut count = 0;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failed)? {
            let start = buffer.len();
            for column in 0..width {
                if column > 0 {
                    buffer.push(dialect.delimiter);
                }
                match row.get_ref(column).map_err(failed)? {
                    ValueRef::Null => {}
                    ValueRef::Text(text) => dialect.write_field(&mut buffer, text),
                    ValueRef::Integer(number) => write_integer(&mut buffer, number),
                    ValueRef::Real(number) => {
                        write_real(&mut buffer, dialect, &mut as_text, number).map_err(failed)?;
                    }
                    ValueRef::Blob(_) => {
                        return Err(QueryError::Value { column: column + 1, what: "binary data" });
                    }
                }
            }
            if width == 1 && buffer.len() == start {
                buffer.extend_from_slice(b"\"\"");
            }
            dialect.end_row(&mut buffer);
            count += 1;
            if buffer.len() >= BUFFER {
                let empty = out.buffer().map_err(EncryptError::Io)?;
                hand_over(std::mem::replace(&mut buffer, empty), out)?;
            }
        }
        hand_over(buffer, out)?;
        Ok(count)
    }

    fn prepare(&self, query: &Query, stop: &Stop) -> Result<Statement<'_>, QueryError> {
        let statement = self.connection.prepare(&query.sql).map_err(|cause| {
            // Somebody makes the file first and fills it then.
            let is_empty = self.is_register_empty().unwrap_or(false);
            if is_empty { QueryError::EmptyRegister } else { sql_error("prepare the query", cause, stop) }
        })?;
        let reads = statement.readonly() && statement.is_explain() == 0 && statement.parameter_count() == 0;
        if reads && statement.column_count() > 0 { Ok(statement) } else { Err(QueryError::NotASelect) }
    }

    fn is_register_empty(&self) -> rusqlite::Result<bool> {
        let tables = "SELECT count(*) FROM register.sqlite_schema";
        self.connection.query_row(tables, [], |row| Ok(row.get::<_, i64>(0)? == 0))
    }

    fn program(&self, sql: &str) -> rusqlite::Result<Vec<Instruction>> {
        let mut explain = self.connection.prepare(&format!("EXPLAIN {sql}"))?;
        let instruction = |row: &rusqlite::Row<'_>| {
            Ok(Instruction {
                opcode: row.get(1)?,
                p1: row.get(2)?,
                p2: row.get(3)?,
                p3: row.get(4)?,
                // Text of the query's own, which need not be UTF-8.
                p4: match row.get_ref(5)? {
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    _ => String::new(),
                },
                p5: row.get(6)?,
            })
        };
        explain.query_map([], instruction)?.collect()
    }

    /// From here on the connection reads and does nothing else.
    fn restrict(&mut self, stop: &Stop) -> rusqlite::Result<()> {
        self.connection.execute_batch("PRAGMA query_only=ON;")?;
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        let stop = stop.clone();
        self.connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(move || stop.cause().is_some()))?;
        self.connection.authorizer(Some(authorize))
    }
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Deny
        }
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn insert(
    connection: &Connection,
    rows: &mut Rows<'_>,
    width: usize,
    most: usize,
    stop: &Stop,
) -> Result<(), QueryError> {
    let failed = attempt("fill the table arrival");
    let at_a_time = (VALUES_AT_A_TIME / width).max(1);
    let row = format!("({})", vec!["?"; width].join(","));
    let insert = |rows: usize| {
        let sql = format!("INSERT INTO main.arrival VALUES {}", vec![row.as_str(); rows].join(","));
        connection.prepare(&sql).map_err(failed)
    };
    let (mut many, mut one) = (insert(at_a_time)?, insert(1)?);
    let (mut fields, mut bundle) = (Vec::new(), Vec::new());
    for row in 0..most {
        if (row as u64).is_multiple_of(ROWS_BETWEEN_LOOKS) {
            stop.go_on()?;
        }
        if !rows.read(&mut fields).map_err(QueryError::List)? {
            break;
        }
        bundle.append(&mut fields);
        if bundle.len() == at_a_time * width {
            many.execute(params_from_iter(bundle.iter().map(AsRef::as_ref))).map_err(failed)?;
            bundle.clear();
        }
    }
    for rest in bundle.chunks(width) {
        one.execute(params_from_iter(rest.iter().map(AsRef::as_ref))).map_err(failed)?;
    }
    Ok(())
}

/// A result is UTF-8 as a whole, or the job fails: rows end where buffers end.
fn hand_over(buffer: Buffer, out: &mut impl Sink) -> Result<(), QueryError> {
    if std::str::from_utf8(&buffer).is_err() {
        return Err(QueryError::Value { column: 0, what: "text that is not UTF-8" });
    }
    out.send(buffer).map_err(|error| EncryptError::Io(error).into())
}

fn write_integer(buffer: &mut Vec<u8>, number: i64) {
    use std::io::Write;
    // Writing to memory does not fail.
    let _ = write!(buffer, "{number}");
}

/// As SQLite itself prints it, which no other formatter does the same.
fn write_real(
    buffer: &mut Vec<u8>,
    dialect: Dialect,
    as_text: &mut Statement<'_>,
    number: f64,
) -> rusqlite::Result<()> {
    as_text.query_row([number], |row| {
        if let ValueRef::Text(text) = row.get_ref(0)? {
            dialect.write_field(buffer, text);
        }
        Ok(())
    })
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A path in a `file:` URI (RFC 3986): all but unreserved characters and `/` escaped.
fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::super::encrypt;
    use super::super::join::{List, Source};
    use super::super::stop::Interrupted;
    use super::*;
    use crate::policy::job::Failure;
    use crate::policy::path::Slug;
    use crate::policy::reason::Reason;
    use crate::policy::table::Table;

    fn query(sql: &str, columns: Option<&[&str]>) -> Query {
        Query {
            database: Slug::parse("register").unwrap(),
            sql: sql.to_owned(),
            columns: columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    /// A register with odd values, under a path that needs escaping.
    fn register(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("régister 100%?#.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, category TEXT, points, photo BLOB) WITHOUT ROWID;
                 CREATE TABLE arrival (wrong TEXT);
                 INSERT INTO jobseekers VALUES ('1', 'a,b', 7, NULL), ('2', 'é \"x\"', 0.1, x'00ff'),
                     ('3', NULL, 1e100, NULL), ('4', '', -9223372036854775808, NULL);",
            )
            .unwrap();
        path
    }

    fn joined(list: &str, query: &Query) -> Result<String, QueryError> {
        let folder = tempfile::tempdir().unwrap();
        joined_with(list, query, &register(folder.path()), Stop::default())
    }

    fn joined_with(list: &str, query: &Query, path: &Path, stop: Stop) -> Result<String, QueryError> {
        let identity = age::x25519::Identity::generate();
        let encryptor = encrypt::begin(&[identity.to_public().to_string()]).unwrap();
        let table = Table::parse(list.as_bytes()).map_err(QueryError::List)?;
        let list = List::measure(&table, &Stop::default())?;
        let source = Source { query, register: path, mapped: 1 << 20, stop };
        let outputs = vec![(encryptor, Vec::new())];
        let (_, sealed) = encrypt::encrypt(outputs, u64::MAX, |pipe| list.join(&source, pipe))?;
        Ok(String::from_utf8(age::decrypt(&identity, &sealed[0].output).unwrap()).unwrap())
    }

    const JOIN: &str =
        "SELECT arrival.*, category FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
                        ORDER BY arrival.rowid";

    #[test]
    fn every_row_stays_in_its_place_and_dialect() {
        for (list, result) in [
            ("insz\n", "insz,category\n"),
            ("insz\n2\n9\n\n1\n3\n", "insz,category\n2,\"é \"\"x\"\"\"\n9,\n,\n1,\"a,b\"\n3,\n"),
            ("\u{feff}insz;Naam\r\n1;Zoë, A.\r\n", "\u{feff}insz;Naam;category\r\n1;Zoë, A.;a,b\r\n"),
            ("insz,\"a\"\"b; DROP\"\n1,\"x\ny\"\n", "insz,\"a\"\"b; DROP\",category\n1,\"x\ny\",\"a,b\"\n"),
        ] {
            assert_eq!(joined(list, &query(JOIN, None)).unwrap(), result, "{list:?}");
        }
        let many: Vec<String> = (0..1000).map(|at| at.to_string()).collect();
        let only = query("SELECT insz FROM arrival", None);
        let list = format!("insz\n{}\n", many.join("\n"));
        assert_eq!(joined(&list, &only).unwrap(), list, "rows that fill no whole bundle come along");
        assert_eq!(joined("insz\n\n1\n", &only).unwrap(), "insz\n\"\"\n1\n");
    }

    #[test]
    fn values_are_written_as_sqlite_prints_them() {
        let numbers = query("SELECT points, points + 0.0 AS r FROM jobseekers ORDER BY insz", None);
        let result = joined("insz\n", &numbers).unwrap();
        assert_eq!(
            result,
            "points,r\n7,7.0\n0.1,0.1\n1.0e+100,1.0e+100\n-9223372036854775808,-9.2233720368547758e+18\n"
        );
        let photo = query("SELECT photo FROM jobseekers ORDER BY insz", None);
        assert!(matches!(joined("insz\n", &photo), Err(QueryError::Value { column: 1, .. })));
        let broken = query("SELECT CAST(x'ff' AS TEXT) AS t", None);
        let error = joined("insz\n", &broken).unwrap_err();
        assert!(matches!(error, QueryError::Value { .. }), "{error}");
    }

    #[test]
    fn the_agreed_columns_and_no_others_go_out() {
        let agreed = query(JOIN, Some(&["insz", "category"]));
        assert!(joined("insz\n1\n", &agreed).is_ok());
        for list in ["insz,name\n1,x\n", "Insz\n1\n"] {
            let error = joined(list, &agreed).unwrap_err();
            assert_eq!(error.failure(), Failure::Lasting(Reason::ColumnsNotAgreed), "{error}");
        }
    }

    #[test]
    fn the_sql_of_an_exchange_can_only_read() {
        for sql in [
            "DELETE FROM arrival",
            "DELETE FROM arrival RETURNING *",
            "INSERT INTO register.jobseekers VALUES ('5', '', 0, NULL) RETURNING *",
            "CREATE TEMP TABLE x AS SELECT 1",
            "ATTACH DATABASE 'other.db' AS other",
            "DETACH DATABASE register",
            "PRAGMA query_only=OFF",
            "PRAGMA database_list",
            "SELECT * FROM pragma_database_list",
            "SELECT load_extension('x')",
            "VACUUM INTO 'copy.db'",
            "SELECT 1; SELECT 2",
            "SELECT ?1",
            "EXPLAIN SELECT 1",
            "BEGIN",
            "",
            "SELECT nothing FROM nowhere",
        ] {
            let error = joined("insz\n1\n", &query(sql, None)).unwrap_err();
            assert_eq!(error.failure(), Failure::Lasting(Reason::JobFailed), "{sql}: {error}");
        }
        let recursive = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3)
                         SELECT x FROM n; -- a comment";
        assert_eq!(joined("insz\n1\n", &query(recursive, None)).unwrap(), "x\n1\n2\n3\n");
    }

    #[test]
    fn a_register_that_is_away_locked_or_being_replaced_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let missing =
            joined_with("insz\n", &query(JOIN, None), &folder.path().join("none.db"), Stop::default());
        assert_eq!(missing.unwrap_err().failure(), Failure::Passing);
        let garbage = folder.path().join("garbage.db");
        std::fs::write(&garbage, "x".repeat(8192)).unwrap();
        let error = joined_with("insz\n", &query(JOIN, None), &garbage, Stop::default()).unwrap_err();
        assert_eq!(error.failure(), Failure::Passing, "{error}");
    }

    #[test]
    fn a_register_that_is_not_filled_yet_is_tried_again_and_a_table_that_it_lacks_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.db");
        std::fs::write(&empty, "").unwrap();
        let error = joined_with("insz\n", &query(JOIN, None), &empty, Stop::default()).unwrap_err();
        assert_eq!(error.failure(), Failure::Passing, "{error}");
        Connection::open(&empty).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
        let error = joined_with("insz\n", &query(JOIN, None), &empty, Stop::default()).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobFailed), "{error}");
        assert!(error.to_string().contains("no such table: jobseekers"), "{error}");
    }

    const ENDLESS: &str =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    #[test]
    fn a_long_query_stops_when_the_process_does() {
        let folder = tempfile::tempdir().unwrap();
        let stopping = Stop::after(&Arc::new(AtomicBool::new(true)), Duration::MAX);
        let error =
            joined_with("insz\n", &query(ENDLESS, None), &register(folder.path()), stopping).unwrap_err();
        assert!(matches!(error, QueryError::Interrupted(Interrupted::Stopping)), "{error}");
        assert_eq!(error.failure(), Failure::Passing);
    }

    #[test]
    fn a_query_that_never_ends_is_ended_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let stop = Stop::after(&Arc::default(), Duration::from_millis(300));
        let error = joined_with("insz\n", &query(ENDLESS, None), &register(folder.path()), stop).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobTooLong), "{error}");
    }

    #[test]
    fn a_list_that_breaks_off_in_the_middle_is_refused_with_its_line() {
        let error = joined("a,b\n1,2\n3\n", &query(JOIN, None)).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::NotATable { row: 3 }));
    }
}
