//! From the name a peer gives its file to the name it is stored under.
//!
//! The peer chooses freely, so nothing of its choosing may leave the inbox directory, hide in it,
//! replace something, or deceive whoever reads a listing. What remains is a plain name that every
//! file system takes; the time and a number make it unique.

use std::time::Duration;

use crate::wire::frames::data::base_name;

/// Most bytes of a stored name without time and number; with them it stays below 255, the limit
/// of common file systems.
const MAX_BYTES: usize = 180;
/// A longer "extension" is none.
const MAX_EXTENSION_BYTES: usize = 16;
/// Devices on Windows, whatever their extension.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];

/// The name without directories and without characters that act, hide or deceive. `None` if
/// nothing usable is left.
pub(super) fn safe_name(sent: &str) -> Option<String> {
    let base = base_name(sent)?;
    let replaced: String = base.chars().map(|c| if is_deceptive(c) { '_' } else { c }).collect();
    // Trailing dots and spaces vanish on some systems; a leading dot hides, a dash is an option.
    let trimmed = replaced.trim_end_matches(['.', ' ']).trim_start();
    if trimmed.is_empty() {
        return None;
    }
    let (stem, extension) = split(trimmed);
    let stem = truncate(stem, MAX_BYTES - extension.len());
    let needs_prefix = stem.starts_with(['.', '-', '~']) || is_device(stem);
    Some(format!("{}{stem}{extension}", if needs_prefix { "_" } else { "" }))
}

/// `<base>-<YYYYMMDD-HHMMSS.mmm>-<n><ext>`, in UTC.
pub(super) fn stored_name(safe: &str, unix_time: Duration, number: u64) -> String {
    let (stem, extension) = split(safe);
    format!("{stem}-{}-{number}{extension}", timestamp(unix_time))
}

/// Path separators and patterns of any system, and characters that are invisible or change the
/// direction of text: with them `gpj.exe` reads as `exe.jpg`.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\u{2044}' | '\u{2215}'
                | '\u{29f8}' | '\u{ff0f}' | '\u{ff3c}' | '\u{fffd}' | '\u{00ad}' | '\u{034f}'
                | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{10ffff}'
        )
        || (c.is_whitespace() && c != ' ')
}

fn is_device(stem: &str) -> bool {
    let first = stem.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_numbered =
        |name: &str| first.strip_prefix(name).is_some_and(|rest| rest.len() == 1 && rest != "0");
    DEVICES.contains(&first.as_str()) || is_numbered("COM") || is_numbered("LPT")
}

/// Stem and extension; the extension begins with its dot, or is empty.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= MAX_EXTENSION_BYTES => name.split_at(at),
        _ => (name, ""),
    }
}

fn truncate(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

fn timestamp(unix_time: Duration) -> String {
    let secs = unix_time.as_secs();
    let (year, month, day) = civil(secs / 86_400);
    let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    let millis = unix_time.subsec_millis();
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.{millis:03}")
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian calendar): years are
/// taken to begin in March, so that the leap day is the last of its year.
fn civil(day: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let day = day + DAYS_TO_1970;
    let (era, in_era) = (day / DAYS_IN_400_YEARS, day % DAYS_IN_400_YEARS);
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * in_year + 2) / 153;
    let day_of_month = in_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_name_stays() {
        for name in ["report.pdf", "naïve – übung 1.txt", "日本語.md", "README", "a.tar.gz"]
        {
            assert_eq!(safe_name(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn nothing_leads_out_or_acts() {
        for (sent, safe) in [
            ("/etc/passwd", "passwd"),
            ("../../.ssh/authorized_keys", "authorized_keys"),
            (r"C:\Windows\win.ini", "win.ini"),
            ("C:evil.txt", "C_evil.txt"),
            (".bashrc", "_.bashrc"),
            ("-rf", "_-rf"),
            ("~", "_~"),
            ("aux.txt", "_aux.txt"),
            ("COM1", "_COM1"),
            ("lpt9.log.txt", "_lpt9.log.txt"),
            ("photo_\u{202e}gpj.exe", "photo__gpj.exe"),
            ("a\u{2044}b\u{ff0f}c", "a_b_c"),
            ("name.txt. . .", "name.txt"),
            ("a*?<>|\"b", "a______b"),
        ] {
            assert_eq!(safe_name(sent).as_deref(), Some(safe), "{sent:?}");
        }
        for nothing in ["", ".", "..", "/", "a/", r"a\", "a/..", "...", " ", "x\0y", "a\nb"] {
            assert_eq!(safe_name(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_keeps_its_extension() {
        let name = safe_name(&format!("{}.json", "ü".repeat(120))).unwrap();
        assert!(name.len() <= MAX_BYTES + 1 && name.ends_with("ü.json"), "{name}");
        assert_eq!(safe_name(&"x".repeat(256)), None, "no sender of 1.18 sends that");
        let stored = stored_name(&name, Duration::ZERO, u64::MAX);
        assert!(stored.len() < 255, "{stored}");
    }

    #[test]
    fn time_and_number_go_before_the_extension() {
        let at = |secs| stored_name("a.tar.gz", Duration::new(secs, 7_000_000), 3);
        assert_eq!(at(0), "a.tar-19700101-000000.007-3.gz");
        assert_eq!(at(951_827_696), "a.tar-20000229-123456.007-3.gz");
        assert_eq!(at(1_795_205_431), "a.tar-20261120-201031.007-3.gz");
        assert_eq!(at(4_107_542_399), "a.tar-21000228-235959.007-3.gz");
        assert_eq!(stored_name("README", Duration::ZERO, 0), "README-19700101-000000.000-0");
    }
}
