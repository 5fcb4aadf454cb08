# SPDX-License-Identifier: GPL-2.0
"""python3 -m unittest discover -s tools/vm"""

import re
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vm import splat  # noqa: E402

REPORTS = """\
WARNING: CPU: 0 PID: 71 at fs/namei.c:12 vfs_link+0x1/0x2
WARNING: fs/inode.c:417 at drop_nlink+0x4e/0x60, CPU#1: rm/88
WARNING: possible circular locking dependency detected
WARNING: possible recursive locking detected
WARNING: inconsistent lock state
WARNING: suspicious RCU usage
WARNING: held lock freed!
WARNING: lock held when returning to user space!
BUG: kernel NULL pointer dereference, address: 0000000000000008
BUG: KASAN: slab-use-after-free in foo+0x1/0x2
BUG: KCSAN: data-race in a / b
BUG: Dentry 00000000ffffffff{i=2,n=x}  still in use (1) [unmount of rovl rovl]
BUG: scheduling while atomic: mount/12/0x00000002
BUG: sleeping function called from invalid context at kernel/locking/rwsem.c:1
BUG kmalloc-64 (Tainted: G           O): Redzone overwritten
Oops: Oops: 0000 [#1] SMP PTI
general protection fault, probably for non-canonical address 0xdead: 0000 [#1]
kernel BUG at fs/dcache.c:1!
Kernel panic - not syncing: Fatal exception
UBSAN: array-index-out-of-bounds in fs/x.c:1:2
refcount_t: underflow; use-after-free.
rust_kernel: panicked at copyup.rs:12:3:
INFO: task mv:123 blocked for more than 120 seconds.
watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cp:12]
rcu: INFO: rcu_preempt self-detected stall on CPU
VFS: Busy inodes after unmount of rovl (rovl)
kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
unreferenced object 0xffff888004c0a000 (size 192):
list_del corruption. prev->next should be x, but was y
"""

HARMLESS = """\
Linux version 7.3.4 (gcc) #1 SMP PREEMPT_DYNAMIC
Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible
traps: a.out[412] trap invalid opcode ip:401000 sp:7ffe error:0 in a.out
rovl: no upper layer, the mount is read-only
Lockdep warning: none
rovl: loading out-of-tree module taints kernel.
x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'
EXT4-fs (vda): mounted filesystem r/w with ordered data mode. Quota mode: none.
kmemleak: Kernel memory leak detector initialized (mem pool available: 15679)
Debug: DEBUG_LOCKS enabled
"""


def stamped(text: str, stamp: str = "[   12.345678] ") -> str:
    return "".join(f"{stamp}{line}\n" for line in text.splitlines())


class Detector(unittest.TestCase):
    def test_each_report_is_found(self) -> None:
        for line in REPORTS.splitlines():
            with self.subTest(line):
                found = splat.find(stamped(line))
                self.assertEqual([splat_.title for splat_ in found], [line])

    def test_with_the_caller_in_the_stamp(self) -> None:
        for stamp in ("[    0.000001][    T1] ", "[  100.000001][  C0] ", "<4>[    1.0] "):
            with self.subTest(stamp):
                self.assertEqual(len(splat.find(stamped("Oops: 0000 [#1]", stamp))), 1)

    def test_harmless_lines(self) -> None:
        self.assertEqual(splat.find(stamped(HARMLESS)), [])

    def test_what_a_program_prints_is_no_report(self) -> None:
        self.assertEqual(splat.find(REPORTS), [])

    def test_one_report_for_one_oops(self) -> None:
        oops = ("BUG: unable to handle page fault for address: 0\n"
                "Oops: 0002 [#1] SMP\n" + "call trace\n" * 20 + "---[ end trace 0 ]---\n")
        log = stamped("before\n" + oops + "after\n" + oops)
        found = splat.find(log)
        self.assertEqual(len(found), 2)
        self.assertIn("before", found[0].context)
        self.assertNotIn("after", found[0].context)

    def test_allowed(self) -> None:
        log = stamped("WARNING: known\n" + "x\n" * 60 + "WARNING: new\n")
        found = splat.find(log, [re.compile("^WARNING: known$")])
        self.assertEqual([splat_.title for splat_ in found], ["WARNING: new"])

    def test_allow_list_wants_a_reason(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "allow"
            path.write_text("# reason\n^a$\n", encoding="ascii")
            self.assertEqual(len(splat.allow_list(path)), 1)
            path.write_text("# reason\n^a$\n^b$\n", encoding="ascii")
            with self.assertRaises(ValueError):
                splat.allow_list(path)


if __name__ == "__main__":
    unittest.main()
