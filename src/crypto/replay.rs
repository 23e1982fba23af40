//! The replay window: which of the last 256 counters were seen.
//!
//! One window belongs to one nonce prefix of one key. Ask it only about a frame that has
//! authenticated: a window that listens to forged counters can be pushed ahead of every genuine
//! frame.

/// Counters that a window remembers.
pub const WINDOW: u64 = 256;
const WORDS: usize = 4;

/// The last 256 counters under one nonce prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayWindow {
    /// The highest counter accepted. 0 means nothing yet; conforming senders begin at 1.
    max: u64,
    /// Bit `c % 256` is set if `c` was accepted, for `c` in `max - 255 ..= max`.
    seen: [u64; WORDS],
}

/// Why a counter was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It lies 256 or more behind the highest one.
    #[error("counter is older than the replay window")]
    Outside,
    /// It was accepted before.
    #[error("counter was seen before")]
    Seen,
}

impl ReplayWindow {
    /// Accepts each counter once.
    ///
    /// # Errors
    /// The counter was seen, or is too old to tell. The window is then unchanged.
    pub fn accept(&mut self, counter: u64) -> Result<(), Rejected> {
        if self.max == 0 || counter > self.max {
            self.slide(counter);
        } else if self.max - counter >= WINDOW {
            return Err(Rejected::Outside);
        } else if self.is_set(counter) {
            return Err(Rejected::Seen);
        }
        self.set(counter);
        Ok(())
    }

    /// Makes `counter` the highest one and forgets those that fall out.
    fn slide(&mut self, counter: u64) {
        if counter - self.max >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for passed in self.max + 1..=counter {
                self.clear(passed);
            }
        }
        self.max = counter;
    }

    fn is_set(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        self.seen[word] & bit != 0
    }

    fn set(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.seen[word] &= !bit;
    }
}

/// Word and bit of a counter; the word is below 4 by construction.
fn place(counter: u64) -> (usize, u64) {
    let slot = (counter % WINDOW) as usize;
    (slot / 64, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_counter_fits() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.accept(u64::MAX), Ok(()));
        assert_eq!(window.accept(u64::MAX), Err(Rejected::Seen));
        assert_eq!(window.accept(1), Err(Rejected::Outside));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_counters(
            steps in proptest::collection::vec((0u64..600, any::<bool>()), 1..400)
        ) {
            let (mut window, mut seen, mut base) = (ReplayWindow::default(), BTreeSet::new(), 1);
            for (step, advance) in steps {
                if advance { base += step; }
                let counter = base + step;
                let max = seen.last().copied().unwrap_or(0);
                let expected = !(seen.contains(&counter) || max >= counter + WINDOW);
                prop_assert_eq!(window.accept(counter).is_ok(), expected);
                if expected { seen.insert(counter); }
            }
        }
    }
}
