# SPDX-License-Identifier: GPL-2.0
"""Unit tests of models.py: no bad trace and no incomplete search may pass."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

import models  # noqa: E402
from models import (Configuration, ModelError, Mutant, Outcome, Trail,  # noqa: E402
                    read_search, read_trail)

GOOD = """
(Spin Version 6.5.2 -- 6 December 2019)
\t+ Partial Order Reduction

Full statespace search for:
\tnever claim         \t- (none specified)
\tassertion violations\t+
\tinvalid end states\t+

State-vector 128 byte, depth reached 119, errors: 0
    29128 states, stored
    18786 states, matched
    47914 transitions (= stored+matched)
hash conflicts:        10 (resolved)

Stats on memory usage (in Megabytes):
    4.333\tequivalent memory usage for states (stored*(State-vector + overhead))
    1.320\tactual memory usage for states (compression: 30.47%)
  134.610\ttotal actual memory usage


unreached in proctype copier
\t(0 of 270 states)
unreached in init
\t(0 of 121 states)

pan: elapsed time 0.02 seconds
"""
BAD = ("pan:1: assertion violated (result==0) (at depth 64)\n"
       "pan: wrote copyup.pml.trail\n"
       + GOOD.replace("errors: 0", "errors: 1").replace(
           "\t+ Partial", "Warning: Search not completed\n\t+ Partial"))
DEADLOCK = BAD.replace("assertion violated (result==0)", "invalid end state")
UNREACHED = GOOD.replace(
    "\t(0 of 270 states)",
    '\t../../Documentation/models/copyup.pml:330, state 87, "assert((a==b))"\n'
    "\t(1 of 270 states)")


class Search(unittest.TestCase):
    """The report of a verifier."""

    def test_good(self) -> None:
        outcome = read_search(GOOD)
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.problems, [])
        self.assertEqual(outcome.unreached, [])
        self.assertEqual(outcome.figures(), "29128 states, depth 119, 135 MiB")

    def test_large_numbers(self) -> None:
        outcome = read_search(GOOD.replace("    29128 states", "1.4015035e+08 states"))
        self.assertEqual(outcome.states, 140150350)

    def test_errors(self) -> None:
        self.assertEqual(read_search(BAD).error, "assertion violated (result==0)")
        self.assertEqual(read_search(DEADLOCK).error, models.INVALID_END)
        self.assertIsNotNone(read_search(GOOD.replace("errors: 0", "errors: 2")).error)

    def test_incomplete(self) -> None:
        for text in (
                "", "pan: reached -DMEMLIM bound\n" + GOOD,
                "error: max search depth too small\n" + GOOD,
                "pan: out of memory\n" + GOOD,
                GOOD.replace("\t+ Partial", "Warning: Search not completed\n\t+ Partial"),
                GOOD.split("State-vector", maxsplit=1)[0],
                "pan:1: invalid end state (at depth 3)\n" + GOOD):
            self.assertTrue(read_search(text).problems, text)

    def test_unreached(self) -> None:
        self.assertEqual(read_search(UNREACHED).unreached,
                         [("copier", 330, "assert((a==b))")])

    def test_lines(self) -> None:
        text = ("proctype copier\n"
                "\tstate   4 -(tr 147)-> state  11  [id   0 tp   2] [----G] "
                "../copyup.pml:553 => ((a==b))\n"
                "\tstate   5 -(tr   2)-> state   6  [id   1 tp   2] [----G] "
                "/x/copyup.pml:560 => else\n"
                "init\n"
                "\tstate   5 -(tr   2)-> state   6  [id   1 tp   2] [----G] x.pml:900 => else\n"
                "\nTransition Type: A=atomic; D=d_step; L=local; G=global\n")
        lines = models.read_lines(text)
        self.assertEqual(lines, {("copier", 553), ("copier", 560), ("init", 900)})
        # In one task is enough; a line of which a part was not run does not count.
        outcome = Outcome(unreached=[("copier", 553, "x"), ("copier", 560, "y")])
        self.assertEqual(models.reached_lines(lines | {("away", 553)}, outcome), {553, 900})


class Replay(unittest.TestCase):
    """A bad trace, and the row of the table that it breaks."""

    TEXT = ("  1:\tproc  0 (:init::1) /x/copyup.pml:9 (state 10)\t[at[0] = 1]\n"
            "Starting copier with pid 1\n"
            "  2:\tproc  1 (copier:1) /x/copyup.pml:20 (state 3)\t[else]\n"
            "  3:\tproc  1 (copier:1) /x/copyup.pml:21 (state 4)\t[((a==1))]\n"
            "  4:\tproc  1 (copier:1) /x/copyup.pml:22 (state 5)\t[!(frozen)]\n"
            "spin: /x/copyup.pml:650, Error: assertion violated\n"
            "spin: text of failed assertion: assert((result==0))\n"
            "  5:\tproc  1 (copier:1) /x/copyup.pml:650 (state 5)\t[assert((result==0))]\n"
            "spin: /x/copyup.pml:700, Error: assertion violated\n"
            "spin: trail ends after 5 steps\n")

    def test_steps(self) -> None:
        trail = read_trail(self.TEXT)
        self.assertEqual(trail.steps, [         # not what sets the scene
            "   4 copier(1) copyup.pml:22 !(frozen)",
            "copyup.pml:650 assertion violated"])
        self.assertEqual(trail.line, 650)

    def test_rows(self) -> None:
        source = ("x\n/* R1, R12: both. */\nassert(a);\nassert(b);\n\n\n\n\n\n"
                  "assert(c) /* R3 */\nassert(d)\n")
        self.assertEqual(models.rows_of(source, 3), {"R1", "R12"})
        self.assertEqual(models.rows_of(source, 4), {"R1", "R12"})
        self.assertEqual(models.rows_of(source, 10), {"R3"})
        self.assertEqual(models.rows_of("assert(a)\n", 1), set())


class Verdicts(unittest.TestCase):
    """What is a failure."""

    def search(self, said: str) -> Outcome:
        with (tempfile.TemporaryDirectory() as directory,
              mock.patch.object(models, "BUILD", Path(directory)),
              mock.patch.object(models, "must"),
              mock.patch.object(models, "run", return_value=(0, said))):
            return models.search("x", ["COPIERS=1"])

    def test_incomplete_search_fails(self) -> None:
        self.assertIsNone(self.search(GOOD).error)
        self.assertIsNotNone(self.search(BAD).error)
        for said in ("", "error: max search depth too small\n" + GOOD):
            with self.assertRaises(ModelError):
                self.search(said)

    def configuration(self, outcome: Outcome) -> str:
        with (mock.patch.object(models, "search", return_value=outcome),
              mock.patch.object(models, "must", return_value=""),
              mock.patch.object(models, "COVERAGE", {}),
              mock.patch.object(models, "trail_of", return_value=Trail(["step"], None))):
            return models.check_configuration(Configuration("x", "COPIERS=1"))

    def test_configuration(self) -> None:
        self.assertIn("29128 states", self.configuration(read_search(GOOD)))
        self.assertIn("29128 states", self.configuration(read_search(UNREACHED)))
        never_ends = UNREACHED.replace("assert((a==b))", "-end-")
        for said, why in ((BAD, "step"), (never_ends, "copier")):
            with self.assertRaises(ModelError) as caught:
                self.configuration(read_search(said))
            self.assertIn(why, str(caught.exception))

    def test_coverage(self) -> None:
        all_names = [c.name for c in models.CONFIGURATIONS]
        with mock.patch.object(models, "COVERAGE", {n: ({1, 2}, {1}) for n in all_names[1:]}):
            with self.assertRaises(models.NotAsked):
                models.check_coverage()
            models.COVERAGE[all_names[0]] = ({1}, {1})
            with self.assertRaises(ModelError):
                models.check_coverage()
            models.COVERAGE[all_names[0]] = ({2}, {2})
            self.assertEqual(models.check_coverage(), "2 lines")

    def mutant(self, said: str, finds: str, line: int | None, name: str) -> str:
        with (mock.patch.object(models, "search", return_value=read_search(said)),
              mock.patch.object(models, "trail_of", return_value=Trail(["step"], line))):
            return models.check_mutant(Mutant(name, "", finds))

    def test_mutant(self) -> None:
        source = models.MODEL.read_text(encoding="utf-8").split("\n")
        [line] = [n for n, text in enumerate(source, 1) if "R9: who freezes" in text]
        name = "freeze_held_during_data"
        self.assertIn("R9", self.mutant(BAD, "R9", line + 1, name))
        self.assertIn("end", self.mutant(DEADLOCK, models.INVALID_END, None, name))
        for said, finds, at, mutant in (
                (GOOD, "R9", None, name),           # nothing found
                (BAD, "R1", line + 1, name),        # another row
                (DEADLOCK, "R9", None, name),
                (BAD, models.INVALID_END, line + 1, name),
                (BAD, "R9", line + 1, "of_nothing")):
            with self.assertRaises(ModelError, msg=f"{finds} {mutant}"):
                self.mutant(said, finds, at, mutant)


class Table(unittest.TestCase):
    """The table of configurations and mutants fits the model."""

    def test_every_mutant_is_kept(self) -> None:
        source = models.MODEL.read_text(encoding="utf-8")
        in_model = set(models.re.findall(r"\bMUTANT_\w+", source)) - {"MUTANT_"}
        self.assertEqual({m.macro() for m in models.MUTANTS}, in_model)

    def test_names_are_unique(self) -> None:
        names = [name for name, _ in models.checks()]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
