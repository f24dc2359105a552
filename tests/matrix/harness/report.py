"""What the matrix found: lines on the terminal, JSON, a table for the documentation.

The JSON file is the memory: a program that runs again replaces what was known of it with the intervals that it ran with,
and nothing else, so that the table can be made from runs on several days. The table is made from it alone.
"""

import json
import statistics

MARKS = ("<!-- programs:begin -->", "<!-- programs:end -->")

# The modes of which the table has figures.
USUAL = ("plain", "100", "5000")


def figures(results, native):
    """The entry of one mode from its passed cycles."""
    pauses = sorted(pause for result in results for pause in result.pauses)
    record = statistics.median(result.record for result in results)
    replay = statistics.median(result.replay for result in results)
    return {
        "events": int(statistics.median(result.events for result in results)),
        "checkpoints": int(statistics.median(result.checkpoints for result in results)),
        "record_s": round(record, 2),
        "replay_s": round(replay, 2),
        "verify_s": round(statistics.median(result.verify for result in results), 2),
        "record_ratio": round(record / native, 1),
        "replay_ratio": round(replay / native, 1),
        "pause_median_us": int(statistics.median(pauses)) if pauses else 0,
        "pause_max_us": pauses[-1] if pauses else 0,
        "trace_mb": round(statistics.median(result.size for result in results) / 1e6, 1),
    }


def merge(path, programs, about):
    """Puts new entries into the JSON file; returns all of them."""
    known = json.loads(path.read_text())["programs"] if path.exists() else {}
    # A skipped program has nothing new to say about what it did when it ran.
    for name, entry in programs.items():
        if entry["result"] != "skipped" or name not in known:
            known[name] = entry | {"modes": known.get(name, {}).get("modes", {}) | entry.get("modes", {})}
    data = about | {"programs": dict(sorted(known.items()))}
    path.write_text(json.dumps(data, indent=1) + "\n")
    return data


def table(data):
    """The table in markdown."""
    lines = [
        f"*`scripts/matrix`, last on {data['date']}: {data['machine']}.*",
        "",
        "Each program is recorded without checkpoints and with one every 100 and every 5,000 events; replayed from the start and",
        "from every tenth checkpoint, the output compared byte for byte; `rr verify` compares image and pages at each checkpoint.",
        "*Runs* counts recordings that passed all of this, with each of the intervals; after the +, those of other modes: with one every",
        "1, 7 or 50 events, or without the system call buffer. Times are against native runs.",
        "",
        "| program | | passed | runs | events | record | with checkpoints | replay | pause at a checkpoint (median, longest) |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in data["programs"].items():
        modes = entry.get("modes", {})
        runs = " / ".join(str(modes[mode]["runs"]) for mode in USUAL if mode in modes)
        if others := sum(numbers["runs"] for mode, numbers in modes.items() if mode not in USUAL):
            runs += f" + {others}"
        measured = [modes[mode] for mode in USUAL if "events" in modes.get(mode, {})]
        cells = ["", "", "", "", ""]
        if measured:
            often = modes.get("100", {})
            cells = [
                f"{measured[0]['events']:,}",
                f"{measured[0]['record_ratio']}×",
                f"{often['record_ratio']}×" if "record_ratio" in often else "",
                f"{measured[0]['replay_ratio']}×",
                f"{often['pause_median_us'] / 1000:.1f} ms, {often['pause_max_us'] / 1000:.1f} ms" if often.get("checkpoints") else "",
            ]
        verdict = {"passed": "yes", "failed": "**no**", "skipped": "not run"}[entry["result"]]
        if why := entry.get("why"):
            verdict += f": {why}"
        lines.append(f"| {name} | {entry['about']} | {verdict} | {runs} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_table(path, text):
    """Writes the table: between the marks of a file that has them, otherwise as the file."""
    if path.exists() and all(mark in (old := path.read_text()) for mark in MARKS):
        before, _, rest = old.partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        text = f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}"
    path.write_text(text)
