//! Joins a whole list. A long list whose query treats it row by row is cut into parts, which several threads join at the
//! same time, each in a database of its own; their results go out in the list's order. Any other query sees the whole
//! list at once. Which queries those are, `split` says.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::encrypt::{BUFFER, Buffer, EncryptError, Pipe, closed, new_buffer};
use super::postgres;
use super::query::{self, QueryError, ROWS_BETWEEN_LOOKS, Sink};
use super::stop::Stop;
use crate::config::Database;
use crate::policy::agreement::Query;
use crate::policy::table::{Rows, Table};

/// Rows of a part.
const PART: usize = 1 << 16;
/// Most threads for one list: encryption and other jobs want their share of the machine.
const LANES: usize = 4;
/// Buffers that a lane may be ahead of its turn: about one part.
const AHEAD: usize = 4;

/// A list that was read to its end once.
pub struct List<'a> {
    table: &'a Table<'a>,
    rows: u64,
    /// Where each part begins.
    parts: Vec<Rows<'a>>,
}

/// What runs a query.
#[derive(Debug, Clone, Copy)]
pub struct Engine<'a> {
    /// The register.
    pub database: &'a Database,
    /// Bytes of a SQLite file that may be in memory.
    pub mapped: u64,
    /// Ends the query early.
    pub stop: &'a Stop,
}

/// The SQLite file that a list is joined with, and how.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The query.
    pub query: &'a Query,
    /// The SQLite file.
    pub register: &'a Path,
    /// Bytes of it that may be in memory.
    pub mapped: u64,
    /// Ends the query early.
    pub stop: Stop,
}

impl<'a> List<'a> {
    /// Reads every row, so that a list which breaks off in the middle is refused before anything is done with it.
    pub fn measure(table: &'a Table<'a>, stop: &Stop) -> Result<Self, QueryError> {
        Self::measure_by(table, stop, PART)
    }

    fn measure_by(table: &'a Table<'a>, stop: &Stop, part: usize) -> Result<Self, QueryError> {
        let (mut rows, mut fields) = (table.rows(), Vec::new());
        let (mut parts, mut count) = (Vec::new(), 0_u64);
        loop {
            let before = rows.clone();
            if !rows.read(&mut fields).map_err(QueryError::List)? {
                return Ok(Self { table, rows: count, parts });
            }
            if count.is_multiple_of(part as u64) {
                parts.push(before);
            }
            if count.is_multiple_of(ROWS_BETWEEN_LOOKS) {
                stop.go_on()?;
            }
            count += 1;
        }
    }

    /// Rows, without the header line.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Runs the query where its register is, and writes its result, with a header line, in the list's dialect. Gives the
    /// number of rows.
    pub fn query(&self, query: &Query, engine: Engine<'_>, out: &mut Pipe) -> Result<u64, QueryError> {
        let Engine { database, mapped, stop } = engine;
        match database {
            Database::Sqlite(register) => {
                self.join(&Source { query, register, mapped, stop: stop.clone() }, out)
            }
            Database::Postgres(server) => {
                postgres::join(self.table, postgres::Source { query, server, stop }, out)
            }
        }
    }

    /// The same on a SQLite file.
    pub fn join(&self, source: &Source<'_>, out: &mut Pipe) -> Result<u64, QueryError> {
        self.join_by(source, out, PART)
    }

    /// Puts the list itself out, row by row as it came, in buffers that end where rows do. Gives the number of rows.
    pub fn pass(&self, stop: &Stop, out: &mut impl Sink) -> Result<u64, QueryError> {
        let dialect = self.table.dialect();
        let mut buffer = out.buffer().map_err(EncryptError::Io)?;
        buffer.extend_from_slice(dialect.beginning());
        dialect.write_header(&mut buffer, self.table.columns().iter().map(String::as_bytes));
        let (mut rows, mut fields, mut count) = (self.table.rows(), Vec::new(), 0_u64);
        loop {
            let before = rows.rest();
            if !rows.read(&mut fields).map_err(QueryError::List)? {
                break;
            }
            let row = before.get(..before.len().saturating_sub(rows.rest().len())).unwrap_or_default();
            buffer.extend_from_slice(row.as_bytes());
            count += 1;
            if count.is_multiple_of(ROWS_BETWEEN_LOOKS) {
                stop.go_on()?;
            }
            if buffer.len() >= BUFFER {
                let empty = out.buffer().map_err(EncryptError::Io)?;
                out.send(std::mem::replace(&mut buffer, empty)).map_err(EncryptError::Io)?;
            }
        }
        // The last line of a list need not end, that of a result does.
        if count > 0 && buffer.last() != Some(&b'\n') {
            dialect.end_row(&mut buffer);
        }
        out.send(buffer).map_err(EncryptError::Io)?;
        Ok(count)
    }

    fn join_by(&self, source: &Source<'_>, out: &mut Pipe, part: usize) -> Result<u64, QueryError> {
        let mut probe = query::Engine::new(self.table.columns())?;
        probe.attach(source.register, 0)?;
        let held = probe.hold()?;
        let examined = probe.examine(source.query, &source.stop)?;
        let dialect = self.table.dialect();
        let mut header = out.buffer().map_err(EncryptError::Io)?;
        header.extend_from_slice(dialect.beginning());
        dialect.write_header(&mut header, examined.columns.iter().map(String::as_bytes));
        out.send(header).map_err(EncryptError::Io)?;
        let lanes = held.filter(|_| examined.is_row_by_row).map_or(1, |size| lanes(source.mapped, size));
        if lanes < 2 || self.parts.len() < 2 {
            return self.join_part(source, self.table.rows(), usize::MAX, &mut None, out);
        }
        let share = Source { mapped: source.mapped / lanes as u64, ..source.clone() };
        std::thread::scope(|scope| {
            let mut outlets = Vec::with_capacity(lanes);
            for lane in 0..lanes {
                let (full, parcels) = sync_channel(AHEAD);
                let (returned, empty) = sync_channel(AHEAD + 1);
                outlets.push(Outlet { parcels, returned });
                let share = share.clone();
                let lane_end = Lane { full, empty, made: 0 };
                scope.spawn(move || self.run_lane(&share, part, (lane, lanes), lane_end));
            }
            let turns = outlets.iter().cycle().take(self.parts.len());
            turns.map(|outlet| forward(outlet, out)).sum()
        })
    }

    /// Every so-manieth part is this lane's, so that all of them come to their turn at about the same time.
    fn run_lane(&self, source: &Source<'_>, part: usize, (lane, lanes): (usize, usize), mut out: Lane) {
        let mut engine = None;
        for rows in self.parts.iter().skip(lane).step_by(lanes) {
            let joined = self.join_part(source, rows.clone(), part, &mut engine, &mut out);
            let is_over = joined.is_err();
            if out.full.send(Parcel::End(joined)).is_err() || is_over {
                return;
            }
        }
    }

    fn join_part(
        &self,
        source: &Source<'_>,
        mut rows: Rows<'_>,
        most: usize,
        engine: &mut Option<query::Engine>,
        out: &mut impl Sink,
    ) -> Result<u64, QueryError> {
        let engine = match engine {
            // What it has mapped of the register serves again.
            Some(engine) => {
                engine.empty()?;
                engine
            }
            None => {
                let new = engine.insert(query::Engine::new(self.table.columns())?);
                new.attach(source.register, source.mapped)?;
                new
            }
        };
        engine.load(&mut rows, self.table.columns().len(), most, &source.stop)?;
        engine.run(source.query, self.table.dialect(), &source.stop, out)
    }
}

/// As many as the machine has processors for, while each can have all of the register in its share of the memory; two
/// are worth it even so.
fn lanes(mapped: u64, register: u64) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let fitting = usize::try_from(mapped / register.max(1)).unwrap_or(usize::MAX);
    fitting.clamp(2, LANES).min(processors)
}

/// What a lane hands over.
enum Parcel {
    Buffer(Buffer),
    /// The end of a part.
    End(Result<u64, QueryError>),
}

/// Where a lane puts its results. Its buffers come back to it, as many as it may be ahead and the one it fills.
struct Lane {
    full: SyncSender<Parcel>,
    empty: Receiver<Buffer>,
    made: usize,
}

impl Sink for Lane {
    fn buffer(&mut self) -> io::Result<Buffer> {
        if self.made <= AHEAD {
            self.made += 1;
            return Ok(new_buffer());
        }
        self.empty.recv().map_err(|_| closed())
    }

    fn send(&mut self, buffer: Buffer) -> io::Result<()> {
        self.full.send(Parcel::Buffer(buffer)).map_err(|_| closed())
    }
}

/// The other end of a lane.
struct Outlet {
    parcels: Receiver<Parcel>,
    returned: SyncSender<Buffer>,
}

/// Passes one part on.
fn forward(outlet: &Outlet, out: &mut Pipe) -> Result<u64, QueryError> {
    loop {
        match outlet.parcels.recv() {
            Ok(Parcel::Buffer(buffer)) => {
                let empty = out.buffer().map_err(EncryptError::Io)?;
                // A lane that has ended needs no more.
                let _ = outlet.returned.try_send(empty);
                out.send(buffer).map_err(EncryptError::Io)?;
            }
            Ok(Parcel::End(joined)) => return joined,
            // The lane panicked, and the scope that waits for it will too.
            Err(_) => return Err(EncryptError::Io(closed()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::encrypt;
    use super::*;
    use crate::policy::path::Slug;

    fn register(folder: &Path, mode: &str) -> std::path::PathBuf {
        let path = folder.join("register.db");
        let connection = Connection::open(&path).unwrap();
        let batch = format!(
            "PRAGMA journal_mode={mode};
             CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, category TEXT, points INTEGER);
             CREATE TABLE measures (insz TEXT, action TEXT);
             CREATE INDEX by_insz ON measures (insz);
             CREATE VIEW latest AS SELECT insz, (SELECT action FROM measures m WHERE m.insz = j.insz LIMIT 1) AS action
                 FROM jobseekers j;
             WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 40)
                 INSERT INTO jobseekers SELECT x * 2, 'c' || x % 3, x FROM n;
             INSERT INTO measures SELECT insz, 'a' || points % 5 FROM jobseekers;
             INSERT INTO measures SELECT insz, 'b' FROM jobseekers WHERE points % 4 = 0;"
        );
        connection.execute_batch(&batch).unwrap();
        path
    }

    /// The result in parts of that many rows.
    fn joined(list: &str, sql: &str, register: &Path, part: usize) -> Result<String, QueryError> {
        let query = Query { database: Slug::parse("register").unwrap(), sql: sql.to_owned(), columns: None };
        let identity = age::x25519::Identity::generate();
        let encryptor = encrypt::begin(&[identity.to_public().to_string()]).unwrap();
        let table = Table::parse(list.as_bytes()).map_err(QueryError::List)?;
        let stop = Stop::default();
        let list = List::measure_by(&table, &stop, part)?;
        let source = Source { query: &query, register, mapped: 1 << 20, stop };
        let outputs = vec![(encryptor, Vec::new())];
        let (rows, sealed) = encrypt::encrypt(outputs, u64::MAX, |pipe| list.join_by(&source, pipe, part))?;
        let text = String::from_utf8(age::decrypt(&identity, &sealed[0].output).unwrap()).unwrap();
        assert_eq!(rows as usize + 1, text.lines().count());
        Ok(text)
    }

    fn splits(sql: &str, register: &Path) -> bool {
        let query = Query { database: Slug::parse("register").unwrap(), sql: sql.to_owned(), columns: None };
        let mut engine = query::Engine::new(&["insz".to_owned(), "name".to_owned()]).unwrap();
        engine.attach(register, 0).unwrap();
        engine.hold().unwrap().is_some() && engine.examine(&query, &Stop::default()).unwrap().is_row_by_row
    }

    const ROW_BY_ROW: [&str; 7] = [
        "SELECT arrival.*, j.category FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz ORDER BY arrival.rowid",
        "SELECT arrival.insz, j.points * 2 AS p FROM arrival JOIN jobseekers j USING (insz)",
        "SELECT a.insz, m.action FROM arrival a LEFT JOIN measures m ON m.insz = a.insz ORDER BY a.rowid",
        "SELECT upper(name) AS n, coalesce(j.category, '-') AS c, CASE WHEN j.points > 5 THEN 'x' END AS x
             FROM arrival LEFT JOIN jobseekers j ON j.insz = trim(arrival.insz)",
        "SELECT insz FROM arrival WHERE insz > '2' AND name <> 'n3'",
        "SELECT a.insz, j.category, m.action FROM arrival a LEFT JOIN jobseekers j ON j.insz = a.insz
             LEFT JOIN measures m ON m.insz = j.insz ORDER BY a.rowid",
        "SELECT 1 AS one FROM arrival",
    ];

    const AS_A_WHOLE: [&str; 25] = [
        "SELECT a.insz, j.points + 0.5 AS p FROM arrival a LEFT JOIN jobseekers j ON j.points = a.insz",
        "SELECT count(*) AS n FROM arrival",
        "SELECT insz, count(*) AS n FROM arrival GROUP BY insz",
        "SELECT DISTINCT name FROM arrival",
        "SELECT DISTINCT arrival.rowid, j.category FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz",
        "SELECT insz FROM arrival ORDER BY insz",
        "SELECT insz FROM arrival ORDER BY rowid DESC",
        "SELECT insz FROM arrival LIMIT 7",
        "SELECT insz FROM arrival LIMIT -1 OFFSET 7",
        "SELECT arrival.rowid AS nr, insz FROM arrival",
        "SELECT max(rowid) AS m FROM arrival",
        "SELECT insz, row_number() OVER (ORDER BY rowid) AS nr FROM arrival",
        "SELECT a.insz FROM arrival a JOIN arrival b ON b.insz = a.insz",
        "SELECT insz, (SELECT count(*) FROM arrival) AS n FROM arrival",
        "SELECT insz FROM arrival UNION SELECT insz FROM jobseekers",
        "SELECT insz FROM arrival UNION ALL SELECT name FROM arrival",
        "SELECT j.insz FROM jobseekers j LEFT JOIN arrival ON arrival.insz = j.insz",
        "SELECT name FROM main.sqlite_schema",
        "SELECT insz FROM jobseekers",
        "SELECT a.insz, l.action FROM arrival a LEFT JOIN latest l ON l.insz = a.insz",
        "SELECT insz, lag(insz) OVER () AS before FROM arrival",
        "SELECT insz FROM arrival WHERE rowid = 3",
        "SELECT j.insz FROM arrival RIGHT JOIN jobseekers j ON j.insz = arrival.insz",
        "SELECT random() IS NULL AS r FROM arrival",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 9) SELECT x FROM n",
    ];

    fn list() -> String {
        let row = |at: u32| format!("{},n{}\n", at * 7 % 90, at % 4);
        std::iter::once("insz,name\n".to_owned()).chain((0..60).map(row)).chain(["\n".to_owned()]).collect()
    }

    #[test]
    fn a_result_is_the_same_in_parts_and_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let register = register(folder.path(), "DELETE");
        for sql in ROW_BY_ROW.into_iter().chain(AS_A_WHOLE) {
            let whole = joined(&list(), sql, &register, 1000).unwrap();
            for part in [1, 7, 30, 60] {
                assert_eq!(joined(&list(), sql, &register, part).unwrap(), whole, "{part}: {sql}");
            }
        }
    }

    #[test]
    fn only_a_query_that_treats_the_list_row_by_row_is_shared_out() {
        let folder = tempfile::tempdir().unwrap();
        let register = register(folder.path(), "DELETE");
        for sql in ROW_BY_ROW {
            assert!(splits(sql, &register), "{sql}");
        }
        for sql in AS_A_WHOLE {
            assert!(!splits(sql, &register), "{sql}");
        }
    }

    #[test]
    fn a_register_written_ahead_is_seen_at_one_moment_only() {
        let folder = tempfile::tempdir().unwrap();
        let register = register(folder.path(), "WAL");
        assert!(!splits(ROW_BY_ROW[0], &register));
        assert!(joined(&list(), ROW_BY_ROW[0], &register, 7).is_ok());
    }

    #[test]
    fn a_register_that_is_held_does_not_change_under_a_job() {
        let folder = tempfile::tempdir().unwrap();
        let path = register(folder.path(), "DELETE");
        let engine = query::Engine::new(&["insz".to_owned()]).unwrap();
        engine.attach(&path, 0).unwrap();
        assert!(engine.hold().unwrap().is_some());
        let writer = Connection::open(&path).unwrap();
        writer.busy_timeout(std::time::Duration::ZERO).unwrap();
        assert!(writer.execute_batch("DELETE FROM jobseekers").is_err());
        drop(engine);
        assert!(writer.execute_batch("DELETE FROM jobseekers").is_ok());
    }

    #[test]
    fn an_error_in_one_part_fails_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let register = register(folder.path(), "DELETE");
        let sql = "SELECT CASE WHEN insz = '7' THEN CAST(x'ff' AS BLOB) ELSE insz END AS v FROM arrival";
        let error = joined(&list(), sql, &register, 3).unwrap_err();
        assert!(matches!(error, QueryError::Value { .. }), "{error}");
    }
}
