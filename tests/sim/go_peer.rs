//! A peer with the habits of release 1.18.0, as far as they are known from the wire: it takes
//! segments only where the last one ended, keeps 128 behind a gap, counts its window in segments,
//! announces no reopening, answers no probe, and its FIN ends both directions.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{Outgoing, Segment};
use pilot_agent::wire::sack::SackBlock;
use pilot_agent::wire::{Flags, SackBlocks, Seq};

use super::end::{Plan, byte_at};

const MSS: usize = 1152;
const QUEUE: usize = 512;
const REORDER: usize = 128;
const FLIGHT: usize = 128;
const FIN_ACK: Flags = Flags::FIN.with(Flags::ACK);

#[derive(Debug)]
struct Unacked {
    data: Vec<u8>,
    sacked: bool,
}

/// A Go node's stream with its application.
#[derive(Debug)]
pub(crate) struct GoPeer {
    pub(crate) plan: Plan,
    pub(crate) read: u64,
    pub(crate) closed: bool,
    index: usize,
    /// `None` before SYN (listener) or SYN-ACK (dialer).
    connected: bool,
    next_read: Instant,
    // Sending.
    nxt: u32,
    una: u32,
    unacked: BTreeMap<u32, Unacked>,
    window: u16,
    duplicates: u32,
    rto: Duration,
    rto_at: Option<Instant>,
    probe_at: Option<(Instant, Duration)>,
    syn_at: Option<Instant>,
    fin_sent: bool,
    // Receiving.
    rcv_nxt: u32,
    reorder: BTreeMap<u32, Vec<u8>>,
    queue: VecDeque<Vec<u8>>,
    pending_acks: u32,
    ack_at: Option<Instant>,
    fin_at: Option<u32>,
    fin_answered: bool,
    /// Segments that are due, ready-made.
    out: VecDeque<(Outgoing, Vec<u8>)>,
}

impl GoPeer {
    pub(crate) fn new(now: Instant, index: usize, dials: bool, plan: Plan) -> Self {
        Self {
            plan,
            read: 0,
            closed: false,
            index,
            connected: false,
            next_read: now + plan.read_from,
            nxt: 1,
            una: 1,
            unacked: BTreeMap::new(),
            window: 0,
            duplicates: 0,
            rto: Duration::from_secs(1),
            rto_at: None,
            probe_at: None,
            syn_at: dials.then_some(now),
            fin_sent: false,
            rcv_nxt: 1,
            reorder: BTreeMap::new(),
            queue: VecDeque::new(),
            pending_acks: 0,
            ack_at: None,
            fin_at: None,
            fin_answered: false,
            out: VecDeque::new(),
        }
    }

    fn written(&self) -> u64 {
        u64::from(self.nxt - 1)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.read == self.plan.to_read && self.written() == self.plan.to_write
    }

    fn push(&mut self, flags: Flags, seq: u32, payload: Vec<u8>) {
        let window = u16::try_from(QUEUE - self.queue.len().min(QUEUE)).unwrap();
        let mut out = Outgoing { flags, seq: Seq(seq), ack: Seq(self.rcv_nxt), window };
        if flags.contains(Flags::FIN) || flags.contains(Flags::RST) {
            out.window = 0;
        }
        if !flags.contains(Flags::ACK) {
            out.ack = Seq(0);
        }
        self.out.push_back((out, payload));
    }

    fn push_ack(&mut self) {
        let mut payload = Vec::new();
        let mut blocks: Vec<(u32, u32)> = Vec::new();
        for (start, data) in &self.reorder {
            let end = start + u32::try_from(data.len()).unwrap();
            match blocks.last_mut() {
                Some((_, right)) if *right >= *start => *right = end.max(*right),
                _ => blocks.push((*start, end)),
            }
        }
        let mut sack = SackBlocks::default();
        for (left, right) in blocks.into_iter().take(4) {
            sack.push(SackBlock { left: Seq(left), right: Seq(right) });
        }
        sack.encode(&mut payload);
        (self.pending_acks, self.ack_at) = (0, None);
        self.push(Flags::ACK, self.nxt + u32::from(self.fin_sent), payload);
    }

    pub(crate) fn receive(&mut self, now: Instant, segment: &Segment<'_>) {
        let flags = segment.flags;
        if self.closed {
            return;
        }
        if flags.contains(Flags::RST) {
            self.closed = true;
        } else if flags == Flags::SYN {
            self.connected = true;
            self.window = segment.window;
            let (out, payload) = (Flags::SYN.with(Flags::ACK), Vec::new());
            let header = Outgoing { flags: out, seq: Seq(0), ack: segment.seq.add(1), window: 512 };
            self.out.push_back((header, payload));
        } else if flags.contains(Flags::SYN) {
            (self.connected, self.syn_at) = (true, None);
            self.window = segment.window;
            self.push_ack();
        } else if !self.connected {
            // Data for an unknown connection is ignored.
        } else if flags.contains(Flags::FIN) {
            if flags == FIN_ACK {
                assert!(self.fin_sent, "FIN+ACK without a FIN of ours");
                self.closed = true;
                return;
            }
            self.fin_at = Some(segment.seq.0);
        } else if flags.contains(Flags::ACK) {
            self.on_ack(now, segment);
        }
        self.try_close();
    }

    fn on_ack(&mut self, now: Instant, segment: &Segment<'_>) {
        let sack = SackBlocks::parse(segment.payload);
        let is_pure = segment.payload.is_empty() || sack.is_some();
        let Seq(ack) = segment.ack;
        self.window = segment.window;
        if segment.window > 0 {
            self.probe_at = None;
        }
        if ack > self.una && ack <= self.nxt + u32::from(self.fin_sent) {
            self.una = ack;
            self.unacked.retain(|start, _| *start >= ack);
            self.duplicates = 0;
            self.rto = Duration::from_millis(200).max(self.rto / 2);
            self.rto_at = (!self.unacked.is_empty()).then_some(now + self.rto);
        } else if is_pure && ack == self.una && !self.unacked.is_empty() {
            self.duplicates += 1;
        }
        for block in sack.iter().flat_map(SackBlocks::as_slice) {
            for (_, unacked) in self.unacked.range_mut(block.left.0..block.right.0) {
                unacked.sacked = true;
            }
        }
        if self.duplicates == 3 {
            self.retransmit_oldest();
        }
        if !is_pure {
            self.on_data(now, segment.seq.0, segment.payload);
        }
    }

    fn on_data(&mut self, now: Instant, start: u32, data: &[u8]) {
        let end = start + u32::try_from(data.len()).unwrap();
        if start < self.rcv_nxt {
            assert!(end <= self.rcv_nxt, "a partial overlap, which a Go node drops");
            return self.push_ack();
        }
        if start > self.rcv_nxt {
            if self.reorder.len() < REORDER {
                self.reorder.insert(start, data.to_vec());
            }
            return self.push_ack();
        }
        if self.queue.len() >= QUEUE {
            return self.push_ack();
        }
        self.queue.push_back(data.to_vec());
        self.rcv_nxt = end;
        let had_gap = !self.reorder.is_empty();
        while self.queue.len() < QUEUE
            && let Some(data) = self.reorder.remove(&self.rcv_nxt)
        {
            self.rcv_nxt += u32::try_from(data.len()).unwrap();
            self.queue.push_back(data);
        }
        self.pending_acks += 1;
        if had_gap || self.pending_acks >= 2 {
            self.push_ack();
        } else {
            self.ack_at = Some(now + Duration::from_millis(5));
        }
    }

    fn retransmit_oldest(&mut self) {
        let oldest = self.unacked.iter().find(|(_, unacked)| !unacked.sacked);
        if let Some((start, data)) = oldest.map(|(start, unacked)| (*start, unacked.data.clone())) {
            self.push(Flags::ACK, start, data);
        }
    }

    /// A FIN closes both directions as soon as nothing is missing before it.
    fn try_close(&mut self) {
        if self.fin_at.is_some_and(|at| at <= self.rcv_nxt) && !self.fin_answered {
            self.fin_answered = true;
            self.rcv_nxt = self.fin_at.unwrap_or_default() + 1;
            self.push(FIN_ACK, self.nxt + u32::from(self.fin_sent), Vec::new());
            self.rto_at = None;
            self.unacked.clear();
        }
    }

    /// The application, and what it may send.
    pub(crate) fn run(&mut self, now: Instant) {
        while now >= self.next_read
            && let Some(data) = self.queue.pop_front()
        {
            for byte in data {
                assert_eq!(byte, byte_at(1 - self.index, self.read), "at {}", self.read);
                self.read += 1;
            }
            self.next_read = now + self.plan.read_pause;
        }
        if !self.connected || self.closed || self.fin_sent || self.fin_answered {
            return;
        }
        while self.written() < self.plan.to_write {
            if self.unacked.len() >= FLIGHT.min(usize::from(self.window)) {
                if self.window == 0 && self.unacked.is_empty() && self.probe_at.is_none() {
                    let wait = Duration::from_millis(500);
                    self.probe_at = Some((now + wait, wait));
                }
                break;
            }
            let left = usize::try_from(self.plan.to_write - self.written()).unwrap();
            let len = left.min(MSS).min(self.plan.write_size);
            let data: Vec<u8> =
                (self.written()..).take(len).map(|at| byte_at(self.index, at)).collect();
            if pilot_agent::wire::sack::looks_like_sack(&data) {
                self.unacked.insert(self.nxt, Unacked { data: data[..1].to_vec(), sacked: false });
                self.push(Flags::ACK, self.nxt, data[..1].to_vec());
                self.nxt += 1;
            } else {
                self.unacked.insert(self.nxt, Unacked { data: data.clone(), sacked: false });
                self.push(Flags::ACK, self.nxt, data);
                self.nxt += u32::try_from(len).unwrap();
            }
            self.rto_at.get_or_insert(now + self.rto);
        }
        if self.is_complete() && self.unacked.is_empty() && self.plan.half_close {
            self.fin_sent = true;
            self.push(Flags::FIN, self.nxt, Vec::new());
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if self.syn_at.is_some_and(|at| at <= now) {
            self.syn_at = Some(now + Duration::from_millis(250));
            let header = Outgoing { flags: Flags::SYN, seq: Seq(0), ack: Seq(0), window: 512 };
            self.out.push_back((header, Vec::new()));
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.push_ack();
        }
        if self.rto_at.is_some_and(|at| at <= now) {
            self.rto = (self.rto * 2).min(Duration::from_secs(10));
            self.rto_at = Some(now + self.rto);
            self.retransmit_oldest();
        }
        if let Some((at, wait)) = self.probe_at
            && at <= now
        {
            let wait = (wait * 2).min(Duration::from_secs(30));
            self.probe_at = Some((now + wait, wait));
            self.push_ack();
        }
    }

    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let read = (!self.queue.is_empty() && self.next_read > now).then_some(self.next_read);
        let probe = self.probe_at.map(|(at, _)| at);
        let timers = [self.syn_at, self.ack_at, self.rto_at, probe];
        timers.into_iter().filter(|_| !self.closed).chain([read]).flatten().min()
    }

    pub(crate) fn transmit(&mut self, buf: &mut Vec<u8>) -> Option<Outgoing> {
        let (header, payload) = self.out.pop_front()?;
        buf.extend_from_slice(&payload);
        Some(header)
    }
}
