//! Processor time of this process.

use super::Result;

/// Clock ticks per second in `/proc`, a constant of Linux' interface.
const TICKS: f64 = 100.0;

/// User and system time so far, in seconds, to 10 ms.
pub(crate) fn seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field, the name in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(')').ok_or("unreadable /proc/self/stat")?;
    let mut times = rest.split_whitespace().skip(11);
    let mut next = || times.next().and_then(|ticks| ticks.parse::<f64>().ok());
    let (user, system) = (next().unwrap_or_default(), next().unwrap_or_default());
    Ok((user + system) / TICKS)
}
