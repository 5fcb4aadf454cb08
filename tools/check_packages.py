#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""`make check-packages`: the Debian packages on Debian 13, from install to purge.

    tools/check_packages.py [--test NAME]... [--quick]

    build     the packages, twice: the same bytes; what lintian says
    dkms      rovl-dkms in a chroot: two kernels, an upgrade, what is passed over, purge
    prebuilt  the prebuilt module in a virtual machine: install, mount, autopkgtest, upgrade
              of package and kernel, the root on rovl by the initramfs, purge

Transcripts are in build/deb/check. The kernels are the stock kernels of both series.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

import packages  # noqa: E402
from verdicts import ENV, CheckError, Results, Verdict, command, say, selected  # noqa: E402
from vm import Disk, ImageError, Machine, cache, image, run  # noqa: E402

INSTALL = TOP / "tools" / "install"
RESULTS = packages.OUTPUT / "check"
LINES_OF_OUTPUT = 30

# Debian 13 with what a system has that boots by itself.
BASE = ("initramfs-tools", "busybox", "kmod", "e2fsprogs", "procps", "zstd", "udev",
        "systemd-sysv")
# What the packages and the kernels bring along, fetched once; and what tests them.
BROUGHT = ("autopkgtest", "dkms", "openssl", "bc", "bindgen", "bison", "cpio", "flex",
           "libelf-dev", "libssl-dev", "make", "pahole", "perl", "python3", "rsync", "rust-src",
           "rustc", "rustfmt", "xz-utils", "zlib1g-dev")
FORMAT = 1      # count up when the recipe changes

DISK_SIZE = 6 << 30
# Instead of systemd, where that is nothing to the point.
DIRECTLY = "rw init=/usr/local/sbin/start-guest"
VM_TIMEOUT = 3600
VM_IDLE = 900


def all_series() -> list[str]:
    return command(ENV, "series").split()


def releases() -> tuple[str, str]:
    """The older stock kernel and the newer one."""
    new, old = [packages.stock(series, "release stock") for series in all_series()[:2]]
    return old, new


# --- The machine that things are installed on ----------------------------------------

def base() -> Path:
    """A directory with ``root`` (the system) and ``debs`` (all that may be installed)."""
    return cache.build_once(base_directory(), lambda where: _make_base(where, [
        *kernel_packages(), *(f"linux-source-{series}" for series in all_series())]))


def base_directory() -> Path:
    """Where it is, made or not."""
    versions = [packages.stock(series, "version") for series in all_series()]
    recipe = repr((FORMAT, BASE, BROUGHT, kernel_packages(), versions))
    key = hashlib.sha256(recipe.encode()).hexdigest()
    return cache.root() / "guest" / f"packages-{key[:12]}"


def kernel_packages() -> list[str]:
    return [f"{name}-{release}" for release in releases()
            for name in ("linux-image", "linux-headers")]


def _make_base(where: Path, kernels: list[str]) -> None:
    mirrors = image._mirrors()      # pylint: disable=protected-access
    with cache.step("a Debian 13 to install packages on, some minutes, 900 MB to fetch"):
        command("mmdebstrap", "--quiet", "--variant=minbase", "--format=directory",
                "--dpkgopt=force-unsafe-io",
                '--aptopt=APT::Sandbox::User "root"', f"--include={','.join(BASE)}",
                image.RELEASE, where / "root", *mirrors)
        _fetch(where, kernels)


def _fetch(where: Path, kernels: list[str]) -> None:
    root = where / "root"
    sources = root / "etc/apt/sources.list"
    main = sources.read_text("utf-8")
    backports = "".join(
        line.replace(f" {image.RELEASE} ", f" {image.RELEASE}-backports ") + "\n"
        for line in main.splitlines() if f" {image.RELEASE} " in line)
    (root / "etc/apt/sources.list.d").mkdir(exist_ok=True)
    (root / "etc/apt/sources.list.d/backports.list").write_text(backports, "utf-8")
    # Of the backports only the kernel, as on a machine whose owner asked for no more.
    (root / "etc/apt/preferences.d").mkdir(exist_ok=True)
    (root / "etc/apt/preferences.d/kernel").write_text(
        f"Package: linux-*\nPin: release n={image.RELEASE}-backports\nPin-Priority: 500\n",
        "ascii")
    debs = where / "debs"
    debs.mkdir(exist_ok=True)
    _known_debs(debs)
    apt = (f"apt-get -q -y -o APT::Sandbox::User=root -o APT::Install-Recommends=false "
           "-o Dir::Cache::archives=/repo ")
    (debs / "partial").mkdir(exist_ok=True)
    in_root(root, debs, f"{apt} update && {apt} --download-only install "
            f"{' '.join(BROUGHT)} && {apt} --download-only install {' '.join(kernels)} "
            "&& apt-get clean", network=True)
    for name in ("partial", "lock"):
        path = debs / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    index(debs)


def _known_debs(debs: Path) -> None:
    """Those of the kernels that env.sh has fetched."""
    for deb in (cache.root() / "deb").glob("linux-*.deb"):
        fields = command("dpkg-deb", "--showformat", "${Package}_${Version}_${Architecture}",
                         "--show", deb).strip()
        os.link(deb, debs / f"{fields.replace(':', '%3a')}.deb")


def in_root(root: Path, repo: Path, script: str, *, network: bool = False,
            log: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Runs a script in a root directory, with REPO at /repo."""
    (root / "repo").mkdir(exist_ok=True)
    inner = f"""set -e
        mount --bind '{root}' '{root}'
        mount --bind '{repo}' '{root}/repo'
        mount -t proc proc '{root}/proc' 2>/dev/null || mount --rbind /proc '{root}/proc'
        mount --rbind /dev '{root}/dev'
        mount -t tmpfs tmp '{root}/tmp'
        {f"cp --remove-destination /etc/resolv.conf '{root}/etc/resolv.conf'" if network else ""}
        exec chroot '{root}' /bin/bash -c "$SCRIPT"
        """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                   "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "SCRIPT": script,
                   **{name: value for name, value in os.environ.items() if "proxy" in name.lower()},
                   **(env or {})}
    with open(log, "w+", encoding="utf-8", errors="replace") if log else \
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        done = subprocess.run(["unshare", "--mount", "--propagation", "unchanged", "--pid",
                               "--fork", "--kill-child", "bash", "-c", inner], check=False,
                              env=environment, stdin=subprocess.DEVNULL, stdout=output,
                              stderr=subprocess.STDOUT)
        output.seek(0)
        said = output.read().splitlines()[-LINES_OF_OUTPUT:]
    if done.returncode:
        raise CheckError("\n".join([*said, "the job in the chroot failed"])
                         + (f", all it said is in {log}" if log else ""))


# Few modules and little compression: an initramfs is made again and again.
INITRAMFS = {
    "conf.d/check": "MODULES=list\nCOMPRESSLEVEL=1\n",
    "modules": "virtio_pci\nvirtio_blk\next4\n",
}


def make_guest(root: Path) -> None:
    """Has a system run what the machine brings along; none of this is in a package."""
    configuration = root / "etc/initramfs-tools"
    for name, text in INITRAMFS.items():
        (configuration / name).write_text(text, "ascii")
    shutil.copy2(INSTALL / "init-bottom", configuration / "scripts/init-bottom/check-guest")
    start = root / "usr/local/sbin/start-guest"
    start.write_text("#!/bin/sh\nmount -o remount,exec /run\n"
                     "exec /run/vm/busybox sh /run/vm/job/guest.sh\n", "ascii")
    start.chmod(0o755)
    # The root is given with the options that it has there, for systemd.
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n", "ascii")
    units = root / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True, exist_ok=True)
    (units / "check-guest.service").write_text(
        f"[Unit]\nAfter=systemd-user-sessions.service\n[Service]\nType=oneshot\n"
        f"ExecStart=/{start.relative_to(root)}\n", "ascii")
    (units / "multi-user.target.wants/check-guest.service").symlink_to("../check-guest.service")
    for link, target in (("job", "run/vm/job"), ("out", "run/vm/out")):
        (root / link).symlink_to(target)


def index(repo: Path) -> None:
    """Makes a directory of packages an archive for apt."""
    (repo / "Packages").unlink(missing_ok=True)     # it may be a link to another's
    with open(repo / "Packages", "w", encoding="utf-8") as listing:
        subprocess.run(["dpkg-scanpackages", "--multiversion", "."], cwd=repo, check=True,
                       stdout=listing, stderr=subprocess.DEVNULL)


def repository(where: Path) -> Path:
    """A directory that is /repo: Debian's packages and ours, and the jobs."""
    repo = where / "repo"
    shutil.rmtree(repo, ignore_errors=True)
    shutil.copytree(base() / "debs", repo, copy_function=os.link)
    for name in ("rovl", "newer"):
        (repo / name).mkdir()
        for deb in (RESULTS / name).glob("*.deb"):
            shutil.copy2(deb, repo / name)
    for job in INSTALL.glob("*.sh"):
        shutil.copy2(job, repo)
    shutil.copytree(TOP / "debian", repo / "source" / "debian")
    return repo


# --- build -----------------------------------------------------------------------------

def check_build() -> str:
    """Built twice they are the same, and lintian has nothing to say."""
    first = packages.build(all_series(), into=RESULTS / "rovl")
    again = packages.build(all_series(), into=RESULTS / "again")
    packages.build(all_series(), "+1", into=RESULTS / "newer")
    for one, other in zip(first, again):
        if one.suffix == ".deb" and one.read_bytes() != other.read_bytes():
            raise CheckError(f"built twice, and {one.name} is not the same")
    said = packages.lint(next(path for path in first if path.suffix == ".changes"))
    (RESULTS / "lintian.log").write_text("".join(f"{line}\n" for line in said), "utf-8")
    if said:
        raise CheckError("lintian says:\n" + "\n".join(said))
    debs = [path for path in first if path.suffix == ".deb"]
    return ", ".join(f"{path.name.partition('_')[0]} {path.stat().st_size >> 10} KiB"
                     for path in debs)


def built() -> None:
    """The packages are there, if the check that builds them was not asked for."""
    if not any((RESULTS / "newer").glob("*.deb")):
        packages.build(all_series(), into=RESULTS / "rovl")
        packages.build(all_series(), "+1", into=RESULTS / "newer")


# --- dkms --------------------------------------------------------------------------------

def check_dkms(quick: bool) -> str:
    """The life of rovl-dkms in a chroot; if it is to be quick, built for one kernel."""
    built()
    old, new = releases()
    with cache.run_directory() as directory:
        root = directory / "root"
        command("cp", "-a", base() / "root", root)
        start = time.monotonic()
        log = RESULTS / "dkms.log"
        with cache.step(f"the life of rovl-dkms (log: {log.relative_to(TOP)})"):
            in_root(root, repository(directory), "/repo/dkms.sh", log=log,
                    env={"OLD": old, "NEW": new, "QUICK": "yes" if quick else ""})
    return f"{time.monotonic() - start:.0f} s"


# --- prebuilt ----------------------------------------------------------------------------

def file_of(disk: Path, name: str, target: Path) -> Path:
    """Copies a file out of the disk of a machine that does not run."""
    command("debugfs", "-R", f"dump {name} {target}", disk)
    if not target.is_file() or not target.stat().st_size:
        raise CheckError(f"there is no {name} on the disk")
    return target


def check_prebuilt() -> str:
    """The life of the prebuilt module in a virtual machine."""
    built()
    old, new = releases()
    start = time.monotonic()
    with cache.run_directory() as directory:
        repo = repository(directory)
        root = directory / "root"
        command("cp", "-a", base() / "root", root)
        make_guest(root)
        in_root(root, repo, f""". /repo/common.sh; how=(--no-install-recommends)
            use_archive; install linux-image-{old} autopkgtest dpkg-dev""",
                log=RESULTS / "system.log")
        disk = directory / "system"
        with open(disk, "wb") as handle:
            handle.truncate(DISK_SIZE)
        command("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, disk)
        shutil.rmtree(root)
        for name in repo.glob("*.deb"):
            # No compiler is needed there.
            if not re.match(r"linux-(image|base|binary|modules)|initramfs", name.name):
                name.unlink()
        index(repo)
        command("mkfs.erofs", "--quiet", "--all-root", directory / "repo.erofs", repo)
        command("mke2fs", "-q", "-t", "ext4", "-L", "changes", directory / "changes", "256M")
        for name, release, arguments in (
                ("install", old, DIRECTLY),
                ("thrown-away", new, "rovlroot=tmpfs,size=200M"),
                ("kept", old, f"rovlroot=LABEL=changes {DIRECTLY}"),
                ("again", new, f"rovlroot=/dev/vdc,noatime rovlflags=default_permissions {DIRECTLY}"),
                ("purge", old, DIRECTLY)):
            boot(name, directory, release, arguments)
    return f"{time.monotonic() - start:.0f} s"


def boot(name: str, directory: Path, release: str, arguments: str) -> None:
    disk = directory / "system"
    kernel = file_of(disk, f"/boot/vmlinuz-{release}", directory / "vmlinuz")
    initramfs = file_of(disk, f"/boot/initrd.img-{release}", directory / "initrd.img")
    log = RESULTS / f"{name}.log"
    old, new = releases()
    with cache.step(f"boot: {name}, Linux {release} (log: {log.relative_to(TOP)})"), \
            open(log, "wb", buffering=0) as output:
        result = run(Machine(
            job=INSTALL / "vm.sh", installed=(kernel, initramfs),
            disks=[Disk("system", disk), Disk("repo", directory / "repo.erofs", read_only=True),
                   Disk("changes", directory / "changes")],
            files={"busybox": Path(shutil.which("busybox") or "/usr/bin/busybox")},
            env={"BOOT": name, "OLD": old, "NEW": new},
            append=f"root=/dev/vda {arguments}",
            timeout=VM_TIMEOUT, idle=VM_IDLE, kmemleak=False,
            log=RESULTS / f"{name}.console", output=output.write))
    if not result.ok:
        said = "\n".join(result.output.decode("utf-8", "replace").splitlines()[-LINES_OF_OUTPUT:])
        raise CheckError(f"{said}\nboot {name}: {result.outcome.value}, status {result.status}\n"
                         f"{result.explain()}")


# --- The command -------------------------------------------------------------------------

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", action="append", default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="dkms builds for one kernel only")
    arguments = parser.parse_args()
    wanted = [name for text in arguments.test for name in re.split(r"[ ,]+", text) if name]
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = Results()
    checks: list[tuple[str, Callable[[], str]]] = [
        ("build", check_build), ("dkms", lambda: check_dkms(arguments.quick)),
        ("prebuilt", check_prebuilt)]
    for name, check in checks:
        if not selected(name, wanted):
            continue
        try:
            say(f"ok {name} # {check()}")
            results.add(name, Verdict.PASSED)
        except (CheckError, ImageError, subprocess.CalledProcessError) as error:
            say("\n".join(f"# {line}" for line in str(error).split("\n")))
            say(f"not ok {name}")
            results.add(name, Verdict.FAILED)
    say(results.summary())
    return 1 if results.count(Verdict.FAILED) or not results.verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
