//! The documents are true: their commands are run, their outputs compared, their links followed.
//! [`rr_tests::documents`] has the rules.

use std::path::Path;

use rr_tests::Rr;
use rr_tests::documents::{all, links, mentions, read, session};

/// Runs the commands of a document.
#[track_caller]
fn check(document: &str) {
    let document = Path::new(document);
    let complaints = session::check(Rr::new().bin(), document, &read(document));
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

/// One test for each document, so that they run in parallel.
macro_rules! documents {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            check($path);
        })*

        #[test]
        fn every_document_is_in_the_list() {
            let listed = [$($path),*];
            let missing: Vec<_> = all().into_iter().filter(|d| !listed.iter().any(|l| d == Path::new(l))).collect();
            assert!(missing.is_empty(), "no test runs the commands of {missing:?}");
        }
    };
}

documents! {
    readme: "README.md",
    changelog: "CHANGELOG.md",
    contributing: "CONTRIBUTING.md",
    security: "SECURITY.md",
    status: "docs/STATUS.md",
    architecture: "docs/architecture.md",
    ci: "docs/ci.md",
    debugging: "docs/debugging.md",
    formats: "docs/formats.md",
    glossary: "docs/glossary.md",
    library: "docs/library.md",
    packaging: "docs/packaging.md",
    performance: "docs/performance.md",
    usage: "docs/usage.md",
}

#[test]
fn commands_in_the_text_exist() {
    let rr = Rr::new();
    let mut known = mentions::Known::new(rr.bin());
    let complaints: Vec<String> = all().iter().flat_map(|d| known.check(d)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn no_link_leads_nowhere() {
    let complaints: Vec<String> = all().iter().flat_map(|d| links::check(d)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
