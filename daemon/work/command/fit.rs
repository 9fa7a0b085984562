//! Whether a command may be run in this zone at all: whether its program is what the operator put there, and whether what it
//! may read leaves out what is the zone's own. Asked by `check`, and again before each run.

use std::path::{Path, PathBuf};

use super::super::Workshop;
use super::super::deliver::Order;
use super::super::stop::Stop;
use super::{CommandError, Run};
use crate::config::{Config, Database, Machine};
use crate::host::confine::reach::{ESSENTIALS, FOR_NETWORK, SYSTEM};
use crate::host::containment::is_below;
use crate::host::files::{exists, program};
use crate::host::group::ITSELF;
use crate::policy::agreement::Command;
use crate::policy::arrival::Arrival;
use crate::policy::table::Table;
use crate::work::encrypt::Pipe;

/// What speaks against running a command: which key of it, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct Objection {
    /// `argv` or `reads`.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// The first thing that speaks against it.
pub fn objection(config: &Config, command: &Command) -> Option<Objection> {
    let program = command.argv.first().map(Path::new)?;
    if let Err(error) = program::trusted(program) {
        let problem = format!("the program {}: {} {error}", program.display(), error.path().display());
        return Some(Objection { key: "argv", problem, remedy: error.remedy() });
    }
    let folders = [config.directory.as_path(), &config.machine.spool, &config.machine.log.directory];
    let own: Vec<&Path> = folders.into_iter().chain(secrets(&config.machine)).collect();
    let network: &[&str] = if command.network { FOR_NETWORK } else { &[] };
    let system = SYSTEM.iter().chain(ESSENTIALS).chain(network).map(Path::new);
    let reads = command.reads.iter().map(PathBuf::as_path);
    for granted in reads.clone().chain(system) {
        if let Some(own) = own.iter().find(|own| is_below(own, granted)) {
            let problem =
                format!("a command would read {}, in which lies {}", granted.display(), own.display());
            let remedy = "name what it needs, or move what is the zone's own".to_owned();
            return Some(Objection { key: "reads", problem, remedy });
        }
    }
    if let Some(absent) = reads.clone().find(|path| !exists(path)) {
        let problem = format!("{} is not there", absent.display());
        return Some(Objection {
            key: "reads",
            problem,
            remedy: "correct the path, or put it there".to_owned(),
        });
    }
    let inside = |path: &Path| folders.iter().any(|folder| is_below(path, folder));
    let inner = reads.clone().find(|path| inside(path) && !is_database(&config.machine, path))?;
    let problem = format!("{} lies in the zone's own folders, which no command may read", inner.display());
    Some(Objection { key: "reads", problem, remedy: "put it elsewhere".to_owned() })
}

/// What a command must never read.
fn secrets(machine: &Machine) -> impl Iterator<Item = &Path> {
    let passwords = machine.databases.values().filter_map(|database| match database {
        Database::Sqlite(_) => None,
        Database::Postgres(server) => server.password.as_deref(),
    });
    let sockets = [&machine.sockets.serve, &machine.sockets.work, &machine.sockets.work_control];
    let keys = [&machine.host_key, &machine.signing_key];
    let files = machine.identities.iter().chain(keys).chain(sockets);
    files.map(PathBuf::as_path).chain(passwords)
}

/// A register that queries read anyway, if the operator names that very file.
fn is_database(machine: &Machine, path: &Path) -> bool {
    machine
        .databases
        .values()
        .any(|database| matches!(database, Database::Sqlite(file) if is_below(path, file)))
}

impl Workshop {
    /// Gives an arrival's list to the program of its flow.
    pub(in crate::work) fn run_command(
        &self,
        order: Order<'_>,
        (arrival, command): (&Arrival, &Command),
        list: &Table<'_>,
        stop: &Stop,
        out: &mut Pipe,
    ) -> Result<u64, CommandError> {
        if let Some(objection) = objection(order.config, command) {
            return Err(CommandError::NotConfined(objection.to_string()));
        }
        let (itself, arrival) = (Path::new(ITSELF), arrival.id.to_string());
        let limits = order.config.machine.work.job;
        Run { command, itself, limits, stop, arrival: &arrival }.perform(list, out)
    }
}
