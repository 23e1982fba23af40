//! Which ports a NAT will give to the next sockets, judged by those it gave to a few.

use std::net::SocketAddr;

use crate::wire::punch::MAX_PREDICTED;

/// A NAT that counts up is recognised by steps no larger than this from one socket to the next.
/// Those of other hosts behind it may fall between.
const LARGEST_STEP: i32 = 16;

/// What the beacon saw of one of our sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Which one, in the order in which they sent.
    pub(super) index: usize,
    /// Where it is outside.
    pub(super) outside: SocketAddr,
}

/// Ports outside that sockets with these `ports` of our own will have toward somebody else, best
/// first; empty if that cannot be told.
pub(super) fn predict(observed: &[Observation], ports: &[u16]) -> Vec<u16> {
    if observed.len() < 2 {
        return Vec::new();
    }
    let preserves = |seen: &Observation| ports.get(seen.index) == Some(&seen.outside.port());
    if observed.iter().all(preserves) {
        return ports.iter().copied().take(MAX_PREDICTED).collect();
    }
    let Some((step, last)) = step(observed) else { return Vec::new() };
    let next = (1..).map(|count: i32| i32::from(last) + count * step);
    let next = next.take_while(|port| (1_024..=65_535).contains(port));
    next.filter_map(|port| u16::try_from(port).ok()).take(MAX_PREDICTED).collect()
}

/// The step of a NAT that counts, up or down, and the port it gave last.
fn step(observed: &[Observation]) -> Option<(i32, u16)> {
    let mut seen = observed.to_vec();
    seen.sort_unstable_by_key(|seen| seen.index);
    let port = |seen: &Observation| i32::from(seen.outside.port());
    let steps = || {
        seen.iter().zip(seen.iter().skip(1)).map(|(one, next)| {
            let sockets = i32::try_from(next.index - one.index).unwrap_or(i32::MAX);
            (port(next) - port(one), sockets)
        })
    };
    let is_small = |(step, sockets): (i32, i32)| {
        step != 0 && step.unsigned_abs() <= (LARGEST_STEP * sockets).unsigned_abs()
    };
    let (up, down) = (steps().all(|(step, _)| step > 0), steps().all(|(step, _)| step < 0));
    if !(up || down) || !steps().all(is_small) {
        return None;
    }
    let least = steps().map(|(step, sockets)| (step.abs() / sockets).max(1)).min()?;
    let last = seen.last()?.outside.port();
    Some((if up { least } else { -least }, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ports: &[(usize, u16)]) -> Vec<Observation> {
        let outside = |port| SocketAddr::from(([203, 0, 113, 1], port));
        ports
            .iter()
            .map(|(index, port)| Observation { index: *index, outside: outside(*port) })
            .collect()
    }

    #[test]
    fn a_nat_that_counts_goes_on_counting() {
        let own = [7; 8];
        let next = predict(&seen(&[(0, 4_000), (1, 4_001), (2, 4_002), (3, 4_003)]), &own);
        assert_eq!(next[..3], [4_004, 4_005, 4_006]);
        let next = predict(&seen(&[(3, 4_006), (0, 4_000), (1, 4_002)]), &own);
        assert_eq!(next[..3], [4_008, 4_010, 4_012], "one answer was lost, another late");
        let next = predict(&seen(&[(0, 4_000), (1, 4_003), (2, 4_004)]), &own);
        assert_eq!(next[..3], [4_005, 4_006, 4_007], "other hosts took some");
        let next = predict(&seen(&[(0, 1_030), (1, 1_028)]), &own);
        assert_eq!(next, [1_026, 1_024], "it counts down, and there is an end");
    }

    #[test]
    fn a_nat_that_keeps_ports_keeps_them() {
        let own = [5_000, 6_000, 7_000, 8_000];
        assert_eq!(predict(&seen(&[(0, 5_000), (1, 6_000), (3, 8_000)]), &own), own);
    }

    #[test]
    fn what_looks_random_is_not_predicted() {
        let own = [7; 8];
        for ports in
            [&[(0, 4_000), (1, 40_000), (2, 9_000)][..], &[(0, 4_000)], &[], &[(0, 9), (1, 9)]]
        {
            assert!(predict(&seen(ports), &own).is_empty(), "{ports:?}");
        }
        assert!(predict(&seen(&[(0, 4_000), (1, 4_010), (2, 4_005)]), &own).is_empty());
    }
}
