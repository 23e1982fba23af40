//! A set of offset ranges, merged as they touch. Both ends of SACK need one.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent ranges `start..end`.
#[derive(Debug, Clone, Default)]
pub(super) struct RangeSet {
    ends: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds `start..end`, merging what it touches.
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        if let Some((&left, &right)) = self.ends.range(..=start).next_back()
            && right >= start
        {
            start = left;
            end = end.max(right);
        }
        while let Some((&left, &right)) = self.ends.range(start..=end).next() {
            self.ends.remove(&left);
            end = end.max(right);
        }
        self.ends.insert(start, end);
    }

    /// Forgets everything below `offset`.
    pub(super) fn remove_below(&mut self, offset: u64) {
        while let Some(first) = self.ends.first_entry() {
            if *first.key() >= offset {
                return;
            }
            let end = first.remove();
            if end > offset {
                self.ends.insert(offset, end);
            }
        }
    }

    /// The first part of `start..end` that is not in the set.
    pub(super) fn next_gap(&self, mut start: u64, end: u64) -> Option<(u64, u64)> {
        if let Some((_, &right)) = self.ends.range(..=start).next_back() {
            start = start.max(right);
        }
        if start >= end {
            return None;
        }
        let gap_end = self.ends.range(start..end).next().map_or(end, |(&left, _)| left);
        Some((start, gap_end))
    }

    /// The range that holds `offset`.
    pub(super) fn containing(&self, offset: u64) -> Option<(u64, u64)> {
        let (&left, &right) = self.ends.range(..=offset).next_back()?;
        (right > offset).then_some((left, right))
    }

    /// Ranges that start at `offset` or later, lowest first.
    pub(super) fn iter_from(&self, offset: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ends.range(offset..).map(|(&left, &right)| (left, right))
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(set: &RangeSet) -> Vec<(u64, u64)> {
        set.iter_from(0).collect()
    }

    #[test]
    fn touching_ranges_merge() {
        let mut set = RangeSet::default();
        set.insert(10, 20);
        set.insert(30, 40);
        set.insert(20, 25);
        assert_eq!(all(&set), [(10, 25), (30, 40)]);
        set.insert(5, 35);
        assert_eq!(all(&set), [(5, 40)]);
        set.insert(6, 7);
        set.insert(9, 9);
        assert_eq!(all(&set), [(5, 40)]);
    }

    #[test]
    fn gaps_and_removal() {
        let mut set = RangeSet::default();
        set.insert(10, 20);
        set.insert(30, 40);
        assert_eq!(set.next_gap(0, 50), Some((0, 10)));
        assert_eq!(set.next_gap(12, 50), Some((20, 30)));
        assert_eq!(set.next_gap(12, 20), None);
        assert_eq!(set.next_gap(35, 38), None);
        assert_eq!(set.next_gap(45, 50), Some((45, 50)));
        assert_eq!(set.containing(19), Some((10, 20)));
        assert_eq!(set.containing(20), None);
        set.remove_below(15);
        assert_eq!(all(&set), [(15, 20), (30, 40)]);
        set.remove_below(40);
        assert!(set.is_empty());
    }
}
