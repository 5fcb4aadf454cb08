#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots a virtual machine to do a job in it.

    tools/vm.py image                       makes what guests boot from
    tools/vm.py boot --job SCRIPT ...       runs SCRIPT in a guest
    tools/vm.py shell ...                   a root shell in a guest
    tools/vm.py prune                       removes images that are not used any more

The exit status of `boot` is the job's, or one of these:

    122  the kernel reported an error (it is shown), whatever the job said
    123  the guest died before the job ended
    124  the guest hung and was killed
    125  the machine could not be started
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# This file is the command; the package of the same name next to it does the work.
from vm import Disk, ImageError, Machine, Outcome, Result, run  # noqa: E402
from vm import cache, image  # noqa: E402
from verdicts import CheckError  # noqa: E402

STATUS_SPLAT = 122
STATUS_DIED = 123
STATUS_HUNG = 124
STATUS_NOT_STARTED = 125


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prune")
    for name in ("image", "boot", "shell"):
        add_machine_arguments(commands.add_parser(name), name)
    return parser.parse_args()


def add_machine_arguments(command: argparse.ArgumentParser, name: str) -> None:
    add = command.add_argument
    add("--kernel", default="stock", metavar="KERNEL",
        help="stock, debug, or a directory with vmlinuz or a build tree")
    if name == "image":
        return
    if name == "boot":
        add("--job", type=Path, required=True, help="the script or program to run")
        add("--timeout", type=float, default=600, metavar="S",
            help="the guest is killed after S seconds (%(default)s)")
        add("--idle", type=float, default=240, metavar="S",
            help="... or after S seconds without output (%(default)s)")
        add("--quiet", action="store_true", help="do not show the job's output")
        add("--out", type=Path, metavar="DIR",
            help="what the job leaves in /out is unpacked here")
    add("--module", type=Path, metavar="ROVL.KO",
        help="the module; `modprobe rovl` and `mount -t rovl` in the guest find it")
    add("--share", type=Path, action="append", default=[], metavar="PATH",
        help="a file or directory that the guest finds in /job, by its last name")
    add("--disk", type=Disk.parse, action="append", default=[], metavar="NAME=WHAT",
        help="/dev/rovl/NAME in the guest: an empty disk (NAME=2G), or a file "
             "(NAME=PATH, NAME=PATH:ro)")
    add("--env", action="append", default=[], metavar="NAME=VALUE",
        help="a variable for the job")
    add("--memory", type=int, default=2048, metavar="MB")
    add("--cpus", type=int, default=2)
    add("--accel", choices=("auto", "kvm", "tcg", "icount"), default="auto",
        help="auto takes $ACCEL, or what a probe found to work")
    add("--log", type=Path, help="keep the console's log here")
    add("--append", default="", metavar="ARGS", help="more kernel arguments")
    add("--no-kmemleak", action="store_true", help="do not look for leaks at the end")


def machine_from(arguments: argparse.Namespace) -> Machine:
    return Machine(
        kernel=arguments.kernel,
        job=getattr(arguments, "job", None),
        module=arguments.module,
        files={path.resolve().name: path for path in arguments.share},
        disks=arguments.disk,
        out=getattr(arguments, "out", None),
        env=dict(pair.split("=", 1) for pair in arguments.env),
        timeout=getattr(arguments, "timeout", 0),
        idle=getattr(arguments, "idle", 0),
        memory=arguments.memory,
        cpus=arguments.cpus,
        accel=arguments.accel,
        append=arguments.append,
        log=arguments.log,
        interactive=arguments.command == "shell",
        kmemleak=False if arguments.no_kmemleak else None,
        output=None if getattr(arguments, "quiet", True) else show,
    )


def show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()


def exit_status(result: Result) -> int:
    if result.splats:
        return STATUS_SPLAT
    if result.outcome in (Outcome.TIMED_OUT, Outcome.SILENT):
        return STATUS_HUNG
    if result.outcome is Outcome.DIED or result.status is None:
        return STATUS_DIED
    return result.status


def packages_in_use() -> set[Path]:
    """What `make check-packages` of this checkout installs packages on."""
    import check_packages   # pylint: disable=import-outside-toplevel # it has this file's package
    try:
        return {check_packages.base_directory()}
    except CheckError:      # no kernel of some series yet
        return set()


def enter_environment() -> None:
    """Goes on inside the build tree, which has QEMU and what else is needed."""
    if "ROVL_IN_TREE" not in os.environ:
        script = Path(__file__).resolve()
        os.execv(script.parent / "env.sh", ["env.sh", "run", "--", str(script), *sys.argv[1:]])


def main() -> int:
    arguments = parse_arguments()
    enter_environment()
    try:
        if arguments.command == "prune":
            cache.prune(image.in_use() | packages_in_use())
            return 0
        if arguments.command == "image":
            image.guest_root()
            image.kernel_images(image.kernel(arguments.kernel))
            cache.say("the images are up to date")
            return 0
        result = run(machine_from(arguments))
    except (ImageError, OSError, ValueError) as error:
        cache.say(str(error))
        return STATUS_NOT_STARTED
    except KeyboardInterrupt:
        cache.say("interrupted")
        return 130
    explanation = result.explain()
    if explanation:
        print(f"\n{explanation}", file=sys.stderr)
    cache.say(f"{result.outcome.value}, status {result.status}, {len(result.splats)} "
              f"kernel reports, {result.seconds:.0f} s with {result.accel}")
    return exit_status(result)


if __name__ == "__main__":
    sys.exit(main())
