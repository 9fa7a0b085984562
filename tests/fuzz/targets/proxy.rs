//! The PROXY protocol: nothing behind a header is ever read, what was decided stays decided, and a header always ends.

#![no_main]

use dropzone::policy::proxy::{BINARY_MAX, Header, LINE_MAX, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let mut so_far = 0;
    let decided = loop {
        match read(&stream[..so_far]) {
            Header::Needs(more) => {
                assert!(more > 0 && so_far + more <= BINARY_MAX, "{more} more after {so_far}");
                if so_far == stream.len() {
                    return;
                }
                so_far = (so_far + more).min(stream.len());
            }
            decided => break decided,
        }
    };
    let header = &stream[..so_far];
    if decided != Header::Wrong {
        if header.starts_with(b"PROXY ") {
            assert!(header.ends_with(b"\r\n") && header.len() <= LINE_MAX);
            assert_eq!(header.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        } else {
            let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
            assert_eq!(header.len(), 16 + length, "as long as it says");
        }
    }
    if let Header::From(address) = decided {
        // Told the other way, it is the same address.
        let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
        let (ip, port) = (address.ip(), address.port());
        let line = format!("PROXY {family} {ip} {ip} {port} 1\r\n");
        assert_eq!(read(line.as_bytes()), decided);
    }
});
