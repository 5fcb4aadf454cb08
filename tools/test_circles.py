# SPDX-License-Identifier: GPL-2.0
"""Tests of circles.py."""

import tempfile
import unittest
from pathlib import Path

import circles


class Files(unittest.TestCase):
    def tree(self, files: dict[str, str]) -> Path:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        top = Path(directory.name)
        for name, text in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return top


class Rust(Files):
    def names(self, source: str) -> list[str]:
        return ["::".join(n) for n in circles.rust_names(source, ("suites", "copyup", "ops"))]

    def test_each_way_to_name_a_module(self) -> None:
        self.assertEqual(self.names("""//! `crate::told` is only told of.
use super::ways::{beside, Way};
use super::super::failure::prepare as other;
use crate::{env::T, sys::{self, names::{a as b, c}}, tree};
fn f() { crate::pause::g("crate::text"); super::h('"', r#"super::no"#) }
"""), ["suites::copyup::ways::beside", "suites::copyup::ways::Way",
       "suites::failure::prepare", "env::T", "sys::self", "sys::names::a", "sys::names::c",
       "tree", "pause::g", "suites::copyup::h"])

    def test_a_module_in_the_file_itself(self) -> None:
        self.assertEqual(self.names("mod tests { use super::*; fn f() {} }\nuse super::a;"),
                         ["suites::copyup::ops::*", "suites::copyup::a"])

    def test_a_circle_is_found(self) -> None:
        top = self.tree({"main.rs": "mod a; mod b; mod c;", "a.rs": "use crate::b::B;",
                         "b/mod.rs": "mod part; use crate::c::C;", "b/part.rs": "",
                         "c.rs": "use crate::{b, a::A};"})
        self.assertEqual(circles.faults(circles.rust_graph(top)),
                         ["a.rs uses b/mod.rs uses c.rs uses a.rs",
                          "b/mod.rs uses c.rs uses b/mod.rs"])

    def test_a_list_of_modules_is_none(self) -> None:
        top = self.tree({"main.rs": "mod b;", "b/mod.rs": "mod part; use part::f;",
                         "b/part.rs": "use super::X; use crate::b::Y;"})
        self.assertEqual(circles.faults(circles.rust_graph(top)), [])


class Python(Files):
    def test_a_circle_is_found(self) -> None:
        top = self.tree({"a.py": "import os\nfrom vm import machine, run\n",
                         "vm/machine.py": "from . import cache\nfrom .splat import find\n",
                         "vm/cache.py": "def f():\n    from . import machine\n",
                         "vm/splat.py": "", "vm/__init__.py": "from .machine import run\n",
                         "vm.py": "import a\n"})
        self.assertEqual(circles.faults(circles.python_graph(top)),
                         ["vm/cache.py uses vm/machine.py uses vm/cache.py"])

    def test_a_package_and_files_beside(self) -> None:
        top = self.tree({"vm.py": "from vm import run\n", "vm/__init__.py": "",
                         "session/run.py": "import compare, vm\n", "session/compare.py": ""})
        graph = circles.python_graph(top)
        self.assertEqual(graph[Path("session/run.py")],
                         {Path("session/compare.py"), Path("vm/__init__.py")})
        self.assertEqual(graph[Path("vm.py")], {Path("vm/__init__.py")})


if __name__ == "__main__":
    unittest.main()
