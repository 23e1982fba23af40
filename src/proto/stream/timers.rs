//! The deadlines of a stream.

use std::time::Instant;

/// What a deadline is for; each says what happens when it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// SYN is repeated, or the dial gives up.
    Syn,
    /// Everything unacknowledged counts as lost.
    Rto,
    /// The last segment is sent again to provoke an acknowledgement (RFC 8985 s7).
    TailProbe,
    /// Segments that may only have been reordered count as lost (RFC 8985 s6.2).
    Reorder,
    /// A waiting acknowledgement is sent.
    DelayedAck,
    /// A short segment held back by Nagle's rule is sent.
    Nagle,
    /// Data held back by pacing is sent.
    Pace,
    /// A small segment is sent into a closed window.
    Persist,
    /// The peer is probed if it has been silent.
    KeepAlive,
    /// The stream fails if the peer has been silent.
    Idle,
    /// The stream fails if there has been no progress.
    User,
    /// The closed stream gives up on what is not delivered.
    Linger,
    /// The closed stream stops answering late packets.
    TimeWait,
}

impl Timer {
    const ALL: [Self; 13] = [
        Self::Syn,
        Self::Rto,
        Self::TailProbe,
        Self::Reorder,
        Self::DelayedAck,
        Self::Nagle,
        Self::Pace,
        Self::Persist,
        Self::KeepAlive,
        Self::Idle,
        Self::User,
        Self::Linger,
        Self::TimeWait,
    ];
}

/// One optional deadline for each [`Timer`].
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    at: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize] = Some(at);
    }

    /// Sets the deadline unless there is one already.
    pub(super) fn set_if_idle(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize].get_or_insert(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.at[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        self.at = Default::default();
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.at[timer as usize]
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.at.iter().copied().flatten().min()
    }

    /// Takes one deadline that has passed, in the order of [`Timer`].
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|t| self.get(*t).is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_timer_has_its_own_slot() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn expired_timers_come_once() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(Timer::Idle, now);
        timers.set(Timer::Rto, now + Duration::from_millis(1));
        timers.set_if_idle(Timer::Rto, now);
        assert_eq!(timers.next(), Some(now));
        assert_eq!(timers.pop_expired(now), Some(Timer::Idle));
        assert_eq!(timers.pop_expired(now), None);
        assert_eq!(timers.next(), Some(now + Duration::from_millis(1)));
    }
}
