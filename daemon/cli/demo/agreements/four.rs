//! Agreement 4: feedback per client, in a fixed template, to the client's own counsellor and nobody else.

use anyhow::ensure;
use jiff::civil::date;

use super::super::people::insz;
use super::Demo;
use super::stage::Stage;
use super::teller::column;

const EXCHANGE: &str = "client-feedback";
const HEADER: &str = "naam,geboortedatum,traject_actief,trajectbegeleider,jobdoel_of_sector,volgend_contact,opleiding,stage,\
    vrijwilligerswerk,taalondersteuning,oriëntatie,begeleiding,partner";
/// Clients and their counsellors.
const CLIENTS: [(&str, &str); 4] = [
    ("Amina Alpha", "tine.maes"),
    ("Bilal Bravo", "bart.claes"),
    ("Celia Charlie", "ilse.gent"),
    ("Dawit Delta", "tine.maes"),
];
const FIRST: [(&str, &str); 1] = [("Amina Alpha", "tine.maes")];
const COUNSELLORS: [&str; 3] = ["tine.maes", "bart.claes", "ilse.gent"];

pub(super) async fn tell(demo: &mut Demo<'_>) -> anyhow::Result<()> {
    demo.open(4, EXCHANGE, "feedback per client, from VDAB to the client's own counsellor")?;
    let stage = demo.begin_on(date(2026, 3, 2)).await?;
    hidden(demo, &stage).await?;
    send(demo, &stage).await?;
    again(demo, &stage).await?;
    demo.close(stage).await
}

fn form(clients: &[(&str, &str)], note: &str) -> String {
    clients.iter().fold(HEADER.to_owned() + "\n", |text, (name, counsellor)| {
        text + &format!("{name},1990-01-02,ja,{counsellor},zorg,2026-04-01,,{note},,NT2 niveau 1.2,,ja,\n")
    })
}

async fn hidden(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told.step("Jan Maes of VDAB fills the template in, and a national number slips into a note")?;
    let number = insz(77);
    let vdab = stage.log_in("jan.maes").await?;
    let spelled = dotted(&number);
    let (shown, _) = spelled.rsplit_once('.').unwrap_or_default();
    demo.told.say(&format!("in the column stage: \"zie dossier {shown}.xx\", with its dots and dashes"))?;
    let note = format!("zie dossier {spelled}");
    vdab.send(EXCHANGE, "week-09.csv.age", &form(&FIRST, &note)).await?;
    let reason = vdab.held(EXCHANGE, "week-09.csv.age", "content-rules").await?;
    demo.told.say(&format!("held: {reason}"))?;
    let report = vdab.quality_report(EXCHANGE, "week-09.csv.age").await?;
    ensure!(report.lines().any(|line| line.starts_with("2;stage;")), "row 2 is not reported:\n{report}");
    ensure!(!report.contains(&number) && !report.contains(&spelled), "the report holds the number");
    demo.told.say("and its quality report says where, without the number:")?;
    demo.told.quote(&report)?;
    vdab.client.log_out().await
}

/// As people write it.
fn dotted(number: &str) -> String {
    let part = |range: std::ops::Range<usize>| number.get(range).unwrap_or_default();
    format!("{}.{}.{}-{}.{}", part(0..2), part(2..4), part(4..6), part(6..9), part(9..11))
}

async fn send(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told.step("He sends four clients without it, in one file")?;
    let vdab = stage.log_in("jan.maes").await?;
    vdab.send(EXCHANGE, "week-10.csv.age", &form(&CLIENTS, "geen")).await?;
    let receipt = vdab.receipt(EXCHANGE, "week-10.csv.age", "delivered").await?;
    vdab.client.log_out().await?;
    demo.told.say("delivered")?;

    demo.told.step("Each counsellor has her own clients, under a key that only she has")?;
    for label in COUNSELLORS {
        let counsellor = stage.log_in(label).await?;
        let person = stage.cast().person(label)?;
        let (theirs, locked) =
            (counsellor.collect_herself(&receipt).await?, counsellor.fetch(&receipt).await?);
        let due: Vec<&str> = CLIENTS.iter().filter(|(_, of)| *of == label).map(|(name, _)| *name).collect();
        let names = column(&theirs, "naam");
        ensure!(names == due, "{label} received {names:?}");
        for other in COUNSELLORS.iter().chain(&["an.peeters"]).filter(|other| **other != label) {
            let opened = age::decrypt(&stage.cast().person(other)?.identity, &locked);
            ensure!(opened.is_err(), "{other} can open what is for {label}");
        }
        let opened = age::decrypt(stage.cast().identity(person.institution)?, &locked);
        ensure!(opened.is_err(), "the key of {} opens what is for {label} alone", person.institution);
        demo.told.say(&format!("{label:<11} of {:<6} {}", person.institution, names.join(", ")))?;
        counsellor.client.log_out().await?;
    }
    demo.told.say("no colleague's key opens it, and not the agency's either")?;
    let colleague = stage.log_in("an.peeters").await?;
    let seen = colleague.client.list("/").await?;
    ensure!(!seen.iter().any(|name| name == EXCHANGE), "a data steward sees it: {seen:?}");
    demo.told.say("An Peeters of AgII is no counsellor: she does not even see the exchange")?;
    colleague.client.log_out().await
}

async fn again(demo: &mut Demo<'_>, stage: &Stage) -> anyhow::Result<()> {
    demo.told.step("The same client a second time is held: once per client, after the assessment")?;
    let vdab = stage.log_in("jan.maes").await?;
    vdab.send(EXCHANGE, "week-11.csv.age", &form(&FIRST, "toch nog iets")).await?;
    let reason = vdab.held(EXCHANGE, "week-11.csv.age", "surplus-key").await?;
    demo.told.say(&reason)?;
    demo.told.say("what is remembered of a client is a keyed digest, and no name")?;
    vdab.client.log_out().await
}
