# SPDX-License-Identifier: GPL-2.0
"""Tests of packages.py: which version a package has."""

from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import packages  # noqa: E402
from verdicts import CheckError  # noqa: E402


class Version(unittest.TestCase):
    def test_changelog(self) -> None:
        text = "rovl (0.2.0) unstable; urgency=medium\n\n  * x\n"
        self.assertEqual(packages.changelog_entry(text), ("0.2.0", "unstable"))

    def test_no_changelog(self) -> None:
        for wrong in ("", "\nrovl (1) x;", "other (1) x; urgency=low"):
            with self.assertRaises(CheckError):
                packages.changelog_entry(wrong)

    def test_commit(self) -> None:
        version, seconds = packages.commit_version("0.1.0", "+1")
        self.assertRegex(version, r"^0\.1\.0~(git|dirty)\d{10}\.[0-9a-f]{7}\+1$")
        self.assertGreater(seconds, 0)
        # dkms takes the version as the name of a directory
        self.assertIsNone(re.search(r"[^-+.~:0-9a-zA-Z]", version))


class Outdated(unittest.TestCase):
    def test_other_series_stay(self) -> None:
        old = ["rovl-dkms_0.1.0_all.deb", "rovl-modules-7.2.9+deb13-amd64_0.1.0_amd64.deb",
               "rovl-modules-7.3.4+deb13-amd64_0.1.0_amd64.deb", "rovl_0.1.0_amd64.changes"]
        for series, stays in ((["7.2"], old[2]), (["7.3"], old[1])):
            gone = {path.name for path in packages.outdated(map(Path, old), series)}
            self.assertEqual(gone, set(old) - {stays})
        self.assertEqual(len(packages.outdated(map(Path, old), ["7.3", "7.2"])), 4)


if __name__ == "__main__":
    unittest.main()
