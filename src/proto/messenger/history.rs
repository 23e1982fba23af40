//! What a peer has sent already: the memory that makes "at least once" on the wire "once" for the
//! application.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::wire::frames::message::MessageFrame;

/// Processes of one peer that are remembered; a restarted peer is a new one.
const EPOCHS: usize = 2;
/// Ids above the floor that are remembered. Gaps come from messages that were cancelled.
const SEEN_LIMIT: usize = 16_384;
/// How long a reply is kept for a requester whose lane broke.
const REPLY_LIFETIME: Duration = Duration::from_secs(30);
/// Bytes of replies kept for one process of a peer.
const REPLY_BYTES: usize = 8 << 20;

/// What is known of the requests of a peer.
#[derive(Debug)]
pub(super) enum Answer {
    /// The application has it; the ticket.
    Pending(u64),
    /// It was answered so.
    Done(MessageFrame),
}

/// Memory of one peer.
#[derive(Debug, Default)]
pub(super) struct History {
    epochs: VecDeque<(u64, Epoch)>,
}

#[derive(Debug, Default)]
pub(super) struct Epoch {
    /// Every id up to here was seen, or is too old to matter.
    floor: u64,
    seen: BTreeSet<u64>,
    answers: HashMap<u64, Answer>,
    replies: VecDeque<(Instant, u64, usize)>,
    reply_bytes: usize,
}

impl History {
    /// The memory of one process of the peer.
    pub(super) fn epoch(&mut self, epoch: u64) -> &mut Epoch {
        let found = self.epochs.iter().position(|(known, _)| *known == epoch);
        let index = found.unwrap_or_else(|| {
            if self.epochs.len() >= EPOCHS {
                self.epochs.pop_front();
            }
            self.epochs.push_back((epoch, Epoch::default()));
            self.epochs.len() - 1
        });
        &mut self.epochs[index].1
    }
}

impl Epoch {
    /// Notes an id; `false` if it was noted before.
    pub(super) fn note(&mut self, id: u64) -> bool {
        if id <= self.floor || !self.seen.insert(id) {
            return false;
        }
        while self.seen.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        while self.seen.len() > SEEN_LIMIT {
            if let Some(lowest) = self.seen.pop_first() {
                self.floor = lowest;
            }
        }
        true
    }

    pub(super) fn answer(&self, id: u64) -> Option<&Answer> {
        self.answers.get(&id)
    }

    pub(super) fn set_pending(&mut self, id: u64, ticket: u64) {
        self.answers.insert(id, Answer::Pending(ticket));
    }

    /// Keeps a reply, for a while and within bounds.
    pub(super) fn set_done(&mut self, now: Instant, id: u64, reply: MessageFrame) {
        let bytes = reply.encoded_len();
        self.answers.insert(id, Answer::Done(reply));
        self.replies.push_back((now, id, bytes));
        self.reply_bytes += bytes;
        while let Some(&(at, oldest, bytes)) = self.replies.front() {
            if self.reply_bytes <= REPLY_BYTES && now < at + REPLY_LIFETIME {
                break;
            }
            self.replies.pop_front();
            self.reply_bytes -= bytes;
            self.answers.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.answers.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_in_any_order() {
        let mut epoch = Epoch::default();
        assert!([3, 1, 2, 5].into_iter().all(|id| epoch.note(id)));
        assert!(![1, 2, 3, 5, 0].into_iter().any(|id| epoch.note(id)));
        assert_eq!((epoch.floor, epoch.seen.len()), (3, 1), "a run without gaps costs nothing");
    }

    #[test]
    fn memory_of_gaps_is_bounded() {
        let mut epoch = Epoch::default();
        for id in (2..200_000).step_by(2) {
            assert!(epoch.note(id));
        }
        assert_eq!(epoch.seen.len(), SEEN_LIMIT);
        assert!(!epoch.note(1), "too old to tell: better lost than twice");
    }

    #[test]
    fn replies_are_kept_within_bounds() {
        let (mut epoch, now) = (Epoch::default(), Instant::now());
        let reply = |len| {
            let mut frame = MessageFrame::ack(1);
            frame.payload = vec![0; len].into();
            frame
        };
        epoch.set_done(now, 1, reply(REPLY_BYTES / 2));
        epoch.set_done(now, 2, reply(REPLY_BYTES / 2));
        assert!(epoch.answer(1).is_none() && epoch.answer(2).is_some());
        epoch.set_done(now + REPLY_LIFETIME, 3, reply(1));
        assert!(epoch.answer(2).is_none() && epoch.answer(3).is_some());
    }

    #[test]
    fn a_restarted_peer_begins_anew() {
        let mut history = History::default();
        assert!(history.epoch(7).note(1) && !history.epoch(7).note(1));
        assert!(history.epoch(8).note(1));
        assert!(!history.epoch(7).note(1), "the one before is remembered");
    }
}
