//! paramiko, driven by `python/paramiko.py`.

use std::ffi::OsStr;

use super::script::{NO_PYTHON, PYTHON, drive};
use crate::client::{Client, Said, Step};
use crate::harness::{Person, Zone};

pub struct Paramiko;

pub const CLIENT: &dyn Client = &Paramiko;

impl Client for Paramiko {
    fn name(&self) -> &'static str {
        "paramiko"
    }

    fn missing(&self) -> Option<&'static str> {
        std::env::var_os(PYTHON).is_none().then_some(NO_PYTHON)
    }

    fn run(&self, zone: &Zone, person: Person, steps: &[Step]) -> Vec<Said> {
        let interpreter = std::env::var_os(PYTHON).unwrap();
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/paramiko.py");
        drive(zone, person, steps, &interpreter, &[OsStr::new("-B"), OsStr::new(driver)])
    }
}
