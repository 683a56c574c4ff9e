//! Writing lines into a fixed space, without the formatting machinery: a head is written for each request
//! and each answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::error::HeadTooLarge;
use super::lines::Header;

/// Writes lines into a fixed space.
#[derive(Debug)]
pub struct HeadWriter<'a> {
    out: &'a mut [u8],
    len: usize,
}

/// Digits of the largest number written.
const DECIMAL_DIGITS_MAX: usize = 20;

impl<'a> HeadWriter<'a> {
    /// A writer at the start of `out`.
    pub fn new(out: &'a mut [u8]) -> HeadWriter<'a> {
        HeadWriter { out, len: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes as they are, all or none.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), HeadTooLarge> {
        let space = self.out.get_mut(self.len..).ok_or(HeadTooLarge)?;
        space.get_mut(..bytes.len()).ok_or(HeadTooLarge)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Adds a field line. Neither part may hold CR, LF or NUL: what comes from peers was parsed,
    /// what comes from the operator was checked as an order.
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<(), HeadTooLarge> {
        self.line(name.as_bytes(), value)
    }

    fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadTooLarge> {
        debug_assert!(!name.iter().chain(value).any(|byte| b"\r\n\0".contains(byte)));
        self.push(name)?;
        self.push(b": ")?;
        self.push(value)?;
        self.push(b"\r\n")
    }

    /// Adds a number in decimal.
    pub fn decimal(&mut self, number: u64) -> Result<(), HeadTooLarge> {
        let mut digits = [0; DECIMAL_DIGITS_MAX];
        let mut rest = number;
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            // Always below ten.
            *digit = b'0' | (rest % 10) as u8;
            count += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(DECIMAL_DIGITS_MAX - count..).unwrap_or_default())
    }

    /// Adds an address, without brackets.
    pub fn ip(&mut self, address: IpAddr) -> Result<(), HeadTooLarge> {
        match address {
            IpAddr::V4(address) => {
                let (text, len) = ipv4(address);
                self.push(text.get(..len).unwrap_or_default())
            }
            IpAddr::V6(address) => self.formatted(format_args!("{address}")),
        }
    }

    /// Adds address and port, an IPv6 address in brackets.
    pub fn socket_address(&mut self, address: SocketAddr) -> Result<(), HeadTooLarge> {
        if address.is_ipv6() {
            return self.formatted(format_args!("{address}"));
        }
        self.ip(address.ip())?;
        self.push(b":")?;
        self.decimal(address.port().into())
    }

    /// Adds formatted text. For what is rarely written: it costs many times as much as the others.
    pub fn formatted(&mut self, text: fmt::Arguments<'_>) -> Result<(), HeadTooLarge> {
        fmt::Write::write_fmt(self, text).map_err(|fmt::Error| HeadTooLarge)
    }

    /// Adds a field line whose value is formatted text.
    pub fn formatted_field(&mut self, name: &str, value: fmt::Arguments<'_>) -> Result<(), HeadTooLarge> {
        self.formatted(format_args!("{name}: {value}\r\n"))
    }
}

/// An address as text, with its length. Written for each request, two times or three.
fn ipv4(address: Ipv4Addr) -> ([u8; 16], usize) {
    let mut text = [b'.'; 16];
    let mut len = 0;
    for octet in address.octets() {
        let (digits, count) = OCTETS[octet as usize];
        if let Some(space) = text.get_mut(len..len + 3) {
            space.copy_from_slice(&digits);
        }
        if let Some(dot) = text.get_mut(len + usize::from(count)) {
            *dot = b'.';
        }
        len += usize::from(count) + 1;
    }
    (text, len - 1)
}

/// The digits of every octet, and how many there are.
static OCTETS: [([u8; 3], u8); 256] = octets();

const fn octets() -> [([u8; 3], u8); 256] {
    let mut table = [([0; 3], 0); 256];
    let mut octet: u8 = 0;
    loop {
        let (hundreds, tens, ones) = (b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10);
        table[octet as usize] = match octet {
            0..=9 => ([ones, 0, 0], 1),
            10..=99 => ([tens, ones, 0], 2),
            100..=255 => ([hundreds, tens, ones], 3),
        };
        if octet == u8::MAX {
            return table;
        }
        octet += 1;
    }
}

impl fmt::Write for HeadWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|HeadTooLarge| fmt::Error)
    }
}

/// Copies field lines, neighbours at one stroke where the source has them in the form in which we write
/// them.
pub(super) struct FieldCopier<'i> {
    /// What the fields are slices of.
    input: &'i [u8],
    /// The lines that are to be copied next, as bytes of `input`.
    start: usize,
    end: usize,
}

impl<'i> FieldCopier<'i> {
    pub(super) fn new(input: &'i [u8]) -> FieldCopier<'i> {
        FieldCopier { input, start: 0, end: 0 }
    }

    /// Copies a field, now or with those that follow.
    pub(super) fn copy(&mut self, out: &mut HeadWriter<'_>, field: &Header<'_>) -> Result<(), HeadTooLarge> {
        match self.line_of(field) {
            Some((start, end)) if start == self.end => self.end = end,
            Some((start, end)) => {
                self.flush(out)?;
                (self.start, self.end) = (start, end);
            }
            None => {
                self.flush(out)?;
                out.line(field.name, field.value)?;
            }
        }
        Ok(())
    }

    /// Copies what is left.
    pub(super) fn flush(&mut self, out: &mut HeadWriter<'_>) -> Result<(), HeadTooLarge> {
        out.push(self.input.get(self.start..self.end).unwrap_or_default())?;
        self.start = self.end;
        Ok(())
    }

    /// Where the line of a field stands, if it is `name: value` and CRLF, no space more or less.
    fn line_of(&self, field: &Header<'_>) -> Option<(usize, usize)> {
        let base = self.input.as_ptr().addr();
        let start = field.name.as_ptr().addr().checked_sub(base)?;
        let name_end = start + field.name.len();
        let value_start = field.value.as_ptr().addr().checked_sub(base)?;
        let value_end = value_start + field.value.len();
        let is_ours = value_start == name_end + 2
            && self.input.get(name_end..value_start)? == b": "
            && self.input.get(value_end..value_end + 2)? == b"\r\n";
        is_ours.then_some((start, value_end + 2))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::{Line, field_line};
    use super::*;

    fn written(write: impl FnOnce(&mut HeadWriter<'_>) -> Result<(), HeadTooLarge>) -> String {
        let mut space = [0; 256];
        let mut out = HeadWriter::new(&mut space);
        write(&mut out).expect("there is room");
        let len = out.len();
        String::from_utf8_lossy(&space[..len]).into_owned()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_they_are_formatted() {
        for number in [0, 7, 10, 99, 100, 65_535, 1 << 40, u64::MAX] {
            assert_eq!(written(|out| out.decimal(number)), number.to_string());
        }
        for address in [
            "192.0.2.1:80",
            "0.0.0.0:0",
            "255.255.255.255:65535",
            "9.10.99.100:1",
            "[::1]:443",
            "[2001:db8::7]:8080",
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(written(|out| out.socket_address(address)), address.to_string());
            assert_eq!(written(|out| out.ip(address.ip())), address.ip().to_string());
        }
    }

    #[test]
    fn fields_are_copied_in_one_form() {
        let check = |input: &str, expected: &str| {
            let mut rest = input.as_bytes();
            let mut fields = Vec::new();
            while let Ok(Line::Field { header, rest: behind, .. }) = field_line(rest) {
                fields.push(header);
                rest = behind;
            }
            let copied = written(|out| {
                let mut copier = FieldCopier::new(input.as_bytes());
                fields
                    .iter()
                    .filter(|field| field.name != b"X-Gone")
                    .try_for_each(|field| copier.copy(out, field))?;
                copier.flush(out)
            });
            assert_eq!(copied, expected);
        };
        check("\r\n", "");
        check("A: b\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n");
        check("A:b\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n");
        check("A: b \r\nC:\td\r\nE:  f\r\nG: h\r\n\r\n", "A: b\r\nC: d\r\nE: f\r\nG: h\r\n");
        check("A: b\r\nX-Gone: 1\r\nC: d\r\nX-Gone: 2\r\n\r\n", "A: b\r\nC: d\r\n");
        check("A:\r\nB: \r\nC: d\r\n\r\n", "A: \r\nB: \r\nC: d\r\n");
    }
}
