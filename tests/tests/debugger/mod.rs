//! Debugging replays with a real gdb, forwards and backwards.

mod changes;
mod conditions;
mod languages;
mod limits;
mod moves;
mod processes;
mod serving;

/// With and without buffered calls.
const MODES: [&[&str]; 2] = [&[], &["-n"]];
