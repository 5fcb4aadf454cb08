# SPDX-License-Identifier: GPL-2.0
"""Finds what a kernel says when something is wrong with it.

A test may pass while the kernel reports that a lock was taken in the wrong order.
Such a report fails the run, so the patterns look at the kernel's log and at
nothing else: a line counts only if it starts with a printk time stamp.  What a
program writes to the console is not a report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# "[    1.234567] " and, with CONFIG_PRINTK_CALLER, "[    1.234567][   T12] ".
_STAMP = re.compile(r"^\s*(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ")

# A report of these kinds begins its message.
_AT_START = (
    r"WARNING: ",                      # WARN*(), and most of lockdep's reports
    r"BUG: ",                          # KASAN, KCSAN, page faults, bad page state, ...
    r"BUG \S+ \(",                     # SLUB's object checks
    r"Oops\b",
    r"general protection fault",
    r"kernel BUG at ",
    r"Kernel panic - not syncing",
    r"divide error: ",
    r"invalid opcode: ",
    r"stack segment: ",
    r"UBSAN: ",
    r"KASAN: ",
    r"INFO: task .* blocked for more than",
    r"INFO: trying to register non-static key",
    r"INFO: possible ",
    r"rust_kernel: panicked",
    r"refcount_t: ",
    r"unreferenced object 0x",         # what the runner copies from kmemleak
)

# These stand behind the name of who reports them.
_ANYWHERE = (
    r"\bBUG: ",                        # "watchdog: BUG: soft lockup", "BUG: Dentry"
    r"new suspected memory leaks",
    r"possible circular locking dependency",
    r"possible recursive locking",
    r"possible irq lock inversion",
    r"inconsistent lock state",
    r"suspicious RCU usage",
    r"held lock freed",
    r"lock held when returning to user space",
    r"bad unlock balance",
    r"DEBUG_LOCKS_WARN_ON",
    r"VFS: Busy inodes",
    r"scheduling while atomic",
    r"sleeping function called from invalid context",
    r"list_(?:add|del) corruption",
    r"\brcu\w*: INFO: .*stall",
    r"hard LOCKUP",
    r"Slab cache still has objects",
    r"Objects remaining .* on __kmem_cache_shutdown",
)

_PATTERN = re.compile("^(?:%s)|%s" % ("|".join(_AT_START), "|".join(_ANYWHERE)))

_BEFORE = 3     # lines of the log shown before a report,
_AFTER = 45     # and after its first line


@dataclass(frozen=True)
class Splat:
    """One report: its first line, and the lines around it."""

    title: str
    context: str


def message(line: str) -> str | None:
    """What the kernel said in this line of a console, if the kernel said it."""
    stamp = _STAMP.match(line)
    return line[stamp.end():].rstrip() if stamp else None


def find(log: str, allowed: list[re.Pattern[str]] | None = None) -> list[Splat]:
    """The reports in a kernel log.

    Lines that follow closely are part of the report before them: an oops repeats
    itself in several words that would match.
    """
    lines = log.splitlines()
    found: list[Splat] = []
    shown_to = -1
    for number, line in enumerate(lines):
        text = message(line)
        if text is None or number <= shown_to or not _PATTERN.search(text):
            continue
        if any(pattern.search(text) for pattern in allowed or ()):
            continue
        first = max(number - _BEFORE, shown_to + 1, 0)
        shown_to = _end_of_report(lines, number)
        found.append(Splat(text, "\n".join(lines[first:shown_to + 1])))
    return found


def _end_of_report(lines: list[str], start: int) -> int:
    last = min(start + _AFTER, len(lines) - 1)
    for number in range(start, last + 1):
        if "---[ end trace" in lines[number]:
            return number
    return last


def allow_list(path: Path) -> list[re.Pattern[str]]:
    """Reads the patterns of reports that are known and harmless.

    One pattern a line; a line that begins with "#" gives the reason for the next
    pattern, and a pattern with no reason is refused.
    """
    patterns: list[re.Pattern[str]] = []
    reason = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = True
        elif line.strip():
            if not reason:
                raise ValueError(f"{path}: no reason is given for: {line}")
            patterns.append(re.compile(line.strip()))
            reason = False
    return patterns
