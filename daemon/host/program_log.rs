//! The program log: what the program itself has to say, as opposed to the access log. Text on a terminal, JSON lines
//! otherwise, both on stderr; `DROPZONE_LOG` (or `RUST_LOG`) sets the level, by default `info`.

use std::io::IsTerminal;
use std::panic::{self, Location};

use tracing_subscriber::EnvFilter;

/// Sends the program log to stderr from now on. Calling it again changes nothing.
pub fn begin() {
    let wish = std::env::var("DROPZONE_LOG").or_else(|_| std::env::var("RUST_LOG")).ok();
    let (filter, complaint) = filter(wish.as_deref());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = if std::io::stderr().is_terminal() {
        log.with_target(false).try_init()
    } else {
        log.json().flatten_event(true).try_init()
    };
    if let (Ok(()), Some(complaint)) = (begun, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// From now on a panic tells its place only, in this log: a message, most of all a library's, may hold a value of a list.
pub fn tell_only_where_it_panicked() {
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(Location::to_string).unwrap_or_default();
        tracing::error!(place, "a defect of this program, or of a library it uses");
    }));
}

/// russh complains about single messages, at `error` too, so that a peer could fill the disk with its log: it is not heard
/// unless the wish names it. What comes of a connection we say ourselves.
fn filter(wish: Option<&str>) -> (EnvFilter, Option<String>) {
    let wish = wish.map(str::trim).filter(|wish| !wish.is_empty()).unwrap_or("info");
    let quiet = if wish.contains("russh") { wish.to_owned() } else { format!("{wish},russh=off") };
    match EnvFilter::try_new(&quiet) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::new("info,russh=off"),
            Some(format!(
                "DROPZONE_LOG={wish:?} is no filter ({error}); using \"info\". Example: DROPZONE_LOG=debug"
            )),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn russh_is_quiet_unless_asked_for_and_a_wrong_filter_is_told() {
        for (wish, shown) in [
            (None, "russh=off,info"),
            (Some(" "), "russh=off,info"),
            (Some("debug"), "russh=off,debug"),
            (Some("info,russh=trace"), "russh=trace,info"),
        ] {
            let (filter, complaint) = filter(wish);
            assert_eq!((filter.to_string().as_str(), complaint), (shown, None), "{wish:?}");
        }
        let (filter, complaint) = filter(Some("dropzone=loudly"));
        assert_eq!(filter.to_string(), "russh=off,info");
        assert!(complaint.unwrap().contains("DROPZONE_LOG=\"dropzone=loudly\""));
    }
}
