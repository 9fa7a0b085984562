//! Checks what one peer may take: `limits`, `penalties` and `proxy-protocol` of `dropzone.yaml`.

use std::time::Duration;

use ipnet::IpNet;

use super::Limits;
use super::error::Key;
use super::raw;
use super::values::Desk;
use crate::policy::admission::EarlyDrop;
use crate::policy::penalties::PenaltyRules;

const NETWORKS_MAX: usize = 100;
/// Longest penalty, and longest time without a key exchange.
const DAY: u64 = 86_400;

/// The values of one mapping. What is not there is its default.
struct Values<'a, 'b> {
    desk: &'a mut Desk<'b>,
    key: Key,
}

impl Values<'_, '_> {
    fn count(&mut self, name: &str, raw: Option<u64>, default: usize, allowed: (u64, u64)) -> Option<usize> {
        let Some(number) = raw else { return Some(default) };
        self.desk
            .count(&self.key.at(name), number, allowed.0..=allowed.1)
            .and_then(|n| usize::try_from(n).ok())
    }

    fn size(&mut self, name: &str, raw: Option<&str>, default: usize, allowed: (u64, u64)) -> Option<usize> {
        let Some(text) = raw else { return Some(default) };
        self.desk.size(&self.key.at(name), text, allowed.0..=allowed.1).and_then(|n| usize::try_from(n).ok())
    }

    fn time(
        &mut self,
        name: &str,
        raw: Option<&str>,
        default: Duration,
        allowed: (u64, u64),
    ) -> Option<Duration> {
        let Some(text) = raw else { return Some(default) };
        let allowed = Duration::from_secs(allowed.0)..=Duration::from_secs(allowed.1);
        self.desk.duration(&self.key.at(name), text, allowed)
    }
}

/// `limits`.
pub fn limits(desk: &mut Desk<'_>, raw: &raw::Limits) -> Option<Limits> {
    let of = &mut Values { desk, key: Key::root().at("limits") };
    let limits = Limits::default();
    let limits = connections(of, raw, limits);
    let limits = session(of, raw, limits?);
    transport(of, raw, limits?)
}

fn connections(of: &mut Values<'_, '_>, raw: &raw::Limits, default: Limits) -> Option<Limits> {
    let login_grace = of.time("login-grace", raw.login_grace.as_deref(), default.login_grace, (1, 600));
    let connections = of.count("connections", raw.connections, default.connections, (1, 65_536));
    let unauthenticated = early_drop(of, raw.unauthenticated.as_deref(), default.unauthenticated);
    let unauthenticated_per_source = of.count(
        "unauthenticated-per-source",
        raw.unauthenticated_per_source,
        default.unauthenticated_per_source,
        (1, 10_000),
    );
    let sessions_per_source =
        of.count("sessions-per-source", raw.sessions_per_source, default.sessions_per_source, (1, 65_536));
    let sessions_per_institution = of.count(
        "sessions-per-institution",
        raw.sessions_per_institution,
        default.sessions_per_institution,
        (1, 65_536),
    );
    let auth_attempts = of.count("auth-attempts", raw.auth_attempts, default.auth_attempts, (1, 100));
    let key_probes = of.count("key-probes", raw.key_probes, default.key_probes, (1, 100));
    Some(Limits {
        login_grace: login_grace?,
        connections: connections?,
        unauthenticated: unauthenticated?,
        unauthenticated_per_source: unauthenticated_per_source?,
        sessions_per_source: sessions_per_source?,
        sessions_per_institution: sessions_per_institution?,
        auth_attempts: auth_attempts?,
        key_probes: key_probes?,
        ..default
    })
}

fn early_drop(of: &mut Values<'_, '_>, raw: Option<&str>, default: EarlyDrop) -> Option<EarlyDrop> {
    let Some(text) = raw else { return Some(default) };
    let parsed = EarlyDrop::parse(text);
    if parsed.is_none() {
        of.desk.wrong(
            &of.key.at("unauthenticated"),
            format!("{text:?} is not start:rate:full"),
            "write it as in \"10:30:100\": from 10 connections on, 30% of the new ones go, of 100 all; full is at most 10000",
        );
    }
    parsed
}

fn session(of: &mut Values<'_, '_>, raw: &raw::Limits, default: Limits) -> Option<Limits> {
    let channels = of.count("channels", raw.channels, default.channels, (1, 64));
    let handles = of.count("handles", raw.handles, default.handles, (1, 4_096));
    let outstanding_requests = of.count(
        "outstanding-requests",
        raw.outstanding_requests,
        default.outstanding_requests,
        (64, 1_048_576),
    );
    // Below 1 MiB the largest packets of the fastest clients would not fit beside each other.
    let unwritten_bytes = of.size(
        "unwritten-bytes",
        raw.unwritten_bytes.as_deref(),
        default.unwritten_bytes,
        (1 << 20, 1 << 30),
    );
    let unwritten_bytes_in_all = of.size(
        "unwritten-bytes-in-all",
        raw.unwritten_bytes_in_all.as_deref(),
        default.unwritten_bytes_in_all,
        (1 << 20, 1 << 40),
    );
    let partials = of.count("partials", raw.partials, default.partials, (1, 100_000));
    let reserve = usize::try_from(default.spool_reserve).unwrap_or(usize::MAX);
    let spool_reserve = of.size("spool-reserve", raw.spool_reserve.as_deref(), reserve, (0, 1 << 50));
    let refusals_per_session = of.count(
        "refusals-per-session",
        raw.refusals_per_session,
        default.refusals_per_session,
        (10, 1_000_000),
    );
    Some(Limits {
        partials: partials?,
        spool_reserve: spool_reserve? as u64,
        refusals_per_session: refusals_per_session?,
        channels: channels?,
        handles: handles?,
        outstanding_requests: outstanding_requests?,
        unwritten_bytes: unwritten_bytes?,
        unwritten_bytes_in_all: unwritten_bytes_in_all?,
        ..default
    })
}

fn transport(of: &mut Values<'_, '_>, raw: &raw::Limits, default: Limits) -> Option<Limits> {
    let idle = of.time("idle", raw.idle.as_deref(), default.idle, (1, DAY));
    let keepalive = of.time("keepalive", raw.keepalive.as_deref(), default.keepalive, (1, 3_600));
    let keepalive_tries = of.count("keepalive-tries", raw.keepalive_tries, default.keepalive_tries, (1, 100));
    // More data under one key than 1 GiB is beyond what BSI advises.
    let rekey_bytes =
        of.size("rekey-bytes", raw.rekey_bytes.as_deref(), default.rekey_bytes, (1 << 20, 1 << 30));
    let rekey_after = of.time("rekey-after", raw.rekey_after.as_deref(), default.rekey_after, (10, DAY));
    Some(Limits {
        idle: idle?,
        keepalive: keepalive?,
        keepalive_tries: keepalive_tries?,
        rekey_bytes: rekey_bytes?,
        rekey_after: rekey_after?,
        ..default
    })
}

/// `penalties`.
pub fn penalties(desk: &mut Desk<'_>, raw: &raw::Penalties) -> Option<PenaltyRules> {
    let key = Key::root().at("penalties");
    let exempt = networks(desk, &key.at("exempt"), &raw.exempt);
    let default = PenaltyRules::default();
    let of = &mut Values { desk, key: key.clone() };
    let mut time = |name: &str, raw: &Option<String>, default: Duration, allowed: (u64, u64)| {
        of.time(name, raw.as_deref(), default, allowed)
    };
    let any = (0, DAY);
    let crash = time("crash", &raw.crash, default.crash, any);
    let failure = &raw.authentication_failure;
    let failure = time("authentication-failure", failure, default.authentication_failure, any);
    let unknown_user = time("unknown-user", &raw.unknown_user, default.unknown_user, any);
    let none = time("no-authentication", &raw.no_authentication, default.no_authentication, any);
    let grace_exceeded = time("grace-exceeded", &raw.grace_exceeded, default.grace_exceeded, any);
    let min = time("min", &raw.min, default.min, (1, DAY));
    let max = time("max", &raw.max, default.max, (1, DAY));
    let (min, max) = (min?, max?);
    if max < min {
        desk.wrong(
            &key.at("max"),
            "is shorter than min: nobody would ever be refused",
            "correct one of them",
        );
    }
    Some(PenaltyRules {
        enabled: raw.enabled.unwrap_or(default.enabled),
        crash: crash?,
        authentication_failure: failure?,
        unknown_user: unknown_user?,
        no_authentication: none?,
        grace_exceeded: grace_exceeded?,
        min,
        max,
        exempt: exempt?,
    })
}

/// `proxy-protocol`: whose connections begin with a header that says who made them.
pub fn proxies(desk: &mut Desk<'_>, raw: &raw::ProxyProtocol) -> Option<Vec<IpNet>> {
    let key = Key::root().at("proxy-protocol").at("from");
    let networks = networks(desk, &key, &raw.from)?;
    if let Some(index) = networks.iter().position(|network| network.prefix_len() == 0) {
        let remedy = "name the proxies' own addresses: who is in this list can pose as any address";
        desk.wrong(&key.item(index), "is everybody", remedy);
    }
    Some(networks)
}

/// A list of networks.
pub fn networks(desk: &mut Desk<'_>, list: &Key, raw: &[String]) -> Option<Vec<IpNet>> {
    if !desk.at_most(list, raw.len(), NETWORKS_MAX) {
        return None;
    }
    let mut networks = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        match text.parse::<IpNet>() {
            Ok(network) if network.trunc() == network => networks.push(network),
            Ok(network) => {
                let remedy = format!("write {}", network.trunc());
                desk.wrong(&list.item(index), format!("{text:?} has bits beyond its prefix"), remedy);
            }
            Err(_) => {
                let problem = format!("{text:?} is not a network");
                desk.wrong(&list.item(index), problem, "write it as in 10.0.0.0/8 or 192.0.2.7/32");
            }
        }
    }
    Some(networks)
}
