"""Real test runners below `rr ci`: `scripts/runners --help`.

For each runner one project (projects.py) is run four times: green and red, natively and recorded. Recorded, the job must end with the same
status; a green one must leave nothing on the disk, and a red one exactly one file, which replays and verifies, and a log that names the line
that fails.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from projects import RUNNERS, missing

# Seconds that no command here needs.
LIMIT = 300


class Failed(Exception):
    """Something is not as it must be."""


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/runners",
        description="Runs the tests of small projects with real test runners, natively and with rr ci.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these runners, of {', '.join(RUNNERS)}")
    parser.add_argument("--tests", type=int, default=200, metavar="N", help="tests of each project (default: 200)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each green job; the medians are shown (default: 3)")
    parser.add_argument("--strict", action="store_true", help="a runner that is missing is a failure")
    parser.add_argument("--rr", type=Path, required=True, help="the rr to test (default: a release build of this tree)")
    return parser.parse_args()


class Bench:
    """A directory with a project, and the variables that its commands get."""

    def __init__(self, rr, directory):
        self.rr = rr
        self.directory = directory
        self.traces = directory / "traces"
        self.store = self.traces / ".files"
        self.artifacts = directory / "failures"
        self.project = directory / "project"
        self.project.mkdir()
        # No variable of the job that runs this may decide anything.
        unwanted = ("RR_", "_RR", "RED", "CARGO_TARGET", "NEXTEST", "PYTEST", "MAKE", "MFLAGS")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        self.env |= {"_RR_TRACE_DIR": str(self.traces), "CARGO_TARGET_DIR": str(directory / "target"), "NO_COLOR": "1"}

    def run(self, command, env=None, check=True):
        """Runs a command in the project. Returns status, output and seconds."""
        began = time.monotonic()
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command,
                cwd=self.project,
                env=self.env | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(LIMIT)
            except subprocess.TimeoutExpired as timeout:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise Failed(f"{' '.join(map(str, command))}: not done after {LIMIT} s") from timeout
            seconds = time.monotonic() - began
            log.seek(0)
            text = log.read().decode(errors="replace")
        if check and status != 0:
            raise Failed(f"{' '.join(map(str, command))}: status {status}\n{text[-2000:]}")
        return status, text, seconds

    def left(self):
        """All files that recordings have left, except the store of mapped files: the next test's recording copies none of these."""
        files = [path for root in (self.traces, self.artifacts) for path in root.rglob("*") if path.is_file()]
        return [str(path) for path in files if self.store not in path.parents]

    def store_bytes(self):
        """The bytes of the store."""
        return sum(path.stat().st_size for path in self.store.glob("*") if path.is_file())


def green(bench, project, wrapper, repeat):
    """The median of a green job's seconds."""
    command, env = project.job(wrapper)
    for words in getattr(project, "prepare", []):
        bench.run(words)
    # The first run warms caches.
    bench.run(command, env)
    times = [bench.run(command, env)[2] for _ in range(repeat)]
    left = bench.left()
    if left:
        raise Failed(f"a green job leaves {' '.join(left)}")
    return statistics.median(times)


def red(bench, project, wrapper):
    """A red job's status and log."""
    command, env = project.job(wrapper)
    status, log, _ = bench.run(command, env | {"RED": "1"}, check=False)
    if status == 0:
        raise Failed("a red job ends with status 0")
    return status, log


def artifact(bench, log, line):
    """Checks the one recording that a red job has left. Returns its bytes."""
    left = sorted(bench.artifacts.iterdir()) if bench.artifacts.is_dir() else []
    if [path.suffix for path in left] != [".rrpack"]:
        raise Failed(f"a red job leaves {[path.name for path in left]}\n{log[-3000:]}")
    if not re.search(line, log):
        raise Failed(f"the log does not name the failing line: {line}\n{log[-6000:]}")
    if str(left[0]) not in log:
        raise Failed(f"the log does not name {left[0]}")
    _, verified, _ = bench.run([bench.rr, "verify", left[0]])
    if "identical" not in verified:
        raise Failed(verified)
    status, replayed, _ = bench.run([bench.rr, "replay", "-a", left[0]], check=False)
    if "rr:" in replayed:
        raise Failed(f"the replay ends with {status}: {replayed[-2000:]}")
    _, report, _ = bench.run([bench.rr, "ci", "report", bench.artifacts])
    if left[0].name not in report:
        raise Failed(f"the report has not the failure: {report}")
    return left[0].stat().st_size


def watch(rr, runner, count, repeat):
    """Runs the four jobs of a runner. Returns a line of the table."""
    with tempfile.TemporaryDirectory(prefix="rr-runner-") as directory:
        bench = Bench(rr, Path(directory))
        project = runner(bench.project, count)
        project.write()
        project.build(bench.run)
        wrapper = [str(rr), "ci", "--artifacts", str(bench.artifacts), "--"]
        native = green(bench, project, [], repeat)
        status, _ = red(bench, project, [])
        recorded = green(bench, project, wrapper, repeat)
        store = bench.store_bytes()
        recorded_status, log = red(bench, project, wrapper)
        if status != recorded_status:
            raise Failed(f"a red job ends with {recorded_status} instead of {status}\n{log[-3000:]}")
        size = artifact(bench, log, project.line)
        return (
            f"{native:.2f} s natively, {recorded:.2f} s recorded ({recorded / native:.1f}×), store {store / 1e6:.1f} MB, "
            f"artefact {size / 1e6:.1f} MB"
        )


def main():
    """Runs all that is wanted; the last line is `N passed, N failed, N skipped`."""
    options = arguments()
    names = options.names or list(RUNNERS)
    for name in names:
        if name not in RUNNERS:
            raise SystemExit(f"no runner {name} here, but {', '.join(RUNNERS)}")
    passed = failed = skipped = 0
    for name in names:
        runner = RUNNERS[name]
        wanted = missing(runner)
        if wanted:
            print(f"{'failed' if options.strict else 'skipped':8} {name}: needs {', '.join(wanted)}", flush=True)
            failed += options.strict
            skipped += not options.strict
            continue
        try:
            print(f"passed   {name}: {watch(options.rr.resolve(), runner, options.tests, options.repeat)}", flush=True)
            passed += 1
        except Failed as failure:
            print(f"failed   {name}: {failure}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


sys.exit(main())
