//! Agreement 5: contact data of those who consented, for the time of the pilot, which is over.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::civil::date;

use super::super::story::innermost;
use super::stage::Stage;
use super::teller::column;
use super::{Demo, long};
use crate::host::clock::Clock;

const EXCHANGE: &str = "pilot-mechelen";
/// How long before midnight the last session is opened.
const BEFORE_MIDNIGHT: Duration = Duration::from_secs(3);
const CONTACTS: &str = "\
naam,adres,telefoon,e-mail,contacttaal,niveau_nederlands,status_cursus_oriëntatie,toestemming
Amina Alpha,Grote Markt 1 te Mechelen,+32 470 00 00 01,amina@example.org,Arabisch,A2,afgerond,ja
Bilal Bravo,Veemarkt 2 te Mechelen,+32 470 00 00 02,bilal@example.org,Turks,A1,lopend,nee
Celia Charlie,,,celia@example.org,Spaans,B1,afgerond,ja
Dawit Delta,,,,Tigrinya,A1,lopend,
";

pub(super) async fn tell(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.open(5, EXCHANGE, "a network pilot, from AgII to the city of Mechelen")?;
    today(demo).await?;
    let stage = demo.begin_on(date(2022, 3, 1)).await?;
    consenting(demo, &stage).await?;
    the_end(demo, &stage).await?;
    demo.close(stage).await
}

async fn today(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.told
        .step(&format!("Today, {}: this agreement ended on 30 June 2022", long(Clock::system().today())))?;
    let stage = demo.begin_today().await?;
    // AgII gets in for its agreement without an end: so the door is open.
    let agii = stage.log_in("an.peeters").await?;
    let seen = agii.client.list("/").await?;
    ensure!(!seen.iter().any(|name| name == EXCHANGE), "AgII still sees it: {seen:?}");
    demo.told.say(&format!("AgII has other agreements and gets in: ls /   {}", seen.join("  ")))?;
    let refused = agii.client.put("/pilot-mechelen/in/contacten.csv.age", &stage.encrypt(CONTACTS)?).await;
    let Err(refused) = refused else { anyhow::bail!("a list was accepted after the end") };
    demo.told.say(&format!("put into /pilot-mechelen/in: {}", innermost(&refused)))?;
    agii.client.log_out().await?;
    ensure!(stage.turns_away("tom.jacobs").await?, "the city was let in after the end");
    demo.told.say("the city of Mechelen has nothing else here: it cannot log in")?;
    stage.end().await
}

async fn consenting(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told.step("AgII drops four newcomers, of whom two consented")?;
    demo.told.table(CONTACTS, &["naam", "contacttaal", "niveau_nederlands", "toestemming"])?;
    let agii = stage.log_in("an.peeters").await?;
    agii.send(EXCHANGE, "contacten.csv.age", CONTACTS).await?;
    let receipt = agii.receipt(EXCHANGE, "contacten.csv.age", "delivered").await?;
    let report = agii.quality_report(EXCHANGE, "contacten.csv.age").await?;
    for row in ["3;toestemming;", "5;toestemming;"] {
        ensure!(report.lines().any(|line| line.starts_with(row)), "{row} is not reported:\n{report}");
    }
    ensure!(!report.contains("Bilal") && !report.contains("Dawit"), "the report holds a name");
    agii.client.log_out().await?;

    demo.told.step("Tom Jacobs, network coordinator of the city, receives those two and nobody else")?;
    let city = stage.log_in("tom.jacobs").await?;
    let contacts = city.collect(&receipt).await?;
    ensure!(column(&contacts, "naam") == ["Amina Alpha", "Celia Charlie"], "the city received:\n{contacts}");
    ensure!(column(&contacts, "toestemming").is_empty(), "a column too many was delivered");
    demo.told.table(&contacts, &["naam", "adres", "telefoon", "e-mail", "niveau_nederlands"])?;
    demo.told.say("AgII's quality report names the two rows that were left out, by number:")?;
    demo.told.quote(&report)?;
    city.client.log_out().await
}

async fn the_end(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    let midnight = stage.clock.end_of(date(2022, 6, 30));
    let wait = Duration::try_from(midnight.duration_since(stage.clock.now())).context("the pilot is over")?;
    stage.clock.pass(wait.saturating_sub(BEFORE_MIDNIGHT));
    let now = stage.clock.local(stage.clock.now());
    demo.told.step(&format!(
        "The last evening: the demo's clock now says {}",
        now.strftime("%-d %B %Y, %H:%M:%S")
    ))?;
    let city = stage.log_in("tom.jacobs").await?;
    demo.told.say(&format!("Tom is logged in: ls /   {}", city.client.list("/").await?.join("  ")))?;
    city.client.wait_until_cut().await?;
    ensure!(stage.clock.today() == date(2022, 7, 1), "the session was cut before the agreement ended");
    demo.told.say("midnight in Brussels: the agreement has ended, and his session is cut")?;
    ensure!(stage.turns_away("tom.jacobs").await?, "the city was let in after the end");
    demo.told.say("he tries again: his key is refused")?;
    demo.told.say("fourteen days later what nobody collected is deleted too; only the evidence stays")
}
