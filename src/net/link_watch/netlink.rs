//! What the Linux kernel tells of links, addresses and routes.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::Losses;

/// Multicast groups of rtnetlink: link, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const GROUPS: [u32; 5] = [1, 5, 9, 7, 11];
/// Types of its messages.
const LINK_NEW: u16 = 16;
const LINK_DEL: u16 = 17;
const ADDR_NEW: u16 = 20;
const ADDR_DEL: u16 = 21;
const ROUTE_NEW: u16 = 24;
const ROUTE_DEL: u16 = 25;
/// Flag of a link that carries.
const IFF_LOWER_UP: u32 = 1 << 16;
/// Bytes before a message's own.
const HEADER_LEN: usize = 16;
/// The kernel's messages are shorter.
const BUFFER_LEN: usize = 32 << 10;
/// No buffer was large enough: something was lost (`ENOBUFS`).
const OVERRUN: i32 = 105;

/// A socket on which the kernel tells its news.
#[derive(Debug)]
pub(super) struct Kernel(AsyncFd<Socket>);

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that may close the \
                                       descriptor under the registration; this one does not"
        )]
        let socket = AsyncFd::with_interest(socket, tokio::io::Interest::READABLE)?;
        Ok(Self(socket))
    }

    /// Waits for news, and adds what was lost by it to `losses`.
    ///
    /// # Errors
    /// Those of the socket; it will tell nothing any more.
    pub(super) async fn news(&self, losses: &mut Losses) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut buffer = Vec::with_capacity(BUFFER_LEN);
            match ready.try_io(|socket| socket.get_ref().recv(&mut buffer, 0)) {
                Ok(Ok(_)) if read(&buffer, losses) => return Ok(()),
                Ok(Ok(_)) | Err(_) => {}
                // Whatever it was: a look will tell.
                Ok(Err(error)) if error.raw_os_error() == Some(OVERRUN) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// Reads a datagram of messages; `true` if one of them is worth a look around.
///
/// ```text
/// message: length u32 | type u16 | flags u16 | sequence u32 | port u32 | body, padded to 4 bytes
/// link:    family u8 | 0 u8 | type u16 | index u32 | flags u32 ...
/// address: family u8 | prefix u8 | flags u8 | scope u8 | index u32 ...
/// route:   family u8 | destination prefix u8 ...
/// ```
fn read(mut datagram: &[u8], losses: &mut Losses) -> bool {
    let mut is_news = false;
    while let (Some(len), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = datagram.get(HEADER_LEN..len) else { break };
        let index = u32_at(body, 4);
        match kind {
            ADDR_DEL | LINK_DEL => losses.interfaces.extend(index),
            LINK_NEW if u32_at(body, 8).is_some_and(|flags| flags & IFF_LOWER_UP == 0) => {
                losses.interfaces.extend(index);
            }
            ROUTE_DEL => losses.route |= body.get(1) == Some(&0),
            _ => {}
        }
        is_news |=
            matches!(kind, ADDR_NEW | ADDR_DEL | LINK_NEW | LINK_DEL | ROUTE_NEW | ROUTE_DEL);
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    is_news
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER_LEN + body.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.resize(HEADER_LEN, 0);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn of_interface(index: u32) -> Vec<u8> {
        let mut body = vec![2, 24, 0, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        body
    }

    #[test]
    fn losses_are_read_from_several_messages() {
        let mut datagram = message(ADDR_NEW, &of_interface(7));
        datagram.extend(message(ADDR_DEL, &of_interface(9)));
        datagram.extend(message(ROUTE_DEL, &[2, 0, 0, 0, 254]));
        let mut losses = Losses::default();
        assert!(read(&datagram, &mut losses));
        assert_eq!((losses.interfaces, losses.route), (vec![9], true));

        let mut losses = Losses::default();
        assert!(read(&message(ROUTE_DEL, &[2, 24, 0, 0, 254]), &mut losses));
        assert!(!losses.route && losses.interfaces.is_empty());
    }

    #[test]
    fn nonsense_is_no_news() {
        let mut losses = Losses::default();
        for bytes in [&[][..], &[0; 16], &[0xff; 64], &message(99, &[])[..9]] {
            assert!(!read(bytes, &mut losses));
        }
        assert!(losses.interfaces.is_empty());
    }
}
