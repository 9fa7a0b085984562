//! What is an incident: not a fault of a file or a machine, but a sign that somebody has, or altered, what is not theirs.
//! Agreements oblige to report those; what is done about one is an operator's decision.

/// What happened. The code stands in the access log, in metrics and in what an operator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// The encrypted file of one institution was handed in by another.
    OtherInstitution,
    /// The encrypted file of an arrival was handed in under another agreement.
    OtherExchange,
    /// The file on the disk is not the one that was published.
    Substituted,
    /// What says whether a file was here before was not written by `work`, or cannot be read.
    MarkerForged,
}

impl Incident {
    /// All, for metrics.
    pub const ALL: [Self; 4] =
        [Self::OtherInstitution, Self::OtherExchange, Self::Substituted, Self::MarkerForged];

    /// The label.
    pub fn code(self) -> &'static str {
        match self {
            Self::OtherInstitution => "other-institution",
            Self::OtherExchange => "other-exchange",
            Self::Substituted => "substituted",
            Self::MarkerForged => "marker-forged",
        }
    }
}
