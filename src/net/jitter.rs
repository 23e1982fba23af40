//! Chance, so that those who were hit by one event do not all act at one moment.

use std::time::Duration;

/// A time between nothing and `limit`, drawn anew at each call.
#[must_use]
pub fn jitter(limit: Duration) -> Duration {
    let mut random = [0; 4];
    if getrandom::fill(&mut random).is_err() {
        return limit / 2;
    }
    limit.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_below_its_limit_and_is_not_always_the_same() {
        let limit = Duration::from_secs(2);
        let drawn: Vec<Duration> = (0..100).map(|_| jitter(limit)).collect();
        assert!(drawn.iter().all(|pause| *pause <= limit));
        assert!(drawn.iter().any(|pause| *pause < limit / 2));
        assert!(drawn.iter().any(|pause| *pause > limit / 2));
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
