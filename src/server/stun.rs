//! STUN on the beacon's port and on a second one.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tracing::debug;

use crate::net::clock;
use crate::net::udp::{RecvBatch, UdpIo};
use crate::net::watch::Interest;
use crate::proto::nat::{StunPort, StunResponder};
use crate::wire::stun::is_stun;

/// How many ports after the first are tried for the second; after them any will do.
const NEIGHBOURS: u16 = 8;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct StunServer {
    responder: Mutex<StunResponder>,
    second: Option<UdpIo>,
}

impl StunServer {
    /// A server beside the beacon at `first`, with `port` as its second port; by default the next
    /// free one, so that a firewall's rule can name it, and none on loopback, where there is no
    /// NAT.
    pub(super) fn bind(first: SocketAddr, port: Option<u16>) -> Self {
        let second = match port {
            None if first.ip().is_loopback() => None,
            None => (1..=NEIGHBOURS)
                .filter_map(|step| first.port().checked_add(step))
                .chain([0])
                .find_map(|port| UdpIo::bind(SocketAddr::new(first.ip(), port)).ok()),
            Some(port) => UdpIo::bind(SocketAddr::new(first.ip(), port))
                .inspect_err(|error| debug!(port, %error, "no second port for STUN"))
                .ok(),
        };
        let ports = second.as_ref().map(|second| (first.port(), second.local_addr().port()));
        Self { responder: Mutex::new(StunResponder::new(ports)), second }
    }

    /// Takes a datagram from the beacon's port; `false` if it is not STUN.
    pub(super) fn take(&self, first: &UdpIo, from: SocketAddr, datagram: &[u8]) -> bool {
        if !is_stun(datagram) {
            return false;
        }
        self.answer(first, StunPort::First, from, datagram);
        true
    }

    /// Serves the second port, until it is aborted.
    pub(super) async fn serve_second(&self, first: &UdpIo) {
        let Some(second) = &self.second else { return std::future::pending().await };
        let Ok(watch) = second.watch(Interest::Readable) else { return };
        let mut batch = RecvBatch::default();
        while watch.ready().await.is_ok() {
            if watch.attempt(|| second.try_recv(&mut batch)).is_ok() {
                batch.for_each(|from, datagram| {
                    self.answer(first, StunPort::Second, from, datagram);
                });
            }
        }
    }

    fn answer(&self, first: &UdpIo, port: StunPort, from: SocketAddr, datagram: &[u8]) {
        let answer = {
            let mut responder = self.responder.lock().unwrap_or_else(PoisonError::into_inner);
            responder.answer(clock::now(), port, from, datagram)
        };
        let Some(reply) = answer else { return };
        let socket = match (reply.from, &self.second) {
            (StunPort::Second, Some(second)) => second,
            _ => first,
        };
        // Lost, as the network may lose it.
        let _ = socket.try_send(reply.to, &reply.datagram, reply.datagram.len());
    }
}
