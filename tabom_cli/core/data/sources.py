"""Rows of prompt files: JSONL, parquet, folders, folders saved by `datasets`, and Hub datasets.

Knows places and formats, not columns. `pyarrow` and `datasets` are imported only when such a place is
read; JSONL never needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.data.lines import Faults, local_path, read_objects
from tabom_cli.core.errors import DataError

_JSONL = (".jsonl", ".jsonl.gz", ".json.gz")
_SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")


def source_name(config: PromptsConfig) -> str:
    """What the rows of a section are called: the Hub name or the file or folder name."""
    if config.hub is not None:
        return config.hub
    return Path(str(config.path or config.data_file)).name


def source_place(config: PromptsConfig) -> str:
    """The place as it is shown in faults.

    Raises:
        DataError: `data_file` without a `data_dir`.
    """
    if config.hub is not None:
        return config.hub
    if config.path is not None:
        return config.path
    if config.data_dir is None:
        raise DataError(
            f"the prompts are {config.data_file} of a data folder, and there is none",
            hint="give --data-dir DIR, a folder with the benchmarks as JSONL",
        )
    return str(Path(config.data_dir) / str(config.data_file))


def read_source(config: PromptsConfig, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or row number from 1, row) of every row, in the order of the files.

    Args:
        config: A prompt section that does not generate its prompts.
        faults: Receives lines that are no objects.

    Raises:
        DataError: The place is missing, unreadable, of another version, or out of reach.
    """
    if config.hub is not None:
        yield from _numbered(_from_hub(config.hub, config.split, config.revision))
        return
    path = local_path(source_place(config))
    if not path.exists():
        came = f"the prompts come from {config.source}; " if config.source else ""
        where = "--data-dir" if config.data_file else "distill.prompts.path"
        raise DataError(f"{path}: no such prompt file", hint=f"{came}{where} names the file")
    if path.is_dir():
        yield from _from_folder(path, config.split, faults)
    elif path.suffix == ".parquet":
        yield from _numbered(_from_parquet(path))
    else:
        yield from read_objects(path, faults)


def _from_folder(path: Path, split: str, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    if any((path / name).is_file() for name in _SAVED):
        yield from _numbered(_from_disk(path, split))
        return
    files = sorted(file for file in path.rglob("*") if file.name.endswith((".parquet", *_JSONL)))
    of_split = [file for file in files if file.name.startswith(split) or file.parent.name == split]
    count = 0
    for file in of_split or files:
        rows = _from_parquet(file) if file.suffix == ".parquet" else _objects(file, faults)
        for row in rows:
            count += 1
            yield count, row
    if not files:
        raise DataError(
            f"{path}: a folder without JSONL or parquet files",
            hint="name a file, a folder of files, or a folder made with Dataset.save_to_disk",
        )


def _objects(path: Path, faults: Faults) -> Iterator[dict[str, Any]]:
    return (row for _, row in read_objects(path, faults))


def _from_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet: {_first_line(error)}",
            hint="the file is damaged or was only partly fetched",
        ) from error


def _from_disk(path: Path, split: str) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: datasets {datasets.__version__} cannot read this folder: {_first_line(error)}",
            hint="it may come from another version: save it again with this one, or as JSONL "
            "(Dataset.to_json)",
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise DataError(
                f"{path}: no split '{split}' (splits: {', '.join(found)})",
                hint="distill.prompts.split names the split",
            )
        found = found[split]
    yield from (dict(row) for row in found)


def _from_hub(name: str, split: str, revision: str | None) -> Iterator[dict[str, Any]]:
    import datasets

    try:
        found = datasets.load_dataset(name, split=split, revision=revision)
    except Exception as error:  # the Hub client has no common class for a network that is not there
        raise DataError(
            f"{name}: cannot be loaded from the Hub: {_first_line(error)}",
            hint=f"on a machine with a network: hf download --repo-type dataset {name} --local-dir "
            "DIR; then --set distill.prompts.hub=null --set distill.prompts.path=DIR",
        ) from error
    yield from (dict(row) for row in found)


def _numbered(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(rows, start=1)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
