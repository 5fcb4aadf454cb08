# SPDX-License-Identifier: GPL-2.0
"""The series that tools/intree makes: what is in which patch.

After the last patch fs/rovl has the files of this checkout, the same byte by byte but for the
Makefile, which loses what is for building out of the tree. On the way there
the two files that declare modules, the crate root and vfs/mod.rs, have those whose uses are
there: the files of vfs/ use each other, as those of fs/ do, and are compiled from the patch on
that has the last of them; the rooms above them when they are tied to the filesystem type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = "rust_overlay.rs"
VFS = "vfs/mod.rs"
SELFTESTS = "tools/testing/selftests/filesystems/rovl"
DOCS = "Documentation/filesystems"
TOUCHED = ["fs/Kconfig", "fs/Makefile", "MAINTAINERS", f"{DOCS}/index.rst",
           "tools/testing/selftests/Makefile"]
# What of Documentation/ is about the filesystem, and not about this project.
DOCUMENTS = ["rovl", "format", "security", "architecture", "containers"]


@dataclass
class Patch:
    title: str
    text: str
    # Of the checkout, to fs/rovl.
    files: list[str]
    # Modules of vfs/ and of the crate root that are compiled from here on; None: all.
    vfs: list[str] | None
    rooms: list[str] | None


FIRST = ["bindings", "completion", "flags", "layout", "params", "task"]

PATCHES = [
    Patch("rovl: add the module, and its bindings of the VFS", """
rovl is a stacking filesystem in Rust. This is a module that does nothing yet
but to compare, when it is loaded, how C and Rust lay out the structures that
it is going to share with the VFS.

bindgen is run on what kernel::bindings lacks; all types that it has are used
from there, so that there is one struct inode. vfs/helpers.c has names for
static inlines, as rust/helpers does.
""", ["Kbuild", "Kconfig", ROOT, VFS, "vfs/*.c", "vfs/*.h", "vfs/bindgen_parameters",
      *(f"vfs/{name}.rs" for name in FIRST)], FIRST, ["vfs"]),
    Patch("rovl: vfs: superblocks, inodes, dentries and mounts", """
One Rust type for each C object, with the kernel's own names. What is counted is
an ARef, what is not published yet is another type than what is.

These files use those of the patches that follow, as their C counterparts do,
and are compiled from the one on that has the operations.
""", ["vfs/attr.rs", "vfs/cred.rs", "vfs/dentry.rs", "vfs/idmap.rs", "vfs/in_use.rs",
      "vfs/inode.rs", "vfs/mount.rs", "vfs/sget.rs", "vfs/super_block.rs"], FIRST, ["vfs"]),
    Patch("rovl: vfs: the order of the locks, as types", """
Each lock that is taken is a guard that borrows the context which the VFS's call
came with. What must not be done under a lock needs a context that is not
borrowed: it does not compile otherwise.
""", ["vfs/export.rs", "vfs/lock.rs", "vfs/namei.rs"], FIRST, ["vfs"]),
    Patch("rovl: vfs: files, directories that are read, and attributes", """
Open files of other filesystems, through the kernel's backing files; xattrs,
ACLs, inode flags.
""", ["vfs/acl.rs", "vfs/file.rs", "vfs/fileattr.rs", "vfs/iterate.rs", "vfs/readdir.rs",
      "vfs/seq.rs", "vfs/trace.rs", "vfs/xattr.rs"], FIRST, ["vfs"]),
    Patch("rovl: vfs: tables of operations", """
A trait of safe operations for each table of C functions. The functions that the
VFS calls are private to these files. With them vfs/ is whole and
compiled; vfs/tests.rs are its KUnit tests.
""", ["vfs/*.rs"], None, ["vfs"]),
    Patch("rovl: format: the marks of overlayfs, parsed and written", """
What overlayfs has on disk. It uses nothing but core, and trusts no byte.
""", ["format/*.rs"], None, ["format", "vfs"]),
    Patch("rovl: layers, inodes, whiteouts and listings", """
What the overlay's own objects stand for. The filesystem type is a name here; it
is tied to what its objects keep by the last patch, with which these files
and those of the next ones are compiled.
""", ["layers.rs", "listing.rs", "private.rs", "inode.rs", "whiteout.rs"], None,
          ["format", "vfs"]),
    Patch("rovl: lookup: one name through all the layers", """
Names that may change below are looked up again; those that cannot are walked
under RCU.
""", ["lookup.rs", "lookup/*.rs"], None, ["format", "vfs"]),
    Patch("rovl: copyup: copy without a name and without a lock", """
The copy is made without a name, its data moved with no lock of the upper
filesystem held, and it gets its name when it is whole. One copy is made,
however many ask for it.
""", ["copyup.rs", "copyup/*.rs"], None, ["format", "vfs"]),
    Patch("rovl: attributes, xattrs and files", """
What is done to one object: permission, stat, setattr, extended attributes, open
and I/O through backing files.
""", ["attributes.rs", "xattr.rs", "file.rs"], None, ["format", "vfs"]),
    Patch("rovl: merged directories, and changes of names", """
readdir of what several layers have; create, link, unlink, rename, tmpfile.
""", ["readdir.rs", "namespace.rs", "namespace/*.rs"], None, ["format", "vfs"]),
    Patch("rovl: mount it", """
Options to a configuration to a stack of layers, with errors that name the
layer; then the filesystem type is registered.
""", ["mount.rs", "mount/*.rs", "super_block.rs"], None, None),
    Patch("Documentation: filesystems: add rovl", """
How to mount it, what is on disk, who trusts whom, and how it is built.
""", [], None, None),
    Patch("selftests: filesystems: add those of rovl", """
One program in Rust, with KTAP as output, which cargo builds from crates that are
named in Cargo.lock.
""", [], None, None),
]

COVER_TITLE = "rovl: a stacking filesystem that copies up without holding locks"
COVER = """
rovl shows one writable tree: an upper directory over read-only lower ones. On disk
and in its options it is as overlayfs. Its data of a copy-up moves with no lock of
the upper filesystem held; Documentation/filesystems/rovl-architecture.rst has the
protocol. It is a filesystem in safe Rust over safe wrappers of the VFS (vfs/), and only
they have unsafe code.

Each patch compiles. The files of vfs/ use each other as those of fs/ do, so patches 2 to
4 add files that are compiled from patch 5 on; those of patches 7 to 11 from patch 12 on,
where the filesystem type gets its operations.

What a maintainer may want elsewhere:

* vfs/ is written to become kernel::fs; vfs/bindings.h and vfs/bindgen_parameters would
  then go to rust/bindings, vfs/helpers.c to rust/helpers. Until then they are
  here, so that the series touches nothing of rust/.
* vfs/compat.rs and vfs/compat.h also know the kernel before 7.3, as the module is built
  out of the tree, too.
* checkpatch.pl --strict says of patch 1 what it says of all tracepoints (six times each "Lines
  should not end with a '('" and "Alignment should match open parenthesis"); of several that
  MAINTAINERS may need an update, which patch 1 has for all of them; of patch 13 that "fails
  fails" is a word too many (who fails does not make others fail); and of patch 14 lines
  over 100 columns in calls of macros, which rustfmt leaves alone.
* The selftests need cargo and crates from a registry (or vendored).
"""


def in_fs_rovl(path: str) -> str:
    """The place in the tree of a file that goes to fs/rovl."""
    return "fs/rovl/" + ("Makefile" if path == "Kbuild" else path)


def without_extmod(text: str) -> str:
    """The Makefile without what is for building out of the tree, and the comment over it."""
    return re.sub(r"(?:^#[^\n]*\n)*^ifdef KBUILD_EXTMOD\n(?:ifeq.*?^endif\n|(?!endif)[^\n]*\n)*?"
                  r"^endif\n\n?", "", text, flags=re.MULTILINE | re.DOTALL)


def declare(text: str, modules: list[str] | None) -> str:
    """The file with `mod` for these modules only, and `use` of them."""
    if modules is None:
        return text

    def kept(found: re.Match[str]) -> str:
        return found[0] if found[1] in modules else ""
    text = re.sub(r"^(?:pub\(crate\) )?mod (\w+);\n", kept, text, flags=re.MULTILINE)
    return re.sub(r"^pub\(crate\) use (\w+)::[^;]*;\n", kept, text, flags=re.MULTILINE)


def vfs_root(text: str, modules: list[str] | None) -> str:
    return re.sub(r"\n{3,}", "\n\n", declare(text, modules))


def crate_root(text: str, rooms: list[str] | None) -> str:
    """The crate root when only these rooms are there: a module that checks the layout."""
    if rooms is None:
        return text
    head, module = text.split("module! {", 1)
    head = re.sub(r"^//! \* \[`(?:mod@)?(\w+)`\](?:(?!\n//! \* |\n//!\n|\n\n).)*\n",
                  lambda m: m[0] if m[1] in rooms else "", head,
                  flags=re.MULTILINE | re.DOTALL)
    head = re.sub(r"^use (?:layers|vfs)::[^;]*;\n", "", head, flags=re.MULTILINE)
    head = declare(head, rooms)
    head = head.replace("#![deny(unsafe_code)]\n",
                        "#![deny(unsafe_code)]\n// What uses it comes with the patches that "
                        "follow.\n#![allow(dead_code, unused_imports)]\n")
    head = re.sub(r"\n{3,}", "\n\n", head)
    module = module.split("\nstruct RovlModule {", 1)[0]
    return head + "module! {" + module + """
struct RovlModule;

impl kernel::Module for RovlModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        vfs::layout::check()?;
        Ok(Self)
    }
}
"""


def after(text: str, line: str, new: str) -> str:
    """`new` after `line`, which is there once."""
    if text.count(line) != 1:
        raise ValueError(f"not once in the kernel source: {line!r}")
    return text.replace(line, line + new)


def maintainers(text: str, who: str) -> str:
    """With an entry where its title belongs."""
    entry = ("ROVL STACKING FILESYSTEM\n"
             f"M:\t{who}\nL:\tlinux-fsdevel@vger.kernel.org\nL:\trust-for-linux@vger.kernel.org\n"
             "S:\tMaintained\n"
             f"F:\t{DOCS}/rovl*.rst\nF:\tfs/rovl/\nF:\t{SELFTESTS}/\n\n")
    for found in re.finditer(r"^([^\n\t]+)\n(?=[A-Z]:\t)", text, re.MULTILINE):
        if found[1].upper() > "ROVL" and found.start() > text.index("\nRADOS BLOCK"):
            return text[:found.start()] + entry + text[found.start():]
    raise ValueError("no place in MAINTAINERS")


def document_name(name: str) -> str:
    return "rovl.rst" if name == "rovl" else f"rovl-{name}.rst"


def document(text: str) -> str:
    """With the names that the documents have in the tree."""
    for name in DOCUMENTS:
        text = re.sub(rf"(?<![\w/.-])(?:``{name}\.rst``|{name}\.rst\b)",
                      f"{DOCS}/{document_name(name)}", text)
    return text


SELFTESTS_MAKEFILE = """# SPDX-License-Identifier: GPL-2.0

TEST_GEN_PROGS := rovl_tests
TEST_FILES := README.rst

include ../../lib.mk

CARGO ?= cargo

$(OUTPUT)/rovl_tests: $(shell find src -name '*.rs') Cargo.toml Cargo.lock
\t$(CARGO) build --release --locked --target-dir $(OUTPUT)/target
\tcp $(OUTPUT)/target/release/rovl_tests $@
"""
SELFTESTS_CONFIG = "CONFIG_RUST=y\nCONFIG_ROVL_FS=m\nCONFIG_OVERLAY_FS=m\nCONFIG_FUSE_FS=y\n"


def states(top: Path, tree: Path, who: str) -> Iterator[tuple[Patch, dict[str, str]]]:
    """For each patch the files that it makes or changes."""
    def source(name: str) -> str:
        return (top / name).read_text(encoding="utf-8")

    for number, patch in enumerate(PATCHES):
        files = {}
        for pattern in patch.files:
            found = sorted(top.glob(pattern))
            if not found:
                raise ValueError(f"no such file: {pattern}")
            for path in found:
                name = path.relative_to(top).as_posix()
                files[in_fs_rovl(name)] = source(name)
        files[in_fs_rovl(ROOT)] = crate_root(source(ROOT), patch.rooms)
        files[in_fs_rovl(VFS)] = vfs_root(source(VFS), patch.vfs)
        if number == 0:
            files[in_fs_rovl("Kbuild")] = without_extmod(source("Kbuild"))
            old = {name: (tree / name).read_text(encoding="utf-8") for name in TOUCHED}
            files["fs/Kconfig"] = after(old["fs/Kconfig"], 'source "fs/overlayfs/Kconfig"\n',
                                        'source "fs/rovl/Kconfig"\n')
            files["fs/Makefile"] = after(old["fs/Makefile"],
                                         "obj-$(CONFIG_OVERLAY_FS)\t+= overlayfs/\n",
                                         "obj-$(CONFIG_ROVL_FS)\t\t+= rovl/\n")
            files["MAINTAINERS"] = maintainers(old["MAINTAINERS"], who)
        elif patch.title.startswith("Documentation"):
            for name in DOCUMENTS:
                files[f"{DOCS}/{document_name(name)}"] = document(
                    source(f"Documentation/{name}.rst"))
            entries = "".join(f"   {document_name(n)[:-4]}\n" for n in
                              ["rovl", *sorted(DOCUMENTS[1:])])
            index = (tree / f"{DOCS}/index.rst").read_text(encoding="utf-8")
            files[f"{DOCS}/index.rst"] = after(index, "   romfs\n", entries)
        elif patch.title.startswith("selftests"):
            for path in sorted((top / "selftests" / "src").rglob("*")):
                if path.is_file():
                    name = path.relative_to(top / "selftests").as_posix()
                    files[f"{SELFTESTS}/{name}"] = source(f"selftests/{name}")
            for name in ("Cargo.toml", "Cargo.lock", "README.rst"):
                files[f"{SELFTESTS}/{name}"] = source(f"selftests/{name}")
            files[f"{SELFTESTS}/Makefile"] = SELFTESTS_MAKEFILE
            files[f"{SELFTESTS}/config"] = SELFTESTS_CONFIG
            files[f"{SELFTESTS}/.gitignore"] = ("# SPDX-License-Identifier: GPL-2.0\n"
                                                "rovl_tests\ntarget/\n")
            targets = (tree / TOUCHED[4]).read_text(encoding="utf-8")
            files[TOUCHED[4]] = after(targets, "TARGETS += filesystems/overlayfs\n",
                                      "TARGETS += filesystems/rovl\n")
        yield patch, files
