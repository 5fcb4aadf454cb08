#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Fuzzes the parsers of format/ with libFuzzer, on this machine: what `make fuzz` runs.

    tools/fuzz.py [--seconds N] [TARGET]...

The program is tools/fuzz, built with the tree's stable compiler and the coverage of LLVM;
that of a sanitizer needs an unstable one, and safe code has nothing to be found by it.
Arithmetic is checked. What was found interesting is kept in build/fuzz/corpus, and what
a parser fails on in build/fuzz/found: `ROVL_FUZZ_TARGET=TARGET PROGRAM FILE` shows it
again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
CRATE = TOP / "tools" / "fuzz"
BUILD = TOP / "build" / "fuzz"
COVERAGE = ["--cfg=fuzzing", "-Ccodegen-units=1", "-Cpasses=sancov-module",
            *(f"-Cllvm-args=-sanitizer-coverage-{what}" for what in
              ("level=4", "inline-8bit-counters", "pc-table", "trace-compares"))]
LONGEST = 1024              # bytes; no mark has so many


class FuzzError(Exception):
    """A parser failed, or nothing could be run; the text says how."""


@dataclass
class Outcome:
    """What came of one target."""

    target: str
    executions: int
    coverage: int
    output: str
    failed: bool

    def __str__(self) -> str:
        return (f"{self.target}: {self.executions:,} executions, {self.coverage} edges"
                f"{', FAILED' if self.failed else ''}")


def read_outcome(target: str, status: int, output: str) -> Outcome:
    """The outcome in what libFuzzer prints."""
    executions = re.search(r"^stat::number_of_executed_units:\s*(\d+)", output, re.MULTILINE)
    coverage = re.findall(r"\bcov: (\d+)", output)
    return Outcome(target, int(executions[1]) if executions else 0,
                   int(coverage[-1]) if coverage else 0, output,
                   status != 0 or not executions)


def cargo(*words: str, flags: str = "") -> str:
    done = subprocess.run(
        ["cargo", *words], cwd=CRATE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "CARGO_TARGET_DIR": str(BUILD), "RUSTFLAGS": flags})
    if done.returncode != 0:
        raise FuzzError(f"cargo {' '.join(words)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def targets() -> list[str]:
    return cargo("run", "--quiet", "--locked").split()


def build() -> Path:
    """Builds the program."""
    about = subprocess.run(["rustc", "-vV"], stdout=subprocess.PIPE, text=True, check=True).stdout
    host = re.search(r"^host: (\S+)", about, re.MULTILINE)
    if not host:
        raise FuzzError("rustc does not say what machine this is")
    # With a target named, build scripts are built without the flags.
    cargo("build", "--release", "--locked", f"--target={host[1]}", flags=" ".join(COVERAGE))
    return BUILD / host[1] / "release" / "rovl-fuzz"


def fuzz(program: Path, target: str, seconds: int) -> Outcome:
    corpus, found = BUILD / "corpus" / target, BUILD / "found"
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(program), f"-max_total_time={seconds}", f"-max_len={LONGEST}",
         "-print_final_stats=1", f"-artifact_prefix={found}/{target}-", str(corpus)],
        env={**os.environ, "ROVL_FUZZ_TARGET": target}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        check=False)
    return read_outcome(target, done.returncode, done.stdout)


def fuzz_all(wanted: list[str], seconds: int, at_once: int) -> list[Outcome]:
    known = targets()
    if unknown := set(wanted) - set(known):
        raise FuzzError(f"no target is called {' or '.join(sorted(unknown))}; "
                        f"there are {' '.join(known)}")
    program = build()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda target: fuzz(program, target, seconds), wanted or known))


def check(seconds: int, at_once: int) -> str:
    """Fuzzes all for a short time, for `make check`."""
    outcomes = fuzz_all([], seconds, at_once)
    for outcome in outcomes:
        if outcome.failed:
            raise FuzzError(f"{outcome}\n{outcome.output}")
    total = sum(outcome.executions for outcome in outcomes)
    return f"{len(outcomes)} targets, {total:,} executions"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each (%(default)s)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    arguments = parser.parse_args()
    try:
        outcomes = fuzz_all(arguments.targets, arguments.seconds, os.cpu_count() or 1)
    except FuzzError as error:
        print(error, file=sys.stderr)
        return 1
    for outcome in outcomes:
        if outcome.failed:
            print(outcome.output)
    print("\n".join(str(outcome) for outcome in outcomes))
    return 1 if any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
