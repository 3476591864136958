"""Append trajectory rows so that a kill at any moment loses at most the row being written.

Knows the identity that rows of one file share; does not know how rows are made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from tabom_cli.core.data.lines import Faults, parse_line
from tabom_cli.core.data.records import Trajectory
from tabom_cli.core.errors import RunError
from tabom_cli.core.files import exclusive_lock, os_errors
from tabom_cli.core.jsonl import JsonlWriter


@dataclass(frozen=True)
class Identity:
    """What all rows of a file have in common; a row made otherwise is never mixed in.

    Attributes:
        model: Name and revision of the model.
        adapter: Adapter folder, None without one.
        decode_hash: Hash of the decode settings that change results.
        template_hash: Hash of the chat template.
        weights_hash: Hash of the weights that answered; names alone do not tell two trainings apart.
    """

    model: str | None
    adapter: str | None
    decode_hash: str | None
    template_hash: str | None
    weights_hash: str | None = None


class TrajectoryWriter:
    """Appends rows to a JSONL file; each is with the system when `write` returns.

    Opening repairs what a killed process left behind and refuses a file of another model, adapter,
    decode configuration or template. One process at a time may write a file.

    Attributes:
        path: The file, created when missing.
        seeds: Seed of every row in the file, by row id; grows with `write`.
        repaired_bytes: Bytes of a torn last line that opening cut off.

    Args:
        path: JSONL file.
        identity: What the new rows have in common.
        fsync: Bring every row to the disk at once (survives a power failure, not only a kill).

    Raises:
        RunError: Another process writes the file, or its rows have another identity.
        DataError: The file holds lines that are no rows.
    """

    def __init__(self, path: Path | str, identity: Identity, *, fsync: bool = False) -> None:
        self.path = Path(path)
        self.identity = identity
        self._fsync = fsync
        with ExitStack() as stack:
            stack.enter_context(exclusive_lock(lock_path(self.path)))
            self._lines = stack.enter_context(JsonlWriter(self.path))
            self.repaired_bytes = self._lines.repaired_bytes
            self.seeds = {place.id: place.seed for place in find_rows(self.path, identity)}
            self._open = stack.pop_all()

    def write(self, row: Trajectory) -> None:
        """Append one row.

        Raises:
            RunError: The disk is full (the file then ends with the row before), the id is already
                there, or the row has another identity.
        """
        if row.id in self.seeds:
            raise RunError(f"{self.path}: row id '{row.id}' is already in the file")
        if identity_of(row) != self.identity:
            raise RunError(f"{self.path}: row '{row.id}' was made with another configuration")
        self._lines.write(row.model_dump(mode="json"))
        if self._fsync:
            with os_errors(self.path):
                descriptor = os.open(self.path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        self.seeds[row.id] = row.seed

    def close(self) -> None:
        """Bring the rows to the disk and let other processes write; closing twice is harmless."""
        self._open.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class RowPlace:
    """Where one row lies.

    Attributes:
        id: Row id.
        seed: Seed of the row's generator.
        verdict: Outcome of the answer check.
        path: File.
        offset: First byte of the line.
        size: Bytes of the line, newline included.
    """

    id: str
    seed: int | None
    verdict: str | None
    path: Path
    offset: int
    size: int


def lock_path(path: Path) -> Path:
    """The lock file of a trajectory file that is being written."""
    return path.with_name(f".{path.name}.lock")


def identity_of(row: Trajectory) -> Identity:
    """The identity that a row records."""
    return Identity(
        model=row.model,
        adapter=row.adapter,
        decode_hash=row.decode_hash,
        template_hash=row.template_hash,
        weights_hash=row.weights_hash,
    )


def find_rows(path: Path, identity: Identity) -> list[RowPlace]:
    """Where every complete row of a file of ours lies; a torn last line is left out.

    Args:
        path: JSONL file; empty when missing.
        identity: What the rows must have in common.

    Raises:
        RunError: A row has another identity; the message says in what it differs.
        DataError: Complete lines that are no rows of ours, or an id twice.
    """
    if not path.exists():
        return []
    faults, found, ids = Faults(path), [], set()
    wanted = asdict(identity)
    offset = 0
    with os_errors(path), path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                break
            row = parse_line(line, number, faults) if line.strip() else None
            if row is not None:
                if not isinstance(row.get("id"), str) or "schema_version" not in row:
                    faults.add(number, "not a row that tabom wrote: no 'id' or 'schema_version'")
                elif row["id"] in ids:
                    faults.add(number, f"row id '{row['id']}' is there twice")
                else:
                    _refuse_other(row, wanted, path, number)
                    ids.add(row["id"])
                    place = (row["id"], row.get("seed"), row.get("verdict"))
                    found.append(RowPlace(*place, path, offset, len(line)))
            offset += len(line)
    faults.raise_if_any("move the file away or choose another output")
    return found


def merge_rows(target: Path, places: Sequence[RowPlace]) -> None:
    """Write rows from any files, in the given order, to `target`: it is complete or unchanged.

    Args:
        target: May itself be one of the sources.
        places: The rows; `find_rows` gives them.

    Raises:
        RunError: The disk is full or a file cannot be read or written.
    """
    partial = target.with_name(f".{target.name}.merging")
    with os_errors(target), ExitStack() as stack:
        sources = {p: stack.enter_context(p.open("rb")) for p in {place.path for place in places}}
        try:
            with partial.open("wb") as out:
                for place in places:
                    sources[place.path].seek(place.offset)
                    out.write(sources[place.path].read(place.size))
                out.flush()
                os.fsync(out.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _refuse_other(
    row: dict[str, object], wanted: dict[str, str | None], path: Path, line: int
) -> None:
    other = [
        f"{key} is {row.get(key)!r}, this run has {value!r}"
        for key, value in wanted.items()
        if row.get(key) != value
    ]
    if other:
        raise RunError(
            f"{path}:{line}: the rows there were made otherwise: {'; '.join(other)}",
            hint="choose another output, move the file away, or go back to the settings it had",
        )
