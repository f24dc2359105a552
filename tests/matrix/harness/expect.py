"""A program on a terminal: waits for what it shows, then types.

The terminal is raw and silent from the start, so its output is exactly what the program wrote; programs that set modes
of their own do so as ever. In the matrix, $MATRIX_RECORD holds the words of `rr record …` to put before the program,
and $MATRIX_SCREEN names the file that gets every byte that it wrote.
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time


class Terminal:
    """A program on a pty of its own."""

    def __init__(self, argv, size=(24, 80), limit=60, raw=True):
        argv = json.loads(os.environ.get("MATRIX_RECORD", "[]")) + argv
        self.limit = limit
        self.shown = b""
        self.seen = 0  # how much of it has been waited for
        self.master, slave = pty.openpty()
        if raw:
            iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(slave)
            oflag &= ~termios.OPOST
            lflag &= ~termios.ECHO
            termios.tcsetattr(slave, termios.TCSANOW, [iflag, oflag, cflag, lflag, ispeed, ospeed, cc])
        self.resize(*size, tell=False)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.closerange(3, 100)
            os.environ["TERM"] = "xterm"
            os.execvp(argv[0], argv)
        os.close(slave)

    def resize(self, rows, columns, tell=True):
        """Sets the size of the window; the kernel sends SIGWINCH."""
        del tell
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, end):
        """One read, or False at the end of the program's output."""
        ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
        if not ready:
            self.fail("nothing more is shown")
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody holds the other side any more
            return False
        self.shown += data
        return bool(data)

    def wait(self, text):
        """Waits until the program shows `text`, after what was waited for before."""
        text = text.encode() if isinstance(text, str) else text
        end = time.monotonic() + self.limit
        while (at := self.shown.find(text, self.seen)) < 0:
            if not self._read(end):
                self.fail(f"ended without showing {text!r}")
        self.seen = at + len(text)
        return self

    def send(self, keys):
        """Types."""
        keys = keys.encode() if isinstance(keys, str) else keys
        while keys:
            keys = keys[os.write(self.master, keys) :]
        return self

    def finish(self):
        """Reads to the end; the exit status as a shell has it."""
        end = time.monotonic() + self.limit
        while self._read(end):
            pass
        self._save()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status) if not os.WIFSIGNALED(status) else 128 + os.WTERMSIG(status)

    def _save(self):
        if screen := os.environ.get("MATRIX_SCREEN"):
            with open(screen, "wb") as file:
                file.write(self.shown)

    def fail(self, why):
        """Ends the program and this one."""
        self._save()
        sys.stderr.write(f"expect: {why}; waited after byte {self.seen} of:\n{self.shown[-3000:]!r}\n")
        os.kill(self.pid, signal.SIGKILL)
        sys.exit(99)
