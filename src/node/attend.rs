//! An event loop that is not ours takes part: it receives on its own thread, and sends in batches.
//!
//! # Why
//! Without it, an answer for an idle Python program wakes a thread of the runtime, which wakes the
//! loop: on an idle machine two wake-ups cost more than all the protocol between them. So the loop
//! watches the socket too. As long as it keeps coming back it holds a **lease**, and the driver
//! does not wait for arrivals; when the loop is busy for longer than the lease, or has nothing to
//! do, the driver does, so acknowledgements never wait for a program.
//!
//! **Gathering**: what the loop sends in one go (the replies to all the requests that came
//! together, the next requests of all the tasks that were answered together) shares segments and
//! one system call. It ends when the loop says so, and never lasts longer than [`CORK_LIMIT`].

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Node;
use super::core::Shared;
use crate::net::clock;
use crate::proto::path::SocketId;

/// The driver leaves arrivals to the loop for this long after its last visit.
const LEASE: Duration = Duration::from_millis(5);
/// Longest time that something to be sent waits for more of it. Short, so that a batch of requests
/// leaves in parts and the other side works on one while this one makes the next: with all in one
/// part, the two sides take turns.
const CORK_LIMIT: Duration = Duration::from_micros(60);
/// Two verbs within this time are taken for parts of one batch.
const SAME_BATCH: Duration = Duration::from_micros(30);
/// Bytes within a lease from which on receiving is worth a thread of its own.
const BULK: usize = 128 << 10;
/// The loop leaves arrivals to the driver for this long after that.
const BULK_PAUSE: Duration = Duration::from_millis(50);
/// The same rate over the pause: with as much it goes on.
const BULK_IN_PAUSE: usize = 10 * BULK;

/// What came of [`Node::attend`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    /// `false`: there is so much to receive that the loop should leave it to the node, until
    /// [`Node::poll_attend`].
    pub stays: bool,
    /// Something was received.
    pub received: bool,
}

/// When something is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    /// At once.
    Now,
    /// With what has been gathered.
    Gathered,
    /// A batch begins with it; the loop must be told to end it.
    First,
}

/// What is known of the loop.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// End of its lease.
    until: Option<Instant>,
    gathering: Option<Instant>,
    last_verb: Option<Instant>,
    /// Bytes received since `counting_since`.
    bytes: usize,
    counting_since: Option<Instant>,
    /// There is too much to receive for the loop until then.
    bulk_until: Option<Instant>,
    /// Wakes the loop when it may receive again.
    waker: Option<Waker>,
}

impl Attendance {
    /// The end of the lease, if it has not passed.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.bulk_until
    }

    /// The loop is here; until it ends the batch, what it sends is gathered.
    fn visit(&mut self, now: Instant) {
        self.until = self.bulk_until.is_none().then(|| now + LEASE);
        self.gathering = Some(now);
    }

    pub(super) fn is_gathering(&self, now: Instant) -> bool {
        self.gathering.is_some_and(|since| now < since + CORK_LIMIT)
    }

    /// The loop sends something.
    pub(super) fn verb(&mut self, now: Instant) -> Leave {
        let last = self.last_verb.replace(now);
        match self.gathering {
            Some(since) if now < since + CORK_LIMIT => Leave::Gathered,
            Some(_) => {
                // Enough was gathered; the loop goes on.
                self.gathering = Some(now);
                Leave::Now
            }
            None if last.is_some_and(|at| now < at + SAME_BATCH) => {
                self.gathering = Some(now);
                Leave::First
            }
            None => Leave::Now,
        }
    }

    /// Counts what was received; `true` if that has become too much for the loop.
    pub(super) fn received(&mut self, now: Instant, bytes: usize) -> bool {
        self.bytes += bytes;
        if self.counting_since.is_none_or(|since| now >= since + LEASE) && self.bulk_until.is_none()
        {
            self.bytes = bytes;
            self.counting_since = Some(now);
        }
        let is_bulk = self.bytes >= BULK && self.until(now).is_some();
        if is_bulk {
            self.leave(now);
        }
        is_bulk
    }

    fn leave(&mut self, now: Instant) {
        self.until = None;
        self.start_pause(now);
    }

    fn start_pause(&mut self, now: Instant) {
        self.bulk_until = Some(now + BULK_PAUSE);
        self.bytes = 0;
    }

    /// Ends the pause if there was little to receive in it.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<Waker> {
        if self.bulk_until.is_none_or(|until| now < until) {
            return None;
        }
        if self.bytes >= BULK_IN_PAUSE {
            self.start_pause(now);
            return None;
        }
        self.bulk_until = None;
        self.waker.take()
    }
}

impl Node {
    /// For an event loop that watches [`descriptor`](Self::descriptor): receives what is there, on
    /// this thread. What is sent from now on is gathered until
    /// [`send_gathered`](Self::send_gathered).
    pub fn attend(&self) -> Visit {
        self.inner.shared.receive_here()
    }

    /// The loop leaves arrivals to the node, until [`poll_attend`](Self::poll_attend): nothing of
    /// what it received was for it.
    pub fn leave_arrivals(&self) {
        self.inner.shared.look(|core| core.attendance.leave(clock::now()));
        self.inner.shared.ring();
    }

    /// Sends what was gathered.
    pub fn send_gathered(&self) {
        self.inner.shared.act(|core, _| core.attendance.gathering = None);
    }

    /// Ready when an event loop may receive.
    pub fn poll_attend(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.shared.look(|core| {
            if core.attendance.bulk_until.is_none() || core.is_closed {
                return Poll::Ready(());
            }
            core.attendance.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// What to watch; it must not be closed, nor watched after the node was closed.
    #[cfg(unix)]
    #[must_use]
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        self.inner.shared.udp.descriptor()
    }
}

impl Shared {
    /// Receives for the attending loop; never waits.
    fn receive_here(&self) -> Visit {
        // If it is taken, the driver is receiving.
        let mut batch = self.try_batch();
        let received = batch.as_mut().is_some_and(|batch| self.udp.try_recv(batch).is_ok());
        let (stays, was_bulk) = self.act_gathering(|core, now| {
            core.attendance.visit(now);
            if let (true, Some(batch)) = (received, &mut batch) {
                core.take_in(now, SocketId::MAIN, batch);
            }
            (core.attendance.bulk_until.is_none(), core.attendance.until.is_none())
        });
        if was_bulk {
            self.ring();
        }
        Visit { stays, received }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_lease_ends_when_the_loop_does_not_come_back() {
        let (mut attendance, start) = (Attendance::default(), Instant::now());
        assert_eq!(attendance.until(start), None);
        attendance.visit(start);
        assert_eq!(attendance.until(start + ms(1)), Some(start + LEASE));
        attendance.visit(start + ms(4));
        assert_eq!(attendance.until(start + ms(6)), Some(start + ms(4) + LEASE));
        assert_eq!(attendance.until(start + ms(9)), None);
    }

    #[test]
    fn one_verb_leaves_at_once_and_a_burst_is_gathered() {
        let (mut attendance, start) = (Attendance::default(), Instant::now());
        assert_eq!(attendance.verb(start), Leave::Now);
        assert_eq!(attendance.verb(start + ms(1)), Leave::Now, "nothing near it");
        let soon = start + ms(1) + SAME_BATCH / 2;
        assert_eq!(attendance.verb(soon), Leave::First);
        assert_eq!(attendance.verb(soon), Leave::Gathered);
        assert_eq!(attendance.verb(soon + CORK_LIMIT), Leave::Now, "not for ever");
        assert_eq!(attendance.verb(soon + CORK_LIMIT), Leave::Gathered);
    }

    #[test]
    fn much_to_receive_goes_to_the_driver_until_there_is_little_again() {
        let (mut attendance, start) = (Attendance::default(), Instant::now());
        assert!(!attendance.received(start, BULK), "nobody attends");
        attendance.visit(start + LEASE);
        let now = start + LEASE;
        assert!(!attendance.received(now, BULK / 2));
        assert!(attendance.received(now + ms(1), BULK / 2));
        assert_eq!(attendance.until(now + ms(1)), None);
        attendance.visit(now + ms(2));
        assert_eq!(attendance.until(now + ms(2)), None, "not during the pause");
        let pause_ends = attendance.deadline().unwrap();
        attendance.received(now + ms(3), BULK_IN_PAUSE);
        assert!(attendance.on_time(pause_ends).is_none());
        let later = attendance.deadline().unwrap();
        assert_eq!(later, pause_ends + BULK_PAUSE, "it goes on");
        attendance.received(pause_ends + ms(1), BULK_IN_PAUSE - 1);
        attendance.on_time(later);
        assert_eq!(attendance.deadline(), None);
    }
}
