"""Read trajectory files: rows of the original release in every alias form, and our own richer ones.

Strict where the release was silently wrong; every row that is left out is counted with its reason.
Knows files and rows; no tokenizer, no tensor. Source: the loader of the original release.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tabom_cli.core.data.admission import LoadReport, OnMissingOrder, Rules, admit
from tabom_cli.core.data.filters import MethodFilter, RowFault, resolve_method_filter
from tabom_cli.core.data.lines import Faults, local_path, read_objects
from tabom_cli.core.data.records import (
    SCHEMA_VERSION,
    Trajectory,
    Verdict,
    content_length,
    non_ltr_positions,
)
from tabom_cli.core.data.writer import Identity, TrajectoryWriter
from tabom_cli.core.errors import DataError, RunError
from tabom_cli.core.files import os_errors
from tabom_cli.core.jsonl import JsonlWriter

__all__ = [
    "SCHEMA_VERSION",
    "Identity",
    "LoadReport",
    "Trajectory",
    "TrajectoryWriter",
    "Verdict",
    "content_length",
    "iter_trajectories",
    "non_ltr_positions",
    "read_trajectories",
    "resolve_method_filter",
    "write_trajectories",
]


def read_trajectories(
    path: Path | str,
    *,
    method_filter: MethodFilter = "all",
    family: str | None = None,
    verdicts: Collection[str] | None = None,
    needs_order: bool = False,
    needs_ids: bool = False,
    on_missing_order: OnMissingOrder = "error",
    response_length: int | None = None,
    vocab_size: int | None = None,
    max_rows: int | None = None,
    source: str | None = None,
    recipe: str | None = None,
) -> tuple[list[Trajectory], LoadReport]:
    """All rows of a file that pass the filters, in file order, and what was left out.

    Args:
        path: JSONL file, .jsonl.gz, or `asset:NAME`.
        method_filter: `resolve_method_filter` turns a null setting into one of these.
        family: Family of the student; LLaDA's `entropy` keeps `default` and `credit` too.
        verdicts: Keep rows of these verdicts and rows without one; None keeps all.
        needs_order: The objective reads `decoding_order`.
        needs_ids: Training reads `response_token_ids`.
        on_missing_order: What happens to a row without a full order (or, for `drop`, without ids)
            when it is needed.
        response_length: T in tokens. Ids and orders are full at this length even when they are
            longer; None means that an order must be as long as the row's ids.
        vocab_size: Ids at or above it are faults; None checks only the sign.
        max_rows: Stop after this many rows.
        source: Where the published file comes from, for the hint when it is missing.
        recipe: Recipe name for the `tabom distill` line of that hint.

    Raises:
        DataError: The file is missing, empty or damaged, rows are malformed (up to ten are shown,
            each with file and line), or nothing is left after filtering.
    """
    check_exists(path, source, recipe)
    path = local_path(path)
    rules = Rules(
        method_filter=method_filter,
        family=family,
        verdicts=verdicts,
        needs_order=needs_order,
        needs_ids=needs_ids,
        on_missing_order=on_missing_order,
        response_length=response_length,
        vocab_size=vocab_size,
    )
    report, faults = LoadReport(str(path)), Faults(path)
    rows: list[Trajectory] = []
    for row in _admitted(path, rules, report, faults):
        rows.append(row)
        if max_rows is not None and len(rows) == max_rows:
            report.stopped_at_max_rows = True
            break
    report.num_rows = len(rows)
    report.num_no_response = sum(not row.response for row in rows)
    faults.raise_if_any(_fault_hint(faults))
    _check_not_empty(path, rows, report)
    return rows, report


def iter_trajectories(path: Path | str) -> Iterator[Trajectory]:
    """Yield all rows of a file, reading no further than is asked for.

    Args:
        path: JSONL file, .jsonl.gz, or `asset:NAME`.

    Raises:
        DataError: The file is missing, or the rows up to here hold a fault.
    """
    check_exists(path, None, None)
    path = local_path(path)
    faults = Faults(path)
    for row in _admitted(path, Rules(), LoadReport(str(path)), faults):
        faults.raise_if_any(_fault_hint(faults))
        yield row
    faults.raise_if_any(_fault_hint(faults))


def _admitted(path: Path, rules: Rules, report: LoadReport, faults: Faults) -> Iterator[Trajectory]:
    ids: Counter[str] = Counter()
    for number, raw in read_objects(path, faults):
        report.num_lines += 1
        try:
            row = admit(raw, ids, rules, report)
        except RowFault as fault:
            faults.add(number, str(fault))
            continue
        if row is not None:
            yield row


def write_trajectories(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows to a new JSONL file, whole or not at all; rows may be made while it grows.

    Args:
        path: New file.
        rows: Plain values.

    Raises:
        RunError: The file exists, the disk is full, or the place cannot be written.
    """
    if path.exists():
        raise RunError(f"{path} exists and is not overwritten", "choose another file name")
    partial = path.with_name(f".{path.name}.writing")
    partial.unlink(missing_ok=True)
    try:
        with JsonlWriter(partial) as lines:
            for row in rows:
                lines.write(row)
        with os_errors(path):
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_exists(path: Path | str, source: str | None, recipe: str | None) -> None:
    """Refuse a trajectory file that is not there.

    Args:
        path: As in the recipe.
        source: Where the published file comes from, for the hint.
        recipe: Recipe name for the `tabom distill` line of the hint.

    Raises:
        DataError: No such file.
    """
    path = local_path(path)
    if path.is_file():
        return
    if path.exists():
        raise DataError(f"{path}: not a file")
    ways = [f"the published file comes from {source}"] if source else []
    name = f" --recipe {recipe}" if recipe else " --recipe NAME"
    ways.append(f"make it with: tabom distill{name}")
    raise DataError(f"{path}: no such trajectory file", hint="; or ".join(ways))


def _check_not_empty(path: Path, rows: list[Trajectory], report: LoadReport) -> None:
    if rows:
        return
    if not report.num_lines:
        raise DataError(f"{path}: the file is empty", hint="make it again with tabom distill")
    reasons = "; ".join(report.summary())
    raise DataError(
        f"{path}: none of its {report.num_lines} rows can be used: {reasons}",
        hint="data.method_filter, data.verdicts and data.on_missing_order choose the rows",
    )


def _fault_hint(faults: Faults) -> str | None:
    text = "\n".join(faults.shown)
    if "decoding_order' is missing" in text or "decoding_order' is short" in text:
        return (
            "--set data.on_missing_order=drop leaves such rows out, =ltr orders them left to right"
        )
    if "cut off" in text:
        return "fetch the file again, or run the same tabom distill again: it repairs and goes on"
    return None
