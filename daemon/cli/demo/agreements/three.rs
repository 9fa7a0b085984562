//! Agreement 3: the persons once a year to the agency, and to each care fund its own members and nobody else's.

use anyhow::ensure;
use jiff::civil::date;
use serde_json::Value;

use super::super::people::insz;
use super::super::story::innermost;
use super::stage::Stage;
use super::teller::column;
use super::{Demo, long};
use crate::host::clock::Clock;

const EXCHANGE: &str = "social-protection";
/// The care funds' codes and people.
const FUNDS: [(&str, &str); 6] = [
    ("200", "karel.smet"),
    ("300", "piet.lenaerts"),
    ("400", "rosa.martens"),
    ("500", "nele.baert"),
    ("600", "mia.dubois"),
    ("900", "wim.goossens"),
];
const PEOPLE: u64 = 20;

pub(super) async fn tell(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.open(3, EXCHANGE, "the premium for social protection: AgII, the agency, and six care funds")?;
    if Clock::system().today() > date(2026, 9, 30) {
        today(demo).await?;
    }
    let stage = demo.begin_on(date(2025, 1, 20)).await?;
    persons(demo, &stage).await?;
    let receipt = members(demo, &stage).await?;
    funds(demo, &stage, &receipt).await?;
    demo.close(stage).await
}

async fn today(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.told.step(&format!(
        "Today, {}: this agreement ended on 30 September 2026",
        long(Clock::system().today())
    ))?;
    let stage = demo.begin_today().await?;
    let agii = stage.log_in("an.peeters").await?;
    let seen = agii.client.list("/").await?;
    ensure!(!seen.iter().any(|name| name == EXCHANGE), "AgII still sees it: {seen:?}");
    demo.told.say(&format!("AgII has other agreements and gets in: ls /   {}", seen.join("  ")))?;
    let refused =
        agii.client.put("/social-protection/in/personen-2026.csv.age", &stage.encrypt(&list())?).await;
    let Err(refused) = refused else { anyhow::bail!("a list was accepted after the end") };
    demo.told.say(&format!("put into /social-protection/in: {}", innermost(&refused)))?;
    agii.client.log_out().await?;
    for label in ["lies.peeters"].into_iter().chain(FUNDS.map(|(_, label)| label)) {
        ensure!(stage.turns_away(label).await?, "{label} was let in after the end");
    }
    demo.told.say("the agency and the six funds have nothing else here: none of them can log in")?;
    stage.end().await
}

fn list() -> String {
    (0..PEOPLE).fold("insz\n".to_owned(), |list, at| list + &insz(at) + "\n")
}

async fn persons(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told
        .step("AgII drops the persons who do not meet their duty on 1 January; the agency collects them")?;
    let agii = stage.log_in("an.peeters").await?;
    agii.send(EXCHANGE, "personen-2025.csv.age", &list()).await?;
    let receipt = agii.receipt(EXCHANGE, "personen-2025.csv.age", "delivered").await?;
    agii.client.log_out().await?;
    let agency = stage.log_in("lies.peeters").await?;
    let persons = agency.collect(&receipt).await?;
    ensure!(persons == list(), "the agency received another list");
    demo.told.say(&format!("Lies Peeters of the agency opens it with the agency's key: {PEOPLE} persons"))?;
    agency.client.log_out().await
}

/// Everybody's fund; the funds take turns, and the last one gets fewer.
fn with_funds() -> Vec<(String, &'static str)> {
    let codes = FUNDS.map(|(code, _)| code).into_iter().cycle();
    (0..PEOPLE).map(insz).zip(codes).collect()
}

async fn members(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<Value> {
    demo.told.step("The agency names each person's care fund, and drops one list for all six")?;
    let text = with_funds()
        .iter()
        .fold("insz,zorgkas\n".to_owned(), |text, (number, code)| text + &format!("{number},{code}\n"));
    demo.told.table(&text, &["insz", "zorgkas"])?;
    let agency = stage.log_in("lies.peeters").await?;
    agency.send(EXCHANGE, "leden-2025.csv.age", &text).await?;
    let receipt = agency.receipt(EXCHANGE, "leden-2025.csv.age", "delivered").await?;
    agency.client.log_out().await?;
    Ok(receipt)
}

async fn funds(demo: &mut Demo<'_>, stage: &Stage, receipt: &Value) -> anyhow::Result<()> {
    demo.told.step("Each fund logs in: it has one file, and in it its own members and nobody else's")?;
    let all = with_funds();
    let mut shown = 0;
    for (code, label) in FUNDS {
        let fund = stage.log_in(label).await?;
        let institution = stage.cast().person(label)?.institution;
        let names = fund.client.list("/social-protection/out").await?;
        ensure!(names.len() == 1, "{institution} sees {names:?}");
        let locked = fund.fetch(receipt).await?;
        for (_, other) in FUNDS.iter().filter(|(_, other)| *other != label) {
            let other = stage.cast().person(other)?.institution;
            let opened = age::decrypt(stage.cast().identity(other)?, &locked);
            ensure!(opened.is_err(), "{other} can open the file of {institution}");
        }
        let theirs = column(&fund.collect(receipt).await?, "insz");
        let due = all.iter().filter(|(_, of)| *of == code).map(|(number, _)| number.clone());
        ensure!(theirs == due.collect::<Vec<_>>(), "{institution} did not receive exactly its own members");
        shown += theirs.len();
        demo.told
            .say(&format!("{institution:<18} fund {code}: {} members, exactly its own", theirs.len()))?;
        fund.client.log_out().await?;
    }
    ensure!(shown == all.len(), "{shown} of {} persons reached a fund", all.len());
    demo.told.say("no fund's key opens another fund's file; together they have everybody, each person once")
}
