//! Whatever a client calls a path: it is refused, or it lies in the tree, has no part that deceives, and reads back as itself.

#![no_main]

use dropzone::policy::path::{Name, Place, RemotePath, Slug};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(slug) = Slug::parse(text) {
        assert_eq!(slug.as_str(), text);
        assert!(Name::parse(text).is_ok(), "every slug is fit to be a file's name");
    }
    let Ok(path) = RemotePath::parse(text) else { return };
    let shown = path.to_string();
    assert!(shown.starts_with('/') && !shown.contains("//"));
    assert_eq!(RemotePath::parse(&shown), Ok(path.clone()), "it reads back as itself");
    for part in shown.split('/').skip(1).filter(|part| !part.is_empty()) {
        assert!(part != "." && part != ".." && part.len() <= 255, "{part:?}");
        assert!(!part.chars().any(|c| c.is_control() || c == '\u{FFFD}'), "{part:?}");
    }
    let depth = shown.split('/').filter(|part| !part.is_empty()).count();
    match path.place() {
        Ok(Place::Root) => assert_eq!(depth, 0),
        Ok(Place::Exchange(exchange)) => assert_eq!(shown, format!("/{exchange}")),
        Ok(Place::Folder(exchange, folder)) => assert_eq!(shown, format!("/{exchange}/{}", folder.as_str())),
        Ok(Place::File(exchange, folder, name)) => {
            assert_eq!(shown, format!("/{exchange}/{}/{name}", folder.as_str()));
        }
        Err(_) => assert!(depth > 0),
    }
});
