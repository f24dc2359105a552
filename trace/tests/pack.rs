//! Packs: what goes in comes out; contents are stored once, holes stay holes; a hostile table leads nowhere.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::common::{header, noise, typical};
use rr_trace::pack::Pack;
use rr_trace::packing::PackWriter;
use rr_trace::{Error, Event, EventNumber, TraceReader, TraceWriter, WriterOptions};
use rr_tracee::{FileId, ReadAt};
use xxhash_rust::xxh3::xxh3_64;

const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;

struct Setup {
    tmp: tempfile::TempDir,
    files: Vec<(FileId, Vec<u8>)>,
}

impl Setup {
    /// A trace with events of some kinds of data, and some mapped files.
    fn new() -> Setup {
        let tmp = tempfile::tempdir().unwrap();
        let options = WriterOptions {
            quality: 2,
            ..Default::default()
        };
        let mut writer = TraceWriter::create(&tmp.path().join("trace"), &header(), &options).unwrap();
        let mut files = Vec::new();
        for (seed, len) in [(1, 0), (2, 1), (3, 4096), (4, 4097), (5, 300_000)] {
            let bytes = noise(seed, len);
            files.push((writer.files().add_bytes(&bytes).unwrap(), bytes));
        }
        for number in 1..2000 {
            let data = match number % 40 {
                0 => noise(number, 3000),
                1 => b"what is there again and again ".repeat(number as usize % 9 * 20),
                2 => vec![0; 5000],
                _ => vec![number as u8; number as usize % 50],
            };
            writer.append(typical(number, data)).unwrap();
        }
        writer.finish(0).unwrap();
        Setup { tmp, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    fn reader(&self) -> TraceReader {
        TraceReader::open(&self.path("trace")).unwrap()
    }

    fn pack(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        pack(&self.reader(), &path).unwrap();
        path
    }
}

fn pack(reader: &TraceReader, path: &Path) -> Result<u64, Error> {
    let mut writer = PackWriter::create(path, reader.header().uuid, NEVER)?;
    writer.add_trace(reader, 2)?;
    writer.finish()
}

fn events(trace: &TraceReader) -> Vec<Event> {
    trace
        .events_from(EventNumber(1))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn content(trace: &TraceReader, file: FileId) -> Vec<u8> {
    let member = trace.open_file(file).unwrap();
    let mut bytes = vec![0; member.size().unwrap() as usize];
    member.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(member.read_at(&mut [0], bytes.len() as u64).unwrap(), 0);
    bytes
}

#[test]
fn what_goes_in_comes_out() {
    let setup = Setup::new();
    let path = setup.pack("a.rrpack");
    let (directory, packed) = (setup.reader(), TraceReader::open(&path).unwrap());
    assert_eq!(events(&directory), events(&packed));
    assert_eq!(directory.header(), packed.header());
    assert_eq!(directory.exit_status(), packed.exit_status());
    let segment = setup.path("trace/segments/0000000000000001.seg");
    let files: usize = setup
        .files
        .iter()
        .map(|(_, bytes)| bytes.len().next_multiple_of(4096))
        .sum();
    let segment = segment.metadata().unwrap().len();
    assert!(path.metadata().unwrap().len() < segment * 9 / 10 + files as u64 + 3 * 4096);
    for (id, bytes) in &setup.files {
        assert!(content(&packed, *id) == *bytes);
        assert_eq!(packed.file_size(*id), Some(bytes.len() as u64));
    }
    assert!(matches!(
        packed.open_file(FileId(5)),
        Err(Error::MissingFile { .. })
    ));
    assert!(matches!(packed.checkpoint_dir(), Err(Error::ReadOnly { .. })));
    // A pack of a pack is the same file, and unpacked it is a trace.
    let again = setup.path("b.rrpack");
    pack(&packed, &again).unwrap();
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap());
    let to = setup.path("unpacked");
    rr_trace::unpack::unpack(&again, &to, NEVER).unwrap();
    let unpacked = TraceReader::open(&to).unwrap();
    assert_eq!(events(&directory), events(&unpacked));
    assert!(unpacked.files().unwrap() == directory.files().unwrap());
    Pack::open(&path).unwrap().check_all().unwrap();
}

#[test]
fn holes_stay_holes() {
    let setup = Setup::new();
    let mut writer =
        TraceWriter::create(&setup.path("sparse"), &header(), &WriterOptions::default()).unwrap();
    let file = File::create_new(setup.path("file")).unwrap();
    file.write_all_at(b"head", 0).unwrap();
    file.write_all_at(b"tail", 40 << 30).unwrap();
    file.set_len((50 << 30) + 1).unwrap();
    let id = writer
        .files()
        .add(&File::open(setup.path("file")).unwrap())
        .unwrap();
    writer.append(typical(1, vec![])).unwrap();
    writer.finish(0).unwrap();
    let path = setup.path("sparse.rrpack");
    pack(&TraceReader::open(&setup.path("sparse")).unwrap(), &path).unwrap();
    let meta = path.metadata().unwrap();
    assert!(meta.len() > 50 << 30 && meta.blocks() * 512 < 1 << 20, "{meta:?}");
    let packed = TraceReader::open(&path).unwrap();
    let member = packed.open_file(id).unwrap();
    assert_eq!(member.size().unwrap(), (50 << 30) + 1);
    let mut tail = [0; 6];
    member.read_exact_at(&mut tail, (40 << 30) - 1).unwrap();
    assert_eq!(tail, *b"\0tail\0");
    rr_trace::unpack::unpack(&path, &setup.path("unpacked"), NEVER).unwrap();
    let file = setup
        .path("unpacked/files")
        .join(id.to_string())
        .metadata()
        .unwrap();
    assert!(file.len() == (50 << 30) + 1 && file.blocks() * 512 < 1 << 20);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_stays() {
    let setup = Setup::new();
    // A file that a killed writer left long ago goes.
    let left = File::create(setup.path(".b.rrpack.tmp-7")).unwrap();
    left.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(100_000))
        .unwrap();
    let path = setup.pack("a.rrpack");
    let e = pack(&setup.reader(), &path).unwrap_err().to_string();
    assert!(e.contains("exists"), "{e}");
    let other = setup.path("b.rrpack");
    let asked: &(dyn Fn() -> bool + Sync) = &|| true;
    let mut writer = PackWriter::create(&other, header().uuid, asked).unwrap();
    assert!(matches!(
        writer.add_trace(&setup.reader(), 2),
        Err(Error::Interrupted)
    ));
    drop(writer);
    let to = setup.path("to");
    assert!(matches!(
        rr_trace::unpack::unpack(&path, &to, asked),
        Err(Error::Interrupted)
    ));
    assert!(matches!(
        rr_trace::unpack::unpack(&path, &setup.path("trace"), NEVER),
        Err(Error::Exists { .. })
    ));
    // A file that is not what its name says is not packed.
    let (id, _) = &setup.files[3];
    let file = setup.path("trace/files").join(id.to_string());
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, noise(4, 4096)).unwrap();
    assert!(matches!(
        pack(&setup.reader(), &other),
        Err(Error::Damaged { .. })
    ));
    let mut left: Vec<_> = std::fs::read_dir(setup.tmp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["a.rrpack", "trace"]);
}

/// Changes the table, and makes all checksums right again.
fn forged(pack: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = pack.to_vec();
    let table = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    change(&mut bytes[table..]);
    let sum = xxh3_64(&bytes[table..]);
    bytes[56..64].copy_from_slice(&sum.to_le_bytes());
    let sum = xxh3_64(&bytes[..64]);
    bytes[64..72].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_hostile_table_leads_nowhere() {
    let setup = Setup::new();
    let pack = std::fs::read(setup.pack("a.rrpack")).unwrap();
    let broken = setup.path("broken");
    let open = |bytes: &[u8]| {
        std::fs::write(&broken, bytes).unwrap();
        Pack::open(&broken)
    };
    open(&forged(&pack, |_| ())).unwrap();
    let set = |entry: usize, at: usize, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        open(&forged(&pack, move |table| {
            table[64 * entry + at..][..bytes.len()].copy_from_slice(&bytes);
        }))
    };
    let huge = u64::MAX.to_le_bytes();
    for (at, bytes) in [
        (0, &9u32.to_le_bytes()[..]),   // a kind that there is not
        (0, &3u32.to_le_bytes()[..]),   // out of order
        (4, &2u32.to_le_bytes()[..]),   // a place that there is not
        (8, &[1][..]),                  // the header's name is 0
        (24, &huge[..]),                // out of the file
        (24, &81u64.to_le_bytes()[..]), // between two words
        (24, &64u64.to_le_bytes()[..]), // the pack's own header
        (32, &huge[..]),
        (32, &((1u64 << 63) - 5000).to_le_bytes()[..]),
        (56, &[1][..]),
    ] {
        assert!(
            matches!(set(0, at, bytes), Err(Error::Damaged { .. })),
            "{at}: {bytes:?}"
        );
    }
    // Entry 2 is a mapped file: its name is its hash.
    assert!(matches!(set(2, 8, &[1, 2, 3]), Err(Error::Damaged { .. })));
    // The header's own place for the table.
    for (at, value) in [
        (40, 0u64),
        (40, u64::MAX),
        (48, 0),
        (48, u64::MAX / 64),
        (32, 0),
        (8, u64::MAX),
    ] {
        let mut bytes = pack.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let sum = xxh3_64(&bytes[..64]);
        bytes[64..72].copy_from_slice(&sum.to_le_bytes());
        assert!(open(&bytes).is_err(), "{at}: {value}");
    }
    // Shared contents that are not there.
    let bytes = forged(&pack, |table| {
        table[64 * 2 + 4..][..4].copy_from_slice(&1u32.to_le_bytes());
        table[64 * 2 + 24..][..8].fill(0);
    });
    std::fs::write(&broken, bytes).unwrap();
    let trace = TraceReader::open(&broken).unwrap();
    let missing = trace
        .files()
        .unwrap()
        .into_iter()
        .filter_map(|id| trace.open_file(id).err());
    let missing: Vec<String> = missing.map(|e| e.to_string()).collect();
    assert!(
        missing.len() == 1 && missing[0].contains("objects"),
        "{missing:?}"
    );
}
