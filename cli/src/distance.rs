//! Distances between checkpoints, as commands take them.

use clap::builder::RangedU64ValueParser;

/// The parser: a number of events.
pub fn parser() -> RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..)
}
