# SPDX-License-Identifier: GPL-2.0
"""What a guest boots: its root image, a kernel with modules, and the initramfs."""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import cache, cpio

HERE = Path(__file__).resolve().parent

RELEASE = "trixie"

PACKAGES = tuple((
    "acl attr bzip2 btrfs-progs checkpolicy cpio dmsetup e2fsprogs erofs-utils file fuse3 gcc kmod "
    "jfsutils less libarchive-tools libc6-dev make mount procps psmisc quota rsync squashfs-tools "
    "strace unzip util-linux xfsprogs xz-utils zip"
).split())

# Installed and removed by a session in a guest, which has no network.
OFFLINE_PACKAGES = tuple("bc hello nano sl tree".split())
OFFLINE_DIRECTORY = "var/cache/rovl-debs"

# What the larger suites of make check-conformance need besides.
CONFORMANCE_PACKAGES = tuple("dbench fio git postgresql-17 sqlite3 stress-ng".split())
# With what it depends on these are more than a hundred.
CONFORMANCE_OFFLINE = ("libcatalyst-perl",)

# What runs containers, and what is used in its place where only overlay is known.
CONTAINER_PACKAGES = tuple((
    "bubblewrap buildah busybox-static conmon containerd crun docker-cli docker.io fuse-overlayfs "
    "netavark podman runc schroot skopeo systemd-container uidmap"
).split())

# Sources of modules that tests and sessions may need; the rest of Debian's is
# drivers for hardware that no guest has.
MODULE_DIRECTORIES = (
    "arch block crypto fs kernel lib mm net/9p "
    "drivers/block drivers/char drivers/dax drivers/md drivers/nvdimm drivers/virtio"
).split()

# Needed to reach the disks and the first images, before modprobe can work.
EARLY_MODULES = ("virtio_pci", "virtio_blk", "erofs")

BUSYBOX_LINKS = (
    "ash awk basename cat chmod chown cp cut date dd dirname dmesg echo env grep head insmod "
    "ln ls lsmod mkdir mke2fs mknod modprobe mount mv poweroff printf ps readlink reboot rm "
    "rmdir sed seq sh sleep sort stat sync switch_root tail test touch tr umount uname wc"
).split()


class ImageError(Exception):
    """Something that a guest needs cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel; ``modules`` is its /lib/modules directory, if it has one."""

    name: str
    vmlinuz: Path
    modules: Path | None

    @property
    def key(self) -> str:
        """Changes when the kernel does."""
        info = self.vmlinuz.stat()
        text = f"{self.vmlinuz} {info.st_size} {info.st_mtime_ns} {MODULE_DIRECTORIES}"
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def kernel(which: str, series: str = "") -> Kernel:
    """Finds the kernel ``stock``, ``debug``, or in a directory given by path; of another
    series than is asked for in the environment, if need be.

    The directory is either /lib/modules/VERSION as Debian packages it, with vmlinuz
    in it, or a build tree.
    """
    if "/" in which:
        return _kernel_in("custom", Path(which))
    parts = {"stock": "stock/modules", "debug": "debug/build"}
    if which not in parts:
        raise ImageError(f"no kernel is called {which}: stock, debug or a directory")
    answer = subprocess.run([HERE.parent / "env.sh", "path", parts[which]], check=False,
                            capture_output=True, text=True,
                            env={**os.environ, **({"SERIES": series} if series else {})})
    directory = Path(answer.stdout.strip() or "/nonexistent")
    if _image_in(directory) is None:
        raise ImageError(f"the {which} kernel is not in the cache yet, make it with: "
                         f"tools/env.sh kernel {which}")
    return _kernel_in(which, directory)


def _image_in(directory: Path) -> Path | None:
    for name in ("vmlinuz", "bzImage", "arch/x86/boot/bzImage"):
        if (directory / name).is_file():
            return directory / name
    return None


def _kernel_in(name: str, directory: Path) -> Kernel:
    image = _image_in(directory)
    if image is None:
        raise ImageError(f"{directory} has no vmlinuz and no arch/x86/boot/bzImage")
    has_modules = image.name == "vmlinuz" and (directory / "kernel").is_dir()
    return Kernel(name, image, directory if has_modules else None)


def _run(*command: str | Path) -> None:
    """Runs a command; what it says is shown only if it fails."""
    try:
        result = subprocess.run([str(word) for word in command], check=False,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, errors="replace")
    except FileNotFoundError:
        raise ImageError(f"{command[0]} is missing; the build environment has it "
                         "(tools/env.sh tree)") from None
    if result.returncode:
        said = "\n".join(result.stdout.splitlines()[-30:])
        raise ImageError(f"{said}\n{shlex.join(map(str, command))}: failed "
                         f"with status {result.returncode}")


# --- The root image --------------------------------------------------------------

@dataclass(frozen=True)
class System:
    """A Debian system: what is installed, and what can be without a network."""

    packages: tuple[str, ...]
    offline: tuple[str, ...]
    size: str                   # what is said about it to those who wait

    @property
    def customize(self) -> tuple[str, ...]:
        """Shell commands that make it a guest."""
        return (*_CUSTOMIZE, *(
            command.replace("@OFFLINE@", " ".join(self.offline)) for command in _DOWNLOAD))

    @property
    def directory(self) -> Path:
        """Where it is, made or not."""
        recipe = json.dumps([RELEASE, self.packages, self.offline, self.customize])
        key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
        return cache.root() / "guest" / f"{RELEASE}-{key}"


NORMAL = System(PACKAGES, OFFLINE_PACKAGES, "150 MB to fetch, about a minute")
CONFORMANCE = System((*PACKAGES, *CONFORMANCE_PACKAGES),
                     (*OFFLINE_PACKAGES, *CONFORMANCE_OFFLINE),
                     "with the programs of make check-conformance, 230 MB to fetch, two minutes")

CONTAINERS = System((*PACKAGES, *CONTAINER_PACKAGES), OFFLINE_PACKAGES,
                    "with podman, docker and others, 300 MB to fetch, some minutes")


def guest_root(system: System = NORMAL) -> Path:
    """The directory with ``root.erofs`` and ``root.tar``: a Debian system."""
    return cache.build_once(system.directory,
                            lambda directory: _build_guest_root(system, directory))


def in_use() -> set[Path]:
    """The images of this checkout, made or not."""
    images = {NORMAL.directory, CONFORMANCE.directory, CONTAINERS.directory}
    series = subprocess.run([HERE.parent / "env.sh", "series"], check=True,
                            capture_output=True, text=True).stdout.split()
    for name, of in itertools.product(("stock", "debug"), series):
        try:
            images.add(_kernel_images(kernel(name, of)))
        except ImageError:      # no such kernel yet
            pass
    return images


# The links let a read-only root serve as a test guest; see guest.sh.
_CUSTOMIZE = (
    'ln -sfn run/vm/job "$1/job"; ln -sfn run/vm/out "$1/out"; '
    'ln -sfn ../proc/self/mounts "$1/etc/mtab"; '
    'mkdir -p "$1/usr/lib/modules" "$1/' + OFFLINE_DIRECTORY + '"; '
    'chroot "$1" passwd -d root >/dev/null; '
    'rm -rf "$1"/var/log/*.log "$1"/var/log/apt "$1"/var/cache/debconf/*-old '
    '"$1"/var/lib/dpkg/*-old "$1"/var/cache/ldconfig',
)
_DOWNLOAD = (
    'chroot "$1" apt-get clean && chroot "$1" apt-get install --yes --quiet --quiet --download-only '
    '--no-install-recommends @OFFLINE@ >/dev/null',
    'mv "$1"/var/cache/apt/archives/*.deb "$1/' + OFFLINE_DIRECTORY + '/"',
)


def _build_guest_root(system: System, directory: Path) -> None:
    archive = directory / "root.tar"
    with cache.step("guest system: Debian 13 with compilers and file system tools, "
                    f"{system.size}"):
        _run("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar",
             "--aptopt=APT::Sandbox::User \"root\"",
             f"--include={','.join(system.packages)}",
             *(f"--customize-hook={hook}" for hook in system.customize),
             RELEASE, archive, *_mirrors())
    with cache.step("guest image: erofs, some seconds"):
        erofs_from_tar(archive, directory / "root.erofs")


def _mirrors() -> list[str]:
    """The mirror that this machine already uses, or mmdebstrap's default."""
    configured = os.environ.get("ROVL_MIRROR")
    if configured:
        return [configured]
    try:
        answer = subprocess.run(
            ["apt-get", "indextargets", "--format",
             "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)", "Created-By: Packages"],
            check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    for line in answer.splitlines():
        origin, codename, component, uri = line.split("|", 3)
        if origin == "Debian" and component == "main" and "-" not in codename:
            return [uri]
    return []


def erofs_from_tar(archive: Path, image: Path) -> None:
    """Makes an erofs image of an archive, with its owners, times and attributes."""
    _run("mkfs.erofs", "--quiet", "--tar=f", "-Enoinline_data", image, archive)


# --- Kernel modules and the initramfs -----------------------------------------------

def kernel_images(which: Kernel) -> Path:
    """The directory with ``initramfs.cpio`` and, for a kernel with modules,
    ``modules.erofs`` (which has them below the kernel's version)."""
    return cache.build_once(_kernel_images(which),
                            lambda directory: _build_kernel_images(which, directory))


def _kernel_images(which: Kernel) -> Path:
    key = hashlib.sha256((HERE / "init.sh").read_bytes()
                         + repr(BUSYBOX_LINKS).encode()).hexdigest()[:8]
    return cache.root() / "vm" / f"{which.key}-{key}"


def _build_kernel_images(which: Kernel, directory: Path) -> None:
    early: list[Path] = []
    if which.modules:
        with cache.step(f"modules of the {which.name} kernel: unpack and index, "
                        "about half a minute"):
            staging = directory / "staging"
            version = which.modules.name
            _unpack_modules(which.modules, staging / "lib/modules" / version)
            for name in ("order", "builtin", "builtin.modinfo"):
                (staging / "lib/modules" / version / f"modules.{name}").touch()
            _run("depmod", "--basedir", staging, version)
            _run("mkfs.erofs", "--quiet", "--all-root", directory / "modules.erofs",
                 staging / "lib/modules")
            early = _with_dependencies(staging / "lib/modules" / version, EARLY_MODULES)
            initramfs = _initramfs(early)
            shutil.rmtree(staging)
    else:
        initramfs = _initramfs(early)
    (directory / "initramfs.cpio").write_bytes(initramfs)


def _unpack_modules(source: Path, target: Path) -> None:
    """Copies the modules a guest may need; uncompressed, they load in half the time."""
    for directory in MODULE_DIRECTORIES:
        for module in sorted((source / "kernel" / directory).rglob("*.ko*")):
            unpacked = target / module.relative_to(source)
            if unpacked.suffix == ".xz":
                unpacked = unpacked.with_suffix("")
                content = lzma.decompress(module.read_bytes())
            else:
                content = module.read_bytes()
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            unpacked.write_bytes(content)


def _with_dependencies(modules: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of these modules in the order in which they can be loaded."""
    depends: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
        files[re.sub(r"\.ko$", "", Path(path).name).replace("-", "_")] = path
    order: list[str] = []

    def add(path: str) -> None:
        for needed in depends[path]:
            add(needed)
        if path not in order:
            order.append(path)

    for name in names:
        if name in files:       # one that is not a module is built in
            add(files[name])
    return [modules / path for path in order]


def _initramfs(modules: list[Path]) -> bytes:
    busybox = next((path for path in (Path("/usr/bin/busybox"), Path("/bin/busybox"))
                    if path.is_file()), None)
    if busybox is None:
        raise ImageError("busybox is missing: the package busybox-static has it")
    archive = cpio.Archive()
    for directory in ("dev", "etc", "lib/modules", "proc", "root", "run", "sys", "tmp"):
        archive.directory(directory)
    archive.file("init", (HERE / "init.sh").read_bytes(), 0o755)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.symlink("sbin", "bin")
    for name in BUSYBOX_LINKS:
        archive.symlink(f"bin/{name}", "busybox")
    for module in modules:
        archive.file(f"early/{module.name}", module.read_bytes())
    archive.file("early/order", "".join(f"{m.name}\n" for m in modules).encode())
    return archive.finish()


def unpack_tar(archive: Path, directory: Path) -> None:
    """Unpacks what a guest wrote to its output disk (tar stops at the end mark)."""
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "r|") as stream:
        stream.extractall(directory, filter="tar")
