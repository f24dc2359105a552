//! The file `beginning` of a trace whose first events were deleted (`trim`): where replay begins, and what lives there.
//!
//! ```text
//! offset size
//!      0    8  magic "rr-begi\n"
//!      8    4  format version
//!     12    4  length of the message
//!     16   16  uuid of the trace
//!     32    8  xxh3-64 of the message
//!     40    8  xxh3-64 of bytes 0 to 39
//!     48       message Beginning
//! ```
//!
//! Keeps: where the file is, there is a checkpoint at its event, and all events after it. Whatever a trace has before that event is
//! left over, and counts for nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rr_schema::rr_capnp as wire;
use rr_tracee::{Addr, SpaceId, Tid};
use xxhash_rust::xxh3::xxh3_64;

use crate::dir::{BEGINNING, TraceDir};
use crate::error::{Error, Malformed, Result};
use crate::event::{EventNumber, ExecInfo};
use crate::frame::{FRAME_RAW_MAX, bytes_at, sum_is};
use crate::header::{FORMAT_VERSION, check_prefix};
use crate::lineage::{Executed, Living};
use crate::members::Members;
use crate::message;
use crate::name::Name;

const MAGIC: [u8; 8] = *b"rr-begi\n";

/// Bytes before the message.
const PREFIX_LEN: usize = 48;

/// The beginning of a trace whose first events were deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Beginning {
    /// The event of the checkpoint that replay begins at.
    pub(crate) event: EventNumber,
    /// The processes that live there.
    pub(crate) processes: Vec<Living>,
}

impl Beginning {
    /// The beginning of a trace that has lost its first events.
    pub(crate) fn read(members: &Members, uuid: &[u8; 16]) -> Result<Option<Beginning>> {
        let path = members.path_of(Name::Beginning);
        let file = match members.open(Name::Beginning) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            opened => opened?,
        };
        let mut bytes = Vec::new();
        let most = PREFIX_LEN as u64 + u64::from(FRAME_RAW_MAX) + 1;
        let read = file.reader().take(most).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(&path, "reading", e))?;
        Beginning::decode(&bytes, uuid, &path).map(Some)
    }

    /// Puts it into the trace in the place of the one before. When this returns, it is on the disk.
    pub(crate) fn write(&self, dir: &TraceDir, uuid: &[u8; 16]) -> Result<()> {
        const TEMPORARY: &str = ".beginning.tmp";
        let path = dir.path().join(BEGINNING);
        let bytes = self.encode(uuid, &path)?;
        // A recorder that was killed may have left one.
        let _ = nix::unistd::unlinkat(dir.fd(), TEMPORARY, nix::unistd::UnlinkatFlags::NoRemoveDir);
        let mut file: File = dir.create_file(None, TEMPORARY)?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        written.map_err(|e| Error::io(&path, "writing", e))?;
        nix::fcntl::renameat(dir.fd().as_fd(), TEMPORARY, dir.fd().as_fd(), BEGINNING)
            .and_then(|()| nix::unistd::fsync(dir.fd()))
            .map_err(|e| Error::io(&path, "renaming it into place", e))
    }

    fn encode(&self, uuid: &[u8; 16], path: &Path) -> Result<Vec<u8>> {
        let mut builder = capnp::message::Builder::new_default();
        let mut root = builder.init_root::<wire::beginning::Builder<'_>>();
        root.set_event(self.event.0);
        let mut processes = root.init_processes(self.processes.len() as u32);
        for (n, one) in self.processes.iter().enumerate() {
            let mut out = processes.reborrow().get(n as u32);
            out.set_pid(one.pid.0);
            out.set_parent(one.parent.map_or(0, |parent| parent.0));
            let mut tids = out.reborrow().init_tids(one.tids.len() as u32);
            for (n, tid) in one.tids.iter().enumerate() {
                tids.set(n as u32, tid.0);
            }
            out.set_executed(one.executed);
            if let Some(program) = &one.program {
                out.set_stack(program.stack.0);
                let exec = ExecInfo {
                    path: program.path.clone(),
                    args: program.args.clone(),
                    space: SpaceId(0),
                    tid: one.pid,
                };
                message::write_exec(out.init_program(), &exec);
            }
        }
        let mut message = Vec::new();
        let written = capnp::serialize_packed::write_message(&mut message, &builder);
        written.map_err(|e| Error::damaged(path, 0, e.to_string()))?;
        let mut out = Vec::with_capacity(PREFIX_LEN + message.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        out.extend_from_slice(uuid);
        out.extend_from_slice(&xxh3_64(&message).to_le_bytes());
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&message);
        Ok(out)
    }

    fn decode(bytes: &[u8], uuid: &[u8; 16], path: &Path) -> Result<Beginning> {
        check_prefix(bytes, &MAGIC, path)?;
        let damaged = |at: u64, why: &str| Err(Error::damaged(path, at, why));
        let Some((prefix, message)) = bytes.split_at_checked(PREFIX_LEN) else {
            return damaged(bytes.len() as u64, "the file ends within its header");
        };
        if !sum_is(&prefix[..40], u64::from_le_bytes(bytes_at(prefix, 40))) {
            return damaged(0, "wrong checksum of the prefix");
        }
        if prefix[16..32] != *uuid {
            return damaged(16, "it belongs to another trace");
        }
        let len = u32::from_le_bytes(bytes_at(prefix, 12));
        if message.len() as u64 != u64::from(len)
            || !sum_is(message, u64::from_le_bytes(bytes_at(prefix, 32)))
        {
            return damaged(PREFIX_LEN as u64, "wrong length or checksum of the message");
        }
        Beginning::from_message(message).map_err(|e| e.at(path, PREFIX_LEN as u64))
    }

    fn from_message(raw: &[u8]) -> Result<Beginning, Malformed> {
        let message = message::unpack(raw)?;
        let from = message.get_root::<wire::beginning::Reader<'_>>()?;
        let event = EventNumber(from.get_event());
        if event.0 == 0 || event.0 == u64::MAX {
            return Err(Malformed::new(format!("a beginning at event {event}")));
        }
        let mut processes = Vec::new();
        for one in from.get_processes()? {
            let program = match one.has_program() {
                true => {
                    let exec = message::read_exec(one.get_program()?)?;
                    Some(Arc::new(Executed {
                        at: event,
                        path: exec.path,
                        args: exec.args,
                        stack: Addr(one.get_stack()),
                    }))
                }
                false => None,
            };
            processes.push(Living {
                pid: Tid(one.get_pid()),
                parent: (one.get_parent() != 0).then(|| Tid(one.get_parent())),
                tids: one.get_tids()?.iter().map(Tid).collect(),
                executed: one.get_executed(),
                program,
            });
        }
        Ok(Beginning { event, processes })
    }
}
