"""Commands with a time limit, and nothing left behind.

Invariant: when `run` returns, every process that it started is dead, daemons and orphans among them. The harness is
a subreaper, so whatever a command leaves becomes its child; what it did not start it never touches.
"""

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36

# Dying takes a moment after the recorder has gone: what is alive after this long was really left behind.
GRACE = 3.0


@dataclass
class Run:
    """What came of a command."""

    command: list
    status: int | None  # as a shell has it, 128 + signal; None: it had to be killed
    stdout: bytes
    stderr: bytes
    seconds: float
    left: list  # descriptions of processes that it left behind
    tree: str  # of a command that had to be killed: its processes at that moment

    def describe(self):
        """The command and its ends, for a report."""
        words = " ".join(str(word) for word in self.command)
        status = "killed at its time limit" if self.status is None else f"status {self.status}"
        text = f"$ {words}\n{status} after {self.seconds:.1f} s\n"
        for name, data in (("stdout", self.stdout), ("stderr", self.stderr)):
            text += f"--- end of {name}\n{data[-2000:].decode(errors='replace')}\n"
        return text + self.tree


def become_subreaper():
    """Makes orphans of commands children of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run(command, *, cwd, env, out, limit, user=None, stdin=None, merge=False):
    """Runs a command, its outputs in files under `out`; `merge` puts both into one.

    A daemon may hold the outputs open: files, unlike pipes, end where they end.
    """
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    begin = time.monotonic()
    with open(f"{out}.out", "w+b") as stdout, open(f"{out}.err", "w+b") as stderr:
        child = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            env=env,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stdout if merge else stderr,
            start_new_session=True,
            **identity,
        )
        tree = ""
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            tree = "--- processes when it was killed\n" + describe(descendants())
            status = None
        except BaseException:
            kill_all()
            raise
        seconds = time.monotonic() - begin
        left = [] if status is None else linger()
        kill_all()
        child.wait()
        stdout.seek(0)
        stderr.seek(0)
        if status is not None and status < 0:
            status = 128 - status
        return Run(command, status, stdout.read(), stderr.read(), seconds, left, tree)


def default_signals():
    """Programs see ^C, however this one was started: a shell's background jobs ignore it, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def descendants(root=None):
    """The processes below `root` (this process), parents first, without this process."""
    found, todo = [], [root or os.getpid()]
    while todo:
        pid = todo.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    children = [int(child) for child in file.read().split()]
                found += children
                todo += children
        except OSError:
            continue  # it has gone
    return found


def linger():
    """What is still alive after a moment for dying."""
    end = time.monotonic() + GRACE
    while True:
        reap()
        pids = descendants()
        if not pids:
            return []
        if time.monotonic() > end:
            return describe(pids).splitlines()
        time.sleep(0.01)


def kill_all():
    """Kills every descendant, until there is none."""
    while pids := descendants():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)
        reap()


def reap():
    """Takes orphans that have ended. (Popen copes with a child that was waited for here: it has no status then.)"""
    for pid in descendants():
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            if fields[0] == "Z" and int(fields[1]) == os.getpid():
                os.waitpid(pid, os.WNOHANG)
        except (OSError, ChildProcessError):
            continue


def describe(pids):
    """A line for each task of the processes: state, system call, where it waits."""

    def read(path):
        try:
            with open(path) as file:
                return file.read().strip()
        except OSError:
            return ""

    lines = []
    for pid in pids:
        command = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:100]
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for task in tasks:
            place = f"/proc/{pid}/task/{task}"
            state = read(f"{place}/stat").rsplit(")", 1)[-1].split()[:2]
            call = read(f"{place}/syscall").split()[:4]
            lines.append(
                f"{pid}/{task} {read(f'{place}/comm')} state {state[:1]} parent {state[1:]} call {call} "
                f"waits in {read(f'{place}/wchan')}: {command}\n"
            )
    return "".join(lines)
