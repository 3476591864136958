"""The trajectory files of a recipe as one list of rows, each file with its weight.

Rows are taken by the hash of their id, never by place or chance, so that the mixture is the same on every
machine and does not shift when a file grows. Knows files and rows; no tokenizer, no tensor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from tabom_cli.core.data.admission import LoadReport
from tabom_cli.core.data.config import DataConfig, DataFile
from tabom_cli.core.data.records import FAILED, Trajectory, stable_hash
from tabom_cli.core.data.trajectory import (
    check_exists,
    read_trajectories,
    resolve_method_filter,
)


def read_mixture(
    config: DataConfig,
    *,
    objective: str,
    family: str | None,
    needs_order: bool,
    vocab_size: int | None = None,
    recipe: str | None = None,
) -> tuple[list[Trajectory], LoadReport]:
    """The rows of `data.path` and `data.more` that training sees in one epoch, and what was left out.

    A row that an earlier file already holds (same id and content) is left out; the same id with another
    content, and the repetitions of a weight above 1, get ids of their own (`id~2`).

    Args:
        config: A data section with a path.
        objective: Objective name; decides what a null `method_filter` means.
        family: Model family of the student.
        needs_order: The objective reads decoding orders.
        vocab_size: Ids at or above it are faults.
        recipe: Recipe name for hints.

    Raises:
        DataError: A file is missing, damaged or malformed, or has no usable row.
    """
    check_files(config, recipe=recipe)
    rows: list[Trajectory] = []
    reports: list[LoadReport] = []
    contents: dict[str, str] = {}
    for index, file in enumerate(config.files):
        found, report = read_trajectories(
            file.path,
            method_filter=resolve_method_filter(config.method_filter, objective=objective),
            family=family,
            verdicts=config.verdicts,
            needs_order=needs_order,
            needs_ids=config.use_token_ids,
            on_missing_order=config.on_missing_order,
            response_length=config.response_length,
            vocab_size=vocab_size,
            max_rows=file.max_rows,
            source=config.source if index == 0 else None,
            recipe=recipe,
        )
        kept = list(_new_rows(found, contents, report)) if len(config.files) > 1 else found
        weighted = list(_weighted(kept, file))
        report.num_weighted = len(weighted) - len(kept)
        report.num_rows = len(weighted)
        rows += weighted
        reports.append(report)
    whole = LoadReport.joined(reports)
    if config.verdicts is None:
        whole.kept_failures.update(row.verdict for row in rows if row.verdict in FAILED)
    return rows, whole


def check_files(config: DataConfig, *, recipe: str | None) -> None:
    """Refuse a recipe whose trajectory files are not all there; reads nothing.

    Raises:
        DataError: A file is missing.
    """
    for index, file in enumerate(config.files):
        check_exists(file.path, config.source if index == 0 else None, recipe)


def _new_rows(
    rows: Sequence[Trajectory], contents: dict[str, str], report: LoadReport
) -> Iterator[Trajectory]:
    for row in rows:
        content = stable_hash(row.prompt, row.response_token_ids, row.response, row.decoding_order)
        name, number = row.id, 1
        while contents.get(name, content) != content:
            number += 1
            name = f"{row.id}~{number}"
        if name in contents:
            report.num_known += 1
            continue
        contents[name] = content
        yield row if name == row.id else row.model_copy(update={"id": name})


def _weighted(rows: Sequence[Trajectory], file: DataFile) -> Iterator[Trajectory]:
    whole = int(file.weight)
    for row in rows:
        times = whole + (_fraction(row.id) < file.weight - whole)
        for number in range(times):
            yield row if number == 0 else row.model_copy(update={"id": f"{row.id}~w{number + 1}"})


def _fraction(row_id: str) -> float:
    """A number in [0, 1) that is a function of the id alone."""
    digest = hashlib.sha256(f"weight\0{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
