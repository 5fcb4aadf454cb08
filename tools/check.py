#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""All checks of the project: what `make check` runs, inside the build tree.

    tools/check.py [--kernel stock|debug] [--pause] [--test NAME]... [--build] [--list]

Checks of the source run on this machine, the selftests in a virtual machine.
NAME selects checks whose names begin with it or match it (*, ?); a virtual machine
is booted only if a test in it is selected. The last line is
`N passed, N failed, N skipped`, and the exit status is 0 if none failed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))

import circles  # noqa: E402
import conformance  # noqa: E402
import fuzz  # noqa: E402
import messages  # noqa: E402
import models  # noqa: E402
import package_checks  # noqa: E402
import rooms  # noqa: E402
import stack  # noqa: E402
from verdicts import ENV, CheckError, Results, Verdict, built_module  # noqa: E402
from verdicts import command, say, selected  # noqa: E402
from vm import Disk, ImageError, Machine, Result, cache, choose_accelerator  # noqa: E402
from vm import image, kill_all, run  # noqa: E402

SELFTESTS = TOP / "selftests"
MOUNT_HELPER = TOP / "tools" / "mount-rovl"
FUZZ = TOP / "tools" / "fuzz"
BUILD = TOP / "build" / "selftests"
PROGRAM = BUILD / "release" / "rovl_tests"
LINES_OF_OUTPUT = 60        # shown of a check that failed
FUZZ_SECONDS = 10           # for each target

# How much slower the debug kernel is, and with that how much less is done on it.
DEBUG_DIVISOR = 8
VM_TIMEOUT = {"stock": 2400, "debug": 3600}
# Seconds without output: longer than a test may take before the guest ends it itself.
VM_IDLE = 900


# --- Checks on this machine ---------------------------------------------------------

class Skipped(Exception):
    """A check cannot be made; the text says why."""


def cargo(*words: str, crate: Path = SELFTESTS) -> str:
    return command("cargo", *words, cwd=crate, env={"CARGO_TARGET_DIR": str(BUILD)})


def check_format() -> None:
    """The module is formatted as the kernel's own Rust code is."""
    source = command(ENV, "path", "source").strip()
    command("rustfmt", "--check", "--edition", "2021",
            "--config-path", f"{source}/.rustfmt.toml", "rust_overlay.rs")


def check_lints(kernel: str) -> None:
    """The module has no warning of the compiler or of clippy."""
    command(ENV, "build", kernel, "clippy")


def check_selftests_format() -> None:
    cargo("fmt", "--check")


def check_selftests_lints() -> None:
    cargo("clippy", "--release", "--locked", "--all-targets", "--", "-Dwarnings")


def check_selftests_units() -> None:
    """The unit tests of what the selftests are made of: the shrinker and its like."""
    cargo("test", "--release", "--locked")


def check_mount_helper() -> None:
    """Format, lints and unit tests of mount.rovl."""
    cargo("fmt", "--check", crate=MOUNT_HELPER)
    cargo("clippy", "--release", "--locked", "--all-targets", "--", "-Dwarnings",
          crate=MOUNT_HELPER)
    cargo("test", "--release", "--locked", crate=MOUNT_HELPER)


def check_parsers() -> None:
    """The parsers of format/ on this machine: format, lints and unit tests."""
    cargo("fmt", "--check", crate=FUZZ)
    cargo("clippy", "--release", "--locked", "--all-targets", "--", "-Dwarnings", crate=FUZZ)
    cargo("test", "--locked", crate=FUZZ)


def check_fuzz() -> str:
    """None of them fails on what a fuzzer makes up in a short time."""
    return fuzz.check(FUZZ_SECONDS, at_once=2)


def check_tools() -> None:
    """The unit tests of the tools."""
    for directory in sorted({p.parent for p in (TOP / "tools").rglob("test_*.py")}):
        command(sys.executable, "-m", "unittest", "discover", "-s", directory, "-t",
                TOP / "tools" if (directory / "__init__.py").exists() else directory)


def check_licenses() -> None:
    """Every file says under which license it is."""
    listed = command("git", "-c", f"safe.directory={TOP}", "ls-files").split("\n")
    # In the last ones all text is for the reader.
    allowed_without = re.compile(r"(^|/)(Cargo\.lock|COPYING|LICENSES/.*)$"
                                 r"|^debian/(changelog|copyright|source/format|.*\.bug-presubj)$")
    bare = [name for name in listed
            if name and (TOP / name).is_file() and not allowed_without.search(name)
            and "SPDX-License-Identifier" not in (TOP / name).read_text(
                "utf-8", "replace")[:400]]
    if bare:
        raise CheckError("no SPDX-License-Identifier in: " + " ".join(bare))


def check_rooms() -> None:
    """A room of the module knows the rooms below it and none above."""
    if found := rooms.faults(TOP):
        raise CheckError("\n".join(found))


def check_messages() -> None:
    """Each message that can be seen is answered in the documentation, as it is."""
    if found := messages.faults(TOP):
        raise CheckError("\n".join(found))


def check_stack(kernel: str) -> None:
    """No large frame, and no deep chain of them."""
    if kernel != "stock":
        raise Skipped("the checks of the debug kernel have frames of their own")
    command(ENV, "build", kernel)
    if faults := stack.report(stack.disassemble(built_module(kernel)))[1]:
        raise CheckError("\n".join(faults))


def check_circles(found: list[str]) -> None:
    """No two files need each other, by whatever others."""
    if found:
        raise CheckError("\n".join(found))


def compile_fail_cases() -> list[Path]:
    return sorted((SELFTESTS / "compile_fail").glob("*.rs"))


def check_compile_fail(case: Path, kernel: str) -> None:
    """The compiler refuses the case with the error that it names, and no other.

    A case says `// error: error[E0499]`, or `// error: none` where it is the control
    that must compile: the same things done right.
    """
    expected = re.findall(r"^// error: (.+)$", case.read_text(encoding="utf-8"), re.MULTILINE)
    if len(expected) != 1:
        raise CheckError("the case does not say which error it expects: // error: ...")
    try:
        command(ENV, "build", kernel, "compile_fail", case)
    except CheckError as error:
        said = str(error)
        codes = set(re.findall(r"error\[E\d+\]", said))
        if codes != {expected[0]}:
            raise CheckError(f"expected {expected[0]}, the compiler says "
                             f"{', '.join(sorted(codes)) or 'something else'}:\n{said}") from None
        return
    if expected[0] != "none":
        raise CheckError("compiles, and must not")


# A check of the source; it may return something to be said about it.
Check = Callable[[], str | None]


def host_checks(kernel: str) -> list[tuple[str, Check]]:
    checks: list[tuple[str, Check]] = [
        ("source.rustfmt", check_format),
        ("source.clippy", lambda: check_lints(kernel)),
        ("source.licenses", check_licenses),
        ("source.rooms", check_rooms),
        ("source.messages", check_messages),
        ("source.stack", lambda: check_stack(kernel)),
        ("selftests.circles", lambda: check_circles(circles.selftests(TOP))),
        ("selftests.rustfmt", check_selftests_format),
        ("selftests.clippy", check_selftests_lints),
        ("selftests.unittest", check_selftests_units),
        ("tools.circles", lambda: check_circles(circles.tools(TOP))),
        ("tools.unittest", check_tools),
        ("tools.mount_rovl", check_mount_helper),
        ("tools.parsers", check_parsers),
        ("tools.fuzz", check_fuzz),
    ]
    for case in compile_fail_cases():
        checks.append((f"compile_fail.{case.stem}",
                       lambda case=case: check_compile_fail(case, kernel)))
    return checks + package_checks.checks() + models.checks()


# Checks of one lane share a directory and run one after the other, beside those of the
# other lanes; searches of the models have a directory each. One CPU is enough for a check.
LANES = {"others": 1, "fuzz": 1, "compile_fail": 1, "models": os.cpu_count() or 1}


def lane(name: str) -> str:
    if name.startswith(("model.copyup_", "model.mutant_")):
        return "models"
    if name == "tools.fuzz":
        return "fuzz"
    return "compile_fail" if name.startswith("compile_fail.") else "others"


def stage(name: str) -> str:
    """What has to be over before the next begins: what is said of the models together
    comes after them, and they take memory.
    """
    return name.partition("_")[0] if name.startswith("model.") else ""


def run_host_checks(checks: Iterable[tuple[str, Check]], results: Results) -> None:
    """Results come in the order of the checks, whatever runs beside what."""
    for _, group in itertools.groupby(checks, lambda check: stage(check[0])):
        with ExitStack() as stack:
            pools = {name: stack.enter_context(concurrent.futures.ThreadPoolExecutor(count))
                     for name, count in LANES.items()}
            running = [(name, pools[lane(name)].submit(check)) for name, check in group]
            for name, outcome in running:
                report_host_check(name, outcome.result, results)


def report_host_check(name: str, result: Check, results: Results) -> None:
    try:
        said = result()
    except (CheckError, models.ModelError, fuzz.FuzzError) as error:
        for line in str(error).rstrip().split("\n")[-LINES_OF_OUTPUT:]:
            say(f"# {line}")
        say(f"not ok {name}")
        results.add(name, Verdict.FAILED)
    except (Skipped, models.NotAsked) as reason:
        say(f"ok {name} # SKIP {reason}")
        results.add(name, Verdict.SKIPPED)
    else:
        say(f"ok {name} # {said}" if said else f"ok {name}")
        results.add(name, Verdict.PASSED)


# --- The selftests, in a virtual machine ------------------------------------------------

# What the guest runs. The module is loaded by name here, so that a module that does
# not load is told from a test that fails.
JOB = r"""#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
cd /tmp || exit 1
if [ "$ROVL_FSTYPE" = rovl ]; then
	modprobe rovl || { echo 'check: rovl.ko does not load'; dmesg | tail -n 30; exit 1; }
	dmesg | grep -o 'rovl: layout: .*' | tail -n 1
fi
for module in loop ext4 xfs btrfs erofs squashfs overlay; do
	modprobe -q "$module"
done
[ -e /job/mount.rovl ] && export ROVL_HELPER=/job/mount.rovl
exec /job/rovl_tests --ask /dev/rovl/ask
"""

RESULT = re.compile(r"^(ok|not ok) (\d+) ([^ #]+)(?: # (.*))?$")
LAYOUT = re.compile(r"^rovl: layout: (\d+) checked, (\d+) bad$")
LAYOUT_NAME = "module.layout"
KERNEL_LOG_NAME = "kernel.log"
LAYERS_CLEAN = "unmount.fsck_of_all_scratch"

# Tests of what happens at once have two CPUs. The interleavings that a test makes happen
# do not depend on how many there are.
AT_ONCE = {"stock": ("races.",), "debug": ("races.", "copyup.R2_", "copyup.R5_")}

# Tests that need a kernel which runs SELinux; it has no policy until they load one.
SELINUX_TESTS = "selinux."
SELINUX = "security=selinux enforcing=0"


def read_ktap(line: str) -> tuple[str, Verdict] | None:
    """The name and verdict in a KTAP result line."""
    match = RESULT.match(line)
    if not match:
        return None
    good, _, name, rest = match.groups()
    if rest and rest.upper().startswith("SKIP"):
        return name, Verdict.SKIPPED
    return name, Verdict.PASSED if good == "ok" else Verdict.FAILED


class Stream:
    """Shows a guest's output as it comes, and collects its results. Where there is another
    guest, what a test says is shown in one piece.
    """

    def __init__(self, results: Results, *, alone: bool = True) -> None:
        self._results = results
        self._alone = alone
        self._rest = b""
        self._held: list[str] = []
        self.layout: tuple[int, int] | None = None

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace").rstrip("\r"))

    def close(self) -> None:
        if self._rest:
            self.feed(b"\n")
        self._show()

    def _show(self) -> None:
        if self._held:
            say("\n".join(self._held))
        self._held.clear()

    def _line(self, line: str) -> None:
        self._held.append(line)
        result = read_ktap(line)
        if result:
            self._results.add(*result)
        elif match := LAYOUT.match(line):
            self.layout = int(match[1]), int(match[2])
        if result or self._alone:
            self._show()


def names_apart(names: list[str], which: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Those tests whose names begin in one of these ways, and those that do not. Each guest
    looks at its own disks in the end.
    """
    apart = [name for name in names if name.startswith(which) and name != LAYERS_CLEAN]
    left = [name for name in names if name not in set(apart)]
    if LAYERS_CLEAN in names:
        apart.append(LAYERS_CLEAN)
    return apart, left


class Queue:
    """Tests to be run. Each guest asks for its next when it has done one, so that all have
    work to the end; then each looks at its own disks.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = deque(name for name in names if name != LAYERS_CLEAN)
        self._last = LAYERS_CLEAN if LAYERS_CLEAN in names else ""

    def __len__(self) -> int:
        return len(self._names)

    def next(self) -> str | None:
        try:
            return self._names.popleft()
        except IndexError:      # another guest may have taken the last one just now
            return None

    def guest(self) -> Callable[[str], str]:
        """What answers the questions of one guest; nothing is left where it says nothing."""
        last = iter([self._last])
        return lambda _: self.next() or next(last, "")


@dataclass(frozen=True)
class Boot:
    """A guest to be booted. Where guests share CPUs of the host, one with two of its own
    takes twice as much of them for the same tests.
    """

    queue: Queue
    cpus: int = 1
    append: str = ""            # to the kernel's command line


def boots(names: list[str], kernel: str, asked: bool) -> list[Boot]:
    """The guests for these tests, in the order in which they are booted, two at a time.
    There is one for what was asked for by name.
    """
    # The debug kernel has no SELinux.
    apart, names = names_apart(names, (SELINUX_TESTS,) if kernel == "stock" else ())
    at_once, names = names_apart(names, ("",) if asked else AT_ONCE[kernel])
    first, rest = Boot(Queue(at_once), cpus=2), Boot(Queue(names))
    more = [] if asked else [rest, first]   # for what is left when another guest is through
    all_boots = [first, rest, Boot(Queue(apart), append=SELINUX), *more]
    return [boot for boot in all_boots if boot.queue] or [first]


@dataclass
class Guest:
    """A virtual machine that runs tests."""

    arguments: argparse.Namespace
    boot: Boot
    number: int
    stream: Stream
    result: Result | None = None
    needed: bool = True         # when its turn came

    def run(self) -> None:
        # The first is booted for what is not a test, too.
        self.needed = self.number == 0 or bool(self.boot.queue)
        if not self.needed:
            return
        arguments = self.arguments
        debug = arguments.kernel == "debug"
        under_test = arguments.fstype == "rovl"
        variables = {
            "ROVL_FSTYPE": arguments.fstype,
            "ROVL_SCRATCH": "/dev/rovl/scratch",
            "ROVL_DIVISOR": str(DEBUG_DIVISOR if debug else 1),
            "ROVL_TIMEOUT": str((300 if debug else 60) + 120 * arguments.minutes),
            "ROVL_MINUTES": str(arguments.minutes or ""),
            "ROVL_SEED": os.environ.get("ROVL_SEED", ""),
            "ROVL_MATRIX": os.environ.get("ROVL_MATRIX", ""),
            "ROVL_VERBOSE": os.environ.get("ROVL_VERBOSE", ""),
            "ROVL_MODULE": "/job/rovl.ko" if under_test else "",
        }
        more = f"-{self.number}" if self.number else ""
        self.result = run(Machine(
            kernel=arguments.kernel, job=BUILD / "job.sh",
            module=module_under_test(arguments) if under_test else None,
            files={"rovl_tests": PROGRAM,
                   "mount.rovl": BUILD / "release" / "mount-rovl"},
            disks=[Disk("scratch", size=6 << 30)], env=variables,
            cpus=self.boot.cpus,
            append=f"{self.boot.append} {os.environ.get('ROVL_APPEND', '')}".strip(),
            timeout=VM_TIMEOUT[arguments.kernel] + 120 * arguments.minutes, idle=VM_IDLE,
            output=self.stream.feed, answer=self.boot.queue.guest(),
            log=BUILD / f"console-{arguments.kernel}{more}.log"))
        self.stream.close()


def module_under_test(arguments: argparse.Namespace) -> Path:
    return built_module(arguments.kernel, "pause" if arguments.pause else "")


def run_in_vm(arguments: argparse.Namespace, names: list[str], results: Results) -> None:
    """Boots machines for the given tests; each test gets a verdict."""
    under_test = arguments.fstype == "rovl"
    module = module_under_test(arguments)
    if under_test and not module.exists():
        say(f"# {module} has not been built")
        for name in names:
            results.add(name, Verdict.FAILED)
        return
    (BUILD / "job.sh").write_text(JOB, encoding="utf-8")
    to_boot = boots(names, arguments.kernel, bool(arguments.test))
    guests = [Guest(arguments, boot, number, Stream(results, alone=len(to_boot) == 1))
              for number, boot in enumerate(to_boot)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(guest.run) for guest in guests]
        try:
            for one in running:
                one.result()
        except BaseException:
            kill_all()
            raise
    for guest in guests:
        if guest.result and (explanation := guest.result.explain()):
            for line in explanation.split("\n"):
                say(f"# {line}")
    missing = [name for name in names if name not in results.verdicts]
    for name in missing:
        say(f"not ok {name} # did not run to its end")
        results.add(name, Verdict.FAILED)
    if under_test and selected(LAYOUT_NAME, arguments.test):
        report_layout(guests[0].stream.layout, results)
    report_log([guest.result for guest in guests if guest.needed], results)


def report_layout(layout: tuple[int, int] | None, results: Results) -> None:
    checked, bad = layout or (0, 0)
    good = checked > 0 and bad == 0
    said = f"{checked} checked, {bad} bad" if layout else "the module did not say what it found"
    say(f"{'ok' if good else 'not ok'} {LAYOUT_NAME} # {said}")
    results.add(LAYOUT_NAME, Verdict.PASSED if good else Verdict.FAILED)


def report_log(ran: list[Result | None], results: Results) -> None:
    """The kernels have no complaint, and where no test failed, neither did a job."""
    failed = any(v is Verdict.FAILED for v in results.verdicts.values())
    good = all(r and not r.splats and (r.ok or failed) for r in ran)
    said = "; ".join(f"{len(r.splats)} reports of the kernel, job status {r.status}"
                     for r in ran if r)
    say(f"{'ok' if good else 'not ok'} {KERNEL_LOG_NAME} # {said}")
    results.add(KERNEL_LOG_NAME, Verdict.PASSED if good else Verdict.FAILED)



def build_tests(wanted: list[str]) -> list[str]:
    """Builds the selftests and gives their names, and those run only if they are wanted."""
    first = not PROGRAM.exists()
    with cache.step("building the selftests, a minute or two") if first else nullcontext():
        cargo("build", "--release", "--locked")
        cargo("build", "--release", "--locked", crate=MOUNT_HELPER)
    return command(PROGRAM, "--list", *wanted).split()


def build_programs(arguments: argparse.Namespace) -> None:
    """Makes what the checks run and what guests boot from, and leaves it to the checks to
    say what cannot be made.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        # It waits for packages, and cargo for the CPUs. Some checks need none.
        if not arguments.test:
            beside.submit(make_images)
        with suppress(CheckError):
            build_tests(arguments.test)
            if any(selected(name, arguments.test) for name in others_tests(arguments)):
                conformance.programs()


def make_images() -> None:
    """The kernel may not be there yet: what needs it is made before the first guest."""
    with suppress(ImageError):
        image.guest_root()
        stock = image.kernel("stock")
        image.kernel_images(stock)
        choose_accelerator("auto", stock)


# --- Others' tests --------------------------------------------------------------------

def others_tests(arguments: argparse.Namespace) -> list[str]:
    """The quick part of make check-conformance; on the debug kernel if it is asked for."""
    if arguments.fstype != "rovl" or arguments.pause:
        return []
    if arguments.kernel == "debug" and not arguments.test:
        return []
    return conformance.quick_names()


def run_others_tests(arguments: argparse.Namespace, names: list[str], results: Results) -> None:
    if not names:
        return
    try:
        conformance.quick(arguments.kernel, names, results)
    except CheckError as error:
        say("\n".join(f"# {line}" for line in str(error).split("\n")[-LINES_OF_OUTPUT:]))
        for name in names:
            say(f"not ok {name} # cannot be built")
            results.add(name, Verdict.FAILED)


# --- The command ---------------------------------------------------------------------

def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=("stock", "debug"), default="stock")
    parser.add_argument("--pause", action="store_true",
                        help="test the module that has pause points (the one for the debug "
                             "kernel always has them)")
    parser.add_argument("--test", action="append", default=[], metavar="NAME",
                        help="only checks of this name; several may be given, or one "
                             "argument with spaces or commas")
    parser.add_argument("--fstype", default=os.environ.get("ROVL_FSTYPE") or "rovl",
                        help="what the selftests mount (%(default)s); overlay proves the "
                             "tests on the kernel's own")
    parser.add_argument("--minutes", type=int, default=0,
                        help="how long `stress.copyup`, `differential.random` and `fuzz.random` "
                             "go on (default: 1)")
    parser.add_argument("--build", action="store_true",
                        help="make the programs and images that the checks need, and end")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    arguments = parser.parse_args()
    arguments.test = [n for text in arguments.test for n in re.split(r"[ ,]+", text) if n]
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if not shutil.which("cargo") or not os.environ.get("ROVL_IN_TREE"):
        os.execv(ENV, [str(ENV), "run", "--", "python3", str(TOP / "tools" / "check.py"), *sys.argv[1:]])
    BUILD.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if arguments.build:
        build_programs(arguments)
        return 0
    results = Results()
    if arguments.kernel == "debug" and not arguments.test:
        # Under TCG this kernel is slow: each test once, not on all filesystems.
        os.environ.setdefault("ROVL_MATRIX", "no")
    checks = [c for c in host_checks(arguments.kernel) if selected(c[0], arguments.test)]
    if arguments.kernel == "debug" and not arguments.test:
        # They look at the source, and have been run with the stock kernel.
        checks = []
    try:
        tests = [n for n in build_tests(arguments.test) if selected(n, arguments.test)]
    except CheckError as error:
        say("\n".join(f"# {line}" for line in str(error).split("\n")[-LINES_OF_OUTPUT:]))
        say("not ok selftests.build")
        results.add("selftests.build", Verdict.FAILED)
        tests = []
    others = [n for n in others_tests(arguments) if selected(n, arguments.test)]
    if arguments.list:
        say("\n".join([c[0] for c in checks] + tests + others))
        return 0
    run_host_checks(checks, results)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        # It has a guest of its own, which waits as much as it computes.
        running = beside.submit(run_others_tests, arguments, others, results)
        try:
            if tests or (arguments.test and selected(LAYOUT_NAME, arguments.test)):
                run_in_vm(arguments, tests, results)
            running.result()
        except BaseException:
            kill_all()
            raise
    if not results.verdicts:
        say(f"no check is called {' or '.join(arguments.test)}")
        results.add("selection", Verdict.FAILED)
    failed = [n for n, v in results.verdicts.items() if v is Verdict.FAILED]
    say("")
    for name in failed[:LINES_OF_OUTPUT]:
        say(f"failed: {name}")
    say(f"# {time.monotonic() - start:.0f} s")
    say(results.summary())
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
