#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The benchmarks: what `make bench` runs, inside the build tree.

    tools/bench.py [--kernel stock|debug] [--quick] [--row NAME]... [--base FILE]
    tools/bench.py --show FILE [--base FILE]

The same work on the bare upper filesystem, on the kernel's overlay and on rovl, in
one run of a virtual machine. Prints a table, and writes all samples to
build/bench/KERNEL-DATE.json; --base compares with such a file of an earlier run.

The exit status says whether all operations worked and the kernel had nothing to
report. It never depends on a time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

import check  # noqa: E402
from check import BUILD, ENV, CheckError, built_module, say  # noqa: E402

FORMAT = 1                  # of the JSON file
OUT = TOP / "build" / "bench"
BARE = "bare"
IDLE = "idle"
FILESYSTEMS = (BARE, "overlay", "rovl")
MORE_IS_BETTER = ("1/s",)   # units; of the others less is
TIMEOUT = {"stock": 1800, "debug": 7200}
NOISE = 0.10                # of a ratio that says nothing
ENOUGH = 3                  # samples on each side, to say which run was better
DISK = 6 << 30              # sparse

# What a second run must have in common with the first to be compared with it.
COMPARABLE = ("kernel", "cpus", "memory_mb", "accel", "filesystem", "quick")

JOB = r"""#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
cd /tmp || exit 1
for module in ext4 overlay rovl; do
	modprobe "$module" || { echo "bench: $module does not load"; dmesg | tail -n 30; exit 1; }
done
exec /job/rovl_tests bench $ROVL_BENCH
"""


# --- What was measured -----------------------------------------------------------------

@dataclass
class Row:
    """One figure, on each filesystem."""

    unit: str
    heading: str
    label: str
    idle: str = ""          # the name of the row that does the same when idle
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, filesystem: str) -> float | None:
        samples = self.samples.get(filesystem)
        return statistics.median(samples) if samples else None

    def ratio(self, filesystem: str, other: str) -> float | None:
        return quotient(self.median(filesystem), self.median(other))

    def cost(self, filesystem: str, other: str) -> float | None:
        """The ratio turned so that less is better."""
        if self.unit in MORE_IS_BETTER:
            return self.ratio(other, filesystem)
        return self.ratio(filesystem, other)

    def is_slower(self) -> bool:
        """Whether rovl costs more than overlay, beyond noise."""
        cost = self.cost("rovl", "overlay")
        return cost is not None and cost > 1 + NOISE


NOTHING = Row("", "", "")


def quotient(one: float | None, two: float | None) -> float | None:
    return one / two if one is not None and two else None


@dataclass
class Report:
    """A run: what it ran on, and its rows in the order in which they came."""

    meta: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: bool = False

    def to_json(self) -> dict[str, Any]:
        rows = {
            name: {
                "heading": row.heading, "label": row.label, "unit": row.unit,
                "idle": row.idle,
                "better": "more" if row.unit in MORE_IS_BETTER else "less",
                "samples": row.samples,
                "median": {fs: row.median(fs) for fs in row.samples},
                "ratio_to_bare": {fs: row.ratio(fs, BARE) for fs in row.samples if fs != BARE},
            } for name, row in self.rows.items()}
        return {"format": FORMAT, **self.meta, "rows": rows, "notes": self.notes,
                "failures": self.failures}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        if data.get("format") != FORMAT:
            raise ValueError(f"format {data.get('format')}, not {FORMAT}")
        rows = {name: Row(r["unit"], r["heading"], r["label"], r["idle"], r["samples"])
                for name, r in data["rows"].items()}
        meta = {k: v for k, v in data.items()
                if k not in ("format", "rows", "notes", "failures")}
        return cls(meta, rows, data["notes"], data["failures"], True)


class Stream:
    """Reads the guest's output; see selftests/src/bench/mod.rs for its format."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip("\r"))

    def _line(self, line: str) -> None:
        report = self._report
        match line.split("\t"):
            case ["bench", _]:
                pass
            case ["meta", key, value]:
                numeric = key in ("cpus", "memory_mb")
                report.meta[key] = int(value) if numeric else value
            case ["missing", filesystem]:
                report.failures.append(f"the kernel has no {filesystem}")
            case ["row", name, figure, unit, heading, label, idle]:
                report.rows[key_of(name, figure)] = Row(
                    unit, heading, label, key_of(idle, figure) if idle else "")
            case ["sample", name, figure, filesystem, round_, value]:
                row = report.rows[key_of(name, figure)]
                row.samples.setdefault(filesystem, []).append(float(value))
                what = f"{key_of(name, figure)} on {filesystem}"
                say(f"[{int(round_) + 1}] {what}: {number(float(value))} {row.unit}")
            case ["note", name, filesystem, round_, text]:
                report.notes.append(f"{name} on {filesystem}, round {int(round_) + 1}: {text}")
            case ["fail", name, filesystem, round_, text]:
                report.failures.append(
                    f"{name} on {filesystem}, round {int(round_) + 1}: {text}")
            case ["end", _]:
                report.ended = True
            case _:
                say(line)


def key_of(name: str, figure: str) -> str:
    """The name of a figure in the JSON file."""
    return f"{name}.{figure.replace(' ', '_')}" if figure else name


# --- The table -------------------------------------------------------------------------

def number(value: float | None) -> str:
    """Three digits, as far as they mean anything."""
    if value is None:
        return "-"
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def extremes(row: Row, filesystem: str) -> str:
    samples = row.samples.get(filesystem, [])
    return f"{number(min(samples))}-{number(max(samples))}" if len(samples) > 1 else ""


def table(report: Report) -> list[str]:
    """The table for people."""
    there = [fs for fs in FILESYSTEMS if any(fs in r.samples for r in report.rows.values())]
    pairs = [(fs, BARE) for fs in there if fs != BARE and BARE in there]
    if "rovl" in there and "overlay" in there:
        pairs.append(("rovl", "overlay"))
    if any(row.idle in report.rows for row in report.rows.values()):
        pairs.append(("rovl", IDLE))
    lines = [f"{'':28}" + "".join(f"{fs:>7}{'':13}" for fs in there)
             + "".join(f"{of:>9}" for of, _ in pairs),
             f"{'':28}" + f"{'':20}" * len(there)
             + "".join(f"{'/' + to:>9}" for _, to in pairs)]
    heading = None
    for row in report.rows.values():
        if row.heading != heading:
            heading = row.heading
            more = "more" if row.unit in MORE_IS_BETTER else "less"
            lines += ["", f"{heading} ({row.unit}, {more} is better)"]
        cells = [f"  {row.label:26}"]
        for fs in there:
            cells.append(f"{number(row.median(fs)):>7} {extremes(row, fs):12}")
        for of, to in pairs:
            other = report.rows.get(row.idle, NOTHING).median(of) if to == IDLE else (
                row.median(to))
            ratio = quotient(row.median(of), other)
            no_idle = to == IDLE and row.idle not in report.rows
            cells.append(f"{'' if no_idle else number(ratio):>9}")
        if row.is_slower():
            cells.append("  slower")
        lines.append("".join(cells).rstrip())
    return lines


def summary(report: Report) -> list[str]:
    """What all rows together say of rovl against overlay. The longest waits are counted
    by themselves: they are not the cost of a call, and would outweigh all else."""
    costs, waits = [], []
    idle = {row.idle for row in report.rows.values()}
    for name, row in report.rows.items():
        if cost := row.cost("rovl", "overlay"):
            (waits if row.idle or name in idle else costs).append(cost)
    lines = []
    for what, of in (("", costs), ("longest waits: ", waits)):
        if of:
            slower = sum(cost > 1 + NOISE for cost in of)
            lines.append(f"{what}geometric mean of rovl/overlay {statistics.geometric_mean(of):.2f}"
                         f" in {len(of)} rows (rates turned round), {slower} slower by more than "
                         f"{NOISE:.0%}")
    return lines


def changes(report: Report, base: Report) -> list[str]:
    """What is different from an earlier run."""
    lines = [f"warning: {key} is {report.meta.get(key)}, and was {base.meta.get(key)}"
             for key in COMPARABLE if report.meta.get(key) != base.meta.get(key)]
    lines.append(f"{'':46}" + "".join(f"{fs:>18}" for fs in FILESYSTEMS))
    for name, row in report.rows.items():
        old = base.rows.get(name)
        if not old:
            lines.append(f"{name:46}  not in the base")
            continue
        if (old.heading, old.label, old.unit) != (row.heading, row.label, row.unit):
            lines.append(f"{name:46}  not the same work as in the base")
            continue
        cells = [f"{name:46}"]
        for fs in FILESYSTEMS:
            cells.append(f"{change(row, old, fs):>18}")
        lines.append("".join(cells).rstrip())
    lines += [f"{name:46}  only in the base" for name in base.rows if name not in report.rows]
    return lines


def change(row: Row, old: Row, filesystem: str) -> str:
    """From the old median to the new one; with a word if it is more than noise."""
    now, then = row.median(filesystem), old.median(filesystem)
    if now is None or not then:
        return "-"
    text = f"{now / then - 1:+.0%}"
    new_samples, old_samples = row.samples[filesystem], old.samples[filesystem]
    if min(len(new_samples), len(old_samples)) < ENOUGH:
        return text
    if min(new_samples) <= max(old_samples) and min(old_samples) <= max(new_samples):
        return text
    better = (now > then) == (row.unit in MORE_IS_BETTER)
    return f"{text} {'better' if better else 'worse'}"


EXPLANATION = """\
Medians, least and greatest of the samples, ratios of medians. The bare filesystem has
nothing to copy up: there the file is copied to a new name by hand (nameless file,
copy_file_range, fsync, link), and the new file is opened and written to. What is only
read is read in the lower layer itself. Every sample begins with cold caches."""


def show(report: Report, base: Report | None) -> None:
    meta = report.meta
    say("")
    say(" ".join(f"{key} {meta.get(key)}" for key in (*COMPARABLE, "revision", "date")))
    say("")
    for line in table(report):
        say(line)
    say("")
    for line in summary(report):
        say(line)
    say("")
    say(EXPLANATION)
    if report.meta.get("quick") == "yes":
        say("A quick run shows that the rows work. It is too little to compare.")
    load, cpus = meta["load_before"][0], meta["host_cpus"]
    if load > cpus / 4:
        say(f"warning: load {load:.1f} on {cpus} CPUs of the host when the run began: "
            "expect noise")
    for note in report.notes:
        say(f"note: {note}")
    if base:
        say("")
        say(f"Change since {base.meta.get('date')} ({base.meta.get('revision')}); "
            "\"better\" and \"worse\" where no samples overlap:")
        for line in changes(report, base):
            say(line)


# --- The command -----------------------------------------------------------------------

def revision() -> str:
    try:
        return check.command("git", "-c", f"safe.directory={TOP}", "describe", "--always",
                             "--dirty").strip()
    except (CheckError, OSError):
        return "unknown"


def run_in_vm(arguments: argparse.Namespace) -> Report:
    from vm import Disk, Machine, run

    job = BUILD / "bench.sh"
    job.write_text(JOB, encoding="utf-8")
    date = datetime.datetime.now().astimezone()
    report = Report(meta={"date": date.isoformat(timespec="seconds"),
                          "revision": revision(), "load_before": os.getloadavg(),
                          "host_cpus": os.cpu_count()})
    stream = Stream(report)
    words = (["--quick"] if arguments.quick else []) + arguments.row
    result = run(Machine(
        kernel=arguments.kernel, job=job, module=built_module(arguments.kernel),
        files={"rovl_tests": BUILD / "release" / "rovl_tests"},
        disks=[Disk("scratch", size=DISK)],
        env={"ROVL_SCRATCH": "/dev/rovl/scratch", "ROVL_BENCH": " ".join(words)},
        timeout=TIMEOUT[arguments.kernel], output=stream.feed))
    stream.feed(b"\n")
    report.meta["accel"] = result.accel
    report.meta["seconds"] = round(result.seconds)
    report.meta["load_after"] = os.getloadavg()
    if explanation := result.explain():
        report.failures.append(explanation)
    if not report.ended:
        report.failures.append("the bench did not come to its end")
    return report


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=("stock", "debug"), default="stock")
    parser.add_argument("--quick", action="store_true",
                        help="fewer and smaller: shows that the rows work")
    parser.add_argument("--row", action="append", default=[], metavar="NAME",
                        help="only rows whose name begins with this or matches it; several "
                             "may be given, or one argument with commas")
    parser.add_argument("--base", type=Path, metavar="FILE",
                        help="the JSON file of a run to compare with")
    parser.add_argument("--show", type=Path, metavar="FILE",
                        help="run nothing; show the run in this JSON file")
    arguments = parser.parse_args()
    arguments.row = [n for text in arguments.row for n in text.replace(",", " ").split()]
    return arguments


def read(path: Path) -> Report:
    try:
        return Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{path}: not a run of the bench: {error}")


def main() -> int:
    arguments = parse_arguments()
    base = read(arguments.base) if arguments.base else None
    if arguments.show:
        show(read(arguments.show), base)
        return 0
    if "ROVL_IN_TREE" not in os.environ:
        os.execv(ENV, [str(ENV), "run", "--", "python3", str(TOP / "tools" / "bench.py"),
                       *sys.argv[1:]])
    BUILD.mkdir(parents=True, exist_ok=True)
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        check.cargo("build", "--release", "--locked")
    except CheckError as error:
        sys.exit(str(error))
    report = run_in_vm(arguments)
    show(report, base)
    kernel = report.meta.get("kernel", arguments.kernel)
    day = report.meta["date"].replace(":", "").split("+")[0]
    path = OUT / f"{kernel}-{day}.json"
    path.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    say("")
    say(f"{path.relative_to(TOP)} written, {report.meta['seconds']} s")
    for failure in report.failures:
        say(f"failed: {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
