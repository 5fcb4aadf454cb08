#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""How much of the kernel's stack the module uses, read from its object.

    python3 tools/stack.py [build/stock/rovl.ko]

prints the large frames, and for each entry point the deepest chain of the module's own
frames. A frame is what a function pushes and subtracts, and the return address. The chain
follows direct calls. What is called through a pointer is taken for the worst: a function
of which a caller loads the address for the one that it calls with it, and any closure that
has its address in a table for each other call through a pointer. What the module calls in
the kernel is not counted, nor what that calls in another module.

The exit status is 1 if a frame or a chain is above its limit, or a function calls itself.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

MAX_FRAME = 768
MAX_CHAIN = 2560
RETURN_ADDRESS = 8
WORD = 8
# Frames from here on are worth a line.
LARGE = 256


@dataclass
class Function:
    """One function of the object."""

    name: str
    section: str
    start: int
    frame: int = RETURN_ADDRESS
    calls: set[str] = field(default_factory=set)
    # Those that have left the stack before: their frame comes in place of this one.
    tail_calls: set[str] = field(default_factory=set)
    indirect: bool = False
    # The size of the frame is not known before it runs.
    dynamic: bool = False


class Depth:
    """Follows the stack pointer through the text of a function.

    Blocks follow each other as they lie, not as they run. After the end of one the stack
    is as deep as it was before anything was taken off it: never less than it really is.
    """

    def __init__(self) -> None:
        self.now = 0
        self.deepest = 0
        self.body = 0
        self.shrinking = False

    def grow(self, size: int) -> None:
        self.now += size
        self.deepest = max(self.deepest, self.now)
        if not self.shrinking:
            self.body = max(self.body, self.now)

    def shrink(self, size: int) -> None:
        self.shrinking = True
        self.now = max(0, self.now - size)

    def end_of_block(self) -> None:
        self.now = self.body
        self.shrinking = False


def signed(value: str) -> int:
    """A number of the assembler; 64 bits, so that -0x80 may be written as a large one."""
    number = int(value, 16)
    return number - (1 << 64) if number >= 1 << 63 else number


FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t(?:[0-9a-f]{2} )+\s*(?:\t(\S+)\s*(.*))?$")
RELOCATION = re.compile(r"^\s*[0-9a-f]+: (R_X86_64_\S+)\s+(\S+?)([+-]0x[0-9a-f]+)?$")
STACK = re.compile(r"^\$(-?0x[0-9a-f]+),%rsp$")
TARGET = re.compile(r"^[0-9a-f]+ <([^+>]+)(\+0x[0-9a-f]+)?>")
JUMPS = re.compile(r"^j[a-z]+$")


@dataclass
class Object:
    """What there is to know of an object."""

    functions: dict[str, Function] = field(default_factory=dict)
    # Functions with their address in a table.
    in_tables: set[str] = field(default_factory=set)

    def at(self, section: str, offset: int) -> str | None:
        """The function that begins there."""
        for function in self.functions.values():
            if (function.section, function.start) == (section, offset):
                return function.name
        return None

    def resolve(self, symbol: str, addend: int) -> str | None:
        if symbol in self.functions:
            return symbol
        return self.at(symbol, addend)


def parse(text: Iterable[str]) -> Object:
    """Reads what `objdump -dr` says."""
    found = Object()
    pending: list[tuple[Function, str, str, int]] = []
    section, function, depth = "", None, Depth()
    last: tuple[str, str] = ("", "")
    for line in text:
        if line.startswith("Disassembly of section "):
            section = line.removeprefix("Disassembly of section ").rstrip().rstrip(":")
            continue
        if match := FUNCTION.match(line):
            # Labels of the compiler are within a function.
            if match[2].startswith(".L"):
                continue
            function = Function(match[2], section, int(match[1], 16))
            found.functions[function.name] = function
            depth = Depth()
            continue
        if function is None:
            continue
        if match := RELOCATION.match(line):
            addend = signed(match[3].replace("+", "")) if match[3] and match[3][0] == "+" else (
                -int(match[3][1:], 16) if match[3] else 0)
            kind = last[0]
            if kind != "call" and not JUMPS.match(kind):
                kind = "address"
            # Relative ones count from the end of the four bytes.
            relative = "PC32" in match[1] or "PLT32" in match[1]
            pending.append((function, kind, match[2], addend + (4 if relative else 0)))
            continue
        if not (match := INSTRUCTION.match(line)) or not match[2]:
            continue
        name, operands = match[2], match[3].strip()
        last = (name, operands)
        step(function, depth, name, operands, pending)
        function.frame = depth.deepest + RETURN_ADDRESS
    for caller, kind, symbol, addend in pending:
        if symbol.startswith("__x86_indirect_thunk"):
            caller.indirect = True
            continue
        target = found.resolve(symbol, addend)
        if target is None or (target == caller.name and kind != "call"):
            continue
        (caller.tail_calls if JUMPS.match(kind) else caller.calls).add(target)
    return found


def step(function: Function, depth: Depth, name: str, operands: str,
         pending: list[tuple[Function, str, str, int]]) -> None:
    """One instruction."""
    if name == "push":
        depth.grow(WORD)
    elif name == "pop":
        depth.shrink(WORD)
    elif name in ("sub", "add") and operands.endswith(",%rsp"):
        if not (size := STACK.match(operands)):
            function.dynamic = True
            return
        number = signed(size[1].replace("-", "")) * (-1 if size[1].startswith("-") else 1)
        number = number if name == "sub" else -number
        depth.grow(number) if number > 0 else depth.shrink(-number)
    elif name == "and" and operands.endswith(",%rsp"):
        # To align it: by less than that.
        if size := STACK.match(operands):
            depth.grow(-signed(size[1]) - WORD)
    elif name == "ret" or name == "jmp":
        depth.end_of_block()
    if name == "call" or JUMPS.match(name):
        if operands.startswith("*"):
            function.indirect |= name == "call" or "(,%" not in operands
        elif (target := TARGET.match(operands)) and not target[2]:
            pending.append((function, name, target[1], 0))


def parse_tables(text: Iterable[str], found: Object) -> None:
    """Reads what `objdump -r` says: which functions have their address in data."""
    data = False
    for line in text:
        if line.startswith("RELOCATION RECORDS FOR ["):
            section = line.split("[")[1].split("]")[0]
            data = section.startswith((".data", ".rodata", ".ref.data"))
            continue
        words = line.split()
        if not data or len(words) != 3 or words[1] != "R_X86_64_64":
            continue
        symbol, _, addend = words[2].partition("+")
        if target := found.resolve(symbol, int(addend, 16) if addend else 0):
            found.in_tables.add(target)


def is_closure(name: str) -> bool:
    """Whether the mangled name is a closure's or a function's that calls one: what a
    `dyn Fn` points to."""
    return "NCN" in name and "drop_in_place" not in name or "8call_mut" in name \
        or "9call_once" in name


@dataclass
class Chain:
    """The deepest stack that a function can have of the module's own frames."""

    size: int
    names: list[str]


class Chains:
    """Deepest chains, found once for each function."""

    def __init__(self, found: Object) -> None:
        self.found = found
        self.done: dict[str, Chain] = {}
        self.under_way: list[str] = []
        self.recursive: set[tuple[str, ...]] = set()
        self.closures = sorted(n for n in found.in_tables if is_closure(n))

    def callees(self, function: Function) -> set[str]:
        if function.indirect and not is_closure(function.name):
            return function.calls | set(self.closures)
        return function.calls

    def of(self, name: str) -> Chain:
        if name in self.done:
            return self.done[name]
        if name in self.under_way:
            circle = self.under_way[self.under_way.index(name):]
            first = circle.index(min(circle))
            self.recursive.add(tuple(circle[first:] + circle[:first]))
            return Chain(0, [])
        function = self.found.functions[name]
        self.under_way.append(name)
        deepest = Chain(0, [])
        for callee in sorted(self.callees(function)):
            chain = self.of(callee)
            if chain.size > deepest.size:
                deepest = chain
        result = Chain(function.frame + deepest.size, [name, *deepest.names])
        for callee in sorted(function.tail_calls):
            chain = self.of(callee)
            if chain.size > result.size:
                result = Chain(chain.size, [name, *chain.names])
        self.under_way.pop()
        self.done[name] = result
        return result

    def entries(self) -> list[str]:
        """Those that nobody in the module calls."""
        called = set(self.closures)
        for function in self.found.functions.values():
            called |= function.calls | function.tail_calls
        return sorted(set(self.found.functions) - called)


def lines(*words: str) -> list[str]:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()


def disassemble(path: Path) -> Object:
    """Reads an object."""
    found = parse(lines("objdump", "-dr", str(path)))
    parse_tables(lines("objdump", "-r", str(path)), found)
    return found


def shorten(name: str) -> str:
    """A demangled name without what does not help to find it."""
    name = re.sub(r"\[[0-9a-f]{16}\]", "", name)
    name = re.sub(r"\brust_overlay::|\b(?:core|kernel)::(?=\w+::)", "", name)
    for pattern, by in ((r"(?:::|(?<=\w))<[^<>]*>", ""), (r"<([^<>]*?)(?: as [^<>]*)?>", r"\1")):
        while (shorter := re.sub(pattern, by, name)) != name:
            name = shorter
    return name


def readable(names: Iterable[str]) -> dict[str, str]:
    """The names as they are in the source."""
    mangled = sorted(set(names))
    if not mangled:
        return {}
    plain = subprocess.run(["c++filt"], input="\n".join(mangled), check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return {name: shorten(full) for name, full in zip(mangled, plain, strict=True)}


def report(found: Object) -> tuple[list[str], list[str]]:
    """The table, and what is wrong."""
    chains, table, faults = Chains(found), [], []
    plain = readable(found.functions)
    by_frame = sorted(found.functions.values(), key=lambda f: (-f.frame, f.name))
    table.append(f"frames of {LARGE} bytes and more (at most {MAX_FRAME}):")
    for function in by_frame:
        if function.frame >= LARGE:
            table.append(f"{function.frame:7}  {plain[function.name]}")
        if function.frame > MAX_FRAME:
            faults.append(f"a frame of {function.frame} bytes: {plain[function.name]}")
        if function.dynamic:
            faults.append(f"a frame of unknown size: {plain[function.name]}")
    table.append(f"chains of {4 * LARGE} bytes and more by entry point (at most {MAX_CHAIN}):")
    deep = [(chains.of(name), name) for name in chains.entries()]
    # Those that nobody enters: they call each other.
    deep += [(chains.of(name), name) for name in found.functions if name not in chains.done]
    for chain, name in sorted(deep, key=lambda d: (-d[0].size, d[1])):
        if chain.size >= 4 * LARGE:
            frames = " > ".join(f"{plain[n]} {found.functions[n].frame}" for n in chain.names)
            table.append(f"{chain.size:7}  {frames}")
        if chain.size > MAX_CHAIN:
            faults.append(f"a chain of {chain.size} bytes from {plain[name]}")
    if chains.closures:
        table.append("taken for what is called by each call through a pointer:")
        table += [f"{chains.of(n).size:7}  {plain[n]}" for n in chains.closures]
    for circle in sorted(chains.recursive):
        faults.append("recursion: " + " > ".join(plain[n] for n in circle))
    return table, faults


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else \
        Path(__file__).resolve().parent.parent / "build" / "stock" / "rovl.ko"
    table, faults = report(disassemble(path))
    print("\n".join(table))
    for fault in faults:
        print("too much:", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
