# SPDX-License-Identifier: GPL-2.0
"""Tests of intree and intree_series.py, with a kernel source that has only what is touched."""

import subprocess
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import intree_series as series

TOP = Path(__file__).resolve().parent.parent
loader = SourceFileLoader("intree", str(TOP / "tools" / "intree"))
intree = module_from_spec(spec_from_loader("intree", loader))
loader.exec_module(intree)

AUTHOR = "A. Hacker <a@example.org>"
KERNEL = {
    "fs/Kconfig": 'source "fs/overlayfs/Kconfig"\nsource "fs/proc/Kconfig"\n',
    "fs/Makefile": "obj-$(CONFIG_OVERLAY_FS)\t+= overlayfs/\n",
    "MAINTAINERS": "Maintainers List\n\nRADOS BLOCK DEVICE (RBD)\nM:\tA\n\n"
                   "Real-time tools\nM:\tB\n\nRTC\nM:\tC\n\nTHE REST\nM:\tD\n",
    "Documentation/filesystems/index.rst": "   romfs\n   sysfs\n",
    "tools/testing/selftests/Makefile": "TARGETS += filesystems/overlayfs\n",
}


class Series(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.linux = Path(directory.name) / "linux"
        self.out = Path(directory.name) / "out"
        intree.write(self.linux, KERNEL)

    def check_tree(self) -> None:
        rovl = self.linux / "fs" / "rovl"
        sources = [p for p in TOP.rglob("*.rs") if p.relative_to(TOP).parts[0] not in
                   ("build", "selftests", "tools", "debian", "target")]
        self.assertGreater(len(sources), 50)
        for path in [*sources, *(TOP / "vfs").glob("*.[ch]"), TOP / "Kconfig"]:
            name = path.relative_to(TOP)
            if path.name != "bindings_generated.rs":
                self.assertEqual(path.read_bytes(), (rovl / name).read_bytes(), name)
        makefile = (rovl / "Makefile").read_text()
        self.assertNotIn("KBUILD_EXTMOD", makefile)
        self.assertIn("obj-$(CONFIG_ROVL_FS) := rovl.o\n", makefile)
        self.assertEqual((self.linux / "fs/Kconfig").read_text(),
                         'source "fs/overlayfs/Kconfig"\nsource "fs/rovl/Kconfig"\n'
                         'source "fs/proc/Kconfig"\n')
        entries = [line for line in (self.linux / "MAINTAINERS").read_text().split("\n")
                   if line[:1].isalpha() and ":" not in line]
        self.assertEqual(entries, ["Maintainers List", "RADOS BLOCK DEVICE (RBD)",
                                   "Real-time tools", "ROVL STACKING FILESYSTEM", "RTC",
                                   "THE REST"])
        self.assertTrue((self.linux / series.SELFTESTS / "src/main.rs").exists())

    def test_git_am_takes_it(self) -> None:
        patches = intree.generate(self.linux, self.out, AUTHOR)
        self.assertEqual(len(patches), len(series.PATCHES))
        env = intree.identity(AUTHOR)
        intree.git("init", "-q", cwd=self.linux)
        intree.git("add", "-A", cwd=self.linux)
        intree.git("commit", "-q", "-m", "base", cwd=self.linux, env=env)
        intree.apply(self.linux, patches, AUTHOR)
        self.check_tree()
        log = intree.git("log", "--format=%s%n%b", cwd=self.linux)
        self.assertEqual(log.count(f"Signed-off-by: {AUTHOR}"), len(series.PATCHES))
        self.assertNotIn("***", (self.out / "0000-cover-letter.patch").read_text())
        # Where it is already it is not put again.
        again = subprocess.run([TOP / "tools" / "intree", self.linux], capture_output=True,
                               text=True)
        self.assertEqual(again.returncode, 2)
        self.assertIn("fs/rovl already", again.stderr)

    def test_without_git(self) -> None:
        intree.apply(self.linux, intree.generate(self.linux, self.out, AUTHOR), AUTHOR)
        self.check_tree()

    def test_modules_are_declared_with_their_files(self) -> None:
        patches = intree.generate(self.linux, self.out, AUTHOR)
        for patch in patches:
            intree.apply(self.linux, [patch], AUTHOR)
            rovl = self.linux / "fs" / "rovl"
            for root in (rovl / series.ROOT, rovl / series.VFS):
                for line in root.read_text().split("\n"):
                    words = line.removesuffix(";").split()
                    if "mod" not in words[:2] or not line.endswith(";"):
                        continue
                    name = root.parent / words[-1]
                    self.assertTrue(name.with_suffix(".rs").exists() or
                                    (name / "mod.rs").exists(), f"{patch.name}: {line}")

    def test_a_kernel_without_the_places(self) -> None:
        (self.linux / "fs/Makefile").write_text("obj-y += other/\n")
        with self.assertRaisesRegex(ValueError, "not once in the kernel source"):
            intree.generate(self.linux, self.out, AUTHOR)

    def test_author(self) -> None:
        with self.assertRaisesRegex(ValueError, "NAME <MAIL>"):
            intree.identity("nobody")


if __name__ == "__main__":
    unittest.main()
