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
import tempfile
from pathlib import Path

from . import cache, image

_PROBE_SECONDS = 40


def choose(asked: str, kernel: image.Kernel) -> str:
    """``kvm``, ``tcg`` or ``icount``; ``auto`` takes what ACCEL says, or else what works.

    ``icount`` is TCG with a clock that counts instructions, one a nanosecond: what is
    measured in the guest does not depend on the host's load. It is slower, since one
    thread runs all processors.
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
                answers[key] = "kvm" if _works(kernel) else "tcg"
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


def _works(kernel: image.Kernel) -> bool:
    from . import machine

    with tempfile.TemporaryDirectory() as directory:
        job = Path(directory) / "job"
        # glibc's string functions use the newest instructions the processor names.
        job.write_text("#!/bin/bash\nls -l /usr/bin | sort | grep -q bash\n", encoding="ascii")
        with cache.step(f"does KVM work here? one boot, at most {_PROBE_SECONDS} s"):
            result = machine.run(machine.Machine(
                kernel=kernel.name, job=job, accel="kvm",
                timeout=_PROBE_SECONDS, idle=_PROBE_SECONDS, kmemleak=False))
    cache.say(f"KVM {'works' if result.ok else 'does not work here'}: "
              f"guests run with {'KVM' if result.ok else 'TCG'}")
    return result.ok
