# SPDX-License-Identifier: GPL-2.0
"""Unit tests of conformance.py: what is a failure, and what an exception."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conformance  # noqa: E402
from check import Results, Verdict  # noqa: E402
from conformance import Allowed, Judgement, Unit  # noqa: E402

ALL = (*conformance.SUITES, *conformance.CONTAINERS)


def unit(bare: str, overlay: str, rovl: str) -> Unit:
    """A unit with the case "a", which came to its end everywhere."""
    made = Unit(seconds={kind: 1 for kind in conformance.KINDS})
    for kind, verdict in zip(conformance.KINDS, (bare, overlay, rovl)):
        if verdict:
            made.add(kind, "a", verdict, "why")
    return made


def judged(bare: str, overlay: str, rovl: str, *patterns: str) -> Judgement:
    exceptions = [Allowed(p, "as documented") for p in patterns]
    (judgement,) = conformance.judge("suite@ext4", unit(bare, overlay, rovl), exceptions)
    return judgement


class Judging(unittest.TestCase):
    """Case by case."""

    def test_passes(self) -> None:
        self.assertEqual(judged("ok", "ok", "ok").verdict, Verdict.PASSED)
        self.assertEqual(judged("ok", "fail", "ok").verdict, Verdict.PASSED)

    def test_fails(self) -> None:
        for rovl in ("fail", "skip", ""):
            for overlay in ("ok", "fail"):
                self.assertEqual(judged("ok", overlay, rovl).verdict, Verdict.FAILED)

    def test_bare_does_not_pass(self) -> None:
        for rovl in ("ok", "fail", "skip"):
            self.assertEqual(judged("fail", "ok", rovl).verdict, Verdict.SKIPPED)
            self.assertEqual(judged("skip", "ok", rovl).verdict, Verdict.SKIPPED)
        self.assertEqual(judged("fail", "ok", "").verdict, Verdict.FAILED)

    def test_only_a_stack_has_it(self) -> None:
        self.assertEqual(judged("", "ok", "ok").verdict, Verdict.PASSED)
        self.assertEqual(judged("", "ok", "fail").verdict, Verdict.FAILED)
        self.assertEqual(judged("", "", "ok").verdict, Verdict.FAILED)

    def test_exception(self) -> None:
        judgement = judged("ok", "fail", "fail", "suite.a@*")
        self.assertEqual((judgement.verdict, judgement.excepted), (Verdict.SKIPPED, True))
        self.assertEqual(judgement.text, "as documented")
        self.assertEqual(judged("ok", "fail", "fail", "suite.b@*").verdict, Verdict.FAILED)

    def test_stale_exception(self) -> None:
        self.assertEqual(judged("ok", "fail", "ok", "suite.a@*").verdict, Verdict.FAILED)
        self.assertIn("stale", judged("ok", "fail", "ok", "suite.a@*").text)

    def test_overlay_passes(self) -> None:
        self.assertEqual(judged("ok", "ok", "fail", "suite.a@*").verdict, Verdict.FAILED)

    def test_no_end(self) -> None:
        stopped = unit("ok", "ok", "ok")
        del stopped.seconds["rovl"]
        verdicts = {j.name: j.verdict for j in conformance.judge("suite@ext4", stopped, [])}
        self.assertEqual(verdicts["suite.end.rovl@ext4"], Verdict.FAILED)

    def test_unused(self) -> None:
        judgement = judged("ok", "ok", "ok")
        exceptions = [Allowed("suite.b@*", "x"), Allowed("other.a@*", "x")]
        names = [j.name for j in conformance.unused(exceptions, [judgement], {"suite"})]
        self.assertEqual(names, ["exceptions.suite.b@*"])


class Files(unittest.TestCase):
    """What is read."""

    def test_exceptions(self) -> None:
        text = "# the file's\n# own\n\n# one\n# reason\na.x@*\na.y@*\n\n# two\nb.z@ext4\n"
        self.assertEqual(conformance.read_exceptions(text), [
            Allowed("a.x@*", "one reason"), Allowed("a.y@*", "one reason"),
            Allowed("b.z@ext4", "two")])
        with self.assertRaises(ValueError):
            conformance.read_exceptions("# the file's own\n\na.x@*\n")

    def test_those_of_the_project(self) -> None:
        text = (conformance.SUITES_DIRECTORY / "exceptions").read_text("utf-8")
        names = {suite.name for suite in ALL}
        for exception in conformance.read_exceptions(text):
            self.assertIn(exception.pattern.split(".")[0], names)

    def test_every_suite_has_its_file(self) -> None:
        there = {p.stem for p in (conformance.SUITES_DIRECTORY / "suites").glob("*.sh")}
        self.assertEqual(there, {suite.name for suite in ALL})

    def test_as_few_machines_as_will_do(self) -> None:
        groups = conformance.together(ALL)
        self.assertEqual(sum(map(len, groups)), len(ALL))
        self.assertEqual([{s.containers for s in group} for group in groups], [{False}, {True}])
        self.assertEqual(conformance.together([]), [])

    def test_stream(self) -> None:
        units: dict[str, Unit] = {}
        with tempfile.TemporaryDirectory() as directory, \
                contextlib.redirect_stdout(io.StringIO()):
            stream = conformance.Stream(units, Path(directory) / "log")
            for piece in (b"begin\ts@ext4\tro", b"vl\ncase\ts@ext4\trovl\ta\tskip\t\n",
                          b"case\ts@ext4\trovl\ta\tok\t\ncase\ts@ext4\trovl\tb\tfail\twhy\n",
                          b"case\ts@ext4\trovl\tb\tok\t\ncase\ts@ext4\trovl\ta\tskip\t\n",
                          b"something else\nend\ts@ext4\trovl\t7\nfinished\n"):
                stream.feed(piece)
            stream.close()
        self.assertTrue(stream.finished)
        self.assertEqual(units["s@ext4"].cases["rovl"], {"a": ("ok", ""), "b": ("fail", "why")})
        self.assertEqual(units["s@ext4"].seconds, {"rovl": 7})

    def test_table(self) -> None:
        units = {"s@ext4.lower": unit("ok", "fail", "fail"), "s@ext4.upper": unit("ok", "ok", "ok")}
        exceptions = [Allowed("s.a@ext4.lower", "x")]
        judgements = {n: conformance.judge(n, u, exceptions) for n, u in units.items()}
        self.assertEqual(conformance.table(units, judgements)[1].split(),
                         ["s", "ext4", "2", "2", "1", "1", "1", "0"])

    def test_shown(self) -> None:
        results = Results()
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            conformance.show_unit("s@ext4", [Judgement("s.a@ext4", Verdict.PASSED),
                                             Judgement("s.b@ext4", Verdict.FAILED, "why")],
                                  results)
        self.assertIn("not ok s.b@ext4 # why", shown.getvalue())
        self.assertIn("not ok s@ext4 # 1 passed, 1 failed, 0 skipped", shown.getvalue())
        self.assertEqual(results.summary(), "1 passed, 1 failed, 0 skipped")


if __name__ == "__main__":
    unittest.main()
