//! Agreement 1: AgII's numbers, VDAB's register, AgII's profiles, and the same pseudonyms half a year later.

use std::time::Duration;

use anyhow::ensure;
use jiff::civil::date;
use serde_json::Value;

use super::super::people::insz;
use super::super::story::innermost;
use super::stage::Stage;
use super::teller::column;
use super::{Demo, long};

const EXCHANGE: &str = "pillar-3";
/// Half a year and some days: the next period of its rhythm.
const HALF_A_YEAR: Duration = Duration::from_secs(188 * 86_400);
/// Two people whom the shipped sample of a register knows.
const KNOWN: [&str; 2] = ["85073003328", "90010100123"];
/// A number whose check digits are wrong.
const WRONG: &str = "85073003329";
const PARTNERS: [&str; 3] = ["an.peeters", "bart.claes", "ilse.gent"];
const PROFILE: &str = "leeftijdscategorie,geslacht,opleidingsniveau,oudste_nationaliteit,doorverwijzing,doelgroep,\
    aanmelding,contract,kbi_regio,beslissing_loopbaanoriëntatie,reden_beslissing,inschatting_leervermogen,\
    hoogste_niveau_nederlands,type_traject,diploma_erkenning,resultaat_erkenning,leefloon,verblijfsstatus";

pub(super) async fn tell(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.open(1, EXCHANGE, "the third pillar of integration: AgII, VDAB, and three agencies that compare")?;
    let stage = demo.begin_on(date(2025, 4, 1)).await?;
    drop_the_list(demo, &stage).await?;
    let enriched = enriched(demo, &stage).await?;
    let first = profiles(demo, &stage, &enriched).await?;
    later(demo, &stage, &enriched, &first).await?;
    demo.close(stage).await
}

/// Eight people, of whom the register knows two, and one mistake.
fn list() -> String {
    let people = KNOWN.into_iter().map(str::to_owned).chain((0..6).map(insz));
    people.chain([WRONG.to_owned()]).fold("insz\n".to_owned(), |list, number| list + &number + "\n")
}

async fn drop_the_list(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    let agii = stage.log_in("an.peeters").await?;
    demo.told.step("An Peeters of AgII drops a list that holds only national numbers, encrypted")?;
    let refused = agii.client.put("/pillar-3/in/insz-vergeten.csv.age", list().as_bytes()).await;
    let Err(refused) = refused else { anyhow::bail!("plaintext was accepted") };
    demo.told.say(&format!("first she forgets to encrypt, and it is refused: {}", innermost(&refused)))?;
    agii.send(EXCHANGE, "insz-2025-1.csv.age", &list()).await?;
    demo.told.say("then she puts insz-2025-1.csv.age: taken")?;
    agii.client.log_out().await
}

async fn enriched(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<String> {
    let agii = stage.log_in("an.peeters").await?;
    let receipt = agii.receipt(EXCHANGE, "insz-2025-1.csv.age", "delivered").await?;
    demo.told
        .step("One number has wrong check digits: that row is left out, and a quality report says so")?;
    let report = agii.quality_report(EXCHANGE, "insz-2025-1.csv.age").await?;
    ensure!(report.lines().any(|line| line.starts_with("10;insz;")), "row 10 is not reported:\n{report}");
    ensure!(!report.contains(WRONG), "the report holds a value");
    demo.told.quote(&report)?;
    demo.told.say("row and column, and never the value: it goes to the sender, beside the receipt")?;

    demo.told.step("VDAB's register has been joined; An collects the result and opens it with AgII's key")?;
    let enriched = agii.collect(&receipt).await?;
    demo.told
        .table(&enriched, &["insz", "eerste_inschrijving", "categorie", "acties", "uitstroom_naar_werk"])?;
    let (numbers, categories) = (column(&enriched, "insz"), column(&enriched, "categorie"));
    ensure!(numbers.len() == 8, "the result has {} rows instead of 8", numbers.len());
    let known = categories.iter().filter(|category| !category.is_empty()).count();
    ensure!(known == KNOWN.len(), "the register knows {known} of them");
    demo.told.say("whom the register does not know keeps a row, with empty values, as the agreement says")?;
    agii.client.log_out().await?;
    Ok(enriched)
}

/// What AgII makes of the result: its own fields beside it.
fn with_profiles(enriched: &str) -> String {
    let mut lines = enriched.lines();
    let header = format!("{},{PROFILE}\n", lines.next().unwrap_or_default());
    let profile =
        "hoger,Syrië,2024-01-15,nieuwkomer,2024-02-01,,Gent,ja,,hoog,A2,regulier,nee,,ja,erkend vluchteling";
    let sexes = ["V", "M", "X"].into_iter().cycle();
    lines.zip(sexes).fold(header, |text, (line, sex)| text + line + ",25-34," + sex + "," + profile + "\n")
}

async fn profiles(demo: &mut Demo<'_>, stage: &Stage, enriched: &str) -> anyhow::Result<Vec<String>> {
    demo.told.step(
        "AgII adds its profile fields, and drops the list again: the second flow of the same exchange",
    )?;
    let receipt = send_profiles(stage, "profiel-2025-1.csv.age", enriched).await?;
    demo.told.say("profiel-2025-1.csv.age: taken, pseudonymised, delivered to AgII, Atlas and Amal")?;
    demo.told.step("Each of the three opens it with a key of its own: no national number is left")?;
    let pseudonyms = pseudonyms(demo, stage, &receipt, enriched).await?;
    demo.told.say("the three hold the same pseudonyms, so that they can compare")?;
    Ok(pseudonyms)
}

async fn later(demo: &mut Demo<'_>, stage: &Stage, enriched: &str, first: &[String]) -> anyhow::Result<()> {
    let agii = stage.log_in("an.peeters").await?;
    demo.told.step("A second list in the same half year is one too many")?;
    agii.send(EXCHANGE, "insz-te-vroeg.csv.age", &format!("insz\n{}\n", insz(20))).await?;
    let reason = agii.held(EXCHANGE, "insz-te-vroeg.csv.age", "surplus").await?;
    demo.told.say(&format!("held: {reason}"))?;
    agii.client.log_out().await?;

    stage.clock.pass(HALF_A_YEAR);
    demo.told.step(&format!("Half a year later: the demo's clock now says {}", long(stage.clock.today())))?;
    let receipt = send_profiles(stage, "profiel-2025-2.csv.age", enriched).await?;
    let second = pseudonyms(demo, stage, &receipt, enriched).await?;
    ensure!(second == first, "the pseudonyms of the second measurement differ");
    demo.told.say("the same people have the same pseudonyms as half a year ago")?;
    demo.told.say("when the agreement ends, the key behind the pseudonyms is destroyed, and that is recorded")
}

async fn send_profiles(stage: &Stage, name: &str, enriched: &str) -> anyhow::Result<Value> {
    let agii = stage.log_in("an.peeters").await?;
    agii.send(EXCHANGE, name, &with_profiles(enriched)).await?;
    let receipt = agii.receipt(EXCHANGE, name, "delivered").await?;
    agii.client.log_out().await?;
    Ok(receipt)
}

/// Has all three partners open their results, and gives the pseudonyms, which are the same in all.
async fn pseudonyms(
    demo: &mut Demo<'_>,
    stage: &Stage,
    receipt: &Value,
    enriched: &str,
) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for label in PARTNERS {
        let partner = stage.log_in(label).await?;
        let result = partner.collect(receipt).await?;
        ensure!(column(&result, "insz").is_empty(), "{label} received the column insz");
        for number in column(enriched, "insz") {
            ensure!(!result.contains(&number), "{label} received a national number");
        }
        if all.is_empty() {
            demo.told
                .table(&result, &["pseudoniem", "categorie", "leeftijdscategorie", "geslacht", "leefloon"])?;
        }
        all.push(column(&result, "pseudoniem"));
        partner.client.log_out().await?;
    }
    let first = all.first().cloned().unwrap_or_default();
    ensure!(first.len() == column(enriched, "insz").len(), "a person has no pseudonym");
    ensure!(all.iter().all(|theirs| *theirs == first), "the partners have different pseudonyms");
    Ok(first)
}
