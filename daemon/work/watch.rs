//! Wakes the scan when something comes into the spool. Events are hints: they overflow, and do not cross network file
//! systems. The scan is the truth, and runs without them too.

use std::path::Path;
use std::sync::Arc;

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Watches folders until it is dropped. Without a watcher, arrivals wait for the next scan.
pub fn watch(folders: &[&Path], wake: Arc<Notify>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<Event>| {
        // What cannot be understood wakes too: one scan too many is cheaper than an arrival that waits.
        if event.is_ok_and(|event| !is_coming(&event)) {
            return;
        }
        wake.notify_one();
    };
    let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watcher
        .inspect_err(
            |error| tracing::warn!(%error, "the spool cannot be watched; arrivals wait for the next scan"),
        )
        .ok()
}

/// Arrivals come by rename. Their going, which is our own doing, wakes nobody.
fn is_coming(event: &Event) -> bool {
    match event.kind {
        EventKind::Modify(ModifyKind::Name(mode)) => mode != RenameMode::From,
        EventKind::Create(_) | EventKind::Any | EventKind::Other => true,
        EventKind::Modify(_) | EventKind::Access(_) | EventKind::Remove(_) => event.need_rescan(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_rename_into_the_folder_wakes_and_one_out_of_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(outside.join("id")).unwrap();
        let wake = Arc::new(Notify::new());
        let _watcher = watch(&[&inside], Arc::clone(&wake)).unwrap();
        std::fs::rename(outside.join("id"), inside.join("id")).unwrap();
        tokio::time::timeout(Duration::from_secs(10), wake.notified()).await.unwrap();
        std::fs::rename(inside.join("id"), outside.join("id")).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), wake.notified()).await.is_err());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_watched_leaves_the_scan() {
        assert!(watch(&[Path::new("/nowhere/at/all")], Arc::new(Notify::new())).is_none());
    }
}
