#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Others' tests: what `make check-conformance` runs, inside the build tree.

    tools/conformance.py [--kernel stock|debug] [--test NAME]... [--quick] [--together]
                         [--list]

Each suite runs on the bare filesystem, on the kernel's overlay and on rovl over it, in
a virtual machine, and the results are compared case by case: what passes on the bare
filesystem has to pass on rovl, unless selftests/conformance/exceptions has the case
with a reason. NAME selects units (SUITE@FILESYSTEM, SUITE@FILESYSTEM.VARIANT) whose
names begin with it or match it (*, ?). Ends with a table, and
`N passed, N failed, N skipped`, which counts cases; the exit status is 0 if none failed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from verdicts import ENV, CheckError, Results, Verdict, built_module  # noqa: E402
from verdicts import command, say, selected  # noqa: E402
from vm import Disk, Machine, cache, image, run  # noqa: E402

SUITES_DIRECTORY = TOP / "selftests" / "conformance"
OUT = TOP / "build" / "conformance"
BARE, OVERLAY, ROVL = KINDS = ("bare", "overlay", "rovl")
KERNEL_LOG = "kernel.log"
IDLE = 900                  # seconds without output
DEBUG_FACTOR = 4            # how much more time the debug kernel is given


# --- The suites ----------------------------------------------------------------------

@dataclass(frozen=True)
class Crate:
    """A program that is published as a crate."""

    name: str
    version: str


PJDFSTEST = Crate("pjdfstest", "0.2.2")
FSX = Crate("fsx", "0.3.2")
CRATES = (PJDFSTEST, FSX)


@dataclass(frozen=True)
class Suite:
    """Somebody's tests; selftests/conformance/suites/NAME.sh runs them."""

    name: str
    on: tuple[str, ...]                 # file systems, or FILESYSTEM.VARIANT
    crates: tuple[Crate, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    debian: bool = False                # needs the guest image with more packages
    containers: bool = False            # needs the guest image with podman and others
    lua: bool = False                   # needs Lua's source
    disk: int = 6                       # GB, sparse
    memory: int = 2048                  # MB
    timeout: int = 3600                 # seconds on the stock kernel

    @property
    def units(self) -> list[str]:
        return [f"{self.name}@{where}" for where in self.on]

    @property
    def system(self) -> image.System:
        if self.containers:
            return image.CONTAINERS
        return image.CONFORMANCE if self.debian else image.NORMAL


FILESYSTEMS = ("ext4", "xfs", "btrfs", "tmpfs")

SUITES = (
    Suite("pjdfstest", tuple(f"{fs}.{place}" for fs in FILESYSTEMS
                             for place in ("lower", "upper", "merged")), (PJDFSTEST,),
          (("PJDFSTEST", ""),)),
    Suite("fsx", FILESYSTEMS, (FSX,),
          (("FSX_SEEDS", "1 2 3"), ("FSX_OPS", "5000"))),
    Suite("fio", FILESYSTEMS, debian=True),
    Suite("git", ("ext4", "xfs"), debian=True),
    Suite("sqlite", ("ext4", "btrfs"), debian=True),
    Suite("build", ("ext4",), lua=True),
    Suite("postgresql", ("ext4",), debian=True),
    Suite("dpkg", ("ext4",), debian=True, timeout=5400),
    Suite("dbench", ("ext4",), debian=True),
    Suite("stress", ("ext4",), env=(("STRESS_SECONDS", "60"), ("STRESSORS", "")),
          debian=True, disk=10, memory=3072, timeout=10800),
)

# Programs that know the name overlay only; selftests/conformance/containers.sh. On "bare" they
# use no stacking filesystem.
CONTAINERS = (
    Suite("podman", ("ext4.native", "ext4.program", "ext4.rootless", "ext4.rootless_program"),
          containers=True, timeout=10800),
    Suite("podman-more", ("ext4",), env=(("PODMAN_CROWD", "50"),), containers=True,
          memory=6144, timeout=10800),
    Suite("sandbox", ("ext4",), containers=True),
    Suite("systemd", ("ext4",), containers=True),
    Suite("schroot", ("ext4",), containers=True),
    Suite("containerd", ("ext4",), containers=True, timeout=7200),
    Suite("docker", ("ext4",), containers=True, timeout=7200),
)

# All cases but link::link_count_max, which makes 65,000 links on ext4.
QUICK_CASES = ("chmod:: chown:: truncate:: mkdir:: mkfifo:: mknod:: open:: posix_fallocate:: "
               "rename:: rmdir:: symlink:: unlink:: utimensat:: "
               "link::c link::e link::r link::s link::u")

# The part of it that `make check` runs.
QUICK = (
    Suite("pjdfstest", ("ext4.merged",), (PJDFSTEST,), (("PJDFSTEST", QUICK_CASES),)),
    Suite("fsx", ("ext4",), (FSX,), (("FSX_SEEDS", "1"), ("FSX_OPS", "500"))),
)


def programs() -> Path:
    """The directory with the programs of all crates, built the first time."""
    def build(directory: Path) -> None:
        target = directory / "target"
        for crate in CRATES:
            with cache.step(f"building {crate.name} {crate.version} from its crate, "
                            "a minute or two"):
                # A test program: the time that it takes to build counts for more.
                command("cargo", "install", "--locked", "--version",
                        f"={crate.version}", "--root", directory, crate.name,
                        cwd=directory, env={
                            "CARGO_TARGET_DIR": str(target),
                            "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
                            "CARGO_PROFILE_RELEASE_LTO": "off",
                            "CARGO_PROFILE_RELEASE_STRIP": "symbols"})
        shutil.rmtree(target)

    versions = "-".join(f"{crate.name}-{crate.version}" for crate in CRATES)
    tree = Path(os.environ["ROVL_IN_TREE"]).name
    return cache.build_once(cache.root() / "conformance" / f"{versions}-{tree}", build) / "bin"


def mount_helper() -> Path:
    """mount.rovl, built where make check builds it."""
    target = TOP / "build" / "selftests"
    command("cargo", "build", "--quiet", "--release", "--locked", cwd=TOP / "tools" / "mount-rovl",
            env={"CARGO_TARGET_DIR": str(target)})
    return target / "release" / "mount-rovl"


def lua_source() -> Path:
    """Lua's source, from the crate that carries it; Cargo.lock says which."""
    manifest = SUITES_DIRECTORY / "Cargo.toml"
    described = json.loads(command(
        "cargo", "metadata", "--quiet", "--locked", "--format-version=1",
        "--manifest-path", manifest))
    crate = next(p for p in described["packages"] if p["name"] == "lua-src")
    return max(Path(crate["manifest_path"]).parent.glob("lua-5.4*"))


# --- What came of it ------------------------------------------------------------------

@dataclass
class Unit:
    """The cases of one unit on each kind of file system."""

    cases: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    seconds: dict[str, int] = field(default_factory=dict)   # of those that came to the end

    def add(self, kind: str, case: str, verdict: str, text: str) -> None:
        # A case may come again: a failure stays, and so does what is more than a skip.
        known = self.cases.setdefault(kind, {})
        order = ("", "skip", "ok", "fail")
        if order.index(verdict) > order.index(known.get(case, ("", ""))[0]):
            known[case] = (verdict, text)

    def passed(self, kind: str) -> int:
        return sum(1 for verdict, _ in self.cases.get(kind, {}).values() if verdict == "ok")

    def verdict(self, kind: str, case: str) -> tuple[str, str]:
        return self.cases.get(kind, {}).get(case, ("missing", "was not run"))


class Stream:
    """Reads the guest's output; see selftests/conformance/lib.sh for its format."""

    def __init__(self, units: dict[str, Unit], log: Path) -> None:
        self._units = units
        self._rest = b""
        self._log = log.open("w", encoding="utf-8")
        self.finished = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip("\r"))
        self._log.flush()

    def close(self) -> None:
        if self._rest:
            self.feed(b"\n")
        self._log.close()

    def _line(self, line: str) -> None:
        self._log.write(line + "\n")
        match line.split("\t"):
            case ["begin", unit, _]:
                self._units.setdefault(unit, Unit())
            case ["case", unit, kind, case, verdict, *text]:
                self._units[unit].add(kind, case, verdict, " ".join(text).strip())
            case ["end", unit, kind, seconds]:
                self._units[unit].seconds[kind] = int(seconds)
                passed = self._units[unit].passed(kind)
                failed = sum(v == "fail" for v, _ in self._units[unit].cases[kind].values())
                say(f"# {unit} on {kind}: {passed} passed, {failed} failed, {seconds} s")
            case ["finished"]:
                self.finished = True
            case [""]:
                pass
            case _:
                say(f"# {line}")


@dataclass(frozen=True)
class Allowed:
    """A pattern of cases that may fail on rovl, and why."""

    pattern: str
    reason: str

    def names(self, case: str) -> bool:
        return fnmatch.fnmatchcase(case, self.pattern)


def read_exceptions(text: str) -> list[Allowed]:
    """Reads the file of exceptions: a pattern a line; comments are its reason.

    Patterns in one block share the reason. The first block of comments is the file's
    own.
    """
    exceptions: list[Allowed] = []
    reason: list[str] = []
    after_pattern = True
    for line in text.splitlines():
        if line.startswith("#"):
            if after_pattern:
                reason = []
            after_pattern = False
            reason.append(line[1:].strip())
        elif line.strip():
            if not reason:
                raise ValueError(f"no reason is given for {line}")
            exceptions.append(Allowed(line.strip(), " ".join(reason)))
            after_pattern = True
        else:
            reason, after_pattern = [], True
    return exceptions


@dataclass(frozen=True)
class Judgement:
    """What is thought of a case."""

    name: str
    verdict: Verdict
    text: str = ""
    excepted: bool = False


def name_of(unit: str, case: str) -> str:
    suite, _, where = unit.partition("@")
    return f"{suite}.{case}@{where}"


def judge(unit_name: str, unit: Unit, exceptions: Iterable[Allowed]) -> list[Judgement]:
    """Compares the kinds, case by case."""
    judgements = []
    cases = dict.fromkeys(case for kind in KINDS for case in unit.cases.get(kind, {}))
    for case in cases:
        name = name_of(unit_name, case)
        exception = next((e for e in exceptions if e.names(name)), None)
        judgements.append(_judge(name, case, unit, exception))
    for kind in KINDS:
        if kind not in unit.seconds:
            judgements.append(Judgement(name_of(unit_name, f"end.{kind}"), Verdict.FAILED,
                                        f"did not come to its end on {kind}"))
    return judgements


def _judge(name: str, case: str, unit: Unit, exception: Allowed | None) -> Judgement:
    bare, bare_text = unit.verdict(BARE, case)
    overlay, _ = unit.verdict(OVERLAY, case)
    rovl, text = unit.verdict(ROVL, case)
    if bare == "missing" and overlay != "missing" and rovl != "missing":
        bare = "ok"         # only a stack has it: the unmount, the layers afterwards
    if exception and rovl == "ok":
        return Judgement(name, Verdict.FAILED, f"passes, the exception {exception.pattern} "
                                               "is stale")
    if exception and overlay == "ok":
        return Judgement(name, Verdict.FAILED, f"passes on overlay, and can be no exception: "
                                               f"{text}")
    if bare == "ok":
        if rovl == "ok":
            return Judgement(name, Verdict.PASSED)
        if exception:
            return Judgement(name, Verdict.SKIPPED, exception.reason, excepted=True)
        where = "on overlay too" if overlay != "ok" else "not on overlay"
        return Judgement(name, Verdict.FAILED, f"{rovl} ({where}): {text}")
    if bare == "missing":
        return Judgement(name, Verdict.FAILED, "was not run on the bare filesystem")
    if rovl == "missing":
        return Judgement(name, Verdict.FAILED, text)
    said = "skipped" if bare == "skip" else "fails"
    return Judgement(name, Verdict.SKIPPED, f"{said} on the bare filesystem: {bare_text}")


def unused(exceptions: Iterable[Allowed], judgements: list[Judgement],
           suites: Iterable[str]) -> list[Judgement]:
    """Exceptions that name no case of the suites that were run in full."""
    return [Judgement(f"exceptions.{e.pattern}", Verdict.FAILED, "names no case")
            for e in exceptions
            if e.pattern.split(".")[0] in suites
            and not any(e.names(j.name) for j in judgements)]


def reasons(judgements: Iterable[Judgement]) -> list[str]:
    """Why there are exceptions, and how many for each reason."""
    count: dict[str, int] = {}
    for judgement in judgements:
        if judgement.excepted:
            count[judgement.text] = count.get(judgement.text, 0) + 1
    return [f"{number} exceptions: {reason}" for reason, number in count.items()]


def table(units: dict[str, Unit], judged: dict[str, list[Judgement]]) -> list[str]:
    """For each suite and file system: cases, and how many passed where."""
    rows: dict[tuple[str, str], list[int]] = {}
    for name, unit in units.items():
        suite, _, where = name.partition("@")
        row = rows.setdefault((suite, where.split(".")[0]), [0] * 6)
        numbers = [len(judged[name]), *(unit.passed(kind) for kind in KINDS),
                   sum(j.excepted for j in judged[name]),
                   sum(j.verdict is Verdict.FAILED for j in judged[name])]
        for at, number in enumerate(numbers):
            row[at] += number
    lines = [f"{'suite':12}{'on':8}{'cases':>8}{'bare':>8}{'overlay':>8}{'rovl':>8}"
             f"{'exceptions':>12}{'failed':>8}"]
    for (suite, where), row in rows.items():
        cells = "".join(f"{n:>{w}}" for n, w in zip(row, (8, 8, 8, 8, 12, 8)))
        lines.append(f"{suite:12}{where:8}{cells}")
    return lines


def together(suites: Iterable[Suite]) -> list[list[Suite]]:
    """As few machines as will do."""
    groups: dict[bool, list[Suite]] = {}
    for suite in suites:
        groups.setdefault(suite.containers, []).append(suite)
    return list(groups.values())


# --- Running ---------------------------------------------------------------------------

def run_suites(kernel: str, suites: list[Suite], wanted: Callable[[str], bool],
               label: str) -> tuple[dict[str, Unit], list[Judgement]]:
    """Boots a machine for the suites; gives their units, and what else there is to say."""
    units: dict[str, Unit] = {}
    names = [unit for suite in suites for unit in suite.units if wanted(unit)]
    files = {"conformance": SUITES_DIRECTORY}
    for suite in suites:
        files |= {crate.name: programs() / crate.name for crate in suite.crates}
        if suite.lua:
            files["lua"] = lua_source()
        if suite.containers:
            files["mount.rovl"] = mount_helper()
    env = dict(pair for suite in suites for pair in suite.env)
    env |= {name: os.environ[f"ROVL_{name}"] for name in env if f"ROVL_{name}" in os.environ}
    OUT.mkdir(parents=True, exist_ok=True)
    stream = Stream(units, OUT / f"{kernel}-{label}.log")
    factor = DEBUG_FACTOR if kernel == "debug" else 1
    result = run(Machine(
        kernel=kernel, job=SUITES_DIRECTORY / "job.sh",
        module=built_module(kernel), files=files,
        # The ordinary one is a part of each of the others.
        system=next((s.system for s in suites if s.system != image.NORMAL), image.NORMAL),
        disks=[Disk("scratch", size=max(s.disk for s in suites) << 30)],
        env={**env, "UNITS": " ".join(names), "KINDS": " ".join(KINDS)},
        memory=max(s.memory for s in suites),
        timeout=sum(s.timeout for s in suites) * factor, idle=IDLE * factor,
        output=stream.feed, log=OUT / f"{kernel}-{label}.console"))
    stream.close()
    for name in names:
        units.setdefault(name, Unit())
    explanation = result.explain()
    for line in explanation.split("\n") if explanation else []:
        say(f"# {line}")
    good = not result.splats and stream.finished
    return units, [Judgement(f"{label}.{KERNEL_LOG}", Verdict.PASSED if good else Verdict.FAILED,
                             f"{len(result.splats)} reports of the kernel, "
                             f"{result.outcome.value}")]


def show_unit(name: str, judgements: list[Judgement], results: Results) -> None:
    """A line for the unit, and before it one for each case that did not pass."""
    count = {v: 0 for v in Verdict}
    for judgement in judgements:
        count[judgement.verdict] += 1
        results.add(judgement.name, judgement.verdict)
        skipped = judgement.verdict is Verdict.SKIPPED
        if judgement.verdict is Verdict.FAILED or (skipped and os.environ.get("V")):
            sign = "ok" if skipped else "not ok"
            say(f"  {sign} {judgement.name} # {'SKIP ' if skipped else ''}{judgement.text}")
        elif os.environ.get("V"):
            say(f"  ok {judgement.name}")
    sign = "not ok" if count[Verdict.FAILED] else "ok"
    say(f"{sign} {name} # " + ", ".join(f"{n} {v.name.lower()}" for v, n in count.items()))


def quick(kernel: str, names: list[str], results: Results) -> None:
    """The part that `make check` runs: a verdict for each unit, which are named so."""
    def wanted(unit: str) -> bool:
        return f"conformance.{unit}" in names

    suites = [suite for suite in QUICK if any(map(wanted, suite.units))]
    units, more = run_suites(kernel, suites, wanted, "quick")
    exceptions = read_exceptions((SUITES_DIRECTORY / "exceptions").read_text("utf-8"))
    for name, unit in units.items():
        cases = Results()
        show_unit(f"conformance.{name}", judge(name, unit, exceptions), cases)
        failed = cases.count(Verdict.FAILED) or not cases.count(Verdict.PASSED)
        results.add(f"conformance.{name}", Verdict.FAILED if failed else Verdict.PASSED)
    for judgement in more:
        good = judgement.verdict is Verdict.PASSED
        say(f"{'ok' if good else 'not ok'} conformance.{judgement.name} # {judgement.text}")
        results.add(f"conformance.{judgement.name}", judgement.verdict)


def quick_names() -> list[str]:
    return [f"conformance.{unit}" for suite in QUICK for unit in suite.units]


# --- The command -----------------------------------------------------------------------

def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=("stock", "debug"), default="stock")
    parser.add_argument("--quick", action="store_true", help="what `make check` runs of it")
    parser.add_argument("--together", action="store_true",
                        help="all suites in one boot: faster, but one that hangs takes "
                             "those after it with it")
    parser.add_argument("--test", action="append", default=[], metavar="NAME",
                        help="only units of this name; several may be given, or one "
                             "argument with spaces or commas")
    parser.add_argument("--list", action="store_true", help="print the units and end")
    arguments = parser.parse_args()
    arguments.test = [n for text in arguments.test for n in re.split(r"[ ,]+", text) if n]
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if "ROVL_IN_TREE" not in os.environ:
        os.execv(ENV, [str(ENV), "run", "--", "python3",
                       str(TOP / "tools" / "conformance.py"), *sys.argv[1:]])
    start = time.monotonic()

    def wanted(unit: str) -> bool:
        return selected(unit, arguments.test)

    every = QUICK if arguments.quick else (*SUITES, *CONTAINERS)
    suites = [s for s in every if any(map(wanted, s.units))]
    if arguments.list:
        say("\n".join(u for s in suites for u in s.units if wanted(u)))
        return 0
    exceptions = read_exceptions((SUITES_DIRECTORY / "exceptions").read_text("utf-8"))
    results = Results()
    units: dict[str, Unit] = {}
    judged: dict[str, list[Judgement]] = {}
    more: list[Judgement] = []
    machines = together(suites) if arguments.together else [[s] for s in suites]
    for machine in machines:
        label = "+".join(suite.name for suite in machine)
        try:
            new, said = run_suites(arguments.kernel, machine, wanted, label)
        except CheckError as error:
            say("\n".join(f"# {line}" for line in str(error).split("\n")[-30:]))
            more.append(Judgement(f"{label}.build", Verdict.FAILED, "cannot be built"))
            continue
        for name, unit in new.items():
            judged[name] = judge(name, unit, exceptions)
            show_unit(name, judged[name], results)
        units |= new
        more += said
    cases = [j for judgements in judged.values() for j in judgements]
    if not arguments.test and not arguments.quick:
        more += unused(exceptions, cases, {s.name for s in suites})
    for judgement in more:
        good = judgement.verdict is Verdict.PASSED
        say(f"{'ok' if good else 'not ok'} {judgement.name} # {judgement.text}")
        results.add(judgement.name, judgement.verdict)
    if not suites:
        say(f"no unit is called {' or '.join(arguments.test)}")
        results.add("selection", Verdict.FAILED)
    say("")
    say("\n".join(table(units, judged)))
    say("")
    for line in reasons(cases):
        say(line)
    for name, verdict in results.verdicts.items():
        if verdict is Verdict.FAILED:
            say(f"failed: {name}")
    say(f"# {time.monotonic() - start:.0f} s")
    say(results.summary())
    return 1 if results.count(Verdict.FAILED) else 0


if __name__ == "__main__":
    sys.exit(main())
