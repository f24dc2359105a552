//! Sizes in bytes, as people write and read them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// The message about anything else.
const NOT_A_SIZE: &str =
    "not a size: it is a number of bytes, or of KiB, MiB, GiB with K, M, G after it (500M)";

/// The units, each 1024 times the one before.
const UNITS: [&str; 4] = ["", "K", "M", "G"];

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Size, &'static str> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NOT_A_SIZE)?;
        let power = UNITS.iter().position(|u| *u == unit).ok_or(NOT_A_SIZE)?;
        let bytes = number.checked_mul(1 << (10 * power)).ok_or(NOT_A_SIZE)?;
        if bytes == 0 {
            return Err(NOT_A_SIZE);
        }
        Ok(Size(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut power = 0;
        while power + 1 < UNITS.len() && self.0 >> (10 * (power + 1)) > 0 {
            power += 1;
        }
        let number = self.0 as f64 / (1u64 << (10 * power)) as f64;
        f.pad(&match power {
            0 => format!("{} B", self.0),
            _ if number < 10.0 => format!("{number:.1} {}iB", UNITS[power]),
            _ => format!("{number:.0} {}iB", UNITS[power]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("1", 1), ("10K", 10 << 10), ("500M", 500 << 20), ("3G", 3 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for text in [
            "",
            "0",
            "0G",
            "M",
            "-1M",
            "1.5G",
            "1 G",
            "1k",
            "1T",
            "1MB",
            "99999999999G",
        ] {
            assert_eq!(text.parse::<Size>(), Err(NOT_A_SIZE), "{text}");
        }
    }

    #[test]
    fn sizes_are_written() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12 << 20, "12 MiB"),
            (1536 << 20, "1.5 GiB"),
            (5 << 40, "5120 GiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(format!("[{:>9}]", Size(1024)), "[  1.0 KiB]");
    }
}
