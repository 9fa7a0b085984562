//! The scan of an age file's header and armor: the pieces a file comes in make no difference to the verdict, and what is
//! accepted really has the outer form that age gives a file.

#![no_main]

use dropzone::policy::envelope::{Envelope, HEADER_MAX, Header, Inspector};
use dropzone::policy::reason::Reason;
use libfuzzer_sys::fuzz_target;

// The first two bytes say how the rest is cut.
fuzz_target!(|input: &[u8]| {
    let Some((&[first, then], file)) = input.split_first_chunk() else { return };
    let whole = verdict(std::iter::once(file));
    let (head, tail) = file.split_at(usize::from(first).min(file.len()));
    let cut = verdict(std::iter::once(head).chain(tail.chunks(usize::from(then).max(1))));
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (Err(_), Err(_)) => {}
        _ => panic!("whole: {whole:?}, cut: {cut:?}"),
    }
    if let Ok((envelope, header)) = whole {
        let carried_by = header.carried_by();
        assert_eq!(envelope.length(), file.len() as u64);
        assert!(carried_by <= envelope.length());
        assert!(envelope.is_armored() || carried_by <= HEADER_MAX as u64);
        let magic: &[u8] =
            if envelope.is_armored() { b"-----BEGIN AGE" } else { b"age-encryption.org/v1\n-> " };
        assert!(file.starts_with(magic));
        // What `work` is asked about is a header too, the same in both forms.
        let binary = header.binary(&file[..carried_by as usize]);
        let mut inspector = Inspector::default();
        let again = inspector.feed(&binary).expect("it was accepted").expect("all of it is there");
        assert!(!again.is_armored() && again.carried_by() == binary.len() as u64);
    }
});

fn verdict<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<(Envelope, Header), Reason> {
    let mut inspector = Inspector::default();
    for piece in pieces {
        let complete = inspector.feed(piece)?.cloned();
        assert_eq!(complete.as_ref(), inspector.header());
    }
    let envelope = inspector.seal()?;
    let header = inspector.header().expect("nothing is sealed without a header");
    Ok((envelope, header.clone()))
}
