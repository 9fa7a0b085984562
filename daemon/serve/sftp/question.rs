//! Is it for us? When an upload of this session is asked about: as soon as its header is complete, or, where it may still
//! become a relayed file, when it gets its final name. The rules are `policy::question`'s, the asking is `serve::ask`'s.

use super::Sftp;
use super::upload::{Sealed, WriteFault};
use crate::policy::agreement::Flow;
use crate::policy::path::{Name, Slug};
use crate::policy::question::{Known, Unasked, early, judge, when_published};

/// What the access log says of a file that nobody could be asked about.
const TAKEN_UNASKED: &str = "taken on its form: work could not be asked whether it is for this zone";

impl Sftp {
    /// What holds for an upload of this name until somebody answers; none where its header is not asked about yet.
    pub(super) fn asked_early(&self, exchange: &Slug, name: &Name) -> Option<Unasked> {
        let config = self.server.config();
        early(config.exchanges.get(exchange)?, self.session.institution(), name)
    }

    /// Asks about a complete upload that a flow takes, unless that is answered already or the flow relays it. Where there
    /// is no answer and it is taken all the same, the access log is to say so.
    pub(super) async fn require_for_us(
        &self,
        flow: &Flow,
        sealed: &Sealed,
    ) -> Result<Option<String>, WriteFault> {
        let (Some(header), Some(unasked)) = (&sealed.header, when_published(flow)) else { return Ok(None) };
        match judge(self.server.job_side.ask(header).await, unasked)? {
            Known::ForUs => Ok(None),
            Known::Unasked => Ok(Some(TAKEN_UNASKED.to_owned())),
        }
    }
}
