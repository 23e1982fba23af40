//! One port number for TCP and UDP.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::ServerError;
use crate::net::udp::UdpIo;

/// Ports tried when any will do, until one is free for both.
const PORT_ATTEMPTS: usize = 32;

/// What a rendezvous listens on.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) listener: TcpListener,
    pub(super) first: UdpIo,
    /// More on the port of the first one.
    pub(super) others: Vec<UdpIo>,
}

/// Listens on TCP and UDP at one port, on UDP with as many sockets as there are workers.
pub(super) fn bind_both(listen: SocketAddr, workers: usize) -> Result<Sockets, ServerError> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let first = UdpIo::bind(listen).map_err(|source| ServerError::Bind {
            addr: listen,
            protocol: "UDP",
            source,
        })?;
        // UdpIo may have fallen back to IPv4; TCP follows it.
        match listen_tcp(first.local_addr()) {
            Ok(listener) => {
                let others = share(&first, workers.saturating_sub(1));
                return Ok(Sockets { listener, first, others });
            }
            Err(source) => {
                let error = ServerError::Bind { addr: listen, protocol: "TCP", source };
                if listen.port() != 0 || !error.is_addr_in_use() {
                    return Err(error);
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| ServerError::Bind {
        addr: listen,
        protocol: "TCP",
        source: io::ErrorKind::AddrInUse.into(),
    }))
}

/// As many more sockets as the system grants. The first one was bound for itself, so a port that
/// another process has is still found to be in use, and another rendezvous, which does the same,
/// cannot join this one.
fn share(first: &UdpIo, count: usize) -> Vec<UdpIo> {
    let sockets: io::Result<Vec<UdpIo>> = (0..count).map(|_| first.bind_beside()).collect();
    sockets.unwrap_or_else(|error| {
        tracing::debug!(%error, "the beacon has one socket only");
        Vec::new()
    })
}

/// Listens on TCP only.
pub(super) fn bind_tcp(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    listen_tcp(addr).map_err(|source| ServerError::Bind { addr, protocol: "TCP", source })
}

fn listen_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A successor must not wait for the connections of its predecessor to leave TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
