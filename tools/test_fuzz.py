# SPDX-License-Identifier: GPL-2.0
"""What is read out of libFuzzer's report."""

import unittest

import fuzz

REPORT = """INFO: Seed: 1
#2      INITED cov: 8 ft: 9 corp: 1/1b exec/s: 0 rss: 28Mb
#840252 DONE   cov: 52 ft: 66 corp: 9/154b lim: 4096 exec/s: 140042 rss: 28Mb
Done 840252 runs in 6 second(s)
stat::number_of_executed_units: 840252
stat::average_exec_per_sec:     140042
"""


class Reports(unittest.TestCase):
    def test_good(self) -> None:
        outcome = fuzz.read_outcome("handle", 0, REPORT)
        self.assertEqual((outcome.executions, outcome.coverage), (840252, 52))
        self.assertFalse(outcome.failed)
        self.assertEqual(str(outcome), "handle: 840,252 executions, 52 edges")

    def test_failed(self) -> None:
        self.assertTrue(fuzz.read_outcome("handle", 77, REPORT).failed)

    def test_nothing_was_run(self) -> None:
        self.assertTrue(fuzz.read_outcome("handle", 0, "").failed)


if __name__ == "__main__":
    unittest.main()
