//! A link as a line of text: `rate=100mbit,queue=250kB,delay=10ms,loss=1%,seed=7`.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use crate::params::{LinkParams, Loss};

/// A text that does not describe a link; says which part and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(String);

impl Display for SpecError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for SpecError {}

/// Parts in any order, separated by commas; what is not named is as in a perfect link.
///
/// | part | meaning |
/// |---|---|
/// | `rate=100mbit` | in bits per second: `bit`, `kbit`, `mbit`, `gbit` |
/// | `queue=250kB` | in bytes: `B`, `kB`, `MB`, `KiB`, `MiB` |
/// | `delay=10ms`, `jitter=2ms` | `ns`, `us`, `ms`, `s` |
/// | `keep-order` | jitter does not reorder (`any-order`: it does) |
/// | `loss=1%` | each packet for itself; also `loss=0.01` |
/// | `loss=1%/8` | as many in the long run, in bursts of eight on average |
/// | `burst=0.2%/20%/90%` | bursts: entered, left, and loss inside |
/// | `duplicate=1%`, `corrupt=1%` | twice; with one bit flipped |
/// | `reorder=1%`, `reorder=1%/5ms` | held back for one to three delays, or for so long |
/// | `mtu=1280` | larger packets vanish |
/// | `dead-after=2s` | nothing gets through from then on |
/// | `down`, `up` | nothing gets through, or all that should |
/// | `seed=7` | of all that is left to chance |
///
/// `none` takes back `rate`, `queue`, `mtu` and `dead-after`.
impl FromStr for LinkParams {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut params = Self::default();
        params.apply(text)?;
        Ok(params)
    }
}

impl LinkParams {
    /// Changes what the text names, and leaves the rest.
    ///
    /// # Errors
    /// A part of the text is not understood; nothing has changed then.
    pub fn apply(&mut self, text: &str) -> Result<(), SpecError> {
        let mut changed = *self;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').map_or((part, None), |(k, v)| (k, Some(v)));
            if !changed.set(key, value).ok_or_else(|| complaint(part))? {
                return Err(SpecError(format!("unknown part `{key}`; known: {KNOWN}")));
            }
        }
        *self = changed;
        Ok(())
    }

    /// `None` if the value is not understood, `Some(false)` if the key is not.
    fn set(&mut self, key: &str, value: Option<&str>) -> Option<bool> {
        match (key, value) {
            ("keep-order", None) => self.keep_order = true,
            ("any-order", None) => self.keep_order = false,
            ("down", None) => self.down = true,
            ("up", None) => self.down = false,
            ("rate", Some(text)) => self.rate = or_none(text, parse_rate)?,
            ("queue", Some(text)) => self.queue = or_none(text, |text| parse(text, &BYTES))?,
            ("delay", Some(text)) => self.delay = parse_time(text)?,
            ("jitter", Some(text)) => self.jitter = parse_time(text)?,
            ("loss", Some(text)) => {
                self.loss = match text.split_once('/') {
                    Some((share, packets)) => {
                        let packets: f64 = packets.parse().ok()?;
                        let is_length = packets.is_finite() && packets >= 1.0;
                        is_length.then_some(Loss::bursts(parse_share(share)?, packets))?
                    }
                    None => Loss::Bernoulli(parse_share(text)?),
                }
            }
            ("burst", Some(text)) => {
                let mut shares = text.splitn(3, '/').map(parse_share);
                let mut next = || shares.next().flatten();
                self.loss = Loss::Bursts { enter: next()?, leave: next()?, loss: next()? };
            }
            ("duplicate", Some(text)) => self.duplicate = parse_share(text)?,
            ("corrupt", Some(text)) => self.corrupt = parse_share(text)?,
            ("reorder", Some(text)) => {
                let (share, by) = text.split_once('/').map_or((text, None), |(s, b)| (s, Some(b)));
                self.reorder_by = by.map(parse_time).map_or(Some(None), |by| by.map(Some))?;
                self.reorder = parse_share(share)?;
            }
            ("mtu", Some(text)) => self.mtu = or_none(text, |text| text.parse().ok())?,
            ("dead-after", Some(text)) => self.dead_after = or_none(text, parse_time)?,
            ("seed", Some(text)) => self.seed = text.parse().ok()?,
            _ => return KNOWN.split(", ").all(|known| known != key).then_some(false),
        }
        Some(true)
    }
}

/// Parses to what it was; names only what differs from a perfect link.
impl Display for LinkParams {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut part = |key: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{key}={value}")));
        };
        let time = |time: Duration| (!time.is_zero()).then(|| show(time.as_nanos(), &TIMES));
        let share = |share: f64| (share != 0.0).then(|| show_share(share));
        part("rate", self.rate.map(|rate| show(u128::from(rate) * 8, &RATES)));
        part("queue", self.queue.map(|queue| show(u128::from(queue), &BYTES)));
        part("delay", time(self.delay));
        part("jitter", time(self.jitter));
        match self.loss {
            Loss::Bernoulli(loss) => part("loss", share(loss)),
            Loss::Bursts { enter, leave, loss } => {
                let shares = [enter, leave, loss].map(show_share);
                part("burst", Some(shares.join("/")));
            }
        }
        part("duplicate", share(self.duplicate));
        let by = self.reorder_by.map(|by| format!("/{}", show(by.as_nanos(), &TIMES)));
        if self.reorder != 0.0 || by.is_some() {
            part("reorder", Some(show_share(self.reorder) + &by.unwrap_or_default()));
        }
        part("corrupt", share(self.corrupt));
        part("mtu", self.mtu.map(|mtu| mtu.to_string()));
        part("dead-after", self.dead_after.map(|after| show(after.as_nanos(), &TIMES)));
        part("seed", (self.seed != 0).then(|| self.seed.to_string()));
        parts.extend(self.keep_order.then(|| "keep-order".to_owned()));
        parts.extend(self.down.then(|| "down".to_owned()));
        f.write_str(&parts.join(","))
    }
}

type Units = [(&'static str, u64)];

// The largest last; no name may end like one before it, or it would be taken for that.
const RATES: [(&str, u64); 4] =
    [("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
const BYTES: [(&str, u64); 5] =
    [("B", 1), ("kB", 1_000), ("KiB", 1 << 10), ("MB", 1_000_000), ("MiB", 1 << 20)];
const TIMES: [(&str, u64); 4] = [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
const KNOWN: &str = "rate, queue, delay, jitter, keep-order, any-order, loss, burst, duplicate, \
                     corrupt, reorder, mtu, dead-after, down, up, seed";

fn complaint(part: &str) -> SpecError {
    SpecError(format!("`{part}` is not understood; like this: {EXAMPLE}"))
}

const EXAMPLE: &str = "rate=100mbit,queue=250kB,delay=10ms,jitter=500us,loss=1%,seed=7";

fn or_none<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "none" { Some(None) } else { parse(text).map(Some) }
}

/// A number with a unit, in the smallest unit.
fn parse(text: &str, units: &Units) -> Option<u64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, name) = text.split_at(digits);
    let (_, unit) = units.iter().find(|(known, _)| *known == name)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*unit);
    }
    let number: f64 = number.parse().ok()?;
    let value = number * *unit as f64;
    (value >= 0.0 && value < u64::MAX as f64).then_some(value.round() as u64)
}

/// In the largest unit that shows it without a fraction.
fn show(value: u128, units: &Units) -> String {
    let fits = |unit: u64| value != 0 && value.is_multiple_of(u128::from(unit));
    let largest = units.iter().rfind(|(_, unit)| fits(*unit)).unwrap_or(&units[0]);
    format!("{}{}", value / u128::from(largest.1), largest.0)
}

fn parse_rate(text: &str) -> Option<u64> {
    let rate = parse(text, &RATES)? / 8;
    (rate > 0).then_some(rate)
}

fn parse_time(text: &str) -> Option<Duration> {
    parse(text, &TIMES).map(Duration::from_nanos)
}

fn parse_share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok()? / 100.0,
        None => text.parse::<f64>().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// As a percentage, unless rounding would make it another number.
fn show_share(share: f64) -> String {
    let percent = format!("{}%", share * 100.0);
    let is_same = percent.len() < 8 && parse_share(&percent) == Some(share);
    if is_same { percent } else { share.to_string() }
}
