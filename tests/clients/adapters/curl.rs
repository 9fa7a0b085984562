//! libcurl, which does what `curl` does, driven by `python/curl.py`. It comes as pycurl: the `curl` of Debian 12 has a
//! libssh2 that knows neither GCM nor encrypt-then-MAC, and cannot even agree on keys with the zone.

use super::script::{Driver, Library};
use crate::client::Client;

pub const CLIENT: &dyn Client = &Library { name: "curl", driver: Driver::Python("curl.py") };
