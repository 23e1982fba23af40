//! Which path is taken: the one with the least score, with hysteresis; and what is taken while
//! none has been proven yet.

use std::time::{Duration, Instant};

use super::native::NativePaths;
use super::policy::{Conditions, is_local};
use super::single::SinglePath;
use super::{PathState, Via};

/// Least time on a path before a merely better one is taken.
const DWELL: Duration = Duration::from_secs(1);
/// A better path must be better by so much, or by a fifth.
const LEAST_GAIN: Duration = Duration::from_millis(5);
/// Probes without an answer after which an unproven address is not trusted with first data.
const TRUSTED_PROBES: u8 = 2;

impl NativePaths {
    /// Takes another path if there is reason to.
    pub(super) fn choose(&mut self, now: Instant, conditions: &Conditions) {
        let Some(current) = self.active_path().filter(|path| is_allowed(path, conditions)) else {
            let next = self.fallback(conditions);
            self.switch(now, next);
            return;
        };
        let next = match current.state {
            PathState::Valid => self.better(now, current, conditions),
            PathState::Suspect => self.moved(current, conditions).or_else(|| {
                self.verdict_at().filter(|at| *at <= now)?;
                let since = current.suspect_since;
                self.best(conditions, |path| path.last_received >= since)
            }),
            PathState::Probing if may_carry(current) => None,
            _ => self.fallback(conditions).filter(|next| *next != current.via),
        };
        if next.is_some() {
            self.switch(now, next);
        }
    }

    /// Before something is sent. A path that was silent for as long as a NAT remembers may be
    /// gone: the relay carries the first frames, while all addresses are probed.
    pub(super) fn prepare(&mut self, now: Instant, conditions: &Conditions) {
        let Some(active) = self.active_path() else { return self.choose(now, conditions) };
        let Via::Direct(to) = active.via else { return };
        let heard = active.last_received.max(active.last_answer);
        let is_stale = active.is_proven
            && matches!(active.state, PathState::Valid | PathState::Dead)
            && heard.is_none_or(|at| at + conditions.lifetime < now)
            && !is_local(to.addr.ip());
        if !is_stale || !conditions.has_relay {
            return;
        }
        for path in &mut self.paths {
            if path.is_valid() && !path.is_relay() {
                path.state = PathState::Suspect;
                path.suspect_since = Some(now);
            }
            path.probe(now, 4);
        }
        self.used_at = Some(now);
        self.begin_rounds(now);
        self.switch(now, Some(Via::Relay));
        self.has_lost = false;
    }

    /// Where the peer has moved to: its frames come from there, and none from where it was.
    fn moved(&self, current: &SinglePath, conditions: &Conditions) -> Option<Via> {
        self.best(conditions, |path| {
            !path.is_relay()
                && !current.is_relay()
                && path.first_received > current.last_received
                && path.last_answer > current.last_answer
        })
    }

    /// A path that works, and better than the one in use, which works as well.
    fn better(&self, now: Instant, current: &SinglePath, conditions: &Conditions) -> Option<Via> {
        if let Some(moved) = self.moved(current, conditions) {
            return Some(moved);
        }
        let best = self.find(self.best(conditions, SinglePath::is_settled)?)?;
        let (ours, theirs) = (current.score(), best.score());
        let gain = LEAST_GAIN.max(ours / 5);
        let has_dwelt = self.active_since.is_none_or(|at| now >= at + DWELL);
        (theirs + gain < ours && (has_dwelt || current.is_relay())).then_some(best.via)
    }

    /// While the path in use, if any, does not work: what does, or what most probably will.
    fn fallback(&self, conditions: &Conditions) -> Option<Via> {
        if let Some(best) = self.best(conditions, |_| true) {
            return Some(best);
        }
        // Where the peer was heard from a moment ago.
        let heard = self
            .paths
            .iter()
            .filter(|path| is_allowed(path, conditions) && !path.is_proven && may_carry(path))
            .max_by_key(|path| path.allowance());
        if let Some(heard) = heard {
            return Some(heard.via);
        }
        if conditions.has_relay {
            return Some(Via::Relay);
        }
        let proven = self
            .paths
            .iter()
            .filter(|path| is_allowed(path, conditions) && path.is_proven)
            .max_by_key(|path| path.last_received);
        proven.map(|path| path.via)
    }

    /// Of the paths that work, the one with the least score.
    fn best(&self, conditions: &Conditions, filter: impl Fn(&SinglePath) -> bool) -> Option<Via> {
        self.paths
            .iter()
            .filter(|path| path.is_valid() && is_allowed(path, conditions) && filter(path))
            .min_by_key(|path| path.score())
            .map(|path| path.via)
    }

    fn switch(&mut self, now: Instant, next: Option<Via>) {
        if self.active == next {
            return;
        }
        self.has_lost |= self.active_path().is_some_and(|path| !path.is_valid());
        self.active = next;
        self.active_since = Some(now);
    }
}

fn is_allowed(path: &SinglePath, conditions: &Conditions) -> bool {
    match path.via {
        Via::Direct(to) => conditions.allows(to),
        Via::Relay => conditions.has_relay,
    }
}

/// Whether first data may go to an address that has proved nothing.
fn may_carry(path: &SinglePath) -> bool {
    path.allowance() > 0 && path.series.sent() <= TRUSTED_PROBES && path.state != PathState::Dead
}
