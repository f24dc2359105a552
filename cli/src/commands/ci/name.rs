//! Names of artefacts: the test's, as far as its runner says it.

use std::ffi::OsStr;
use std::path::Path;

/// Variables that test runners set for each test, the more exact ones first.
const VARIABLES: [&str; 5] = [
    "RR_TEST_NAME",
    // cargo-nextest (its book, "Environment variables").
    "NEXTEST_TEST_NAME",
    // pytest, inside a test ("How to … PYTEST_CURRENT_TEST").
    "PYTEST_CURRENT_TEST",
    // Bazel (its "Test encyclopedia").
    "TEST_TARGET",
    // Automake's parallel test harness sets nothing; its users can.
    "TEST_NAME",
];
/// The longest name.
const LONGEST: usize = 100;

/// The name of the artefact of a test: the one that the user gives, or the runner, or the program's file name.
pub fn of_test(given: Option<&str>, program: &OsStr) -> String {
    let from_runner = || {
        VARIABLES
            .iter()
            .find_map(|v| std::env::var(v).ok().filter(|name| !name.is_empty()))
    };
    let from_program = || {
        let file = Path::new(program).file_name().unwrap_or(program);
        file.to_string_lossy().into_owned()
    };
    let name = given
        .map(str::to_owned)
        .or_else(from_runner)
        .unwrap_or_else(from_program);
    as_file_name(&name)
}

/// A name without what is special in paths or in shells.
fn as_file_name(name: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "-_.+@".contains(c);
    // pytest appends the phase.
    let name = name.strip_suffix(" (call)").unwrap_or(name);
    let mut text = String::new();
    for c in name.chars() {
        if allowed(c) {
            text.push(c);
        } else if !text.ends_with('-') {
            text.push('-');
        }
        if text.len() >= LONGEST {
            break;
        }
    }
    let text = text.trim_matches(['-', '.']);
    if text.is_empty() {
        "test".into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_file_names() {
        assert_eq!(
            as_file_name("tests/test_a.py::test_x[1-2] (call)"),
            "tests-test_a.py-test_x-1-2"
        );
        assert_eq!(as_file_name("//pkg:target"), "pkg-target");
        assert_eq!(as_file_name("module::tests::it_works"), "module-tests-it_works");
        assert_eq!(as_file_name("../../etc/passwd"), "etc-passwd");
        assert_eq!(as_file_name("…"), "test");
        assert_eq!(as_file_name(""), "test");
        assert!(as_file_name(&"ä".repeat(500)).len() <= LONGEST + 2);
    }
}
