#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Debian packages: what `make deb` does, inside the build tree with the packaging tools.

    tools/packages.py [--series SERIES]... [--suffix SUFFIX] [--into DIRECTORY]

The packages of this checkout go to build/deb; the module is built for the stock kernel
of each series, and what was built for other series stays. Where the changelog says UNRELEASED, time and hash of the commit are part
of the version. ROVL_KEY and ROVL_CERT sign the module.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

from verdicts import ENV, CheckError, command, say  # noqa: E402

DEBIAN = TOP / "debian"
OUTPUT = TOP / "build" / "deb"
LINES_OF_OUTPUT = 40        # shown of a build that failed


# --- Which version ------------------------------------------------------------------

def changelog_entry(text: str) -> tuple[str, str]:
    """Version and distribution of the newest entry."""
    match = re.match(r"rovl \(([^)]+)\) (\S+);", text)
    if not match:
        raise CheckError("debian/changelog does not begin with: rovl (VERSION) DISTRIBUTION;")
    return match[1], match[2]


def git(*words: str) -> str:
    return command("git", "-c", f"safe.directory={TOP}", *words).strip()


def commit_version(base: str, suffix: str = "") -> tuple[str, int]:
    """The version of a commit before the release BASE, and when it was made."""
    seconds, name = git("log", "-1", "--format=%ct %h", "--abbrev=7").split()
    # Short: names of packages' files have a limit, and that of a kernel is in some.
    stamp = time.strftime("%y%m%d%H%M", time.gmtime(int(seconds)))
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{base}~{'dirty' if changed else 'git'}{stamp}.{name[:7]}{suffix}", int(seconds)


# --- The source to be built ---------------------------------------------------------

def stock(series: str, question: str) -> str:
    """What env.sh says about the stock kernel of a series."""
    return command(ENV, *question.split(), env={"SERIES": series}).strip()


def assemble(source: Path, series: list[str], suffix: str) -> str:
    """Puts what git knows of this checkout to SOURCE, with a package for the kernel of
    each series. Gives the version.
    """
    shutil.rmtree(source, ignore_errors=True)
    for name in filter(None, git("ls-files", "-z").split("\0")):
        if (TOP / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, source / name)
    changelog = source / "debian" / "changelog"
    text = changelog.read_text("utf-8")
    version, distribution = changelog_entry(text)
    if distribution == "UNRELEASED":
        version, seconds = commit_version(version, suffix)
        text = text.replace(f"({changelog_entry(text)[0]})", f"({version})", 1)
        text = re.sub(r"(?m)^( -- .*>)  .*$", rf"\1  {formatdate(seconds)}", text, count=1)
        changelog.write_text(text, "utf-8")
    for one in series:
        add_kernel(source / "debian", stock(one, "release stock"), stock(one, "version"))
    return version


def add_kernel(debian: Path, release: str, version: str) -> None:
    """Adds the package for a kernel."""
    name = f"rovl-modules-{release}"
    for template in sorted(debian.glob("*.modules")):
        text = (template.read_text("utf-8").replace("@RELEASE@", release)
                .replace("@SHORT@", release.partition("+")[0]).replace("@VERSION@", version))
        if template.stem == "control":
            with open(debian / "control", "a", encoding="utf-8") as control:
                control.write(text)
        else:
            (debian / f"{name}.{template.stem}").write_text(text, "utf-8")


# --- Building ----------------------------------------------------------------------

def build(series: list[str], suffix: str = "", into: Path = OUTPUT) -> list[Path]:
    """Builds the packages and gives their files."""
    for name in ("ROVL_KEY", "ROVL_CERT"):
        if os.environ.get(name) and not Path(os.environ[name]).is_file():
            raise CheckError(f"there is no {os.environ[name]} to sign the module with")
    work = OUTPUT / ".work"
    source = work / "rovl"
    version = assemble(source, series, suffix)
    kernels = " ".join(f"{stock(one, 'release stock')}={stock(one, 'path stock/build')}"
                       for one in series)
    log = work / "build.log"
    say(f"rovl: building the packages of rovl {version} (log: {log.relative_to(TOP)})")
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as output:
        done = subprocess.run(
            ["dpkg-buildpackage", "--build=binary", "--no-sign"], cwd=source, check=False,
            env={**os.environ, "ROVL_KERNELS": kernels}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        said = log.read_text("utf-8", "replace").splitlines()[-LINES_OF_OUTPUT:]
        raise CheckError("\n".join([*said, f"dpkg-buildpackage failed, all it said is in {log}"]))
    into.mkdir(parents=True, exist_ok=True)
    made = sorted(work.glob("rovl*_*"))
    for old in outdated(into.glob("rovl*_*"), series):
        if old.name not in [path.name for path in made]:
            say(f"rovl:   removing {old.name}")
        old.unlink()
    built = [path.rename(into / path.name) for path in made]
    shutil.rmtree(source)
    say(f"rovl:   done in {time.monotonic() - start:.0f} s")
    return built


def outdated(files: Iterable[Path], series: list[str]) -> list[Path]:
    """Those of an earlier build that one for SERIES replaces. The modules for kernels of
    other series stay.
    """
    def stays(path: Path) -> bool:
        match = re.match(r"rovl-modules-(\d+\.\d+)\.", path.name)
        return bool(match) and match[1] not in series
    return [path for path in sorted(files) if not stays(path)]


# What lintian may say of all packages, and why it is no fault.
ALLOWED = (
    "bad-distribution-in-changes-file",     # UNRELEASED: nothing is uploaded from here
    # Nobody's address is in the project; who uploads gives his own.
    "bogus-mail-host", "bogus-mail-host-in-debian-changelog",
)


def lint(changes: Path) -> list[str]:
    """What lintian has to say; nothing, if all is well."""
    done = subprocess.run(
        ["lintian", "--allow-root", "--display-info", "--pedantic", "--tag-display-limit", "0",
         "--suppress-tags", ",".join(ALLOWED), changes],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [line for line in done.stdout.splitlines() if line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", action="append", default=[])
    parser.add_argument("--suffix", default="", help="goes to the end of the version")
    parser.add_argument("--into", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    series = arguments.series or [os.environ.get("SERIES") or command(ENV, "series").split()[0]]
    try:
        built = build(series, arguments.suffix, arguments.into.resolve())
        said = lint(next(path for path in built if path.suffix == ".changes"))
    except CheckError as error:
        print(error, file=sys.stderr)
        return 1
    for line in said:
        say(f"lintian: {line}")
    debs = [path for path in built if path.suffix == ".deb"]
    for path in debs:
        say(f"{path.stat().st_size / 1024:9.0f} KiB  {path.relative_to(TOP)}")
    return 1 if any(re.match(r"[EW]: ", line) for line in said) else 0


if __name__ == "__main__":
    sys.exit(main())
