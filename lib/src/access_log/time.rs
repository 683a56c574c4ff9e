//! Wall time as text.

use super::out::Out;

/// The time of a turn, and its text up to the second, which is that of many records.
#[derive(Debug, Default)]
pub(super) struct Clock {
    unix_ns: u64,
    /// The second of `text`.
    second: u64,
    /// `2026-01-31T23:59:59`.
    text: Vec<u8>,
}

impl Clock {
    /// It is so many nanoseconds since 1970.
    pub(super) fn set(&mut self, unix_ns: u64) {
        self.unix_ns = unix_ns;
    }

    /// Nanoseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.unix_ns
    }

    /// RFC 3339 in UTC, with microseconds.
    pub(super) fn write(&mut self, out: &mut Out<'_>) {
        let second = self.unix_ns / 1_000_000_000;
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            write_second(&mut self.text, second);
        }
        out.raw(&self.text);
        out.raw(".");
        digits(out.0, self.unix_ns / 1_000 % 1_000_000, 6);
        out.raw("Z");
    }
}

fn digits(out: &mut Vec<u8>, number: u64, count: u32) {
    for place in (0..count).rev() {
        out.push(b'0' + u8::try_from(number / 10u64.pow(place) % 10).unwrap_or_default());
    }
}

/// The year is taken to begin in March, so that the leap day is its last (Hinnant, "chrono-compatible low-level date
/// algorithms").
fn write_second(out: &mut Vec<u8>, second: u64) {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    let shifted = second / 86_400 + 719_468; // days since 0000-03-01
    let era = shifted / DAYS_PER_ERA;
    let day_of_era = shifted % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let of_day = second % 86_400;
    let parts = [
        (year_of_era + era * 400 + u64::from(month <= 2), 4, b'-'),
        (month, 2, b'-'),
        (day_of_year - (153 * march_month + 2) / 5 + 1, 2, b'T'),
        (of_day / 3_600, 2, b':'),
        (of_day / 60 % 60, 2, b':'),
    ];
    for (number, count, separator) in parts {
        digits(out, number, count);
        out.push(separator);
    }
    digits(out, of_day % 60, 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let mut clock = Clock::default();
        let mut check = |unix_ns: u64, expected: &str| {
            let mut text = Vec::new();
            clock.set(unix_ns);
            clock.write(&mut Out(&mut text));
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999Z");
        check(1_740_787_200_000_001_000, "2025-03-01T00:00:00.000001Z");
    }
}
