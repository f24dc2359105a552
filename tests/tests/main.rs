//! End-to-end tests of the `rr` binary, one module for each part of rr's behaviour. The harness is [`rr_tests`].
//!
//! They are one binary, so that they are linked once and so that no processor idles at the end of each
//! module: `cargo test -p rr-tests guests::` runs the tests of one module.
//!
//! A test shares its process and the processors with any other. So no test may change the environment, the
//! working directory, the limits or the signals of the process: it changes those of the commands that it runs.

// A broken expectation in a test is a failed test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod backtrace;
mod bad_input;
mod before_end;
mod captures;
mod checkpoints;
mod ci;
mod ci_services;
mod claims;
mod cli;
mod confined;
mod cpuid;
mod crash;
mod create_checkpoints;
mod damaged_traces;
mod deaths;
mod debugger;
mod documents;
mod ending;
mod examples;
mod flight;
mod guests;
mod intervals;
mod live;
mod objects;
mod options;
mod outputs;
mod pack;
mod pack_directories;
mod packaging;
mod points;
mod portable;
mod processes;
mod programs;
mod reruns;
mod scheduling;
mod searches;
mod sessions;
mod sources;
mod stress;
mod structure;
mod surface;
mod texts;
mod timeline;
mod tracers;
mod unusable;
mod userfaults;
mod verify;
mod walks;
