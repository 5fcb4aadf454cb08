# SPDX-License-Identifier: GPL-2.0
"""Boots a kernel in QEMU with a job to do, and says what came of it.

    from vm import Disk, Machine, run
    result = run(Machine(kernel="stock", job=Path("test.sh"), module=Path("rovl.ko"),
                         disks=[Disk("scratch", size=3 << 30)]))
    if not result.ok:
        print(result.explain())

The parts: ``cache`` (what is kept between runs), ``image`` (root image, modules and
initramfs), ``machine`` (QEMU and its supervision), ``accel`` (KVM or TCG), ``splat``
(reports in the kernel's log), ``init.sh`` and ``guest.sh`` (what runs in the guest).
"""

from .image import ImageError
from .machine import Disk, Machine, Outcome, Result, choose_accelerator, kill_all, run
from .splat import Splat

__all__ = ["Disk", "ImageError", "Machine", "Outcome", "Result", "Splat",
           "choose_accelerator", "kill_all", "run"]
