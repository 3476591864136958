"""Watching a sandboxed program: output with a cap, the clock, the memory of all its processes.

Knows limits and pipes; neither starts the program nor ends it.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

Status = Literal["ok", "failed", "timeout", "memory", "output", "killed"]

_POLL_S = 0.05
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


class Watch:
    """Reads with a cap while looking at the clock and at the memory of all processes."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, started: float) -> None:
        self.process = process
        self.limits = limits
        self.deadline = started + limits.time_s
        self.verdict: Status | None = None
        self.output = (bytearray(), bytearray())

    def until_done(self, stdin: bytes) -> None:
        """Feed and read until the program ends or breaks a limit; sets `verdict` when it does."""
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
