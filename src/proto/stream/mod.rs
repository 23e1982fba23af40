//! The reliable stream: bytes in order, each once, both ways, or a clear error.
//!
//! [`Stream`] is one end of a connection. It does no I/O: segments, time and the application's
//! calls go in; segments ([`Stream::poll_transmit`]), a deadline ([`Stream::poll_timeout`]) and
//! events ([`Stream::poll_event`]) come out. After any input, drain the three, and call
//! [`Stream::handle_timeout`] when the deadline passes; early or extra calls are harmless.
//!
//! ```text
//!  write ──► SendBuffer ──► Scoreboard ──► poll_transmit          handle_segment ──► Assembler ──► read
//!            bytes          segments         ▲      ▲                  │  ack, SACK, window
//!                           (atoms)     Controller  PeerWindow ◄───────┤
//!                              ▲     (cwnd, rate)   (rwnd)             │
//!                         LossDetector ◄── RttEstimator ◄──────────────┘
//! ```
//!
//! The wire belongs to the Go peer: a stream starts as one that a Go node understands, and the
//! options in SYN and SYN-ACK tell whether the peer is one of ours ([`Dialect`]).
//!
//! # Why sequence numbers start at 0
//! Segments travel inside an authenticated tunnel, so an unpredictable number protects nothing.
//! Starting at 0 lets a dialer's first data follow its SYN without a round trip.
//!
//! Inside, numbers are `u64` offsets that never wrap: SYN is 0, the first byte is 1, FIN is the
//! number after the last byte. They become [`Seq`] at the edge.

mod close;
pub mod config;
pub mod congestion;
mod error;
mod input;
mod loss;
mod macroflow;
mod output;
mod pacer;
mod payload;
mod ranges;
mod ready;
mod recv;
mod rtt;
mod scoreboard;
mod segment;
mod send;
mod sharing;
mod state;
mod stats;
mod timeout;
mod timers;
mod tuning;
mod window;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use config::{ConfigError, StreamConfig};
pub use congestion::CongestionControl;
pub use error::StreamError;
pub use macroflow::Macroflow;
pub use segment::{Dialect, GO_UNIT_BYTES, Outgoing, Segment};
pub use state::State;
pub use stats::StreamStats;

use crate::wire::Seq;
use crate::wire::options::StreamOptions;
use loss::LossDetector;
use macroflow::Membership;
use output::Due;
use recv::Assembler;
use rtt::RttEstimator;
use scoreboard::Scoreboard;
use send::SendBuffer;
use timers::{Timer, Timers};
use tuning::RecvTuner;
use window::{LocalWindow, PeerWindow};

/// What happened on a stream. Edge-triggered: said when it becomes true, not while it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The peer answered our SYN. Only a dialer's stream says so.
    Connected,
    /// There is something new to read: data, the end, or an error.
    Readable,
    /// After a write that was cut short: there is room again, or writing fails now.
    Writable,
    /// The stream is over, in order (`None`) or not. Said once; buffered data can still be read.
    Closed(Option<StreamError>),
}

/// One end of a reliable stream.
#[derive(Debug)]
pub struct Stream {
    config: Arc<StreamConfig>,
    state: State,
    dialect: Option<Dialect>,
    error: Option<StreamError>,
    events: VecDeque<StreamEvent>,
    /// Its end has been said.
    is_over: bool,
    timers: Timers,
    stats: StreamStats,
    due: Due,

    // Sending
    send: SendBuffer,
    board: Scoreboard,
    loss: LossDetector,
    rtt: RttEstimator,
    flow: Membership,
    /// There is data that the window or the pacer kept back.
    is_held: bool,
    peer_window: PeerWindow,
    path_payload: u16,
    nodelay: bool,
    answers_soon: bool,
    /// A write was cut short; say when there is room.
    write_blocked: bool,
    /// FIN follows the last byte.
    finishing: bool,
    /// SYNs sent, if we dialed.
    syn_attempts: u32,
    /// SYN-ACKs sent, if we accepted.
    syn_acks: u32,
    /// When the last SYN or SYN-ACK was sent.
    syn_sent_at: Instant,
    persist_backoff: u32,
    last_sent: Instant,
    /// Last time that something was acknowledged, or that a closed window was confirmed.
    progress_at: Instant,

    // Receiving
    /// The peer's initial sequence number.
    irs: Seq,
    recv: Assembler,
    local_window: LocalWindow,
    recv_tuner: RecvTuner,
    /// Full segments received since the last acknowledgement.
    unacked_segments: u32,
    /// Payload of the largest segment received: a shorter one is the end of something.
    full_segment: usize,
    /// Where the next SACK begins to report, so that all gaps have their turn.
    sack_from: u64,
    latest_range: u64,
    /// The peer's FIN, perhaps ahead of missing data.
    fin_at: Option<u64>,
    fin_received: bool,
    /// It came from a Go node, and not as the answer to ours.
    fin_wants_answer: bool,
    last_fin_ack: Option<Instant>,
    last_received: Instant,
    /// The application has seen the end or the error.
    end_seen: bool,
    /// The application has let go of the stream.
    released: bool,
}

impl Stream {
    /// Dials: queues SYN, with our options.
    #[must_use]
    pub fn connect(now: Instant, config: Arc<StreamConfig>) -> Self {
        let mut stream = Self::new(now, config, State::SynSent);
        stream.due.syn = true;
        // It ends the attempt even if nobody ever asks for the SYN.
        stream.timers.set(Timer::Syn, now + stream.config.connect_timeout);
        stream
    }

    /// Answers `syn`: queues SYN-ACK. The stream can carry data at once; the dialer's third
    /// packet is not waited for, nor is SYN-ACK repeated but in answer to another SYN.
    #[must_use]
    pub fn accept(now: Instant, config: Arc<StreamConfig>, syn: &Segment<'_>) -> Self {
        let mut stream = Self::new(now, config, State::SynReceived);
        stream.learn_dialect(syn);
        stream.timers.set(Timer::KeepAlive, now + stream.config.keepalive);
        stream.timers.set(Timer::Idle, now + stream.config.idle_timeout);
        stream.due.syn_ack = true;
        stream
    }

    fn new(now: Instant, config: Arc<StreamConfig>, state: State) -> Self {
        Self {
            state,
            dialect: None,
            error: None,
            events: VecDeque::new(),
            is_over: false,
            timers: Timers::default(),
            stats: StreamStats::default(),
            due: Due::default(),
            send: SendBuffer::new(config.send_buffer),
            board: Scoreboard::new(),
            loss: LossDetector::default(),
            rtt: RttEstimator::new(&config),
            flow: Membership::alone(now, config.congestion, config.max_payload),
            is_held: false,
            peer_window: PeerWindow::UNKNOWN,
            path_payload: config.max_payload,
            nodelay: config.nodelay,
            answers_soon: false,
            write_blocked: false,
            finishing: false,
            syn_attempts: 0,
            syn_acks: 0,
            syn_sent_at: now,
            persist_backoff: 0,
            last_sent: now,
            progress_at: now,
            irs: Seq(0),
            recv: Assembler::new(config.recv_buffer),
            local_window: LocalWindow::new(&config),
            recv_tuner: RecvTuner::new(now),
            unacked_segments: 0,
            full_segment: input::LEAST_FULL_SEGMENT,
            sack_from: 0,
            latest_range: 0,
            fin_at: None,
            fin_received: false,
            fin_wants_answer: false,
            last_fin_ack: None,
            last_received: now,
            end_seen: false,
            released: false,
            config,
        }
    }

    /// Tells what other streams to the same peer have measured as round trip (RFC 9040), so that
    /// a lost SYN or first segment does not wait for timeouts made for an unknown path. To be
    /// called before the first segment is asked for; a measurement overrules it.
    pub fn expect_rtt(&mut self, rtt: Duration) {
        self.rtt.expect(rtt);
    }

    /// From SYN or SYN-ACK: where the peer's numbers start, and how it talks. Options that
    /// cannot be read are as good as none.
    fn learn_dialect(&mut self, syn: &Segment<'_>) {
        self.irs = syn.seq;
        let dialect = match StreamOptions::parse(syn.payload) {
            Ok(Some(options)) => Dialect::Native(options),
            Ok(None) | Err(_) => Dialect::Go,
        };
        match dialect {
            Dialect::Native(_) => self.local_window.set_shift(self.config.window_shift()),
            Dialect::Go => self.recv.grow(self.config.go_recv_buffer()),
        }
        self.peer_window = PeerWindow::open(dialect, syn.window);
        self.dialect = Some(dialect);
        self.flow.set_max_payload(self.max_payload().into());
        self.recut(); // early data may be larger than the peer, or the path by now, takes
    }

    /// Copies as much of `data` as there is room for. `Ok(0)` for data that is not empty: wait
    /// for [`StreamEvent::Writable`]. Before the stream is connected, data is kept, or sent early.
    ///
    /// # Errors
    /// The stream failed, or was finished or closed by this side, or closed by a Go peer.
    pub fn write(&mut self, now: Instant, data: &[u8]) -> Result<usize, StreamError> {
        let _ = now;
        self.check_writable()?;
        let taken = self.send.write(data);
        self.write_blocked |= taken < data.len();
        Ok(taken)
    }

    /// Takes `data` without copying it. `Ok(false)` when the buffer is full: wait for
    /// [`StreamEvent::Writable`]. The buffer may exceed its limit by this one piece.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn write_bytes(&mut self, now: Instant, data: Bytes) -> Result<bool, StreamError> {
        let _ = now;
        self.check_writable()?;
        let taken = self.send.write_bytes(data);
        self.write_blocked |= !taken;
        Ok(taken)
    }

    /// Takes as much of `data` as there is room for, without copying it.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn write_shared(&mut self, data: &Bytes) -> Result<usize, StreamError> {
        self.check_writable()?;
        let taken = data.len().min(self.send.room());
        if taken > 0 {
            self.send.write_bytes(data.slice(..taken));
        }
        self.write_blocked |= taken < data.len();
        Ok(taken)
    }

    fn check_writable(&self) -> Result<(), StreamError> {
        match self.error {
            Some(error) => Err(error),
            None if self.finishing || self.released => Err(StreamError::Closed),
            None if matches!(self.state, State::TimeWait | State::Closed) => {
                Err(StreamError::PeerClosed)
            }
            None => Ok(()),
        }
    }

    /// Copies out what has arrived: `Some(0)` is the end, `None` means nothing yet (always so if
    /// `buf` is empty). What arrived before an error comes before the error.
    ///
    /// # Errors
    /// The stream failed, or was closed by this side.
    pub fn read(&mut self, now: Instant, buf: &mut [u8]) -> Result<Option<usize>, StreamError> {
        if buf.is_empty() {
            return Ok(None);
        }
        let n = self.recv.read(buf);
        if n == 0 {
            return self.read_end().map(|end| end.then_some(0));
        }
        self.after_read(now);
        Ok(Some(n))
    }

    /// Hands out at most `max` bytes (at least 1) without copying: an empty chunk is the end,
    /// `None` means nothing yet.
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub fn read_chunk(&mut self, now: Instant, max: usize) -> Result<Option<Bytes>, StreamError> {
        let chunk = self.recv.read_chunk(max.max(1));
        if chunk.is_empty() {
            return self.read_end().map(|end| end.then(Bytes::new));
        }
        self.after_read(now);
        Ok(Some(chunk))
    }

    /// Nothing is left to read: is that the end, an error, or just now?
    fn read_end(&mut self) -> Result<bool, StreamError> {
        if self.released {
            return Err(self.error.unwrap_or(StreamError::Closed));
        }
        if self.fin_received {
            self.end_seen = true;
            return Ok(true);
        }
        match self.error {
            Some(error) => {
                self.end_seen = true;
                Err(error)
            }
            None => Ok(false),
        }
    }

    fn after_read(&mut self, now: Instant) {
        self.arm_shed(now);
        if self.dialect.is_none() || self.fin_at.is_some() {
            return;
        }
        if !self.is_go() {
            let most = self.config.max_recv_buffer;
            self.recv_tuner.on_read(now, &mut self.recv, self.rtt.srtt(), most);
        }
        if self.local_window.wants_update(&self.recv) {
            self.due.ack = true;
        }
    }

    /// The next event, if any.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    /// When [`Stream::handle_timeout`] wants to be called. Changes with every input and every
    /// [`Stream::poll_transmit`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Switches Nagle's rule off (`true`) or on; see [`StreamConfig::nodelay`].
    pub fn set_nodelay(&mut self, now: Instant, nodelay: bool) {
        let _ = now;
        self.nodelay = nodelay;
    }

    /// Says that what arrives is usually answered soon: then acknowledgements of short segments
    /// wait for the answer, too, instead of going ahead of it in a packet of their own. Toward a
    /// Go node it changes nothing.
    pub fn set_answers_soon(&mut self, answers_soon: bool) {
        self.answers_soon = answers_soon;
    }

    /// Whether a read would not say "nothing yet".
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.recv.ready_bytes() > 0 || self.fin_received || self.error.is_some()
    }

    /// Whether a write would take something, or fail.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.check_writable().is_err() || self.send.room() > 0
    }

    /// Whether nothing waits to be acknowledged: everything that was written has been, and our
    /// FIN if there is one; or the stream has failed, and nothing will be.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.send.buffered() == 0 && self.board.is_empty() && (!self.finishing || self.fin_sent())
    }

    /// Whether the stream may be forgotten: it is over, has nothing more to say, and the
    /// application has closed or aborted it, or has read its end or error.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == State::Closed && !self.due.rst && (self.released || self.end_seen)
    }

    /// Where the stream is in its life. A SYN that meets [`State::TimeWait`] or
    /// [`State::Closed`] may open a new stream in its place.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why the stream failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<StreamError> {
        self.error
    }

    /// How the peer talks, once SYN or SYN-ACK has told.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Counters and estimates as they are now.
    #[must_use]
    pub fn stats(&self) -> StreamStats {
        StreamStats {
            state: self.state,
            srtt: self.rtt.srtt(),
            min_rtt: self.rtt.min_rtt(),
            rto: self.rtt.rto(),
            cwnd: self.flow.cwnd(),
            ssthresh: self.flow.ssthresh(),
            in_flight: self.board.in_flight(),
            send_buffered: self.send.buffered(),
            recv_buffered: self.recv.ready_bytes(),
            max_payload: self.max_payload(),
            ..self.stats
        }
    }

    /// Smoothed round-trip time, if one was measured.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.srtt()
    }

    fn is_go(&self) -> bool {
        self.dialect == Some(Dialect::Go)
    }

    /// Says an event, unless it waits to be taken already.
    fn say(&mut self, event: StreamEvent) {
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }
}
