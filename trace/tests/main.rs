//! Traces written, read, damaged, trimmed and packed: the tests of the whole crate, in one binary, so that they are linked once
//! and so that no processor idles at the end of each module. `cargo test -p rr-trace damage::` runs one module.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;
mod damage;
mod extents;
mod files;
mod pack;
mod processes;
mod round_trip;
mod source;
mod tasks;
mod trim;
