//! What the demo tells, step by step, as it happens.

use std::io::Write;

use anyhow::Context;
use comfy_table::Table;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Client;
use super::people;
use super::zone::{DemoZone, PEOPLE};
use crate::host::evidence::LogFolder;
use crate::host::files;
use crate::policy::record::Line;

const LIST: &str = "jobseekers.csv.age";
const PLAIN: &str = "jobseekers.csv";

/// Tells all of it.
pub async fn tell(zone: &DemoZone, out: &mut impl Write) -> anyhow::Result<()> {
    begin(zone, out)?;
    let client = Client::log_in(zone.ssh, &zone.keys.host_fingerprint, "agency", &zone.agency_key).await?;
    step(out, 2, "The agency logs in over SFTP with the key of one of its people")?;
    writeln!(out, "   host key  {} (checked)", zone.keys.host_fingerprint)?;
    for folder in ["/", "/pillar-3"] {
        writeln!(out, "   ls {folder:<10} {}", client.list(folder).await?.join("  "))?;
    }
    upload(zone, &client, out).await?;
    refuse_plaintext(&client, out).await?;
    collect(zone, &client, out).await?;
    receipts(&client, out).await?;
    client.log_out().await?;
    strangers(zone, out).await?;
    evidence(zone, out).await?;
    farewell(zone, out)
}

fn step(out: &mut impl Write, number: u8, title: &str) -> std::io::Result<()> {
    writeln!(out, "\n{number}. {title}")
}

fn begin(zone: &DemoZone, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 1, "A zone with two institutions and a made-up register of jobseekers")?;
    writeln!(out, "   folder    {}", zone.directory.display())?;
    writeln!(out, "   serve     {} (ssh), holds the host key and no other secret", zone.ssh)?;
    writeln!(out, "   work      no network, holds the age identity and the database")?;
    writeln!(out, "   register  {} people, none of them real", zone.known)?;
    writeln!(out, "   zone key  {}", zone.keys.recipient)?;
    Ok(())
}

async fn upload(zone: &DemoZone, client: &Client, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 3, "It encrypts a list of 1,000 national numbers to the zone's key and drops it")?;
    let list = people::list(PEOPLE);
    let recipient: age::x25519::Recipient =
        zone.keys.recipient.parse().map_err(|error: &str| anyhow::anyhow!(error))?;
    let encrypted = age::encrypt(&recipient, list.as_bytes())?;
    files::write_new(&zone.directory.join("people").join(LIST), &encrypted, 0o600)?;
    client.put(&format!("/pillar-3/in/{LIST}"), &encrypted).await?;
    writeln!(out, "   put {LIST}: {} bytes, acknowledged: it lies durably in the spool", encrypted.len())?;
    Ok(())
}

async fn refuse_plaintext(client: &Client, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 4, "Somebody forgets to encrypt")?;
    let plain = people::list(PEOPLE);
    for name in [PLAIN, "forgotten.csv.age"] {
        match client.put(&format!("/pillar-3/in/{name}"), plain.as_bytes()).await {
            Ok(()) => anyhow::bail!("plaintext was accepted as {name}"),
            Err(error) => writeln!(out, "   put {name}: refused\n      {}", innermost(&error))?,
        }
    }
    writeln!(out, "   nothing of it was written to disk")?;
    Ok(())
}

async fn collect(zone: &DemoZone, client: &Client, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 5, "The worker has joined the list with the register; the agency collects and decrypts")?;
    let name = client.wait_for("/pillar-3/out", |name| name.ends_with(".csv.age")).await?;
    let encrypted = client.get(&format!("/pillar-3/out/{name}")).await?;
    let secret = files::read_secret(&zone.agency_identity_file())?;
    let text = std::str::from_utf8(&secret)?;
    let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).context("no identity")?;
    let identity: age::x25519::Identity = line.parse().map_err(|error: &str| anyhow::anyhow!(error))?;
    let plain = String::from_utf8(age::decrypt(&identity, &encrypted)?)?;
    writeln!(out, "   get {name}: {} bytes, encrypted to the agency's own key", encrypted.len())?;
    let mut table = Table::new();
    let mut rows = plain.lines().map(|row| row.split(',').map(|cell| cell.trim_matches('"').to_owned()));
    if let Some(header) = rows.next() {
        table.set_header(header.collect::<Vec<_>>());
    }
    for row in rows.by_ref().take(9) {
        table.add_row(row.collect::<Vec<_>>());
    }
    let rest = rows.count();
    indented(out, &table.to_string())?;
    writeln!(
        out,
        "   ... and {rest} rows more; a number that the register does not know keeps its row, with empty fields"
    )?;
    anyhow::ensure!(rest as u64 + 9 == PEOPLE, "the result has {} rows instead of {PEOPLE}", rest + 9);
    Ok(())
}

async fn receipts(client: &Client, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 6, "Each arrival has its receipt, the refused ones too")?;
    for uploaded in [LIST, "forgotten.csv.age"] {
        let receipt = client.receipt("pillar-3", uploaded).await?;
        let shown: serde_json::Map<_, _> =
            ["name", "size", "by", "verdict", "content", "reason", "job", "deliveries"]
                .iter()
                .filter_map(|key| receipt.get(*key).map(|value| ((*key).to_owned(), value.clone())))
                .collect();
        writeln!(out, "   {uploaded}")?;
        indented(out, &serde_json::to_string_pretty(&shown)?)?;
    }
    Ok(())
}

async fn strangers(zone: &DemoZone, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 7, "The city logs in too: of the agency's exchange it sees nothing")?;
    let city = Client::log_in(zone.ssh, &zone.keys.host_fingerprint, "city", &zone.city_key).await?;
    writeln!(out, "   ls /          {}", city.list("/").await?.join("  "))?;
    match city.list("/pillar-3/out").await {
        Ok(_) => anyhow::bail!("the city can look into the agency's folder"),
        Err(error) => writeln!(out, "   ls /pillar-3/out: {}", innermost(&error))?,
    }
    city.log_out().await
}

async fn evidence(zone: &DemoZone, out: &mut impl Write) -> anyhow::Result<()> {
    step(out, 8, "Every access is in the access log, each line chained to the one before")?;
    for line in
        log_lines(zone)?.iter().filter(|line| line.record.path.is_some() || line.record.arrival.is_some())
    {
        let record = &line.record;
        writeln!(
            out,
            "   {} {:<5} {:<10} {:<6} {:<7} {:<11} {} {}",
            line.time.strftime("%H:%M:%S"),
            line.process,
            serde_word(&record.event),
            serde_word(&record.outcome),
            record.institution.as_deref().unwrap_or("-"),
            record.key_label.as_deref().unwrap_or("-"),
            record.path.as_deref().or(record.arrival.as_deref()).unwrap_or("-"),
            record.reason.as_deref().unwrap_or(""),
        )?;
    }
    step(out, 9, "And Prometheus sees what goes on")?;
    for (address, wanted) in [
        (zone.serve_metrics, "dropzone_uploads_refused_total{reason=\"not-encrypted\"}"),
        (zone.serve_metrics, "dropzone_uploads_total{institution=\"agency\",outcome=\"published\"}"),
        (zone.work_metrics, "dropzone_last_delivery_timestamp_seconds{exchange=\"pillar-3\"}"),
    ] {
        let text = fetch(address, "/metrics").await?;
        let line = text.lines().find(|line| line.starts_with(wanted));
        writeln!(out, "   {}", line.with_context(|| format!("the metric {wanted} is missing"))?)?;
    }
    Ok(())
}

fn farewell(zone: &DemoZone, out: &mut impl Write) -> anyhow::Result<()> {
    let (folder, port, people) = (zone.directory.display(), zone.ssh.port(), zone.people_folder());
    let people = people.display();
    let program =
        std::env::current_exe().map_or_else(|_| "dropzone".into(), |path| path.display().to_string());
    let ssh = format!("-P {port} -i {people}/an.agency -o UserKnownHostsFile={people}/known_hosts");
    step(out, 10, "To repeat it by hand")?;
    writeln!(out, "   {program} --config {folder} run &    # not needed after `demo --keep`")?;
    writeln!(
        out,
        "   printf 'insz\\n{}\\n' | age -r {} > list.csv.age",
        people::insz(1),
        zone.keys.recipient
    )?;
    writeln!(out, "   echo 'put list.csv.age' | sftp {ssh} -b - agency@127.0.0.1:/pillar-3/in/")?;
    writeln!(out, "   sftp {ssh} 'agency@127.0.0.1:/pillar-3/out/list.*' .    # a moment later")?;
    writeln!(out, "   for f in list.*.csv.age; do age -d -i {people}/agency.agekey \"$f\"; done")?;
    writeln!(
        out,
        "   curl -s http://{}/metrics http://{}/metrics | grep ^dropzone_",
        zone.serve_metrics, zone.work_metrics
    )?;
    writeln!(out, "   {program} --config {folder} status")?;
    writeln!(out, "   {program} --config {folder} log show --person an.peeters")?;
    writeln!(out, "   {program} --config {folder} log verify    # who altered a record is found out")?;
    writeln!(out, "   rm -r {folder}    # when you have seen enough")?;
    Ok(())
}

pub(super) fn indented(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    text.lines().try_for_each(|line| writeln!(out, "      {line}"))
}

/// The server's own text, without the layers that the client library puts around it.
pub(super) fn innermost(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

/// How serde spells a plain enum.
fn serde_word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// All lines of all processes, oldest first.
fn log_lines(zone: &DemoZone) -> anyhow::Result<Vec<Line>> {
    let folder = LogFolder::open(&zone.directory.join("log"))?;
    let mut lines = Vec::new();
    for name in folder.names()? {
        folder.lines(&name, |line| lines.extend(serde_json::from_slice::<Line>(line).ok()))?;
    }
    lines.sort_by_key(|line| line.time);
    Ok(lines)
}

/// HTTP/1.0 in its simplest form: our own listener closes after the answer.
async fn fetch(address: std::net::SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    socket.take(1 << 20).read_to_string(&mut answer).await?;
    Ok(answer)
}
