//! Probes: pings sealed under a key of which we do not know whether the peer has it.

use std::time::{Duration, Instant};

use crate::wire::packet::HEADER_LEN;
use crate::wire::tunnel::{SEALED_HEADER_LEN, SEALED_OVERHEAD};
use crate::wire::{Addr, Flags, Header, NodeId, Protocol, Seq, WireError};

/// Pauses before each probe of a series. Short, as the answer to the first one may have been
/// lost, or a 1.18 peer was still asking its registry who we are.
const PAUSES: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(600)];

/// What a 1.18 node sends itself as a path probe, so every node answers it with a pong.
const PAYLOAD: &[u8] = b"pathprobe.v1";

/// A series of three probes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeTimer {
    next: Option<Instant>,
    sent: usize,
}

impl ProbeTimer {
    /// Begins a series, unless one is under way.
    pub(super) fn start(&mut self, now: Instant) {
        if self.next.is_none() {
            *self = Self { next: Some(now), sent: 0 };
        }
    }

    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a probe is to be sent now; counts it as sent.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.sent += 1;
            self.next = PAUSES.get(self.sent).map(|pause| now + *pause);
        }
        due
    }
}

/// A ping, with room for sealing around it. Its ports are 0, so the pong is for nobody.
pub(super) fn frame(from: NodeId, to: NodeId) -> Result<Vec<u8>, WireError> {
    let header = Header {
        flags: Flags::NONE,
        protocol: Protocol::Control,
        src: Addr::global(from),
        dst: Addr::global(to),
        src_port: 0,
        dst_port: 0,
        seq: Seq(0),
        ack: Seq(0),
        window: 0,
    };
    let mut packet = vec![0; HEADER_LEN];
    packet.extend_from_slice(PAYLOAD);
    header.encode(&mut packet)?;
    let mut frame = Vec::with_capacity(packet.len() + SEALED_OVERHEAD);
    frame.resize(SEALED_HEADER_LEN, 0);
    frame.extend_from_slice(&packet);
    frame.resize(packet.len() + SEALED_OVERHEAD, 0);
    Ok(frame)
}
