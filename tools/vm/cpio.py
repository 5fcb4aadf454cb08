# SPDX-License-Identifier: GPL-2.0
"""Writes the archives that the kernel unpacks as its first root.

The "newc" format of Documentation/driver-api/early-userspace/buffer-format.rst.
Several archives behind each other are one file system to the kernel, which is how
a job joins the initramfs that is cached per kernel.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class Archive:
    """An archive in memory; everything in it belongs to root."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._names: set[str] = set()

    def directory(self, name: str) -> None:
        """Adds a directory and the ones above it, unless they are there."""
        if not name or name in self._names:
            return
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Adds a regular file."""
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        """Adds a symbolic link."""
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def tree(self, name: str, source: Path) -> None:
        """Adds a file, or a directory with all that is in it."""
        if source.is_symlink():
            self.symlink(name, os.readlink(source))
        elif source.is_dir():
            self.directory(name)
            for child in sorted(source.iterdir()):
                self.tree(f"{name}/{child.name}", child)
        else:
            self.file(name, source.read_bytes(), source.stat().st_mode & 0o777)

    def finish(self) -> bytes:
        """The archive, closed and padded so that another may follow."""
        self._entry("TRAILER!!!", 0, b"")
        self._data += b"\0" * (-len(self._data) % 512)
        return bytes(self._data)

    def _entry(self, name: str, mode: int, content: bytes) -> None:
        if name in self._names:
            raise ValueError(f"{name} is in the archive twice")
        self._names.add(name)
        encoded = name.encode() + b"\0"
        fields = (len(self._names), mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0,
                  len(encoded), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields)
        self._data += encoded
        self._data += b"\0" * (-len(self._data) % 4)
        self._data += content
        self._data += b"\0" * (-len(self._data) % 4)
