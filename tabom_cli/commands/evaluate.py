"""`tabom eval`: answer a task's prompts with a checkpoint and score the answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import UsageError

if TYPE_CHECKING:
    from tabom_cli.core.recipe import LoadedRecipe, Recipe

Phase = Literal["all", "requests", "generate", "score"]


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", help="Run folder, adapter, model folder or Hub name.")
    ],
    tasks: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]...", help="Tasks; default: the recipe's.")
    ] = None,
    recipe: options.OptionalRecipe = None,
    set_: options.SetOption = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Result folder; default output/eval/<name>.")
    ] = None,
    data_dir: options.DataDirOption = None,
    phase: Annotated[
        Phase,
        typer.Option(help="One phase only: requests and score need lm-eval, generate the model."),
    ] = "all",
    limit: Annotated[int | None, typer.Option(min=1, help="Problems per task.")] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run generated code in the sandbox.")
    ] = False,
    record_tds: Annotated[
        bool, typer.Option("--tds", help="Record entropies on the way, for `tabom tds DIR`.")
    ] = False,
    dry_run: options.DryRunOption = False,
    num_processes: options.ProcessesOption = None,
) -> None:
    """Score a checkpoint on tasks with lm-eval.

    Answers are kept as they come: the same command continues after a stop. The phases can run on
    different machines with the same --output folder.

    Example: tabom eval tiny countdown arithmetic --limit 20
    """
    checkpoint = runs.newest_checkpoint(checkpoint)
    loaded = runs.recipe_of(checkpoint, recipe, set_)
    job = _Job(loaded.recipe, checkpoint, tasks, output, data_dir, limit, allow_code_execution)
    if dry_run:
        _show_dry_run(loaded, job, num_processes)
        return
    if phase in {"all", "generate"} and not launch.is_distributed():
        _prepare(job, phase)
    if phase in {"all", "generate"}:
        _generate(job, loaded, record_tds, num_processes, phase)
    elif phase == "requests":
        _prepare(job, phase)
        console.result(str(job.requests))
        return
    if phase == "generate":
        console.result(str(job.completions))
    elif launch.rank() == 0:
        _score(job)


class _Job:
    """The resolved question: which tasks, which files, with which settings."""

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: str,
        tasks: list[str] | None,
        output: Path | None,
        data_dir: Path | None,
        limit: int | None,
        allow_code_execution: bool,
    ) -> None:
        from tabom_cli.core.evaluation.tasks.base import load_tasks

        self.recipe, self.checkpoint, self.data_dir = recipe, checkpoint, data_dir
        self.specs = load_tasks(tasks or recipe.eval.tasks)
        self.tasks = [spec.name for spec in self.specs]
        self.limit = limit or recipe.eval.limit
        self.consent = allow_code_execution or recipe.eval.allow_code_execution
        slug = checkpoint.strip("/.").replace("/", "-")
        self.folder = output or Path("output") / "eval" / slug
        self.requests = self.folder / "requests.jsonl"
        self.completions = self.folder / "completions.jsonl"


def _prepare(job: _Job, phase: Phase) -> None:
    """Write the prompts; a machine that only generates gets them from another one."""
    if phase == "generate":
        if not job.requests.is_file():
            raise UsageError(
                f"{job.requests} is missing",
                "make it on a machine with lm-eval: the same command with --phase requests",
            )
        return
    from tabom_cli.core.evaluation.requests import build_requests

    if phase == "all":
        from tabom_cli.core.evaluation.score import check_consent

        check_consent(job.specs, job.consent)
    build_requests(
        job.tasks,
        job.requests,
        data_dir=job.data_dir,
        num_fewshot=job.recipe.eval.num_fewshot,
        limit=job.limit,
        seed=job.recipe.seed,
    )


def _generate(
    job: _Job, loaded: LoadedRecipe, record_tds: bool, num_processes: int | None, phase: Phase
) -> None:
    command, processes = runs.launch_line(loaded.recipe, num_processes)
    if processes > 1 and not launch.is_distributed():
        code = launch.run([*command, "--phase", "generate"])
        if code:
            raise typer.Exit(code)
        return
    from tabom_cli.core.diagnostics.tds import EntropyTrace
    from tabom_cli.core.evaluation.generate import generate
    from tabom_cli.core.models.load import load_model

    with console.progress_display() as progress:
        config = runs.model_config(job.checkpoint, job.recipe)
        model = load_model(config, device=runs.device())
        trace = EntropyTrace({model.eos_token_id}) if record_tds else None
        summary = generate(
            model,
            job.requests,
            job.completions,
            job.recipe.eval.decode,
            tasks=job.tasks,
            rank=launch.rank(),
            world_size=launch.world_size(),
            max_prompt_length=job.recipe.eval.max_prompt_length,
            observer=trace,
            progress=progress,
        )
    if phase == "all":
        console.note(f"{summary.num_new} new answers in {summary.time_s:.1f} s")
    wait = runs.barrier()
    if wait:
        wait()


def _score(job: _Job) -> None:
    from tabom_cli.core.evaluation.report import results_table
    from tabom_cli.core.evaluation.results import read_results, write_results
    from tabom_cli.core.evaluation.score import score
    from tabom_cli.core.rundir import manifest

    with console.progress_display() as progress:
        scores = score(
            job.requests,
            job.completions,
            tasks=job.tasks,
            data_dir=job.data_dir,
            allow_code_execution=job.consent,
            progress=progress,
        )
    path = write_results(
        job.folder,
        scores,
        requests_path=job.requests,
        completions_paths=dict.fromkeys(job.tasks, job.completions),
        manifest=manifest(command=runs.command_line(), seed=job.recipe.seed),
    )
    shown = results_table(read_results(path))
    console.table(shown.columns, shown.rows, title=shown.title)
    for line in shown.notes:
        console.note(line)
    console.result(str(path))


def _show_dry_run(loaded: LoadedRecipe, job: _Job, num_processes: int | None) -> None:
    command, processes = runs.launch_line(loaded.recipe, num_processes)
    decode = loaded.recipe.eval.decode
    options.show_resolved(loaded)
    config: Any = runs.model_config(job.checkpoint, loaded.recipe)
    rows: list[tuple[str, Any]] = [("base", config.path), ("adapter", config.adapter)]
    for spec in job.specs:
        count = (
            job.limit if spec.num_problems is None else min(job.limit or 10**9, spec.num_problems)
        )
        if count:
            forwards = -(-count // decode.batch_size) * decode.steps
            rows.append(
                (
                    spec.name,
                    f"{count:,} problems, at most {forwards:,} batched forwards and "
                    f"{count * decode.max_new_tokens:,} tokens",
                )
            )
        if spec.executes_code:
            rows.append(
                ("", f"{spec.name} runs generated code in the sandbox; consent: {job.consent}")
            )
    files = (job.requests, job.completions, job.folder / "results.json")
    rows += [("would write", str(path)) for path in files]
    rows += [("processes", processes), ("launch", launch.shown(command))]
    options.show_plan("dry run: nothing was loaded or written", rows)
