//! libcurl, which does what `curl` does, driven by `python/curl.py`. It comes as pycurl: the `curl` of Debian 12 has a
//! libssh2 that knows neither GCM nor encrypt-then-MAC, and cannot even agree on keys with the zone.

use std::ffi::OsStr;

use super::script::{NO_PYTHON, PYTHON, drive};
use crate::client::{Client, Said, Step};
use crate::harness::{Person, Zone};

pub struct Curl;

pub const CLIENT: &dyn Client = &Curl;

impl Client for Curl {
    fn name(&self) -> &'static str {
        "curl"
    }

    fn missing(&self) -> Option<&'static str> {
        std::env::var_os(PYTHON).is_none().then_some(NO_PYTHON)
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let interpreter = std::env::var_os(PYTHON).unwrap();
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/curl.py");
        drive(zone, person, steps, &interpreter, &[OsStr::new("-B"), OsStr::new(driver)])
    }
}
