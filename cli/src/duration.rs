//! Times on the command line: `90`, `90s`, `5m`, `2h`, `500ms`.

use std::time::Duration;

/// Reads a time; a number without a unit means seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: write 500ms, 90s, 5m or 2h");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(milliseconds) {
        Some(total) if total > 0 => Ok(Duration::from_millis(total)),
        Some(_) => Err(format!("{text:?} is no time at all")),
        None => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let read = |text| parse(text).ok();
        assert_eq!(read("90"), Some(Duration::from_secs(90)));
        assert_eq!(read("90s"), Some(Duration::from_secs(90)));
        assert_eq!(read("5m"), Some(Duration::from_secs(300)));
        assert_eq!(read("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        for wrong in [
            "",
            "s",
            "0",
            "0ms",
            "5x",
            "-1",
            "1.5s",
            "5 m",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
