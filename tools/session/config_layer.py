# SPDX-License-Identifier: GPL-2.0
"""The small layer between the Debian system and what is written in the guest.

It configures the system, and has one of everything that a layer can say about the
layers below it: a file over a file, a new file, a whiteout in both forms, an opaque
directory.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from vm import image

# A fixed time: the image is the same whenever it is made.
TIME = 1767225600

_MOTD = """
  This is Debian 13, and its root is a stack of three layers:

      /run/layers/upper/upper   what you write, on ext4
      /run/layers/config        a few settings, erofs, read-only
      /run/layers/debian        the system, erofs, read-only

  Write, delete, install packages (some are in /var/cache/rovl-debs): the lower
  layers stay as they are, and what you did is there next time (`make run FRESH=1`
  starts over).  `exit` ends the machine, and so does Ctrl-A X.

"""

_PROFILE = r"""# Sourced by login shells in the guest of `make run`.
PS1="\[\e[1m\]\u@\h\[\e[0m\] [/ on $(awk '$2 == "/" { t = $3 } END { print t }' /proc/mounts)] \w \$ "
alias ls='ls --color=auto'
[ -t 1 ] && cat /etc/motd
"""

_FILES = {
    "etc/fstab": "# The root is mounted by the runner: tools/session/root.sh\n",
    "etc/hostname": "rovl\n",
    "etc/hosts": "127.0.0.1 localhost rovl\n",
    "etc/motd": _MOTD,
    "etc/profile.d/rovl.sh": _PROFILE,
    "usr/share/lintian/README": "This directory is opaque: what Debian has here is hidden.\n",
}

# Hidden by the layer: what the runner needs in the image but nobody in the guest.
_WHITEOUTS = ("job", "out")
# In the form that needs no device: an empty file in a directory that is marked.
_XATTR_WHITEOUTS = ("usr/share/bug/file",)
_OPAQUE = "usr/share/lintian"


def build(target: Path) -> None:
    """Makes the erofs image ``target``."""
    archive_path = target.with_suffix(".tar")
    with tarfile.open(archive_path, "w", format=tarfile.PAX_FORMAT) as archive:
        directories: set[str] = set()
        for name in (*_FILES, *_WHITEOUTS, *_XATTR_WHITEOUTS):
            _parents(archive, name, directories)
            if name in _FILES:
                _add(archive, name, tarfile.REGTYPE, content=_FILES[name].encode())
            elif name in _WHITEOUTS:
                _add(archive, name, tarfile.CHRTYPE, mode=0)
            else:
                _add(archive, name, tarfile.REGTYPE, mode=0,
                     xattrs={"trusted.overlay.whiteout": "y"})
    image.erofs_from_tar(archive_path, target)
    archive_path.unlink()


def _parents(archive: tarfile.TarFile, name: str, done: set[str]) -> None:
    parts = name.split("/")[:-1]
    for depth in range(len(parts) + 1):
        directory = "/".join(parts[:depth]) or "."
        if directory in done:
            continue
        done.add(directory)
        xattrs = {}
        if directory == _OPAQUE:
            xattrs["trusted.overlay.opaque"] = "y"
        elif any(Path(path).parent == Path(directory) for path in _XATTR_WHITEOUTS):
            xattrs["trusted.overlay.opaque"] = "x"
        _add(archive, directory, tarfile.DIRTYPE, mode=0o755, xattrs=xattrs)


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int = 0o644,
         content: bytes = b"", xattrs: dict[str, str] | None = None) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    entry.mtime = TIME
    entry.size = len(content)
    entry.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    archive.addfile(entry, io.BytesIO(content))
