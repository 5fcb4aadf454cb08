# SPDX-License-Identifier: GPL-2.0
"""Tests of rooms.py."""

import tempfile
import unittest
from pathlib import Path

import rooms

ROOT = """//! Something.
//!
//! * [`top`]: above;
//! * [`middle`]: between;
//! * [`mod@format`]: below.

mod format;
mod middle;
mod top;
"""


class Uses(unittest.TestCase):
    def test_each_way_to_name_a_room(self) -> None:
        source = """//! [`crate::top`] is only told of.
use crate::format::names;
use crate::{
    format::{self, names::Names},
    middle, // crate::top
};
fn f() { crate::other::g() }
"""
        self.assertEqual(list(rooms.uses(source)),
                         [(2, "format"), (4, "format"), (5, "middle"), (7, "other")])


class Faults(unittest.TestCase):
    def tree(self, **files: str) -> Path:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        top = Path(directory.name)
        (top / "rust_overlay.rs").write_text(ROOT, encoding="utf-8")
        for name, text in files.items():
            path = top / (name.replace("__", "/") + ".rs")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return top

    def test_downwards_is_allowed(self) -> None:
        top = self.tree(top="use crate::{format, middle};", middle="use crate::format;", format="")
        self.assertEqual(rooms.faults(top), [])

    def test_upwards_is_not(self) -> None:
        top = self.tree(top="", middle__part="\nuse crate::top::T;", format="")
        self.assertEqual(rooms.faults(top),
                         ["middle/part.rs:2: middle uses top, which is above it"])

    def test_a_guard_is_not_forgotten(self) -> None:
        top = self.tree(top="// mem::forget\nfn f() { core::mem::forget(g()) }", middle="",
                        format="")
        self.assertEqual(rooms.faults(top),
                         ["top.rs:2: a guard that is not dropped keeps its lock"])

    def test_a_room_that_is_not_listed(self) -> None:
        top = self.tree(top="", middle="use crate::secret;", format="")
        root = top / "rust_overlay.rs"
        root.write_text(ROOT + "mod secret;\n", encoding="utf-8")
        self.assertEqual(rooms.faults(top), [
            "rust_overlay.rs: secret is not in the list of rooms",
            "middle.rs:1: crate::secret is no room"])


if __name__ == "__main__":
    unittest.main()
