"""`tabom train`: post-train a model with a recipe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import UsageError

if TYPE_CHECKING:
    from tabom_cli.core.recipe import LoadedRecipe, Recipe


def train(
    recipe: options.RecipeOption,
    set_: options.SetOption = None,
    dry_run: options.DryRunOption = False,
    num_processes: options.ProcessesOption = None,
    resume: Annotated[
        str,
        typer.Option(metavar="auto|never|PATH", help="Continue an unfinished run of this recipe."),
    ] = "never",
    force: Annotated[
        bool, typer.Option("--force", help="Resume although the recipe changed.")
    ] = False,
    max_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Save and stop after this long, e.g. 90m or 3h30m."),
    ] = None,
) -> None:
    """Post-train a model with a recipe and write its adapter.

    Writes checkpoints/<recipe>/train_<timestamp>/ with metrics.jsonl, epoch_k/ and final/. SIGTERM and
    --max-time save a state that --resume continues bit for bit.

    Example: tabom train --recipe tiny --set train.epochs=1
    """
    from tabom_cli.core.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or ())
    seconds = parse_time(max_time) if max_time else None
    if dry_run:
        show_dry_run(loaded, num_processes)
        return
    chosen = _choose_run(loaded.recipe, resume, force)
    _check_data(loaded.recipe)
    runs.start_processes(loaded.recipe, num_processes)
    outcome = _run(loaded, chosen, seconds)
    for name, value in outcome.summary.items():
        console.note(f"{name} {value:.4g}")
    console.note(f"next: tabom eval {outcome.final}")
    console.result(str(outcome.final))


def parse_time(text: str) -> float:
    """Seconds of `45s`, `90m`, `3h30m` or plain seconds.

    Raises:
        UsageError: Another form.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"--max-time {text}: expected a time such as 45s, 90m or 3h30m")
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _choose_run(recipe: Recipe, how: str, force: bool) -> Any:
    from tabom_cli.core.training import resume

    output, recipe_hash = recipe.train.output_dir, recipe.training_hash()
    chosen = resume.choose(
        how, output_dir=output, recipe_name=recipe.name, recipe_hash=recipe_hash, force=force
    )
    if chosen:
        where = chosen.state.name if chosen.state else "the beginning (it had saved no state yet)"
        console.note(f"resuming {chosen.run.path} from {where}")
    elif how == "auto":
        console.note("no unfinished run of this recipe; starting a new one")
    else:
        for info in resume.unfinished(output, recipe.name, recipe_hash)[:1]:
            console.note(f"{info.run.path} is unfinished; --resume auto would continue it")
    return chosen


def _check_data(recipe: Recipe) -> None:
    """Fail before any process starts or any weight is read when a data file is missing."""
    from tabom_cli.core.data.mixture import check_files

    check_files(recipe.data, recipe=recipe.name)


def _run(loaded: LoadedRecipe, chosen: Any, seconds: float | None) -> Any:
    from tabom_cli.core.rundir import manifest
    from tabom_cli.core.training.run import Records, run_training
    from tabom_cli.core.training.stop import StopRequest

    recipe = loaded.recipe
    record = manifest(
        command=runs.command_line(),
        recipe_hash=recipe.training_hash(),
        seed=recipe.seed,
        extra={"processes": launch.world_size(), "device": runs.device_name()},
    )
    stop = StopRequest(seconds)
    with stop.on_signals(), console.progress_display() as progress:
        return run_training(
            runs.training_sections(recipe),
            Records(runs.recipe_yaml(recipe), record),
            chosen=chosen,
            stop=stop,
            progress=progress,
        )


def show_dry_run(loaded: LoadedRecipe, num_processes: int | None) -> None:
    """The resolved recipe and what a run of it would do."""
    from tabom_cli.core.training.plan import plan_training

    recipe = loaded.recipe
    command, processes = runs.launch_line(recipe, num_processes)
    machines = int(recipe.train.launch.accelerate_args.get("num_machines", 1))
    plan = plan_training(runs.training_sections(recipe), world_size=processes * machines)
    options.show_resolved(loaded)
    rows = [("processes", str(processes * machines)), *plan.facts(recipe.train.global_batch_size)]
    rows.append(("launch", launch.shown(command)))
    options.show_plan("dry run: nothing was loaded or written", rows)
