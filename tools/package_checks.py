# SPDX-License-Identifier: GPL-2.0
"""What can be seen of the Debian packages without building them: `packages.*` of
`make check`.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import packages
from verdicts import ENV, TOP, CheckError, command

DEBIAN = TOP / "debian"
METADATA = TOP / "tools" / "rust-metadata"
COMPLETIONS = TOP / "tools" / "completions"
DOCUMENTATION = TOP / "Documentation"
MANUALS = DOCUMENTATION / "man"

# Options of mount(8) and of overlayfs that the completions need not offer.
NOT_OFFERED = {"datadir+", "override_creds"}


def expect(condition: object, said: str) -> None:
    if not condition:
        raise CheckError(said)


def check_metadata() -> None:
    """debian/ is whole, says the same everywhere, and its scripts can be read."""
    version, _ = packages.changelog_entry((DEBIAN / "changelog").read_text("utf-8"))
    crate = (TOP / "tools" / "mount-rovl" / "Cargo.toml").read_text("utf-8")
    expect(f'\nversion = "{version}"\n' in crate,
           f"debian/changelog has version {version}, and the crate mount-rovl another")
    control = (DEBIAN / "control").read_text("utf-8")
    for needed in ("Rules-Requires-Root: no", "debhelper-compat (= 13)", "dh-sequence-dkms",
                   "Package: rovl-dkms", "Package: rovl-tools"):
        expect(needed in control, f"debian/control has no {needed}")
    for series in command(ENV, "series").split():
        expect(f"linux-source-{series}" in control,
               f"rovl-dkms does not depend on linux-source-{series}")
    for listing in [*DEBIAN.glob("*.install"), *DEBIAN.glob("*.docs"),
                    *DEBIAN.glob("*.examples")]:
        for line in listing.read_text("utf-8").splitlines():
            if line.startswith("#"):
                continue
            expect((TOP / line.split()[0]).is_file(),
                   f"{listing.name} names {line.split()[0]}, which is not there")
    scripts = [DEBIAN / "tests" / "mount", *(DEBIAN / "initramfs-hook").iterdir(),
               *(DEBIAN / "initramfs-root").iterdir(), *(DEBIAN / "kernel-postrm").iterdir()]
    for script in [*scripts, DEBIAN / "rules", METADATA]:
        expect(os.access(script, os.X_OK), f"{script.name} cannot be executed")
    for script in [*scripts, *DEBIAN.glob("*.postrm"),
                   *DEBIAN.glob("post*.modules")]:
        command("sh", "-n", script)
    for script in (METADATA, DEBIAN / "rovl-dkms.dkms", COMPLETIONS / "mount.rovl"):
        command("bash", "-n", script)


# --- dkms.conf ---------------------------------------------------------------------

RUSTC = "rustc 1.85.1 (4eb161250 2025-03-15) (built from a source tarball)"


class Machine:
    """A machine as dkms.conf sees it: headers, a compiler, and packages."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.headers = directory / "headers"
        self.headers.mkdir()
        self.sources = directory / "sources"
        self.sources.mkdir()
        self._bin = directory / "bin"
        self._bin.mkdir()
        self.command("rustc", f'echo "{RUSTC}"')
        self.command("bindgen", ":")
        self.config("CONFIG_RUST=y", f'CONFIG_RUSTC_VERSION_TEXT="{RUSTC}"')
        (self.headers / "Module.symvers").touch()
        (self.sources / "linux-source-7.3.tar.xz").touch()
        self.packages({"linux-headers-7.3.4+deb13-amd64": "7.3.4-1",
                       "linux-source-7.3": "7.3.4-1"})

    def command(self, name: str, does: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        path.chmod(0o755)

    def config(self, *lines: str) -> None:
        (self.headers / ".config").write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def packages(self, installed: dict[str, str], status: str = "installed") -> None:
        cases = "".join(f'*" {name} ") echo "{status} {version}" ;;\n'
                        for name, version in installed.items())
        self.command("dpkg-query", f'case " $* " in\n{cases}*) exit 1 ;;\nesac')

    def refusal(self, release: str) -> str:
        """What dkms.conf says when a module is about to be built; nothing if it may be.
        As in dkms, the file is read by a function, and its pattern is applied.
        """
        tree = self._directory / "tree"
        (tree / "tools").mkdir(parents=True, exist_ok=True)
        (tree / "dkms.conf").write_bytes((DEBIAN / "rovl-dkms.dkms").read_bytes())
        if not (tree / "tools" / METADATA.name).exists():
            (tree / "tools" / METADATA.name).symlink_to(METADATA)
        script = f"""
            kernelver={release} kernel_source_dir={self.headers} parallel_jobs=2
            build_log={self._directory}/build/make.log
            read_conf() {{ . {tree}/dkms.conf; }}
            do_build() {{ read_conf; }}
            do_build
            [[ $kernelver =~ $BUILD_EXCLUSIVE_KERNEL ]] && echo built"""
        done = subprocess.run(
            ["bash", "-c", script], check=False, capture_output=True, text=True,
            env={**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}",
                 "ROVL_METADATA_SOURCES": str(self.sources),
                 "ROVL_METADATA_CACHE": str(self._directory / "cache")})
        built = done.stdout.strip() == "built"
        expect(built == (not done.stderr),
               f"dkms.conf would {'' if built else 'not '}build, and says \"{done.stderr}\"")
        log = self._directory / "build" / "make.log"
        expect(built or done.stderr in log.read_text("utf-8"), "the log does not have the reason")
        return done.stderr.strip()


def check_dkms() -> None:
    """dkms.conf passes over the kernels that it is not for, and says why in one sentence."""
    stock = "7.3.4+deb13-amd64"
    other = RUSTC.replace("1.85.1", "1.90.0")
    both = {f"linux-headers-{stock}": "7.3.4-1", "linux-source-7.3": "7.3.4-1"}
    cases: list[tuple[str, str, Callable[[Machine], None]]] = [
        (stock, "", lambda m: None),
        # while apt installs them together with the kernel
        (stock, "", lambda m: m.packages(both, "half-configured")),
        (stock, "of version that its headers have, and none is installed",
         lambda m: m.packages(both, "config-files")),
        ("6.12.48+deb13-amd64", "it is for the series 7.2 and 7.3", lambda m: None),
        ("7.4.1+deb13-amd64", "it is for the series 7.2 and 7.3", lambda m: None),
        (stock, "it has no Rust, CONFIG_RUST is not set", lambda m: m.config("CONFIG_X=y")),
        (stock, "it was compiled with rustc 1.85.1, and this machine has rustc 1.90.0",
         lambda m: m.command("rustc", f'echo "{other}"')),
        (stock, "it takes the package linux-source-7.3 of version 7.3.4-1, and none is installed",
         lambda m: (m.sources / "linux-source-7.3.tar.xz").unlink()
         or m.packages({f"linux-headers-{stock}": "7.3.4-1"})),
        (stock, "of version 7.3.4-1, and 7.3.5-1 is installed",
         lambda m: m.packages({f"linux-headers-{stock}": "7.3.4-1",
                               "linux-source-7.3": "7.3.5-1"})),
        (stock, f"its headers are not installed, package linux-headers-{stock}",
         lambda m: (m.headers / ".config").unlink()),
    ]
    for release, reason, change in cases:
        with tempfile.TemporaryDirectory() as directory:
            machine = Machine(Path(directory))
            change(machine)
            said = machine.refusal(release)
            expected = f"rovl cannot be built for Linux {release}: " if reason else ""
            expect(said.startswith(expected) and said.endswith(reason)
                   and bool(said) == bool(reason) and "\n" not in said,
                   f'for {release} dkms.conf says "{said}" instead of "...{reason}"')
    conf = (DEBIAN / "rovl-dkms.dkms").read_text("utf-8")
    pattern = re.search(r'^BUILD_EXCLUSIVE_KERNEL="(.*)"$', conf, re.MULTILINE)
    for series in command(ENV, "series").split():
        expect(pattern and re.match(pattern[1], f"{series}.1-x"),
               f"dkms.conf is not for the series {series}")


# --- Manuals and completions ---------------------------------------------------------

def mount_options() -> set[str]:
    """The options that the module knows."""
    source = (TOP / "mount.rs").read_text("utf-8")
    return (set(re.findall(r'Parameter::\w+\(c"([^"]+)"', source))
            | set(re.findall(r'\bname: c"([^"]+)"', source)))


def check_manuals() -> None:
    """The manuals and the completions know all options, and no others."""
    options = mount_options()
    expect({"lowerdir", "workdir", "index"} <= options, "cannot read the options in mount.rs")
    manual = (MANUALS / "rovl.rst").read_text("utf-8")
    for option in options:
        expect(f"**{option}" in manual, f"rovl(5) does not have the option {option}")
    usage = (TOP / "tools" / "mount-rovl" / "src" / "command.rs").read_text("utf-8")
    letters = set(re.findall(r"b'(\w)'", usage.partition("mod tests")[0]))
    helper = (MANUALS / "mount.rovl.rst").read_text("utf-8")
    for letter in letters:
        expect(f"\n-{letter}" in helper, f"mount.rovl(8) does not have the option -{letter}")
    for path in COMPLETIONS.iterdir():
        text = path.read_text("utf-8")
        for option in options - NOT_OFFERED:
            expect(option in text, f"{path.name} does not offer {option}")
        for letter in letters:
            expect(re.search(rf"-{letter}\b|-s {letter} ", text),
                   f"{path.name} does not offer -{letter}")


def check_index() -> None:
    """Documentation/index.rst and README.md lead to each page, and to no other."""
    pages = {str(path.relative_to(DOCUMENTATION))
             for path in DOCUMENTATION.rglob("*.rst")} - {"index.rst"}
    index = (DOCUMENTATION / "index.rst").read_text("utf-8")
    named = set(re.findall(r"<([^>]+\.rst)>`_", index))
    expect(named == pages, f"index.rst: {' '.join(sorted(named ^ pages))}")
    readme = (TOP / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(Documentation/([^)]+)\)", readme))
    expect(linked <= pages | {"index.rst"},
           f"README.md leads to {' '.join(sorted(linked - pages))}, which is not there")


def checks() -> list[tuple[str, Callable[[], None]]]:
    return [("packages.metadata", check_metadata), ("packages.dkms", check_dkms),
            ("packages.manuals", check_manuals), ("source.index", check_index)]
