//! When a peer may be tried again: an attempt costs two thousand packets, so failures are
//! remembered, for as long as the network stays the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::wire::NodeId;
use crate::wire::punch::StopReason;

/// After the first failure; twice as long after each further one.
const AFTER_FAILURE: Duration = Duration::from_secs(5 * 60);
/// But no longer than `AFTER_FAILURE` doubled this often.
const MAX_DOUBLINGS: u32 = 4;
/// A path was found, and then lost.
const AFTER_SUCCESS: Duration = Duration::from_secs(30);
/// The peer has another attempt under way.
const AFTER_BUSY: Duration = Duration::from_secs(30);
/// Such NATs are not worth asking again.
const AFTER_HOPELESS: Duration = Duration::from_secs(30 * 60);
/// We follow a peer's wish no more often than this.
const BETWEEN_WISHES: Duration = Duration::from_secs(60);
/// Peers remembered; when there are more, none is tried until some have been forgotten.
const MAX_PEERS: usize = 1_024;

/// What is remembered of all peers.
#[derive(Debug, Default)]
pub(super) struct Histories {
    peers: HashMap<NodeId, History>,
}

#[derive(Clone, Copy, Debug, Default)]
struct History {
    /// We do not ask before that.
    ask_at: Option<Instant>,
    /// We do not do what it asks before that.
    answer_at: Option<Instant>,
    failures: u32,
}

impl History {
    fn is_over(&self, now: Instant) -> bool {
        let forget = AFTER_FAILURE * 2u32.pow(MAX_DOUBLINGS);
        let over = |at: Option<Instant>| at.is_none_or(|at| now >= at);
        let failures_count = self.failures > 0 && self.ask_at.is_some_and(|at| now < at + forget);
        over(self.ask_at) && over(self.answer_at) && !failures_count
    }
}

impl Histories {
    /// Whether we may ask the peer.
    pub(super) fn may_ask(&self, now: Instant, node: NodeId) -> bool {
        self.peers.get(&node).is_none_or(|history| history.ask_at.is_none_or(|at| now >= at))
    }

    /// Whether we may do what the peer asks. If so, not again for a while.
    pub(super) fn take_wish(&mut self, now: Instant, node: NodeId) -> bool {
        let Some(history) = self.of(now, node) else { return false };
        if history.answer_at.is_some_and(|at| now < at) {
            return false;
        }
        history.answer_at = Some(now + BETWEEN_WISHES);
        true
    }

    /// An attempt has ended.
    pub(super) fn on_end(&mut self, now: Instant, node: NodeId, reason: StopReason) {
        let Some(history) = self.of(now, node) else { return };
        let pause = match reason {
            StopReason::Done => {
                history.failures = 0;
                AFTER_SUCCESS
            }
            StopReason::Busy => AFTER_BUSY,
            StopReason::Hopeless => AFTER_HOPELESS,
            StopReason::Failed => {
                let doublings = history.failures.min(MAX_DOUBLINGS);
                history.failures += 1;
                AFTER_FAILURE * 2u32.pow(doublings)
            }
        };
        history.ask_at = Some(now + pause);
    }

    /// Another network: nothing of this is true any more.
    pub(super) fn forget(&mut self) {
        self.peers.clear();
    }

    fn of(&mut self, now: Instant, node: NodeId) -> Option<&mut History> {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&node) {
            self.peers.retain(|_, history| !history.is_over(now));
            if self.peers.len() >= MAX_PEERS {
                return None;
            }
        }
        Some(self.peers.entry(node).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);

    /// How long until we may ask again.
    fn pause(histories: &Histories, now: Instant) -> Duration {
        let minutes = (0..=200).map(|half| Duration::from_secs(30 * half));
        minutes.into_iter().find(|pause| histories.may_ask(now + *pause, NODE)).unwrap()
    }

    #[test]
    fn a_peer_that_cannot_be_reached_is_tried_ever_more_seldom() {
        let (mut histories, now) = (Histories::default(), Instant::now());
        assert!(histories.may_ask(now, NODE));
        let pauses = [5, 10, 20, 40, 80, 80].map(|minutes| Duration::from_secs(60 * minutes));
        for expected in pauses {
            histories.on_end(now, NODE, StopReason::Failed);
            assert_eq!(pause(&histories, now), expected);
        }
        histories.on_end(now, NODE, StopReason::Done);
        assert_eq!(pause(&histories, now), AFTER_SUCCESS);
        histories.on_end(now, NODE, StopReason::Failed);
        assert_eq!(pause(&histories, now), AFTER_FAILURE, "it starts afresh");
        histories.forget();
        assert!(histories.may_ask(now, NODE), "another network");
    }

    #[test]
    fn a_peer_cannot_keep_us_busy() {
        let (mut histories, now) = (Histories::default(), Instant::now());
        assert!(histories.take_wish(now, NODE));
        assert!(!histories.take_wish(now + BETWEEN_WISHES / 2, NODE));
        assert!(histories.take_wish(now + BETWEEN_WISHES, NODE));
    }

    #[test]
    fn memory_is_bounded_and_what_matters_stays() {
        let (mut histories, now) = (Histories::default(), Instant::now());
        histories.on_end(now, NODE, StopReason::Failed);
        let others = (100..).map(NodeId);
        let taken = others.take(2_000).filter(|node| histories.take_wish(now, *node)).count();
        assert_eq!(taken, MAX_PEERS - 1);
        assert!(histories.take_wish(now + BETWEEN_WISHES, NodeId(5_000)), "wishes expire");
        assert!(!histories.may_ask(now + BETWEEN_WISHES, NODE), "the failure is remembered");
    }
}
