# SPDX-License-Identifier: GPL-2.0
"""Circles among the files of the selftests and of the tools: files that need each other.

What a Rust file names with `crate::` or `super::` counts, and what a Python file imports.
That a file lists its own modules, or a package what is in it, does not.

    python3 tools/circles.py [CHECKOUT]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SELFTESTS = Path("selftests/src")
TOOLS = Path("tools")

Graph = dict[Path, set[Path]]


# --- Rust ----------------------------------------------------------------------------

def rust_graph(top: Path) -> Graph:
    """Each file of a crate whose sources are in `top`, and the files that it names."""
    files = {rust_module(path.relative_to(top)): path.relative_to(top)
             for path in sorted(top.rglob("*.rs"))}
    graph: Graph = {}
    for module, path in files.items():
        source = (top / path).read_text(encoding="utf-8")
        used = {_file_of(name, files) for name in rust_names(source, module)}
        graph[path] = used - {path}
    return graph


def rust_module(path: Path) -> tuple[str, ...]:
    """The path of the module that a file is."""
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] in ("main", "lib", "mod") else parts


def _file_of(name: tuple[str, ...], files: dict[tuple[str, ...], Path]) -> Path:
    while name not in files:
        name = name[:-1]
    return files[name]


NO_CODE = re.compile(r"""r(\#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'|//[^\n]*""",
                     re.DOTALL)


def rust_names(source: str, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What is named in a source that is `module`, as paths from the root of the crate."""
    # Neither in texts nor in comments.
    source = NO_CODE.sub("", source)
    inner: list[tuple[str, int]] = []       # modules that begin in this file, and how deep
    depth = 0
    token = re.compile(r"\bmod (\w+) \{|[{}]|(?<![\w:])(?:crate|super)(?=::)")
    at = 0
    while found := token.search(source, at):
        at = found.end()
        text = found[0]
        if found[1]:
            inner.append((found[1], depth))
            depth += 1
        elif text == "{":
            depth += 1
        elif text == "}":
            depth -= 1
            if inner and inner[-1][1] == depth:
                inner.pop()
        else:
            here = (*module, *(name for name, _ in inner))
            paths, at = _paths(source, found.start())
            for path in paths:
                yield _absolute(path, here)


def _absolute(path: tuple[str, ...], here: tuple[str, ...]) -> tuple[str, ...]:
    if path[0] == "crate":
        return path[1:]
    while path and path[0] == "super":
        path, here = path[1:], here[:-1]
    return here + path


def _paths(source: str, at: int) -> tuple[list[tuple[str, ...]], int]:
    """The paths of `a::b` or of `a::{b, c::{d}}` at a place, and where it ends."""
    name = re.compile(r"\s*(\w+|\*)\s*").match(source, at)
    if not name:
        return [()], at
    at = name.end()
    if not source.startswith("::", at):
        return [(name[1],)], at
    at += 2
    if not (brace := re.compile(r"\s*\{").match(source, at)):
        paths, at = _paths(source, at)
    else:
        paths, at = [], brace.end()
        while not (end := re.compile(r"\s*\}").match(source, at)):
            some, at = _paths(source, at)
            paths += some
            # `as` another name, and the comma
            at = re.compile(r"(?:as \w+)?\s*,?").match(source, at).end()
        at = end.end()
    return [(name[1], *path) for path in paths], at


# --- Python --------------------------------------------------------------------------

def python_graph(top: Path) -> Graph:
    """Each Python file in `top`, and those that it imports, anywhere in it."""
    files = {path.relative_to(top) for path in top.rglob("*.py")}
    graph: Graph = {}
    for path in sorted(files):
        tree = ast.parse((top / path).read_text(encoding="utf-8"))
        used = {_python_file(name, path.parent, files) for name in _imports(tree, path)}
        graph[path] = {file for file in used if file} - {path}
    return graph


def _imports(tree: ast.AST, path: Path) -> Iterator[Path]:
    """The names of what is imported; relative ones begin in the directory of the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Path(*alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if node.level else Path()
            start = start.joinpath(*(node.module or "").split("."))
            yield from (start / alias.name for alias in node.names)


def _python_file(name: Path, beside: Path, files: set[Path]) -> Path | None:
    """The file of a module, or of the module in which the name is; a package comes before
    the file of its name."""
    for start in (Path(), beside):
        for module in (name, *name.parents[:-1]):
            for file in (module / "__init__.py", module.with_name(f"{module.name}.py")):
                if start / file in files:
                    return start / file
    return None


# --- Both ----------------------------------------------------------------------------

def circles(graph: Graph) -> list[list[Path]]:
    """A shortest circle through each file that is in one, each circle once."""
    found: dict[frozenset[Path], list[Path]] = {}
    for start in sorted(graph):
        if circle := _back_to(start, graph):
            found.setdefault(frozenset(circle), circle)
    return list(found.values())


def _back_to(start: Path, graph: Graph) -> list[Path]:
    ways = [[start]]
    seen: set[Path] = set()
    for way in ways:
        for used in sorted(graph[way[-1]]):
            if used == start:
                return way
            if used not in seen:
                seen.add(used)
                ways.append([*way, used])
    return []


def faults(graph: Graph) -> list[str]:
    """The circles, a line each."""
    return [" uses ".join(map(str, [*circle, circle[0]])) for circle in circles(graph)]


def selftests(top: Path) -> list[str]:
    return faults(rust_graph(top / SELFTESTS))


def tools(top: Path) -> list[str]:
    return faults(python_graph(top / TOOLS))


def main() -> int:
    top = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    found = selftests(top) + tools(top)
    print("\n".join(found) if found else "there are no circles")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
