//! One port number for TCP and UDP.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::ServerError;
use crate::net::udp::UdpIo;

/// Ports tried when any will do, until one is free for both.
const PORT_ATTEMPTS: usize = 32;

/// Listens on TCP and UDP at one port.
pub(super) fn bind_both(listen: SocketAddr) -> Result<(TcpListener, UdpIo), ServerError> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let socket = UdpIo::bind(listen).map_err(|source| ServerError::Bind {
            addr: listen,
            protocol: "UDP",
            source,
        })?;
        // UdpIo may have fallen back to IPv4; TCP follows it.
        match listen_tcp(socket.local_addr()) {
            Ok(listener) => return Ok((listener, socket)),
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
