//! Signals as the user names them: `SIGUSR1`, `USR1` or `10`.

use std::str::FromStr;

use nix::sys::signal::Signal;

/// The number of a signal.
pub fn parse(name: &str) -> Result<i32, String> {
    let by_name = || Signal::from_str(&format!("SIG{}", name.trim_start_matches("SIG")));
    match name.parse() {
        Ok(number @ 1..=64) => Ok(number),
        Ok(number) => Err(format!("there is no signal {number}")),
        Err(_) => by_name()
            .map(|signal| signal as i32)
            .map_err(|_| format!("there is no signal {name}")),
    }
}

/// A signal's name, from its number.
pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        assert_eq!(parse("SIGUSR1"), Ok(10));
        assert_eq!(parse("USR1"), Ok(10));
        assert_eq!(parse("64"), Ok(64));
        assert!(parse("0").is_err() && parse("65").is_err() && parse("SIGNONE").is_err());
    }
}
