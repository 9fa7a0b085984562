//! Makes the results of one arrival beside it: from its payload to files that are complete, synced, and nobody's yet. Which
//! they are `outgoing` says, delivering them is `deliver`'s business.

use std::fs::File;

use age::Encryptor;
use zeroize::Zeroizing;

use super::Workshop;
use super::deliver::{JobError, Order, Progress, Staged};
use super::encrypt::{self, Pipe};
use super::join::{Engine, List};
use super::memory::Share;
use super::open;
use super::outgoing::{Plan, Target, encryptor};
use super::passphrase::Keyring;
use super::query::QueryError;
use super::replay::Digesting;
use super::shape::{Made, Recipe, Shaping, Strays};
use super::sheet;
use super::stop::Stop;
use crate::host::spool::Claim;
use crate::policy::agreement::{Job, OnFault, Query};
use crate::policy::arrival::Arrival;
use crate::policy::receipt::Content;
use crate::policy::rules::Format;
use crate::policy::table::{Dialect, Table};

impl Workshop {
    /// The payload itself, to everybody.
    pub(super) fn relay(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        order: Order<'_>,
        progress: &Progress,
    ) -> Result<Vec<Staged>, JobError> {
        // Nobody here can open it, so its digest is the only proof that it is still what was dropped.
        let found = Digesting::new(stop.reading(claim.payload()?), arrival.size).finish();
        // A file that was not read to its end because the job is over is not damaged.
        stop.go_on()?;
        let found = found?;
        self.admit(arrival, &found)?;
        self.take_place(arrival, order, None, stop)?;
        let plan = Plan::of(order, (arrival, Format::Csv), progress);
        let stage = |Target { receiver, name, .. }: &Target<'_>| {
            claim.stage_payload(receiver)?;
            let (receiver, name, sha256) = (receiver.clone(), name.clone(), found.sha256.clone());
            Ok(Staged { receiver, name, rows: None, size: found.size, sha256 })
        };
        plan.targets().map(stage).collect()
    }

    /// What the flow's job makes of the list.
    pub(super) fn make(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        order: Order<'_>,
        progress: &mut Progress,
    ) -> Result<Vec<Staged>, JobError> {
        let plaintext = self.decrypted((claim, stop), arrival, order)?;
        progress.content = Content::Verified;
        let memory = order.config.machine.work.job.memory;
        let (mut plaintext, sent) = sheet::list_of(plaintext, order.flow.input.as_ref(), memory, stop)?;
        let plan = Plan::of(order, (arrival, sent), progress);
        self.check_list((claim, stop), arrival, (order.flow, &plan), &mut plaintext, progress)?;
        let table = Table::parse(&plaintext).map_err(QueryError::List)?;
        let list = List::measure(&table, stop)?;
        // With those that were left out.
        progress.rows_in.get_or_insert(list.rows());
        self.take_place(arrival, order, Some(&table), stop)?;
        let (rows, strays, staged) = match &order.flow.job {
            Job::Query(query) => {
                let memory = self.memory.share();
                let engine = engine(order, query, (&memory, stop))?;
                let limit = order.config.machine.work.job.memory;
                self.give_out(claim, order, (&plan, table.dialect()), |pipe| {
                    list.query(query, engine, pipe).map_err(|error| blame(error, &memory, limit).into())
                })?
            }
            Job::Shape => {
                self.give_out(claim, order, (&plan, table.dialect()), |pipe| Ok(list.pass(stop, pipe)?))?
            }
            Job::Command(command) => self.give_out(claim, order, (&plan, table.dialect()), |pipe| {
                Ok(self.run_command(order, (arrival, command), &table, stop, pipe)?)
            })?,
            Job::Relay => return Err(JobError::Setup("a relayed file is not opened".to_owned())),
        };
        progress.rows_out = Some(rows);
        if let Some((row, column)) = strays.listed.first() {
            self.report_strays(claim, arrival, (&strays, order.flow.on_fault), progress)?;
            if order.flow.on_fault == OnFault::Hold {
                return Err(JobError::Strays { count: strays.count, row: *row, column: column.clone() });
            }
        }
        Ok(staged)
    }

    /// The list, decrypted to its last byte; it is what was published, and was not here before.
    fn decrypted(
        &self,
        (claim, stop): (&Claim<'_>, &Stop),
        arrival: &Arrival,
        order: Order<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, JobError> {
        let payload = claim.payload()?;
        let size = payload.metadata()?.len().min(arrival.size);
        open::fits(size, arrival.armored, order.config.machine.work.job.memory)?;
        // Read once: what is decrypted is what was digested, whatever `serve` writes into the file meanwhile.
        let mut payload = Digesting::new(stop.reading(payload), arrival.size);
        let opened = open::open(&mut payload, size, arrival.armored, &self.identities);
        // A file that was not read to its end because the job is over is not damaged.
        stop.go_on()?;
        let found = payload.finish();
        stop.go_on()?;
        self.admit(arrival, &found?)?;
        Ok(opened?)
    }

    /// Runs the job, and writes what it makes into the files of all receivers. Gives the number of its rows.
    fn give_out(
        &self,
        claim: &Claim<'_>,
        order: Order<'_>,
        (plan, dialect): (&Plan<'_>, Dialect),
        job: impl FnOnce(&mut Pipe) -> Result<u64, JobError>,
    ) -> Result<(u64, Strays, Vec<Staged>), JobError> {
        let most = order.config.machine.work.job.result_size;
        let keyring = Keyring::default();
        let open = |target: &Target<'_>| -> Result<(Encryptor, File), JobError> {
            Ok((encryptor(target, &keyring)?, claim.stage(&target.receiver)?))
        };
        // Buffers go through untouched where nothing is to be done with them.
        if plan.is_plain() && order.flow.output.is_none() {
            let outputs = plan.targets().map(open).collect::<Result<Vec<_>, JobError>>()?;
            let (rows, sealed) = encrypt::encrypt(outputs, most, job)?;
            let staged = plan.targets().zip(sealed).map(|(target, sealed)| {
                let (receiver, name) = (target.receiver.clone(), target.name.clone());
                stage(Made { receiver, name, rows, sealed })
            });
            let staged = staged.collect::<Result<Vec<_>, _>>()?;
            self.keep_passphrases(claim, keyring, &staged)?;
            return Ok((rows, Strays::default(), staged));
        }
        let exchange = &order.exchange.name;
        let key = plan.has_pseudonym().then(|| self.pseudonym_key(exchange)).transpose()?;
        let recipe =
            Recipe { plan, dialect, rules: order.flow.output.as_ref(), pseudonyms: (exchange, key.as_ref()) };
        let (rows, shaped) = encrypt::through(|| Ok(Shaping::new(recipe, most, open)), job)?;
        let staged = shaped.files.into_iter().map(stage).collect::<Result<Vec<_>, _>>()?;
        self.keep_passphrases(claim, keyring, &staged)?;
        Ok((rows, shaped.strays, staged))
    }
}

/// What runs a query of this order.
fn engine<'s>(
    order: Order<'s>,
    query: &Query,
    (memory, stop): (&Share<'_>, &'s Stop),
) -> Result<Engine<'s>, JobError> {
    let database = order
        .config
        .machine
        .databases
        .get(&query.database)
        .ok_or_else(|| JobError::Setup(format!("database {} is not in dropzone.yaml", query.database)))?;
    Ok(Engine { database, mapped: memory.bytes(), stop })
}

fn stage(Made { receiver, name, rows, sealed }: Made<File>) -> Result<Staged, JobError> {
    sealed.output.sync_all()?;
    Ok(Staged { receiver, name, rows: Some(rows), size: sealed.size, sha256: sealed.sha256 })
}

/// The bound on memory is the process's. Who meets it while other jobs ran may have met what they took, and is tried again.
fn blame(error: QueryError, memory: &Share<'_>, limit: u64) -> QueryError {
    if error.is_out_of_memory() && memory.was_alone() { QueryError::Memory { limit } } else { error }
}
