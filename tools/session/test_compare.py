# SPDX-License-Identifier: GPL-2.0
"""python3 -m unittest discover -s tools/session"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare  # noqa: E402

LINES = """\
/\tdir\t0755\t0:0\t-\t-\t-\t-\t-\t50.000000000
/a\tfile\t0644\t0:0\t2\t3\t00ff\t/a\tuser.x=1\t99.500000000
/b\tfile\t0644\t0:0\t2\t3\t00ff\t/a\tuser.x=1\t99.500000000
/var/log/dpkg.log\tfile\t0644\t0:0\t1\t9\tabcd\t-\t-\t101.000000000
"""


def tree(text: str) -> compare.Tree:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "name.tree"
        path.write_text(text, encoding="ascii")
        return compare.Tree.read(path)


class Comparison(unittest.TestCase):
    def test_same(self) -> None:
        self.assertEqual(compare.differences(tree(LINES), tree(LINES)), [])

    def test_each_field_counts(self) -> None:
        for old, new in (("file", "fifo"), ("0644", "0600"), ("0:0", "0:1"), ("00ff", "01ff"),
                         ("user.x=1", "-"), ("99.5", "99.6"), ("/a\tuser", "/b\tuser")):
            with self.subTest(new):
                changed = tree(LINES.replace(f"\t{old}", f"\t{new}", 1))
                self.assertEqual(len(compare.differences(tree(LINES), changed)), 1)

    def test_missing(self) -> None:
        shorter = tree("".join(LINES.splitlines(keepends=True)[:-1]))
        self.assertIn("only in", compare.differences(tree(LINES), shorter)[0])
        self.assertIn("only in", compare.differences(shorter, tree(LINES))[0])

    def test_two_sessions(self) -> None:
        other = LINES.replace("abcd", "dcba").replace("101.0", "207.0").replace("99.5", "99.0")
        self.assertEqual(compare.differences(tree(LINES).without_session_times(100),
                                             tree(other).without_session_times(200)), [])
        older = LINES.replace("50.0", "51.0")
        self.assertEqual(len(compare.differences(tree(LINES).without_session_times(100),
                                                 tree(older).without_session_times(100))), 1)


if __name__ == "__main__":
    unittest.main()
