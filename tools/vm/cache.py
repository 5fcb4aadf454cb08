# SPDX-License-Identifier: GPL-2.0
"""The cache directory, and how something is put into it once.

Everything that takes long to make lives in ``${ROVL_CACHE:-~/.cache/rovl}`` and is
keyed by what went into it.  A thing is built next to its final place and renamed,
so an interrupted build leaves nothing that looks finished, and a lock makes a
second process wait for the first instead of building it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Iterator


def root() -> Path:
    """The cache shared by all checkouts."""
    configured = os.environ.get("ROVL_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "rovl"


def say(text: str) -> None:
    """One line of progress for the person who waits."""
    print(f"[vm] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announces a long step, shows that it goes on, and says how long it took."""
    say(f"{what} ...")
    start = time.monotonic()
    over = threading.Event()
    ticker = threading.Thread(target=_tick, args=(over, start), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
    say(f"  done in {time.monotonic() - start:.0f} s")


def _tick(over: threading.Event, start: float) -> None:
    """On a terminal the seconds, elsewhere a line every minute."""
    terminal = sys.stderr.isatty()
    while not over.wait(1 if terminal else 60):
        seconds = time.monotonic() - start
        if terminal:
            print(f"\r  {seconds:.0f} s", end="", file=sys.stderr, flush=True)
        else:
            say(f"  still at it after {seconds:.0f} s")
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Holds the named lock of the cache."""
    directory = root() / "vm" / "locks"
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / name, "w", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """The directory ``target``, made by ``build`` the first time it is asked for."""
    if target.is_dir():
        return target
    with lock(target.name):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + ".unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir()
        build(unfinished)
        unfinished.rename(target)
    return target


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """A directory for one run: scratch disks and channels, gone afterwards.

    A run that was killed leaves its directory; the next run recognises it by its
    lock, which nobody holds any more, and removes it.
    """
    runs = root() / "vm" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with lock("runs"):
        _sweep(runs)
        directory = Path(tempfile.mkdtemp(dir=runs))
        handle = open(directory / "lock", "w", encoding="ascii")
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        handle.close()


def prune(keep: set[Path]) -> None:
    """Removes images that nothing of this checkout uses. What a person wrote in
    `make run` stays."""
    runs = root() / "vm" / "runs"
    if runs.is_dir():
        _sweep(runs)
    keep |= {runs, root() / "vm" / "locks"}
    for directory in (root() / "guest", root() / "vm"):
        for old in sorted(directory.iterdir()) if directory.is_dir() else []:
            if old.is_dir() and old not in keep:
                say(f"removing {old}")
                shutil.rmtree(old)


def _sweep(runs: Path) -> None:
    for old in runs.iterdir():
        try:
            with open(old / "lock", "r+", encoding="ascii") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError:
            pass
        shutil.rmtree(old, ignore_errors=True)
