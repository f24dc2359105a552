//! Contents of mapped files, in the trace and in the store beside it.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::common::header;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use rr_trace::{Error, TraceReader, TraceWriter, WriterOptions};
use rr_tracee::FileId;

struct Setup {
    tmp: tempfile::TempDir,
    traces: u32,
}

impl Setup {
    fn new() -> Setup {
        Setup {
            tmp: tempfile::tempdir().unwrap(),
            traces: 0,
        }
    }

    fn store(&self) -> PathBuf {
        self.tmp.path().join("traces/.files")
    }

    /// A program to map, changed long enough ago.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.tmp.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn writer(&mut self, store: Option<&Path>) -> TraceWriter {
        self.traces += 1;
        let dir = self.tmp.path().join(format!("trace{}", self.traces));
        let options = WriterOptions {
            store: store.map(Path::to_owned),
            ..Default::default()
        };
        TraceWriter::create(&dir, &header(), &options).unwrap()
    }
}

/// Waits until a change of the file would change its ctime for certain.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2200));
}

fn add(writer: &TraceWriter, path: &Path) -> FileId {
    let id = writer.files().add(&File::open(path).unwrap()).unwrap();
    writer.files().settle().unwrap();
    id
}

fn stored(writer: &TraceWriter, id: FileId) -> std::fs::Metadata {
    std::fs::symlink_metadata(writer.path().join("files").join(id.to_string())).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn stored_once_and_read_back() {
    let mut setup = Setup::new();
    let (a, b) = (setup.file("a", b"content"), setup.file("b", b"content"));
    let other = setup.file("c", b"other");
    let writer = setup.writer(None);
    let id = add(&writer, &a);
    assert_eq!(add(&writer, &b), id);
    assert_ne!(add(&writer, &other), id);
    assert_eq!(writer.files().add_bytes(b"content").unwrap(), id);
    let bytes = writer.files().add_bytes(b"made up").unwrap();
    writer.files().settle().unwrap();
    assert_eq!(names(&writer.path().join("files")).len(), 3);
    assert_eq!(stored(&writer, id).permissions().mode() & 0o777, 0o444);
    let dir = writer.path().to_owned();
    writer.finish(0).unwrap();

    let trace = TraceReader::open(&dir).unwrap();
    assert_eq!(
        std::fs::read(trace.open_file(id).unwrap().path()).unwrap(),
        b"content"
    );
    let mut text = String::new();
    std::io::Read::read_to_string(&mut trace.open_file(bytes).unwrap().reader(), &mut text).unwrap();
    assert_eq!(text, "made up");
    let e = trace.open_file(FileId(5)).unwrap_err();
    assert!(matches!(e, Error::MissingFile { .. }), "{e}");
    assert!(e.to_string().contains("00000000000000000000000000000005"), "{e}");
}

#[test]
fn the_store_is_linked_not_copied() {
    let mut setup = Setup::new();
    let store = setup.store();
    let program = setup.file("program", &[5; 100_000]);
    settle();
    let first = setup.writer(Some(&store));
    let id = add(&first, &program);
    let inode = stored(&first, id).ino();
    assert_eq!(
        std::fs::metadata(store.join(id.to_string())).unwrap().ino(),
        inode
    );
    assert_ne!(
        std::fs::metadata(&program).unwrap().ino(),
        inode,
        "the original can be changed in place"
    );
    assert_eq!(names(&store.join("index")).len(), 1);

    // The second trace finds it by the file's state: it would not notice other contents in the store.
    let second = setup.writer(Some(&store));
    assert_eq!(add(&second, &program), id);
    assert_eq!(stored(&second, id).ino(), inode);
    assert_eq!(stored(&second, id).nlink(), 3);

    // A changed file is another content, even with the size and mtime of the old one.
    let before = std::fs::metadata(&program).unwrap();
    std::fs::write(&program, [6; 100_000]).unwrap();
    let time = TimeSpec::new(before.mtime(), before.mtime_nsec());
    utimensat(
        nix::fcntl::AT_FDCWD,
        &program,
        &time,
        &time,
        UtimensatFlags::FollowSymlink,
    )
    .unwrap();
    let third = setup.writer(Some(&store));
    let changed = add(&third, &program);
    assert_ne!(changed, id);
    // It changed a moment ago, so it might change again unnoticed: no index entry yet.
    assert_eq!(names(&store.join("index")).len(), 1);
    std::fs::write(&program, [7; 100_000]).unwrap();
    assert_ne!(add(&third, &program), changed);
}

#[test]
fn a_broken_store_is_done_without() {
    let mut setup = Setup::new();
    let store = setup.store();
    let program = setup.file("program", b"#!/bin/sh\n");
    settle();
    let writer = setup.writer(Some(&store));
    let id = add(&writer, &program);

    // Contents missing, of another length, or no regular file: read again.
    let content = store.join(id.to_string());
    for damage in 0..3 {
        std::fs::remove_file(&content).unwrap();
        match damage {
            0 => {}
            1 => std::fs::write(&content, b"short").unwrap(),
            _ => std::os::unix::fs::symlink("/etc/passwd", &content).unwrap(),
        }
        let writer = setup.writer(Some(&store));
        assert_eq!(add(&writer, &program), id);
        assert!(stored(&writer, id).is_file());
        assert_eq!(
            std::fs::read(writer.path().join("files").join(id.to_string())).unwrap(),
            b"#!/bin/sh\n"
        );
        assert!(std::fs::symlink_metadata(&content).unwrap().is_file(), "repaired");
    }
    // An index entry that points out of the store.
    let entry = store.join("index").join(&names(&store.join("index"))[0]);
    std::fs::remove_file(&entry).unwrap();
    std::os::unix::fs::symlink("../../../../etc/passwd", &entry).unwrap();
    let writer = setup.writer(Some(&store));
    assert_eq!(add(&writer, &program), id);

    // A place where none can be made, and one that others can write to.
    let file = setup.file("file", b"");
    let open = setup.tmp.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for unusable in [file.join("store"), open] {
        let writer = setup.writer(Some(&unusable));
        assert_eq!(add(&writer, &program), id);
        assert_eq!(stored(&writer, id).nlink(), 1);
    }
}

#[test]
fn a_trace_can_be_made_in_the_place_of_one_that_was_emptied() {
    let setup = Setup::new();
    let dir = setup.tmp.path().join("trace");
    let options = WriterOptions {
        is_recycled: true,
        ..Default::default()
    };
    let make = |options| TraceWriter::create(&dir, &header(), options);
    let inode = |part: &str| std::fs::metadata(dir.join(part)).unwrap().ino();
    make(&options).unwrap().finish(0).unwrap();
    let before = ["", "segments", "files", "checkpoints"].map(inode);
    // It is not empty yet.
    assert!(matches!(make(&options), Err(Error::Exists { .. })));
    std::fs::create_dir(dir.join("other")).unwrap();
    std::fs::write(dir.join("other/note"), "note").unwrap();
    rr_trace::recycle(&dir).unwrap();
    let usual = WriterOptions::default();
    assert!(matches!(make(&usual), Err(Error::Exists { .. })));
    assert!(TraceReader::open(&dir).is_err());
    make(&options).unwrap().finish(3).unwrap();
    assert_eq!(["", "segments", "files", "checkpoints"].map(inode), before);
    assert_eq!(TraceReader::open(&dir).unwrap().exit_status(), Some(3));
    // A link that somebody has put there instead of a part is no part.
    rr_trace::recycle(&dir).unwrap();
    std::fs::remove_dir(dir.join("files")).unwrap();
    std::os::unix::fs::symlink(setup.tmp.path(), dir.join("files")).unwrap();
    assert!(matches!(make(&options), Err(Error::Exists { .. })));
    rr_trace::recycle(&setup.tmp.path().join("none")).unwrap();
}

#[test]
fn notes_about_contents_are_for_all_traces() {
    let mut setup = Setup::new();
    let store = setup.store();
    let path = setup.file("a", b"content");
    let first = setup.writer(Some(&store));
    let id = add(&first, &path);
    assert_eq!(first.files().note(id, "kind"), None);
    first.files().set_note(id, "kind", b"first");
    first.files().set_note(id, "kind", b"second");
    first.files().set_note(id, "other", b"");
    let other = setup.writer(Some(&store));
    assert_eq!(other.files().note(id, "kind").as_deref(), Some(&b"second"[..]));
    assert_eq!(other.files().note(id, "other").as_deref(), Some(&b""[..]));
    let mut notes = names(&store.join("notes"));
    notes.sort();
    assert_eq!(notes, [format!("{id}.kind"), format!("{id}.other")]);
    // One that is damaged is none.
    let note = store.join("notes").join(format!("{id}.kind"));
    let mut bytes = std::fs::read(&note).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&note, &bytes).unwrap();
    assert_eq!(other.files().note(id, "kind"), None);
    std::fs::write(&note, "").unwrap();
    assert_eq!(other.files().note(id, "kind"), None);
    // Without a store there are none.
    let alone = setup.writer(None);
    alone.files().set_note(id, "kind", b"lost");
    assert_eq!(alone.files().note(id, "kind"), None);
    // They go with the contents.
    drop((first, other, alone));
    rr_trace::prune::prune_store(&store, std::time::Duration::ZERO).unwrap();
    assert_eq!(names(&store.join("notes")).len(), 2, "a trace has the contents");
    std::fs::remove_file(store.join(id.to_string())).unwrap();
    rr_trace::prune::prune_store(&store, std::time::Duration::ZERO).unwrap();
    assert!(names(&store.join("notes")).is_empty());
}

#[test]
fn many_recorders_share_a_store() {
    let mut setup = Setup::new();
    let store = setup.store();
    let programs: Vec<PathBuf> = (0..20u8)
        .map(|i| setup.file(&format!("p{i}"), &vec![i; 50_000]))
        .collect();
    let writers: Vec<TraceWriter> = (0..4).map(|_| setup.writer(Some(&store))).collect();
    std::thread::scope(|scope| {
        for writer in &writers {
            scope.spawn(|| {
                for (i, program) in programs.iter().enumerate() {
                    let id = add(writer, program);
                    let content = std::fs::read(writer.path().join("files").join(id.to_string())).unwrap();
                    assert!(content == vec![i as u8; 50_000]);
                }
            });
        }
    });
    assert_eq!(
        names(&store).len(),
        21,
        "20 contents and the index: {:?}",
        names(&store)
    );
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let mut setup = Setup::new();
    let writer = setup.writer(None);
    let e = writer.files().add(&File::open("/dev/zero").unwrap()).unwrap_err();
    assert!(
        e.to_string()
            .starts_with("/dev/zero: storing a mapped file: not a regular file"),
        "{e}"
    );
}

/// Nobody waits for the disk when contents come into the store: so they may be lost with the power, and are looked at again.
#[test]
fn what_was_lost_with_the_power_is_read_again() {
    let mut setup = Setup::new();
    let store = setup.store();
    let program = setup.file("program", &[5; 100_000]);
    settle();
    let id = add(&setup.writer(Some(&store)), &program);
    let entry = store.join("index").join(&names(&store.join("index"))[0]);
    let written_in = |boot: &str| {
        std::fs::remove_file(&entry).unwrap();
        std::os::unix::fs::symlink(format!("{id}{boot}"), &entry).unwrap();
    };
    let target = || std::fs::read_link(&entry).unwrap().to_str().unwrap().to_owned();
    assert!(target().starts_with(&format!("{id}.")), "{}", target());

    // All is there.
    written_in(".before");
    let inode = std::fs::metadata(store.join(id.to_string())).unwrap().ino();
    let second = setup.writer(Some(&store));
    assert_eq!(add(&second, &program), id);
    assert_eq!((stored(&second, id).ino(), target()), (inode, id.to_string()));

    // As long as it was, and empty.
    written_in(".before");
    let content = store.join(id.to_string());
    std::fs::remove_file(&content).unwrap();
    File::create(&content).unwrap().set_len(100_000).unwrap();
    let third = setup.writer(Some(&store));
    assert_eq!(add(&third, &program), id);
    let path = third.path().join("files").join(id.to_string());
    assert_eq!(std::fs::read(path).unwrap(), [5; 100_000]);
    assert_eq!(std::fs::read(&content).unwrap(), [5; 100_000]);
}

/// Two terabytes of which next to nothing is data: neither read nor written.
#[test]
fn long_holes_cost_nothing() {
    let mut setup = Setup::new();
    let file = |name: &str, at: u64| {
        let path = setup.tmp.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(2 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", at).unwrap();
        path
    };
    let (one, other) = (file("one", 1 << 40), file("other", 1 << 39));
    let writer = setup.writer(None);
    let began = std::time::Instant::now();
    let ids = [add(&writer, &one), add(&writer, &other)];
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        assert_eq!(writer.files().length(id).unwrap(), 2 << 40);
        assert_eq!(stored(&writer, id).len(), 2 << 40);
        assert!(stored(&writer, id).blocks() * 512 < 1 << 20);
    }
}
