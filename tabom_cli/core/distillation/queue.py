"""Who makes which row: processes take the next waiting job as soon as they have room.

A small file beside the output holds the shared counters; the system's file lock guards it. Knows numbers
only, no job and no model. The file is of one call: a later call starts its own.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, get_args

from tabom_cli.core.data.records import Verdict
from tabom_cli.core.files import os_errors

_VERDICTS: tuple[str, ...] = get_args(Verdict)
_FORMAT = struct.Struct(f"<{3 + len(_VERDICTS)}q")


@dataclass(frozen=True)
class Totals:
    """What all processes of a call have taken and made.

    Attributes:
        taken: Jobs handed out.
        tokens: Answer tokens of finished rows.
        forwards: Forward passes of finished rows.
        verdicts: Finished rows by verdict.
    """

    taken: int = 0
    tokens: int = 0
    forwards: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Finished rows."""
        return sum(self.verdicts.values())

    def with_row(self, verdict: str, *, tokens: int, forwards: int) -> Totals:
        """These totals and one more row."""
        return replace(
            self,
            tokens=self.tokens + tokens,
            forwards=self.forwards + forwards,
            verdicts={**self.verdicts, verdict: self.verdicts.get(verdict, 0) + 1},
        )


class WorkQueue(Protocol):
    """Hands out job numbers and adds up finished rows."""

    def take(self, num_jobs: int) -> Iterator[int]:
        """Yield the numbers below `num_jobs` that this process is to make, each when it is asked."""
        ...

    def finish(self, verdict: str, *, tokens: int, forwards: int) -> Totals:
        """Count a finished row; returns the totals of all processes."""
        ...


class OwnQueue:
    """The queue of a single process."""

    def __init__(self) -> None:
        self._totals = Totals()

    def take(self, num_jobs: int) -> Iterator[int]:
        """All numbers in order."""
        return iter(range(num_jobs))

    def finish(self, verdict: str, *, tokens: int, forwards: int) -> Totals:
        """Count a finished row."""
        self._totals = self._totals.with_row(verdict, tokens=tokens, forwards=forwards)
        return self._totals


class SharedQueue:
    """The queue of several processes, in a file that all of them reach.

    Args:
        path: The file; a new call has one process `reset` it before any other takes from it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def reset(self) -> None:
        """Start from nothing."""
        self._update(lambda old: Totals())

    def remove(self) -> None:
        """Delete the file; missing is fine."""
        with os_errors(self._path):
            self._path.unlink(missing_ok=True)

    def take(self, num_jobs: int) -> Iterator[int]:
        """The numbers that no other process has taken."""
        while True:
            taken = self._update(lambda old: replace(old, taken=min(old.taken + 1, num_jobs + 1)))
            if taken.taken > num_jobs:
                return
            yield taken.taken - 1

    def finish(self, verdict: str, *, tokens: int, forwards: int) -> Totals:
        """Count a finished row."""
        return self._update(lambda old: old.with_row(verdict, tokens=tokens, forwards=forwards))

    def _update(self, change: _Change) -> Totals:
        with os_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                raw = os.pread(descriptor, _FORMAT.size, 0)
                new = change(_read(raw) if len(raw) == _FORMAT.size else Totals())
                # One write of some bytes: a kill leaves the old counters or the new ones.
                os.pwrite(descriptor, _packed(new), 0)
                return new
            finally:
                os.close(descriptor)


class _Change(Protocol):
    def __call__(self, old: Totals, /) -> Totals: ...


def queue_path(output: Path) -> Path:
    """The queue file of several processes that write one output."""
    return output.with_name(f".{output.name}.queue")


def _read(raw: bytes) -> Totals:
    taken, tokens, forwards, *counts = _FORMAT.unpack(raw)
    verdicts = {name: count for name, count in zip(_VERDICTS, counts, strict=True) if count}
    return Totals(taken, tokens, forwards, verdicts)


def _packed(totals: Totals) -> bytes:
    counts = [totals.verdicts.get(name, 0) for name in _VERDICTS]
    return _FORMAT.pack(totals.taken, totals.tokens, totals.forwards, *counts)
