"""Fetch the data of tasks from the Hub once, for machines without a network.

Writes the same JSONL files that `--data-dir` reads. Knows where data lies only through the task files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import DataError, EnvironmentNotReady, TabomError, UsageError
from tabom_cli.core.evaluation.benchmark_data import DataFile, HubData
from tabom_cli.core.evaluation.tasks.base import TaskSpec, load_tasks, task_names
from tabom_cli.core.files import file_sha256, write_json_atomic, write_text_atomic
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

SOURCES = "sources.json"


@dataclass(frozen=True)
class Fetched:
    """The rows of a data file and the commit of the dataset that they are of."""

    rows: list[dict[str, Any]]
    revision: str


Fetch = Callable[[DataFile], Fetched]
"""A data file from where it is published."""


@dataclass(frozen=True)
class Pulled:
    """One file of a data folder.

    Attributes:
        path: Relative to the data folder.
        num_rows: Its rows.
        is_new: Whether this call fetched it.
    """

    path: str
    num_rows: int
    is_new: bool


def files_of(tasks: Sequence[str]) -> list[DataFile]:
    """The data files of some tasks, of all that have any when none is named.

    Raises:
        UsageError: Unknown tasks, or only tasks that make their own problems.
    """
    specs: list[TaskSpec] = load_tasks(tasks or task_names())
    found = {file.path: file for spec in specs for file in spec.files if file.hub is not None}
    if not found:
        names = ", ".join(tasks)
        raise UsageError(f"{names}: made by tabom itself, there is nothing to fetch")
    return list(found.values())


def hub_fetch(file: DataFile) -> Fetched:
    """The rows of a data file, from the Hub, at the commit that is the newest now.

    Raises:
        EnvironmentNotReady: As `hub_rows`.
    """
    if file.hub is None:
        raise UsageError(f"{file.path}: not published on the Hub")
    from huggingface_hub import HfApi

    with _hub_faults(file.hub):
        revision = HfApi().dataset_info(file.hub.name).sha or "main"
    return Fetched(hub_rows(file, revision=revision), revision)


def hub_rows(file: DataFile, *, revision: str | None = None) -> list[dict[str, Any]]:
    """The rows of a data file, from the Hub.

    Args:
        file: Which.
        revision: Commit of the dataset, None for the newest.

    Raises:
        EnvironmentNotReady: The Hub cannot be reached, or the terms of a gated dataset were not
            accepted.
    """
    if file.hub is None:
        raise UsageError(f"{file.path}: not published on the Hub")
    from datasets import load_dataset

    hub = file.hub
    with _hub_faults(hub):
        dataset = load_dataset(
            hub.name, hub.configuration, split="+".join(hub.splits), revision=revision
        )
    return [dict(row) for row in dataset]


@contextmanager
def _hub_faults(hub: HubData) -> Iterator[None]:
    """One error for every way not to reach a dataset: many libraries raise their own types."""
    try:
        yield
    except Exception as error:
        hint = "is there a network, and HF_HUB_OFFLINE unset?"
        if hub.gated:
            hint = f"accept the terms of {hub.name} on the Hub and log in with `hf auth login`"
        raise EnvironmentNotReady(f"{hub.name} cannot be fetched: {error}", hint=hint) from error


def pull(
    data_dir: Path,
    tasks: Sequence[str] = (),
    *,
    again: bool = False,
    fetch: Fetch = hub_fetch,
    progress: ProgressCallback = silent,
) -> list[Pulled]:
    """Fetch the data of tasks into a folder; files that exist are kept.

    A file that cannot be had (terms not accepted, say) does not keep the others from being fetched.

    Args:
        data_dir: Folder for `--data-dir`; `sources.json` in it records names, commits, times
            and hashes.
        tasks: Task names; empty means all.
        again: Fetch files that exist too.
        fetch: Where rows come from; tests give their own.
        progress: Told after every file.

    Raises:
        UsageError: Unknown tasks.
        EnvironmentNotReady: The Hub cannot be reached.
        DataError: Fetched rows lack columns or are too few; the folder keeps its old file.
    """
    files = files_of(tasks)
    done: list[Pulled] = []
    faults: list[TabomError] = []
    for number, file in enumerate(files, start=1):
        path = data_dir / file.path
        if path.is_file() and not again:
            with path.open(encoding="utf-8") as stream:
                done.append(Pulled(file.path, sum(1 for line in stream if line.strip()), False))
        else:
            try:
                done.append(_fetch_into(data_dir, file, fetch))
            except (EnvironmentNotReady, DataError) as fault:
                faults.append(fault)
        progress(ProgressEvent(task="pull", done=number, total=len(files), text=file.path))
    if faults:
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        text = "\n".join(fault.message for fault in faults)
        raise type(faults[0])(text, hint="; ".join(hints) or None)
    return done


def _fetch_into(data_dir: Path, file: DataFile, fetch: Fetch) -> Pulled:
    fetched = fetch(file)
    rows = [_plain(row) for row in fetched.rows]
    _check(file, rows)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text_atomic(data_dir / file.path, "\n".join(lines) + "\n")
    _record(data_dir, file, len(rows), fetched.revision)
    return Pulled(file.path, len(rows), True)


def _check(file: DataFile, rows: Sequence[dict[str, Any]]) -> None:
    missing = [name for name in file.columns if any(name not in row for row in rows)]
    if missing:
        raise DataError(
            f"{file.path}: the fetched rows lack {', '.join(missing)}; nothing was written"
        )
    if file.num_rows is not None and len(rows) != file.num_rows:
        raise DataError(
            f"{file.path}: {len(rows)} rows were fetched, the benchmark has {file.num_rows}; "
            "nothing was written"
        )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the empty fields that the Hub's columns force into lists of records."""
    return {
        key: [
            {k: v for k, v in item.items() if v is not None} if isinstance(item, dict) else item
            for item in value
        ]
        if isinstance(value, list)
        else value
        for key, value in row.items()
    }


def _record(data_dir: Path, file: DataFile, num_rows: int, revision: str) -> None:
    path = data_dir / SOURCES
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known[file.path] = {
        "hub": None if file.hub is None else asdict(file.hub),
        "revision": revision,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_rows": num_rows,
        "sha256": file_sha256(data_dir / file.path),
    }
    write_json_atomic(path, known)
