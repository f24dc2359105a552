//! Calls that shape address spaces, mapped files and shared memory objects.

pub(crate) mod advice;
pub(crate) mod mapped;
pub(crate) mod mapping;
pub(crate) mod objects;
pub(crate) mod private_files;
pub(crate) mod process_advice;
pub(crate) mod secret;
pub(crate) mod unfinished;
