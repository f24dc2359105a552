//! Tests that the documentation's table of system calls agrees with the code.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

const BEGIN: &str = "<!-- syscalls:begin -->\n";
const END: &str = "<!-- syscalls:end -->\n";

#[test]
fn the_status_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/STATUS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the mark before the table");
    let (table, after) = rest.split_once(END).expect("the mark after the table");
    let fresh = rr_tracee::syscalls::status_table();
    if std::env::var_os("RR_REGENERATE").is_some_and(|v| v == "1") {
        std::fs::write(&path, [before, BEGIN, &fresh, END, after].concat()).unwrap();
        eprintln!("wrote {}", path.display());
        return;
    }
    // The first line that differs is easier to read than two pages.
    let differs = table.lines().zip(fresh.lines()).find(|(old, new)| old != new);
    assert!(
        table == fresh,
        "docs/STATUS.md is not what the table of system calls says ({differs:?}):\n\
         RR_REGENERATE=1 cargo test -p rr-tracee --test status_page"
    );
}
