# SPDX-License-Identifier: GPL-2.0
"""Runs one guest in QEMU and says what became of it.

The process is never left behind: it gets SIGKILL when the runner dies in whatever
way, and it is killed when a deadline passes.
"""

from __future__ import annotations

import ctypes
import enum
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, Iterator

from . import accel as accelerator
from . import cache, cpio, image, splat

HERE = Path(__file__).resolve().parent

_POLL = 0.05            # seconds between two looks at the guest's output
_OUT_SIZE = 2 << 30     # sparse; the guest writes a tar archive to it
_BOOTS = 3              # how often, if it or QEMU does not come as far as init
_BOOT_IDLE = 90         # seconds: a kernel silent for so long before init hangs
_LAST_LINES = 25        # of the console, shown when a guest hangs or dies
_GAVE_UP = b"KVM internal error"    # QEMU says so and stays, with the guest stopped


class Outcome(enum.Enum):
    """How a guest ended."""

    FINISHED = "the job ended"
    TIMED_OUT = "killed: the time limit passed"
    SILENT = "killed: no output for too long"
    DIED = "the guest ended before the job did"
    CRASHED = "QEMU crashed"


@dataclass(frozen=True)
class Disk:
    """A virtio disk, /dev/rovl/NAME in the guest.

    With a path it is that file; without one it is an empty sparse file of ``size``
    bytes that is gone after the run.
    """

    name: str
    path: Path | None = None
    size: int = 0
    read_only: bool = False
    discard_writes: bool = False    # the file stays as it is

    @classmethod
    def parse(cls, text: str) -> Disk:
        """Reads NAME=SIZE (2G, 512M), NAME=PATH or NAME=PATH:ro."""
        name, separator, what = text.partition("=")
        if not separator or not name or not what or len(name) > 20:
            raise ValueError(f"not NAME=SIZE or NAME=PATH[:ro]: {text}")
        units = {"K": 10, "M": 20, "G": 30}
        if what[:-1].isdigit() and what[-1] in units:
            return cls(name, size=int(what[:-1]) << units[what[-1]])
        path, read_only = (what[:-3], True) if what.endswith(":ro") else (what, False)
        return cls(name, Path(path), read_only=read_only)


@dataclass
class Machine:
    """What to boot, and what to do in it."""

    kernel: str = "stock"
    job: Path | None = None             # a program or script; None: a shell
    module: Path | None = None          # rovl.ko; found by modprobe and mount
    files: dict[str, Path] = field(default_factory=dict)    # NAME in /job -> source
    disks: list[Disk] = field(default_factory=list)
    out: Path | None = None             # what the job left in /out is unpacked here
    env: dict[str, str] = field(default_factory=dict)
    root_script: Path | None = None     # mounts the root instead of init.sh
    system: image.System = image.NORMAL     # the root, if there is no script for it
    installed: tuple[Path, Path] | None = None  # kernel and initramfs of the system on the
    #                                     first disk, which is booted instead; see tools/install
    timeout: float = 600
    idle: float = 240
    memory: int = 2048
    cpus: int = 2
    accel: str = "auto"
    append: str = ""
    log: Path | None = None             # the console is kept here
    interactive: bool = False
    kmemleak: bool | None = None        # None: where the kernel has it

    # Called with each piece of the job's output as it comes.
    output: Callable[[bytes], object] | None = None

    # Answers what the job asks: a line that it writes to /dev/rovl/ask, with a line that
    # it reads there. Called in a thread of its own.
    answer: Callable[[str], str] | None = None


@dataclass
class Result:
    """What a run came to."""

    outcome: Outcome
    status: int | None              # of the job; None if it did not end
    splats: list[splat.Splat]
    output: bytes                   # of the job
    console: str
    qemu: str                       # what QEMU had to say itself
    seconds: float
    accel: str

    @property
    def ok(self) -> bool:
        """The job succeeded and the kernel has no complaint."""
        return self.outcome is Outcome.FINISHED and self.status == 0 and not self.splats

    def explain(self) -> str:
        """What is to be said about the run beyond the job's own output."""
        parts: list[str] = []
        if self.outcome is not Outcome.FINISHED:
            tail = "\n".join(self.console.splitlines()[-_LAST_LINES:])
            parts.append(f"{self.outcome.value} (after {self.seconds:.0f} s); "
                         f"the last lines of its console:\n{tail}")
            if self.qemu:
                said = "\n".join(self.qemu.splitlines()[:_LAST_LINES])
                parts.append(f"QEMU says: {said}")
        for report in self.splats:
            parts.append(f"the kernel reports: {report.title}\n{report.context}")
        return "\n\n".join(parts)


def choose_accelerator(asked: str, kernel: image.Kernel) -> str:
    """How a guest with this kernel runs; see ``accel``."""
    return accelerator.choose(asked, kernel, _runs_with_kvm)


def _runs_with_kvm(kernel: image.Kernel, seconds: float) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        job = Path(directory) / "job"
        # glibc's string functions use the newest instructions the processor names.
        job.write_text("#!/bin/bash\nls -l /usr/bin | sort | grep -q bash\n", encoding="ascii")
        return run(Machine(kernel=kernel.name, job=job, accel="kvm", timeout=seconds,
                           idle=seconds, kmemleak=False)).ok


def run(machine: Machine) -> Result:
    """Boots the machine, waits for its end, and reads what it left."""
    which = image.kernel(machine.kernel)
    accel = choose_accelerator(machine.accel, which)
    images = machine.installed[1].parent if machine.installed else image.kernel_images(which)
    with cache.run_directory() as directory:
        command = _command(machine, which, images, accel, directory)
        start = time.monotonic()
        for boots_left in reversed(range(_BOOTS)):
            channels = _Channels(directory, machine)
            outcome = _supervise(command, machine, channels, directory)
            no_guest = outcome in (Outcome.SILENT, Outcome.CRASHED)
            if not no_guest or channels.has_init or not boots_left:
                break
            print("[vm] the guest did not come as far as init; booting it again",
                  file=sys.stderr, flush=True)
        seconds = time.monotonic() - start
        console = channels.console()
        if machine.log:
            machine.log.write_text(console, encoding="utf-8")
        if machine.out:
            _unpack_output(directory / "out.disk", machine.out)
        log = console
        if machine.interactive and channels.done:   # the job's channel has the whole log
            log = channels.job.decode("utf-8", "replace")
        allowed = splat.allow_list(HERE / "allowed-reports")
        return Result(outcome, channels.status, splat.find(log, allowed), bytes(channels.job),
                      console, channels.qemu.decode("utf-8", "replace"), seconds, accel)


# --- The command line ------------------------------------------------------------

_ACCELERATORS = {
    "kvm": ("-accel", "kvm"),
    "tcg": ("-accel", "tcg,thread=multi"),
    "icount": ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"),
}


def _command(machine: Machine, which: image.Kernel, images: Path, accel: str,
             directory: Path) -> list[str]:
    arguments = [
        "qemu-system-x86_64", "-M", "q35", *_ACCELERATORS[accel],
        # With five-level page tables KASAN may err early in the boot.
        "-cpu", "max,la57=off",
        # A socket each: the debug kernel has no ACPI, and the MP table lists sockets.
        "-smp", f"{machine.cpus},sockets={machine.cpus},cores=1,threads=1",
        "-m", str(machine.memory),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", str(machine.installed[0] if machine.installed else which.vmlinuz),
        "-initrd", str(_initrd(machine, images, directory)),
        "-append", _kernel_arguments(machine),
        "-object", "rng-random,filename=/dev/urandom,id=rng", "-device",
        "virtio-rng-pci,rng=rng",
    ]
    if machine.interactive:
        arguments += ["-chardev", f"stdio,id=console,mux=on,signal=off,"
                      f"logfile={directory / 'console'}", "-mon", "console"]
    else:
        arguments += ["-chardev", f"file,id=console,path={directory / 'console'}"]
    arguments += ["-serial", "chardev:console"]
    for name in ("job", "report"):
        arguments += ["-chardev", f"file,id={name},path={directory / name}",
                      "-serial", f"chardev:{name}"]
    for disk in _all_disks(machine, images):
        arguments += _disk_arguments(disk, directory)
    return arguments


def _kernel_arguments(machine: Machine) -> str:
    level = 3 if machine.interactive else 7     # guest.sh raises it for a shell
    # Processors on sockets of their own count the same ticks here, which Linux does not
    # know: it would read a slow clock on a device.
    return (f"console=ttyS0,115200 loglevel={level} panic=-1 oops=panic mitigations=off "
            f"printk.devkmsg=on random.trust_cpu=on tsc=reliable rdinit=/init "
            f"{machine.append}").strip()


def _all_disks(machine: Machine, images: Path) -> Iterable[Disk]:
    if machine.installed:
        pass
    elif not machine.root_script:
        yield Disk("root", image.guest_root(machine.system) / "root.erofs", read_only=True)
    if not machine.installed and (images / "modules.erofs").exists():
        yield Disk("modules", images / "modules.erofs", read_only=True)
    if machine.out:
        yield Disk("out", size=_OUT_SIZE)
    yield from machine.disks


def _disk_arguments(disk: Disk, directory: Path) -> list[str]:
    path = disk.path
    if path is None:
        path = directory / f"{disk.name}.disk"
        with open(path, "wb") as handle:
            handle.truncate(disk.size)
    read_only = "on" if disk.read_only else "off"
    node = f"disk-{disk.name}"
    escaped = str(path).replace(",", ",,")
    snapshot = "on" if disk.discard_writes else "off"
    # The host's page cache is as durable as a guest can need: only a crash of the
    # host would lose it.
    return ["-drive", f"if=none,id={node},format=raw,file={escaped},cache=unsafe,"
            f"discard=unmap,readonly={read_only},snapshot={snapshot}",
            "-device", f"virtio-blk-pci,drive={node},serial={disk.name}"]


def _initrd(machine: Machine, images: Path, directory: Path) -> Path:
    """The cached initramfs with the job behind it."""
    archive = cpio.Archive()
    archive.tree("job/guest.sh", HERE / "guest.sh")
    for name, source in machine.files.items():
        archive.tree(f"job/{name}", source)
    if machine.job:
        archive.file("job/job", machine.job.read_bytes(), 0o755)
    if machine.root_script:
        archive.tree("job/root.sh", machine.root_script)
    if machine.module:
        archive.file("job/rovl.ko", machine.module.read_bytes())
    archive.file("job/conf", _conf(machine).encode())
    target = directory / "initrd"
    with open(target, "wb") as handle:
        base_path = machine.installed[1] if machine.installed else images / "initramfs.cpio"
        with open(base_path, "rb") as base:
            shutil.copyfileobj(base, handle)
        handle.write(b"\0" * (-handle.tell() % 512))
        handle.write(archive.finish())
    return target


def _conf(machine: Machine) -> str:
    variables = dict(machine.env)
    variables["KMEMLEAK"] = "0" if machine.kmemleak is False else "1"
    if machine.answer:
        variables["ASK"] = "1"
    if machine.interactive:
        columns, rows = shutil.get_terminal_size()
        variables.update(INTERACTIVE="1", ROWS=str(rows), COLS=str(columns),
                         TERM=os.environ.get("TERM", "linux"))
        if machine.job:
            variables["JOB"] = "/run/vm/job/job"
    quoted = {name: value.replace("'", "'\\''") for name, value in variables.items()}
    return "".join(f"export {name}='{value}'\n" for name, value in quoted.items())


# --- The running guest -------------------------------------------------------------

class _Channels:
    """The files that QEMU writes what the guest says to."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        self._directory = directory
        self._output = machine.output
        self.job = bytearray()
        self.qemu = bytearray()
        self._report = bytearray()
        self._open: dict[str, BinaryIO] = {}

    def poll(self) -> bool:
        """Reads what is new, and says whether there was anything."""
        news = self._read("job")
        self.job += news
        if news and self._output:
            self._output(news)
        report = self._read("report")
        self._report += report
        self.qemu += self._read("qemu")
        return bool(news or report or self._read("console"))

    @property
    def status(self) -> int | None:
        """The exit status of the job."""
        for line in self._report.decode("ascii", "replace").split("\n"):
            if line.startswith("status ") and line[7:].isdigit():
                return int(line[7:])
        return None

    @property
    def done(self) -> bool:
        """The guest has come to its end in good order."""
        return b"done\n" in self._report

    @property
    def has_init(self) -> bool:
        """The kernel has started the first program."""
        return bool(self.job or self._report) or "Run /init as init" in self.console()

    def console(self) -> str:
        """All that was written to the console."""
        try:
            text = (self._directory / "console").read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return text.replace("\r", "")

    def _read(self, name: str) -> bytes:
        if name not in self._open:
            try:
                # Closed with the run, when this object goes.
                self._open[name] = open(self._directory / name, "rb")
            except FileNotFoundError:
                return b""
        return self._open[name].read()


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


_running: set[subprocess.Popen[bytes]] = set()
_over = threading.Event()


def kill_all() -> None:
    """Ends every guest of this process, and no other begins; the threads that wait for
    them go on."""
    _over.set()
    for process in list(_running):
        process.kill()


class _Stop(BaseException):
    """A signal asked the runner to end."""


@contextmanager
def _answers(machine: Machine) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Answers a guest's questions. Gives the arguments with which QEMU has the channel for
    them, and the descriptor that it must inherit.
    """
    if not machine.answer:
        yield [], ()
        return
    ours, its = socket.socketpair()
    threading.Thread(target=_answer, args=(ours, machine.answer), daemon=True).start()
    with its:
        yield ["-chardev", f"socket,id=ask,fd={its.fileno()}", "-device", "virtio-serial-pci",
               "-device", "virtserialport,chardev=ask,name=ask"], (its.fileno(),)


def _answer(channel: socket.socket, answer: Callable[[str], str]) -> None:
    """Ends with the guest; if it ends by an error, the guest reads an end of file."""
    with channel, channel.makefile("rw", encoding="utf-8") as lines:
        for question in lines:
            lines.write(answer(question.rstrip("\n")) + "\n")
            lines.flush()


def _supervise(command: list[str], machine: Machine, channels: _Channels,
               directory: Path) -> Outcome:
    def stop(number: int, _frame: object) -> None:
        raise _Stop(number)

    if _over.is_set():
        return Outcome.DIED
    handlers = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            handlers[number] = signal.signal(number, stop)
    except ValueError:      # not the main thread: its owner handles signals
        pass
    try:
        # A shell needs the terminal, which belongs to this process group.
        with _answers(machine) as (more, inherited), open(directory / "qemu", "wb") as errors:
            process = subprocess.Popen(
                [*command, *more], pass_fds=inherited,
                stdin=None if machine.interactive else subprocess.DEVNULL,
                stderr=None if machine.interactive else errors,
                preexec_fn=_die_with_parent, start_new_session=not machine.interactive)
        _running.add(process)
        if _over.is_set():      # since it was looked at above
            process.kill()
        try:
            return _wait(process, machine, channels)
        finally:
            process.kill()
            process.wait()
            _running.discard(process)
            if machine.interactive:
                subprocess.run(["stty", "sane"], check=False)
    except FileNotFoundError:
        raise image.ImageError("qemu-system-x86_64 is missing") from None
    except _Stop as signal_:
        sys.exit(128 + signal_.args[0])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], machine: Machine,
          channels: _Channels) -> Outcome:
    start = last = time.monotonic()
    while True:
        ended = process.poll() is not None
        now = time.monotonic()
        if channels.poll():
            last = now
        elif _GAVE_UP in channels.qemu:     # it would again
            return Outcome.DIED
        elif ended:
            if channels.done:
                return Outcome.FINISHED
            crashed = -process.returncode in (signal.SIGABRT, signal.SIGSEGV)
            return Outcome.CRASHED if crashed else Outcome.DIED
        elif not machine.interactive and now - start > machine.timeout:
            return Outcome.TIMED_OUT
        elif not machine.interactive and now - last > _BOOT_IDLE and (
                now - last > machine.idle or not channels.has_init):
            return Outcome.SILENT
        if not ended:
            time.sleep(_POLL)


def _unpack_output(disk: Path, directory: Path) -> None:
    try:
        image.unpack_tar(disk, directory)
    except tarfile.ReadError:
        cache.say("the guest left no output archive")
