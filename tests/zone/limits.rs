//! What one peer may take, and what becomes of one that takes more. All of 127.0.0.0/8 is this machine, so a test can be as
//! many sources as it needs.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{AN, BO, Daemon, ELS, OTTO, PATIENCE, Person, Zone};

const STRANGER: Person = Person { user: "agency", key: "stranger" };
const NOBODY: Person = Person { user: "nobody", key: "stranger" };

/// A zone whose `dropzone.yaml` ends so.
fn zone(machine: &str) -> Zone {
    let mut zone = Zone::lay_out();
    let file = zone.directory().join("dropzone.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let (start, _) = text.split_once("penalties:").unwrap();
    fs::write(file, format!("{start}{machine}\n")).unwrap();
    zone.start();
    zone
}

/// An address that clients of these tests come from.
fn from(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 77, last)
}

/// Connects from an address.
fn dial(zone: &Zone, from: Ipv4Addr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &zone.ssh()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the server says what it is; if not, it has closed the connection without a byte.
fn is_served(stream: &mut TcpStream) -> bool {
    let mut start = [0; 16];
    match stream.read_exact(&mut start) {
        Ok(()) => {
            assert_eq!(&start, b"SSH-2.0-dropzone");
            true
        }
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "neither served nor closed");
            false
        }
    }
}

/// Waits until the server has closed a connection, whatever else it says before.
fn wait_for_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is not closed");
    }
}

fn refused(zone: &Zone, cause: &str) -> f64 {
    zone.metric(Daemon::Serve, &format!("dropzone_connections_refused_total{{cause=\"{cause}\"}}"))
}

fn penalised(zone: &Zone, cause: &str) -> f64 {
    zone.metric(Daemon::Serve, &format!("dropzone_penalties_total{{cause=\"{cause}\"}}"))
}

/// Logs in from an address with OpenSSH; whether that worked, and what it said.
fn log_in(zone: &Zone, person: Person, from: Ipv4Addr) -> (bool, String) {
    let bound = format!("BindAddress={from}");
    // There are no commands here, so a login shows in how the command is refused.
    let ran = zone.openssh(person, &["-o", &bound], &["id"]);
    (ran.stderr.contains("exec request failed"), ran.stderr)
}

#[test]
fn one_source_may_have_so_many_connections_without_a_login() {
    let zone = zone("limits: {unauthenticated-per-source: 3}");
    let mut there: Vec<_> = (0..3).map(|_| dial(&zone, from(1))).collect();
    assert!(there.iter_mut().all(is_served));
    assert!(!is_served(&mut dial(&zone, from(1))));
    assert!(is_served(&mut dial(&zone, from(2))), "another source is not concerned");
    assert_eq!(refused(&zone, "source"), 1.0);
    there.pop();
    zone.wait_for("the place to be free again", || is_served(&mut dial(&zone, from(1))).then_some(()));
}

#[test]
fn when_many_wait_for_their_login_newcomers_are_dropped() {
    let zone = zone("limits: {unauthenticated: \"2:100:3\"}");
    zone.wait_for("nobody to wait", || nobody_waits(&zone));
    let mut there: Vec<_> = (1..=2).map(|last| dial(&zone, from(last))).collect();
    assert!(there.iter_mut().all(is_served));
    assert!(!is_served(&mut dial(&zone, from(3))));
    assert_eq!(refused(&zone, "early-drop"), 1.0);
}

fn nobody_waits(zone: &Zone) -> Option<()> {
    (zone.metric(Daemon::Serve, "dropzone_connections_unauthenticated") == 0.0).then_some(())
}

#[test]
fn who_floods_displaces_himself_and_others_log_in() {
    let zone = zone("limits: {unauthenticated: \"4:100:4\"}");
    zone.wait_for("nobody to wait", || nobody_waits(&zone));
    let before = refused(&zone, "protocol");
    let mut flood: Vec<_> = (0..4).map(|_| dial(&zone, from(1))).collect();
    assert!(flood.iter_mut().all(is_served));
    assert!(!is_served(&mut dial(&zone, from(1))));
    assert!(log_in(&zone, AN, from(2)).0);
    wait_for_end(&mut flood[0]);
    assert_eq!((refused(&zone, "displaced"), refused(&zone, "protocol")), (1.0, before));
}

#[test]
fn there_are_no_more_connections_than_allowed_in_all() {
    let zone = zone("limits: {connections: 2}");
    zone.wait_for("nobody to wait", || nobody_waits(&zone));
    let mut there: Vec<_> = (1..=2).map(|last| dial(&zone, from(last))).collect();
    assert!(there.iter_mut().all(is_served));
    assert!(!is_served(&mut dial(&zone, from(3))));
    assert_eq!(refused(&zone, "full"), 1.0);
}

#[test]
fn an_institution_has_so_many_sessions_and_one_more_is_told_why_it_has_to_wait() {
    let zone = zone("limits: {sessions-per-institution: 1}");
    let first = zone.session(AN, from(1));
    let (logged_in, said) = log_in(&zone, AN, from(2));
    assert!(!logged_in, "{said}");
    for sentence in ["Te veel gelijktijdige sessies van uw organisatie", "Too many sessions at once of your"]
    {
        assert!(said.contains(sentence), "{said}");
    }
    let denied = zone.logged(&[("event", "login"), ("outcome", "denied")]);
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(
        (&denied[0]["reason"], &denied[0]["key-label"]),
        (&"too-many-of-institution".into(), &"an".into())
    );
    assert!(log_in(&zone, BO, from(1)).0, "another institution is not concerned");
    drop(first);
    zone.wait_for("the place to be free again", || log_in(&zone, AN, from(2)).0.then_some(()));
    assert_eq!(penalised(&zone, "authentication-failure"), 0.0, "who has proven a key has not failed");
}

#[test]
fn a_source_has_so_many_sessions_whosever_they_are() {
    let zone = zone("limits: {sessions-per-source: 1}");
    let _first = zone.session(AN, from(1));
    let (logged_in, said) = log_in(&zone, BO, from(1));
    assert!(!logged_in && said.contains("Te veel gelijktijdige sessies vanaf uw adres"), "{said}");
    assert!(log_in(&zone, BO, from(2)).0);
}

#[test]
fn a_session_in_which_nothing_moves_is_cut() {
    let zone = zone("limits: {idle: 1s, keepalive: 1s}");
    let mut session = zone.session(AN, from(1));
    zone.wait_for("the cut", || session.has_ended().then_some(()));
    let idle = "dropzone_limits_reached_total{limit=\"idle\"}";
    zone.wait_for("the count", || (zone.metric(Daemon::Serve, idle) == 1.0).then_some(()));
    zone.wait_for("the logout", || zone.logged(&[("event", "logout")]).pop());
}

/// Silent; byte by byte before the identification ends; in the middle of the first packet of the key exchange.
#[test]
fn a_login_that_takes_too_long_is_cut_whatever_the_peer_sends() {
    let zone = zone("limits: {login-grace: 2s}");
    let kexinit = [b"SSH-2.0-slow\r\n".as_slice(), &[0, 0, 4, 0, 4, 20], &[7; 1_000]].concat();
    for (last, sent, dribbled) in [(1, 0, 0), (2, 0, 400), (3, 14, 400), (4, 20, 0)] {
        let mut stream = dial(&zone, from(last));
        stream.write_all(&kexinit[..sent]).unwrap();
        let mut drip = stream.try_clone().unwrap();
        let bytes = if sent == 0 { vec![b'x'; dribbled] } else { kexinit[sent..][..dribbled].to_vec() };
        let dripping = std::thread::spawn(move || {
            for byte in bytes {
                std::thread::sleep(Duration::from_millis(100));
                if drip.write_all(&[byte]).is_err() {
                    break;
                }
            }
        });
        wait_for_end(&mut stream);
        let _ = stream.shutdown(Shutdown::Both);
        dripping.join().unwrap();
    }
    zone.wait_for("the count", || (refused(&zone, "login-grace") == 4.0).then_some(()));
    assert_eq!(penalised(&zone, "grace-exceeded"), 4.0);
}

#[test]
fn who_fails_too_often_is_refused_for_a_while_and_nobody_else_is() {
    let zone = zone("penalties: {authentication-failure: 6s, min: 8s, max: 8s}");
    for _ in 0..2 {
        assert!(is_served(&mut dial(&zone, from(2))), "until the minimum has come together");
        assert!(!log_in(&zone, STRANGER, from(1)).0);
    }
    zone.wait_for("the penalty", || (!is_served(&mut dial(&zone, from(1)))).then_some(()));
    assert!(!log_in(&zone, AN, from(1)).0, "a good key does not help");
    assert!(log_in(&zone, AN, from(2)).0);
    assert_eq!(penalised(&zone, "authentication-failure"), 2.0);
    assert!(refused(&zone, "penalty") >= 2.0);
    zone.wait_for("the gauge", || {
        (zone.metric(Daemon::Serve, "dropzone_penalties_active") == 1.0).then_some(())
    });
    zone.wait_for("the end of the penalty", || log_in(&zone, AN, from(1)).0.then_some(()));
}

#[test]
fn each_offence_counts_as_what_it_is() {
    let zone = zone("penalties: {min: 5m}");
    log_in(&zone, NOBODY, from(1));
    log_in(&zone, STRANGER, from(1));
    log_in(&zone, ELS, from(1));
    drop(dial(&zone, from(1)));
    assert!(log_in(&zone, AN, from(1)).0);
    zone.wait_for("the counts", || {
        // Starting the zone has made a connection of its own.
        let counts =
            ["unknown-user", "authentication-failure", "no-authentication"].map(|of| penalised(&zone, of));
        (counts == [1.0, 2.0, 2.0]).then_some(())
    });
}

#[test]
fn penalties_can_be_switched_off_and_some_are_exempt() {
    for machine in ["penalties: {enabled: false, crash: 2m}", "penalties: {min: 1s, exempt: [127.0.77.0/24]}"]
    {
        let zone = zone(machine);
        for _ in 0..5 {
            assert!(!log_in(&zone, STRANGER, from(1)).0);
        }
        assert!(log_in(&zone, AN, from(1)).0, "{machine}");
        assert_eq!(penalised(&zone, "authentication-failure"), 0.0, "{machine}");
        let denied = || zone.logged(&[("event", "login"), ("outcome", "denied")]).len();
        zone.wait_for("each in the log nevertheless", || (denied() == 5).then_some(()));
    }
}

#[test]
fn connections_that_never_ask_to_log_in_are_told_together_and_none_is_missing() {
    let mut zone =
        zone("penalties: {min: 5m, exempt: [127.0.77.3/32]}\nlimits: {unauthenticated-per-source: 1}");
    for (last, number) in [(1, 30), (2, 3), (3, 4)] {
        for _ in 0..number {
            zone.wait_for("a place", || {
                let mut stream = dial(&zone, from(last));
                is_served(&mut stream).then_some(())
            });
        }
    }
    zone.wait_for("the first line", || zone.logged(&[("event", "probes")]).pop());
    assert_eq!(zone.metric(Daemon::Serve, "dropzone_probes_total{source=\"exempt\"}"), 4.0);
    assert!(zone.metric(Daemon::Serve, "dropzone_probes_total{source=\"other\"}") >= 33.0);
    zone.end_with(Signal::TERM);
    let lines = zone.logged(&[("event", "probes")]);
    assert!((1..=3).contains(&lines.len()), "{lines:?}");
    assert!(zone.logged(&[("event", "login")]).is_empty());
    let sources = || lines.iter().flat_map(|line| line["probes"]["sources"].as_array().unwrap());
    for (last, number) in [(1, 30), (2, 3), (3, 4)] {
        let name = Value::from(from(last).to_string());
        let of = sources().filter(|source| source["source"] == name);
        assert_eq!(of.map(|source| source["silent"].as_u64().unwrap()).sum::<u64>(), number, "{name}");
    }
    let sum = |of: &str| lines.iter().map(|line| line["probes"][of].as_u64().unwrap()).sum::<u64>();
    let named: u64 =
        sources().map(|of| of["silent"].as_u64().unwrap() + of["refused"].as_u64().unwrap()).sum();
    assert_eq!(named + sum("others"), sum("silent") + sum("refused"));
}

#[test]
fn rejected_requests_and_offered_keys_are_bounded_and_counted() {
    let zone = zone("limits: {auth-attempts: 2, key-probes: 100}");
    let (logged_in, said) = log_in(&zone, STRANGER, from(1));
    assert!(!logged_in && !said.contains("Too many authentication attempts"), "{said}");
    // The first request, with no key at all, is one of the two.
    let keys = ["an", "bo", "els"]
        .map(|key| format!("IdentityFile={}", zone.key_of(Person { user: "", key }).display()));
    let options: Vec<&str> = keys.iter().flat_map(|key| ["-o", key.as_str()]).collect();
    let said = zone.openssh(OTTO, &options, &["id"]).stderr;
    assert!(said.contains("Too many authentication attempts"), "{said}");
    zone.wait_for("the count", || (refused(&zone, "attempts") >= 1.0).then_some(()));
}

const PROXY: u8 = 9;

/// A zone that believes one proxy, and whose agency may log in from one documentation network only.
fn behind_a_proxy(limits: &str) -> Zone {
    let mut zone = Zone::lay_out();
    let append = |file: &str, text: &str| {
        let file = zone.directory().join(file);
        fs::write(&file, fs::read_to_string(&file).unwrap() + text).unwrap();
    };
    append("dropzone.yaml", &format!("proxy-protocol: {{from: [{}/32]}}\nlimits: {limits}\n", from(PROXY)));
    append("institutions/agency.yaml", "networks: [192.0.2.0/24]\n");
    zone.start();
    zone
}

/// Connects from an address and says this first.
fn dial_with(zone: &Zone, last: u8, header: &[u8]) -> TcpStream {
    let mut stream = dial(zone, from(last));
    stream.write_all(header).unwrap();
    stream
}

/// Relays one connection, with a header before it; returns where.
fn relay(zone: &Zone, last: u8, header: &'static [u8]) -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(100);
    let address = from(NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((address, zone.ssh().port())).unwrap();
    let there = listener.local_addr().unwrap();
    let mut out = dial_with(zone, last, header);
    out.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), out.try_clone().unwrap());
        let up = std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut out, &mut client);
        let _ = client.shutdown(Shutdown::Both);
        up.join().unwrap();
    });
    there
}

fn log_in_through(zone: &Zone, relay: SocketAddr) -> bool {
    let host = format!("HostName={}", relay.ip());
    let alias = format!("HostKeyAlias=[{}]:{}", zone.ssh().ip(), zone.ssh().port());
    zone.openssh(AN, &["-o", &host, "-o", &alias], &["id"]).stderr.contains("exec request failed")
}

#[test]
fn a_proxy_that_is_believed_says_whom_it_speaks_for_and_nobody_else_does() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 2222\r\n";
    const BINARY: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x08\x7f\0\0\x01\x12\x67\x08\xae\x04\0\0";
    let zone = behind_a_proxy("{}");
    assert!(!log_in(&zone, AN, from(1)).0, "the agency's networks hold");
    for (header, peer) in [(HEADER, "192.0.2.7:4711"), (BINARY, "192.0.2.8:4711")] {
        assert!(log_in_through(&zone, relay(&zone, PROXY, header)), "{peer}");
        let logins = zone.logged(&[("event", "login"), ("outcome", "ok"), ("peer", peer)]);
        assert_eq!((logins.len(), &logins[0]["proxy"]), (1, &from(PROXY).to_string().into()), "{logins:?}");
    }
    assert!(!log_in_through(&zone, relay(&zone, 1, HEADER)), "who is not believed cannot pose as another");
    assert_eq!(zone.logged(&[("event", "login"), ("outcome", "ok")]).len(), 2);
}

#[test]
fn a_proxy_without_a_good_header_in_time_is_closed_without_a_byte() {
    let zone = behind_a_proxy("{login-grace: 2s}");
    for header in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"", b"PROXY TCP4 ", b"PROXY TCP4 x y 1 2\r\n", &[b'P'; 200]]
    {
        assert!(!is_served(&mut dial_with(&zone, PROXY, header)), "{header:?}");
    }
    zone.wait_for("the count", || (refused(&zone, "proxy-header") == 5.0).then_some(()));
}

#[test]
fn limits_are_for_whom_a_proxy_names_and_its_own_checks_are_exempt() {
    let zone = behind_a_proxy("{unauthenticated-per-source: 1}");
    let mut first = dial_with(&zone, PROXY, b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n");
    assert!(is_served(&mut first));
    assert!(!is_served(&mut dial_with(&zone, PROXY, b"PROXY TCP4 192.0.2.7 127.0.0.1 2 2\r\n")));
    assert!(is_served(&mut dial_with(&zone, PROXY, b"PROXY TCP4 192.0.2.8 127.0.0.1 3 2\r\n")));
    let of_v6 = |last: u8| format!("PROXY TCP6 2001:db8::{last} ::1 3 2\r\n");
    let mut of_network = dial_with(&zone, PROXY, of_v6(1).as_bytes());
    assert!(is_served(&mut of_network));
    assert!(!is_served(&mut dial_with(&zone, PROXY, of_v6(2).as_bytes())), "the same network of 64 bits");
    drop((first, of_network));
    assert!(is_served(&mut dial_with(&zone, PROXY, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")));
    zone.wait_for("the exempt probe", || {
        (zone.metric(Daemon::Serve, "dropzone_probes_total{source=\"exempt\"}") >= 1.0).then_some(())
    });
}
