//! The table of processes at the end of a recording is what its events say, however it ends and wherever it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::common::header;
use super::tasks::{call, clone, exec, exit, start};
use rr_trace::processes::{all, read_all};
use rr_trace::{Event, EventNumber, TraceReader, TraceWriter, WriterOptions};

/// A small generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Tasks that live, each with its process.
struct Tasks {
    live: BTreeMap<i32, i32>,
    random: Random,
}

impl Tasks {
    /// The next event of any of them.
    fn event(&mut self, number: u64) -> Event {
        if number == 1 {
            self.live.insert(10, 10);
            return start(1, 10, "/first");
        }
        let nth = self.random.below(self.live.len());
        let (tid, pid) = self.live.iter().nth(nth).map(|(tid, pid)| (*tid, *pid)).unwrap();
        // Numbers are used again.
        let free =
            (10..40).find(|tid| !self.live.contains_key(tid) && !self.live.values().any(|pid| pid == tid));
        match (self.random.below(8), free) {
            (0 | 1, Some(child)) => {
                self.live.insert(child, child);
                clone(number, tid, child, child)
            }
            (2, Some(child)) => {
                self.live.insert(child, pid);
                clone(number, tid, child, pid)
            }
            (3, _) => {
                // The other tasks of the process exit before.
                match self.live.iter().find(|(other, of)| **of == pid && **other != tid) {
                    Some((&other, _)) => self.exit(number, other),
                    None => {
                        self.live.remove(&tid);
                        self.live.insert(pid, pid);
                        exec(number, tid, pid, ["/a", "/b", "/c"][self.random.below(3)])
                    }
                }
            }
            (4 | 5, _) if self.live.len() > 1 => self.exit(number, tid),
            _ => call(number, tid),
        }
    }

    fn exit(&mut self, number: u64, tid: i32) -> Event {
        self.live.remove(&tid);
        exit(number, tid)
    }
}

/// Whatever happens in the first segment, its bytes are wrong now.
fn damage_first_segment(trace: &Path) {
    let mut segments: Vec<_> = std::fs::read_dir(trace.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    assert!(segments.len() > 1);
    let file = std::fs::File::options().write(true).open(&segments[0]).unwrap();
    file.write_all_at(&[0xaa; 8], 48).unwrap();
}

#[test]
fn the_table_says_what_the_events_say() {
    let tmp = tempfile::tempdir().unwrap();
    let (mut with_table, mut trimmed) = (0, 0);
    for seed in 1..=60 {
        let path = tmp.path().join(seed.to_string());
        let trims = seed % 2 == 0;
        let options = WriterOptions {
            trims,
            ..Default::default()
        };
        let mut writer = TraceWriter::create(&path, &header(), &options).unwrap();
        let trimmer = writer.trimmer();
        assert_eq!(trimmer.is_some(), trims);
        let mut tasks = Tasks {
            live: BTreeMap::new(),
            random: Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)),
        };
        let mut begin = 0;
        for number in 1..=150 {
            writer.append(tasks.event(number)).unwrap();
            if number % 20 == 0 {
                writer.start_segment().unwrap();
            }
            if let Some(trimmer) = &trimmer
                && number % 10 == 0
                && tasks.random.below(4) == 0
            {
                // Somewhere between the last beginning and now.
                begin += 1 + tasks.random.below((number - begin) as usize) as u64;
                begin = begin.min(number);
                writer.flush().unwrap();
                let deletion = trimmer.deletion().unwrap();
                trimmer.begin_at(&deletion, EventNumber(begin)).unwrap();
                trimmer
                    .delete(&deletion, EventNumber(begin), &BTreeSet::new())
                    .unwrap();
            }
        }
        if seed % 5 == 0 {
            // Killed: no table.
            writer.flush().unwrap();
            let reader = TraceReader::open(&path).unwrap();
            assert_eq!(all(&reader).unwrap(), read_all(&reader).unwrap());
            continue;
        }
        writer.finish(0).unwrap();
        let reader = TraceReader::open(&path).unwrap();
        let from_events = read_all(&reader).unwrap();
        assert!(from_events.len() > 3);
        assert_eq!(all(&reader).unwrap(), from_events, "seed {seed}, begin {begin}");
        trimmed += usize::from(begin > 0);
        // The table was used: it does not need the events.
        if reader.segments().len() > 1 {
            damage_first_segment(&path);
            assert_eq!(all(&reader).unwrap(), from_events, "seed {seed}, begin {begin}");
            assert!(read_all(&reader).is_err());
            with_table += 1;
        }
    }
    assert!(with_table > 20 && trimmed > 10, "{with_table} {trimmed}");
}

/// A table that was made for another beginning does not count.
#[test]
fn a_beginning_after_the_end_is_seen() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("trace");
    let options = WriterOptions {
        trims: true,
        ..Default::default()
    };
    let mut writer = TraceWriter::create(&path, &header(), &options).unwrap();
    let trimmer = writer.trimmer().unwrap();
    writer.append(start(1, 10, "/first")).unwrap();
    writer.append(clone(2, 10, 20, 20)).unwrap();
    writer.append(exit(3, 20)).unwrap();
    writer.append(call(4, 10)).unwrap();
    writer.finish(0).unwrap();
    assert_eq!(all(&TraceReader::open(&path).unwrap()).unwrap().len(), 2);
    let deletion = trimmer.deletion().unwrap();
    trimmer.begin_at(&deletion, EventNumber(3)).unwrap();
    let reader = TraceReader::open(&path).unwrap();
    let left = all(&reader).unwrap();
    assert_eq!(left.iter().map(|process| process.pid.0).collect::<Vec<_>>(), [10]);
    assert_eq!(left, read_all(&reader).unwrap());
}

/// More than a table may have: the events are read.
#[test]
fn a_large_table_is_left_out() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("trace");
    let mut writer = TraceWriter::create(&path, &header(), &WriterOptions::default()).unwrap();
    writer.append(start(1, 10, "/first")).unwrap();
    for number in 2..40 {
        writer.append(exec(number, 10, 10, &"x".repeat(100_000))).unwrap();
    }
    writer.finish(0).unwrap();
    let reader = TraceReader::open(&path).unwrap();
    let processes = all(&reader).unwrap();
    assert_eq!(processes[0].executed.len(), 39);
    assert_eq!(processes, read_all(&reader).unwrap());
}
