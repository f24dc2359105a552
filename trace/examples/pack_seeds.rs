//! Writes small packs as a fuzzer's first inputs: `pack_seeds DIR`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use rr_trace::packing::PackWriter;
use rr_trace::{TraceReader, TraceWriter, WriterOptions};

fn main() {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("usage: pack_seeds DIR"));
    std::fs::create_dir_all(&out).unwrap();
    let tmp = tempfile::tempdir().unwrap();
    for seed in 0..8 {
        let dir = tmp.path().join(seed.to_string());
        let mut writer = TraceWriter::create(&dir, &common::header(), &WriterOptions::default()).unwrap();
        for file in 0..seed % 4 {
            writer
                .files()
                .add_bytes(&common::noise(file, 100 * file as usize))
                .unwrap();
        }
        for number in 1..2 + seed {
            writer
                .append(common::typical(number, common::noise(number, 40)))
                .unwrap();
        }
        writer.finish(0).unwrap();
        if seed % 2 == 1 {
            std::fs::write(dir.join("ci.json"), "{}").unwrap();
            std::fs::write(dir.join("debug"), format!("ab12 {}\n", "0".repeat(32))).unwrap();
        }
        let reader = TraceReader::open(&dir).unwrap();
        let pack = out.join(format!("pack-{seed}"));
        let _ = std::fs::remove_file(&pack);
        let never = || false;
        let mut packer = PackWriter::create(&pack, reader.header().uuid, &never).unwrap();
        packer.add_trace(&reader, 1).unwrap();
        packer.finish().unwrap();
    }
    println!("8 seeds in {}", out.display());
}
