# SPDX-License-Identifier: GPL-2.0
"""Tests of stack.py."""

import unittest

import stack

TEXT = """
rovl.ko:     file format elf64-x86-64


Disassembly of section .text:

0000000000000010 <entry>:
      10:\tf3 0f 1e fa          \tendbr64
      14:\t41 57                \tpush   %r15
      16:\t53                   \tpush   %rbx
      17:\t48 83 ec 40          \tsub    $0x40,%rsp
      1b:\te8 00 00 00 00       \tcall   20 <entry+0x10>
\t\t\t1c: R_X86_64_PLT32\tleaf-0x4
      20:\t48 85 c0             \ttest   %rax,%rax
      23:\t74 05                \tje     2a <entry+0x1a>
      25:\t48 83 c4 40          \tadd    $0x40,%rsp
      29:\t5b                   \tpop    %rbx
      2a:\t41 5f                \tpop    %r15
      2c:\tc3                   \tret
      2d:\te8 00 00 00 00       \tcall   32 <entry+0x22>
\t\t\t2e: R_X86_64_PLT32\t.text+0x5c
      32:\teb ec                \tjmp    20 <entry+0x10>

0000000000000040 <leaf>:
      40:\t48 83 c4 80          \tadd    $0xffffffffffffff80,%rsp
      44:\te8 00 00 00 00       \tcall   49 <leaf+0x9>
\t\t\t45: R_X86_64_PLT32\tdput-0x4
      49:\t48 83 ec 80          \tsub    $0xffffffffffffff80,%rsp
      4d:\tc3                   \tret

0000000000000060 <deep>:
      60:\t48 81 ec 00 01 00 00 \tsub    $0x100,%rsp
      67:\t48 81 c4 00 01 00 00 \tadd    $0x100,%rsp
      6e:\te9 00 00 00 00       \tjmp    73 <deep+0x13>
\t\t\t6f: R_X86_64_PLT32\ttail-0x4

0000000000000080 <tail>:
      80:\t48 81 ec 00 02 00 00 \tsub    $0x200,%rsp
      87:\t48 8d 35 00 00 00 00 \tlea    0x0(%rip),%rsi
\t\t\t8a: R_X86_64_PC32\t.text+0x9c
      8e:\tc3                   \tret

00000000000000a0 <actor>:
      a0:\t50                   \tpush   %rax
      a1:\te8 00 00 00 00       \tcall   a6 <actor+0x6>
\t\t\ta2: R_X86_64_PLT32\t__x86_indirect_thunk_rax-0x4
      a6:\t58                   \tpop    %rax
      a7:\tc3                   \tret

00000000000000c0 <_RNCNvNtC4rovl4list3all0>:
      c0:\t48 83 ec 18          \tsub    $0x18,%rsp
      c4:\tc3                   \tret
"""

TABLES = """
RELOCATION RECORDS FOR [.rodata]:
OFFSET           TYPE              VALUE
0000000000000000 R_X86_64_64       entry
0000000000000008 R_X86_64_64       .text+0x00000000000000c0

RELOCATION RECORDS FOR [.debug_info]:
OFFSET           TYPE              VALUE
0000000000000000 R_X86_64_64       leaf
"""

CLOSURE = "_RNCNvNtC4rovl4list3all0"


def found() -> stack.Object:
    objects = stack.parse(TEXT.splitlines())
    stack.parse_tables(TABLES.splitlines(), objects)
    return objects


class Frames(unittest.TestCase):
    def test_pushes_and_what_is_subtracted(self) -> None:
        frames = {f.name: f.frame for f in found().functions.values()}
        self.assertEqual(frames, {"entry": 8 + 16 + 64, "leaf": 8 + 128, "deep": 8 + 256,
                                  "tail": 8 + 512, "actor": 16, CLOSURE: 8 + 24})

    def test_a_block_after_the_return_is_as_deep_as_the_body(self) -> None:
        text = TEXT.replace("call   32", "push   %rax\n      2e:\te8 00 \tcall   32")
        self.assertEqual(stack.parse(text.splitlines()).functions["entry"].frame, 8 + 16 + 64 + 8)

    def test_a_frame_of_unknown_size(self) -> None:
        text = TEXT.replace("sub    $0x100,%rsp", "sub    %rax,%rsp")
        self.assertIn("a frame of unknown size: deep", stack.report(
            stack.parse(text.splitlines()))[1])


class Calls(unittest.TestCase):
    def test_by_name_by_place_and_by_address(self) -> None:
        functions = found().functions
        self.assertEqual(functions["entry"].calls, {"leaf", "deep"})
        self.assertEqual(functions["deep"].tail_calls, {"tail"})
        self.assertEqual(functions["tail"].calls, {"actor"})
        self.assertTrue(functions["actor"].indirect)

    def test_tables(self) -> None:
        self.assertEqual(found().in_tables, {"entry", CLOSURE})


class Depths(unittest.TestCase):
    def test_the_deepest_chain(self) -> None:
        chain = stack.Chains(found()).of("entry")
        self.assertEqual(chain.names, ["entry", "deep", "tail", "actor", CLOSURE])
        # The frame of the one that jumps has gone.
        self.assertEqual(chain.size, 88 + 520 + 16 + 32)

    def test_entries_are_what_nobody_calls(self) -> None:
        self.assertEqual(stack.Chains(found()).entries(), ["entry"])

    def test_recursion_is_named(self) -> None:
        text = TEXT.replace("dput-0x4", "entry-0x4")
        faults = stack.report(stack.parse(text.splitlines()))[1]
        self.assertEqual(faults, ["recursion: entry > leaf"])

    def test_limits(self) -> None:
        text = TEXT.replace("sub    $0x200", "sub    $0xa00")
        faults = stack.report(stack.parse(text.splitlines()))[1]
        self.assertEqual(faults, ["a frame of 2568 bytes: tail",
                                  "a chain of 2672 bytes from entry"])


class Names(unittest.TestCase):
    def test_readable(self) -> None:
        names = {
            "<rust_overlay[7c473117aed02120]::layers::Rovl as "
            "rust_overlay[7c473117aed02120]::vfs::dir_ops::DirOperations>::rename":
            "layers::Rovl::rename",
            "rust_overlay[7c473117aed02120]::namespace::prepare_rename":
            "namespace::prepare_rename",
            "<rust_overlay[7c473117aed02120]::vfs::dir_ops::Table<"
            "rust_overlay[7c473117aed02120]::layers::Rovl>>::rename":
            "vfs::dir_ops::Table::rename",
        }
        self.assertEqual({n: stack.shorten(n) for n in names}, names)


if __name__ == "__main__":
    unittest.main()
