//! The trace's header: what was recorded, where and how.
//!
//! ```text
//! offset size
//!      0    8  magic "rrtrace\n"
//!      8    4  format version; the layout up to here is the same in all versions
//!     12    4  most bytes of a frame's payload in this trace (8 MiB)
//!     16    4  length of the message
//!     20    4  zero
//!     24    8  xxh3-64 of the message
//!     32    8  xxh3-64 of bytes 0 to 31
//!     40       packed `Header` message (schema/rr.capnp)
//! ```
//!
//! The file is written completely and renamed into place before anything else of the trace: a directory without it
//! is no trace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rr_schema::rr_capnp as wire;
use rr_tracee::cpuid::{self, CpuidEntry};
use xxhash_rust::xxh3::xxh3_64;

use crate::dir::{HEADER, TraceDir};
use crate::error::{Error, Malformed, Result};
use crate::frame::{FRAME_RAW_MAX, bytes_at, sum_is};
use crate::members::Members;
use crate::message;
use crate::name::Name;

/// The version of the format that this program writes: of the directory, segments and messages together.
/// It changes when an older program would misread a new trace; additions that it may ignore do not change it.
///
/// | version | since then |
/// |---|---|
/// | 5 | records of buffered calls may end with the digest of their payload |
/// | 6 | the library in the program answers `CPUID` |
/// | 7 | extended state may be shorter than the processor's, and `XGETBV` may trap |
/// | 8 | a trap may leave the task at its instruction: a page fault that the program handles |
pub const FORMAT_VERSION: u32 = 8;
/// The oldest version that this program reads.
const OLDEST_VERSION: u32 = 4;

const MAGIC: [u8; 8] = *b"rrtrace\n";
const PREFIX_LEN: usize = 40;

/// Facts about the recording: the program, the machine, the options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Name of the trace that no other has; segments and checkpoints repeat it.
    pub uuid: [u8; 16],
    /// Version of the rr that recorded. For people: what a reader must understand is [`FORMAT_VERSION`].
    pub program_version: String,
    /// When the recording began: nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub started_ns: i64,
    /// The recorded program and its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its environment, `NAME=value`.
    pub environ: Vec<OsString>,
    /// The machine and its kernel.
    pub uname: Uname,
    /// The processor, as `/proc/cpuinfo` names it.
    pub cpu_model: String,
    /// True if every `CPUID` was intercepted. If not, the program may have seen this processor.
    pub cpuid_faulting: bool,
    /// The answers of `CPUID` that the library in the program gives.
    pub cpuid: cpuid::Table,
    /// The level whose processors replay the trace, if it was recorded for that.
    pub portable: Option<cpuid::Level>,
    /// The CPU that the recording was bound to.
    pub bound_cpu: Option<u32>,
    /// The interval between two checkpoints, as the user asked for it (`rr_checkpoint::Interval`); `None`: none were
    /// made.
    pub checkpoint_interval: Option<String>,
    /// Size of a page, in bytes.
    pub page_size: u32,
    /// The seed, if scheduling was random.
    pub chaos_seed: Option<u64>,
    /// System calls that a seccomp filter around the recording refused, before the recorder could see them, and with which
    /// error number: they are no events.
    pub refused: BTreeMap<i64, i32>,
}

/// The answer of uname(2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uname {
    /// Operating system.
    pub sysname: String,
    /// Host name.
    pub nodename: String,
    /// Kernel release.
    pub release: String,
    /// Kernel build.
    pub version: String,
    /// Architecture.
    pub machine: String,
}

impl Uname {
    /// Returns the names of the running kernel.
    pub fn of_this_machine() -> Uname {
        // proc(5): these hold what uname(2) returns.
        let read = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
            text.map_or_else(|_| String::new(), |t| t.trim_end_matches('\n').to_owned())
        };
        Uname {
            sysname: read("ostype"),
            nodename: read("hostname"),
            release: read("osrelease"),
            version: read("version"),
            machine: std::env::consts::ARCH.to_owned(),
        }
    }
}

impl Header {
    /// A header for a recording that begins now on this machine. The caller sets what only the recorder knows:
    /// CPUID faulting and its answers (here: none), the CPU (here: none), the checkpoint interval (here: none) and the seed of chaos mode
    /// (here: none).
    pub fn for_this_machine(
        program_version: &str,
        args: Vec<OsString>,
        cwd: PathBuf,
        environ: Vec<OsString>,
    ) -> Result<Header> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(Header {
            uuid: new_uuid()?,
            program_version: program_version.to_owned(),
            started_ns: since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
            args,
            cwd,
            environ,
            uname: Uname::of_this_machine(),
            cpu_model: cpu_model(),
            cpuid_faulting: false,
            cpuid: cpuid::Table::default(),
            portable: None,
            bound_cpu: None,
            checkpoint_interval: None,
            page_size: rr_tracee::ids::PAGE as u32,
            chaos_seed: None,
            refused: BTreeMap::new(),
        })
    }

    /// The uuid in its usual form.
    pub fn uuid_string(&self) -> String {
        let hex: Vec<String> = self.uuid.iter().map(|b| format!("{b:02x}")).collect();
        [&hex[0..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..16]]
            .map(|part| part.concat())
            .join("-")
    }

    /// Writes the header of a new trace. The first thing that the writer's thread does is to make it durable (`writer_thread`): a
    /// disk can be slow, and nothing is said to be safe before that.
    pub(crate) fn write(&self, dir: &TraceDir) -> Result<()> {
        const TEMPORARY: &str = ".header.tmp";
        let path = dir.path().join(HEADER);
        let fail = |doing| {
            let path = path.clone();
            move |e| Error::io(&path, doing, e)
        };
        let bytes = self.encode(&path)?;
        let mut file = dir.create_file(None, TEMPORARY)?;
        file.write_all(&bytes).map_err(fail("writing the trace header"))?;
        nix::fcntl::renameat(dir.fd().as_fd(), TEMPORARY, dir.fd().as_fd(), HEADER)
            .map_err(|e| Error::io(&path, "renaming the trace header into place", e))
    }

    fn encode(&self, path: &Path) -> Result<Vec<u8>> {
        let mut builder = capnp::message::Builder::new_default();
        self.fill(builder.init_root());
        let mut message = Vec::new();
        let written = capnp::serialize_packed::write_message(&mut message, &builder);
        written.map_err(|e| Error::damaged(path, 0, e.to_string()))?;
        if message.len() > FRAME_RAW_MAX as usize {
            return Err(Error::HeaderTooLarge {
                bytes: message.len() as u64,
                limit: FRAME_RAW_MAX.into(),
            });
        }
        let mut out = Vec::with_capacity(PREFIX_LEN + message.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&FRAME_RAW_MAX.to_le_bytes());
        out.extend_from_slice(&(message.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&xxh3_64(&message).to_le_bytes());
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&message);
        Ok(out)
    }

    fn fill(&self, mut out: wire::header::Builder<'_>) {
        out.set_uuid(&self.uuid);
        out.set_program_version(&*self.program_version);
        out.set_started_ns(self.started_ns);
        let mut args = out.reborrow().init_args(self.args.len() as u32);
        for (i, arg) in self.args.iter().enumerate() {
            args.set(i as u32, arg.as_bytes());
        }
        out.set_cwd(self.cwd.as_os_str().as_bytes());
        let mut environ = out.reborrow().init_environ(self.environ.len() as u32);
        for (i, var) in self.environ.iter().enumerate() {
            environ.set(i as u32, var.as_bytes());
        }
        let mut uname = out.reborrow().init_uname();
        uname.set_sysname(&*self.uname.sysname);
        uname.set_nodename(&*self.uname.nodename);
        uname.set_release(&*self.uname.release);
        uname.set_version(&*self.uname.version);
        uname.set_machine(&*self.uname.machine);
        out.set_cpu_model(&*self.cpu_model);
        out.set_cpuid_faulting(self.cpuid_faulting);
        out.set_bound_cpu(
            self.bound_cpu
                .and_then(|cpu| i32::try_from(cpu).ok())
                .unwrap_or(-1),
        );
        out.set_checkpoint_every(self.checkpoint_interval.as_deref().unwrap_or_default());
        out.set_page_size(self.page_size);
        out.set_chaos(self.chaos_seed.is_some());
        out.set_chaos_seed(self.chaos_seed.unwrap_or(0));
        out.set_portable(self.portable.map_or(0, cpuid::Level::number));
        let entries = self.cpuid.entries();
        let mut answers = out.reborrow().init_cpuid(entries.len() as u32);
        for (i, entry) in entries.iter().enumerate() {
            let mut out = answers.reborrow().get(i as u32);
            out.set_leaf(entry.leaf);
            out.set_sub(entry.sub);
            let [eax, ebx, ecx, edx] = entry.answer;
            out.set_eax(eax);
            out.set_ebx(ebx);
            out.set_ecx(ecx);
            out.set_edx(edx);
        }
        let mut refused = out.init_refused(self.refused.len() as u32);
        for (i, (number, errno)) in self.refused.iter().enumerate() {
            let mut out = refused.reborrow().get(i as u32);
            out.set_number(*number as i32);
            out.set_errno(*errno);
        }
    }

    /// Reads the header of a trace.
    pub(crate) fn read(members: &Members) -> Result<Header> {
        let path = members.path_of(Name::Header);
        let file = members.open(Name::Header).map_err(|e| match e {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::NotATrace {
                path: members.path().to_owned(),
                why: "it has no file `header` (rr ls lists the traces that are there)".into(),
            },
            e => e,
        })?;
        let bytes = read_bounded(file.reader()).map_err(|e| Error::io(&path, "reading", e))?;
        Header::decode(&bytes, &path)
    }

    /// The header in the bytes of a header file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Header> {
        Header::decode(bytes, Path::new("(header in memory)"))
    }

    /// The bytes of a header file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.encode(Path::new("(header in memory)"))
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Header> {
        check_prefix(bytes, &MAGIC, path)?;
        if bytes.len() < PREFIX_LEN {
            return Err(Error::damaged(
                path,
                bytes.len() as u64,
                "the file ends within its header",
            ));
        }
        if !sum_is(&bytes[..32], u64::from_le_bytes(bytes_at(bytes, 32))) {
            return Err(Error::damaged(path, 0, "wrong checksum of the prefix"));
        }
        let limit = u32::from_le_bytes(bytes_at(bytes, 12));
        if limit > FRAME_RAW_MAX {
            let why = format!("frames of up to {limit} bytes, this program reads up to {FRAME_RAW_MAX}");
            return Err(Error::damaged(path, 12, why));
        }
        let message = &bytes[PREFIX_LEN..];
        let len = u32::from_le_bytes(bytes_at(bytes, 16));
        if message.len() as u64 != u64::from(len) {
            let why = format!("{} bytes of message where {len} were announced", message.len());
            return Err(Error::damaged(path, 16, why));
        }
        if !sum_is(message, u64::from_le_bytes(bytes_at(bytes, 24))) {
            return Err(Error::damaged(
                path,
                PREFIX_LEN as u64,
                "wrong checksum of the message",
            ));
        }
        Header::from_message(message).map_err(|e| e.at(path, PREFIX_LEN as u64))
    }

    fn from_message(raw: &[u8]) -> Result<Header, Malformed> {
        let message = message::unpack(raw)?;
        let from = message.get_root::<wire::header::Reader<'_>>()?;
        let text = |t: capnp::Result<capnp::text::Reader<'_>>| Ok::<_, Malformed>(t?.to_str()?.to_owned());
        let list = |l: capnp::Result<capnp::data_list::Reader<'_>>| {
            let mut all = Vec::new();
            for item in l? {
                all.push(OsString::from_vec(item?.to_vec()));
            }
            Ok::<_, Malformed>(all)
        };
        let uuid = from.get_uuid()?;
        let uname = from.get_uname()?;
        Ok(Header {
            uuid: uuid
                .try_into()
                .map_err(|_| Malformed::new(format!("uuid of {} bytes", uuid.len())))?,
            program_version: text(from.get_program_version())?,
            started_ns: from.get_started_ns(),
            args: list(from.get_args())?,
            cwd: OsString::from_vec(from.get_cwd()?.to_vec()).into(),
            environ: list(from.get_environ())?,
            uname: Uname {
                sysname: text(uname.get_sysname())?,
                nodename: text(uname.get_nodename())?,
                release: text(uname.get_release())?,
                version: text(uname.get_version())?,
                machine: text(uname.get_machine())?,
            },
            cpu_model: text(from.get_cpu_model())?,
            cpuid_faulting: from.get_cpuid_faulting(),
            cpuid: {
                let entry = |a: wire::cpuid_answer::Reader<'_>| CpuidEntry {
                    leaf: a.get_leaf(),
                    sub: a.get_sub(),
                    answer: [a.get_eax(), a.get_ebx(), a.get_ecx(), a.get_edx()],
                };
                let answers = from.get_cpuid()?;
                let table = cpuid::Table::from_entries(answers.iter().map(entry).collect());
                table.ok_or_else(|| Malformed::new(format!("{} answers of CPUID", answers.len())))?
            },
            portable: match from.get_portable() {
                0 => None,
                number => {
                    let level = cpuid::Level::of_number(number);
                    Some(level.ok_or_else(|| Malformed::new(format!("micro-architecture level {number}")))?)
                }
            },
            bound_cpu: u32::try_from(from.get_bound_cpu()).ok(),
            checkpoint_interval: match (text(from.get_checkpoint_every())?, from.get_checkpoint_interval()) {
                (every, 0) if every.is_empty() => None,
                (every, events) if every.is_empty() => Some(format!("{events}e")),
                (every, _) => Some(every),
            },
            page_size: from.get_page_size(),
            chaos_seed: from.get_chaos().then(|| from.get_chaos_seed()),
            refused: {
                let all = from.get_refused()?.iter();
                all.map(|r| (r.get_number().into(), r.get_errno())).collect()
            },
        })
    }
}

/// Checks the magic and the format version at the start of a file.
pub(crate) fn check_prefix(bytes: &[u8], magic: &[u8; 8], path: &Path) -> Result<()> {
    if bytes.len() < 12 || bytes[..8] != *magic {
        let why = "it does not begin like a file of a trace".to_owned();
        return Err(Error::NotATrace {
            path: path.to_owned(),
            why,
        });
    }
    let found = u32::from_le_bytes(bytes_at(bytes, 8));
    if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
        return Err(Error::Version {
            path: path.to_owned(),
            found,
            known: FORMAT_VERSION,
        });
    }
    Ok(())
}

/// The contents of a file, as far as a header may reach (and one byte more, so that a longer one is noticed).
fn read_bounded(file: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(PREFIX_LEN as u64 + u64::from(FRAME_RAW_MAX) + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A random uuid (RFC 9562, version 4).
fn new_uuid() -> Result<[u8; 16]> {
    let path = Path::new("/dev/urandom");
    let mut uuid = [0; 16];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut uuid));
    read.map_err(|e| Error::io(path, "reading random bytes", e))?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

/// The processor's name.
fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']))
        .trim_end()
        .to_owned()
}
