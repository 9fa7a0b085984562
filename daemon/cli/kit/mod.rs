//! `dropzone kit`: a folder to send to an institution, with what its people need to take part and nothing that is secret. What
//! its page says is `page`'s business; the scripts beside this file are what they are, with host, port and user filled in.

mod contents;
mod exchange;
mod page;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use age::x25519;
use anyhow::Context;
use clap::Args;

use self::contents::Contents;
use super::exit::{EX_CANTCREAT, EX_NOINPUT, EX_USAGE};
use super::{check, init, secrets};
use crate::config::{self, Config};
use crate::host::clock::Clock;
use crate::host::files;
use crate::policy::account::Institution;
use crate::policy::agreement::{Exchange, Job, Standing};
use crate::policy::outgoing::Receivers;
use crate::policy::path::Slug;

/// For whom, and where to.
#[derive(Debug, Args)]
pub struct Kit {
    /// The institution.
    institution: String,
    /// The folder to make; one that is there must be empty.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The name or address under which the institution reaches this zone; this machine's name if left out.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The port; the first that `serve` listens on if left out.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// The zone's recipient (age1…), where its identities cannot be read; several if it has several.
    #[arg(long, value_name = "AGE1")]
    recipient: Vec<String>,
}

/// What an institution is told of the zone.
pub(super) struct Zone<'a> {
    config: &'a Config,
    institution: &'a Institution,
    host: String,
    port: u16,
    /// What lists are encrypted to that are to be opened here.
    recipients: Vec<String>,
    host_key: ssh_key::PublicKey,
    signs: crate::policy::signature::ZoneKey,
    today: jiff::civil::Date,
}

impl Zone<'_> {
    /// The exchanges that it has or will have a part in; one that has ended moves nothing any more.
    fn open_exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let has_ended =
            |exchange: &Exchange| matches!(exchange.agreement.standing(self.today), Standing::Ended { .. });
        self.config.exchanges_of(&self.institution.name).filter(move |exchange| !has_ended(exchange))
    }

    /// Whether people of the institution receive shares of their own.
    fn shares_by_person(&self) -> bool {
        let mut deliveries =
            self.open_exchanges().flat_map(|exchange| &exchange.flows).flat_map(|flow| &flow.deliveries);
        deliveries.any(|delivery| {
            matches!(&delivery.receivers, Receivers::People { of, .. } if of.contains(&self.institution.name))
        })
    }
}

/// Makes the folder.
pub fn run(zone: &Path, kit: &Kit) -> anyhow::Result<ExitCode> {
    let config = match config::load(zone) {
        Ok(config) => config,
        Err(errors) => {
            check::tell(&mut std::io::stderr().lock(), zone, &errors)?;
            return Ok(check::exit_code(&errors));
        }
    };
    let told = match kit.zone(&config, Clock::system().today()) {
        Ok(told) => told,
        Err((problem, code)) => return refused(&problem, code),
    };
    if let Some(problem) = init::occupied(&kit.directory)? {
        return refused(&problem, EX_CANTCREAT);
    }
    let contents = Contents::of(&told);
    contents.write(&kit.directory)?;
    tell(&kit.directory, &told, &contents)?;
    Ok(ExitCode::SUCCESS)
}

type Refused = (String, u8);

impl Kit {
    fn zone<'a>(&self, config: &'a Config, today: jiff::civil::Date) -> Result<Zone<'a>, Refused> {
        let named = config.institutions.iter().find(|(name, _)| name.as_str() == self.institution);
        let Some((_, institution)) = named else {
            let names: Vec<&str> = config.institutions.keys().map(Slug::as_str).collect();
            let problem =
                format!("there is no institution {:?}; there are: {}", self.institution, names.join(", "));
            return Err((problem, EX_USAGE));
        };
        let host = self.host.clone().unwrap_or_else(files::host_name);
        if !is_host(&host) {
            return Err((format!("{host:?} is no host name or address"), EX_USAGE));
        }
        let port = self.port.or_else(|| config.machine.listen.first().map(std::net::SocketAddr::port));
        let host_key = secrets::host_key(&config.machine.host_key).ok_or_else(|| {
            let path = config.machine.host_key.display();
            (format!("neither the host key {path} nor its .pub can be read; run this as root"), EX_NOINPUT)
        })?;
        let signs = secrets::zone_key(&config.machine.signing_key).ok_or_else(|| {
            let path = config.machine.signing_key.display();
            (format!("neither the signing key {path} nor its .pub can be read; run this as root"), EX_NOINPUT)
        })?;
        let recipients = self.recipients(config, institution)?;
        Ok(Zone { config, institution, host, port: port.unwrap_or(22), recipients, host_key, signs, today })
    }

    fn recipients(&self, config: &Config, institution: &Institution) -> Result<Vec<String>, Refused> {
        if let Some(wrong) = self.recipient.iter().find(|text| text.parse::<x25519::Recipient>().is_err()) {
            return Err((format!("--recipient {wrong} is no age recipient (age1…)"), EX_USAGE));
        }
        if !self.recipient.is_empty() {
            return Ok(self.recipient.clone());
        }
        let opens = |exchange: &crate::policy::agreement::Exchange| {
            exchange.flows_from(&institution.name).any(|flow| !matches!(flow.job, Job::Relay))
        };
        let found = secrets::recipients_of(&config.machine.identities);
        if found.is_empty() && config.exchanges_of(&institution.name).any(opens) {
            let problem = "neither the zone's identities nor their .pub can be read: run this as the user `work` runs as, \
                           or say what senders encrypt to with --recipient age1…";
            return Err((problem.to_owned(), EX_NOINPUT));
        }
        Ok(found)
    }
}

/// What may stand in a script, a session file and a known_hosts line without being anything but a name.
fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    (1..=253).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-')
}

fn refused(problem: &str, code: u8) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr().lock(), "dropzone: {problem}")?;
    Ok(ExitCode::from(code))
}

fn tell(directory: &Path, zone: &Zone<'_>, contents: &Contents) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let (shown, port) = (directory.display(), zone.port);
    writeln!(
        out,
        "{shown}: {} files for {}; nothing in it is secret",
        contents.files.len(),
        zone.institution.title
    )
    .context("standard output")?;
    writeln!(out, "  they connect to {} port {port}, as {}", zone.host, zone.institution.name)?;
    for missing in &contents.missing {
        writeln!(out, "  missing: {missing}")?;
    }
    writeln!(
        out,
        "Tell them the fingerprint of the host key in another way than this folder: {}",
        zone.host_key.fingerprint(ssh_key::HashAlg::Sha256)
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_a_script_could_trip_over() {
        for good in ["sftp.vdab.example", "192.0.2.7", "2001:db8::7", "zone-1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "-oProxyCommand=x", "a b", "a'b", "a\nb", "$(x)", "a;b", "a\"b", "é.example"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
