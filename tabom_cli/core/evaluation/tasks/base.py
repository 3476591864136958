"""What a task file says about its task, and how tasks are found by name.

Knows no task and does not import lm-eval or datasets: listing tasks must be quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tabom_cli.core import plugins
from tabom_cli.core.errors import DataError, TabomError, UsageError

KIND = "evaluation task"

LOGLIKELIHOOD_TASKS = (
    "agieval",
    "anli",
    "arc_challenge",
    "arc_easy",
    "blimp",
    "boolq",
    "cb",
    "ceval",
    "cmmlu",
    "commonsense_qa",
    "copa",
    "gpqa",
    "hellaswag",
    "lambada",
    "logiqa",
    "mathqa",
    "medmcqa",
    "medqa",
    "mmlu",
    "openbookqa",
    "pile",
    "piqa",
    "pubmedqa",
    "race",
    "sciq",
    "siqa",
    "swag",
    "truthfulqa_mc1",
    "truthfulqa_mc2",
    "wikitext",
    "winogrande",
    "wsc",
)
"""First words of well-known tasks that need log-likelihoods, which a masked diffusion model lacks."""
_GENERATES = ("generative", "_cot", "_gen", "llama", "chat")
"""Parts of names of the variants of those tasks that generate text."""


def needs_loglikelihoods(name: str) -> bool:
    """Whether a task of the harness is known by its name to need log-likelihoods."""
    of_family = any(name == stem or name.startswith(f"{stem}_") for stem in LOGLIKELIHOOD_TASKS)
    return of_family and not any(part in name for part in _GENERATES)


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
        columns: Columns that every row must have.
        hub: Where it comes from.
        num_rows: Rows of the published data, None when not checked.
    """

    path: str
    split: str
    columns: tuple[str, ...]
    hub: HubData | None = None
    num_rows: int | None = None


@dataclass(frozen=True)
class TaskSettings:
    """What a task file may look at when it builds its lm-eval configuration.

    Attributes:
        data_dir: Folder with local data, None to let the harness load from the Hub.
        num_fewshot: Examples in the prompt.
        limit: Problems wanted, None for all.
        allow_code_execution: Consent to run generated code in the sandbox.
    """

    data_dir: Path | None = None
    num_fewshot: int = 0
    limit: int | None = None
    allow_code_execution: bool = False


@dataclass(frozen=True)
class TaskSpec:
    """One benchmark.

    Attributes:
        name: Equals the file name.
        summary: One line for `tabom eval --list`.
        metrics: Keys of the primary metric in lm-eval's results, most wanted first; a metric of the
            same name under another filter is the last resort.
        config: Makes the dictionary that lm-eval's task manager loads.
        num_problems: Problems in the published benchmark, None when generated.
        files: Local data that replaces the Hub, empty when the task makes its own problems.
        executes_code: Whether scoring runs generated code, which needs consent and the sandbox.
        own: Whether the task ships with tabom and needs no data folder.
        votes: Whether extracted answers can be counted for a majority vote.
        remarks: Facts of this machine that the score depends on, for the results.
    """

    name: str
    summary: str
    metrics: tuple[str, ...]
    config: Callable[[TaskSettings], dict[str, Any]]
    num_problems: int | None = None
    files: tuple[DataFile, ...] = ()
    executes_code: bool = False
    own: bool = False
    votes: bool = False
    remarks: Callable[[], dict[str, str]] | None = None


def task_names() -> list[str]:
    """All task names, read from the folder without importing anything."""
    return plugins.names(KIND)


def load_task(name: str) -> TaskSpec:
    """The task of that name.

    Raises:
        UsageError: The task is unknown or needs log-likelihoods.
    """
    known = task_names()
    if name in known:
        return cast("TaskSpec", plugins.load(KIND, name).TASK)
    near = plugins.nearest(name, known)
    if needs_loglikelihoods(name):
        generated = near if near is not None and near.startswith(name[:4]) else ", ".join(known)
        raise UsageError(
            f"task '{name}' needs log-likelihoods, which a masked diffusion model does not offer",
            hint=f"choose a task that generates text: {generated}",
        )
    raise UsageError(
        f"unknown task '{name}': there are {', '.join(known)}",
        hint=f"did you mean '{near}'?" if near else "see `tabom eval --list`",
    )


def load_tasks(names: Sequence[str]) -> list[TaskSpec]:
    """Several tasks; all faults are shown together.

    Raises:
        UsageError: No name, a name given twice, or names that `load_task` refuses.
    """
    if not names:
        raise UsageError("no task given", hint="name one: see `tabom eval --list`")
    if len(set(names)) != len(names):
        raise UsageError(f"a task is named twice: {', '.join(names)}")
    specs, faults = [], []
    for name in names:
        try:
            specs.append(load_task(name))
        except UsageError as error:
            faults.append(error)
    if faults:
        raise _together(faults, UsageError)
    return specs


def check_data(specs: Sequence[TaskSpec], data_dir: Path | None) -> None:
    """Check that the data folder has every file with the columns its task reads.

    Only the first row of each file is read, so that this can run before a model is loaded.

    Raises:
        DataError: The folder or files are missing or have other columns; all faults together.
    """
    if data_dir is None:
        return
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such data folder", hint="check --data-dir")
    faults = []
    for spec in specs:
        for file in spec.files:
            try:
                read_rows(data_dir, file, task=spec.name, first_only=True)
            except DataError as error:
                faults.append(error)
    if faults:
        raise _together(faults, DataError)


def read_rows(
    data_dir: Path, file: DataFile, *, task: str, first_only: bool = False
) -> list[dict[str, Any]]:
    """The rows of a JSONL data file.

    Raises:
        DataError: The file is missing or empty, a line is no JSON object, or a column is missing.
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
    if not rows:
        raise DataError(f"{path}: empty; task '{task}' reads it")
    return rows


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
    return row


def _together(faults: Sequence[TabomError], kind: type[TabomError]) -> TabomError:
    hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
    return kind("\n".join(fault.message for fault in faults), hint="; ".join(hints) or None)
