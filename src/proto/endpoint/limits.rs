//! Bounds on what strangers can make us do: token buckets per source, in a bounded table.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// One token bucket for each source. When the table is full of busy sources, unknown ones are
/// refused: memory stays bounded under a flood of forged addresses.
#[derive(Debug)]
pub(in crate::proto) struct RateLimiter<K> {
    buckets: HashMap<K, (f64, Instant)>,
    per_second: f64,
    burst: f64,
    max_sources: usize,
}

impl<K: Eq + Hash> RateLimiter<K> {
    pub(in crate::proto) fn new(per_second: f64, burst: f64, max_sources: usize) -> Self {
        Self { buckets: HashMap::new(), per_second, burst, max_sources }
    }

    /// Takes a token; `false` when there is none.
    pub(in crate::proto) fn allow(&mut self, now: Instant, source: K) -> bool {
        if self.buckets.len() >= self.max_sources && !self.buckets.contains_key(&source) {
            let full = Duration::from_secs_f64(self.burst / self.per_second);
            self.buckets.retain(|_, (_, at)| *at + full > now);
            if self.buckets.len() >= self.max_sources {
                return false;
            }
        }
        let (tokens, at) = self.buckets.entry(source).or_insert((self.burst, now));
        let gained = now.saturating_duration_since(*at).as_secs_f64() * self.per_second;
        *tokens = (*tokens + gained).min(self.burst);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

/// Streams whose segments arrive though we don't have them, since when. Bounded; when full, the
/// newest are treated as just begun.
#[derive(Debug)]
pub(super) struct Orphans<K> {
    since: HashMap<K, Instant>,
}

impl<K: Eq + Hash> Orphans<K> {
    const MAX: usize = 1_024;
    const LIFETIME: Duration = Duration::from_secs(30);

    pub(super) fn new() -> Self {
        Self { since: HashMap::new() }
    }

    /// How long segments of `key` have been coming.
    pub(super) fn age(&mut self, now: Instant, key: K) -> Duration {
        if self.since.len() >= Self::MAX {
            self.since.retain(|_, since| now < *since + Self::LIFETIME);
        }
        if self.since.len() >= Self::MAX && !self.since.contains_key(&key) {
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.since.entry(key).or_insert(now))
    }

    /// The stream exists now.
    pub(super) fn remove(&mut self, key: &K) {
        self.since.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let (mut limiter, start) = (RateLimiter::new(2.0, 3.0, 8), Instant::now());
        assert_eq!((0..5).filter(|_| limiter.allow(start, 1)).count(), 3);
        assert!(limiter.allow(start + Duration::from_secs(1), 1));
        assert!(limiter.allow(start, 2), "other sources are not affected");
    }

    #[test]
    fn the_table_stays_bounded() {
        let (mut limiter, start) = (RateLimiter::new(1.0, 1.0, 8), Instant::now());
        assert_eq!((0..100).filter(|source| limiter.allow(start, *source)).count(), 8);
        assert!(limiter.allow(start + Duration::from_secs(5), 1_000), "idle sources make room");
    }
}
