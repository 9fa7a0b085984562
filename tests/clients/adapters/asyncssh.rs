//! asyncssh, driven by `python/asyncssh.py`.

use super::script::{Driver, Library};
use crate::client::Client;

pub const CLIENT: &dyn Client = &Library { name: "asyncssh", driver: Driver::Python("asyncssh.py") };
