//! What `serve` goes on needing of the machine, so that `host::containment` can put the rest out of its reach: the spool, the
//! log, the configuration for a reload, and its ports. No key but the host key, and no program.

use std::path::Path;

use crate::config::{Config, Database, main_file};
use crate::host::containment::{Needs, is_below};
use crate::host::spool::Spool;
use crate::host::systemd;

/// What a zone's `serve` needs.
pub fn needs(config: &Config) -> Needs {
    let machine = &config.machine;
    let directory = &config.directory;
    let mut parts = Spool::shared_folders(&machine.spool);
    parts.push(machine.log.directory.clone());
    let mut needs = Needs {
        change: vec![machine.spool.clone(), machine.log.directory.clone()],
        // What is handed in, and keys and passphrases, are not serve's to read.
        parts,
        read_folders: vec![directory.join("institutions"), directory.join("exchanges")],
        // To open a folder is to be able to list it.
        list_folders: vec![directory.clone()],
        read_files: vec![main_file(directory), machine.host_key.clone()],
        listen: machine.listen.iter().chain([&machine.metrics.serve]).map(|address| address.port()).collect(),
        socket_folders: machine.sockets.serve.parent().map(Path::to_owned).into_iter().collect(),
        abstract_sockets: systemd::listens_abstractly(),
    };
    if !secrets(config).any(|path| is_below(path, directory)) {
        // A reload then also reads a dropzone.yaml that took the place of the one that was there at the start.
        needs.read_folders.push(directory.clone());
    }
    needs
}

/// What `work` alone may read. Where these lie beside dropzone.yaml, that folder as a whole is not opened to `serve`.
fn secrets(config: &Config) -> impl Iterator<Item = &Path> {
    let machine = &config.machine;
    let databases = machine.databases.values().filter_map(|database| match database {
        Database::Sqlite(file) => Some(file.as_path()),
        Database::Postgres(postgres) => postgres.password.as_deref(),
    });
    machine
        .identities
        .iter()
        .map(|path| path.as_path())
        .chain([machine.signing_key.as_path()])
        .chain(databases)
}
