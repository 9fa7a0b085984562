//! Checks `databases` of `dropzone.yaml`. Whether there is such a file or server is for those who open it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::error::Key;
use super::machine::path;
use super::raw;
use super::values::Desk;
use super::{Database, Postgres, PostgresTls};
use crate::policy::path::Slug;

const PORT: u16 = 5432;
const STATEMENT_TIMEOUT: &str = "10m";

/// What queries may join with.
pub fn databases(
    desk: &mut Desk<'_>,
    directory: &Path,
    raw: &raw::Mapping<raw::Database>,
) -> Option<BTreeMap<Slug, Database>> {
    let key = Key::root().at("databases");
    let database = |(name, raw): &(String, raw::Database)| {
        let key = key.at(name);
        let slug = desk.slug(&key, name);
        let database = match (&raw.sqlite, &raw.postgres) {
            (Some(file), None) => path(desk, directory, &key.at("sqlite"), file).map(Database::Sqlite),
            (None, Some(raw)) => postgres(desk, directory, &key.at("postgres"), raw).map(Database::Postgres),
            (Some(_), Some(_)) | (None, None) => {
                desk.wrong(
                    &key,
                    "needs one of sqlite and postgres",
                    "write {sqlite: FILE} or {postgres: {...}}",
                );
                None
            }
        };
        Some((slug?, database?))
    };
    raw.0.iter().map(database).collect()
}

fn postgres(desk: &mut Desk<'_>, directory: &Path, key: &Key, raw: &raw::Postgres) -> Option<Postgres> {
    let host = desk.line(&key.at("host"), &raw.host);
    let database = desk.line(&key.at("database"), &raw.database);
    let user = desk.line(&key.at("user"), &raw.user);
    let password =
        desk.optional(raw.password.as_deref(), |desk, text| path(desk, directory, &key.at("password"), text));
    let timeout = raw.statement_timeout.as_deref().unwrap_or(STATEMENT_TIMEOUT);
    let times = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
    let statement_timeout = desk.duration(&key.at("statement-timeout"), timeout, times);
    let tls = tls(desk, directory, key, raw);
    Some(Postgres {
        host: host?,
        port: raw.port.unwrap_or(PORT),
        database: database?,
        user: user?,
        password: password?,
        tls: tls?,
        statement_timeout: statement_timeout?,
    })
}

fn tls(desk: &mut Desk<'_>, directory: &Path, key: &Key, raw: &raw::Postgres) -> Option<PostgresTls> {
    let is_near = raw.host.starts_with('/')
        || raw.host == "localhost"
        || raw.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match (raw.tls.as_deref(), &raw.ca) {
        (None | Some("require"), Some(_)) if raw.host.starts_with('/') => {
            let remedy = "write tls: local without ca, or name the host";
            desk.wrong(&key.at("host"), "is the folder of a Unix socket, which has no TLS", remedy);
            None
        }
        (None | Some("require"), Some(ca)) => {
            path(desk, directory, &key.at("ca"), ca).map(|ca| PostgresTls::Require { ca })
        }
        (Some("local"), None) if is_near => Some(PostgresTls::Local),
        (Some("local"), None) => {
            let remedy = "use tls: require with ca, or a Unix socket's folder as host";
            desk.wrong(&key.at("tls"), "is local, and the host can be another machine", remedy);
            None
        }
        (Some("local"), Some(_)) => {
            desk.wrong(&key.at("ca"), "stands beside tls: local", "remove one of them");
            None
        }
        (None | Some("require"), None) => {
            let remedy =
                "name the file of the authority that signed the server's certificate, or write tls: local";
            desk.wrong(key, "has no ca: nobody would know whether it is the right server", remedy);
            None
        }
        (Some(text), _) => {
            desk.wrong(&key.at("tls"), format!("{text:?} is not a choice"), "write require or local");
            None
        }
    }
}
