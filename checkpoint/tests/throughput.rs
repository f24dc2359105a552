//! Measures capture, writing and restoring. Prints figures, asserts only that they are not absurd:
//!
//! ```text
//! cargo test --release -p rr-checkpoint --test throughput -- --ignored --nocapture
//! ```

mod common;

use std::time::{Duration, Instant};

use common::*;
use rr_checkpoint::{CheckpointWriter, Options, SharedSource, compare_space};
use rr_tracee::Memory;
use rr_tracee::ids::PAGE;

const PAGES: u64 = 25_600; // 100 MiB

/// Like a heap: a sixth noise, a third pointers and small numbers, a third text, the rest zeros.
fn fill(region: &mut Region) {
    let base = region.0.start.0;
    let mut x = 88_172_645_463_325_252u64;
    let mut random = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let words = [
        "checkpoint ",
        "while ",
        "recording ",
        "the ",
        "event ",
        "of ",
        "memory ",
        "x = y + 1; ",
    ];
    for p in 0..PAGES {
        let page: Vec<u8> = match p / 64 % 6 {
            0 => (0..512).flat_map(|_| random().to_le_bytes()).collect(),
            1 | 2 => (0..512u64)
                .flat_map(|i| {
                    match i % 4 {
                        0 => base + random() % (PAGES * PAGE) / 16 * 16,
                        1 => random() % 1000,
                        2 => 0x31,
                        _ => 0,
                    }
                    .to_le_bytes()
                })
                .collect(),
            3 | 4 => std::iter::repeat_with(|| words[random() as usize % words.len()])
                .flat_map(str::bytes)
                .take(PAGE as usize)
                .collect(),
            _ => vec![0; PAGE as usize],
        };
        region.write(p, &page);
    }
}

/// CPU time of this process, all threads; on a busy machine more telling than the clock.
fn cpu() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills in `usage`, for which zeros are valid, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

#[test]
#[ignore = "measures; run with --release"]
fn throughput() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut region = Region::anonymous(PAGES);
    fill(&mut region);
    let mb = (PAGES * PAGE) as f64 / 1e6;
    let mut event = 0;
    for level in [-3, 1, 3, 9] {
        for workers in [1, 2] {
            let options = Options {
                level,
                workers,
                buffer: 256 << 20,
                ..Options::default()
            };
            let mut writer = CheckpointWriter::start(dir.path().to_path_buf(), UUID, options).unwrap();
            let mut one = |name: &str| {
                event += 1;
                let (begin, cpu_begin) = (Instant::now(), cpu());
                let child = Child::fork();
                let fork = begin.elapsed();
                assert!(writer.submit(request(event, region.space(), SharedSource::frozen(child.0))));
                assert!(child.is_killed());
                let read = begin.elapsed();
                let stats = wait(&mut writer).result.unwrap();
                let all = begin.elapsed();
                let cpu = cpu() - cpu_begin;
                let rate = |t: Duration| mb / t.as_secs_f64();
                println!(
                    "level {level}, {workers} compressing: {name} checkpoint: fork {fork:.1?}, frozen for \
                     {read:.1?} ({:.0} MB/s), on disk after {all:.1?} ({:.0} MB/s), CPU {cpu:.1?} ({:.0} MB/s), \
                     {:.2} MB ({:.1} %)",
                    rate(read),
                    rate(all),
                    rate(cpu),
                    stats.bytes as f64 / 1e6,
                    stats.bytes as f64 / mb / 1e4
                );
            };
            one("first");
            one("unchanged");
            writer.finish().unwrap();
            if workers == 2 {
                let checkpoint = open(dir.path(), event);
                let (begin, cpu_begin) = (Instant::now(), cpu());
                let copy = Region::anonymous(PAGES);
                let own = Memory::of(rr_tracee::Tid(std::process::id() as i32));
                let (from, to) = (region.0.start, copy.0.start);
                checkpoint
                    .restore_pages(TARGET, |addr, bytes| own.write(to + (addr - from), bytes))
                    .unwrap();
                let (clock, cpu) = (begin.elapsed().as_secs_f64(), (cpu() - cpu_begin).as_secs_f64());
                println!(
                    "level {level}: restore {:.0} MB/s, CPU {:.0} MB/s",
                    mb / clock,
                    mb / cpu
                );
                let begin = Instant::now();
                let found =
                    compare_space(&checkpoint, SPACE, &region.space(), &own, &|_| unreachable!(), 1).unwrap();
                assert!(found.is_empty());
                println!(
                    "level {level}: compare {:.0} MB/s",
                    mb / begin.elapsed().as_secs_f64()
                );
            }
        }
    }
}
