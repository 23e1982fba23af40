//! Who sends next: deficit round robin in bytes (Shreedhar and Varghese), newcomers first
//! (RFC 8290 s4.1).
//!
//! Who begins to send goes before those who go on, for one quantum. So a request does not wait
//! for the bulk streams around it, and nobody has to say which kind it is: whoever keeps sending
//! uses its quantum up and joins the others.
//!
//! Who has something to send that nothing takes at the moment (a window that is shared is full) is
//! [held](Turns::hold), in a line of its own: one [goes on](Turns::resume) when one can, in the
//! order in which they came.

use std::collections::VecDeque;

/// Bytes in one turn. A segment may be larger; its sender then waits for so many turns more.
const QUANTUM: i64 = 16 * 1024;

/// What a sender keeps about its turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    place: Place,
    /// Bytes it may still send.
    credit: i64,
    /// It is in the line of those that are held.
    is_held: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Has nothing to send, as far as is known.
    #[default]
    Out,
    /// Has begun to send.
    New,
    /// Has had its first turn.
    Old,
}

/// Where the senders are; each keeps its [`Turn`] itself.
pub(super) trait Senders<K> {
    /// The turn of a sender, unless it is gone.
    fn turn(&mut self, key: K) -> Option<&mut Turn>;
}

/// The senders that have something to send, by their keys.
#[derive(Debug)]
pub(super) struct Turns<K> {
    new: VecDeque<K>,
    old: VecDeque<K>,
    held: VecDeque<K>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { new: VecDeque::new(), old: VecDeque::new(), held: VecDeque::new() }
    }
}

impl<K: Copy> Turns<K> {
    /// Something is there to be sent, perhaps. Nothing happens to who waits already.
    pub(super) fn enter(&mut self, key: K, turn: &mut Turn) {
        if turn.place != Place::Out {
            return;
        }
        if turn.is_held {
            // It was here before; what it has to send now is something else.
            turn.place = Place::Old;
            self.old.push_back(key);
        } else {
            *turn = Turn { place: Place::New, credit: QUANTUM, is_held: false };
            self.new.push_back(key);
        }
    }

    /// Whose turn it is. A sender that is gone is forgotten.
    pub(super) fn next(&mut self, senders: &mut impl Senders<K>) -> Option<K> {
        loop {
            let queue = if self.new.is_empty() { &mut self.old } else { &mut self.new };
            let key = *queue.front()?;
            match senders.turn(key) {
                Some(turn) if turn.credit > 0 => return Some(key),
                Some(turn) => {
                    turn.credit += QUANTUM;
                    turn.place = Place::Old;
                    queue.pop_front();
                    self.old.push_back(key);
                }
                None => {
                    queue.pop_front();
                }
            }
        }
    }

    /// The one whose turn it is has something to send, but may not: it waits in line.
    pub(super) fn hold(&mut self, key: K, turn: &mut Turn) {
        match std::mem::replace(&mut turn.place, Place::Out) {
            Place::New => self.new.pop_front(),
            Place::Old => self.old.pop_front(),
            Place::Out => None,
        };
        if !std::mem::replace(&mut turn.is_held, true) {
            self.held.push_back(key);
        }
    }

    /// The first in line goes on, with what it had left of its turn. `false`: there is none.
    pub(super) fn resume(&mut self, senders: &mut impl Senders<K>) -> bool {
        while let Some(key) = self.held.pop_front() {
            let Some(turn) = senders.turn(key) else { continue };
            turn.is_held = false;
            if turn.place == Place::Out {
                turn.place = Place::Old;
                self.old.push_back(key);
            }
            return true;
        }
        false
    }

    /// Whether anybody is in line, perhaps one that is gone.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// The one whose turn it is, as [`next`](Self::next) said, has nothing to send. While others
    /// wait it keeps its place behind them: coming back at once does not make it a newcomer.
    pub(super) fn rest(&mut self, turn: &mut Turn) {
        let key = match turn.place {
            Place::New => self.new.pop_front(),
            Place::Old => self.old.pop_front(),
            Place::Out => None,
        };
        turn.place = match (turn.place, key) {
            (Place::New, Some(key)) if !self.old.is_empty() => {
                self.old.push_back(key);
                Place::Old
            }
            _ => Place::Out,
        };
    }
}

impl Turn {
    /// Whether it is in the line of those that are held.
    pub(super) fn is_held(self) -> bool {
        self.is_held
    }

    /// It has sent this much.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn, the size of datagrams, bytes left.
    type Sender = (Turn, usize, usize);

    impl Senders<usize> for Vec<Sender> {
        fn turn(&mut self, key: usize) -> Option<&mut Turn> {
            self.get_mut(key).map(|(turn, ..)| turn)
        }
    }

    struct Line {
        turns: Turns<usize>,
        senders: Vec<Sender>,
    }

    impl Line {
        fn new(senders: &[(usize, usize)]) -> Self {
            let senders = senders.iter().map(|(size, left)| (Turn::default(), *size, *left));
            let mut line = Self { turns: Turns::default(), senders: senders.collect() };
            (0..line.senders.len()).for_each(|key| line.give(key, 0));
            line
        }

        fn give(&mut self, key: usize, bytes: usize) {
            let (turn, _, left) = &mut self.senders[key];
            *left += bytes;
            self.turns.enter(key, turn);
        }

        /// Sends one datagram; whose, and how large.
        fn send(&mut self) -> Option<(usize, usize)> {
            loop {
                let key = self.turns.next(&mut self.senders)?;
                let (turn, size, left) = &mut self.senders[key];
                let sent = (*left).min(*size);
                if sent == 0 {
                    self.turns.rest(turn);
                    continue;
                }
                *left -= sent;
                turn.charge(sent);
                return Some((key, sent));
            }
        }
    }

    #[test]
    fn bulk_senders_share_in_bytes_whatever_their_datagrams_are() {
        let mut line = Line::new(&[(1_400, 1 << 30), (60_000, 1 << 30), (300, 1 << 30)]);
        let mut sent = [0; 3];
        for _ in 0..50_000 {
            let (key, bytes) = line.send().unwrap();
            sent[key] += bytes;
        }
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least < 100_000, "{sent:?}");
    }

    #[test]
    fn who_begins_goes_before_who_goes_on() {
        for size in [1_400, 60_000] {
            let mut line = Line::new(&[(size, 1 << 30), (size, 1 << 30), (100, 0)]);
            for _ in 0..100 {
                line.send();
            }
            line.give(2, 64);
            assert_eq!(line.send(), Some((2, 64)), "{size}");
        }
    }

    #[test]
    fn who_comes_again_and_again_gets_no_more_than_its_share() {
        let mut line = Line::new(&[(1_400, 1 << 30), (1_400, 0)]);
        let mut sent = [0; 2];
        for _ in 0..10_000 {
            line.give(1, 1_400);
            let (key, bytes) = line.send().unwrap();
            sent[key] += bytes;
        }
        assert!(sent[0] * 10 > sent[1] * 9, "{sent:?}");
    }

    #[test]
    fn who_is_held_goes_on_in_order_and_behind_newcomers() {
        let mut line = Line::new(&[(100, 1_000), (100, 1_000), (64, 0)]);
        for key in 0..2 {
            assert_eq!(line.turns.next(&mut line.senders), Some(key));
            line.turns.hold(key, &mut line.senders[key].0);
        }
        assert_eq!(line.send(), None, "the third has nothing");
        // Something else to send, and held once more: it keeps its place in line.
        line.give(1, 0);
        assert_eq!(line.turns.next(&mut line.senders), Some(1));
        line.turns.hold(1, &mut line.senders[1].0);
        assert!(line.turns.resume(&mut line.senders));
        line.give(2, 64);
        assert_eq!((line.send(), line.send()), (Some((2, 64)), Some((0, 100))));
        assert!(line.turns.resume(&mut line.senders) && !line.turns.resume(&mut line.senders));
        assert!(!line.turns.holds_any());
    }

    #[test]
    fn nobody_waits_once_everything_is_sent() {
        let mut line = Line::new(&[(1_400, 5_000), (60_000, 100_000), (64, 64)]);
        let mut total = 0;
        while let Some((_, bytes)) = line.send() {
            total += bytes;
        }
        assert_eq!(total, 105_064);
        assert!(line.turns.new.is_empty() && line.turns.old.is_empty());
        assert!(line.senders.iter().all(|(turn, ..)| turn.place == Place::Out));
    }
}
