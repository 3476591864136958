"""JSON objects from a line-by-line file, with faults that name file and line and come together.

Knows JSON and UTF-8; does not know what the objects mean.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tabom_cli.assets import asset_names, asset_path
from tabom_cli.core.errors import DataError

MAX_SHOWN_FAULTS = 10
MAX_SHOWN_LINES = 3
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ASSET = "asset:"


def local_path(path: Path | str) -> Path:
    """Where a data file lies: the path itself, or for `asset:NAME` the file shipped with tabom.

    Raises:
        DataError: No such asset.
    """
    text = str(path)
    if not text.startswith(_ASSET):
        return Path(path)
    found = asset_path(text.removeprefix(_ASSET))
    if not found.is_file():
        known = ", ".join(asset_names((".jsonl", ".jsonl.gz"))) or "none"
        raise DataError(f"{text}: no such file ships with tabom", hint=f"there are: {known}")
    return found


class Faults:
    """Collects what is wrong with one file and raises or sums up everything at once.

    Attributes:
        path: The file, as it is shown to the user.
        shown: The first ten faults, each with its place.
        count: Faults in all.
        reasons: Faults by reason: what a fault says before its first colon.

    Args:
        path: The file, as it is shown to the user.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self.shown: list[str] = []
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self._lines: dict[str, list[int]] = {}

    def add(self, line: int, text: str) -> None:
        """Note a fault of a line, counted from 1; only the first ten are kept as text."""
        self.count += 1
        reason = text.partition(":")[0]
        self.reasons[reason] += 1
        lines = self._lines.setdefault(reason, [])
        if len(lines) < MAX_SHOWN_LINES:
            lines.append(line)
        if len(self.shown) < MAX_SHOWN_FAULTS:
            self.shown.append(f"{self.path}:{line}: {text}")

    def summary(self) -> str:
        """Counts by reason with the first lines, such as `'prompt' is empty: 4 (lines 1, 3, 9, ...)`."""
        return "; ".join(
            f"{reason}: {count} (line{'s' if count > 1 else ''} "
            + ", ".join(map(str, self._lines[reason]))
            + (", ...)" if count > len(self._lines[reason]) else ")")
            for reason, count in self.reasons.most_common()
        )

    def raise_if_any(self, hint: str | None = None) -> None:
        """Raise one DataError with all faults.

        Raises:
            DataError: At least one fault was noted.
        """
        if not self.count:
            return
        rest = self.count - len(self.shown)
        lines = [*self.shown, *([f"and {rest} more faults"] if rest else [])]
        raise DataError("\n".join(lines), hint=hint)


def read_objects(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of every line that holds a JSON object.

    Blank lines are skipped; every other line that is not an object becomes a fault.

    Args:
        path: An existing file; decompressed when it ends in .gz.
        faults: Receives what is wrong.

    Raises:
        DataError: The file cannot be opened or read.
    """
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                line = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw
                if not line.strip():
                    continue
                value = parse_line(line, number, faults)
                if value is not None:
                    yield number, value
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the compressed file is damaged or cut off: {error}", hint="fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return path.open("rb")


def parse_line(line: bytes, number: int, faults: Faults) -> dict[str, Any] | None:
    """The object of one line, or None after noting a fault.

    Args:
        line: Bytes, with their newline unless the file ends without one.
        number: Line number from 1.
        faults: Receives what is wrong.
    """
    cut_off = not line.endswith(b"\n")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        if cut_off and error.reason == "unexpected end of data":
            faults.add(number, "the last line is cut off: the file is truncated")
        else:
            faults.add(
                number, f"not UTF-8: byte {line[error.start]:#04x} at column {error.start + 1}"
            )
        return None
    except (ValueError, RecursionError) as error:
        if cut_off:
            faults.add(number, "the last line is cut off: the file is truncated")
        else:
            faults.add(number, f"not JSON: {error}")
        return None
    if not isinstance(value, dict):
        faults.add(number, f"not a JSON object but {_kind(value)}")
        return None
    return value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def kind_of(value: Any) -> str:
    """What a JSON value is, in words for a fault: `a list`, `a string`, `null` and so on."""
    return "an object" if isinstance(value, dict) else _kind(value)
