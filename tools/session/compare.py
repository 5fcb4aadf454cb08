# SPDX-License-Identifier: GPL-2.0
"""Compares trees as manifest.rs writes them down."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

# Files whose content cannot be the same in two sessions; all else about them is
# compared.
VOLATILE = {
    "/var/log/dpkg.log",                # says when each package was installed
    "/var/log/alternatives.log",        # likewise
    "/var/cache/ldconfig/aux-cache",    # has inode numbers and change times
}


@dataclass(frozen=True)
class Entry:
    """What is known of one name."""

    kind: str
    mode: str
    owner: str
    links: str
    size: str
    content: str
    group: str
    xattrs: str
    mtime: str


@dataclass(frozen=True)
class Tree:
    """A tree, and when the session in it began."""

    name: str
    entries: dict[str, Entry]

    @classmethod
    def read(cls, path: Path) -> Tree:
        """Reads what manifest.rs wrote."""
        entries: dict[str, Entry] = {}
        for line in path.read_text(encoding="ascii").splitlines():
            name, *rest = line.split("\t")
            entries[name] = Entry(*rest)
        return cls(path.stem, entries)

    def without_session_times(self, started: float) -> Tree:
        """As it is, but for what differs between two runs of the session.

        Times before the session began are those of the layers and are compared, but
        in seconds: a copy may keep no more.
        """
        entries = {}
        for name, entry in self.entries.items():
            seconds = int(float(entry.mtime))
            changes = {"mtime": "in the session" if seconds >= started else str(seconds)}
            if name in VOLATILE:
                changes.update(size="-", content="-")
            entries[name] = Entry(**{**vars(entry), **changes})
        return Tree(self.name, entries)


def differences(one: Tree, other: Tree) -> list[str]:
    """What is not the same, a line for each name."""
    lines = []
    for name in sorted(one.entries.keys() | other.entries.keys()):
        here, there = one.entries.get(name), other.entries.get(name)
        if here is None or there is None:
            lines.append(f"{name}: only in {(one if there is None else other).name}")
        elif here != there:
            what = [f"{field.name} {getattr(here, field.name)} / {getattr(there, field.name)}"
                    for field in fields(Entry)
                    if getattr(here, field.name) != getattr(there, field.name)]
            lines.append(f"{name}: {', '.join(what)}")
    return lines
