//! Agreement 2: one list a year for the city of Lommel, whose key travels another way, and which does not stay.

use std::path::Path;
use std::time::Duration;

use age::secrecy::SecretString;
use anyhow::{Context, ensure};
use jiff::civil::date;
use tokio::process::Command;
use tokio::time::timeout;

use super::super::people::insz;
use super::Demo;
use super::stage::Stage;

const EXCHANGE: &str = "lists-lommel";
/// The grace of its exchange file is an hour.
const MORE_THAN_THE_GRACE: Duration = Duration::from_secs(3700);
/// What a command gets to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Characters of a passphrase without its hyphens.
const LENGTH: usize = 25;

pub(super) async fn tell(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.open(2, EXCHANGE, "a list of newcomers a year, from AgII to the city of Lommel")?;
    let stage = demo.begin_on(date(2025, 3, 3)).await?;
    let name = send(demo, &stage).await?;
    let passphrase = passphrase(demo, &stage.directory, &name).await?;
    collect(demo, &stage, &passphrase).await?;
    once_a_year(demo, &stage).await?;
    gone(demo, &stage).await?;
    demo.close(stage).await
}

fn list(from: u64) -> String {
    let answers = [("ja", "nee"), ("ja", "ja"), ("nee", "nee")].into_iter().cycle();
    (from..from + 5)
        .zip(answers)
        .fold("insz,contract,attest\n".to_owned(), |list, (at, (contract, certificate))| {
            list + &format!("{},{contract},{certificate}\n", insz(at))
        })
}

async fn send(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<String> {
    demo.told
        .step("An Peeters of AgII drops the list: who is registered, has a contract, has a certificate")?;
    let agii = stage.log_in("an.peeters").await?;
    agii.send(EXCHANGE, "lijst-2025.csv.age", &list(0)).await?;
    let receipt = agii.receipt(EXCHANGE, "lijst-2025.csv.age", "delivered").await?;
    agii.client.log_out().await?;
    let city = stage.log_in("els.wouters").await?;
    let name = city.name_of_hers(&receipt)?;
    demo.told
        .say(&format!("delivered to the city as {name}, locked with a passphrase that nobody has seen"))?;
    city.client.log_out().await?;
    ensure!(stage.turns_away("kris.balie").await?, "the city's desk was let in");
    demo.told.say("Kris, at the city's desk, has a key but no function on the list: he does not get in")?;
    Ok(name)
}

/// What the operator types, in a process of its own: it asks `work` through its socket.
async fn ask(zone: &Path, name: &str) -> anyhow::Result<(bool, String)> {
    let program = std::env::current_exe().context("the demo cannot find its own program")?;
    let mut command = Command::new(program);
    command.arg("--config").arg(zone).args(["passphrase", "--piped", name]).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.context("dropzone passphrase does not end")??;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    Ok((output.status.success(), text))
}

async fn passphrase(demo: &mut Demo<'_>, zone: &Path, name: &str) -> anyhow::Result<String> {
    demo.told.step(&format!("The operator types: dropzone passphrase {name}"))?;
    let (is_shown, text) = ask(zone, name).await?;
    ensure!(is_shown, "no passphrase was shown: {text}");
    demo.told.quote(&text)?;
    let of_it = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let is_it = |word: &&str| word.chars().all(of_it) && word.replace('-', "").len() == LENGTH;
    let passphrase = text.split_whitespace().find(is_it).context("no passphrase was shown")?.to_owned();
    demo.told.say("(made for a made-up list; it goes to the city by SMS, and never over SFTP)")?;
    let (is_shown, text) = ask(zone, name).await?;
    ensure!(!is_shown && !text.contains(&passphrase), "the passphrase was shown twice");
    demo.told.say("asked once more:")?;
    demo.told.quote(&text)?;
    Ok(passphrase)
}

async fn collect(demo: &mut Demo<'_>, stage: &Stage, passphrase: &str) -> anyhow::Result<()> {
    demo.told.step("Els Wouters of the city fetches the list and opens it with the passphrase")?;
    let agii = stage.log_in("an.peeters").await?;
    let receipt = agii.receipt(EXCHANGE, "lijst-2025.csv.age", "delivered").await?;
    agii.client.log_out().await?;
    let city = stage.log_in("els.wouters").await?;
    let locked = city.fetch(&receipt).await?;
    let wrong = opened(&locked, "a-wrong-guess").await;
    ensure!(wrong.is_err(), "a wrong passphrase opens the list");
    let plain = String::from_utf8(opened(&locked, passphrase).await?)?;
    ensure!(plain == list(0), "the city received another list:\n{plain}");
    demo.told.table(&plain, &["insz", "contract", "attest"])?;
    demo.told.say("with any other passphrase it stays shut")?;
    city.client.log_out().await
}

/// Deriving a key from a passphrase takes a processor for a while.
async fn opened(locked: &[u8], passphrase: &str) -> anyhow::Result<Vec<u8>> {
    let (locked, secret) = (locked.to_vec(), SecretString::from(passphrase.to_owned()));
    let opening =
        tokio::task::spawn_blocking(move || age::decrypt(&age::scrypt::Identity::new(secret), &locked));
    Ok(opening.await??)
}

async fn once_a_year(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told.step("A second list in the same calendar year is held")?;
    let agii = stage.log_in("an.peeters").await?;
    agii.send(EXCHANGE, "lijst-2025-b.csv.age", &list(50)).await?;
    let reason = agii.held(EXCHANGE, "lijst-2025-b.csv.age", "surplus").await?;
    demo.told.say(&reason)?;
    agii.client.log_out().await
}

async fn gone(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told.step("Collected means gone")?;
    let city = stage.log_in("els.wouters").await?;
    let there = city.client.list("/lists-lommel/out").await?;
    ensure!(there.len() == 1, "out holds {there:?}");
    demo.told.say(&format!("ls /lists-lommel/out      {}", there.join("  ")))?;
    stage.clock.pass(MORE_THAN_THE_GRACE);
    city.client.wait_until_empty("/lists-lommel/out").await?;
    demo.told.say("the demo's clock goes on by the hour of grace that the exchange gives ...")?;
    demo.told.say("ls /lists-lommel/out      (nothing)")?;
    demo.told.say("the access log says who collected it; there is nothing left to steal")?;
    city.client.log_out().await
}
