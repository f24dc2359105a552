//! The payload of a system call: the bytes of the program's memory that it hands to the outside world, and their digest.
//!
//! The recorder puts the digest of a call's payload into its record. Replay computes the digest anew
//! from the replayed memory. So replay notices a program that computes other bytes when the program
//! writes them (I7), even if its registers are as recorded. The library uses this module for buffered
//! calls, recorder and replayer use it for traced ones.
//!
//! # When
//!
//! The digest is taken *after* the call, with all changes of the call's event in place. It is not the
//! digest of the bytes that the kernel has copied: while a call is blocked (a full pipe), another
//! thread may change the buffer, and nobody knows if the kernel had read it before. But memory after an
//! event is the same in recording and replay (I4), whoever has written it and when. So a racing writer
//! is no divergence, and other bytes without a race are one.
//!
//! # Which bytes
//!
//! The first and the last [`EDGE`] bytes of each piece of memory, or all of it if it is not longer than
//! both together. A digest of all bytes of large buffers would cost a third of writing them to a file.
//!
//! A call has no digest if it failed, if its payload lies in rr's own memory (which differs between
//! recording and replay), or if its payload cannot be read (a write to `/dev/null` succeeds all the
//! same).
//!
//! # The function
//!
//! In blocks of 64 bytes, each of the eight words goes into two sums of 64 bits: the sum of the words,
//! and the sum of the first sum's values, so that order counts (Fletcher's checksum, as in ZFS). The
//! sums and the remaining bytes are mixed by multiplications of two words, whose halves are folded
//! together (as in wyhash). The last fold gives 32 bits.
//!
//! The function detects accidents, not attacks, and was chosen for its cost. The library has only SSE2.
//! There, wyhash alone takes twice as long, and the CPU's CRC-32C and XXH3 are between the two.

use core::arch::x86_64::{
    __m128i, _mm_add_epi64, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_setzero_si128, _mm_unpackhi_epi64,
};
use core::num::NonZeroU32;

use crate::layout::{AREA_END, CODE};
use crate::numbers::{
    BIND, CONNECT, FSETXATTR, LSETXATTR, MQ_TIMEDSEND, MSGSND, PROCESS_VM_WRITEV, PWRITE64, PWRITEV,
    PWRITEV2, SENDMMSG, SENDMSG, SENDTO, SETXATTR, WRITE, WRITEV,
};

/// Number of bytes that count at each end of a piece of memory longer than twice this.
pub const EDGE: u64 = 2048;

/// Maximum number of messages of a `sendmmsg`, and of buffers of a vector (`UIO_MAXIOV`).
const PIECES_MOST: u64 = 1024;
/// The longest address of a socket (`struct sockaddr_storage`).
const ADDRESS_MOST: u64 = 128;

/// The program's memory.
pub trait Source {
    /// The word at an address, if it can be read.
    fn word(&self, at: u64) -> Option<u64>;

    /// Feeds the bytes of a range to the hasher; `None` if they cannot be read.
    fn feed(&self, hasher: &mut Hasher, at: u64, len: u64) -> Option<()>;
}

/// The digest of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(NonZeroU32);

impl Digest {
    /// Length of a stored digest, in bytes.
    pub const BYTES: u64 = 4;

    /// The digest with this value. The value 0 stands for no digest.
    pub fn of_value(value: u32) -> Option<Digest> {
        NonZeroU32::new(value).map(Digest)
    }

    /// Value of the digest: never 0.
    pub fn value(self) -> u32 {
        self.0.get()
    }

    /// The digest of the payload of a call that returned `result`. `None` if the call has no payload.
    pub fn of_call(number: u64, args: &[u64; 6], result: i64, source: &impl Source) -> Option<Digest> {
        let mut hasher = Hasher::default();
        pieces(number, args, result, source, &mut |at, len| {
            hasher.length(len);
            edges(at, len, |at, len| source.feed(&mut hasher, at, len))
        })?;
        hasher.finish()
    }
}

impl core::fmt::Display for Digest {
    /// A hexadecimal number.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Calls `each` with the parts of a piece of memory that go into the digest.
pub fn edges(at: u64, len: u64, mut each: impl FnMut(u64, u64) -> Option<()>) -> Option<()> {
    if len <= 2 * EDGE {
        return each(at, len);
    }
    each(at, EDGE)?;
    each(at + (len - EDGE), EDGE)
}

/// Returns whether a buffered call of this number may have a payload. Such calls have no outputs.
pub fn is_buffered(number: u64) -> bool {
    matches!(
        number,
        WRITE | PWRITE64 | WRITEV | CONNECT | SENDTO | SENDMSG | BIND
    )
}

/// Calls `each` with address and length of the pieces of the payload of a call that returned `result`,
/// in order. Returns `None` if the call has no payload, or if `each` returns `None`.
pub fn pieces(
    number: u64,
    args: &[u64; 6],
    result: i64,
    source: &impl Source,
    each: &mut impl FnMut(u64, u64) -> Option<()>,
) -> Option<()> {
    let all = u64::try_from(result).ok()?;
    let mut piece = |at: u64, len: u64| {
        let end = at.checked_add(len)?;
        let is_ours = at < AREA_END && end > CODE;
        match len {
            0 => Some(()),
            _ if is_ours => None,
            _ => each(at, len),
        }
    };
    let [_, at, len, third, address, address_len] = *args;
    match number {
        WRITE | PWRITE64 if all > 0 => piece(at, all),
        WRITEV | PWRITEV | PWRITEV2 | PROCESS_VM_WRITEV if all > 0 => {
            vector(at, len, all, source, &mut piece)
        }
        SENDTO if all > 0 => {
            if address != 0 {
                piece(address, address_len.min(ADDRESS_MOST))?;
            }
            piece(at, all)
        }
        SENDMSG if all > 0 => message(at, all, source, &mut piece),
        SENDMMSG if all > 0 => {
            const MESSAGE: u64 = 64;
            for n in 0..all.min(PIECES_MOST) {
                let at = at + n * MESSAGE;
                let sent = source.word(at + 56)? & 0xffff_ffff;
                message(at, sent, source, &mut piece)?;
            }
            Some(())
        }
        CONNECT | BIND => piece(at, len.min(ADDRESS_MOST)),
        MQ_TIMEDSEND => piece(at, len),
        MSGSND => piece(at, len.checked_add(8)?),
        SETXATTR | LSETXATTR | FSETXATTR => piece(len, third),
        _ => None,
    }
}

/// The payload of a `struct msghdr`, of which `all` bytes were sent.
fn message(
    at: u64,
    all: u64,
    source: &impl Source,
    piece: &mut impl FnMut(u64, u64) -> Option<()>,
) -> Option<()> {
    let word = |offset: u64| source.word(at.checked_add(offset)?);
    let (name, name_len) = (word(0)?, word(8)? & 0xffff_ffff);
    if name != 0 {
        piece(name, name_len.min(ADDRESS_MOST))?;
    }
    vector(word(16)?, word(24)?, all, source, piece)?;
    let control = word(32)?;
    match control {
        0 => Some(()),
        _ => piece(control, word(40)?),
    }
}

/// The first `all` bytes of a vector of buffers.
fn vector(
    at: u64,
    count: u64,
    all: u64,
    source: &impl Source,
    piece: &mut impl FnMut(u64, u64) -> Option<()>,
) -> Option<()> {
    let mut left = all;
    for n in 0..count.min(PIECES_MOST) {
        if left == 0 {
            break;
        }
        let at = at.checked_add(n * 16)?;
        let len = source.word(at + 8)?.min(left);
        piece(source.word(at)?, len)?;
        left -= len;
    }
    Some(())
}

/// Arbitrary odd numbers with as many ones as zeros (hexadecimal digits of pi).
const KEYS: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
    0x082e_fa98_ec4e_6c89,
];

/// Multiplies two words and folds both halves of the product together.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The state of a digest.
#[derive(Debug)]
pub struct Hasher(u64);

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher(KEYS[0])
    }
}

impl Hasher {
    /// Begins a piece of `len` bytes.
    pub fn length(&mut self, len: u64) {
        self.0 = fold(self.0 ^ len, KEYS[1]);
    }

    /// Adds bytes of the piece.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<64>();
        if !blocks.is_empty() {
            // SAFETY: every x86-64 processor has SSE2.
            for (sum, weighted) in unsafe { sums(blocks) } {
                self.0 = fold(self.0 ^ sum ^ KEYS[2], weighted ^ KEYS[3]);
            }
        }
        let (pairs, rest) = rest.as_chunks::<16>();
        for pair in pairs {
            let (a, b) = words(pair);
            self.0 = fold(a ^ KEYS[1], b ^ self.0);
        }
        if !rest.is_empty() {
            let mut last = (0, 0);
            for (n, byte) in rest.iter().enumerate() {
                match n {
                    0..8 => last.0 = last.0 << 8 | u64::from(*byte),
                    _ => last.1 = last.1 << 8 | u64::from(*byte),
                }
            }
            self.0 = fold(last.0 ^ KEYS[2], last.1 ^ self.0);
        }
    }

    /// The digest; `None` if nothing was fed.
    fn finish(self) -> Option<Digest> {
        if self.0 == KEYS[0] {
            return None;
        }
        let last = fold(self.0 ^ KEYS[3], KEYS[2]);
        Digest::of_value(((last >> 32) as u32).max(1))
    }
}

/// For each of the eight words of a block: the sum over all blocks, and the sum of these sums.
#[target_feature(enable = "sse2")]
fn sums(blocks: &[[u8; 64]]) -> [(u64, u64); 8] {
    let (mut sums, mut weighted) = ([_mm_setzero_si128(); 4], [_mm_setzero_si128(); 4]);
    for block in blocks {
        let (four, _) = block.as_chunks::<16>();
        for n in 0..4 {
            // SAFETY: sixteen bytes, wherever they lie.
            let words = unsafe { _mm_loadu_si128(four[n].as_ptr().cast()) };
            sums[n] = _mm_add_epi64(sums[n], words);
            weighted[n] = _mm_add_epi64(weighted[n], sums[n]);
        }
    }
    let word = |vectors: [__m128i; 4], n: usize| {
        let vector = vectors[n / 2];
        let word = match n % 2 {
            0 => vector,
            _ => _mm_unpackhi_epi64(vector, vector),
        };
        _mm_cvtsi128_si64(word) as u64
    };
    core::array::from_fn(|n| (word(sums, n), word(weighted, n)))
}

fn words(pair: &[u8; 16]) -> (u64, u64) {
    let [a, b] = [0, 8].map(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&pair[at..at + 8]);
        u64::from_le_bytes(word)
    });
    (a, b)
}
