"""Two or more results of one task side by side: paired differences, and which settings differ.

Reads result files only; knows neither models nor how anything was scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import DataError
from tabom_cli.core.evaluation.report import Table, results_title
from tabom_cli.core.evaluation.results import read_results, read_sample_scores
from tabom_cli.core.evaluation.statistics import Comparison, compare_paired

_COMPARED = (
    *("metric", "task_version", "harness", "num_fewshot", "num_samples", "max_prompt_length"),
    *("answer_end", "template_hash", "base_hash"),
)
"""Keys of an entry, besides its decode settings, that can move a score between two runs."""


def compare_results(folder_a: Path, folder_b: Path, *, seed: int = 0) -> dict[str, Comparison]:
    """Paired comparisons of two result folders, by task; b against a.

    Raises:
        DataError: No task in common, or a task was scored on different prompts.
    """
    entries_a, entries_b = _common(folder_a, folder_b)
    found = {}
    for task, entry_a in entries_a.items():
        scores_a, scores_b = read_sample_scores(folder_a, task), read_sample_scores(folder_b, task)
        same_prompts = entry_a["prompts_hash"] == entries_b[task]["prompts_hash"]
        if scores_a.keys() != scores_b.keys() or not same_prompts:
            raise DataError(
                f"{task}: the two runs answered different prompts "
                f"({len(scores_a)} and {len(scores_b)} problems)",
                hint="evaluate both with the same --limit, shots and data",
            )
        order = sorted(scores_a)
        found[task] = compare_paired(
            [scores_a[index] for index in order], [scores_b[index] for index in order], seed=seed
        )
    return found


def comparison_table(folder_a: Path, folder_b: Path, *, seed: int = 0) -> Table:
    """One row per task: difference, interval and whether it is real; b against a.

    The title names the models and decode modes, the footnotes every setting that differs.

    Raises:
        DataError: No task in common, or a task was scored on different prompts.
    """
    comparisons = compare_results(folder_a, folder_b, seed=seed)
    entries_a, entries_b = _common(folder_a, folder_b)
    rows = tuple(
        (
            task,
            entries_b[task]["metric"],
            f"{100 * item.difference:+.2f}",
            f"{100 * item.interval.low:+.2f} to {100 * item.interval.high:+.2f}",
            f"{item.wins}/{item.losses}",
            f"{item.p_value:.3f}",
            "yes" if item.is_real else "no",
        )
        for task, item in comparisons.items()
    )
    notes = ["a difference is called real when its interval does not hold zero"]
    for task, entry_a in entries_a.items():
        notes += [f"{task}: {text}" for text in differing_settings(entry_a, entries_b[task])]
    return Table(
        title=f"{folder_b} ({results_title(entries_b.values())}) against {folder_a} "
        f"({results_title(entries_a.values())})",
        columns=(
            *("task", "metric", "difference", "95 % paired bootstrap", "won/lost"),
            *("sign test p", "real"),
        ),
        rows=rows,
        notes=tuple(notes),
    )


def differing_settings(entry_a: Mapping[str, Any], entry_b: Mapping[str, Any]) -> list[str]:
    """Settings besides the weights that can move a score, as `<key> <b> against <a>`."""
    before, after = dict(_settings(entry_a)), dict(_settings(entry_b))
    return [
        f"{key} {after.get(key)} against {before.get(key)}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


def _settings(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, entry.get(key)) for key in _COMPARED)
    # The batch size changes no answer.
    decode = entry["decode"].items()
    yield from ((f"decode.{key}", value) for key, value in decode if key != "batch_size")
    yield from entry["remarks"].items()


def _common(folder_a: Path, folder_b: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    tasks_a, tasks_b = read_results(folder_a)["tasks"], read_results(folder_b)["tasks"]
    common = [task for task in tasks_a if task in tasks_b]
    if not common:
        raise DataError(f"{folder_a} and {folder_b} have no task in common")
    return {task: tasks_a[task] for task in common}, {task: tasks_b[task] for task in common}
