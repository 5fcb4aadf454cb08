# SPDX-License-Identifier: GPL-2.0
"""Chooses between KVM and TCG.

/dev/kvm may be there and even create a machine, and the guest still hangs at some
instruction (nested virtualisation, seccomp).  So a guest is booted with KVM once,
to a program of the real root, and the answer is remembered for this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import cache, image

_PROBE_SECONDS = 40


def choose(asked: str, kernel: image.Kernel,
           works: Callable[[image.Kernel, float], bool]) -> str:
    """``kvm``, ``tcg`` or ``icount``; ``auto`` takes what ACCEL says, or else what works.

    ``icount`` is TCG with a clock that counts instructions, one a nanosecond: what is
    measured in the guest does not depend on the host's load. It is slower, since one
    thread runs all processors. ``works`` boots a guest with KVM, for so many seconds at
    most.
    """
    if asked == "auto":
        asked = os.environ.get("ACCEL") or "auto"
    if asked in ("kvm", "tcg", "icount"):
        return asked
    if asked != "auto":
        raise image.ImageError(f"ACCEL is kvm, tcg or icount, not {asked}")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    if kernel.name == "custom":     # may be broken: the answer must not be its fault
        kernel = image.kernel("stock")
    memory = cache.root() / "vm" / "accel.json"
    key = _this_machine()
    answers = _read(memory)
    if key not in answers:
        with cache.lock("accel"):
            answers = _read(memory)
            if key not in answers:
                answers[key] = "kvm" if _probe(kernel, works) else "tcg"
                memory.write_text(json.dumps(answers, indent=1), encoding="ascii")
    return answers[key]


def _read(memory: Path) -> dict[str, str]:
    try:
        return dict(json.loads(memory.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return {}


def _this_machine() -> str:
    """What the answer depends on: host kernel, processor, QEMU."""
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], check=False,
                          capture_output=True, text=True).stdout
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "flags")):
            model += line
    return hashlib.sha256(f"{platform.release()} {model} {qemu}".encode()).hexdigest()[:16]


def _probe(kernel: image.Kernel, works: Callable[[image.Kernel, float], bool]) -> bool:
    with cache.step(f"does KVM work here? one boot, at most {_PROBE_SECONDS} s"):
        it_does = works(kernel, _PROBE_SECONDS)
    cache.say(f"KVM {'works' if it_does else 'does not work here'}: "
              f"guests run with {'KVM' if it_does else 'TCG'}")
    return it_does
