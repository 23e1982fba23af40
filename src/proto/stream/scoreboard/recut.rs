//! Segments that have become too large for the path.

use super::{Scoreboard, SentSegment};

impl Scoreboard {
    /// Cuts what is too large for segments of `max` bytes, since the path does not carry it any
    /// more: pieces take its place, lost, to be sent again. `cut` says how much of a number of
    /// bytes from an offset makes the next piece, all of them if it likes. Returns whether there
    /// were any such segments.
    pub(in crate::proto::stream) fn recut(
        &mut self,
        max: u32,
        mut cut: impl FnMut(u64, u32) -> u32,
    ) -> bool {
        let is_too_large = |segment: &SentSegment| segment.len > max && !segment.sacked;
        let Some(first) = self.segments.iter().position(is_too_large) else { return false };
        for segment in self.segments.split_off(first) {
            if !is_too_large(&segment) {
                self.segments.push_back(segment);
                continue;
            }
            if segment.lost {
                self.lost.remove(&segment.start);
            } else {
                self.in_flight -= u64::from(segment.len);
            }
            let end = segment.end();
            let mut start = segment.start.max(self.una);
            while start < end {
                let most = u32::try_from(end - start).unwrap_or(u32::MAX).min(max);
                let len = cut(start, most).clamp(1, most);
                self.lost.insert(start);
                self.segments.push_back(SentSegment { start, len, lost: true, ..segment.clone() });
                start += u64::from(len);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::{Delivery, Stamp};
    use super::*;

    fn board(segments: u32) -> (Scoreboard, Instant) {
        let now = Instant::now();
        let mut board = Scoreboard::new();
        (0..segments).for_each(|_| board.push(now, 10, false, Stamp::first(now)));
        (board, now)
    }

    fn all(board: &Scoreboard) -> Vec<(u64, u32, bool)> {
        board.segments.iter().map(|s| (s.start, s.len, s.lost)).collect()
    }

    #[test]
    fn what_is_too_large_is_cut_into_lost_pieces_but_not_what_has_arrived() {
        let (mut board, now) = board(3);
        let mut d = Delivery::default();
        board.push(now, 3, false, Stamp::first(now));
        board.sack(11, 21, &mut d);
        board.ack(4, &mut d);
        assert!(board.recut(4, |_, len| len));
        let pieces = [(4, 4, true), (8, 3, true), (11, 10, false)];
        let rest = [(21, 4, true), (25, 4, true), (29, 2, true), (31, 3, false)];
        assert_eq!(all(&board), [&pieces[..], &rest[..]].concat());
        assert_eq!((board.in_flight(), board.first_lost(), board.lost.len()), (3, Some(4), 5));
        assert!(!board.recut(4, |_, len| len), "once");

        board.retransmit(now, 4, Stamp::first(now));
        board.sack(4, 8, &mut d);
        board.sack(21, 31, &mut d); // the whole segment had arrived
        assert_eq!((board.in_flight(), board.first_lost()), (3, Some(8)));
        board.ack(34, &mut d);
        assert!(board.is_empty() && board.lost.is_empty() && board.in_flight() == 0);
        assert_eq!(d.bytes, 30, "a part of a segment is not counted");
    }

    #[test]
    fn pieces_are_cut_where_the_caller_wants_and_again_inside() {
        let (mut board, _) = board(1);
        board.recut(5, |start, len| if start == 6 { 1 } else { len });
        assert_eq!(all(&board), [(1, 5, true), (6, 1, true), (7, 4, true)]);
        board.recut(2, |_, len| len);
        let starts: Vec<u64> = board.segments.iter().map(|s| s.start).collect();
        assert_eq!(starts, [1, 3, 5, 6, 7, 9]);
        assert_eq!((board.lost.len(), board.in_flight()), (6, 0));
    }
}
