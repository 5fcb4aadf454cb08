# SPDX-License-Identifier: GPL-2.0
"""Unit tests of bench.py: what is read, and what is said of it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench  # noqa: E402

OUTPUT = b"""\
rovl: layout: 3 checked, 0 bad
bench\t1
meta\tkernel\t6.1
meta\tcpus\t2
row\ta\t\tms\tfirst\tsmall\t
sample\ta\t\tbare\t0\t1.0
sample\ta\t\toverlay\t0\t4.0
sample\ta\t\trovl\t0\t2.0
sample\ta\t\trovl\t1\t3.0
row\tb\tthe open\t1/s\tsecond\t\ta
sample\tb\tthe open\trovl\t0\t200
row\tidle\tstat\tms\tthird\tstat\t
sample\tidle\tstat\trovl\t0\t10
row\twait\tstat\tms\tfourth\tstat\tidle
sample\twait\tstat\trovl\t0\t25
note\ta\trovl\t1\tso so
end\t0
"""


def read(output: bytes) -> bench.Report:
    report = bench.Report()
    stream = bench.Stream(report)
    with contextlib.redirect_stdout(io.StringIO()):
        for i in range(0, len(output), 7):
            stream.feed(output[i:i + 7])
    return report


class Reading(unittest.TestCase):
    """The lines of the guest."""

    def test_samples(self) -> None:
        report = read(OUTPUT)
        self.assertEqual(report.meta, {"kernel": "6.1", "cpus": 2})
        self.assertEqual(report.rows["a"].samples,
                         {"bare": [1.0], "overlay": [4.0], "rovl": [2.0, 3.0]})
        self.assertEqual(report.rows["b.the_open"].samples, {"rovl": [200.0]})
        self.assertEqual(report.notes, ["a on rovl, round 2: so so"])
        self.assertEqual(report.failures, [])
        self.assertTrue(report.ended)

    def test_failures(self) -> None:
        report = read(b"missing\trovl\nfail\ta\trovl\t0\tEIO\n")
        self.assertEqual(report.failures,
                         ["the kernel has no rovl", "a on rovl, round 1: EIO"])
        self.assertFalse(report.ended)

    def test_json_and_back(self) -> None:
        report = read(OUTPUT)
        data = json.loads(json.dumps(report.to_json()))
        self.assertEqual(data["rows"]["a"]["median"]["rovl"], 2.5)
        self.assertEqual(data["rows"]["a"]["ratio_to_bare"], {"overlay": 4.0, "rovl": 2.5})
        self.assertEqual(bench.Report.from_json(data), report)
        with self.assertRaises(ValueError):
            bench.Report.from_json({"format": 0})


class Table(unittest.TestCase):
    """What people see."""

    def test_numbers(self) -> None:
        for value, text in ((None, "-"), (0.123, "0.12"), (9.996, "10.0"), (99.96, "100"),
                            (1234.5, "1234")):
            self.assertEqual(bench.number(value), text)

    def test_ratios_and_gaps(self) -> None:
        lines = bench.table(read(OUTPUT))
        small = next(line for line in lines if line.startswith("  small"))
        self.assertEqual(small.split(), ["small", "1.00", "4.00", "2.50", "2.00-3.00",
                                         "4.00", "2.50", "0.62"])
        rate = next(line for line in lines if "200" in line)
        self.assertEqual(rate.split(), ["-", "-", "200", "-", "-", "-"])
        self.assertEqual(lines[-1].split(), ["stat", "-", "-", "25.0", "-", "-", "-", "2.50"])

    def test_slower(self) -> None:
        def row(unit: str, overlay: float, rovl: float, idle: str = "") -> bench.Row:
            return bench.Row(unit, "", "", idle, {"overlay": [overlay], "rovl": [rovl]})
        for slower, of in ((False, row("ms", 10, 11)), (True, row("ms", 10, 12)),
                           (True, row("1/s", 12, 10)), (False, row("1/s", 10, 12)),
                           (False, bench.Row("ms", "", "", samples={"rovl": [1.0]}))):
            self.assertEqual(of.is_slower(), slower)
        report = bench.Report(rows={"a": row("ms", 10, 20), "b": row("1/s", 10, 20),
                                    "c": row("ms", 16, 1, "d"), "d": row("ms", 1, 1)})
        lines = bench.table(report)
        self.assertEqual([line.endswith("slower") for line in lines if line.startswith("  ")],
                         [False, False, True, False, False, False])
        self.assertEqual([line.split(" in ")[0] for line in bench.summary(report)],
                         ["geometric mean of rovl/overlay 1.00",
                          "longest waits: geometric mean of rovl/overlay 0.25"])
        self.assertIn("2 rows (rates turned round), 1 slower", bench.summary(report)[0])
        self.assertEqual(bench.summary(bench.Report()), [])

    def test_change(self) -> None:
        def row(unit: str, *samples: float) -> bench.Row:
            return bench.Row(unit, "", "", samples={"rovl": list(samples)})
        for new, old, said in (
                (row("ms", 1, 2, 3), row("ms", 3, 4, 5), "-50%"),
                (row("ms", 1, 2, 3), row("ms", 4, 4, 5), "-50% better"),
                (row("ms", 6, 7, 8), row("ms", 4, 4, 5), "+75% worse"),
                (row("1/s", 6, 8, 8), row("1/s", 3, 4, 4), "+100% better"),
                (row("1/s", 1, 1, 1), row("1/s", 2, 2, 2), "-50% worse"),
                (row("1/s", 1, 1), row("1/s", 2, 2), "-50%")):
            self.assertEqual(bench.change(new, old, "rovl"), said)
        self.assertEqual(bench.change(row("ms", 1), row("ms", 1), "bare"), "-")

    def test_all_of_it(self) -> None:
        report = read(OUTPUT)
        report.meta.update(load_before=[1.5, 0, 0], host_cpus=2, quick="yes")
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            bench.show(report, report)
        for text in ("kernel 6.1", "load 1.5 on 2 CPUs", "too little", "note: a on rovl",
                     "Change since"):
            self.assertIn(text, shown.getvalue())

    def test_other_machine(self) -> None:
        one, two = read(OUTPUT), read(OUTPUT.replace(b"6.1", b"6.2"))
        two.rows["a"].heading = "larger"
        changes = bench.changes(two, one)
        self.assertIn("warning: kernel is 6.2, and was 6.1", changes)
        self.assertTrue(any("not the same work" in line for line in changes))


if __name__ == "__main__":
    unittest.main()
