"""One program: natively, recorded, replayed, verified.

Invariant: every comparison of a replay with its recording is byte for byte. Only the comparison of a recorded run with a
native one is normalised, since two runs of a program may differ where two replays must not.
"""

import json
import os
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from processes import run

# What rr itself says on stderr, or on a terminal, is not the program's output.
OWN_LINES = re.compile(rb"^rr: [^\n]*\r?\n", re.MULTILINE)

NOBODY = 65534

# About how many replays from checkpoint to checkpoint one recording gets, at most.
STRETCHES = 40


class Failed(Exception):
    """A check that failed: what, and what is known about it."""


@dataclass(frozen=True)
class Mode:
    """A way of recording."""

    interval: int | None  # events between checkpoints; None: no checkpoints
    buffered: bool = True  # with the system call buffer


@dataclass
class Result:
    """Figures of one recording that passed."""

    events: int
    checkpoints: int
    record: float
    replay: float
    verify: float
    pauses: list  # µs
    size: int


@dataclass
class Bench:
    """A program with its directories, ready to be run again and again."""

    program: object
    rr: Path
    home: Path  # of everything here; removed by its owner
    cache: Path
    jobs: int | None = None  # of rr verify
    native: object = None
    native_seconds: list = field(default_factory=list)

    @property
    def base(self):
        return self.home / "base"

    @property
    def work(self):
        return self.home / "work"

    @property
    def trace(self):
        return self.home / "trace"

    @property
    def screen(self):
        return self.home / "screen"

    @property
    def user(self):
        """The user to run as, where that is not the caller."""
        return NOBODY if not self.program.root and os.getuid() == 0 else None

    def environment(self, **more):
        """The same in every run. Homes of toolchains stay where they are."""
        home = Path(os.environ.get("HOME", "/"))
        keep = {"CARGO_HOME": home / ".cargo", "RUSTUP_HOME": home / ".rustup"}
        env = {name: os.environ.get(name, str(place)) for name, place in keep.items() if place.exists()}
        # Debian's programs first: shims of version managers are scripts about scripts.
        env["PATH"] = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:" + os.environ.get("PATH", "")
        env |= {"HOME": str(self.work), "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8", "TERM": "xterm", "TZ": "UTC"}
        env |= {"CACHE": str(self.cache), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {name: value.replace("$CACHE", str(self.cache)) for name, value in self.program.env.items()}
        return env | more

    @property
    def words(self):
        """The command line."""
        return [word.replace("$CACHE", str(self.cache)) for word in self.program.command]

    def command(self, name, words, limit=None, user=None, env=None, cwd=None, merge=False):
        """Runs something for this program."""
        return run(
            words,
            cwd=cwd or self.home,
            env=env or self.environment(),
            out=self.home / name,
            limit=limit or self.program.limit,
            user=user,
            merge=merge,
        )

    def prepare(self):
        """Fills the base directory."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o755)
        self.base.mkdir()
        self.program.write_files(self.base)
        if self.program.build:
            # In the place where it will be used: some builds remember where they were.
            self.base.rename(self.work)
            built = self.command("build", ["bash", "-euc", self.program.build], limit=600, cwd=self.work)
            self.work.rename(self.base)
            if built.status != 0:
                raise Failed("building: " + built.describe())

    def fresh(self):
        """A fresh copy of the base directory, and no trace."""
        for place in (self.work, self.trace):
            shutil.rmtree(place, ignore_errors=True)
        self.screen.unlink(missing_ok=True)
        shutil.copytree(self.base, self.work, symlinks=True)
        if self.user is not None:
            os.chown(self.home, self.user, self.user)
            for directory, directories, files in os.walk(self.work):
                for name in [".", *directories, *files]:
                    os.lchown(os.path.join(directory, name), self.user, self.user)

    def run_natively(self):
        """Once without rr: what the recording will be compared with."""
        self.fresh()
        native = self.command("native", self.words, user=self.user, cwd=self.work, env=self.environment(MATRIX_SCREEN=str(self.screen)))
        self.check_end("natively", native)
        self.check_output("natively", native.stdout)
        self.native = native
        self.native_seconds.append(native.seconds)

    def check_end(self, what, done):
        """Its status, and that nothing is left of it."""
        if done.status != self.program.status:
            raise Failed(f"{what}: the status should be {self.program.status}\n{done.describe()}")
        if done.left:
            raise Failed(f"{what}: left processes behind:\n{''.join(done.left)}\n{done.describe()}")

    def check_output(self, what, output):
        """Against the definition, or the native run."""
        text = self.normal(output)
        if self.program.output is not None:
            if not re.fullmatch(self.program.output, text, re.DOTALL):
                raise Failed(f"{what}: the output does not match {self.program.output!r}:\n{text[-3000:]}")
        elif self.native is not None:
            same(f"{what}, against the native run", text.encode(), self.normal(self.native.stdout).encode())

    def normal(self, output):
        """Output without what differs between any two runs."""
        text = output.decode(errors="replace")
        for pattern, replacement in self.program.normalise:
            text = re.sub(pattern, replacement, text)
        return text

    def cycle(self, mode):
        """Records once, and checks everything about the trace."""
        self.fresh()
        words = [str(self.rr), "record", "-o", str(self.trace), "--checkpoint-interval", str(mode.interval or "none")]
        words += [] if mode.buffered else ["-n"]
        if self.program.terminal:
            env = self.environment(MATRIX_SCREEN=str(self.screen), MATRIX_RECORD=json.dumps(words))
            recorded = self.command("record", self.words, user=self.user, cwd=self.work, env=env)
        else:
            recorded = self.command("record", [*words, *self.words], user=self.user, cwd=self.work)
        self.check_end("record", recorded)
        self.check_output("record", recorded.stdout)
        info = json.loads(self.rr_command("info", ["traceinfo"]).stdout)
        if not info["complete"]:
            raise Failed(f"the trace of a finished recording is not complete\n{recorded.describe()}")

        if self.program.terminal:
            written = [own(self.screen.read_bytes())]
        else:
            written = [recorded.stdout, own(recorded.stderr)]
        replayed = self.replay("replay", [])
        for stream, (got, want) in enumerate(zip(self.written(replayed), written), 1):
            same(f"replay: stream {stream}", got, want)
        verify = 0.0
        if mode.interval:
            self.check_checkpoints([checkpoint["event"] for checkpoint in info["checkpoints"]], written)
            jobs = ["-j", str(self.jobs)] if self.jobs else []
            verify = self.rr_command("verify", ["verify", *jobs], limit=4 * self.program.limit).seconds
        return Result(
            events=info["events"],
            checkpoints=len(info["checkpoints"]),
            record=recorded.seconds,
            replay=replayed.seconds,
            verify=verify,
            pauses=sorted(checkpoint["pause_us"] for checkpoint in info["checkpoints"]),
            size=sum(file.stat().st_size for file in self.trace.rglob("*") if file.is_file()),
        )

    def check_checkpoints(self, events, written):
        """Replays from every tenth checkpoint to the next of them: together they show everything, and no byte twice.

        From one, any of them, also to the end. Of very many checkpoints only some are taken, others in each run.
        """
        step = max(10, len(events) // STRETCHES)
        stops = events[random.randrange(step) if step > 10 else 9 :: step] or events[-1:]
        parts = []
        for begin, end in zip([None, *stops], [*stops, None]):
            options = ["--from-start"] if begin is None else ["-g", str(begin)]
            options += [] if end is None else ["--until", str(end)]
            parts.append(self.written(self.replay("stretch", options)))
        for stream, want in enumerate(written):
            pieces = [part[stream] for part in parts]
            got = b"".join(pieces)
            if got != want:
                at = difference(got, want)
                sums, stretch = 0, 0
                while stretch < len(pieces) - 1 and sums + len(pieces[stretch]) <= at:
                    sums += len(pieces[stretch])
                    stretch += 1
                where = f"stretch {stretch} of those that begin at {[0, *stops]}"
                same(f"replays from checkpoint to checkpoint: stream {stream + 1}, {where}", got, want)
        if stops:
            index = random.randrange(len(stops))
            tail = self.written(self.replay("tail", ["-g", str(stops[index])]))
            for stream, got in enumerate(tail):
                want = b"".join(part[stream] for part in parts[index + 1 :])
                same(f"replay from {stops[index]} to the end: stream {stream + 1}", got, want)

    def replay(self, name, options):
        """`rr replay -a …`, which must succeed."""
        return self.rr_command(name, ["replay", "-a", *options], merge=self.program.terminal)

    def written(self, replayed):
        """The program's output streams in a replay."""
        return [own(replayed.stdout)] if self.program.terminal else [replayed.stdout, own(replayed.stderr)]

    def rr_command(self, name, words, limit=None, merge=False):
        """An `rr` command on the trace, which must succeed."""
        done = self.command(name, [self.rr, *words, self.trace], user=self.user, limit=limit, merge=merge)
        if done.status != 0:
            raise Failed(done.describe())
        if done.left:
            raise Failed(f"rr {name} left processes behind:\n{''.join(done.left)}\n{done.describe()}")
        return done

    def keep(self, place, why):
        """Saves what is known about a failure."""
        place.mkdir(parents=True)
        (place / "why.txt").write_text(why)
        for file in self.home.iterdir():
            if file.is_file():
                shutil.copy(file, place)
        if self.trace.exists():
            shutil.copytree(self.trace, place / "trace", symlinks=True)


def own(output):
    """Output without rr's lines."""
    return OWN_LINES.sub(b"", output)


def difference(got, want):
    """Where two outputs part."""
    return next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))


def same(what, got, want):
    """Fails, and says where they part, unless two outputs are equal."""
    if got != want:
        at = difference(got, want)
        around = slice(max(0, at - 100), at + 200)
        raise Failed(
            f"{what}: differs at byte {at} ({len(got)} bytes, expected {len(want)})\n got: {got[around]!r}\nwant: {want[around]!r}"
        )
