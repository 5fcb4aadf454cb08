# SPDX-License-Identifier: GPL-2.0
"""What comes of checks, and what all programs that make some have in common."""

from __future__ import annotations

import enum
import fnmatch
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
ENV = TOP / "tools" / "env.sh"


def built_module(kernel: str, purpose: str = "") -> Path:
    """Where the module for a kernel is, built or not."""
    answer = subprocess.run([ENV, "path", f"{kernel}/rovl.ko", purpose], check=True,
                            capture_output=True, text=True)
    return Path(answer.stdout.strip())


class Verdict(enum.Enum):
    """What came of one check."""

    PASSED = "ok"
    FAILED = "not ok"
    SKIPPED = "skipped"


@dataclass
class Results:
    """All verdicts, by name."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def add(self, name: str, verdict: Verdict) -> None:
        # A name that comes twice may not hide a failure.
        if self.verdicts.get(name) is not Verdict.FAILED:
            self.verdicts[name] = verdict

    def count(self, verdict: Verdict) -> int:
        return sum(1 for v in self.verdicts.values() if v is verdict)

    def summary(self) -> str:
        return ", ".join(f"{self.count(v)} {v.name.lower()}" for v in Verdict)


def selected(name: str, patterns: list[str]) -> bool:
    """Whether a name begins with or matches one of the patterns."""
    return not patterns or any(
        name.startswith(p) or fnmatch.fnmatchcase(name, p) for p in patterns)


def say(text: str) -> None:
    print(text, flush=True)


class CheckError(Exception):
    """A check failed; the text says how."""


def command(*words: str | Path, cwd: Path = TOP, env: dict[str, str] | None = None) -> str:
    """Runs a program that must succeed."""
    done = subprocess.run([str(w) for w in words], cwd=cwd, env={**os.environ, **(env or {})},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise CheckError(f"{' '.join(str(w) for w in words)}: "
                         f"exit status {done.returncode}\n{done.stdout}")
    return done.stdout
