//! Offsets of the fields of `struct msghdr`, and its size.

pub const NAME: u64 = 0;
pub const NAME_LEN: u64 = 8;
pub const VECTOR: u64 = 16;
pub const COUNT: u64 = 24;
pub const CONTROL: u64 = 32;
pub const CONTROL_LEN: u64 = 40;
pub const FLAGS: u64 = 48;
pub const BYTES: u64 = 56;
