# SPDX-License-Identifier: GPL-2.0
"""The order of the module's rooms, and whether the source keeps it.

rust_overlay.rs lists the rooms from the top. A room is a file beside it with the folder of
its name, or a folder; it may use the rooms below it and none above.

    python3 tools/rooms.py [CHECKOUT]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = "rust_overlay.rs"
# The one room whose types' drops C may take over. In the others a guard that is forgotten
# keeps its lock, which no type tells: see vfs/lock.rs.
MAY_FORGET = "vfs"
FORGETS = re.compile(r"\bmem::forget\b|\bManuallyDrop\b|::leak\b|::into_raw\b")


def order(root: str) -> list[str]:
    """The rooms, topmost first, as the documentation of the crate root lists them."""
    return re.findall(r"^//! \* \[`(?:mod@)?(\w+)`\]", root, re.MULTILINE)


def declared(root: str) -> set[str]:
    """The modules of the crate root."""
    return set(re.findall(r"^(?:pub(?:\(crate\))? )?mod (\w+);", root, re.MULTILINE))


def without_comments(source: str) -> str:
    """Comments blanked out, so that a link of the documentation is no use; the number of
    each line stays."""
    return re.sub(r"//[^\n]*", "", source)


def uses(source: str) -> Iterator[tuple[int, str]]:
    """The rooms that a source names, with the line: `crate::room`, and the branches of a
    `use crate::{...}`."""
    source = without_comments(source)
    for found in re.finditer(r"\bcrate::(?:(\w+)|\{)", source):
        line = source.count("\n", 0, found.start()) + 1
        if found[1]:
            yield line, found[1]
            continue
        yield from branches(source, found.end(), line)


def branches(source: str, start: int, line: int) -> Iterator[tuple[int, str]]:
    """The first word of each branch between the brace before `start` and its end."""
    depth, at_start = 1, True
    for token in re.finditer(r"\w+|[{},\n]", source[start:]):
        text = token[0]
        if text == "\n":
            line += 1
        elif text == "{":
            depth += 1
        elif text == "}":
            depth -= 1
            if depth == 0:
                return
        elif text == ",":
            at_start = at_start or depth == 1
            continue
        elif depth == 1 and at_start:
            at_start = False
            yield line, text


def forgets(source: str) -> Iterator[int]:
    """The lines of a source on which something is kept from being dropped."""
    for i, line in enumerate(without_comments(source).split("\n"), 1):
        if FORGETS.search(line):
            yield i


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".rs")


def faults(top: Path) -> list[str]:
    """What is not as the order says, a line each."""
    root = (top / ROOT).read_text(encoding="utf-8")
    rooms = order(root)
    found = [f"{ROOT}: {name} is not in the list of rooms"
             for name in sorted(declared(root) - set(rooms))]
    found += [f"{ROOT}: the list of rooms has {name}, which is no module"
              for name in rooms if name not in declared(root)]
    place = {name: i for i, name in enumerate(rooms)}
    for room in rooms:
        files = [Path(f"{room}.rs"), *(p.relative_to(top) for p in (top / room).rglob("*.rs"))]
        for path in files:
            if not (top / path).exists():
                continue
            source = (top / path).read_text(encoding="utf-8")
            if room != MAY_FORGET:
                found += [f"{path}:{line}: a guard that is not dropped keeps its lock"
                          for line in forgets(source)]
            for line, used in uses(source):
                if used == room:
                    continue
                if used not in place:
                    found.append(f"{path}:{line}: crate::{used} is no room")
                elif place[used] < place[room]:
                    found.append(f"{path}:{line}: {room} uses {used}, which is above it")
    return found


def main() -> int:
    top = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    found = faults(top)
    print("\n".join(found) if found else "the rooms are in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
