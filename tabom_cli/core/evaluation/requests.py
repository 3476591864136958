"""The first half-phase of evaluation: tasks to a file of prompts. Knows no model and no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabom_cli.core.errors import UsageError
from tabom_cli.core.evaluation.records import Request, RequestsHeader, write_requests
from tabom_cli.core.evaluation.tasks.base import (
    TaskSettings,
    check_data,
    data_faults,
    load_tasks,
)
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent


def build_requests(
    tasks: Sequence[str],
    path: Path,
    *,
    data_dir: Path | None = None,
    num_fewshot: int = 0,
    limit: int | None = None,
    seed: int = 0,
    num_samples: int = 1,
    progress: ProgressCallback = silent,
) -> list[Request]:
    """Write the prompts of some tasks as a requests file; lm-eval renders them.

    Args:
        tasks: Names of task files.
        path: The requests file to write, whole or not at all.
        data_dir: Folder with local data; with it nothing reaches for the network.
        num_fewshot: Examples in the prompt.
        limit: Only this many problems of each task.
        seed: Seeds the sampler of every row, and few-shot draws.
        num_samples: Answers wanted per problem.
        progress: Warned of data files that are not the whole benchmark.

    Returns:
        The requests that were written.

    Raises:
        UsageError: Unknown tasks or numbers out of range.
        DataError: The data folder lacks a file or has other columns.
    """
    if num_fewshot < 0 or num_samples < 1 or (limit is not None and limit < 1):
        raise UsageError(
            f"num_fewshot {num_fewshot}, num_samples {num_samples}, limit {limit}: "
            "need at least 0, 1 and 1"
        )
    specs = load_tasks(tasks)
    check_data(specs, data_dir)
    for fault in data_faults(specs, data_dir):
        progress(ProgressEvent(kind="warning", task="requests", text=fault))
    from tabom_cli.core.evaluation.harness import harness_version, render_requests

    settings = TaskSettings(data_dir=data_dir, num_fewshot=num_fewshot, limit=limit)
    requests, versions = render_requests(specs, settings, seed=seed, num_samples=num_samples)
    header = RequestsHeader(
        tasks=tuple(tasks),
        task_versions=versions,
        data_dir=None if data_dir is None else str(data_dir),
        num_fewshot=num_fewshot,
        limit=limit,
        num_samples=num_samples,
        seed=seed,
        harness=harness_version(),
    )
    write_requests(path, header, requests)
    return requests
