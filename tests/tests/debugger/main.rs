//! Debugging replays with a real gdb, forwards and backwards.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod changes;
mod conditions;
mod languages;
mod limits;
mod moves;
mod processes;
mod serving;

/// With and without buffered calls.
const MODES: [&[&str]; 2] = [&[], &["-n"]];
