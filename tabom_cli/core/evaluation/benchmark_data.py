"""Benchmarks as local JSONL files: what a file must hold, reading it, and a record for the results.

Every row is checked against the column types, so that a fault is shown with file and line instead of
deep inside a template, an Arrow table or a checker. Knows no benchmark and no harness.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tabom_cli.core.errors import DataError
from tabom_cli.core.files import file_sha256


@dataclass(frozen=True)
class HubData:
    """Where a task's data lies on the Hub.

    Attributes:
        name: Dataset repository.
        configuration: Name of the configuration, None for the only one.
        splits: Splits that are joined, in this order.
        gated: Whether its terms must be accepted first.
    """

    name: str
    configuration: str | None
    splits: tuple[str, ...]
    gated: bool = False


@dataclass(frozen=True)
class DataFile:
    """A local copy of a task's data.

    Attributes:
        path: Relative to the data folder.
        split: The split that the harness expects it to be.
        columns: Columns that every row must have, with their types as in annotations.
        hub: Where it comes from.
        num_rows: Rows of the published data, None when not checked.
        optional: Columns that a row may lack, with their types; all others are not read.
    """

    path: str
    split: str
    columns: Mapping[str, Any]
    hub: HubData | None = None
    num_rows: int | None = None
    optional: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def adapters(self) -> dict[str, TypeAdapter[Any]]:
        """What checks each column: strictly, a number as text is a fault."""
        strict = ConfigDict(strict=True)
        types = {**self.columns, **self.optional}
        return {name: TypeAdapter(kind, config=strict) for name, kind in types.items()}


@dataclass(frozen=True)
class DataRecord:
    """Which data a score is of.

    Attributes:
        path: Of the file, relative to the data folder.
        sha256: Of its content.
        num_rows: Its rows.
        published_rows: Rows of the published data, None when not known.
    """

    path: str
    sha256: str
    num_rows: int
    published_rows: int | None

    @property
    def fault(self) -> str | None:
        """How the file differs from the published one, None when it has as many rows."""
        if self.published_rows in (None, self.num_rows):
            return None
        return f"{self.path} has {self.num_rows:,} rows, the benchmark {self.published_rows:,}"


def read_rows(
    data_dir: Path, file: DataFile, *, task: str, first_only: bool = False
) -> list[dict[str, Any]]:
    """The rows of a JSONL data file, reduced to the columns that the task reads.

    Raises:
        DataError: The file is missing or empty, a line is no JSON object, or a column is missing or
            of another type.
    """
    path = data_dir / file.path
    rows: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    rows.append(_row(line, f"{path}:{number}", file, task))
                if rows and first_only:
                    break
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; task '{task}' reads it",
            hint=f"put it there with the columns {', '.join(file.columns)}, "
            "or fetch it with `tabom data pull` on a connected machine",
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not rows:
        raise DataError(f"{path}: empty; task '{task}' reads it")
    return rows


def data_records(files: Sequence[DataFile], data_dir: Path | None) -> list[DataRecord]:
    """Hash and size of those files that lie in the data folder; none when data is the Hub's."""
    if data_dir is None:
        return []
    found = []
    for file in files:
        path = data_dir / file.path
        if path.is_file():
            with path.open("rb") as stream:
                num_rows = sum(1 for line in stream if line.strip())
            found.append(DataRecord(file.path, file_sha256(path), num_rows, file.num_rows))
    return found


def _row(line: str, place: str, file: DataFile, task: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: no JSON object")
    missing = [column for column in file.columns if column not in row]
    if missing:
        raise DataError(
            f"{place}: task '{task}' needs the columns {', '.join(missing)}; "
            f"the row has {', '.join(row) or 'none'}",
            hint="is this the file of another benchmark?",
        )
    kept = {}
    for column, adapter in file.adapters.items():
        try:
            kept[column] = adapter.validate_python(row.get(column))
        except ValidationError as error:
            raise DataError(f"{place}: task '{task}': {_sentence(column, error)}") from error
    return kept


def _sentence(column: str, error: ValidationError) -> str:
    """The first finding in a column, such as `'answer': input should be a valid string, not 5`."""
    fault = error.errors(include_url=False)[0]
    items = "".join(f" item {part}" for part in fault["loc"] if isinstance(part, int))
    found = json.dumps(fault["input"])
    shown = found if len(found) <= 40 else found[:40] + "..."
    return f"'{column}'{items}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, not {shown}"
