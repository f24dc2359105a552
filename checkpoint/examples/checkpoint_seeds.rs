//! Writes inputs for the fuzz target `checkpoint` into the directory that is given: a checkpoint file, and
//! what is inside it as that target takes it.

use std::path::Path;
use std::process::ExitCode;

use rr_checkpoint::file::HEADER_LEN;
use rr_checkpoint::{
    CaptureRequest, Changes, CheckpointWriter, ObjectImage, ObjectSource, Options, SessionImage,
    SharedSource, SpaceImage, SpaceSource, TaskImage, checkpoint_path,
};
use rr_trace::compress::decompress;
use rr_trace::event::EventNumber;
use rr_tracee::{
    Addr, AddrRange, AddressSpace, Backing, ExtendedState, FileId, ForkPolicy, Mapping, ObjectId, Prot,
    Registers, SpaceId, Tid,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: checkpoint_seeds DIR");
        return ExitCode::FAILURE;
    };
    match seeds(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn seeds(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let scratch = dir.join("scratch");
    let mut writer = CheckpointWriter::start(scratch.clone(), [7; 16], Options::default())?;
    writer.submit(request());
    for outcome in writer.finish()?.outcomes {
        outcome.result?;
    }
    let file = std::fs::read(checkpoint_path(&scratch, EventNumber(9)))?;
    std::fs::remove_dir_all(&scratch)?;
    std::fs::write(dir.join("file"), &file)?;
    std::fs::write(dir.join("inside"), inside(&file)?)?;
    Ok(())
}

/// The sections of a file as they are before compression, with their lengths in front, and its blocks.
fn inside(file: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Result<usize> { Ok(u64::from_le_bytes(file[at..at + 8].try_into()?) as usize) };
    let (mut lengths, mut sections, mut blocks_end) = (Vec::new(), Vec::new(), file.len());
    for entry in [48, 80, 112] {
        let (offset, stored, raw) = (word(entry)?, word(entry + 8)?, word(entry + 16)?);
        let bytes = &file[offset..offset + stored];
        sections.extend(if stored == raw {
            bytes.to_vec()
        } else {
            decompress(bytes, raw)?
        });
        lengths.extend((raw as u16).to_le_bytes());
        blocks_end = blocks_end.min(offset);
    }
    Ok([&lengths[..], &sections, &file[HEADER_LEN..blocks_end]].concat())
}

/// A small session with a bit of everything. Its pages are all handed over as copies: the addresses are
/// not mapped in this process.
fn request() -> CaptureRequest {
    let mapping = |page: u64, pages: u64, backing, fork| Mapping {
        range: AddrRange::sized(Addr(page << 12), pages << 12),
        prot: Prot::RW,
        backing,
        fork,
        name: "name".into(),
    };
    let space = AddressSpace::from_mappings([
        mapping(16, 8, Backing::Anonymous, ForkPolicy::Wipe),
        mapping(
            40,
            8,
            Backing::File {
                file: FileId(77 << 64 | 1),
                offset: 4096,
            },
            ForkPolicy::Omit,
        ),
        mapping(
            60,
            2,
            Backing::Shared {
                object: ObjectId(3),
                offset: 0,
            },
            ForkPolicy::Copy,
        ),
        mapping(70, 1, Backing::Rr, ForkPolicy::Copy),
    ]);
    let text = |n: usize| (0..n * 4096).map(|i| (i / 300) as u8).collect::<Vec<u8>>();
    let task = TaskImage {
        tid: Tid(77),
        tgid: Tid(77),
        space: SpaceId(2),
        exe: "/bin/prog".into(),
        in_syscall: false,
        regs: Registers {
            rip: 0x1234,
            ..Registers::default()
        },
        xstate: ExtendedState(vec![3; 100]),
    };
    CaptureRequest {
        image: SessionImage {
            event: EventNumber(9),
            time_ns: 5,
            spaces: vec![SpaceImage {
                id: SpaceId(2),
                space,
            }],
            tasks: vec![task],
            objects: vec![
                ObjectImage {
                    id: ObjectId(3),
                    size: 8192,
                    content: None,
                },
                ObjectImage {
                    id: ObjectId(4),
                    size: 5000,
                    content: Some(FileId(u128::MAX / 7)),
                },
            ],
        },
        spaces: vec![SpaceSource {
            space: SpaceId(2),
            source: SharedSource::in_place(Tid(std::process::id() as i32)),
            extra: vec![(Addr(16 << 12), text(3)), (Addr(41 << 12), vec![0; 8192])],
            changes: Changes::Unknown,
        }],
        objects: vec![ObjectSource {
            object: ObjectId(3),
            pages: vec![(0, text(2))],
        }],
        pause_us: 1,
    }
}
