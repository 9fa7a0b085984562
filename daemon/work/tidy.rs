//! Sees to what a crash of `work`, here or on another node, left half-made among receipts and markers. What is an orphan says
//! `host::spool::orphans`; uploads and refusals are swept by `serve`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use super::Workshop;
use crate::host::spool::{Orphans, Swept};

/// Between two looks of a row.
const EVERY: Duration = Duration::from_secs(10);
/// Receipts and markers may be many: looked at so many times in a row, at the start and then in every round of so many.
const LOOKS: u32 = 6;
const ROUND: u32 = 60;

/// Sweeps now and then.
pub(super) async fn go_on(workshop: &Arc<Workshop>) {
    let mut ticks = tokio::time::interval(EVERY);
    let orphans = Arc::new(Mutex::new(Orphans::default()));
    for round in (0..ROUND).cycle() {
        ticks.tick().await;
        if round >= LOOKS {
            continue;
        }
        let (workshop, orphans) = (Arc::clone(workshop), Arc::clone(&orphans));
        let done = spawn_blocking(move || {
            let mut orphans = orphans.lock().unwrap_or_else(PoisonError::into_inner);
            match workshop.spool.sweep_papers(&mut orphans, Instant::now()) {
                Ok(swept) => swept.iter().for_each(tell),
                Err(error) => tracing::error!(%error, "what a crash left half-made could not be looked for"),
            }
        });
        if done.await.is_err() {
            tracing::error!("sweeping receipts and markers failed");
        }
    }
}

fn tell(swept: &Swept) {
    match swept {
        Swept::Rubble(path) => tracing::info!(path, "removed what a crash had left half-made"),
        // An upload is nothing that is looked for here.
        Swept::Failed(..) => {}
    }
}
