//! A PostgreSQL server of a test's own: a new cluster in a temporary folder, on a Unix socket in it and on a loopback port,
//! with a certificate made for it. It runs as an unprivileged user and never touches the machine's own clusters.
//!
//! Used by `tests/zone` and by the tests of `daemon/work/postgres`, so it knows nothing of either.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A role that may read, and its password; and another that needs none over the Unix socket.
pub const ROLE: &str = "dropzone";
pub const PASSWORD: &str = "correct horse battery staple";
pub const TRUSTED: &str = "reader";
/// The name its certificate is for.
pub const HOST: &str = "localhost";

const OWNER: &str = "owner";
const PATIENCE: Duration = Duration::from_secs(60);
/// Debian's `nobody` and `nogroup`: a server refuses to run as root.
const NOBODY: u32 = 65534;

/// The server ends with whoever holds the other end of its shell's input, however that ends: after a word it can be started
/// again, without one its folder goes too.
const WATCH: &str = r#"folder=$1; shift
"$@" & server=$!
word=; read -r word; kill -INT "$server"; wait "$server"
[ -n "$word" ] || rm -rf "$folder""#;

/// A cluster, and its server while it runs.
pub struct Server {
    /// Its Unix socket lies there too.
    pub folder: PathBuf,
    pub port: u16,
    running: Option<(Child, ChildStdin)>,
}

impl Server {
    /// Makes a cluster with a database `register`, and starts its server.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dropzone-postgres-").tempdir().unwrap().keep();
        if is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut server = Self { folder, port: 0, running: None };
        let data = server.folder.join("data");
        server.own(&program("initdb"), |initdb| {
            initdb.args([
                "--username",
                OWNER,
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ]);
            initdb.arg("--pgdata").arg(&data)
        });
        server.make_certificates();
        let allowed = "local all owner trust\nlocal all reader trust\nlocal all all scram-sha-256\n\
                       host all all samehost scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), allowed).unwrap();
        server.go_on();
        server.sql("postgres", "CREATE DATABASE register");
        server.sql(
            "register",
            &format!(
                "CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE {TRUSTED} LOGIN;
                 ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {ROLE}, {TRUSTED};"
            ),
        );
        server
    }

    /// Starts it, also after it was stopped, and waits until it answers.
    pub fn go_on(&mut self) {
        for _ in 0..5 {
            // The number stays, and is free unless somebody took it in the meantime.
            if self.port == 0 {
                self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            }
            self.run();
            if self.answers() {
                return;
            }
            self.stop();
            self.port = 0;
        }
        panic!("the server does not start:\n{}", self.log());
    }

    fn run(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "sh"]).arg(&self.folder).arg(program("postgres"));
        shell.arg("-D").arg(self.folder.join("data")).arg("-k").arg(&self.folder);
        shell.args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        for (name, value) in [
            ("fsync", "off"),
            ("ssl", "on"),
            ("ssl_cert_file", "../server.pem"),
            ("ssl_key_file", "../server.key"),
            ("max_connections", "30"),
            ("log_min_messages", "info"),
        ] {
            shell.args(["-c", &format!("{name}={value}")]);
        }
        let shell = unprivileged(shell.current_dir(&self.folder));
        let mut child =
            shell.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        self.running = Some((child, input));
    }

    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && self.running.is_some() {
            let asked = self.psql("postgres", "SELECT 1");
            if asked.status.success() {
                return true;
            }
            if self.running.as_mut().is_some_and(|(child, _)| child.try_wait().unwrap().is_some()) {
                return false;
            }
            // The port may be somebody else's.
            if self.log().contains("could not create any TCP/IP sockets") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Ends it as an administrator does, who ends running sessions too; the cluster stays.
    pub fn stop(&mut self) {
        if let Some((mut child, mut input)) = self.running.take() {
            let _ = input.write_all(b"stop\n");
            drop(input);
            child.wait().unwrap();
        }
    }

    /// Runs SQL as the cluster's owner.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let ran = self.psql(database, sql);
        assert!(ran.status.success(), "{sql}\n{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    /// The same, whatever comes of it.
    pub fn psql(&self, database: &str, sql: &str) -> Output {
        let mut psql = Command::new(program("psql"));
        psql.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-U", OWNER, "-d", database]);
        psql.args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql]).stdin(Stdio::null());
        psql.output().unwrap()
    }

    /// A certificate in PEM: of the authority that signed the server's (`ca`), or of one that did not (`stranger`).
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Writes a file that only its owner, who runs the test, can read.
    pub fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    fn make_certificates(&self) {
        fs::write(self.folder.join("openssl.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
        let openssl = |name: &str, subject: &str, arguments: &[&str]| {
            self.own(Path::new("openssl"), |openssl| {
                openssl.args([
                    "req",
                    "-config",
                    "openssl.cnf",
                    "-x509",
                    "-nodes",
                    "-days",
                    "30",
                    "-newkey",
                    "ec",
                ]);
                openssl.args([
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                    "-subj",
                    &format!("/CN={subject}"),
                ]);
                openssl
                    .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
                    .args(arguments)
            });
        };
        let authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
        openssl("ca", "Authority of a test", &authority);
        openssl("stranger", "Authority of a test", &authority);
        let name = format!("subjectAltName=DNS:{HOST}");
        openssl("server", HOST, &["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", &name]);
    }

    /// Runs a program in the folder, as the user whose cluster it is.
    fn own(&self, program: &Path, arguments: impl FnOnce(&mut Command) -> &mut Command) {
        let mut command = Command::new(program);
        arguments(&mut command);
        let ran = unprivileged(command.current_dir(&self.folder)).stdin(Stdio::null()).output().unwrap();
        assert!(ran.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.running.take() {
            Some((mut child, input)) => {
                drop(input);
                let _ = child.wait();
            }
            None => drop(fs::remove_dir_all(&self.folder)),
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn unprivileged(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// One of the newest version on this machine; Debian keeps them out of the search path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let of = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path()));
    let newest = versions.filter_map(|entry| of(entry.ok()?)).max();
    let folder = newest.expect("no /usr/lib/postgresql: install the package postgresql, as tests/run does").1;
    folder.join("bin").join(name)
}
