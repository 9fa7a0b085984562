//! `dropzone demo --agreement N`: one of the five shipped agreements from end to end, with made-up people, over real SFTP. The
//! exchange files are the shipped ones, unchanged. The daemons run inside this process, because only so they can be given
//! another time than the machine's: no option of `serve` or `work` does that.

mod cast;
mod five;
mod four;
mod one;
mod stage;
mod teller;
mod three;
mod two;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::Date;

use self::cast::Cast;
use self::stage::Stage;
use self::teller::Teller;
use crate::host::clock::Clock;
use crate::host::process::{self, Shutdown};

/// At what hour of a day the stories begin.
const MORNING: Duration = Duration::from_secs(9 * 3600);

/// What every story gets.
struct Demo<'a> {
    folder: PathBuf,
    cast: Cast,
    told: Teller<'a>,
}

/// Shows the agreement of this number.
pub fn run(number: u8) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(play(number))
}

async fn play(number: u8) -> anyhow::Result<ExitCode> {
    process::share_with_group_only();
    let folder =
        tempfile::Builder::new().prefix("dropzone-demo-").tempdir().context("no temporary folder")?;
    // The folder stays, because the commands at the end refer to it.
    let folder = folder.keep();
    let mut stdout = std::io::stdout();
    let mut demo = Demo { folder, cast: Cast::invent()?, told: Teller::new(&mut stdout) };
    let mut interrupted = Shutdown::listen(false)?;
    tokio::select! {
        told = tell(number, &mut demo) => told.map(|()| ExitCode::SUCCESS),
        cause = interrupted.requested() => anyhow::bail!("the demo was ended by {cause}"),
    }
}

async fn tell(number: u8, demo: &mut Demo<'_>) -> anyhow::Result<()> {
    match number {
        1 => one::tell(demo).await,
        2 => two::tell(demo).await,
        3 => three::tell(demo).await,
        4 => four::tell(demo).await,
        5 => five::tell(demo).await,
        other => anyhow::bail!("there is no agreement {other}; the shipped ones are 1 to 5"),
    }
}

impl Demo<'_> {
    /// Names the agreement, and says what is made up.
    fn open(&mut self, number: u8, exchange: &str, title: &str) -> anyhow::Result<()> {
        self.told.say(&format!("Agreement {number}: {title}"))?;
        self.told.say(&format!(
            "config/exchanges/{exchange}.yaml as it is shipped; all people and numbers are made up."
        ))
    }

    /// Starts a zone of its own by the machine's clock.
    async fn begin_today(&mut self) -> anyhow::Result<Stage> {
        Stage::begin(self.place("today"), Clock::system(), &self.cast).await
    }

    /// Starts a zone on a day in the past, and says so.
    async fn begin_on(&mut self, day: Date) -> anyhow::Result<Stage> {
        let clock = Clock::shifted(morning(day));
        let stage = Stage::begin(self.place("zone"), clock, &self.cast).await?;
        self.told.step(&format!("The demo's clock now says {}", long(day)))?;
        self.told.say("From here on it plays on that day, on which the agreement is in force, whatever day it is today.")?;
        self.told
            .say("Only this demo can do that: serve and work run inside it, with a clock that it sets.")?;
        self.told.fact("zone", &stage.directory.display().to_string())?;
        self.told.fact("serve", &format!("{} (ssh)", stage.ssh))?;
        Ok(stage)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Ends the daemons, and says what can be looked at.
    async fn close(&mut self, stage: Stage) -> anyhow::Result<()> {
        let directory = stage.directory.clone();
        stage.end().await?;
        self.farewell(&directory)
    }

    fn farewell(&mut self, zone: &Path) -> anyhow::Result<()> {
        let program =
            std::env::current_exe().map_or_else(|_| "dropzone".into(), |path| path.display().to_string());
        let zone = zone.display();
        self.told.step("To look at what stays: the evidence")?;
        self.told.say(&format!("{program} --config {zone} log show"))?;
        self.told
            .say(&format!("{program} --config {zone} log verify    # who altered a record is found out"))?;
        self.told.say(&format!("{program} --config {zone} check         # who may do what, today"))?;
        self.told.say(&format!("rm -r {}    # when you have seen enough", self.folder.display()))
    }
}

/// Nine o'clock in Brussels.
fn morning(day: Date) -> Timestamp {
    let begins = Clock::system().begins(day);
    begins.checked_add(MORNING).unwrap_or(begins)
}

fn long(day: Date) -> String {
    day.strftime("%-d %B %Y").to_string()
}
