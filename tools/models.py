# SPDX-License-Identifier: GPL-2.0
"""The models of Documentation/models/, checked by spin.

    tools/models.py [NAME]...

Each configuration of the copy-up protocol must hold in every interleaving, and in each
mutant spin must find the interleaving that goes wrong. `make check T=model.` runs them
all; by itself this file runs those named, inside the build tree.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
MODEL = TOP / "Documentation" / "models" / "copyup.pml"
BUILD = TOP / "build" / "models"

MEMORY_MIB = 6144           # a search that needs more fails
DEPTH = 10000               # likewise one that goes deeper
SECONDS = 900
STEPS_SHOWN = 50            # of the end of a bad trace


class ModelError(Exception):
    """A model does not hold, or could not be checked; the text says how."""


class NotAsked(Exception):
    """A check that needs others which have not been run."""


@dataclass(frozen=True)
class Configuration:
    """Who takes part, as macros of the model; what it is there to show."""

    name: str
    macros: str
    # That nobody goes round for ever, besides the assertions and end states.
    progress: bool = False


CONFIGURATIONS = (
    # Every change of names at once; freezing meets all of them.
    Configuration("names", "COPIERS=2 UNLINKER OVER AWAY FREEZER"),
    Configuration("names_temp", "COPIERS=2 UNLINKER OVER AWAY READER TEMP_NAME"),
    Configuration("crowd", "COPIERS=3 UNLINKER OVER CHUNKS=1"),
    # A caller that comes with the inode locked.
    Configuration("locked", "COPIERS=2 CHMOD UNLINKER AWAY READER FREEZER"),
    Configuration("failures", "COPIERS=2 UNLINKER AWAY FAILURES KILLER CHUNKS=1"),
    Configuration("failures_temp", "COPIERS=2 UNLINKER TEMP_NAME FAILURES KILLER"),
    Configuration("failures_crowd", "COPIERS=3 FAILURES KILLER CHUNKS=1"),
    # A copy that stands still; what must not wait for it does not.
    Configuration("stall", "COPIERS=2 UNLINKER OVER READER FREEZER STALL"),
    Configuration("stall_killed", "COPIERS=2 UNLINKER FREEZER STALL KILLER"),
    Configuration("ancestors", "COPIERS=3 ANCESTORS CHUNKS=1"),
    Configuration("ancestors_failures", "COPIERS=2 ANCESTORS FAILURES KILLER CHUNKS=1"),
    Configuration("ancestors_parent", "COPIERS=2 ANCESTORS PARENT CHUNKS=1"),
    Configuration("parent", "COPIERS=2 PARENT READER"),
    Configuration("parent_temp", "COPIERS=2 PARENT TEMP_NAME FAILURES CHUNKS=1"),
    Configuration("links", "COPIERS=2 LINKER MANY_NAMES FAILURES CHUNKS=1"),
    Configuration("links_names", "COPIERS=2 LINKER MANY_NAMES UNLINKER OVER TEMP_NAME"),
    # Others in what the overlay relies on.
    Configuration("forgotten", "COPIERS=2 UNLINKER OVER AWAY FORGETTER CHUNKS=1"),
    Configuration("stranger", "COPIERS=2 STRANGER READER"),
    Configuration("progress", "COPIERS=2 UNLINKER FAILURES KILLER CHUNKS=1 PROGRESS",
                  progress=True),
)

INVALID_END = "invalid end state"


@dataclass(frozen=True)
class Mutant:
    """Something taken out of the protocol, and what spin must find then."""

    name: str
    macros: str
    finds: str              # a row of the table, or INVALID_END
    of: str = ""            # the MUTANT_ macro, if it is not the name

    def macro(self) -> str:
        return f"MUTANT_{(self.of or self.name).upper()}"


MUTANTS = (
    Mutant("no_fresh_lookup", "STRANGER", "R1"),
    Mutant("no_lives_check", "PARENT", "R12"),
    Mutant("unhashed_is_removed", "COPIERS=1 FORGETTER", "R1"),
    Mutant("dentry_says_removed", "COPIERS=1 UNLINKER", "R1"),
    Mutant("dentry_says_removed_over", "COPIERS=1 OVER", "R3", of="dentry_says_removed"),
    Mutant("enter_without_second_look", "COPIERS=2", "R2"),
    Mutant("waiter_assumes_success", "COPIERS=2 FAILURES", "R2"),
    Mutant("waiter_inherits_failure", "COPIERS=2 FAILURES", "R2"),
    Mutant("record_ends_before_announce", "COPIERS=2", "R2"),
    Mutant("announce_before_link", "UNLINKER AWAY", "R4"),
    Mutant("announce_unlocked", "COPIERS=1 UNLINKER", "R1"),
    Mutant("announce_unlocked_over", "COPIERS=1 OVER", "R3", of="announce_unlocked"),
    Mutant("announce_before_attributes", "COPIERS=1 LINKER MANY_NAMES", "R7"),
    Mutant("freeze_held_during_data", "FREEZER", "R9"),
    Mutant("freeze_held_stalls", "FREEZER STALL", INVALID_END, of="freeze_held_during_data"),
    Mutant("parent_locked_during_data", "UNLINKER", "R1"),
    Mutant("parent_locked_stalls", "UNLINKER STALL", INVALID_END,
           of="parent_locked_during_data"),
    Mutant("lock_before_freeze", "UNLINKER FREEZER", INVALID_END),
    Mutant("failure_leaves_temp", "TEMP_NAME FAILURES", "R12"),
    Mutant("reader_keeps_file", "READER", "R15"),
)


# --- What spin says ------------------------------------------------------------------

@dataclass
class Outcome:
    """What one search came to."""

    error: str | None = None    # as pan words it, without the depth
    states: int | None = None
    depth: int | None = None
    memory: float | None = None  # MiB
    problems: list[str] = field(default_factory=list)   # why it says nothing
    # Tasks and lines of the model, and what is there; not all of it was run.
    unreached: list[tuple[str, int, str]] = field(default_factory=list)

    def figures(self) -> str:
        return f"{self.states} states, depth {self.depth}, {self.memory:.0f} MiB"


ERROR = re.compile(r"^pan:\d+: (.+?) \(at depth -?\d+\)$")
INCOMPLETE = re.compile(r"Search not completed|max search depth too small|"
                        r"reached -DMEMLIM bound|out of memory|VECTORSZ|"
                        r"aborting|hash factor")
FIGURES = re.compile(r"^State-vector \d+ byte, depth reached (\d+), errors: (\d+)$")
STATES = re.compile(r"^\s*([\d.e+]+) states, stored")
MEMORY = re.compile(r"^\s*([\d.]+)\s+total actual memory usage$")
UNREACHED_IN = re.compile(r"^unreached in (?:proctype |claim )?(\S+)$")
UNREACHED = re.compile(r'^\t(?:.*/)?[^/:]+:(\d+), state \d+, "(.*)"$')


def read_search(text: str) -> Outcome:
    """Reads the report of a verifier that spin has made."""
    outcome = Outcome()
    errors = None
    task = "?"
    for line in text.split("\n"):
        if INCOMPLETE.search(line):
            outcome.problems.append(line.strip())
        elif match := ERROR.match(line):
            outcome.error = outcome.error or match[1]
        elif match := FIGURES.match(line):
            outcome.depth, errors = int(match[1]), int(match[2])
        elif match := STATES.match(line):
            outcome.states = int(float(match[1]))
        elif match := MEMORY.match(line):
            outcome.memory = float(match[1])
        elif match := UNREACHED_IN.match(line):
            task = match[1]
        elif match := UNREACHED.match(line):
            outcome.unreached.append((task, int(match[1]), match[2]))
    if None in (errors, outcome.states, outcome.memory):
        outcome.problems.append("the search gave no figures")
    elif errors and not outcome.error:
        outcome.error = "an error without a name"
    elif outcome.error and not errors:
        outcome.problems.append("the search counts no error, and tells of one")
    return outcome


TASK = re.compile(r"^(?:proctype )?(\w+)$")
TRANSITION = re.compile(r"^\tstate.*\s(?:\S*/)?[^/:\s]+:(\d+) => ")


def read_lines(text: str) -> set[tuple[str, int]]:
    """The tasks and lines that are in a verifier, from its `-d`."""
    lines = set()
    task = "?"
    for line in text.split("\n"):
        if match := TASK.match(line):
            task = match[1]
        elif match := TRANSITION.match(line):
            lines.add((task, int(match[1])))
    return lines


def reached_lines(lines: set[tuple[str, int]], outcome: Outcome) -> set[int]:
    """Those of which everything was run, in one task at least."""
    not_whole = {(task, line) for task, line, _ in outcome.unreached}
    return {line for task, line in lines - not_whole}


STEP = re.compile(r"^\s*(\d+):\s+proc\s+(\d+)\s+\(([^:)]+)[^)]*\) (?:.*/)?([^/:]+:\d+) "
                  r"\(state \d+\)\s+\[(.*)\]$")
# Choices and assertions that held: what they lead to says enough.
IDLE_STEP = re.compile(r"else$|IF$|DO$|\.\(goto\)$|\(1\)$|\(\(|assert\(")
VIOLATED = re.compile(r"^spin: (?:.*/)?([^/:]+):(\d+), Error: assertion violated$")


@dataclass
class Trail:
    """A bad trace: a line for each step that does something."""

    steps: list[str] = field(default_factory=list)
    line: int | None = None     # of the assertion that it ends in

    def last_steps(self) -> str:
        return "\n".join(self.steps[-STEPS_SHOWN:])


def read_trail(text: str) -> Trail:
    """Reads what spin replays."""
    trail = Trail()
    for line in text.split("\n"):
        if match := STEP.match(line):
            number, process, task, place, statement = match.groups()
            if not IDLE_STEP.match(statement):
                trail.steps.append(f"{number:>4} {task}({process}) {place} {statement}")
        elif (match := VIOLATED.match(line)) and trail.line is None:
            # Spin goes on after the first, to the end of an indivisible step.
            trail.line = int(match[2])
            trail.steps.append(f"{match[1]}:{match[2]} assertion violated")
    return trail


ROW = re.compile(r"\bR\d+\b")


def rows_of(source: str, line: int) -> set[str]:
    """The rows of the race table that the comment at or above an assertion names."""
    lines = source.split("\n")[:line]
    # The assertion may be the second under its comment.
    for text in reversed(lines[-6:]):
        if rows := ROW.findall(text):
            return set(rows)
    return set()


# --- Running it ----------------------------------------------------------------------

# Some more than pan's own limit, which ends it with a report. In bytes.
MEMORY_LIMIT = (MEMORY_MIB + 1024) << 20


def run(directory: Path, *words: str) -> tuple[int, str]:
    if "/" not in words[0] and not shutil.which(words[0]):
        raise ModelError(f"{words[0]} is not installed; it is in the build tree "
                         "(tools/env.sh)")
    # Several run at once, and what is to happen in a child of a process with threads is
    # left to another program.
    limited = ("prlimit", f"--as={MEMORY_LIMIT}", *words)
    try:
        done = subprocess.run(limited, cwd=directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{words[0]} has not ended after {SECONDS} seconds") from None
    return done.returncode, done.stdout


def must(directory: Path, *words: str) -> str:
    status, said = run(directory, *words)
    if status != 0:
        raise ModelError(f"{' '.join(words)}: exit status {status}\n{said}")
    return said


def search(name: str, macros: list[str], *, progress: bool = False,
           quick: bool = False) -> Outcome:
    """Makes the verifier in build/models/NAME and searches all interleavings. A `quick`
    one is made for a search that ends soon.
    """
    directory = BUILD / name
    directory.mkdir(parents=True, exist_ok=True)
    for trail in directory.glob("*.trail"):
        trail.unlink()
    defines = [f"-D{macro}" for macro in macros]
    must(directory, "spin", "-a", *defines, str(MODEL))
    must(directory, "gcc", "-O1" if quick else "-O2", "-w", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}",
         "-DNP" if progress else "-DSAFETY", "-o", "pan", "pan.c")
    _, said = run(directory, "./pan", f"-m{DEPTH}", *(["-l"] if progress else []))
    (directory / "report.txt").write_text(said, encoding="utf-8")
    outcome = read_search(said)
    if outcome.error is None and outcome.problems:
        raise ModelError("the search is not complete:\n" + said)
    return outcome


def trail_of(name: str, macros: list[str]) -> Trail:
    """The bad trace that a search has found."""
    defines = [f"-D{macro}" for macro in macros]
    _, said = run(BUILD / name, "spin", "-t", "-p", "-k", f"{MODEL.name}.trail", *defines,
                  str(MODEL))
    (BUILD / name / "trail.txt").write_text(said, encoding="utf-8")
    return read_trail(said)


def check_configuration(configuration: Configuration) -> str:
    """The protocol holds, whatever the interleaving. Returns the figures."""
    name, macros = f"copyup_{configuration.name}", configuration.macros.split()
    outcome = search(name, macros, progress=configuration.progress)
    if outcome.error:
        trail = trail_of(name, macros)
        raise ModelError(f"{outcome.error}\n{trail.last_steps()}")
    ends = [task for task, _, what in outcome.unreached if what == "-end-"]
    if ends:
        raise ModelError(f"never gets to its end: {', '.join(ends)}")
    lines = read_lines(must(BUILD / name, "./pan", "-d"))
    COVERAGE[configuration.name] = ({line for _, line in lines}, reached_lines(lines, outcome))
    return outcome.figures()


# By configuration: the lines of the model that are in it, and those that were run.
COVERAGE: dict[str, tuple[set[int], set[int]]] = {}


def check_coverage() -> str:
    """What is never run has not been checked."""
    if any(c.name not in COVERAGE for c in CONFIGURATIONS):
        raise NotAsked("needs all configurations")
    present = set[int]().union(*(lines for lines, _ in COVERAGE.values()))
    reached = set[int]().union(*(lines for _, lines in COVERAGE.values()))
    source = MODEL.read_text(encoding="utf-8").split("\n")
    if missing := sorted(present - reached):
        raise ModelError("run by no configuration:\n" + "\n".join(
            f"{MODEL.name}:{line} {source[line - 1].strip()}" for line in missing))
    return f"{len(present)} lines"


def check_mutant(mutant: Mutant) -> str:
    """Spin finds what goes wrong without a part of the protocol."""
    source = MODEL.read_text(encoding="utf-8")
    if not re.search(rf"\b{mutant.macro()}\b", source):
        raise ModelError(f"the model has no {mutant.macro()}")
    name, macros = f"mutant_{mutant.name}", [mutant.macro(), *mutant.macros.split()]
    outcome = search(name, macros, quick=True)
    if outcome.error is None:
        raise ModelError(f"spin finds nothing wrong with it: {outcome.figures()}")
    trail = trail_of(name, macros)
    found = {INVALID_END} if outcome.error == INVALID_END else set()
    if trail.line:
        found = rows_of(source, trail.line)
    if mutant.finds not in found:
        raise ModelError(f"expected {mutant.finds}, found {', '.join(sorted(found))}: "
                         f"{outcome.error}\n{trail.last_steps()}")
    where = f"line {trail.line}" if trail.line else f"depth {outcome.depth}"
    return f"{mutant.finds} at {where}"


def checks() -> list[tuple[str, Callable[[], str]]]:
    """All of them, for check.py; each returns what is to be said about it."""
    made: list[tuple[str, Callable[[], str]]] = []
    for configuration in CONFIGURATIONS:
        made.append((f"model.copyup_{configuration.name}",
                     lambda c=configuration: check_configuration(c)))
    made.append(("model.coverage", check_coverage))
    for mutant in MUTANTS:
        made.append((f"model.mutant_{mutant.name}", lambda m=mutant: check_mutant(m)))
    return made


def main() -> int:
    failed = False
    for name, check in checks():
        if sys.argv[1:] and not any(name.startswith(word) for word in sys.argv[1:]):
            continue
        try:
            print(f"ok {name} # {check()}", flush=True)
        except NotAsked as reason:
            print(f"ok {name} # SKIP {reason}", flush=True)
        except ModelError as error:
            failed = True
            print("\n".join(f"# {line}" for line in str(error).split("\n")))
            print(f"not ok {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
