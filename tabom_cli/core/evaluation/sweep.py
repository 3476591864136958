"""Several epochs of one run: which checkpoints, and their scores side by side.

Keeps the final checkpoint and the best epoch apart, since choosing an epoch by its test score is a
selection. Knows neither models nor tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.evaluation.comparison import differing_settings
from tabom_cli.core.evaluation.report import Table, decode_mode, describe_decode, percent
from tabom_cli.core.evaluation.results import read_results
from tabom_cli.core.files import write_json_atomic
from tabom_cli.core.rundir import RunDir

FILE_NAME = "sweep.json"
FINAL = "final"
SELECTION_NOTE = (
    "the best epoch was chosen by its score on this very test set: a selection, not an estimate. "
    "Report the final checkpoint, or choose the epoch on other problems"
)


def sweep_targets(run_folder: Path, epochs: str) -> dict[str, Path]:
    """The wanted epochs of a run and its final checkpoint, by folder name.

    Args:
        run_folder: Made by `tabom train`.
        epochs: Numbers separated by commas, or `all`.

    Raises:
        UsageError: Not numbers, or epochs that the run did not save.
        RunError: No run folder.
    """
    run = RunDir(run_folder)
    saved = {int(path.name.removeprefix("epoch_")): path for path in run.epochs()}
    if not saved and not run.finished:
        raise RunError(f"{run_folder}: no epochs", "--epochs needs the folder of a training run")
    try:
        wanted = sorted(saved) if epochs == "all" else sorted({int(n) for n in epochs.split(",")})
    except ValueError:
        raise UsageError(f"--epochs {epochs}: not numbers", "such as 1,3,5, or all") from None
    missing = [str(number) for number in wanted if number not in saved]
    if missing:
        there = ", ".join(map(str, saved)) or "none"
        raise UsageError(f"{run_folder} has no epoch {', '.join(missing)}, only {there}")
    found = {f"epoch_{number}": saved[number] for number in wanted}
    return {**found, FINAL: run.final} if run.finished else found


def write_sweep(folders: Mapping[str, Path]) -> tuple[Path, Table]:
    """Write `sweep.json` beside the checkpoints' result folders and make its table.

    Args:
        folders: Result folder of each checkpoint, by the names of `sweep_targets`.
    """
    tasks = {}
    for task, scored in _by_task(folders).items():
        best, final, first = _best(scored), scored.get(FINAL), next(iter(scored.values()))
        tasks[task] = {
            "metric": first["metric"],
            "decode": first["decode"],
            "differing": _differing(scored),
            "values": {name: entry["value"] for name, entry in scored.items()},
            "final": final and final["value"],
            "best_of_epochs": best and {"checkpoint": best, "value": scored[best]["value"]},
        }
    path = next(iter(folders.values())).parent / FILE_NAME
    checkpoints = {name: str(folder) for name, folder in folders.items()}
    write_json_atomic(path, {"checkpoints": checkpoints, "tasks": tasks, "note": SELECTION_NOTE})
    return path, sweep_table(folders, title=str(path.parent))


def sweep_table(folders: Mapping[str, Path], *, title: str) -> Table:
    """One row per task: every checkpoint, then the final one and the best epoch apart.

    A footnote names every setting in which a checkpoint departs from the first one.
    """
    rows, notes = [], [SELECTION_NOTE]
    entries: list[Any] = []
    for task, scored in _by_task(folders).items():
        best, first = _best(scored), next(iter(scored.values()))
        entries += scored.values()
        notes += [f"{task}: {text}" for text in _differing(scored)]
        rows.append(
            (
                task,
                first["metric"],
                describe_decode(first["decode"]),
                *(_cell(scored.get(name)) for name in folders),
                _cell(scored[FINAL]) if FINAL in scored else "not finished",
                f"{_cell(scored[best])} ({best}, selected)" if best else "-",
            )
        )
    return Table(
        title=f"{title}{decode_mode(entries)}: scores in percent with 95 % intervals",
        columns=(
            *("task", "metric", "decode", *folders, "report: final"),
            f"best of {len(folders) - (FINAL in folders)}",
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _by_task(folders: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Task to checkpoint to its entry of results."""
    found: dict[str, dict[str, Any]] = {}
    for name, folder in folders.items():
        for task, entry in read_results(folder)["tasks"].items():
            found.setdefault(task, {})[name] = entry
    return found


def _differing(scored: Mapping[str, Any]) -> list[str]:
    """Settings in which checkpoints depart from the first one; their scores do not compare."""
    (first_name, first), *others = scored.items()
    return [
        f"{name} has {text} of {first_name}"
        for name, entry in others
        for text in differing_settings(first, entry)
    ]


def _best(scored: Mapping[str, Any]) -> str | None:
    epochs = [name for name in scored if name != FINAL]
    return max(epochs, key=lambda name: scored[name]["value"]) if epochs else None


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    low, high = entry["interval_95"]
    return f"{percent(entry['value'])} ({percent(low)} to {percent(high)})"
