//! What a client is to the promises: something that does a batch of steps and says of each what became of it. Which steps
//! a client cannot do, and why, is the table here; how it does the others is its adapter's business.

use crate::harness::{Person, Zone};

/// The kinds of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder: tells the names, one a line.
    List,
    /// A file: tells size and modification time (seconds since 1970), or `-` where the client does not show it exactly.
    Stat,
    /// A local file to a remote path.
    Put,
    /// The same, with its modification time.
    PutTimed,
    /// All files of a local folder into a remote folder, in whatever way the client has for that.
    PutAll,
    /// The rest of a local file behind what is there of it.
    Resume,
    /// A remote file to a local path.
    Get,
    /// The same, with its modification time.
    GetTimed,
    Rename,
    Remove,
    Mkdir,
    Rmdir,
    /// A link, to what and where.
    Symlink,
    Chmod,
    /// No step: whether the client shows what is refused at the end of an upload only.
    Overwrite,
}

/// One thing to do. Local paths are meant from the zone's `here`, remote ones are absolute.
#[derive(Debug, Clone)]
pub struct Step {
    pub kind: Kind,
    pub from: String,
    pub to: String,
}

pub fn step(kind: Kind, from: &str, to: &str) -> Step {
    Step { kind, from: from.to_owned(), to: to.to_owned() }
}

/// What became of a step, and what the client said.
#[derive(Debug, Clone)]
pub struct Said {
    pub ok: bool,
    pub text: String,
}

impl Said {
    /// For a client that was gone before it came to this step.
    pub fn nothing() -> Self {
        Self { ok: false, text: "the client ended before this step".to_owned() }
    }
}

/// A client with its adapter.
pub trait Client: Sync {
    fn name(&self) -> &'static str;

    /// What to say where the client is not there; `None` where it is.
    fn missing(&self) -> Option<&'static str> {
        None
    }

    /// Does all steps, also those behind one that failed, in one connection where the client can; one answer per step.
    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said>;
}

/// Why a client cannot do a kind of step; `None` if it can.
pub fn lack(client: &str, kind: Kind) -> Option<&'static str> {
    let row = LACKS.iter().find(|(name, kinds, _)| *name == client && kinds.contains(&kind));
    row.map(|(_, _, why)| *why)
}

/// Client, what it cannot do, why.
const LACKS: &[(&str, &[Kind], &str)] = &[
    (
        "openssh-scp",
        &[
            Kind::List,
            Kind::Stat,
            Kind::Resume,
            Kind::Rename,
            Kind::Remove,
            Kind::Mkdir,
            Kind::Rmdir,
            Kind::Symlink,
            Kind::Chmod,
        ],
        "scp copies whole files and does nothing else",
    ),
    ("psftp", &[Kind::Stat], "psftp has no command that asks about one file"),
    ("psftp", &[Kind::PutTimed, Kind::GetTimed], "psftp never sets a time"),
    ("psftp", &[Kind::Symlink], "psftp has no command for links"),
    ("curl", &[Kind::Stat], "curl asks for a file's size only to resume, and does not show it"),
    ("curl", &[Kind::Overwrite], "curl does not look at the answer to CLOSE"),
    (
        "rclone",
        &[Kind::Stat],
        "rclone reads the size back within its upload; another command is another session",
    ),
    ("rclone", &[Kind::Resume], "rclone begins every try anew"),
    ("rclone", &[Kind::Symlink, Kind::Chmod], "rclone knows neither links nor permissions over SFTP"),
    ("ssh2-sftp-client", &[Kind::PutTimed, Kind::GetTimed], "ssh2-sftp-client has no call that sets a time"),
    ("ssh2-sftp-client", &[Kind::Symlink], "ssh2-sftp-client has no call for links"),
];
