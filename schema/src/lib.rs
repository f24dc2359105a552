//! The messages of traces and checkpoints.
//!
//! The schemas (`schema/*.capnp`) are the definition of the format; the modules here are what the `capnp` tool
//! and the `capnpc` crate make of them, committed, so that building needs neither. Nothing in
//! `src/generated/` is written by hand.
//!
//! After a change of a schema (and, for a new one, a module here):
//!
//! ```text
//! RR_REGENERATE=1 cargo test -p rr-schema --test regenerate
//! ```
//!
//! Without the variable the same test compares, where the `capnp` tool is installed (Debian: `capnproto`).
//!
//! | schema | what |
//! |---|---|
//! | `common.capnp` | registers, mappings and the operations on them |
//! | `rr.capnp` | trace header, payloads of a segment's frames |
//! | `checkpoint.capnp` | image and page index of a checkpoint |

/// Makes the module of one schema. The code is generated: it has its own style and no documentation.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $path:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unused, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]
        #[rustfmt::skip]
        #[path = $path]
        pub mod $name;
    };
}

generated!(
    /// `common.capnp`: what traces and checkpoints share.
    common_capnp,
    "generated/common_capnp.rs"
);
generated!(
    /// `rr.capnp`: the trace.
    rr_capnp,
    "generated/rr_capnp.rs"
);
generated!(
    /// `checkpoint.capnp`: image and page index of a checkpoint.
    checkpoint_capnp,
    "generated/checkpoint_capnp.rs"
);
