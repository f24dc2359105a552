//! The part of a recording that is kept, on the command line: a time (`10m`) or a size (`2G`).

use rr_checkpoint::KeepLast;

use crate::duration;
use crate::size::Size;

/// Reads the value of `--keep-last`. A number alone could mean either.
pub fn parse(text: &str) -> Result<KeepLast, String> {
    if let Some(unit) = text.chars().last()
        && !unit.is_ascii_digit()
    {
        if let Ok(Size(bytes)) = text.parse() {
            return Ok(KeepLast::Bytes(bytes));
        }
        if let Ok(time) = duration::parse(text) {
            return Ok(KeepLast::Time(time));
        }
    }
    Err(format!(
        "{text:?} is neither a time (500ms, 90s, 10m, 2h) nor a size (500K, 500M, 2G)"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_and_sizes() {
        assert_eq!(parse("10m"), Ok(KeepLast::Time(Duration::from_secs(600))));
        assert_eq!(parse("500ms"), Ok(KeepLast::Time(Duration::from_millis(500))));
        assert_eq!(parse("10M"), Ok(KeepLast::Bytes(10 << 20)));
        assert_eq!(parse("2G"), Ok(KeepLast::Bytes(2 << 30)));
        for wrong in [
            "",
            "10",
            "0m",
            "0G",
            "m",
            "G",
            "-1m",
            "1.5G",
            "10 m",
            "10d",
            "10mm",
            "99999999999G",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
