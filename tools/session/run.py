#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""`make run`: a Debian system whose root is a writable rovl mount.

On a terminal it is a shell in that system.  Without one it is a session that installs
packages, edits, deletes, compiles and renames, and the checks that the outcome is the
one that a plain file system gives; the exit status is the result.

From the environment: FRESH=1 forgets what earlier shells wrote; ROVL_FSTYPE is the
file system to use instead of rovl (overlay: the kernel's own); KERNEL=stock|debug;
ACCEL=kvm|tcg.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import compare  # noqa: E402
import config_layer  # noqa: E402
from verdicts import built_module  # noqa: E402
from vm import Disk, ImageError, Machine, Outcome, Result, cache, image, machine, run  # noqa: E402

_UPPER_SIZE = 8 << 30       # sparse
_PLAIN_SIZE = 2 << 30
_SHOWN = 40                 # differences


class Failed(Exception):
    """The session did not do what it should; the text says what."""


# --- What the machines are made of ---------------------------------------------------

def file_system_type() -> str:
    """What the root is mounted as."""
    return os.environ.get("ROVL_FSTYPE") or "rovl"


def kernel() -> str:
    """Which kernel is booted."""
    return os.environ.get("KERNEL") or "stock"


def module() -> Path | None:
    """The module, if the file system needs it."""
    if file_system_type() != "rovl":
        return None
    path = Path(os.environ.get("ROVL_MODULE") or built_module(kernel()))
    if not path.is_file():
        raise ImageError(f"{path} is missing: run make first")
    return path


def made_of(*sources: Path) -> str:
    """Changes when one of the files does."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def config_image() -> Path:
    """The configuration layer."""
    key = made_of(HERE / "config_layer.py")
    return cache.build_once(cache.root() / "run" / f"config-{key}",
                            lambda where: config_layer.build(where / "config.erofs")
                            ) / "config.erofs"


def manifest_program() -> Path:
    """The program that writes trees down."""
    source = HERE / "manifest.rs"

    def build(where: Path) -> None:
        subprocess.run(["rustc", "--edition", "2021", "-O", "-C", "panic=abort",
                        "-C", "strip=symbols", "-o", where / "manifest", source], check=True)

    return cache.build_once(cache.root() / "run" / f"manifest-{made_of(source)}",
                            build) / "manifest"


def make_upper(path: Path) -> None:
    """A disk with an empty ext4 that has an upper and a work directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    skeleton = path.with_suffix(".skeleton")
    shutil.rmtree(skeleton, ignore_errors=True)
    for name in ("upper", "work"):
        (skeleton / name).mkdir(parents=True)
        (skeleton / name).chmod(0o755)
        # The upper directory is the root that the guest sees, as old as the layer below.
        os.utime(skeleton / name, (config_layer.TIME, config_layer.TIME))
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "wb") as handle:
        handle.truncate(_UPPER_SIZE)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", skeleton, unfinished], check=True)
    shutil.rmtree(skeleton)
    unfinished.rename(path)


def layers(upper: Path) -> list[Disk]:
    """The disks that mount_lower and mount_upper of layers.sh expect."""
    return [Disk("debian", image.guest_root() / "root.erofs", read_only=True),
            Disk("config", config_image(), read_only=True),
            Disk("upper", upper)]


# --- On a terminal -----------------------------------------------------------------

def shell() -> int:
    """A shell in the system; what it writes is kept."""
    key = f"{made_of(config_image())}-{image.guest_root().name}"
    upper = cache.root() / "run" / f"upper-{key}.img"
    if os.environ.get("FRESH", "0") not in ("", "0") or not upper.exists():
        cache.say("a new, empty upper layer")
        make_upper(upper)
    else:
        cache.say("going on with the upper layer of the last time (FRESH=1 starts over)")
    result = run(Machine(kernel=kernel(), module=module(), disks=layers(upper),
                         root_script=HERE / "root.sh",
                         files={"layers.sh": HERE / "layers.sh"}, interactive=True,
                         env={"ROVL_FSTYPE": file_system_type(), "JOB": "/bin/bash -l"}))
    if result.outcome is not Outcome.FINISHED:
        cache.say("the machine was switched off")
    if result.splats:
        print(result.explain(), file=sys.stderr)
    return 1 if result.splats else 0


# --- Without a terminal ----------------------------------------------------------------

def boot(name: str, outputs: Path, disks: list[Disk], *, stacked_root: bool,
         show: bool = True, timeout: float = 2400) -> Result:
    """One boot that does the job ``name`` of job.sh; what it wrote is in ``outputs``."""
    cache.say(f"boot: {name}")
    result = run(Machine(
        kernel=kernel(), job=HERE / "job.sh", module=module(), disks=disks, out=outputs, timeout=timeout,
        root_script=HERE / "root.sh" if stacked_root else None,
        files={"layers.sh": HERE / "layers.sh", "session.sh": HERE / "session.sh",
               "manifest": manifest_program()},
        env={"BOOT": name, "ROVL_FSTYPE": file_system_type()},
        log=outputs.parent / f"{name}.console",
        output=_show if show else None))
    if result.outcome is not Outcome.FINISHED or result.status != 0:
        if not show:
            _show(result.output)
        raise Failed(f"boot {name}: {result.outcome.value}, status {result.status}\n"
                     f"{result.explain()}")
    cache.say(f"boot: {name}: done in {result.seconds:.0f} s")
    return result


def _show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def plain_image() -> Path:
    """The layers as one plain ext4, made once."""
    def build(where: Path) -> None:
        with cache.step("the same tree on a plain ext4, for comparison: 500 MB, a minute"):
            disk = where / "plain.img"
            with open(disk, "wb") as handle:
                handle.truncate(_PLAIN_SIZE)
            boot("prepare", where / "out", [*layers(disk)[:2], Disk("plain", disk)],
                 stacked_root=False)

    key = made_of(config_image())
    return cache.build_once(cache.root() / "run" / f"plain-{key}-{image.guest_root().name}",
                            build) / "plain.img"


class Checks:
    """Says what was found, and counts what is not as it should be."""

    def __init__(self, outputs: Path) -> None:
        self._outputs = outputs
        self.failed = 0

    def same(self, what: str, one: str, other: str, *, sessions: bool = False) -> None:
        """Two trees agree; ``sessions`` if each comes of its own session."""
        trees = [compare.Tree.read(self._outputs / f"{name}.tree") for name in (one, other)]
        if sessions:
            trees = [tree.without_session_times(self._started(tree.name)) for tree in trees]
        self._result(f"{what} ({len(trees[0].entries)} names)", compare.differences(*trees))

    def nothing_left(self, names: list[str]) -> None:
        """Work directories were empty."""
        left = [f"{name}: {line}" for name in names
                for line in (self._outputs / f"{name}.left").read_text("utf-8").splitlines()]
        self._result("nothing is left in the work directories", left)

    def clean_logs(self, results: list[Result]) -> None:
        """No kernel had anything to report."""
        reports = [result.explain() for result in results if result.splats]
        self._result(f"the logs of {len(results)} boots have no kernel report", reports)

    def _result(self, what: str, faults: list[str]) -> None:
        self.failed += bool(faults)
        print(f"{'FAIL' if faults else 'ok  '}  {what}", flush=True)
        for line in faults[:_SHOWN]:
            print(f"      {line}")
        if len(faults) > _SHOWN:
            print(f"      and {len(faults) - _SHOWN} more")

    def _started(self, name: str) -> float:
        return float((self._outputs / f"{name}.started").read_text(encoding="ascii"))


def boot_all(work: Path, outputs: Path) -> list[Result]:
    """All the boots of the session, two at a time."""
    plain = plain_image()
    upper, second = work / "upper.img", work / "second.img"
    make_upper(upper)
    make_upper(second)
    written_by_overlay = [*layers(upper)[:2], Disk("second", second)]
    with ThreadPoolExecutor(max_workers=1) as beside:
        try:
            reference = beside.submit(
                boot, "reference", outputs,
                [*written_by_overlay, Disk("plain", plain, discard_writes=True)],
                stacked_root=False, show=False)
            results = [boot("session", outputs, layers(upper), stacked_root=True),
                       boot("again", outputs, layers(upper), stacked_root=True)]
            cache.say("waiting for the same session on a plain ext4 and on overlay")
            results.append(reference.result())
        except BaseException:
            machine.kill_all()
            raise
    results.append(boot("cross", outputs, [*layers(upper), Disk("second", second)],
                        stacked_root=False))
    return results


def session() -> int:
    """The session and its checks; 0 if all is as it should be."""
    start = time.monotonic()
    fstype = file_system_type()
    work = cache.root() / "run" / "session"
    shutil.rmtree(work, ignore_errors=True)
    outputs = work / "out"
    outputs.mkdir(parents=True)
    results = boot_all(work, outputs)

    print(f"\nThe session with {fstype} as the root file system:\n")
    checks = Checks(outputs)
    checks.same(f"{fstype} has the same tree as a plain ext4", "stack", "plain", sessions=True)
    checks.same(f"{fstype} has the same tree after a reboot", "stack", "again")
    checks.same(f"overlay shows what {fstype} wrote as the same tree", "stack", "as-overlay")
    checks.same(f"{fstype} shows what overlay wrote as the same tree", "overlay",
                "after-overlay")
    checks.same("overlay, for comparison, has the same tree as a plain ext4", "overlay",
                "plain", sessions=True)
    checks.nothing_left(["stack", "again", "as-overlay", "after-overlay"])
    checks.clean_logs(results)
    seconds = time.monotonic() - start
    verdict = f"{checks.failed} checks failed" if checks.failed else "all checks passed"
    print(f"\n{verdict}, {seconds:.0f} s; the trees are in {outputs}")
    return 1 if checks.failed else 0


def main() -> int:
    try:
        if sys.stdin.isatty() and sys.stdout.isatty():
            return shell()
        return session()
    except (ImageError, Failed) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        cache.say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
