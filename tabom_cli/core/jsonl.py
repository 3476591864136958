"""JSON-lines files that a kill at any moment leaves readable.

Knows nothing about what the records mean.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tabom_cli.core.errors import RunError
from tabom_cli.core.files import os_errors


class JsonlWriter:
    """Appends JSON lines, each handed to the system when `write` returns.

    A last line that a killed process left without its newline is completed when it is valid JSON
    and cut off otherwise.

    Attributes:
        path: The file, created when missing.
        repaired_bytes: Bytes of a torn last line that opening removed.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = io.FileIO(self.path, "a+")
            self.repaired_bytes = _repair_tail(self._stream)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; after an error the file ends with the line before it.

        Raises:
            RunError: The disk is full or the file cannot be written.
            ValueError: The record holds NaN or an infinity.
        """
        line = (json.dumps(record, allow_nan=False) + "\n").encode("utf-8")
        with os_errors(self.path):
            before = self._stream.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(line):
                    written += self._stream.write(line[written:])
            except BaseException:
                self._stream.truncate(before)
                raise

    def close(self) -> None:
        """Bring the lines to the disk and close the file; closing twice is harmless."""
        if not self._stream.closed:
            with os_errors(self.path):
                os.fsync(self._stream.fileno())
                self._stream.close()

    def __enter__(self) -> JsonlWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def append_jsonl(path: Path | str) -> JsonlWriter:
    """A writer that appends to `path`, creating it and repairing a torn last line."""
    return JsonlWriter(path)


def truncate_jsonl(path: Path | str, num_lines: int) -> None:
    """Keep the first `num_lines` lines, so that a resumed run writes the later ones again.

    Raises:
        RunError: The file holds fewer complete lines.
    """
    path = Path(path)
    with os_errors(path):
        if num_lines == 0 and not path.exists():
            return
        size, found = 0, 0
        with path.open("rb") as stream:
            for line in stream:
                if found == num_lines or not line.endswith(b"\n"):
                    break
                size += len(line)
                found += 1
        if found < num_lines:
            raise RunError(
                f"{path}: {found} complete lines, {num_lines} were expected",
                hint="the file was shortened after the state was saved; resume from an older state",
            )
        os.truncate(path, size)


def _repair_tail(stream: io.FileIO) -> int:
    """Complete or cut a last line without newline; returns the bytes cut."""
    position = size = stream.seek(0, os.SEEK_END)
    tail = b""
    while position and b"\n" not in tail:
        start = max(0, position - 65536)
        stream.seek(start)
        tail = _read(stream, position - start) + tail
        position = start
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return 0
    try:
        json.loads(torn)
    except ValueError:
        stream.truncate(size - len(torn))
        return len(torn)
    stream.write(b"\n")
    return 0


def _read(stream: io.FileIO, count: int) -> bytes:
    pieces = []
    while count:
        piece = stream.read(count)
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
