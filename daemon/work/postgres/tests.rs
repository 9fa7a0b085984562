//! Queries on a real server, beside the same ones on SQLite.

#[path = "../../../tests/harness/postgres.rs"]
mod server;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use self::server::{HOST, PASSWORD, ROLE, Server, TRUSTED};
use super::super::encrypt;
use super::super::join::{Engine, List};
use super::*;
use crate::config::{Database, PostgresTls};
use crate::policy::job::Failure;
use crate::policy::path::Slug;

/// One server for all tests that run at the same time.
fn server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        server.sql("register", REGISTER);
        server.sql("register", "CREATE TABLE secrets (x text); REVOKE ALL ON secrets FROM dropzone, reader");
        *shared = Arc::downgrade(&server);
        server
    })
}

/// In words that both understand.
const REGISTER: &str = "
    CREATE TABLE jobseekers (insz TEXT PRIMARY KEY, category TEXT, points INTEGER);
    INSERT INTO jobseekers VALUES ('1', 'a,b', 7), ('2', 'é \"x\"', -1), ('3', NULL, NULL), ('4', '', 0),
        ('5', '\\.', 1), ('6', 'a\\nb', 2), ('7', 'one
two', 3), ('8', 'a;b	c', 4);";

/// Over the socket, without a password.
fn near(server: &Server) -> Postgres {
    Postgres {
        host: server.folder.to_str().unwrap().to_owned(),
        port: server.port,
        database: "register".to_owned(),
        user: TRUSTED.to_owned(),
        password: None,
        tls: PostgresTls::Local,
        statement_timeout: Duration::from_secs(60),
    }
}

/// Over the network, with all that this takes.
fn far(server: &Server) -> Postgres {
    Postgres {
        host: HOST.to_owned(),
        user: ROLE.to_owned(),
        password: Some(server.secret("password", &format!("{PASSWORD}\n"))),
        tls: PostgresTls::Require { ca: server.certificate("ca") },
        ..near(server)
    }
}

fn query(sql: &str, columns: Option<&[&str]>) -> Query {
    Query {
        database: Slug::parse("register").unwrap(),
        sql: sql.to_owned(),
        columns: columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
    }
}

fn joined_on(database: &Database, list: &str, query: &Query, stop: &Stop) -> Result<String, QueryError> {
    let identity = age::x25519::Identity::generate();
    let encryptor = encrypt::begin(&[identity.to_public().to_string()]).unwrap();
    let table = Table::parse(list.as_bytes()).map_err(QueryError::List)?;
    let list = List::measure(&table, &Stop::default())?;
    let engine = Engine { database, mapped: 1 << 20, stop };
    let outputs = vec![(encryptor, Vec::new())];
    let (rows, sealed) = encrypt::encrypt(outputs, u64::MAX, |pipe| list.query(query, engine, pipe))?;
    let text = String::from_utf8(age::decrypt(&identity, &sealed[0].output).unwrap()).unwrap();
    let result = Table::parse(text.as_bytes()).unwrap();
    assert_eq!(List::measure(&result, &Stop::default()).unwrap().rows(), rows);
    Ok(text)
}

fn joined(server: Postgres, list: &str, sql: &str) -> Result<String, QueryError> {
    joined_on(&Database::Postgres(server), list, &query(sql, None), &Stop::default())
}

fn sqlite(folder: &Path) -> Database {
    let path = folder.join("register.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(REGISTER).unwrap();
    Database::Sqlite(path)
}

const JOIN: &str = "SELECT arrival.*, j.category, j.points
                    FROM arrival LEFT JOIN jobseekers j ON j.insz = arrival.insz
                    ORDER BY arrival.rowid;  -- in the order of the list";

#[test]
fn the_same_query_gives_the_same_bytes_as_on_sqlite() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let lite = sqlite(folder.path());
    let post = Database::Postgres(near(&server));
    let lists = [
        "insz\n".to_owned(),
        "insz\n2\n9\n\n1\n3\n4\n5\n6\n7\n8\n".to_owned(),
        "\u{feff}insz;Naam\r\n1;Zoë, A.\r\n7;\r\n2;\"a;b\"\r\n".to_owned(),
        "insz,\"a\"\"b; DROP\",\"x\ny\"\n1,\"x\ny\",\\.\n2,\\N,\"\\\"\"\\\\\"\n\\.,\t,\"\r\"\n".to_owned(),
        format!("insz\n{}\n", (0..3000).map(|at| (at % 12).to_string()).collect::<Vec<_>>().join("\n")),
    ];
    for list in &lists {
        for sql in [
            JOIN,
            "SELECT insz FROM arrival ORDER BY rowid",
            "SELECT arrival.rowid AS nr, insz FROM arrival ORDER BY arrival.rowid",
            "WITH a AS (SELECT * FROM arrival) SELECT insz, count(*) AS n FROM a GROUP BY insz ORDER BY insz",
            "SELECT CASE WHEN insz = '' THEN 'empty' WHEN insz IS NULL THEN 'null' END AS w FROM arrival ORDER BY rowid",
            "SELECT category FROM jobseekers WHERE insz = 'nobody'",
        ] {
            let query = query(sql, None);
            let stop = Stop::default();
            let expected = joined_on(&lite, list, &query, &stop).unwrap();
            assert_eq!(joined_on(&post, list, &query, &stop).unwrap(), expected, "{sql}\n{list}");
        }
    }
}

#[test]
fn a_large_list_comes_back_whole_and_in_order() {
    let server = server();
    let rows: Vec<String> =
        (0..200_000_u32).map(|at| format!("{:011}", at.wrapping_mul(2_654_435_761))).collect();
    let list = format!("insz\n{}\n", rows.join("\n"));
    let result = joined(far(&server), &list, "SELECT insz FROM arrival ORDER BY arrival.rowid").unwrap();
    assert!(result == list, "{} bytes became {}", list.len(), result.len());
}

#[test]
fn the_agreed_columns_and_no_others_go_out() {
    let server = server();
    let database = Database::Postgres(near(&server));
    let agreed = query(JOIN, Some(&["insz", "category", "points"]));
    assert!(joined_on(&database, "insz\n1\n", &agreed, &Stop::default()).is_ok());
    let error = joined_on(&database, "insz,name\n1,x\n", &agreed, &Stop::default()).unwrap_err();
    assert_eq!(error.failure(), Failure::Lasting(Reason::ColumnsNotAgreed), "{error}");
    let binary = joined(near(&server), "insz\n", "SELECT '\\x00'::bytea AS photo").unwrap_err();
    assert!(matches!(binary, QueryError::Value { column: 1, .. }), "{binary}");
    for name in ["rowid", "ctid", "x".repeat(64).as_str()] {
        let error = joined(near(&server), &format!("{name},insz\n1,1\n"), JOIN).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::ColumnsNotAgreed), "{error}");
        assert!(error.to_string().contains("have it sent"), "{error}");
    }
}

#[test]
fn the_sql_of_an_exchange_can_only_read() {
    let server = server();
    server.sql("register", "CREATE TABLE log (x text); GRANT ALL ON log TO reader; CREATE SEQUENCE numbers");
    server.sql("register", "GRANT ALL ON SEQUENCE numbers TO reader");
    for sql in [
        "INSERT INTO log VALUES ('x') RETURNING x",
        "WITH w AS (INSERT INTO log SELECT insz FROM arrival RETURNING x) SELECT x FROM w",
        "SELECT insz INTO copy FROM arrival",
        "SELECT nextval('numbers')",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT 1; INSERT INTO log VALUES ('x')",
        "SELECT 1) TO PROGRAM 'touch /tmp/x' --",
        "COPY arrival TO PROGRAM 'cat'",
        "COMMIT",
        "SELECT $1",
        "",
    ] {
        let error = joined(near(&server), "insz\n1\n", sql).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobFailed), "{sql}: {error}");
    }
    assert_eq!(server.sql("register", "SELECT count(*) FROM log"), "0");
    assert_eq!(
        server.sql("register", "SELECT count(*) FROM pg_class WHERE relname IN ('copy', 'arrival')"),
        "0"
    );
    server.sql("register", "DROP TABLE log; DROP SEQUENCE numbers");
}

#[test]
fn an_error_of_the_sql_says_what_where_and_what_to_do() {
    let server = server();
    for (sql, parts) in [
        (
            "SELECT a.insz\nFROM arrival a\nJOIN nowhere n USING (insz)",
            &["nowhere", "42P01", "line 3", "make the table", "register (register on"][..],
        ),
        ("SELECT arrival.nothing FROM arrival", &["nothing", "42703", "line 1", "correct `sql`"]),
        ("SELEKT 1", &["SELEKT", "42601"]),
        ("SELECT x FROM secrets", &["permission denied", "secrets", "GRANT SELECT"]),
        ("SELECT insz FROM arrival WHERE insz = 1", &["42883", "text"]),
    ] {
        let error = joined(near(&server), "insz\n1\n", sql).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobFailed), "{sql}: {error}");
        let told = error.to_string();
        assert!(parts.iter().all(|part| told.contains(part)), "{parts:?} in {told}");
    }
}

#[test]
fn a_value_of_the_list_is_never_told() {
    let server = server();
    for sql in [
        "SELECT CAST(insz AS integer) FROM arrival",
        "SELECT to_date(insz, 'YYYYMMDD') FROM arrival",
        "SELECT pg_sleep(0) FROM arrival WHERE insz::bigint / 0 > 1",
    ] {
        let error = joined(near(&server), "insz\n85-geheim-03\n", sql).unwrap_err();
        assert_eq!(error.failure(), Failure::Lasting(Reason::JobFailed), "{sql}: {error}");
        assert!(
            !error.to_string().contains("geheim") && error.to_string().contains("SQLSTATE 22"),
            "{error}"
        );
    }
}

#[test]
fn a_server_that_cannot_be_reached_or_does_not_prove_itself_gets_no_list() {
    let server = server();
    let base = far(&server);
    let nowhere = server.secret("empty.pem", "");
    let lax = server.secret("lax", PASSWORD);
    std::fs::set_permissions(&lax, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let cases = [
        (Postgres { port: 1, ..base.clone() }, "refused"),
        (
            Postgres { tls: PostgresTls::Require { ca: server.certificate("stranger") }, ..base.clone() },
            "certificate",
        ),
        (Postgres { host: "127.0.0.1".to_owned(), ..base.clone() }, "certificate"),
        (Postgres { tls: PostgresTls::Require { ca: nowhere }, ..base.clone() }, "holds no certificate"),
        (Postgres { tls: PostgresTls::Require { ca: "/nowhere".into() }, ..base.clone() }, "/nowhere"),
        (Postgres { password: Some(server.secret("wrong", "wrong\n")), ..base.clone() }, "pg_hba.conf"),
        (Postgres { password: Some(lax), ..base.clone() }, "others can read"),
        (Postgres { password: None, ..base.clone() }, "password"),
        (Postgres { database: "other".to_owned(), ..base.clone() }, "other"),
        (Postgres { user: "owner".to_owned(), ..near(&server) }, "superuser"),
    ];
    for (database, part) in cases {
        let error = joined(database, "insz\n1\n", JOIN).unwrap_err();
        assert_eq!(error.failure(), Failure::Passing, "{error}");
        let told = error.to_string();
        assert!(told.contains(part) && !told.contains(PASSWORD), "{part} in {told}");
    }
    assert!(joined(base, "insz\n1\n", JOIN).is_ok());
}

#[test]
fn a_statement_that_takes_too_long_ends_on_the_server() {
    let server = server();
    let hasty = Postgres { statement_timeout: Duration::from_secs(1), ..near(&server) };
    let error = joined(hasty, "insz\n1\n", "SELECT pg_sleep(600)").unwrap_err();
    assert_eq!(error.failure(), Failure::Lasting(Reason::JobTooLong), "{error}");
    assert!(error.to_string().contains("statement-timeout"), "{error}");
}

#[test]
fn a_stop_ends_a_query_here_and_on_the_server() {
    let server = server();
    let asked = Arc::new(AtomicBool::new(false));
    let stop = Stop::after(&asked, Duration::from_secs(3600));
    let slow =
        query("SELECT count(*), 'a stop ends it' AS mark FROM generate_series(1, 1000000000000) n", None);
    let running = || {
        server.sql(
            "register",
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%a stop ends%' AND usename = 'reader'",
        )
    };
    for database in [near(&server), Postgres { user: TRUSTED.to_owned(), ..far(&server) }] {
        if database.user == TRUSTED && matches!(database.tls, PostgresTls::Require { .. }) {
            server.sql("register", &format!("ALTER ROLE {TRUSTED} PASSWORD '{PASSWORD}'"));
        }
        asked.store(false, Ordering::Relaxed);
        // Longer than is waited here: it must not be what ends it.
        let database = Postgres { statement_timeout: Duration::from_secs(3600), ..database };
        let ended = std::thread::scope(|scope| {
            let database = Database::Postgres(database);
            let job = scope.spawn({
                let (slow, stop) = (&slow, &stop);
                move || joined_on(&database, "insz\n1\n", slow, stop)
            });
            wait_until(|| running() == "1");
            asked.store(true, Ordering::Relaxed);
            job.join().unwrap()
        });
        let error = ended.unwrap_err();
        assert!(matches!(error, QueryError::Interrupted(Interrupted::Stopping)), "{error}");
        wait_until(|| running() == "0");
    }
}

fn wait_until(holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_an_administrator_of_the_server_ends_is_tried_again() {
    let server = server();
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let ended = std::thread::scope(|scope| {
            let database = near(&server);
            let job = scope
                .spawn(|| joined(database, "insz\n1\n", "SELECT pg_sleep(600), 'ended by another' AS m"));
            let find = "FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%ended by another%' AND usename = 'reader'";
            wait_until(|| server.sql("register", &format!("SELECT count(*) {find}")) == "1");
            server.sql("register", &format!("SELECT {end}(pid) {find}"));
            job.join().unwrap()
        });
        let error = ended.unwrap_err();
        assert_eq!(error.failure(), Failure::Passing, "{error}");
        assert!(error.to_string().contains("57"), "{error}");
    }
}

#[test]
fn a_table_that_another_has_locked_is_waited_for_and_then_tried_again() {
    let server = server();
    server.sql("register", "CREATE TABLE loaded (insz text)");
    std::thread::scope(|scope| {
        let holder = "BEGIN; LOCK TABLE loaded; SELECT pg_sleep(600), 'holds the lock'; COMMIT";
        let find = "FROM pg_stat_activity WHERE query LIKE '%holds the lock%' AND state = 'active' AND pid <> pg_backend_pid()";
        let loading = scope.spawn(|| server.psql("register", holder));
        wait_until(|| server.sql("register", &format!("SELECT count(*) {find}")) == "1");
        let error = joined(near(&server), "insz\n1\n", "SELECT insz FROM loaded").unwrap_err();
        server.sql("register", &format!("SELECT pg_terminate_backend(pid) {find}"));
        loading.join().unwrap();
        assert_eq!(error.failure(), Failure::Passing, "{error}");
        assert!(error.to_string().contains("55P03"), "{error}");
    });
}
