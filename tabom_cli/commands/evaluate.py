"""`tabom eval`: answer a task's prompts with a checkpoint and score the answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from tabom_cli import console
from tabom_cli.commands import evaluate_jobs, options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import UsageError


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
        evaluate_jobs.Phase,
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
        evaluate_jobs.make_job(
            loaded,
            path,
            names,
            evaluate_jobs.result_folder(output, run_folder, path, name),
            data_dir,
        )
        for name, path in targets.items()
    ]
    if dry_run:
        evaluate_jobs.show_dry_run(loaded, jobs, num_processes)
        return
    if not launch.is_distributed():
        evaluate_jobs.show_settings(jobs[0])
    with ExitStack() as locks:
        if not launch.is_distributed():
            from tabom_cli.core.files import exclusive_lock

            for job in jobs:
                locks.enter_context(exclusive_lock(job.lock))
        try:
            evaluate_jobs.run(loaded, jobs, phase, record_tds, num_processes)
        except KeyboardInterrupt:
            raise evaluate_jobs.interrupted(jobs) from None
    if epochs is not None and phase in {"all", "score"} and launch.rank() == 0:
        from tabom_cli.core.evaluation.sweep import write_sweep

        path, table = write_sweep(
            {name: job.folder for name, job in zip(targets, jobs, strict=True)}
        )
        evaluate_jobs.show(table)
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


def _list() -> None:
    from tabom_cli.core.evaluation.report import presets_table, tasks_table

    evaluate_jobs.show(tasks_table())
    evaluate_jobs.show(presets_table())


def _compare(first: Path, second: Path) -> None:
    from tabom_cli.core.evaluation.comparison import comparison_table

    evaluate_jobs.show(comparison_table(first, second))
