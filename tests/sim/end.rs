//! One end of a simulated stream: the machine, its application, and what must always hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_agent::proto::stream::{
    Dialect, Outgoing, Segment, Stream, StreamConfig, StreamError, StreamEvent,
};
use pilot_agent::wire::{Flags, SackBlocks, Seq};
use rand::RngExt;
use rand::rngs::StdRng;

/// What a simulated application does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Bytes it writes.
    pub(crate) to_write: u64,
    /// Bytes it expects.
    pub(crate) to_read: u64,
    /// Most bytes of one write.
    pub(crate) write_size: usize,
    /// Time between writes, if it does not write as fast as it can.
    pub(crate) write_pause: Duration,
    /// Most bytes of one read, and the time between reads: a slow reader.
    pub(crate) read_size: usize,
    pub(crate) read_pause: Duration,
    /// It does not read before.
    pub(crate) read_from: Duration,
    /// It ends its direction when it has written all (else it closes when it has read all, too).
    pub(crate) half_close: bool,
    /// It aborts when it has read so much.
    pub(crate) abort_at: Option<u64>,
}

/// The byte at `offset` of the stream that end `from` writes.
pub(crate) fn byte_at(from: usize, offset: u64) -> u8 {
    let mixed = (offset ^ (from as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Now and then, the letters that begin a SACK payload.
    match offset % 977 {
        n @ 0..=3 => b"SACK"[n as usize],
        4 => 1,
        _ => (mixed >> 56) as u8,
    }
}

/// A stream and its application.
pub(crate) struct End {
    pub(crate) stream: Stream,
    pub(crate) plan: Plan,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) saw_end: bool,
    pub(crate) closed: Option<Option<StreamError>>,
    pub(crate) error: Option<StreamError>,
    index: usize,
    start: Instant,
    next_write: Instant,
    next_read: Instant,
    done_writing: bool,
    closing: bool,
    /// Window and tail probes that have been accounted for.
    probes_seen: (u64, u64),
    monitor: Monitor,
}

impl End {
    pub(crate) fn new(now: Instant, index: usize, stream: Stream, plan: Plan) -> Self {
        Self {
            stream,
            plan,
            written: 0,
            read: 0,
            saw_end: false,
            closed: None,
            error: None,
            index,
            start: now,
            next_write: now,
            next_read: now + plan.read_from,
            done_writing: false,
            closing: false,
            probes_seen: (0, 0),
            monitor: Monitor::default(),
        }
    }

    /// Lets the application do what it can now.
    pub(crate) fn run(&mut self, now: Instant, rng: &mut StdRng) {
        while let Some(event) = self.stream.poll_event() {
            if let StreamEvent::Closed(how) = event {
                assert!(self.closed.replace(how).is_none(), "closed twice");
            }
        }
        self.write(now, rng);
        self.read(now, rng);
        let has_all = self.done_writing && (self.saw_end || self.has_read_all());
        let go_waits = self.is_go() && !self.stream.is_drained();
        if !self.closing && (has_all && !go_waits || self.error.is_some()) {
            self.closing = true;
            self.stream.close(now);
        }
    }

    fn is_go(&self) -> bool {
        self.stream.dialect() == Some(Dialect::Go)
    }

    /// Toward a Go node there is no end to be read before both sides are done.
    fn has_read_all(&self) -> bool {
        self.read == self.plan.to_read && (self.is_go() || !self.plan.half_close)
    }

    fn write(&mut self, now: Instant, rng: &mut StdRng) {
        while !self.done_writing && self.error.is_none() && now >= self.next_write {
            let left = self.plan.to_write - self.written;
            if left == 0 {
                if self.plan.half_close && !self.is_go() {
                    match self.stream.finish(now) {
                        Ok(()) => {}
                        Err(error) => self.error = Some(error),
                    }
                }
                self.done_writing = true;
                return;
            }
            let len = rng.random_range(1..=self.plan.write_size).min(left as usize);
            let data: Vec<u8> =
                (self.written..).take(len).map(|at| byte_at(self.index, at)).collect();
            match self.stream.write(now, &data) {
                Ok(0) => return,
                Ok(n) => self.written += n as u64,
                Err(error) => self.error = Some(error),
            }
            self.next_write = now + self.plan.write_pause;
        }
    }

    fn read(&mut self, now: Instant, rng: &mut StdRng) {
        let mut buf = vec![0; self.plan.read_size];
        while !self.saw_end && self.error.is_none() && !self.closing && now >= self.next_read {
            let max = rng.random_range(1..=self.plan.read_size);
            let result = if rng.random_bool(0.5) {
                self.stream.read(now, &mut buf[..max])
            } else {
                self.stream.read_chunk(now, max).map(|chunk| {
                    chunk.map(|chunk| {
                        buf[..chunk.len()].copy_from_slice(&chunk);
                        chunk.len()
                    })
                })
            };
            match result {
                Ok(None) => return,
                Ok(Some(0)) => self.saw_end = true,
                Ok(Some(n)) => {
                    for byte in &buf[..n] {
                        assert_eq!(*byte, byte_at(1 - self.index, self.read), "at {}", self.read);
                        self.read += 1;
                    }
                    self.next_read = now + self.plan.read_pause;
                }
                Err(error) => self.error = Some(error),
            }
            if self.plan.abort_at.is_some_and(|at| self.read >= at) {
                self.stream.abort(now);
            }
        }
    }

    /// When the application wants to act by itself.
    pub(crate) fn next_action(&self, now: Instant) -> Option<Instant> {
        let wants_to_write = !self.done_writing && self.error.is_none();
        let write = (wants_to_write && self.next_write > now).then_some(self.next_write);
        let read = (!self.closing && self.next_read > now).then_some(self.next_read);
        [write, read].into_iter().flatten().min()
    }

    /// The next segment, after checking that it may be sent.
    pub(crate) fn transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Outgoing> {
        let before = self.stream.stats();
        let outgoing = self.stream.poll_transmit(now, buf)?;
        let after = self.stream.stats();
        let is_probe = after.window_probes > before.window_probes
            || after.keepalive_probes > before.keepalive_probes;
        let is_data = !buf.is_empty()
            && !outgoing.flags.contains(Flags::SYN)
            && SackBlocks::parse(buf).is_none();
        if is_data && !is_probe {
            // The congestion window and what is in flight, but for one probe each timeout.
            let limit = after.cwnd.max(buf.len() as u64) + 1;
            if after.in_flight > limit && after.window_probes == self.probes_seen.0 {
                let tail_probe = after.tail_probes > self.probes_seen.1;
                assert!(tail_probe, "flight exceeds cwnd: {after:?}");
            }
            self.probes_seen = (after.window_probes, after.tail_probes);
            self.monitor.check_data(self.is_go(), &outgoing, buf);
        }
        assert!(
            buf.is_empty()
                || outgoing.flags.contains(Flags::ACK)
                || outgoing.flags.contains(Flags::SYN)
        );
        assert!(!self.is_go() || outgoing.flags != Flags::FIN.with(Flags::ACK) || buf.is_empty());
        Some(outgoing)
    }

    /// Feeds a segment, and takes note of what it allows.
    pub(crate) fn receive(&mut self, now: Instant, segment: &Segment<'_>) {
        self.stream.handle_segment(now, segment);
        self.monitor.note_received(self.stream.dialect(), segment);
    }

    /// An extra call that is not due must change nothing.
    pub(crate) fn check_spurious_timeout(&mut self, now: Instant) {
        if self.stream.poll_timeout().is_some_and(|at| at <= now) {
            return;
        }
        let (stats, timeout) = (self.stream.stats(), self.stream.poll_timeout());
        self.stream.handle_timeout(now);
        assert_eq!((self.stream.stats(), self.stream.poll_timeout()), (stats, timeout));
        let mut buf = Vec::new();
        assert_eq!(self.stream.poll_transmit(now, &mut buf), None, "sent by a spurious timeout");
    }

    /// Everything that was to be written and read has been.
    pub(crate) fn is_complete(&self) -> bool {
        self.written == self.plan.to_write && self.read == self.plan.to_read
    }

    pub(crate) fn describe(&self, now: Instant) -> String {
        format!(
            "end {} after {:?}: wrote {}/{}, read {}/{}, end {}, closed {:?}, error {:?}, {:?}",
            self.index,
            now - self.start,
            self.written,
            self.plan.to_write,
            self.read,
            self.plan.to_read,
            self.saw_end,
            self.closed,
            self.error,
            self.stream.stats(),
        )
    }
}

/// Configuration of one end, at random.
pub(crate) fn random_config(rng: &mut StdRng) -> Arc<StreamConfig> {
    let default = StreamConfig::default();
    let buffer = |rng: &mut StdRng| 1usize << rng.random_range(16..21);
    let max_payload = if rng.random_bool(0.7) { 1152 } else { rng.random_range(200..9000) };
    let config = StreamConfig {
        send_buffer: buffer(rng),
        recv_buffer: buffer(rng),
        max_payload,
        nodelay: rng.random_bool(0.7),
        early_data: rng.random_bool(0.7),
        ..default
    };
    config.validate().expect("a valid configuration");
    Arc::new(config)
}

/// What an observer of the wire knows, to catch a sender that oversteps.
#[derive(Default)]
struct Monitor {
    /// Native: the right edge that the peer has offered. Go: acknowledged offset and window.
    edge: Option<u64>,
    go: Option<(u32, u16)>,
    /// Start and length of every data segment sent.
    segments: std::collections::BTreeMap<u32, usize>,
}

impl Monitor {
    fn check_data(&mut self, is_go: bool, out: &Outgoing, data: &[u8]) {
        let start = out.seq.0;
        if let Some(len) = self.segments.get(&start) {
            assert_eq!(*len, data.len(), "a retransmission of other boundaries");
            return;
        }
        self.segments.insert(start, data.len());
        if let (true, Some((ack, window))) = (is_go, self.go) {
            let outstanding = self.segments.range(ack..).count();
            let limit = usize::from(window).min(128);
            assert!(outstanding <= limit || data.len() == 1, "{outstanding} segments of {limit}");
        }
        if let Some(edge) = self.edge {
            let end = u64::from(start) + data.len() as u64;
            assert!(end <= edge || data.len() == 1, "beyond the window: {end} of {edge}");
        }
    }

    fn note_received(&mut self, dialect: Option<Dialect>, segment: &Segment<'_>) {
        let acknowledges = segment.flags.contains(Flags::ACK);
        let Seq(ack) = segment.ack;
        match dialect {
            Some(Dialect::Native(options)) if acknowledges => {
                let bytes = match segment.flags.contains(Flags::SYN) {
                    true => u64::from(segment.window) * 1152,
                    false => u64::from(segment.window) << options.window_shift,
                };
                let edge = u64::from(ack) + bytes;
                // A listener was offered its first window by SYN, which is not seen here.
                self.edge = Some(self.edge.unwrap_or(1 + 512 * 1152).max(edge));
            }
            Some(Dialect::Go) if acknowledges && !segment.flags.contains(Flags::FIN) => {
                let newer = self.go.is_none_or(|(last, _)| ack >= last);
                let bogus = segment.window == 0 && segment.payload.is_empty();
                if newer && !bogus {
                    self.go = Some((ack, segment.window));
                }
            }
            _ => {}
        }
    }
}
