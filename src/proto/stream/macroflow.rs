//! What streams on one path share: a window, a rate, a pacer, and the counters from which
//! bandwidth is told (RFC 3124's macroflow; RFC 9040 calls it ensemble sharing).
//!
//! Fifty streams to a peer meet one bottleneck. With a window each, they would find out about it
//! fifty times, against each other, and those that end leave room that the others have to
//! discover. So the streams to a peer are one flow to the network, as the streams of an HTTP/2
//! connection are: what one has learned the next one starts with, and the sum of what they send
//! is what the path takes. What is lost stays each stream's own affair, and holds up no other.
//!
//! Only [`Bbr`](super::congestion::Bbr) is shared: the loss-based controllers stay what TCP does
//! next to them, one window for each stream.
//!
//! # Who may send
//! A stream that has data, but no window or rate, is *held* ([`Stream::is_held`]). Its owner keeps
//! those in a line, and asks [`Macroflow::has_room`] whether the next one may go on: so a new
//! acknowledgement wakes one stream, not all of them, and one deadline
//! ([`Macroflow::resume_at`]) is enough for all.
//!
//! [`Stream::is_held`]: super::Stream::is_held

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CongestionControl;
use super::congestion::{Ack, Congestion, Controller, RateSample};
use super::pacer::Pacer;
use super::scoreboard::{Delivery, Scoreboard};

/// After so long without sending, nothing that was known of the path counts any more.
const KEEPS_FOR: Duration = Duration::from_secs(60);

/// The shared state of streams on one path; clones are the same one.
#[derive(Debug, Clone)]
pub struct Macroflow(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    congestion: CongestionControl,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    max_payload: u64,
    /// As the streams measured it last.
    srtt: Option<Duration>,
    /// Bytes in the network, of all streams.
    in_flight: u64,
    /// Bytes found lost so far, timeouts not included.
    lost: u64,
    /// Streams that have something to send.
    busy: u64,
    last_sent: Instant,
    /// When the pacer lets the next segment out, if it kept one back.
    resume_at: Option<Instant>,
    meter: Meter,
}

/// Delivery rate estimation (draft-cheng-iccrg-delivery-rate-estimation) over all streams.
#[derive(Debug, Default)]
struct Meter {
    delivered: u64,
    delivered_at: Option<Instant>,
    /// When the newest segment that has arrived was sent: the flight being measured begins here.
    first_sent: Option<Instant>,
    /// What is delivered up to here tells how much there was to send, not what the path takes.
    app_limited_until: u64,
}

/// What had been delivered when a segment left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    delivered: u64,
    delivered_at: Instant,
    /// Microseconds in which the data was sent that was in flight then.
    send_elapsed: u32,
    /// There was less to send than the path would have taken.
    is_app_limited: bool,
}

impl Stamp {
    /// Of the first segment of all.
    #[cfg(test)]
    pub(super) fn first(now: Instant) -> Self {
        Self { delivered: 0, delivered_at: now, send_elapsed: 0, is_app_limited: false }
    }
}

impl Meter {
    fn stamp(&mut self, now: Instant, is_idle: bool) -> Stamp {
        if is_idle {
            self.delivered_at = Some(now);
            self.first_sent = Some(now);
        }
        let elapsed = self.first_sent.map(|first| now.saturating_duration_since(first));
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            send_elapsed: u32::try_from(elapsed.unwrap_or_default().as_micros())
                .unwrap_or(u32::MAX),
            is_app_limited: self.app_limited_until > 0,
        }
    }

    /// `delivery` has arrived. Returns the rate over the flight of the newest segment in it.
    fn take(&mut self, now: Instant, delivery: &Delivery) -> Option<RateSample> {
        self.delivered += delivery.bytes;
        self.delivered_at = Some(now);
        if self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let newest = delivery.newest.as_ref()?;
        self.first_sent = Some(newest.last_sent);
        let stamp = newest.stamp;
        let send_elapsed = Duration::from_micros(stamp.send_elapsed.into());
        Some(RateSample {
            delivered: self.delivered.saturating_sub(stamp.delivered),
            interval: now.saturating_duration_since(stamp.delivered_at).max(send_elapsed),
            prior_delivered: stamp.delivered,
            is_app_limited: stamp.is_app_limited,
        })
    }
}

impl Macroflow {
    /// For streams that start with segments of `max_payload` bytes.
    #[must_use]
    pub fn new(now: Instant, congestion: CongestionControl, max_payload: u16) -> Self {
        let max_payload = u64::from(max_payload);
        Self(Arc::new(Mutex::new(Inner {
            congestion,
            controller: congestion.controller(now, max_payload),
            pacer: Pacer::new(now),
            max_payload,
            srtt: None,
            in_flight: 0,
            lost: 0,
            busy: 0,
            last_sent: now,
            resume_at: None,
            meter: Meter::default(),
        })))
    }

    /// Whether streams can share one: whether the controller counts the path, not the stream.
    #[must_use]
    pub fn is_for(congestion: CongestionControl) -> bool {
        congestion == CongestionControl::Bbr
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a full segment may leave now.
    #[must_use]
    pub fn has_room(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        let bytes = inner.max_payload;
        inner.room(now, bytes, false) == Room::Now
    }

    /// When to ask [`has_room`](Self::has_room) again, if it is time that is waited for rather
    /// than an acknowledgement.
    #[must_use]
    pub fn resume_at(&self) -> Option<Instant> {
        self.lock().resume_at
    }
}

impl Inner {
    fn start_over(&mut self, now: Instant) {
        self.controller = self.congestion.controller(now, self.max_payload);
        self.pacer = Pacer::new(now);
        self.srtt = None;
        self.lost = 0;
        self.resume_at = None;
    }

    /// `begins`: of a stream that has nothing in the network.
    fn room(&mut self, now: Instant, bytes: u64, begins: bool) -> Room {
        self.resume_at = None;
        if !begins && self.in_flight + bytes > self.controller.cwnd() {
            return Room::Full;
        }
        self.resume_at = self.pacer.check(now, bytes, begins);
        self.resume_at.map_or(Room::Now, Room::At)
    }

    fn update_pacing(&mut self, now: Instant) {
        let rate = self.controller.pacing_rate(self.srtt);
        self.pacer.set_rate(now, rate, self.max_payload);
    }
}

/// Whether a stream may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    /// Not before this time.
    At(Instant),
    /// Not before something is acknowledged.
    Full,
}

/// A stream's part in its macroflow.
#[derive(Debug)]
pub(super) struct Membership {
    flow: Macroflow,
    is_shared: bool,
    /// What the macroflow counts as ours.
    in_flight: u64,
    lost: u64,
    is_busy: bool,
    /// When something of ours was delivered last.
    delivered_at: Option<Instant>,
}

impl Membership {
    /// The only member of a new one.
    pub(super) fn alone(now: Instant, congestion: CongestionControl, max_payload: u16) -> Self {
        let flow = Macroflow::new(now, congestion, max_payload);
        Self::of(flow, false)
    }

    fn of(flow: Macroflow, is_shared: bool) -> Self {
        Self { flow, is_shared, in_flight: 0, lost: 0, is_busy: false, delivered_at: None }
    }

    /// Leaves for another one, what is in flight included.
    pub(super) fn move_to(&mut self, flow: Macroflow, is_shared: bool, board: &Scoreboard) {
        let is_busy = self.is_busy;
        let delivered = self.flow.lock().meter.delivered;
        *self = Self::of(flow, is_shared);
        if board.in_flight() > 0 {
            // What is in flight bears stamps that count from there.
            let meter = &mut self.flow.lock().meter;
            meter.delivered = meter.delivered.max(delivered);
        }
        self.lost = board.lost_bytes();
        self.sync(board);
        self.set_busy(is_busy);
    }

    /// The path is another one now: what was known does not count.
    pub(super) fn start_over(&mut self, now: Instant) {
        self.flow.lock().start_over(now);
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    pub(super) fn congestion(&self) -> CongestionControl {
        self.flow.lock().congestion
    }

    pub(super) fn cwnd(&self) -> u64 {
        self.flow.lock().controller.cwnd()
    }

    pub(super) fn ssthresh(&self) -> u64 {
        self.flow.lock().controller.ssthresh()
    }

    /// The window, and how much of it all streams use.
    pub(super) fn window(&self) -> (u64, u64) {
        let inner = self.flow.lock();
        (inner.controller.cwnd(), inner.in_flight)
    }

    /// Tells what has become of what is in flight.
    pub(super) fn sync(&mut self, board: &Scoreboard) {
        let (in_flight, lost) = (board.in_flight(), board.lost_bytes());
        if (in_flight, lost) != (self.in_flight, self.lost) {
            let mut inner = self.flow.lock();
            inner.in_flight = (inner.in_flight + in_flight).saturating_sub(self.in_flight);
            inner.lost += lost.saturating_sub(self.lost);
            (self.in_flight, self.lost) = (in_flight, lost);
        }
    }

    /// Whether there is data that could go if the path took it.
    pub(super) fn set_busy(&mut self, is_busy: bool) {
        if self.is_busy != is_busy {
            self.is_busy = is_busy;
            let mut inner = self.flow.lock();
            inner.busy = if is_busy { inner.busy + 1 } else { inner.busy.saturating_sub(1) };
        }
    }

    /// This stream has nothing to send, and `all` of what it sent is accounted for. If no other
    /// stream has, and the window has room, then what is in flight does not tell the bandwidth.
    pub(super) fn note_app_limited(&mut self) {
        let mut inner = self.flow.lock();
        let room = inner.controller.cwnd().saturating_sub(inner.in_flight);
        if inner.busy == 0 && room >= inner.max_payload {
            inner.meter.app_limited_until = (inner.meter.delivered + inner.in_flight).max(1);
        }
    }

    pub(super) fn set_max_payload(&mut self, bytes: u64) {
        let mut inner = self.flow.lock();
        inner.max_payload = bytes.max(1);
        inner.controller.set_max_payload(bytes);
    }

    /// A round trip was measured.
    pub(super) fn update_pacing(&mut self, now: Instant, srtt: Option<Duration>) {
        let mut inner = self.flow.lock();
        inner.srtt = srtt.or(inner.srtt);
        inner.update_pacing(now);
    }

    /// Whether a segment of `bytes` may leave now. The first segment of a stream finds a place in
    /// any window: it would have nothing to be woken by.
    pub(super) fn room(&mut self, now: Instant, bytes: u64) -> Room {
        self.flow.lock().room(now, bytes, self.in_flight == 0)
    }

    /// A stream that has nothing in flight is about to send; `rto` is its timeout, `expected` the
    /// round trip that is expected if none was measured.
    pub(super) fn on_start(&mut self, now: Instant, rto: Duration, expected: Option<Duration>) {
        let mut inner = self.flow.lock();
        inner.srtt = inner.srtt.or(expected.filter(|_| self.is_shared));
        if inner.in_flight == 0 {
            let idle = now.saturating_duration_since(inner.last_sent);
            if idle > KEEPS_FOR {
                inner.start_over(now);
            } else if idle > rto {
                // RFC 5681 s4.1: after a pause, the old window says little about the path.
                inner.controller.on_restart(now);
            }
        }
        let starting = inner.busy + u64::from(!self.is_busy);
        inner.controller.on_start(starting);
        inner.update_pacing(now);
    }

    /// `bytes` go out; what the segment carries of it to the time when it has arrived.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) -> Stamp {
        let mut inner = self.flow.lock();
        inner.pacer.on_sent(now, bytes);
        inner.controller.on_sent(bytes);
        inner.last_sent = now;
        let is_idle = inner.in_flight == 0;
        inner.meter.stamp(now, is_idle)
    }

    /// Something has arrived, `board` says what is left. What was lost is found already.
    pub(super) fn on_delivery(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        board: &Scoreboard,
        (rtt, srtt): (Option<Duration>, Option<Duration>),
        in_recovery: bool,
    ) {
        let before = self.flow.lock().in_flight;
        self.sync(board);
        self.delivered_at = Some(now);
        let mut inner = self.flow.lock();
        let rate = inner.meter.take(now, delivery);
        let ack = Ack {
            now,
            acked: delivery.acked,
            delivered: delivery.bytes,
            total_delivered: inner.meter.delivered,
            total_lost: inner.lost,
            in_flight_before: before,
            in_flight: inner.in_flight,
            rtt,
            in_recovery,
            rate,
        };
        inner.srtt = srtt.or(inner.srtt);
        inner.controller.on_ack(&ack);
        inner.update_pacing(now);
    }

    pub(super) fn on_spurious(&mut self) {
        self.flow.lock().controller.on_spurious();
    }

    /// A loss was found on this stream, the first in its window of data.
    pub(super) fn on_congestion(&mut self, now: Instant, board: &Scoreboard) {
        let mut inner = self.flow.lock();
        let others = inner.in_flight.saturating_sub(self.in_flight);
        let flight_size = (board.flight_size() + others).min(inner.controller.cwnd());
        let in_flight = board.in_flight() + others;
        inner.controller.on_congestion(&Congestion { now, flight_size, in_flight });
    }

    /// The retransmission timer of this stream went off, for a segment that was `sent` then;
    /// `flight_size` as [`Controller::on_timeout`] has it. If others were served in the meantime,
    /// the path is fine, and the stream had bad luck.
    pub(super) fn on_timeout(&mut self, now: Instant, sent: Instant, flight_size: Option<u64>) {
        let mut inner = self.flow.lock();
        let is_served =
            inner.meter.delivered_at > Some(sent) && inner.meter.delivered_at > self.delivered_at;
        if !(self.is_shared && is_served) {
            inner.controller.on_timeout(now, flight_size);
            inner.update_pacing(now);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.set_busy(false);
        if self.in_flight > 0 {
            let mut inner = self.flow.lock();
            inner.in_flight = inner.in_flight.saturating_sub(self.in_flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MSS: u16 = 1000;

    /// A stream that always has something to send.
    struct Sender {
        member: Membership,
        board: Scoreboard,
    }

    impl Sender {
        fn new(now: Instant, flow: &Macroflow) -> Self {
            let board = Scoreboard::new();
            let mut member = Membership::alone(now, CongestionControl::Bbr, MSS);
            member.move_to(flow.clone(), true, &board);
            member.set_busy(true);
            Self { member, board }
        }

        /// Sends until it may not; how many segments.
        fn send(&mut self, now: Instant) -> usize {
            let before = self.board.len();
            while self.member.room(now, MSS.into()) == Room::Now {
                let stamp = self.member.on_sent(now, MSS.into());
                self.board.push(now, MSS.into(), false, stamp);
                self.member.sync(&self.board);
            }
            self.board.len() - before
        }

        /// Everything that it has sent arrives.
        fn ack(&mut self, now: Instant) {
            let mut delivery = Delivery::default();
            self.board.ack(self.board.nxt(), &mut delivery);
            let rtt = delivery.sent_once.map(|sent| now - sent);
            self.member.on_delivery(now, &delivery, &self.board, (rtt, rtt), false);
        }
    }

    fn two() -> (Instant, Macroflow, Sender, Sender) {
        let now = Instant::now();
        let flow = Macroflow::new(now, CongestionControl::Bbr, MSS);
        let (one, two) = (Sender::new(now, &flow), Sender::new(now, &flow));
        (now, flow, one, two)
    }

    #[test]
    fn the_window_is_one_for_all_and_who_leaves_makes_room() {
        let (now, flow, mut one, mut two) = two();
        assert_eq!(one.send(now), 10);
        assert_eq!(two.send(now), 1, "the first segment finds a place in any window");
        assert!(!flow.has_room(now) && flow.resume_at().is_none(), "time does not help");
        drop(one);
        assert!(flow.has_room(now));
        assert_eq!(two.send(now), 9);
    }

    #[test]
    fn what_one_stream_learned_another_starts_with() {
        let (mut now, flow, mut one, _) = two();
        for _ in 0..6 {
            one.send(now);
            now += 20 * MS;
            one.ack(now);
        }
        let mut late = Sender::new(now, &flow);
        late.member.on_start(now, 200 * MS, None);
        assert!(late.member.cwnd() > 20_000, "{}", late.member.cwnd());
        assert!(late.send(now) >= 10, "a burst of the rate that goes with it");
        assert!(matches!(late.member.room(now, MSS.into()), Room::At(_)));
        assert!(flow.resume_at().is_some_and(|at| at > now));
    }

    #[test]
    fn a_stream_with_bad_luck_does_not_stop_the_others_and_a_dead_path_does() {
        let (start, _, mut one, mut two) = two();
        one.send(start);
        two.send(start);
        two.ack(start + 20 * MS);
        let before = one.member.cwnd();
        one.member.on_timeout(start + 200 * MS, start, Some(10_000));
        assert_eq!(one.member.cwnd(), before, "the other one was served");
        two.send(start + 30 * MS);
        two.member.on_timeout(start + 230 * MS, start + 30 * MS, Some(10_000));
        assert_eq!(two.member.cwnd(), u64::from(MSS));
    }

    #[test]
    fn another_path_is_learned_from_the_beginning() {
        let (mut now, flow, mut one, _) = two();
        for _ in 0..6 {
            one.send(now);
            now += 20 * MS;
            one.ack(now);
        }
        one.member.start_over(now);
        assert_eq!(one.member.cwnd(), 10_000);
        assert!(flow.has_room(now), "what was in flight on the old path is acknowledged");
    }
}
