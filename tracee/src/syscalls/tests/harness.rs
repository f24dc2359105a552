//! Performs a call in this process and compares its changes with the table.
//!
//! ```text
//! arena     | gap | input | gap | output | gap | …     all else poisoned
//! scratch   | guard | part 0 | guard | part 1 | guard | …
//! ```
//!
//! There are four runs, each set up afresh: in place and redirected, each with two poisons, so that no
//! byte that the kernel writes can hide by equalling the poison. In place, every changed byte must be
//! declared as written. Redirected as the recorder does it (copy in, change the pointers), the arena
//! must stay unchanged and only the parts may change. If a part is not copied in, every byte declared
//! must have changed in one of the runs, because the recorder would otherwise copy garbage.

use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use crate::memory::{Memory, ReadMemory};
use crate::syscalls::{Holder, Part, ReadPart, Spec, Written, all};
use crate::{Addr, Registers, Tid};

const SIZE: usize = 1 << 18;
/// Poisoned bytes between two pieces.
const GAP: usize = 256;

/// Memory behind a region that nobody can read, so that a length that is too large always ends there.
const GUARD: usize = 4096;

/// Private anonymous memory of our own.
struct Region {
    base: *mut u8,
}

impl Region {
    fn new() -> Region {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                SIZE + GUARD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        // SAFETY: the last page of that mapping, which nothing refers to yet.
        let guarded = unsafe { libc::mprotect(base.byte_add(SIZE), GUARD, libc::PROT_NONE) };
        assert_eq!(guarded, 0);
        Region { base: base.cast() }
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: the mapping has SIZE bytes and lives as long as `self`; no reference to it is kept.
        unsafe { std::slice::from_raw_parts(self.base, SIZE) }.to_vec()
    }

    fn fill(&self, byte: u8) {
        // SAFETY: as above.
        unsafe { ptr::write_bytes(self.base, byte, SIZE) }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= SIZE);
        // SAFETY: inside the mapping, checked above.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len()) }
    }

    fn addr(&self, at: usize) -> u64 {
        self.base as u64 + at as u64
    }

    /// Returns whether the part ends with the arena: a length that is too large ends there.
    fn cuts(&self, part: &Part) -> bool {
        part.addr.0 + part.len == self.base as u64 + SIZE as u64
    }

    fn contains(&self, part: &Part) -> bool {
        let base = self.base as u64;
        base <= part.addr.0 && part.addr.0 + part.len <= base + SIZE as u64
    }

    fn offset(&self, addr: u64) -> usize {
        usize::try_from(addr - self.base as u64).expect("outside of the arena")
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which no reference remains.
        unsafe { libc::munmap(self.base.cast(), SIZE + GUARD) };
    }
}

/// The layout of the memory of a call under test.
pub struct Layout<'a> {
    arena: &'a Region,
    next: usize,
}

impl Layout<'_> {
    fn reserve(&mut self, len: usize) -> usize {
        let at = self.next;
        self.next = (at + len + GAP).next_multiple_of(16);
        assert!(self.next <= SIZE, "the arena is full");
        at
    }

    /// A poisoned buffer.
    pub fn out(&mut self, len: usize) -> u64 {
        let at = self.reserve(len);
        self.arena.addr(at)
    }

    /// A buffer with contents.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.reserve(bytes.len());
        self.arena.write(at, bytes);
        self.arena.addr(at)
    }

    /// A C string.
    pub fn text(&mut self, text: &str) -> u64 {
        self.put(&[text.as_bytes(), b"\0"].concat())
    }

    /// 32-bit words.
    pub fn u32s(&mut self, words: &[u32]) -> u64 {
        self.put(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// 64-bit words.
    pub fn u64s(&mut self, words: &[u64]) -> u64 {
        self.put(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>())
    }
}

/// The arguments of a call, the missing ones 0.
pub fn args<const N: usize>(given: [u64; N]) -> [u64; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&given);
    all
}

/// A descriptor as an argument.
pub fn fd(fd: &impl std::os::fd::AsRawFd) -> u64 {
    fd.as_raw_fd() as u64
}

/// Takes a descriptor that a call has returned.
pub fn take(result: i64) -> OwnedFd {
    assert!(result >= 0, "errno {}", -result);
    // SAFETY: the kernel has just given it to us, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(result as i32) }
}

fn spec(name: &str) -> &'static Spec {
    all()
        .find(|s| s.name == name)
        .unwrap_or_else(|| panic!("no call {name}"))
}

/// A system call as such: the result or −errno.
pub fn raw(name: &str, args: [u64; 6]) -> i64 {
    perform(spec(name), &args)
}

fn perform(spec: &Spec, a: &[u64; 6]) -> i64 {
    // SAFETY: the tests perform only calls whose effects stay in memory that they own.
    let result = unsafe { libc::syscall(spec.number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 {
        -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        result
    }
}

/// One performed call.
struct Run {
    result: i64,
    parts: Vec<Part>,
    written: Vec<Written>,
    /// For each written byte of each part: whether it changed.
    changed: Vec<Vec<bool>>,
}

/// Performs the call that `build` sets up, checks it as described above, and returns the result of the
/// last run.
pub fn check(name: &str, build: impl Fn(&mut Layout) -> [u64; 6]) -> i64 {
    let spec = spec(name);
    let mut last = 0;
    for redirect in [false, true] {
        let a = run(spec, &build, 0xaa, redirect);
        let b = run(spec, &build, 0x55, redirect);
        last = b.result;
        // After EFAULT the table declares bytes that may have been written.
        if a.written == b.written && last != -i64::from(libc::EFAULT) {
            for w in a.written.iter().filter(|w| !a.parts[w.part].copy_in) {
                let range = w.offset as usize..(w.offset + w.len) as usize;
                let untouched = range
                    .clone()
                    .find(|&i| !a.changed[w.part][i] && !b.changed[w.part][i]);
                assert_eq!(
                    untouched, None,
                    "{name}: the kernel does not write this byte of part {} although {w:?} says so",
                    w.part
                );
            }
        }
    }
    last
}

/// [`check`] of a call that must succeed.
pub fn ok(name: &str, build: impl Fn(&mut Layout) -> [u64; 6]) -> i64 {
    let result = check(name, build);
    assert!(result >= 0, "{name}: errno {}", -result);
    result
}

/// [`check`] of a call that must succeed and write something.
pub fn writes(name: &str, build: impl Fn(&mut Layout) -> [u64; 6]) -> i64 {
    let spec = spec(name);
    let result = ok(name, &build);
    let run = run(spec, &build, 0xaa, false);
    assert!(
        run.changed.iter().flatten().any(|c| *c),
        "{name}: nothing was written: {:?}",
        run.parts
    );
    result
}

/// [`check`] of a call that must fail in this way.
pub fn fails(name: &str, errno: i32, build: impl Fn(&mut Layout) -> [u64; 6]) {
    assert_eq!(check(name, build), -i64::from(errno), "{name}");
}

fn run(spec: &Spec, build: &impl Fn(&mut Layout) -> [u64; 6], poison: u8, redirect: bool) -> Run {
    let name = spec.name;
    // Sets up the call, in place or redirected.
    let (arena, scratch) = (Region::new(), Region::new());
    arena.fill(poison);
    let mut a = build(&mut Layout {
        arena: &arena,
        next: GAP,
    });
    let mut entry = Registers {
        orig_rax: spec.number as u64,
        ..Registers::default()
    };
    (0..6).for_each(|n| entry.set_arg(n, a[n]));

    let mem = Memory::of(Tid(std::process::id() as i32));
    let parts = spec.parts(&entry, &mem).expect("parts");
    // A test may give wrong pointers and lengths on purpose. Such a call is performed only in place.
    let redirect = redirect && parts.iter().all(|p| arena.contains(p) && !arena.cuts(p));
    let places = if redirect {
        // Garbage that differs from the program's bytes.
        scratch.fill(!poison);
        redirect_parts(&parts, &scratch, &mem, &mut a)
    } else {
        parts.iter().map(|p| p.addr.0).collect()
    };

    // Performs the call, and asks the table which bytes were written.
    let before = (arena.bytes(), scratch.bytes());
    let result = perform(spec, &a);
    let after = (arena.bytes(), scratch.bytes());

    let read = |part: usize, offset: u64, buf: &mut [u8]| mem.read(Addr(places[part] + offset), buf);
    let read: &ReadPart<'_> = &read;
    let mut written = spec.written(&entry, &parts, result, read).expect("written");
    if result == -i64::from(libc::EFAULT) && !redirect {
        written.extend(Spec::touchable(&parts, read).expect("touchable"));
    }
    for w in &written {
        assert!(
            w.len > 0 && w.offset + w.len <= parts[w.part].len,
            "{name}: {w:?} exceeds its part"
        );
    }

    // Compares that with the bytes that have changed.
    let (region, before, after) = if redirect {
        assert!(
            before.0 == after.0,
            "{name}, redirected: the kernel wrote to the program's memory"
        );
        (&scratch, before.1, after.1)
    } else {
        (&arena, before.0, after.0)
    };
    let mut declared = vec![false; SIZE];
    for w in written
        .iter()
        .filter(|w| redirect || arena.contains(&parts[w.part]))
    {
        let start = region.offset(places[w.part]) + w.offset as usize;
        declared[start..start + w.len as usize].fill(true);
    }
    let stray: Vec<usize> = (0..SIZE)
        .filter(|&i| before[i] != after[i] && !declared[i])
        .collect();
    assert!(
        stray.is_empty(),
        "{name} = {result}: written but not declared: {} bytes from {:#x}, parts {parts:x?}, {written:?}",
        stray.len(),
        region.addr(stray[0])
    );
    let changed = parts.iter().zip(&places).map(|(p, place)| {
        if !redirect && !arena.contains(p) {
            return Vec::new();
        }
        let start = region.offset(*place);
        (start..start + p.len as usize)
            .map(|i| before[i] != after[i])
            .collect()
    });
    Run {
        result,
        changed: changed.collect(),
        parts,
        written,
    }
}

/// Gives every part a place in `scratch` and makes the arguments, or the words in other parts, point there.
fn redirect_parts(parts: &[Part], scratch: &Region, mem: &Memory, args: &mut [u64; 6]) -> Vec<u64> {
    let mut places: Vec<u64> = Vec::new();
    let mut next = GAP;
    for p in parts {
        let len = p.len as usize;
        assert!(
            next + len + GAP <= SIZE,
            "a part of {len} bytes has no place in the scratch memory"
        );
        let place = scratch.addr(next);
        if p.copy_in {
            scratch.write(
                next,
                &mem.read_vec(p.addr, len)
                    .expect("a part that is copied in must be readable"),
            );
        }
        match p.holder {
            Holder::Arg(n) => {
                assert_eq!(args[usize::from(n)], p.addr.0);
                args[usize::from(n)] = place;
            }
            Holder::Within { part, offset } => {
                assert!(parts[part].copy_in && offset + 8 <= parts[part].len);
                let word = places[part] + offset;
                assert_eq!(mem.read_u64(Addr(word)).expect("holder"), p.addr.0);
                scratch.write(scratch.offset(word), &place.to_le_bytes());
            }
        }
        places.push(place);
        next = (next + len + GAP).next_multiple_of(16);
    }
    places
}

/// A directory that is removed when dropped.
pub struct Dir(pub std::path::PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rr-syscalls-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory for the test");
        Dir(path)
    }

    /// The path of an entry.
    pub fn name(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// A file with contents, open for reading and writing.
    pub fn file(&self, name: &str, contents: &[u8]) -> std::fs::File {
        std::fs::write(self.name(name), contents).expect("writing a file");
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(self.name(name))
            .expect("opening it")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A directory left over in /tmp is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
