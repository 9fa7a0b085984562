//! What is to happen at which operation of which process: a kill, a power cut, an error, a lie, a delay. Pure, but for the
//! counting.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::tree::{Call, Loss};
use crate::harness::Daemon;

/// Which operations.
#[derive(Clone)]
pub struct Filter {
    pub who: Option<Daemon>,
    matches: Arc<dyn Fn(&Call) -> bool + Send + Sync>,
}

impl Filter {
    pub fn new(matches: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        Self { who: None, matches: Arc::new(matches) }
    }

    /// Everything under a path.
    pub fn under(prefix: &'static str) -> Self {
        Self::new(move |call| call.touches(prefix))
    }

    /// Operations of this kind under a path.
    pub fn kind(kind: &'static str, prefix: &'static str) -> Self {
        Self::new(move |call| call.kind == kind && call.touches(prefix))
    }

    pub fn by(self, who: Daemon) -> Self {
        Self { who: Some(who), ..self }
    }

    pub fn takes(&self, who: Option<Daemon>, call: &Call) -> bool {
        (self.who.is_none() || self.who == who) && (self.matches)(call)
    }
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `kill -9` of the process, which never gets the answer. The operation has not happened.
    KillBefore,
    /// The same, and it has happened.
    KillAfter,
    /// The power goes for all, before it or after it.
    CutBefore(Loss),
    CutAfter(Loss),
    Fail(Errno),
    /// A sync answers that all went well, and makes nothing safe.
    Lie,
    /// A sync takes this long.
    Slow(Duration),
}

#[derive(Clone)]
pub struct Rule {
    pub filter: Filter,
    pub action: Action,
    /// How many that match are let pass first.
    pub pass: u64,
    /// Whether it goes on happening.
    pub again: bool,
    pub fired: u64,
}

impl Rule {
    pub fn new(filter: Filter, action: Action) -> Self {
        Self { filter, action, pass: 0, again: true, fired: 0 }
    }

    /// Happens once, at the operation with this number among those that match, counted from 0.
    pub fn at(filter: Filter, number: u64, action: Action) -> Self {
        Self { filter, action, pass: number, again: false, fired: 0 }
    }

    /// Whether it strikes now; counts.
    pub fn strikes(&mut self, who: Option<Daemon>, call: &Call) -> bool {
        let is_concerned = match self.action {
            Action::Lie | Action::Slow(_) => call.is_sync(),
            Action::KillBefore
            | Action::KillAfter
            | Action::CutBefore(_)
            | Action::CutAfter(_)
            | Action::Fail(_) => true,
        };
        if !is_concerned || !self.filter.takes(who, call) || (self.fired > 0 && !self.again) {
            return false;
        }
        if self.pass > 0 {
            self.pass -= 1;
            return false;
        }
        self.fired += 1;
        true
    }
}

/// How much room a top folder has.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub bytes: u64,
    pub inodes: u64,
}

impl Room {
    pub const PLENTY: Self = Self { bytes: 64 << 30, inodes: 1 << 24 };
}
