//! ssh2-sftp-client for Node, driven by `node/driver.cjs`.

use std::ffi::OsStr;

use super::script::{NO_NODE, NODE, drive};
use crate::client::{Client, Said, Step};
use crate::harness::{Person, Zone};

pub struct Ssh2SftpClient;

pub const CLIENT: &dyn Client = &Ssh2SftpClient;

impl Client for Ssh2SftpClient {
    fn name(&self) -> &'static str {
        "ssh2-sftp-client"
    }

    fn missing(&self) -> Option<&'static str> {
        std::env::var_os(NODE).is_none().then_some(NO_NODE)
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let packages = std::env::var_os(NODE).unwrap();
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/node/driver.cjs");
        drive(zone, person, steps, OsStr::new("node"), &[OsStr::new(driver), &packages])
    }
}
