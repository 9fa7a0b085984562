//! ssh2-sftp-client for Node, driven by `node/driver.cjs`.

use super::script::{Driver, Library};
use crate::client::Client;

pub const CLIENT: &dyn Client = &Library { name: "ssh2-sftp-client", driver: Driver::Node("driver.cjs") };
