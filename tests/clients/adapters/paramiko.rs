//! paramiko, driven by `python/paramiko.py`.

use super::script::{Driver, Library};
use crate::client::Client;

pub const CLIENT: &dyn Client = &Library { name: "paramiko", driver: Driver::Python("paramiko.py") };
