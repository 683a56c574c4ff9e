//! Wall time as text.

use super::out::Out;

/// Bytes of `2026-01-31T23:59:59.123456Z`.
const TEXT_BYTES: usize = 27;

/// Of its seconds.
const SECOND_BYTES: usize = 19;

/// Bytes of the nanoseconds since 1970, from 2001 to 2286.
const NANOS_BYTES: usize = 19;

/// The time of a turn, and its text, which is that of all records of the turn.
#[derive(Debug)]
pub(super) struct Clock {
    unix_ns: u64,
    /// The second that is in the texts.
    second: u64,
    /// `2026-01-31T23:59:59.123456Z 1769903999123456789`
    text: [u8; TEXT_BYTES + 1 + NANOS_BYTES],
    /// The text is of this time.
    is_told: bool,
}

impl Default for Clock {
    fn default() -> Self {
        let mut text = [b' '; TEXT_BYTES + 1 + NANOS_BYTES];
        text[SECOND_BYTES] = b'.';
        text[TEXT_BYTES - 1] = b'Z';
        Self { unix_ns: 0, second: u64::MAX, text, is_told: false }
    }
}

impl Clock {
    /// It is so many nanoseconds since 1970.
    pub(super) fn set(&mut self, unix_ns: u64) {
        self.unix_ns = unix_ns;
        self.is_told = false;
    }

    /// Nanoseconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.unix_ns
    }

    /// Puts the time into words, unless that was done. To be called before anything is written of it.
    pub(super) fn tell(&mut self) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let second = self.unix_ns / 1_000_000_000;
        let nanos = self.unix_ns % 1_000_000_000;
        let (words, numbers) = self.text.split_at_mut(TEXT_BYTES + 1);
        if second != self.second {
            self.second = second;
            write_second(&mut Out::new(words), second);
            Out::new(numbers).digits(second, NANOS_BYTES - 9);
        }
        let fraction = numbers.get_mut(NANOS_BYTES - 9..).unwrap_or_default();
        Out::new(fraction).digits(nanos, 9);
        if let (Some(micros), Some(fraction)) =
            (words.get_mut(SECOND_BYTES + 1..TEXT_BYTES - 1), fraction.get(..6))
        {
            micros.copy_from_slice(fraction);
        }
    }

    /// RFC 3339 in UTC, with microseconds.
    pub(super) fn write(&self, out: &mut Out<'_>) {
        if let Some(words) = self.text.first_chunk::<TEXT_BYTES>() {
            out.raw(words);
        }
    }

    /// The same, and the nanoseconds since 1970 behind it.
    pub(super) fn write_both(&self, out: &mut Out<'_>) {
        if self.second >= 1_000_000_000 {
            return out.raw(self.text);
        }
        self.write(out);
        out.raw(b" ");
        out.number(self.unix_ns);
    }
}

/// The year is taken to begin in March, so that the leap day is its last (Hinnant, "chrono-compatible low-level date
/// algorithms").
fn write_second(out: &mut Out<'_>, second: u64) {
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
        out.digits(number, count);
        out.raw([separator]);
    }
    out.digits(of_day % 60, 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let mut clock = Clock::default();
        let mut check = |unix_ns: u64, expected: &str| {
            let mut text = [0; 64];
            clock.set(unix_ns);
            clock.tell();
            let mut out = Out::new(&mut text);
            clock.write_both(&mut out);
            let both = format!("{expected} {unix_ns}");
            assert_eq!(out.written_mut(0), both.as_bytes(), "{both}");
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999Z");
        check(1_740_787_200_000_001_000, "2025-03-01T00:00:00.000001Z");
        check(1_740_787_200_999_999_001, "2025-03-01T00:00:00.999999Z");
        check(1_000_000_000_000_000_000, "2001-09-09T01:46:40.000000Z");
        check(999_999_999_123_456_789, "2001-09-09T01:46:39.123456Z");
    }
}
