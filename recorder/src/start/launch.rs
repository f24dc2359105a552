//! Starting the recorded program: from `fork` to its first instruction under our control.
//!
//! The recorder seizes the child before it does anything. Then the child prepares itself (`rdtsc`
//! faulting, the seccomp filter) and executes the program. The program inherits descriptors, terminal,
//! signal dispositions and limits as the user gave them to rr.

use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rr_tracee::{Running, Tid};

use crate::error::{Error, Result};
use crate::seccomp::ours;
use crate::start::inherited::Inherited;

/// The program to record.
#[derive(Clone, Debug)]
pub struct Command {
    /// Program and arguments as given; never empty.
    pub args: Vec<OsString>,
    /// The whole environment of the program.
    pub env: Vec<(OsString, OsString)>,
    /// State that rr has inherited and changed for itself.
    pub inherited: Inherited,
}

/// Variables that every recorded program gets (see `shared/reference/rr-interface.md`, 1.3): they steer
/// libraries away from what cannot be recorded, such as RDRAND and GPUs.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("RUNNING_UNDER_RR", "1"),
    ("LIBGL_ALWAYS_SOFTWARE", "1"),
    ("GBM_ALWAYS_SOFTWARE", "1"),
    ("SDL_RENDER_DRIVER", "software"),
    ("SSS_NSS_USE_MEMCACHE", "NO"),
    ("MOZ_GDB_SLEEP", "0"),
    ("GIO_USE_VFS", "local"),
    // Bit 62 is RDRAND, and bit 18 of the second word RDSEED (OPENSSL_ia32cap(3)).
    ("OPENSSL_ia32cap", "~0x4000000000000000:~0x40000"),
    ("QT_NO_CPU_FEATURE", "rdrand rdseed"),
    ("SYSTEMD_RDRAND", "0"),
    // glibc's lazy binding saves registers with XSAVEC. The bytes written depend on the register
    // components that the processor counts as unused, and a context switch may change these (seen on
    // AMD EPYC: one byte of the stack differs between two runs).
    ("LD_BIND_NOW", "1"),
];

/// The file that `execvp(3)` would execute for `program`.
pub fn resolve(program: &OsString, path: Option<&OsString>) -> Result<PathBuf> {
    let start_error = |why: String| Error::Start {
        program: program.to_string_lossy().into_owned(),
        why,
    };
    let runnable = |p: &Path| {
        p.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match path.metadata() {
            Err(e) => Err(start_error(e.to_string())),
            Ok(m) if m.is_dir() => Err(start_error("it is a directory".into())),
            Ok(_) if !runnable(&path) => Err(start_error("it is not executable (chmod +x?)".into())),
            Ok(_) => Ok(path),
        };
    }
    let dirs = path
        .cloned()
        .unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    dirs.as_bytes()
        .split(|&b| b == b':')
        .map(|dir| {
            if dir.is_empty() {
                PathBuf::from(".")
            } else {
                PathBuf::from(OsString::from_vec(dir.to_vec()))
            }
        })
        .map(|dir| dir.join(program))
        .find(|p| runnable(p))
        .ok_or_else(|| start_error("no such program in $PATH".into()))
}

/// A child that executes the program at once. Its first report is the seccomp stop of its `execve`.
#[derive(Debug)]
pub struct Launched {
    /// The child.
    pub task: Running,
    /// The file that it executes.
    pub program: PathBuf,
}

/// Forks and seizes the child.
pub fn launch(command: &Command) -> Result<Launched> {
    // Prepares all memory for the child: after the fork it may not allocate.
    let path_var = command.env.iter().find(|(k, _)| k == "PATH").map(|(_, v)| v);
    let program = resolve(&command.args[0], path_var)?;
    let cstring = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| Error::Start {
            program: program.display().to_string(),
            why: "an argument or a variable holds a NUL byte".into(),
        })
    };
    let file = cstring(program.as_os_str().as_bytes())?;
    let args = command
        .args
        .iter()
        .map(|a| cstring(a.as_bytes()))
        .collect::<Result<Vec<_>>>()?;
    let env = command
        .env
        .iter()
        .map(|(k, v)| cstring(&[k.as_bytes(), b"=", v.as_bytes()].concat()))
        .collect::<Result<Vec<_>>>()?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    let failed = |what, errno| Error::Capability {
        what,
        errno,
        advice: "the machine is short of resources",
    };
    let (go_read, go_write) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| failed("pipe", e))?;

    // SAFETY: the child calls only async-signal-safe functions on memory prepared above.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(failed("fork", Errno::last())),
        0 => child(&go_read, &go_write, &command.inherited, &file, &argv, &envp),
        pid => Tid(pid),
    };
    drop(go_read);
    // Traces the child, and then lets it go on to its exec.
    let task = match Running::seize(pid) {
        Ok(task) => task,
        Err(e) => {
            if let Some(report) = rr_tracee::task::wait(Some(pid), true) {
                return Err(Error::Start {
                    program: program.display().to_string(),
                    why: format!("it ended before it began (wait status {:#x})", report.status),
                });
            }
            rr_tracee::task::kill(pid);
            rr_tracee::task::wait(Some(pid), false);
            let errno = if let rr_tracee::Error::Kernel { errno, .. } = e {
                errno
            } else {
                Errno::ESRCH
            };
            let advice = "ptrace is not permitted here: in a container run it with --cap-add=SYS_PTRACE or a \
                          seccomp profile that allows ptrace; see kernel.yama.ptrace_scope";
            return Err(Error::Capability {
                what: "tracing the program",
                errno,
                advice,
            });
        }
    };
    nix::unistd::write(&go_write, b"g").map_err(|e| failed("pipe", e))?;
    Ok(Launched { task, program })
}

/// The child. Never returns.
fn child(
    go: &OwnedFd,
    other: &OwnedFd,
    inherited: &Inherited,
    file: &CString,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> ! {
    let mut byte = [0u8; 1];
    // SAFETY: plain system calls on valid arguments, async-signal-safe; `execve` gets null-terminated arrays.
    unsafe {
        libc::close(other.as_raw_fd());
        if libc::read(go.as_raw_fd(), byte.as_mut_ptr().cast(), 1) != 1 {
            libc::_exit(126);
        }
        inherited.restore();
        libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV, 0, 0, 0);
        if ours::install().is_err() {
            libc::_exit(125);
        }
        libc::execve(file.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(127);
    }
}
