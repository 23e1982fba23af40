//! A node's UDP socket: dual stack, batched receive (GRO) and segmented send (GSO).
//!
//! Everything goes through [`quinn_udp`], so one system call moves up to 64 datagrams. Addresses
//! are canonical on this side of the socket: an IPv4 peer is an IPv4 address, although a dual
//! stack socket calls it `::ffff:a.b.c.d`.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::watch::{Interest, Watch};

/// Buffers of one receive call. Each holds a run of datagrams from one sender.
const BATCH: usize = 8;
/// Bytes of each: the largest datagram, or the largest run that GRO makes.
const BUFFER_LEN: usize = 65_535;
/// Asked of the kernel for both directions, in bytes; it may grant less.
const SOCKET_BUFFER: usize = 4 << 20;
/// The same for one of many sockets, each of which expects a frame or two.
const SMALL_BUFFER: usize = 32 << 10;

/// A bound socket.
#[derive(Debug)]
pub struct UdpIo {
    socket: Arc<std::net::UdpSocket>,
    state: UdpSocketState,
    local: SocketAddr,
    is_v6: bool,
}

impl UdpIo {
    /// Binds `listen`. An unspecified IPv6 address means both families; where the machine has no
    /// IPv6, it falls back to IPv4.
    ///
    /// # Errors
    /// What the operating system says, e.g. that the address is in use.
    pub fn bind(listen: SocketAddr) -> io::Result<Self> {
        let bound = Self::bind_small(listen)?;
        bound.enlarge();
        Ok(bound)
    }

    /// The same, with buffers for a frame or two.
    ///
    /// # Errors
    /// What the operating system says, e.g. that there are no descriptors left.
    pub fn bind_small(listen: SocketAddr) -> io::Result<Self> {
        let socket = match Self::open(listen) {
            Err(error)
                if listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    && error.kind() != io::ErrorKind::AddrInUse =>
            {
                Self::open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port()))?
            }
            other => other?,
        };
        Self::around(socket)
    }

    /// Binds another socket to the same port. From now on the kernel shares senders out among
    /// them, and what is sent from any comes from the one port.
    ///
    /// # Errors
    /// What the operating system says; other systems than Linux do not share.
    pub fn bind_beside(&self) -> io::Result<Self> {
        if !cfg!(target_os = "linux") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&self.socket).set_reuse_port(true)?;
        Self::around(Self::open_shared(self.local, true)?)
    }

    fn around(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        let bound = Self { socket: Arc::new(socket), state, local, is_v6: local.is_ipv6() };
        bound.set_buffers(SMALL_BUFFER);
        Ok(bound)
    }

    /// Gives it the buffers of a socket that carries data.
    pub fn enlarge(&self) {
        self.set_buffers(SOCKET_BUFFER);
    }

    fn set_buffers(&self, bytes: usize) {
        // The kernel clamps silently to its limits; failing here would help nobody.
        let _ = self.state.set_send_buffer_size(UdpSockRef::from(&*self.socket), bytes);
        let _ = self.state.set_recv_buffer_size(UdpSockRef::from(&*self.socket), bytes);
    }

    fn open(listen: SocketAddr) -> io::Result<std::net::UdpSocket> {
        Self::open_shared(listen, false)
    }

    fn open_shared(listen: SocketAddr, shares: bool) -> io::Result<std::net::UdpSocket> {
        let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
        if listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            socket.set_only_v6(false)?;
        }
        #[cfg(target_os = "linux")]
        socket.set_reuse_port(shares)?;
        #[cfg(not(target_os = "linux"))]
        let _ = shares;
        socket.set_nonblocking(true)?;
        socket.bind(&listen.into())?;
        Ok(socket.into())
    }

    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Most datagrams that one system call sends: 1 where segmentation does not work.
    #[must_use]
    pub fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends `contents` to `destination`, cut into datagrams of `segment_size` bytes (the last may
    /// be shorter), and returns how many bytes the socket took: if fewer than all, it is full for
    /// now. Errors other than a full buffer lose the datagrams, as the network may.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's buffer is full: [`watch`](Self::watch) for room.
    pub fn try_send(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: usize,
    ) -> io::Result<usize> {
        let is_single = contents.len() <= segment_size;
        if is_single || self.max_segments() > 1 {
            let sent = self.send(destination, contents, segment_size);
            // Some interfaces cannot segment, and say so only now.
            if is_single || sent.is_ok() || self.max_segments() > 1 {
                return sent.map(|()| contents.len());
            }
        }
        self.send_each(destination, contents, segment_size)
    }

    /// A system call for each datagram.
    fn send_each(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: usize,
    ) -> io::Result<usize> {
        let mut taken = 0;
        for datagram in contents.chunks(segment_size.max(1)) {
            match self.send(destination, datagram, segment_size) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if is_too_large(&error) => return Err(error),
                _ => taken += datagram.len(),
            }
        }
        Ok(taken)
    }

    fn send(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: usize,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.native(destination),
            ecn: None,
            contents,
            segment_size: (segment_size < contents.len()).then_some(segment_size),
            src_ip: None,
        };
        self.state.try_send(UdpSockRef::from(&*self.socket), &transmit)
    }

    /// Receives what is there into `batch`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there: [`watch`](Self::watch) for more.
    pub fn try_recv(&self, batch: &mut RecvBatch) -> io::Result<()> {
        batch.filled = 0;
        let mut rest: &mut [u8] = &mut batch.storage;
        let mut slices: [IoSliceMut<'_>; BATCH] = std::array::from_fn(|_| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(BUFFER_LEN);
            rest = tail;
            IoSliceMut::new(head)
        });
        batch.filled =
            self.state.recv(UdpSockRef::from(&*self.socket), &mut slices, &mut batch.meta)?;
        Ok(())
    }

    /// Has the runtime of the caller watch the socket for as long as the watch lives.
    ///
    /// # Errors
    /// The machine has no descriptor left.
    pub fn watch(&self, interest: Interest) -> io::Result<Watch> {
        Watch::new(Arc::new(self.socket.try_clone()?), interest)
    }

    /// The same, for a socket that nothing else watches: it costs no descriptor.
    ///
    /// # Errors
    /// It is watched already, or the machine is out of memory.
    pub fn watch_alone(&self, interest: Interest) -> io::Result<Watch> {
        Watch::new(self.socket.clone(), interest)
    }

    /// The descriptor, for an event loop that is not ours to wait on.
    #[cfg(unix)]
    #[must_use]
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&*self.socket)
    }

    fn native(&self, addr: SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(v4) if self.is_v6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        }
    }
}

/// Whether a send failed because a datagram is larger than the interface takes (`EMSGSIZE`).
#[must_use]
pub fn is_too_large(error: &io::Error) -> bool {
    let code = match std::env::consts::OS {
        "linux" | "android" => 90,
        "windows" => 10_040,
        _ => 40,
    };
    error.raw_os_error() == Some(code)
}

/// Storage of received datagrams, reused from call to call.
pub struct RecvBatch {
    storage: Box<[u8]>,
    meta: [RecvMeta; BATCH],
    filled: usize,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self {
            storage: vec![0; BATCH * BUFFER_LEN].into_boxed_slice(),
            meta: [RecvMeta::default(); BATCH],
            filled: 0,
        }
    }
}

impl RecvBatch {
    /// Calls `each` with sender and content of every datagram of the last receive.
    pub fn for_each(&mut self, mut each: impl FnMut(SocketAddr, &mut [u8])) {
        let buffers = self.storage.chunks_mut(BUFFER_LEN);
        for (buffer, meta) in buffers.zip(&self.meta).take(self.filled) {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            for datagram in buffer[..meta.len.min(BUFFER_LEN)].chunks_mut(meta.stride.max(1)) {
                each(from, datagram);
            }
        }
    }
}

impl std::fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBatch").field("filled", &self.filled).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(io: &UdpIo, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut batch, mut got) = (RecvBatch::default(), Vec::new());
        let watch = io.watch(Interest::Readable).unwrap();
        while got.len() < count {
            watch.ready().await.unwrap();
            if watch.attempt(|| io.try_recv(&mut batch)).is_ok() {
                batch.for_each(|from, data| got.push((from, data.to_vec())));
            }
        }
        got
    }

    #[tokio::test]
    async fn a_dual_stack_socket_reaches_ipv4_and_shows_canonical_addresses() {
        let dual = UdpIo::bind("[::]:0".parse().unwrap()).unwrap();
        let v4 = UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let dual_addr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), dual.local_addr().port());
        v4.try_send(dual_addr, b"hello", 5).unwrap();
        assert_eq!(receive(&dual, 1).await, [(v4.local_addr(), b"hello".to_vec())]);
        dual.try_send(v4.local_addr(), b"back", 4).unwrap();
        assert_eq!(receive(&v4, 1).await, [(dual_addr, b"back".to_vec())]);
    }

    #[tokio::test]
    async fn a_segmented_send_arrives_as_datagrams() {
        let a = UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let b = UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let content: Vec<u8> = (0..=255).cycle().take(2_500).collect();
        a.try_send(b.local_addr(), &content, 1_000).unwrap();
        let sizes: Vec<usize> = receive(&b, 3).await.iter().map(|(_, d)| d.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
    }

    #[tokio::test]
    async fn without_segmentation_each_datagram_goes_by_itself() {
        let a = UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let b = UdpIo::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let content: Vec<u8> = (0..=255).cycle().take(2_500).collect();
        assert_eq!(a.send_each(b.local_addr(), &content, 1_000).unwrap(), 2_500);
        let got: Vec<Vec<u8>> = receive(&b, 3).await.into_iter().map(|(_, data)| data).collect();
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert_eq!(got.concat(), content);
    }
}
