//! What a proxy says in front of a connection about who made it: the PROXY protocol, versions 1 and 2. Whether a peer is
//! believed, and reading its bytes, is `serve`'s business; here it is decided how many of them may be read, so that none
//! of what follows the header is taken for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its end.
pub const LINE_MAX: usize = 107;
/// The longest header of version 2 that is read: addresses, and what other proxies usually add.
pub const BINARY_MAX: usize = 536;

const LINE_START: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN` and the line's end; no header is shorter.
const SHORTEST: usize = 15;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const BINARY_START: usize = 16;

/// What to do with the bytes that have come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Read at most so many more: all of them belong to the header.
    Needs(usize),
    /// The connection comes from here.
    From(SocketAddr),
    /// The proxy speaks for itself, or does not know: the connection comes from the proxy.
    Own,
    /// This is no header.
    Wrong,
}

/// Reads a header as far as it has come.
pub fn read(so_far: &[u8]) -> Header {
    let begins_as = |start: &[u8]| {
        let length = start.len().min(so_far.len());
        so_far.get(..length) == start.get(..length)
    };
    if !begins_as(LINE_START) && !begins_as(SIGNATURE) {
        return Header::Wrong;
    }
    if so_far.len() < SHORTEST {
        return Header::Needs(SHORTEST - so_far.len());
    }
    if begins_as(LINE_START) { read_line(so_far) } else { read_binary(so_far) }
}

/// Version 1. Its length is not known before its end, so it is read byte by byte from the shortest on.
fn read_line(so_far: &[u8]) -> Header {
    let Some(line) = so_far.strip_suffix(b"\r\n") else {
        return if so_far.len() < LINE_MAX && !so_far.contains(&b'\n') {
            Header::Needs(1)
        } else {
            Header::Wrong
        };
    };
    let Ok(line) = std::str::from_utf8(line) else { return Header::Wrong };
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        Some("UNKNOWN") => return Header::Own,
        Some("TCP4") => two(&mut words, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        Some("TCP6") => two(&mut words, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => None,
    };
    let ports = two(&mut words, port);
    match (addresses, ports, words.next()) {
        (Some((from, _)), Some((port, _)), None) => Header::From(SocketAddr::new(from, port)),
        _ => Header::Wrong,
    }
}

fn two<'a, T>(words: &mut impl Iterator<Item = &'a str>, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    Some((read(words.next()?)?, read(words.next()?)?))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    if digits && !leading { text.parse().ok() } else { None }
}

/// Version 2: a head that says how long the rest is. What follows the addresses is not looked at.
fn read_binary(so_far: &[u8]) -> Header {
    let Some((&[.., command, family, high, low], rest)) = so_far.split_first_chunk::<BINARY_START>() else {
        return Header::Needs(BINARY_START - so_far.len());
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) || BINARY_START + length > BINARY_MAX {
        return Header::Wrong;
    }
    if rest.len() < length {
        return Header::Needs(length - rest.len());
    }
    match (command, family) {
        // A health check of the proxy's own.
        (0x20, _) => Header::Own,
        (_, 0x11) => match rest.first_chunk::<12>() {
            Some(&[a, b, c, d, _, _, _, _, high, low, _, _]) => {
                from(Ipv4Addr::new(a, b, c, d).into(), [high, low])
            }
            None => Header::Wrong,
        },
        (_, 0x21) => match (rest.first_chunk::<16>(), rest.get(32..34), rest.len() >= 36) {
            (Some(&address), Some(&[high, low]), true) => from(Ipv6Addr::from(address).into(), [high, low]),
            _ => Header::Wrong,
        },
        _ => Header::Own,
    }
}

fn from(address: IpAddr, port: [u8; 2]) -> Header {
    Header::From(SocketAddr::new(address, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    /// Reads as `serve` does: no more than what is asked for. Gives what was decided, and what was left unread.
    fn follow(stream: &[u8]) -> (Header, &[u8]) {
        let mut read_so_far = 0;
        for _ in 0..1_000 {
            match read(&stream[..read_so_far]) {
                Header::Needs(more) => {
                    assert!(more > 0 && read_so_far + more <= BINARY_MAX);
                    if read_so_far == stream.len() {
                        return (Header::Needs(more), &[]);
                    }
                    read_so_far = (read_so_far + more).min(stream.len());
                }
                decided => return (decided, &stream[read_so_far..]),
            }
        }
        panic!("it never ends")
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 8, 0xae];

    #[test]
    fn addresses_of_both_versions_and_families_are_read_and_nothing_behind_them() {
        let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0x30, 0x39, 0, 22]].concat();
        let with_more = [&IPV4[..], &[3, 0, 4, 1, 2, 3, 4], &[4; 500]].concat();
        for (header, from) in [
            (&b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 22\r\n"[..], "192.0.2.1:12345"),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 22\r\n", "[2001:db8::1]:12345"),
            (&binary(0x21, 0x11, &IPV4), "192.0.2.1:12345"),
            (&binary(0x21, 0x11, &with_more), "192.0.2.1:12345"),
            (&binary(0x21, 0x21, &ipv6), "[2001:db8::1]:12345"),
        ] {
            let stream = [header, b"SSH-2.0-x\r\n"].concat();
            let decided = follow(&stream);
            assert_eq!(decided, (Header::From(from.parse().unwrap()), &b"SSH-2.0-x\r\n"[..]), "{from}");
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_is_the_peer() {
        for header in [
            &b"PROXY UNKNOWN\r\n"[..],
            b"PROXY UNKNOWN 2001:db8::1 2001:db8::2 1 2\r\n",
            &binary(0x20, 0, &[]),
            &binary(0x20, 0x11, &IPV4),
            &binary(0x21, 0, &[]),
            &binary(0x21, 0x12, &IPV4),
            &binary(0x21, 0x31, &[0; 216]),
        ] {
            let stream = [header, b"SSH-2.0-x\r\n"].concat();
            assert_eq!(follow(&stream), (Header::Own, &b"SSH-2.0-x\r\n"[..]), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_known_for_it() {
        let long = [b"PROXY TCP4 192.0.2.1 10.0.0.1 1 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
        let unknown = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        for stream in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"P\r\nSSH-2.0-x\r\n",
            b"PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 2001:db8::1 10.0.0.1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\nSSH-2.0-x\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 \xff\xff 10.0.0.1 1 2\r\n",
            &long,
            &unknown,
            &binary(0x11, 0x11, &IPV4),
            &binary(0x22, 0x11, &IPV4),
            &binary(0x21, 0x11, &IPV4[..11]),
            &binary(0x21, 0x21, &[0; 35]),
            &binary(0x21, 0x11, &[0; BINARY_MAX - 15]),
        ] {
            assert_eq!(follow(stream).0, Header::Wrong, "{}", String::from_utf8_lossy(stream));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_reading_ends_within_the_longest_header(
            start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE]),
            rest in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            let stream = [start, &rest].concat();
            let (_, left) = follow(&stream);
            prop_assert!(stream.len() - left.len() <= BINARY_MAX);
            if stream.starts_with(b"PROXY ") {
                prop_assert!(stream.len() - left.len() <= LINE_MAX);
            }
        }

        #[test]
        fn every_address_that_a_proxy_writes_is_read_as_it_is(address: IpAddr, port: u16) {
            let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {address} {address} {port} 22\r\n");
            prop_assert_eq!(follow(line.as_bytes()).0, Header::From(SocketAddr::new(address, port)));
        }
    }
}
