//! Files, directories, descriptors, attributes, memory.

use std::io::{Read, Seek, SeekFrom, Write, pipe};
use std::os::unix::fs::symlink;

use super::harness::*;

const CWD: u64 = libc::AT_FDCWD as u64;
/// Contents of test files. Tests read the whole length back.
const CONTENTS: &[u8] = b"I wandered lonely as a cloud that floats on high";

#[test]
fn attributes_of_files() {
    let dir = Dir::new();
    let file = dir.file("f", CONTENTS);
    let path = dir.name("f");
    writes("stat", |l| args([l.text(&path), l.out(144)]));
    writes("lstat", |l| args([l.text(&path), l.out(144)]));
    writes("fstat", |l| args([fd(&file), l.out(144)]));
    writes("newfstatat", |l| args([CWD, l.text(&path), l.out(144)]));
    writes("statx", |l| args([CWD, l.text(&path), 0, 0xfff, l.out(256)]));
    writes("statfs", |l| args([l.text("/proc"), l.out(120)]));
    writes("fstatfs", |l| args([fd(&file), l.out(120)]));
    writes("ustat", |l| args([dev_of_root(), l.out(32)]));
    check("file_getattr", |l| args([CWD, l.text(&path), l.out(64), 64, 0]));
    fails("stat", libc::ENOENT, |l| args([l.text("/no/such"), l.out(144)]));
    fails("stat", libc::EFAULT, |l| args([l.text(&path), 8]));
}

/// A device for ustat(2). Any mounted file system will do.
fn dev_of_root() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/").unwrap().dev()
}

#[test]
fn reading() {
    let dir = Dir::new();
    let file = dir.file("f", CONTENTS);
    let vectors = |l: &mut Layout| {
        let v = [l.out(5), 5, l.out(0), 0, l.out(7), 7, l.out(100), 100];
        l.u64s(&v)
    };
    assert_eq!(writes("pread64", |l| args([fd(&file), l.out(20), 20, 3])), 20);
    assert_eq!(
        writes("pread64", |l| args([fd(&file), l.out(200), 200, 0])),
        CONTENTS.len() as i64
    );
    assert_eq!(ok("pread64", |l| args([fd(&file), l.out(200), 200, 1000])), 0);
    assert_eq!(
        writes("preadv", |l| args([fd(&file), vectors(l), 4, 0])),
        CONTENTS.len() as i64
    );
    assert_eq!(writes("preadv", |l| args([fd(&file), vectors(l), 4, 40])), 8);
    assert_eq!(
        writes("preadv2", |l| args([fd(&file), vectors(l), 4, 0, 0, 0])),
        CONTENTS.len() as i64
    );
    fails("readv", libc::EINVAL, |l| args([fd(&file), vectors(l), 5000]));
    fails("pread64", libc::EBADF, |l| args([9999, l.out(20), 20, 3]));
    let rewind = || (&file).seek(SeekFrom::Start(0)).unwrap();
    writes("read", |l| {
        rewind();
        args([fd(&file), l.out(20), 20])
    });
    writes("readv", |l| {
        rewind();
        args([fd(&file), vectors(l), 4])
    });
}

#[test]
fn reading_pipes_and_counters() {
    let (from, mut to) = pipe().unwrap();
    let mut fed = |n: usize| to.write_all(&CONTENTS[..n]).unwrap();
    let fed = std::cell::RefCell::new(&mut fed);
    assert_eq!(
        writes("read", |l| {
            fed.borrow_mut()(9);
            args([fd(&from), l.out(4000), 4000])
        }),
        9
    );
    writes("ioctl", |l| {
        fed.borrow_mut()(9);
        args([fd(&from), 0x541b, l.out(4)]) // FIONREAD
    });
    let counter = take(raw("eventfd2", args([1, libc::EFD_SEMAPHORE as u64])));
    let full = take(raw("eventfd2", args([100, libc::EFD_SEMAPHORE as u64])));
    assert_eq!(writes("read", |l| args([fd(&full), l.out(8), 8])), 8);
    fails("read", libc::EINVAL, |l| args([fd(&counter), l.out(8), 4]));
}

#[test]
fn descriptors() {
    // The descriptors that these calls make stay open until the process ends.
    writes("pipe", |l| args([l.out(8)]));
    writes("pipe2", |l| args([l.out(8), libc::O_CLOEXEC as u64]));
    fails("pipe2", libc::EINVAL, |l| args([l.out(8), u64::MAX >> 33]));

    let dir = Dir::new();
    let file = dir.file("f", CONTENTS);
    let lock = [libc::F_RDLCK as u64, 0, 0, 0];
    writes("fcntl", |l| {
        args([fd(&file), libc::F_GETLK as u64, l.u64s(&lock)])
    });
    check("fcntl", |l| {
        args([fd(&file), libc::F_OFD_GETLK as u64, l.u64s(&lock)])
    });
    writes("fcntl", |l| args([fd(&file), 16, l.out(8)])); // F_GETOWN_EX
    writes("fcntl", |l| args([fd(&file), 17, l.out(8)])); // F_GETOWNER_UIDS
    check("fcntl", |l| args([fd(&file), 1035, l.out(8)])); // F_GET_RW_HINT
    ok("fcntl", |_| args([fd(&file), libc::F_GETFL as u64]));
    fails("fcntl", libc::EINVAL, |l| args([fd(&file), 7777, l.out(8)]));
}

#[test]
fn offsets_that_move_on() {
    let dir = Dir::new();
    let from = dir.file("from", &[7; 10_000]);
    let to = dir.file("to", &[7; 10_000]);
    let (mut reader, writer) = pipe().unwrap();
    writes("sendfile", |l| args([fd(&to), fd(&from), l.u64s(&[5]), 100]));
    writes("copy_file_range", |l| {
        args([fd(&from), l.u64s(&[5]), fd(&to), l.u64s(&[9]), 100, 0])
    });
    writes("splice", |l| {
        args([fd(&from), l.u64s(&[5]), fd(&writer), 0, 100, 0])
    });
    reader.read_exact(&mut [0; 500]).unwrap();
    fails("splice", libc::ESPIPE, |l| {
        args([fd(&from), l.u64s(&[5]), fd(&writer), l.u64s(&[5]), 100, 0])
    });
}

#[test]
fn directories_and_links() {
    let dir = Dir::new();
    for i in 0..20 {
        dir.file(&"name".repeat(i % 5 + 1).replace('m', &i.to_string()), b"");
    }
    symlink("where it points", dir.name("link")).unwrap();
    let open = std::fs::File::open(&dir.0).unwrap();
    for call in ["getdents", "getdents64"] {
        let n = writes(call, |l| {
            raw("lseek", args([fd(&open), 0, 0]));
            args([fd(&open), l.out(300), 300])
        });
        assert!(n > 100);
    }
    fails("getdents64", libc::EINVAL, |l| {
        raw("lseek", args([fd(&open), 0, 0]));
        args([fd(&open), l.out(10), 10])
    });
    writes("getcwd", |l| args([l.out(4096), 4096]));
    fails("getcwd", libc::ERANGE, |l| args([l.out(1), 1]));
    let link = dir.name("link");
    assert_eq!(writes("readlink", |l| args([l.text(&link), l.out(100), 100])), 15);
    assert_eq!(writes("readlink", |l| args([l.text(&link), l.out(100), 5])), 5);
    assert_eq!(
        writes("readlinkat", |l| args([CWD, l.text(&link), l.out(100), 100])),
        15
    );
}

#[test]
fn handles_and_mounts() {
    let dir = Dir::new();
    dir.file("f", CONTENTS);
    let path = dir.name("f");
    let handle = |l: &mut Layout, room: u32| {
        let handle = l.out(8 + 128);
        let header = l.u32s(&[room, 0]);
        // The size goes in front of poisoned space.
        // SAFETY: both are in the arena and hold 8 bytes.
        unsafe { std::ptr::copy_nonoverlapping(header as *const u8, handle as *mut u8, 8) };
        handle
    };
    check("name_to_handle_at", |l| {
        args([CWD, l.text(&path), handle(l, 0), l.out(8), 0])
    });
    check("name_to_handle_at", |l| {
        args([CWD, l.text(&path), handle(l, 128), l.out(8), 0])
    });
    check("name_to_handle_at", |l| {
        args([CWD, l.text(&path), handle(l, 128), l.out(8), 1])
    });

    // struct mnt_id_req: size, spare, mount (here: the root of all), parameter.
    let all = u64::MAX;
    check("listmount", |l| {
        args([l.u64s(&[24, all, 0]), l.out(8 * 100), 100, 0])
    });
    let mut buf = [0u64; 32];
    let path = std::ffi::CString::new("/").unwrap();
    // STATX_MNT_ID_UNIQUE
    let got = raw(
        "statx",
        args([CWD, path.as_ptr() as u64, 0, 0x4000, buf.as_mut_ptr() as u64]),
    );
    assert_eq!(got, 0);
    let mount = buf[18];
    // STATMOUNT_SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE
    check("statmount", |l| {
        args([l.u64s(&[24, mount, 0x3b]), l.out(2000), 2000, 0])
    });
    fails("statmount", libc::EOVERFLOW, |l| {
        args([l.u64s(&[24, mount, 0x3b]), l.out(520), 520, 0])
    });
}

#[test]
fn extended_attributes() {
    let dir = Dir::new();
    let file = dir.file("f", CONTENTS);
    let path = dir.name("f");
    let set = check("setxattr", |l| {
        args([l.text(&path), l.text("user.a"), l.text("12345"), 5, 0])
    });
    if set == -i64::from(libc::EOPNOTSUPP) {
        eprintln!("no extended attributes in {}: not tested", dir.0.display());
        return;
    }
    for call in ["getxattr", "lgetxattr"] {
        assert_eq!(
            writes(call, |l| args([l.text(&path), l.text("user.a"), l.out(100), 100])),
            5
        );
        assert_eq!(
            ok(call, |l| args([l.text(&path), l.text("user.a"), l.out(100), 0])),
            5
        );
        fails(call, libc::ERANGE, |l| {
            args([l.text(&path), l.text("user.a"), l.out(100), 2])
        });
    }
    assert_eq!(
        writes("fgetxattr", |l| args([
            fd(&file),
            l.text("user.a"),
            l.out(100),
            100
        ])),
        5
    );
    assert!(writes("listxattr", |l| args([l.text(&path), l.out(100), 100])) >= 7);
    assert!(ok("listxattr", |l| args([l.text(&path), 0, 0])) >= 7);
    writes("llistxattr", |l| args([l.text(&path), l.out(100), 100]));
    writes("flistxattr", |l| args([fd(&file), l.out(100), 100]));
    // Since Linux 6.13.
    check("getxattrat", |l| {
        let value = [l.out(100), 100];
        args([CWD, l.text(&path), 0, l.text("user.a"), l.u64s(&value), 16])
    });
    check("listxattrat", |l| args([CWD, l.text(&path), 0, l.out(100), 100]));
}

#[test]
fn requests_to_files() {
    let dir = Dir::new();
    let file = dir.file("f", &[7; 20_000]);
    for request in [
        0x2,
        0x5460,
        0x8008_6601,
        0x8008_7601,
        0x801c_581f,
        0x8100_9431,
        0x8011_1500,
    ] {
        // FIGETBSZ, FIOQSIZE, GETFLAGS, GETVERSION, FSGETXATTR, GETFSLABEL, GETFSUUID
        check("ioctl", |l| args([fd(&file), request, l.out(4096)]));
    }
    check("ioctl", |l| {
        // FS_IOC_FIEMAP of the whole file, room for 4 extents.
        let map = l.out(32 + 4 * 56);
        let header = l.u64s(&[0, u64::MAX, 0, 4]);
        // SAFETY: both are in the arena and hold 32 bytes.
        unsafe { std::ptr::copy_nonoverlapping(header as *const u8, map as *mut u8, 32) };
        args([fd(&file), 0xc020_660b, map])
    });
    let null = std::fs::File::open("/dev/null").unwrap();
    fails("ioctl", libc::ENOTTY, |l| args([fd(&null), 0x5401, l.out(100)]));
    if let Ok(random) = std::fs::File::open("/dev/urandom") {
        writes("ioctl", |l| args([fd(&random), 0x8004_5200, l.out(4)])); // RNDGETENTCNT
    }
    let namespace = std::fs::File::open("/proc/self/ns/user").unwrap();
    writes("ioctl", |l| args([fd(&namespace), 0xb704, l.out(4)])); // NS_GET_OWNER_UID
    if let Ok(network) = std::fs::File::open("/proc/self/ns/net") {
        check("ioctl", |l| args([fd(&network), 0xb704, l.out(4)]));
    }
}

#[test]
fn memory_of_ones_own() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    check("cachestat", |l| {
        args([fd(&file), l.u64s(&[0, 100_000]), l.out(40), 0])
    });
    writes("mincore", |l| {
        let page = l.out(1) & !4095;
        args([page, 3 * 4096, l.out(10)])
    });
    fails("mincore", libc::ENOMEM, |l| args([4096, 8192, l.out(10)]));
    let pid = u64::from(std::process::id());
    assert_eq!(
        writes("process_vm_readv", |l| {
            let local = [l.out(3), 3, l.out(40), 40];
            let remote = [l.put(&[1; 30]), 30];
            args([pid, l.u64s(&local), 2, l.u64s(&remote), 1, 0])
        }),
        30
    );
    check("get_mempolicy", |l| args([l.out(4), l.out(200), 1025, 0, 0]));
    check("move_pages", |l| {
        let pages = [l.put(&[1]), 8];
        args([0, 2, l.u64s(&pages), 0, l.out(8), 0])
    });
}

/// Questions to `/proc` about memory: the question holds the address for the answer.
#[test]
fn memory_by_proc() {
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let maps = std::fs::File::open("/proc/self/maps").unwrap();
    let here = pagemap_page();
    // PAGEMAP_SCAN for pages that are there (PAGE_IS_PRESENT); kernels before 6.7 do not know it.
    check("ioctl", |l| {
        let regions = l.out(24 * 4);
        let scan = [96, 0, here, here + 4096, 0, regions, 4, 0, 0, 0, 8, 8];
        args([fd(&pagemap), 0xc060_6610, l.u64s(&scan)])
    });
    // PROCMAP_QUERY with a name and a build id; kernels before 6.11 do not know it.
    check("ioctl", |l| {
        let (name, id) = (l.out(200), l.out(20));
        let sizes = 200 | 20 << 32;
        let code = memory_by_proc as *const () as u64;
        let query = [104, 0, code, 0, 0, 0, 0, 0, 0, 0, sizes, name, id];
        args([fd(&maps), 0xc068_6611, l.u64s(&query)])
    });
}

/// A page of ours that exists.
fn pagemap_page() -> u64 {
    static HERE: u64 = 1;
    &raw const HERE as u64 & !4095
}
