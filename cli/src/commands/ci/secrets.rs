//! Environment variables that look like secrets. A recording holds the environment of its program, so whoever gets the recording gets
//! them too.

use std::ffi::OsString;

/// Parts of names that secrets have. `RR_SECRET_NAMES` (separated by commas) replaces them.
const PARTS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "KEY", "CREDENTIAL"];

/// The names among these that look like a secret's.
pub fn names(variables: impl Iterator<Item = OsString>) -> Vec<String> {
    let own = std::env::var("RR_SECRET_NAMES").ok();
    let parts: Vec<String> = match &own {
        Some(own) => own.split(',').map(|part| part.trim().to_uppercase()).collect(),
        None => PARTS.map(str::to_owned).to_vec(),
    };
    let mut found: Vec<String> = variables
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| {
            parts
                .iter()
                .any(|part| !part.is_empty() && name.to_uppercase().contains(part.as_str()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_their_names() {
        let all = [
            "PATH",
            "GITHUB_TOKEN",
            "db_password",
            "AWS_SECRET_ACCESS_KEY",
            "HOME",
        ];
        let found = names(all.into_iter().map(OsString::from));
        assert_eq!(found, ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "db_password"]);
    }
}
