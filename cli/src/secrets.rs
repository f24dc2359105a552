//! Environment variables that look like secrets. A recording holds the environment of its program, so everybody who gets the recording gets
//! them too. Names are told, values never.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use rr_trace::TraceReader;

/// Parts of names that secrets have.
const PARTS: &str = "TOKEN,SECRET,PASSWORD,PASSWD,KEY,CREDENTIAL";

/// The command line's option.
#[derive(clap::Args, Clone, Debug)]
pub struct SecretNames {
    /// Tell of variables in the recorded environment with one of these, separated by commas, in their names
    #[arg(long, value_name = "PARTS", env = "RR_SECRET_NAMES", default_value = PARTS, value_delimiter = ',')]
    secret_names: Vec<String>,
}

impl SecretNames {
    /// Tells of those of a recording.
    pub fn tell(&self, reader: &TraceReader) {
        let found = self.among(&reader.header().environ);
        if !found.is_empty() {
            eprintln!(
                "rr: the recording holds variables that look like secrets: {}",
                found.join(", ")
            );
        }
    }

    /// The names of those in an environment of `NAME=value`.
    fn among(&self, environ: &[OsString]) -> Vec<String> {
        let parts: Vec<String> = self
            .secret_names
            .iter()
            .map(|part| part.trim().to_uppercase())
            .collect();
        let names = environ
            .iter()
            .filter_map(|variable| variable.as_bytes().split(|b| *b == b'=').next());
        let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
        let mut found: Vec<String> = names
            .filter(|name| {
                let name = name.to_uppercase();
                parts
                    .iter()
                    .any(|part| !part.is_empty() && name.contains(part.as_str()))
            })
            .collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(parts: &str, environ: &[&str]) -> Vec<String> {
        let secret_names = parts.split(',').map(str::to_owned).collect();
        let environ: Vec<OsString> = environ.iter().map(OsString::from).collect();
        SecretNames { secret_names }.among(&environ)
    }

    #[test]
    fn secrets_are_found_by_their_names() {
        let all = [
            "PATH=/bin:/usr/bin",
            "GITHUB_TOKEN=a=b",
            "db_password=",
            "AWS_SECRET_ACCESS_KEY=x",
            "HOME=/TOKEN",
        ];
        assert_eq!(
            among(PARTS, &all),
            ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "db_password"]
        );
        assert_eq!(among("path, home", &all), ["HOME", "PATH"]);
        assert!(among("", &all).is_empty());
    }
}
