//! The vocabulary of the tables of requests.

use super::super::forms::{perhaps, perhaps_len};
use super::super::spec::{Len, MemorySpec, PartsFn, WrittenFn};

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) number: u32,
    /// For readers of the table, and for messages.
    #[allow(dead_code)]
    name: &'static str,
    pub(super) memory: MemorySpec,
    pub(super) waits: bool,
}

/// The argument that holds every request's pointer.
pub(super) const POINTER: u8 = 2;

/// A request that writes no memory of the program.
pub(super) const fn set(number: u32, name: &'static str) -> Request {
    Request {
        number,
        name,
        memory: MemorySpec::None,
        waits: false,
    }
}

/// A request that writes at most `bytes` bytes.
pub(super) const fn get(number: u32, name: &'static str, bytes: u64) -> Request {
    Request {
        memory: MemorySpec::One(perhaps(POINTER, bytes)),
        ..set(number, name)
    }
}

/// A request whose argument is a structure of `plus` bytes, followed by an array of `unit` bytes for
/// each element. The 32-bit word at byte `offset` is the number of elements.
pub(super) const fn counted(number: u32, name: &'static str, plus: u64, offset: u64, unit: u64) -> Request {
    let len = Len::At {
        arg: POINTER,
        offset,
        unit,
        plus,
    };
    Request {
        memory: MemorySpec::One(perhaps_len(POINTER, len).at_most(1 << 24)),
        ..set(number, name)
    }
}

/// A request that code describes.
pub(super) const fn computed(number: u32, name: &'static str, parts: PartsFn, written: WrittenFn) -> Request {
    Request {
        memory: MemorySpec::Computed { parts, written },
        ..set(number, name)
    }
}

impl Request {
    /// The request waits: for a device to become idle, for a signal line to change …
    pub(super) const fn waits(mut self) -> Request {
        self.waits = true;
        self
    }
}
