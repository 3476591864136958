"""What `tabom eval` does once its arguments are read: the jobs, their phases, their tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import Interrupted

if TYPE_CHECKING:
    from tabom_cli.core.evaluation.job import EvalJob
    from tabom_cli.core.evaluation.report import Table
    from tabom_cli.core.recipe import LoadedRecipe

Phase = Literal["all", "requests", "generate", "score"]


def interrupted(jobs: list[EvalJob]) -> Interrupted:
    """The error of a Ctrl-C: how many answers are kept."""
    from tabom_cli.core.evaluation.job import count_answers

    counts = [count_answers(job) for job in jobs]
    done, wanted = sum(count[0] for count in counts), sum(count[1] for count in counts)
    return Interrupted(
        f"interrupted: {done:,} of {wanted:,} answers are kept", "the same command continues"
    )


def show_settings(job: EvalJob) -> None:
    """Say with which settings each task is decoded, and what the recipe sets in vain."""
    from tabom_cli.core.evaluation.dry_run import settings_lines

    for plan in job.plans:
        for line in settings_lines(plan):
            console.note(f"{plan.spec.name}: {line}")


def result_folder(output: Path | None, run_folder: Path, checkpoint: str, name: str) -> Path:
    """Where a checkpoint's results go; `name` is the epoch's in a sweep and empty otherwise."""
    from tabom_cli.core.evaluation.job import default_folder

    return (output or default_folder(str(run_folder) if name else checkpoint)) / name


def make_job(
    loaded: LoadedRecipe, checkpoint: str, tasks: list[str], folder: Path, data_dir: Path | None
) -> EvalJob:
    """The evaluation of one checkpoint, planned; reads and writes nothing big."""
    from tabom_cli.core.evaluation.job import plan_job
    from tabom_cli.core.evaluation.published import published_row
    from tabom_cli.core.models.source import inspect_checkpoint

    recipe, info = loaded.recipe, inspect_checkpoint(checkpoint)
    return plan_job(
        checkpoint,
        recipe.eval,
        tasks=tasks,
        family=info.family or inspect_checkpoint(recipe.model.path).family,
        overrides=_typed(loaded),
        folder=folder,
        data_dir=data_dir,
        seed=recipe.seed,
        paper=published_row(
            info.base or recipe.model.path,
            recipe=recipe.name if info.kind == "adapter" else None,
            data=recipe.data.path,
            objective=recipe.objective.name,
        ),
    )


def _typed(loaded: LoadedRecipe) -> dict[str, Any]:
    """Evaluation settings from the command line, which are laid over a preset."""
    from tabom_cli.core.evaluation.presets import AROUND_DECODE

    typed = [key for key, origin in loaded.origins.items() if origin == "command line"]
    section = loaded.recipe.eval
    decode = section.decode.model_dump()
    found = {key: decode[key] for key in decode if f"eval.decode.{key}" in typed}
    return found | {key: getattr(section, key) for key in AROUND_DECODE if f"eval.{key}" in typed}


def run(
    loaded: LoadedRecipe,
    jobs: list[EvalJob],
    phase: Phase,
    record_tds: bool,
    num_processes: int | None,
) -> None:
    """Take all jobs through the wanted phases, in as many processes as wanted."""
    from tabom_cli.core.evaluation import checks
    from tabom_cli.core.evaluation.job import write_requests

    for job in jobs if not launch.is_distributed() else ():
        if phase == "all":
            checks.check_scoring(job)
        if phase == "generate":
            checks.check_requests(job)
        if phase in {"all", "requests"}:
            with console.progress_display() as progress:
                write_requests(job, progress=progress)
    if phase in {"all", "generate"}:
        runs.start_processes(loaded.recipe, num_processes)
    for job in jobs:
        began = time.monotonic()
        if phase == "requests":
            console.result("\n".join(str(group.requests) for group in job.groups))
        if phase in {"all", "generate"}:
            _answer(job, loaded, record_tds, phase)
        if phase == "generate":
            console.result("\n".join(str(group.completions) for group in job.groups))
        if phase in {"all", "score"} and launch.rank() == 0:
            _score(job, began)


def _answer(job: EvalJob, loaded: LoadedRecipe, record_tds: bool, phase: Phase) -> None:
    from tabom_cli.core.diagnostics.tds import EntropyTrace
    from tabom_cli.core.evaluation.job import answer
    from tabom_cli.core.models.load import load_model

    model = load_model(runs.model_config(job.checkpoint, loaded), device=runs.device())
    with console.progress_display() as progress:
        summaries = answer(
            job,
            model,
            rank=launch.rank(),
            world_size=launch.world_size(),
            observer=EntropyTrace({model.eos_token_id}) if record_tds else None,
            wait=runs.barrier() or (lambda: None),
            on_preview=lambda preview: console.note(preview.short_text() + "\n"),
            extract=phase == "all",
            progress=progress,
        )
    console.note(
        f"{sum(item.num_new for item in summaries)} new answers in "
        f"{sum(item.time_s for item in summaries):.1f} s"
    )


def _score(job: EvalJob, began: float) -> None:
    from tabom_cli.core.evaluation.job import score_job
    from tabom_cli.core.evaluation.paper import published_tables
    from tabom_cli.core.evaluation.report import results_table
    from tabom_cli.core.evaluation.results import read_results
    from tabom_cli.core.rundir import manifest

    with console.progress_display() as progress:
        record = manifest(command=runs.command_line(), seed=job.seed)
        path = score_job(job, manifest=record, began=began, progress=progress)
    results = read_results(path)
    for table in (results_table(results), *published_tables(results)):
        show(table)
    console.result(str(path))


def show(table: Table) -> None:
    """Print a table with its notes."""
    console.table(table.columns, table.rows, title=table.title)
    for line in table.notes:
        console.note(line)


def show_dry_run(loaded: LoadedRecipe, jobs: list[EvalJob], num_processes: int | None) -> None:
    """The resolved recipe, and what would be answered, scored and written."""
    from tabom_cli.core.evaluation.dry_run import dry_run_rows

    command, processes = runs.launch_line(loaded.recipe, num_processes)
    options.show_resolved(loaded)
    rows: list[tuple[str, Any]] = []
    for job in jobs:
        config = runs.model_config(job.checkpoint, loaded)
        rows += [("base", config.path), ("adapter", config.adapter), *dry_run_rows(job)]
    rows += [("processes", processes), ("launch", launch.shown(command))]
    options.show_plan("dry run: nothing was loaded or written", rows)
