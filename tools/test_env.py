# SPDX-License-Identifier: GPL-2.0
"""Tests of env.sh: what it does about a machine that lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ENV = Path(__file__).resolve().parent / "env.sh"

# What env.sh itself uses, and a bare Debian has.
BARE = ("bash cat cut date dirname env flock grep id mkdir mount nproc paste printf realpath "
        "rm sed sleep sort tail tr unshare wc xargs").split()

# Notes each call. The first installation fails, as where no lists have been fetched.
APT_GET = """#!/bin/bash
echo "$@" >>"$FAKE/calls"
case $1 in
update) : >"$FAKE/lists" ;;
install)
	[[ -e $FAKE/lists ]] || exit 100
	for package in "${@:4}"; do
		[[ $FAKE_EMPTY ]] || ln -s "$(type -P true)" "$FAKE/$package"
	done ;;
esac
"""

AS_USER = (str(shutil.which("setpriv")), "--reuid=65534", "--regid=65534", "--clear-groups")


class BareMachine(unittest.TestCase):
    """A PATH without mmdebstrap and make, with an apt-get that only pretends."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.top = Path(directory.name)
        self.top.chmod(0o755)
        self.path = self.top / "bin"
        self.path.mkdir()
        for name in (*BARE, "ln", "true"):
            (self.path / name).symlink_to(str(shutil.which(name)))
        apt_get = self.path / "apt-get"
        apt_get.write_text(APT_GET, encoding="ascii")
        apt_get.chmod(0o755)

    def host(self, *arguments: str, as_user: bool = False, **variables: str
             ) -> tuple[int, str, list[str]]:
        """The exit status of `env.sh host`, what it says, and how apt-get was called."""
        done = subprocess.run(
            [*(AS_USER if as_user else ()), "bash", ENV, "host", *arguments],
            env={"PATH": str(self.path), "FAKE": str(self.path), "FAKE_EMPTY": "",
                 "HOME": str(self.top), **variables},
            capture_output=True, text=True, check=False)
        calls = self.path / "calls"
        called = calls.read_text("ascii").splitlines() if calls.exists() else []
        return done.returncode, done.stderr, called

    def test_root_installs_and_says_so(self) -> None:
        status, said, called = self.host("make=make")
        self.assertEqual(status, 0, said)
        install = "install -y --no-install-recommends mmdebstrap make"
        self.assertEqual(called, [install, "update", install])
        self.assertIn("installing what this machine lacks: mmdebstrap make", said)
        self.assertIn("ROVL_NO_INSTALL=1", said)
        self.assertEqual(self.host("make=make"), (0, "", called))

    def test_root_may_want_to_be_told(self) -> None:
        status, said, called = self.host(ROVL_NO_INSTALL="1")
        self.assertEqual((status, called), (1, []))
        self.assertIn("lacks: mmdebstrap. Do:\n"
                      "    apt-get update && apt-get install mmdebstrap\n", said)

    def test_what_was_installed_is_there(self) -> None:
        status, said, _ = self.host(FAKE_EMPTY="1")
        self.assertEqual(status, 1)
        self.assertIn("lacks: mmdebstrap", said)

    def test_user_is_told_all_at_once(self) -> None:
        status, said, called = self.host(as_user=True)
        self.assertEqual((status, called), (1, []))
        self.assertIn("lacks: mmdebstrap, uidmap, subordinate user ids for nobody. Do:\n"
                      "    sudo apt-get update && sudo apt-get install mmdebstrap uidmap && "
                      "sudo usermod --add-subuids", said)

    def test_series(self) -> None:
        status, said, _ = self.host(SERIES="6.1")
        self.assertEqual(status, 1)
        self.assertRegex(said, r"supports the kernel series 7\.\d .*, not 6\.1")



if __name__ == "__main__":
    unittest.main()
