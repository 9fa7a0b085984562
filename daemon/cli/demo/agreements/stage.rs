//! Where an agreement is played: a zone of the shipped files, with both daemons inside this process, and the hands of its people.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::client::Client;
use super::super::zone::free_addresses;
use super::cast::{Cast, Person};
use crate::cli::init::{self, SAMPLE, ZoneKeys};
use crate::host::clock::Clock;
use crate::host::containment::Containment;
use crate::host::process::{Hangup, Shutdown};

/// What each daemon gets to end.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A zone that runs.
pub struct Stage {
    /// Its folder.
    pub directory: PathBuf,
    /// Where `serve` listens.
    pub ssh: SocketAddr,
    /// What its daemons read.
    pub clock: Clock,
    cast: Cast,
    keys: ZoneKeys,
    serve: Running,
    work: Running,
}

/// A daemon that ends when its pipe is closed.
struct Running {
    name: &'static str,
    daemon: JoinHandle<anyhow::Result<()>>,
    holder: pipe::Sender,
}

/// Somebody who is logged in.
pub struct Actor<'a> {
    stage: &'a Stage,
    person: &'a Person,
    /// Her SFTP client.
    pub client: Client,
}

impl Stage {
    /// Lays the zone out as `dropzone init` does, fills in what an operator fills in, and starts both daemons.
    pub async fn begin(directory: PathBuf, clock: Clock, cast: &Cast) -> anyhow::Result<Self> {
        let [ssh, serve_metrics, work_metrics] = free_addresses()?;
        let keys = lay_out(&directory, cast, ssh, [serve_metrics, work_metrics])?;
        let load = || {
            crate::config::load(&directory)
                .map_err(|errors| anyhow::anyhow!("the demo's own zone has errors: {errors:?}"))
        };
        let (work, serve) = (start_work(load()?, clock.clone())?, start_serve(load()?, clock.clone())?);
        Ok(Self { directory, ssh, clock, cast: cast.clone(), keys, serve, work })
    }

    /// Logs somebody in.
    pub async fn log_in(&self, label: &str) -> anyhow::Result<Actor<'_>> {
        let person = self.cast.person(label)?;
        let client =
            Client::log_in(self.ssh, &self.keys.host_fingerprint, person.institution, &person.key).await?;
        Ok(Actor { stage: self, person, client })
    }

    /// Whether somebody is refused at the door. Others must have been let in before, so that it is known to be open.
    pub async fn turns_away(&self, label: &str) -> anyhow::Result<bool> {
        let person = self.cast.person(label)?;
        Client::is_turned_away(self.ssh, &self.keys.host_fingerprint, person.institution, &person.key).await
    }

    /// Encrypts to the zone.
    pub fn encrypt(&self, list: &str) -> anyhow::Result<Vec<u8>> {
        let recipient: age::x25519::Recipient =
            self.keys.recipient.parse().map_err(|error: &str| anyhow::anyhow!(error))?;
        Ok(age::encrypt(&recipient, list.as_bytes())?)
    }

    /// Who may open what was encrypted to an institution.
    pub fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Ends `serve`, then `work`, so that nothing arrives unseen.
    pub async fn end(self) -> anyhow::Result<()> {
        self.serve.end().await?;
        self.work.end().await
    }
}

impl Running {
    async fn end(self) -> anyhow::Result<()> {
        drop(self.holder);
        let ended = timeout(STOP_PATIENCE, self.daemon).await;
        ended.with_context(|| format!("{} does not end", self.name))??.with_context(|| self.name.to_owned())
    }
}

impl Actor<'_> {
    /// Encrypts a list to the zone and drops it.
    pub async fn send(&self, exchange: &str, name: &str, list: &str) -> anyhow::Result<()> {
        self.client.put(&format!("/{exchange}/in/{name}"), &self.stage.encrypt(list)?).await
    }

    /// The receipt of what she sent, which must say this.
    pub async fn receipt(&self, exchange: &str, name: &str, verdict: &str) -> anyhow::Result<Value> {
        let receipt = self.client.receipt(exchange, name).await?;
        anyhow::ensure!(word(&receipt, "verdict") == verdict, "{name} is not {verdict}: {receipt:#}");
        Ok(receipt)
    }

    /// The receipt of what she sent, which must be held for this reason. Gives the reason in words.
    pub async fn held(&self, exchange: &str, name: &str, code: &str) -> anyhow::Result<String> {
        let receipt = self.receipt(exchange, name, "held").await?;
        let reason = receipt.get("reason").cloned().unwrap_or_default();
        anyhow::ensure!(word(&reason, "code") == code, "{name} is held for another reason: {receipt:#}");
        Ok(word(&reason, "en").to_owned())
    }

    /// The quality report of what she sent.
    pub async fn quality_report(&self, exchange: &str, name: &str) -> anyhow::Result<String> {
        let folder = format!("/{exchange}/receipts");
        let is_its = |found: &str| found.starts_with(name) && found.ends_with(".quality.csv");
        let found = self.client.wait_for(&folder, is_its).await?;
        Ok(String::from_utf8(self.client.get(&format!("{folder}/{found}")).await?)?)
    }

    /// The name of the result that a receipt says was delivered to her.
    pub fn name_of_hers(&self, receipt: &Value) -> anyhow::Result<String> {
        let is_hers = |delivery: &&Value| {
            word(delivery, "to") == self.person.institution
                && delivery.get("person").is_none_or(|person| person == self.person.label)
        };
        let deliveries = receipt.get("deliveries").and_then(Value::as_array);
        let hers = deliveries.and_then(|deliveries| deliveries.iter().find(is_hers));
        let hers = hers.with_context(|| format!("nothing was delivered to {}", self.person.label))?;
        Ok(word(hers, "name").to_owned())
    }

    /// Fetches the result that a receipt says was delivered to her, still encrypted.
    pub async fn fetch(&self, receipt: &Value) -> anyhow::Result<Vec<u8>> {
        let name = self.name_of_hers(receipt)?;
        self.client.get(&format!("/{}/out/{name}", word(receipt, "exchange"))).await
    }

    /// The same, opened with the key of her institution.
    pub async fn collect(&self, receipt: &Value) -> anyhow::Result<String> {
        let identity = self.stage.cast.identity(self.person.institution)?;
        Ok(String::from_utf8(age::decrypt(identity, &self.fetch(receipt).await?)?)?)
    }

    /// The same, opened with a key that only she has.
    pub async fn collect_herself(&self, receipt: &Value) -> anyhow::Result<String> {
        Ok(String::from_utf8(age::decrypt(&self.person.identity, &self.fetch(receipt).await?)?)?)
    }
}

/// A text in JSON; empty where there is none.
pub fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn lay_out(
    directory: &Path,
    cast: &Cast,
    ssh: SocketAddr,
    metrics: [SocketAddr; 2],
) -> anyhow::Result<ZoneKeys> {
    let mut texts = Vec::new();
    for (name, text) in SAMPLE {
        let institution = name.strip_prefix("institutions/").and_then(|name| name.strip_suffix(".yaml"));
        let text = match institution {
            Some(institution) => cast.fill_in(institution, text)?,
            None if name == "dropzone.yaml" => machine(text, ssh, metrics)?,
            None => text.to_owned(),
        };
        texts.push((name, text));
    }
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let keys = init::make_zone(directory, &texts)?;
    init::write_sample_register(&directory.join("register.db"))?;
    Ok(keys)
}

/// The sample's machine on free ports, where the demo may be refused as often as it shows that.
fn machine(sample: &str, ssh: SocketAddr, [serve, work]: [SocketAddr; 2]) -> anyhow::Result<String> {
    let mut text = sample.to_owned();
    for (old, new) in [
        ("listen: [\"0.0.0.0:2222\"]", format!("listen: [\"{ssh}\"]")),
        ("127.0.0.1:9721", serve.to_string()),
        ("127.0.0.1:9722", work.to_string()),
    ] {
        anyhow::ensure!(text.contains(old), "the sample of dropzone.yaml has no {old}");
        text = text.replacen(old, &new, 1);
    }
    Ok(text + "\nnode: demo\npenalties: {exempt: [127.0.0.0/8]}\n")
}

fn start_serve(config: crate::config::Config, clock: Clock) -> anyhow::Result<Running> {
    let (holder, held) = pipe::pipe()?;
    let (shutdown, hangup) = (Shutdown::with(held)?, Hangup::listen()?);
    let daemon = tokio::spawn(async move {
        Ok(crate::serve::run(config, clock, shutdown, hangup, Containment::default()).await?)
    });
    Ok(Running { name: "serve", daemon, holder })
}

fn start_work(config: crate::config::Config, clock: Clock) -> anyhow::Result<Running> {
    let (holder, held) = pipe::pipe()?;
    let (mut shutdown, hangup) = (Shutdown::with(held)?, Hangup::listen()?);
    let daemon = tokio::spawn(crate::work::run(config, clock, hangup, async move {
        shutdown.requested().await;
    }));
    Ok(Running { name: "work", daemon, holder })
}
