//! How connections, sessions and uploads end: closed lists, which are labels of `serve`'s metrics.

/// Why a connection ended before anybody was logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// As many connections as allowed are open.
    Full,
    /// Many wait for their login, and chance chose this one.
    EarlyDrop,
    /// Many wait for their login, and most of them came from its source: it had to go for another.
    Displaced,
    /// As many wait for their login as one source may have.
    Source,
    /// Its source is under penalty.
    Penalty,
    /// A proxy did not say whom it speaks for.
    ProxyHeader,
    /// The login took longer than the grace.
    LoginGrace,
    /// Too many keys were offered, or too many rejected.
    Attempts,
    /// What came was not SSH, or no algorithm was shared.
    Protocol,
}

impl ConnectionRefusal {
    /// All, for metrics.
    pub const ALL: [Self; 9] = [
        Self::Full,
        Self::EarlyDrop,
        Self::Displaced,
        Self::Source,
        Self::Penalty,
        Self::ProxyHeader,
        Self::LoginGrace,
        Self::Attempts,
        Self::Protocol,
    ];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::EarlyDrop => "early-drop",
            Self::Displaced => "displaced",
            Self::Source => "source",
            Self::Penalty => "penalty",
            Self::ProxyHeader => "proxy-header",
            Self::LoginGrace => "login-grace",
            Self::Attempts => "attempts",
            Self::Protocol => "protocol",
        }
    }
}

/// Why this side ended an SFTP session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its client fell silent after an upload was refused, and did not close it.
    RefusalIgnored,
    /// More requests were turned down than a client at work can have.
    TooManyRefusals,
    /// What came was not SFTP, or more than can be answered.
    Protocol,
}

impl SessionEnd {
    /// All, for metrics.
    pub const ALL: [Self; 3] = [Self::RefusalIgnored, Self::TooManyRefusals, Self::Protocol];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::RefusalIgnored => "refusal-ignored",
            Self::TooManyRefusals => "too-many-refusals",
            Self::Protocol => "protocol",
        }
    }
}

/// How a file that was opened for writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadOutcome {
    /// It became an arrival.
    Published,
    /// It was the same as an arrival of that name.
    Repeated,
    /// The gate refused it.
    Refused,
    /// It was left unfinished: the connection was lost, or the client closed a temporary name.
    Unfinished,
    /// This machine failed.
    Failed,
}

impl UploadOutcome {
    /// All, for metrics.
    pub const ALL: [Self; 5] =
        [Self::Published, Self::Repeated, Self::Refused, Self::Unfinished, Self::Failed];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::Unfinished => "unfinished",
            Self::Failed => "failed",
        }
    }
}
