"""An evaluation as one value: which tasks, with which settings, in which files, and its phases.

Knows neither the command line nor the recipe; a command makes a job and runs the phases it wants.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabom_cli.core.evaluation.checks import check_answers, check_family, check_folder
from tabom_cli.core.evaluation.config import EvalConfig
from tabom_cli.core.evaluation.plan import TaskPlan, plan_tasks
from tabom_cli.core.evaluation.records import read_completions, read_requests
from tabom_cli.core.evaluation.tasks.base import load_tasks
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

if TYPE_CHECKING:
    from tabom_cli.core.evaluation.generate import GenerateSummary
    from tabom_cli.core.evaluation.observers import TracingObserver
    from tabom_cli.core.evaluation.preview import Preview
    from tabom_cli.core.evaluation.published import PaperRow
    from tabom_cli.core.models.base import DiffusionLM

OUTPUT_DIR = Path("output") / "eval"


@dataclass(frozen=True)
class Group:
    """Tasks that share a requests file and a completions file, and so their settings."""

    plans: tuple[TaskPlan, ...]
    requests: Path
    completions: Path

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return [plan.spec.name for plan in self.plans]


@dataclass(frozen=True)
class EvalJob:
    """One checkpoint and everything that is asked of it.

    Attributes:
        checkpoint: Folder or name, as given.
        folder: Where all files go.
        plans: One per task.
        data_dir: Folder with local data, None for the harness's own way.
        limit: Problems per task, None for all.
        seed: Seeds few-shot draws, every row's sampler and the bootstraps.
        consent: Whether generated code may run in the sandbox.
        family: Family that the plans were made for, None when it is not known.
        paper: What of the paper to compare with, None when nothing was published.
    """

    checkpoint: str
    folder: Path
    plans: tuple[TaskPlan, ...]
    data_dir: Path | None
    limit: int | None
    seed: int
    consent: bool
    family: str | None = None
    paper: PaperRow | None = None

    @property
    def lock(self) -> Path:
        """Lock file for `exclusive_lock`: one evaluation writes into a folder."""
        return self.folder / ".lock"

    @property
    def groups(self) -> list[Group]:
        """The plans by the files that hold their prompts and answers, in order."""
        found: dict[Path, list[TaskPlan]] = {}
        for plan in self.plans:
            found.setdefault(plan.completions_path(self.folder), []).append(plan)
        return [
            Group(tuple(plans), plans[0].requests_path(self.folder), path)
            for path, plans in found.items()
        ]


def default_folder(checkpoint: str) -> Path:
    """`output/eval/<checkpoint with dashes>`."""
    return OUTPUT_DIR / (checkpoint.strip("/.").replace("/", "-") or "checkpoint")


def plan_job(
    checkpoint: str,
    config: EvalConfig,
    *,
    tasks: Sequence[str] = (),
    family: str | None,
    overrides: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    data_dir: Path | None = None,
    seed: int = 0,
    paper: PaperRow | None = None,
) -> EvalJob:
    """Resolve everything and check it, before anything is loaded.

    Args:
        checkpoint: Folder or name, for the default folder and for messages.
        config: The recipe's evaluation section, with the profile and limits that are wanted.
        tasks: Task names; empty takes the recipe's.
        family: Family of the model, which picks the presets.
        overrides: Settings from the command line, laid over a preset.
        folder: Where files go; None for `default_folder`.
        data_dir: Local data; None for the recipe's.
        seed: The run's seed.
        paper: What of the paper to compare with.

    Raises:
        UsageError: Unknown tasks, profile or settings.
    """
    specs = load_tasks(tasks or config.tasks)
    plans = plan_tasks(specs, config, family=family, overrides=overrides)
    return EvalJob(
        checkpoint=checkpoint,
        folder=folder or default_folder(checkpoint),
        plans=tuple(plans),
        data_dir=data_dir or (Path(config.data_dir) if config.data_dir else None),
        limit=config.limit,
        seed=seed,
        consent=config.allow_code_execution,
        family=family,
        paper=paper,
    )


def write_requests(job: EvalJob, *, progress: ProgressCallback = silent) -> None:
    """Render all prompts with lm-eval into the job's requests files; warns of incomplete data."""
    from tabom_cli.core.evaluation.requests import build_requests

    for group in job.groups:
        first = group.plans[0]
        build_requests(
            group.tasks,
            group.requests,
            data_dir=job.data_dir,
            num_fewshot=first.num_fewshot,
            limit=job.limit,
            seed=job.seed,
            num_samples=first.num_samples,
            progress=progress,
        )


def count_answers(job: EvalJob) -> tuple[int, int]:
    """Answers that exist, and answers that are wanted by the prompts that were made."""
    done = wanted = 0
    for group in job.groups:
        if group.requests.is_file():
            ids = {r.id for r in read_requests(group.requests)[1] if r.task in group.tasks}
            done += len(ids & read_completions(group.completions)[1].keys())
            wanted += len(ids)
    return done, wanted


def answer(
    job: EvalJob,
    model: DiffusionLM,
    *,
    rank: int = 0,
    world_size: int = 1,
    observer: TracingObserver | None = None,
    wait: Callable[[], None] = lambda: None,
    on_preview: Callable[[Preview], None] | None = None,
    extract: bool = True,
    progress: ProgressCallback = silent,
) -> list[GenerateSummary]:
    """Answer every prompt that has no answer yet; the first two of each task are shown ahead.

    Args:
        job: What is asked.
        model: Who answers.
        rank: Number of this process.
        world_size: Number of processes.
        observer: Records a trace per row that is stored with the answer.
        wait: Returns when all processes have called it.
        on_preview: Given each of the first prompts of every task with its answer, on rank 0, before
            the rest is answered.
        extract: Whether previews hold what the harness extracts, which needs lm-eval.
        progress: Told after every answer.

    Raises:
        RunError: The folder holds answers of another model or other settings.
    """
    from tabom_cli.core.evaluation.generate import generate
    from tabom_cli.core.evaluation.preview import preview_ids, read_previews, write_previews

    check_family(job, model)
    check_folder(job, model)
    wait()

    def run(group: Group, only: set[str] | None, report: ProgressCallback) -> GenerateSummary:
        first = group.plans[0]
        return generate(
            model,
            group.requests,
            group.completions,
            first.decode,
            tasks=group.tasks,
            only=only,
            rank=rank,
            world_size=world_size,
            max_prompt_length=first.max_prompt_length,
            answer_end=first.answer_end,
            observer=observer,
            progress=report,
        )

    summaries = []
    if on_preview is not None:
        for group in job.groups:
            shown = preview_ids(group.requests, group.tasks)
            summaries.append(run(group, shown, silent))
        wait()
        if rank == 0:
            previews = [
                preview
                for group in job.groups
                for preview in read_previews(job, group, model, extract=extract)
            ]
            write_previews(job.folder, previews)
            for preview in previews:
                on_preview(preview)
    summaries += [run(group, None, progress) for group in job.groups]
    wait()
    return summaries


def score_job(
    job: EvalJob,
    *,
    manifest: Mapping[str, Any],
    began: float | None = None,
    progress: ProgressCallback = silent,
) -> Path:
    """Score all answers and write `results.json`; a group that is scored is written at once.

    Args:
        job: What was asked.
        manifest: Versions, command line and seed, for the record.
        began: When the command began, by `time.monotonic`; None leaves its wall time out.
        progress: Told after every task.

    Returns:
        The path of `results.json`.

    Raises:
        RunError: The answers were made with other settings than the job's, which would be recorded.
    """
    from tabom_cli.core.evaluation.results import FILE_NAME, set_unreadable_aside, write_results
    from tabom_cli.core.evaluation.score import score

    for group in job.groups:
        check_answers(group)
    text = set_unreadable_aside(job.folder)
    if text is not None:
        progress(ProgressEvent(kind="warning", task="score", text=text))
    for group in job.groups:
        scores = score(
            group.requests,
            group.completions,
            tasks=group.tasks,
            data_dir=job.data_dir,
            allow_code_execution=job.consent,
            progress=progress,
        )
        paper = job.paper.settings() if job.paper else {"paper": None}
        write_results(
            job.folder,
            scores,
            requests_path=group.requests,
            completions_paths=dict.fromkeys(group.tasks, group.completions),
            manifest=manifest,
            wall_time_s=None if began is None else time.monotonic() - began,
            settings={plan.spec.name: {**plan.settings(), **paper} for plan in group.plans},
        )
    return job.folder / FILE_NAME
