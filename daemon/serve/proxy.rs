//! Reads the PROXY header in front of a connection from a proxy that is believed, and not a byte more. What the header
//! means is `policy::proxy`'s question.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::admission::Origin;
use crate::config::Machine;
use crate::policy::proxy::{BINARY_MAX, Header, read};

/// Whether connections from an address must begin with the header.
pub fn is_proxy(machine: &Machine, address: SocketAddr) -> bool {
    let address = address.ip().to_canonical();
    machine.proxies.iter().any(|network| network.contains(&address))
}

/// Who a connection that came directly comes from.
pub fn direct(machine: &Machine, address: SocketAddr) -> Origin {
    Origin { peer: address, proxy: None, exempt: machine.penalties.exempts(address.ip()) }
}

/// Who a proxy says that its connection comes from. `None` if it does not say so as it must.
pub async fn behind(machine: &Machine, proxy: SocketAddr, socket: &mut TcpStream) -> Option<Origin> {
    let mut header = [0_u8; BINARY_MAX];
    let mut length = 0;
    loop {
        match read(header.get(..length)?) {
            Header::Needs(more) => {
                let count = socket.read(header.get_mut(length..length + more)?).await.ok()?;
                if count == 0 {
                    return None;
                }
                length += count;
            }
            Header::From(peer) => {
                return Some(Origin { proxy: Some(proxy.ip().to_canonical()), ..direct(machine, peer) });
            }
            // Its own health checks are no reason to refuse what it hands on.
            Header::Own => return Some(Origin { exempt: true, ..direct(machine, proxy) }),
            Header::Wrong => return None,
        }
    }
}
