"""The matrix of real programs: `scripts/matrix --help`."""

import argparse
import datetime
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import definitions
import processes
import report
from checks import Bench, Failed, Mode

# Ways of recording: without checkpoints or with one every so many events; each also without the system call buffer.
MODES = {
    name + suffix: Mode(None if name == "plain" else int(name), buffered)
    for name in ("plain", "1", "7", "50", "100", "5000")
    for suffix, buffered in (("", True), ("-n", False))
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/matrix",
        description="Records, replays and verifies real programs. The definitions are tests/matrix/*.toml.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these programs")
    parser.add_argument("--list", action="store_true", help="list the programs and what they need")
    parser.add_argument("--fast", action="store_true", help="only the fast ones (what CI runs)")
    parser.add_argument("--all", action="store_true", help="also those that are known not to work yet")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="record each N times in each mode")
    parser.add_argument("--mode", action="append", choices=MODES, metavar="MODE", help=f"one of {' '.join(MODES)}: the events between checkpoints, -n: without the system call buffer (may be repeated; default: {' '.join(report.USUAL)})")
    parser.add_argument("--install", action="store_true", help="install Debian packages (as root) and fetch sources that are missing")
    parser.add_argument("--rr", type=Path, required=True, help="the rr to test (default: a release build of this tree)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the results into FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="make the table from --json's file")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where traces of failures go")
    parser.add_argument("--jobs", type=int, help="threads of rr verify (default: its own choice)")
    parser.add_argument("--stop", action="store_true", help="stop at the first failure")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="start no more repetitions of a program after this time")
    return parser.parse_args()


def choose(options, programs):
    """The programs to run."""
    for name in options.names:
        if name not in programs:
            raise SystemExit(f"no program {name} here; scripts/matrix --list lists them")
    return [
        program
        for name, program in programs.items()
        if (name in options.names if options.names else program.fast or not options.fast)
    ]


def install(missing):
    """Installs Debian packages; what is still missing is seen afterwards."""
    packages = sorted({package for _, package in missing if package})
    if not packages:
        return
    if os.getuid() != 0:
        print(f"not root: cannot install {' '.join(packages)}", flush=True)
        return
    print(f"installing {' '.join(packages)}", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=env, timeout=300, stdout=subprocess.DEVNULL)
    for package in packages:
        # One by one: a package that is not to be had does not take the others along.
        done = subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
            env=env,
            timeout=900,
            capture_output=True,
        )
        if done.returncode != 0:
            print(f"cannot install {package}: {done.stderr.decode(errors='replace').strip()[-300:]}", flush=True)


def fetch(program, cache, options):
    """Fills the program's cache directory. Returns why it cannot, or nothing."""
    if not program.fetch or (cache / f".fetched-{program.stamp()}").exists():
        return ""
    if not options.install:
        return "its sources have not been fetched (--install does)"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    env = os.environ | {"CACHE": str(cache)}
    done = subprocess.run(["bash", "-euc", program.fetch], cwd=cache, env=env, timeout=600, capture_output=True)
    if done.returncode != 0:
        return f"fetching its sources failed: {done.stderr.decode(errors='replace').strip()[-500:]}"
    (cache / f".fetched-{program.stamp()}").touch()
    return ""


def why_not(program, cache, options):
    """Why a program cannot be run here, or nothing."""
    if program.waiting and not options.all and program.name not in options.names:
        return f"waits for {program.waiting}"
    if missing := program.missing():
        names = ", ".join(f"{what} (Debian: {package})" if package else what for what, package in missing)
        return f"not on this machine: {names}"
    return fetch(program, cache, options)


def run_program(program, options, home, cache):
    """All runs of one program; its entry in the report."""
    entry = {"about": program.about, "result": "passed", "modes": {}}
    bench = Bench(program=program, rr=home / "rr", home=home / program.name, cache=cache, jobs=options.jobs)
    modes = options.mode or (program.fast if options.fast else report.USUAL)
    begin = time.monotonic()
    try:
        bench.prepare()
        # Three times: the output must repeat itself as far as it is compared, and the median is the native time.
        for _ in range(3):
            bench.run_natively()
    except Failed as error:
        return entry | {"result": "failed", "why": "it does not run natively as defined", "failures": [str(error)]}
    native = sorted(bench.native_seconds)[1]
    entry["native_s"] = round(native, 2)
    results = {mode: [] for mode in modes}
    failures = []
    for repetition in range(options.repeat):
        for mode in modes:
            if repetition and options.budget and time.monotonic() - begin > options.budget:
                continue
            try:
                results[mode].append(bench.cycle(MODES[mode]))
            except Failed as error:
                place = options.keep / f"{program.name}-{mode}-{os.getpid()}-{repetition}"
                bench.keep(place, str(error))
                failures.append(f"{mode}, repetition {repetition + 1}, kept in {place}:\n{error}")
                print(f"FAILED {program.name} {failures[-1]}", flush=True)
        if failures and options.stop:
            break
    for mode, passed in results.items():
        entry["modes"][mode] = {"runs": len(passed)} | (report.figures(passed, native) if passed else {})
    if failures:
        runs = len(failures) + sum(len(passed) for passed in results.values())
        entry |= {"result": "failed", "why": f"{len(failures)} of {runs} runs failed", "failures": failures}
    shutil.rmtree(bench.home, ignore_errors=True)
    return entry


def line(name, entry, seconds, cpu):
    """The line about a program on the terminal."""
    text = f"{entry['result']:8} {name:16}"
    if entry["result"] == "skipped":
        return f"{text} {entry['why']}"
    for mode, numbers in entry["modes"].items():
        text += f" {mode}: {numbers['runs']}×"
        if "events" in numbers:
            text += f" {numbers['events']} events, record {numbers['record_ratio']}×, replay {numbers['replay_ratio']}×"
            if numbers["checkpoints"]:
                text += f", {numbers['checkpoints']} checkpoints ≤ {numbers['pause_max_us'] / 1000:.1f} ms"
            text += ";"
    return f"{text} {seconds:.0f} s ({cpu:.0f} s of processor time)" + (f"; {entry['why']}" if "why" in entry else "")


def about(rr):
    """What was tested where."""
    model = next((text.partition(":")[2].strip() for text in open("/proc/cpuinfo") if text.startswith("model name")), "")
    # Where a virtual machine hides the model, a bare vendor name is all there is.
    return {
        "rr": subprocess.run([rr, "--version"], capture_output=True, text=True, timeout=20).stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{model} ({os.cpu_count()} cores), Linux {platform.release()}",
    }


def cpu_seconds():
    """Processor time of all commands so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    """Runs the chosen programs; the exit status says whether all that ran passed."""
    options = arguments()
    programs = definitions.load()
    if options.list:
        for name, program in programs.items():
            needs = " ".join(need.partition("=")[2] or need.partition("=")[0] for need in program.needs)
            flags = ("fast " if program.fast else "") + (f"[waits for {program.waiting}] " if program.waiting else "")
            print(f"{name:16} {flags}{program.about} ({needs})")
        return 0
    chosen = choose(options, programs)
    if options.install:
        install([pair for program in chosen for pair in program.missing()])
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rr-matrix"
    options.keep = (options.keep or Path(tempfile.gettempdir()) / "rr-matrix-failed").absolute()
    processes.become_subreaper()
    processes.default_signals()
    # Ended from outside, it still takes along what it started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    entries = {}
    with tempfile.TemporaryDirectory(prefix="rr-matrix-", ignore_cleanup_errors=True) as directory:
        home = Path(directory)
        home.chmod(0o755)
        # A copy that every user can reach, and that a build meanwhile does not change.
        shutil.copy(options.rr, home / "rr")
        for program in chosen:
            begin, cpu = time.monotonic(), cpu_seconds()
            if why := why_not(program, caches / program.name, options):
                entries[program.name] = {"about": program.about, "result": "skipped", "why": why}
            else:
                entries[program.name] = run_program(program, options, home, caches / program.name)
            entry = entries[program.name]
            print(line(program.name, entry, time.monotonic() - begin, cpu_seconds() - cpu), flush=True)
            if options.json:
                # At once: a long run that is interrupted has not been for nothing.
                report.merge(options.json, entries, about(home / "rr"))
            if not entry.get("modes"):
                print("".join(entry.get("failures", [])), end="", flush=True)
            if entry["result"] == "failed" and options.stop:
                break
        if options.json and options.markdown:
            report.write_table(options.markdown, report.table(report.merge(options.json, entries, about(home / "rr"))))
    counts = [sum(entry["result"] == result for entry in entries.values()) for result in ("passed", "failed", "skipped")]
    print("{} passed, {} failed, {} skipped".format(*counts))
    return 1 if counts[1] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        processes.kill_all()
        sys.exit(130)
