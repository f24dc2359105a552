"""The harness itself: that it would notice. Run by scripts/test: `python3 -m unittest` in this directory."""

import os
import signal
import tempfile
import unittest
from pathlib import Path

import definitions
import processes
import report
from checks import Bench, Failed, Mode, own

# What a lazy recorder would do: run the program, replay from a copy of what it wrote, and say that all is well.
FAKE = """#!/bin/bash
command=$1; shift
case $command in
record) [ "$1" != -o ] || { trace=$2; shift 2; }; mkdir "$trace"
    [ "$1" != --checkpoint-interval ] || shift 2
    "$@" >"$trace/out"; s=$?; cat "$trace/out"; exit $s ;;
traceinfo) echo '{"complete": true, "events": 30, "checkpoints": [{"event": 10, "pause_us": 5}]}' ;;
replay) out="${@: -1}/out"
    case "$*" in
    *--until*) head -c 3 "$out" ;;
    *-g*) tail -c +$((4 + SHIFT)) "$out" ;;
    *) cat "$out"; EXTRA ;;
    esac ;;
verify) exit VERIFY ;;
esac
"""


def fake(directory, shift="0", extra=":", verify="0"):
    """A recorder with chosen faults."""
    path = Path(directory) / "rr"
    path.write_text(FAKE.replace("SHIFT", shift).replace("EXTRA", extra).replace("VERIFY", verify))
    path.chmod(0o755)
    return path


class Checks(unittest.TestCase):
    """A program through a recorder that is sound or not."""

    def cycle(self, command=("echo", "hello"), **faults):
        with tempfile.TemporaryDirectory() as directory:
            program = definitions.Program(name="p", about="", command=list(command), limit=10)
            bench = Bench(program=program, rr=fake(directory, **faults), home=Path(directory) / "p", cache=Path(directory))
            bench.prepare()
            bench.run_natively()
            return bench.cycle(Mode(100))

    def test_a_sound_recorder_passes(self):
        self.assertEqual(self.cycle().events, 30)

    def test_output_that_replay_adds_is_noticed(self):
        with self.assertRaisesRegex(Failed, "replay: stream 1: differs at byte 6"):
            self.cycle(extra="echo more")

    def test_a_byte_lost_after_a_checkpoint_is_noticed(self):
        with self.assertRaisesRegex(Failed, "stretch 1 of those that begin at .0, 10."):
            self.cycle(shift="1")

    def test_verify_counts(self):
        with self.assertRaisesRegex(Failed, "status 1"):
            self.cycle(verify="1")

    def test_a_run_unlike_the_native_one_is_noticed(self):
        with self.assertRaisesRegex(Failed, "against the native run"):
            self.cycle(command=("sh", "-c", "date +%N"))

    def test_only_whole_lines_of_rr_are_dropped(self):
        self.assertEqual(own(b"a\nrr: warning: b\nnot rr: c\n"), b"a\nnot rr: c\n")


class Processes(unittest.TestCase):
    """Time limits and what is left behind."""

    def run_shell(self, script, limit=10):
        processes.become_subreaper()
        processes.GRACE = 0.2
        with tempfile.TemporaryDirectory() as directory:
            out = Path(directory) / "out"
            return processes.run(["sh", "-c", script], cwd=directory, env=dict(os.environ), out=out, limit=limit)

    def test_a_daemon_is_named_and_killed(self):
        done = self.run_shell("setsid sleep 30 & exit 3")
        self.assertEqual(done.status, 3)
        self.assertIn("sleep", "".join(done.left))
        self.assertEqual(processes.descendants(), [])

    def test_a_hang_is_described_and_killed(self):
        done = self.run_shell("sleep 30; true", limit=0.3)
        self.assertIsNone(done.status)
        self.assertIn("sleep 30", done.tree)
        self.assertEqual(processes.descendants(), [])

    def test_programs_do_not_ignore_interrupts(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        processes.default_signals()
        self.assertEqual(self.run_shell("kill -INT $$; echo ignored").status, 130)

    def test_death_by_a_signal_is_a_status(self):
        self.assertEqual(self.run_shell("kill -SEGV $$").status, 139)


class Files(unittest.TestCase):
    """Definitions and the table."""

    def test_every_definition_is_complete(self):
        for name, program in definitions.load().items():
            with self.subTest(name):
                self.assertTrue(program.command and program.about and program.needs)
                self.assertLessEqual(set(program.fast), set(report.USUAL))
                with tempfile.TemporaryDirectory() as directory:
                    program.write_files(Path(directory))

    def test_results_of_other_intervals_stay(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "results.json"
            for entry in (
                {"result": "passed", "modes": {"plain": {"runs": 3}}},
                {"result": "passed", "modes": {"100": {"runs": 2}}},
                {"result": "skipped", "why": "not here"},
            ):
                data = report.merge(path, {"p": entry}, {})
            self.assertEqual(data["programs"]["p"]["modes"], {"plain": {"runs": 3}, "100": {"runs": 2}})
            self.assertEqual(data["programs"]["p"]["result"], "passed")

    def test_the_table_goes_between_its_marks(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "page.md"
            path.write_text(f"before\n{report.MARKS[0]}\nold\n{report.MARKS[1]}\nafter\n")
            report.write_table(path, "new\n")
            self.assertEqual(path.read_text(), f"before\n{report.MARKS[0]}\nnew\n{report.MARKS[1]}\nafter\n")


if __name__ == "__main__":
    unittest.main()
