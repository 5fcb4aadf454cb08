# SPDX-License-Identifier: GPL-2.0
"""Unit tests of check.py: the counts must be honest."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

import check  # noqa: E402
from check import CheckError, Results, Skipped, Stream, Verdict  # noqa: E402
from models import ModelError  # noqa: E402


class Ktap(unittest.TestCase):
    """Result lines of the selftests."""

    def test_verdicts(self) -> None:
        self.assertEqual(check.read_ktap("ok 1 mount.a"), ("mount.a", Verdict.PASSED))
        self.assertEqual(check.read_ktap("not ok 12 mount.a@xfs # src/x.rs:1: no"),
                         ("mount.a@xfs", Verdict.FAILED))
        self.assertEqual(check.read_ktap("ok 3 mount.a # SKIP no such thing"),
                         ("mount.a", Verdict.SKIPPED))
        self.assertEqual(check.read_ktap("not ok 4 mount.a # TIMEOUT 60 seconds"),
                         ("mount.a", Verdict.FAILED))

    def test_other_lines(self) -> None:
        for line in ("KTAP version 1", "1..4", "# ok 1 mount.a", " ok 1 mount.a",
                     "ok then", "[   1.0] ok 1 x"):
            self.assertIsNone(check.read_ktap(line), line)

    def test_stream_in_pieces(self) -> None:
        results = Results()
        stream = Stream(results)
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            for piece in (b"ok 1 a", b".b\r\nnot o", b"k 2 c.d # why\n",
                          b"rovl: layout: 350 checked, 0 bad\nok 3 e.f"):
                stream.feed(piece)
            self.assertNotIn("e.f", results.verdicts)
            stream.close()
        self.assertEqual(results.summary(), "2 passed, 1 failed, 0 skipped")
        self.assertEqual(stream.layout, (350, 0))
        self.assertIn("not ok 2 c.d # why", shown.getvalue())


class Counting(unittest.TestCase):
    """A failure is never lost."""

    def test_failure_stays(self) -> None:
        results = Results()
        for verdict in (Verdict.FAILED, Verdict.PASSED, Verdict.SKIPPED):
            results.add("a", verdict)
        self.assertEqual(results.summary(), "0 passed, 1 failed, 0 skipped")

    def test_host_checks(self) -> None:
        def fails() -> None:
            raise CheckError("broken")

        def skips() -> None:
            raise Skipped("not here")

        results = Results()
        with contextlib.redirect_stdout(io.StringIO()):
            check.run_host_checks(
                [("a", fails), ("b", skips), ("c", lambda: None)], results)
        self.assertEqual(results.summary(), "1 passed, 1 failed, 1 skipped")

    def test_what_host_checks_say(self) -> None:
        def broken_model() -> str:
            raise ModelError("a bad trace")

        results = Results()
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            check.run_host_checks([("a", lambda: "7 states"), ("b", broken_model)], results)
        self.assertEqual(results.summary(), "1 passed, 1 failed, 0 skipped")
        self.assertEqual(shown.getvalue(), "ok a # 7 states\n# a bad trace\nnot ok b\n")

    def test_order_of_what_runs_side_by_side(self) -> None:
        second = threading.Event()

        def waits() -> str:
            return "waited" if second.wait(60) else "the other never ran"

        names = ["model.copyup_a", "model.copyup_b", "model.coverage"]
        results = Results()
        with contextlib.redirect_stdout(io.StringIO()) as shown, \
                mock.patch.dict(check.LANES, models=2):
            check.run_host_checks(
                zip(names, [waits, lambda: second.set(), lambda: None]), results)
        self.assertEqual(shown.getvalue(), "ok model.copyup_a # waited\n"
                         "ok model.copyup_b\nok model.coverage\n")

    def test_command_that_fails(self) -> None:
        with self.assertRaises(CheckError) as caught:
            check.command("sh", "-c", "echo why; exit 3")
        self.assertIn("why", str(caught.exception))
        self.assertIn("3", str(caught.exception))


class Queues(unittest.TestCase):
    """Which guest runs what."""

    def test_each_test_goes_to_one_guest(self) -> None:
        queue = check.Queue(["a.1", "a.2", "b.1"])
        one, other = queue.guest(), queue.guest()
        self.assertEqual([one("next"), other("next"), other("next")], ["a.1", "a.2", "b.1"])
        self.assertEqual([one("next"), other("next")], ["", ""])

    def test_each_guest_looks_at_its_disks(self) -> None:
        queue = check.Queue(["a.1", check.LAYERS_CLEAN])
        one, other = queue.guest(), queue.guest()
        self.assertEqual([one("next"), one("next"), one("next")],
                         ["a.1", check.LAYERS_CLEAN, ""])
        self.assertEqual([other("next"), other("next")], [check.LAYERS_CLEAN, ""])

    def test_who_is_booted(self) -> None:
        def booted(names: list[str], kernel: str, asked: bool = False) -> list[tuple[int, int]]:
            return [(boot.cpus, len(boot.queue)) for boot in check.boots(names, kernel, asked)]

        names = ["a.1", "a.2", "races.a", "copyup.R2_a", "copyup.a", "selinux.a",
                 check.LAYERS_CLEAN]
        self.assertEqual(booted(names, "stock"), [(2, 1), (1, 4), (1, 1), (1, 4), (2, 1)])
        self.assertEqual(booted(names, "debug"), [(2, 2), (1, 4), (1, 4), (2, 2)])
        self.assertEqual(booted(names, "stock", asked=True), [(2, 5), (1, 1)])
        self.assertEqual(booted(["selinux.a"], "stock", asked=True), [(1, 1)])
        self.assertEqual(booted(["selinux.a"], "debug", asked=True), [(2, 1)])
        for none in ([], [check.LAYERS_CLEAN]):
            self.assertEqual(booted(none, "stock", asked=True), [(2, 0)])

    def test_guests_of_the_rest_share_it(self) -> None:
        first, second = check.boots(["a.1", "a.2"], "stock", False)
        self.assertIs(first.queue, second.queue)

    def test_guest_without_work_is_not_booted(self) -> None:
        guest = check.Guest(mock.Mock(), check.Boot(check.Queue([])), 1, Stream(Results()))
        guest.run()
        self.assertFalse(guest.needed)
        self.assertIsNone(guest.result)


class Selection(unittest.TestCase):
    """T= of make check."""

    def test_patterns(self) -> None:
        self.assertTrue(check.selected("copyup.sizes", []))
        self.assertTrue(check.selected("copyup.sizes@xfs", ["copyup"]))
        self.assertTrue(check.selected("copyup.sizes@xfs", ["*@xfs"]))
        self.assertTrue(check.selected("copyup.sizes", ["names", "copyup.s"]))
        self.assertFalse(check.selected("copyup.sizes", ["*@xfs", "sizes"]))


class CompileFail(unittest.TestCase):
    """A case must be refused for its own reason."""

    def judge(self, case: str, said: str | None) -> None:
        outcome = mock.DEFAULT if said is None else CheckError(said)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "case.rs"
            path.write_text(case, encoding="utf-8")
            with mock.patch.object(check, "command", side_effect=[outcome]):
                check.check_compile_fail(path, "stock")

    def test_right_error(self) -> None:
        self.judge("// error: error[E0499]\n", "error[E0499]: cannot borrow\n")
        self.judge("// error: none\n", None)

    def test_wrong_error(self) -> None:
        for case, said in (
                ("// error: error[E0499]\n", "error[E0499]: a\nerror[E0425]: b\n"),
                ("// error: error[E0499]\n", "make: *** No rule\n"),
                ("// error: error[E0499]\n", None),
                ("// error: none\n", "error[E0499]: a\n"),
                ("fn f() {}\n", "error[E0499]: a\n")):
            with self.assertRaises(CheckError, msg=f"{case} {said}"):
                self.judge(case, said)


if __name__ == "__main__":
    unittest.main()
