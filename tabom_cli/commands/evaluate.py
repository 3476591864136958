"""`tabom eval`: answer a task's prompts with a checkpoint and score the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.evaluation.job import EvalJob
    from tabom_cli.core.evaluation.report import Table
    from tabom_cli.core.recipe import LoadedRecipe

Phase = Literal["all", "requests", "generate", "score"]


def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="[CKPT]", help="Run folder, adapter, model folder or Hub name."),
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]...", help="Tasks; default: the recipe's.")
    ] = None,
    recipe: options.OptionalRecipe = None,
    set_: options.SetOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Result folder; default output/eval/<name>.")
    ] = None,
    data_dir: options.DataDirOption = None,
    profile: Annotated[
        Literal["release", "paper", "none"] | None,
        typer.Option(help="Decode settings by family and task [release]; none: the recipe's."),
    ] = None,
    task_list: Annotated[
        str | None, typer.Option("--tasks", metavar="A,B", help="Tasks, separated by commas.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Problems per task.")] = None,
    num_samples: Annotated[
        int | None, typer.Option(min=1, help="Answers per problem: pass@k and majority vote.")
    ] = None,
    tokens_per_step: Annotated[
        int | None, typer.Option(min=1, help="Reveal this many tokens per step.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed; default: the recipe's.")] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run generated code in the sandbox.")
    ] = False,
    record_tds: Annotated[
        bool, typer.Option("--tds", help="Record entropies on the way, for `tabom tds DIR`.")
    ] = False,
    epochs: Annotated[
        str | None,
        typer.Option(metavar="1,3,5", help="Score these epochs of a run folder, and its final."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Compare two result folders problem by problem."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the tasks and presets.")] = False,
    phase: Annotated[
        Phase,
        typer.Option(help="One phase only: requests and score need lm-eval, generate the model."),
    ] = "all",
    dry_run: options.DryRunOption = False,
    num_processes: options.ProcessesOption = None,
) -> None:
    """Score a checkpoint on tasks with lm-eval.

    Answers are kept as they come: the same command continues after a stop. The phases can run on
    different machines with the same --output folder.

    Example: tabom eval tiny countdown arithmetic --limit 20
    """
    if list_:
        _list()
        return
    if compare is not None:
        _compare(*compare)
        return
    if checkpoint is None:
        raise UsageError("no checkpoint given", "tabom eval CKPT TASK; see `tabom eval --list`")
    flags = {
        "eval.profile": profile,
        "eval.limit": limit,
        "eval.num_samples": num_samples,
        "eval.decode.tokens_per_step": tokens_per_step,
        "seed": seed,
        "eval.allow_code_execution": allow_code_execution or None,
    }
    overrides = [
        *(set_ or ()),
        *(f"{key}={v}".lower() for key, v in flags.items() if v is not None),
    ]
    names = _task_names(checkpoint, tasks or (), task_list)
    run_folder = Path(checkpoint)
    if epochs is None:
        checkpoint = runs.newest_checkpoint(checkpoint)
        targets = {"": checkpoint}
    else:
        from tabom_cli.core.evaluation.sweep import sweep_targets

        targets = {name: str(path) for name, path in sweep_targets(run_folder, epochs).items()}
        checkpoint = next(iter(targets.values()))
    loaded = runs.recipe_of(checkpoint, recipe, overrides)
    runs.refuse_unused_model_settings(list(targets.values()), loaded)
    jobs = [
        _job(loaded, path, names, _folder(output, run_folder, path, name), data_dir)
        for name, path in targets.items()
    ]
    if dry_run:
        _show_dry_run(loaded, jobs, num_processes)
        return
    if not launch.is_distributed():
        _show_settings(jobs[0])
    with ExitStack() as locks:
        if not launch.is_distributed():
            from tabom_cli.core.files import exclusive_lock

            for job in jobs:
                locks.enter_context(exclusive_lock(job.lock))
        try:
            _run(loaded, jobs, phase, record_tds, num_processes)
        except KeyboardInterrupt:
            raise _interrupted(jobs) from None
    if epochs is not None and phase in {"all", "score"} and launch.rank() == 0:
        from tabom_cli.core.evaluation.sweep import write_sweep

        path, table = write_sweep(
            {name: job.folder for name, job in zip(targets, jobs, strict=True)}
        )
        _show(table)
        console.result(str(path))


def _task_names(checkpoint: str, tasks: Sequence[str], task_list: str | None) -> list[str]:
    from tabom_cli.core.evaluation.tasks.base import task_names

    if checkpoint in task_names() and not Path(checkpoint).exists():
        raise UsageError(
            f"'{checkpoint}' is a task; no checkpoint is given before it",
            f"tabom eval CKPT {checkpoint}",
        )
    listed = [name.strip() for name in (task_list or "").split(",")]
    names = [*tasks, *(name for name in listed if name)]
    if task_list is not None and not names:
        raise UsageError(f"--tasks {task_list}: no task", "such as --tasks countdown,arithmetic")
    return names


def _interrupted(jobs: list[EvalJob]) -> Interrupted:
    from tabom_cli.core.evaluation.job import count_answers

    counts = [count_answers(job) for job in jobs]
    done, wanted = sum(count[0] for count in counts), sum(count[1] for count in counts)
    return Interrupted(
        f"interrupted: {done:,} of {wanted:,} answers are kept", "the same command continues"
    )


def _show_settings(job: EvalJob) -> None:
    from tabom_cli.core.evaluation.dry_run import settings_lines

    for plan in job.plans:
        for line in settings_lines(plan):
            console.note(f"{plan.spec.name}: {line}")


def _folder(output: Path | None, run_folder: Path, checkpoint: str, name: str) -> Path:
    from tabom_cli.core.evaluation.job import default_folder

    return (output or default_folder(str(run_folder) if name else checkpoint)) / name


def _job(
    loaded: LoadedRecipe, checkpoint: str, tasks: list[str], folder: Path, data_dir: Path | None
) -> EvalJob:
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


def _run(
    loaded: LoadedRecipe,
    jobs: list[EvalJob],
    phase: Phase,
    record_tds: bool,
    num_processes: int | None,
) -> None:
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
        _show(table)
    console.result(str(path))


def _show(table: Table) -> None:
    console.table(table.columns, table.rows, title=table.title)
    for line in table.notes:
        console.note(line)


def _list() -> None:
    from tabom_cli.core.evaluation.report import presets_table, tasks_table

    _show(tasks_table())
    _show(presets_table())


def _compare(first: Path, second: Path) -> None:
    from tabom_cli.core.evaluation.comparison import comparison_table

    _show(comparison_table(first, second))


def _show_dry_run(loaded: LoadedRecipe, jobs: list[EvalJob], num_processes: int | None) -> None:
    from tabom_cli.core.evaluation.dry_run import dry_run_rows

    command, processes = runs.launch_line(loaded.recipe, num_processes)
    options.show_resolved(loaded)
    rows: list[tuple[str, Any]] = []
    for job in jobs:
        config = runs.model_config(job.checkpoint, loaded)
        rows += [("base", config.path), ("adapter", config.adapter), *dry_run_rows(job)]
    rows += [("processes", processes), ("launch", launch.shown(command))]
    options.show_plan("dry run: nothing was loaded or written", rows)
