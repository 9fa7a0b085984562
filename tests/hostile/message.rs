//! SSH messages by hand: their numbers (RFC 4250 §4.1.2) and how their fields are put together (RFC 4251 §5).

pub const DISCONNECT: u8 = 1;
pub const IGNORE: u8 = 2;
pub const UNIMPLEMENTED: u8 = 3;
pub const DEBUG: u8 = 4;
pub const SERVICE_REQUEST: u8 = 5;
pub const SERVICE_ACCEPT: u8 = 6;
pub const EXT_INFO: u8 = 7;
pub const KEXINIT: u8 = 20;
pub const NEWKEYS: u8 = 21;
pub const KEX_ECDH_INIT: u8 = 30;
pub const KEX_ECDH_REPLY: u8 = 31;
pub const USERAUTH_REQUEST: u8 = 50;
pub const USERAUTH_FAILURE: u8 = 51;
pub const USERAUTH_SUCCESS: u8 = 52;
pub const USERAUTH_PK_OK: u8 = 60;
pub const GLOBAL_REQUEST: u8 = 80;
pub const CHANNEL_OPEN: u8 = 90;
pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
pub const CHANNEL_OPEN_FAILURE: u8 = 92;
pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
pub const CHANNEL_DATA: u8 = 94;
pub const CHANNEL_EXTENDED_DATA: u8 = 95;
pub const CHANNEL_EOF: u8 = 96;
pub const CHANNEL_CLOSE: u8 = 97;
pub const CHANNEL_REQUEST: u8 = 98;
pub const CHANNEL_SUCCESS: u8 = 99;

/// string
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// mpint, of a number that is not negative
pub fn mpint(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = &number[first..];
    let sign = if number.first().is_some_and(|byte| byte & 0x80 != 0) { &[0][..] } else { &[] };
    string([sign, number].concat())
}

/// The strings that a message consists of.
pub fn fields(mut message: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    while let Some((length, rest)) = message.split_first_chunk::<4>() {
        let (field, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        fields.push(field.to_vec());
        message = rest;
    }
    fields
}

/// A number somewhere in a message.
pub fn number(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(message[at..at + 4].try_into().unwrap())
}

/// What this client offers: one algorithm of each kind, and no strict key exchange, which would end its tricks early.
pub fn kexinit() -> Vec<u8> {
    let cipher = "aes256-gcm@openssh.com";
    let lists = ["curve25519-sha256", "ssh-ed25519", cipher, cipher, "hmac-sha2-256-etm@openssh.com"];
    let lists = lists.into_iter().chain(["hmac-sha2-256-etm@openssh.com", "none", "none", "", ""]);
    let mut message = vec![KEXINIT; 17];
    message.extend(lists.flat_map(string));
    message.extend([0; 5]);
    message
}

/// channel open (RFC 4254 §5.1)
pub fn open_channel(kind: &str, ours: u32, window: u32, largest: u32) -> Vec<u8> {
    let numbers = [ours, window, largest].map(u32::to_be_bytes).concat();
    [vec![CHANNEL_OPEN], string(kind), numbers].concat()
}

/// A message about a channel, with what follows its number.
pub fn about(kind: u8, channel: u32, rest: &[u8]) -> Vec<u8> {
    [&[kind], &channel.to_be_bytes()[..], rest].concat()
}

/// channel data
pub fn data(channel: u32, bytes: &[u8]) -> Vec<u8> {
    about(CHANNEL_DATA, channel, &string(bytes))
}

/// channel request, with a wish for a reply
pub fn channel_request(channel: u32, kind: &str, rest: &[u8]) -> Vec<u8> {
    about(CHANNEL_REQUEST, channel, &[&string(kind)[..], &[1], rest].concat())
}

/// A message of a type as it would be well-formed where it belongs, so that only its place is wrong.
pub fn well_formed(kind: u8) -> Vec<u8> {
    let zero = [0; 4];
    let rest = match kind {
        DISCONNECT => [&[0, 0, 0, 11], &string("bye")[..], &string("")].concat(),
        IGNORE => string("padding"),
        UNIMPLEMENTED => zero.to_vec(),
        DEBUG => [&[1], &string("debug")[..], &string("")].concat(),
        SERVICE_REQUEST | SERVICE_ACCEPT => string("ssh-connection"),
        EXT_INFO => [&[0, 0, 0, 1], &string("server-sig-algs")[..], &string("ssh-ed25519")].concat(),
        KEXINIT => return kexinit(),
        NEWKEYS | USERAUTH_SUCCESS => Vec::new(),
        KEX_ECDH_INIT => string([9; 32]),
        KEX_ECDH_REPLY => [string("key"), string([9; 32]), string("signature")].concat(),
        USERAUTH_REQUEST => [string("agency"), string("ssh-connection"), string("none")].concat(),
        USERAUTH_FAILURE => [string("publickey"), vec![0]].concat(),
        USERAUTH_PK_OK => [string("ssh-ed25519"), string("blob")].concat(),
        GLOBAL_REQUEST => [&string("tcpip-forward")[..], &[1], &string("127.0.0.1"), &[0, 0, 0, 22]].concat(),
        CHANNEL_OPEN => return open_channel("session", 0, 1 << 20, 1 << 15),
        CHANNEL_OPEN_CONFIRMATION => [0_u32, 0, 1 << 20, 1 << 15].map(u32::to_be_bytes).concat(),
        CHANNEL_OPEN_FAILURE => [&zero, &[0, 0, 0, 1], &string("no")[..], &string("")].concat(),
        CHANNEL_WINDOW_ADJUST => vec![0, 0, 0, 0, 0, 16, 0, 0],
        CHANNEL_DATA => [zero.to_vec(), string("data")].concat(),
        CHANNEL_EXTENDED_DATA => [zero.to_vec(), vec![0, 0, 0, 1], string("data")].concat(),
        CHANNEL_REQUEST => return channel_request(0, "subsystem", &string("sftp")),
        _ => zero.to_vec(),
    };
    [vec![kind], rest].concat()
}
