"""`tabom tds`: how much the entropies of masked positions differ while a model decodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core.errors import DataError, EnvironmentNotReady, RunError, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.diagnostics.compare import TdsPrompt
    from tabom_cli.core.recipe import LoadedRecipe, Recipe


def tds(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CKPT]...", help="Models or adapters; default the base and the newest run."
        ),
    ] = None,
    recipe: options.OptionalRecipe = None,
    set_: options.SetOption = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="TASK", help="Decode this task's prompts.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Decode the prompts of a JSONL file."),
    ] = None,
    data_dir: options.DataDirOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="New folder for the results.")
    ] = None,
    dry_run: options.DryRunOption = False,
) -> None:
    """Measure the Trajectory Discrimination Score of one or several checkpoints.

    Every model decodes the same prompts. Writes tds.json, the stored traces and a picture (PNG and
    SVG). Without checkpoints the recipe's base model is compared with its newest run.

    Example: tabom tds tiny --recipe tiny --task countdown --set tds.num_prompts=4
    """
    if task is not None and prompts is not None:
        raise UsageError("--task and --prompts exclude each other")
    loaded = _load(checkpoints or [], recipe, set_)
    models = _models(checkpoints or [], loaded)
    task = None if prompts else _task(loaded.recipe, task)
    stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
    output = output or Path("output", loaded.recipe.name, f"tds_{stamp}")
    if output.exists():
        raise RunError(f"{output} exists and is not overwritten", "give another --output")
    if dry_run:
        _show_dry_run(loaded, models, task, prompts, output)
        return
    _run(loaded, models, _prompts(loaded.recipe, task, prompts, data_dir), task, prompts, output)


def _load(
    checkpoints: Sequence[str], recipe: str | None, overrides: list[str] | None
) -> LoadedRecipe:
    if not checkpoints and recipe is None:
        raise UsageError(
            "nothing to measure", "name a checkpoint or a recipe: tabom tds --recipe tiny"
        )
    return runs.recipe_of(checkpoints[-1] if checkpoints else "", recipe, overrides)


def _models(checkpoints: Sequence[str], loaded: LoadedRecipe) -> dict[str, Any]:
    """Label to `model` section of everything that is measured."""
    found = {}
    if not checkpoints:
        found["base"] = loaded.recipe.model.model_copy(update={"adapter": None})
        checkpoints = [_newest(loaded.recipe)]
    if repeated := {name for name in checkpoints if list(checkpoints).count(name) > 1}:
        raise UsageError(f"a checkpoint is named twice: {', '.join(sorted(repeated))}")
    paths = {name: runs.newest_checkpoint(name) for name in checkpoints}
    if not found:
        runs.refuse_unused_model_settings(list(paths.values()), loaded)
    found |= {name: runs.model_config(path, loaded) for name, path in paths.items()}
    return found


def _newest(recipe: Recipe) -> str:
    """The newest run of a recipe that has something to load."""
    from tabom_cli.core.rundir import find_runs

    for info in find_runs(recipe.train.output_dir, recipe.name):
        if info.finished or info.run.epochs():
            return str(info.run.path)
        console.note(f"{info.run.path} has saved no model yet")
    raise RunError(
        f"no run of recipe '{recipe.name}' under {recipe.train.output_dir}/{recipe.name}",
        hint=f"tabom train --recipe {recipe.name}, or name a checkpoint",
    )


def _task(recipe: Recipe, task: str | None) -> str:
    from tabom_cli.core.evaluation.tasks.base import load_task

    chosen = task or recipe.tds.task or next(iter(recipe.eval.tasks), None)
    if chosen is None:
        raise UsageError(
            f"recipe '{recipe.name}' names no task", "give --task TASK or --prompts FILE"
        )
    load_task(chosen)
    return chosen


def _prompts(
    recipe: Recipe, task: str | None, path: Path | None, data_dir: Path | None
) -> list[TdsPrompt]:
    """The first `tds.num_prompts` prompts of a task or file."""
    from tabom_cli.assets.tasks import problems, task_names
    from tabom_cli.core.data.config import PromptsConfig
    from tabom_cli.core.data.prompts import read_prompts
    from tabom_cli.core.diagnostics.compare import TdsPrompt
    from tabom_cli.core.evaluation.records import make_request, read_requests

    limit = recipe.tds.num_prompts
    if path is not None and _holds_requests(path):
        requests = read_requests(path)[1][:limit]
    elif path is not None or task in task_names():
        if path is not None:
            texts = [
                prompt.text for prompt in read_prompts(PromptsConfig(path=str(path), limit=limit))
            ]
        else:
            texts = [p.prompt for p in problems([str(task)], split="test", num_problems=limit)]
        requests = [
            make_request(
                str(task or path),
                index,
                messages=[{"role": "user", "content": text}],
                gen_prefix=None,
                until=(),
                max_new_tokens=None,
                seed=recipe.seed,
            )
            for index, text in enumerate(texts)
        ]
    else:
        requests = _harness_requests(recipe, str(task), data_dir)
    return [
        TdsPrompt(r.id, [m.model_dump() for m in r.messages], r.seed, r.gen_prefix)
        for r in requests
    ]


def _holds_requests(path: Path) -> bool:
    """Whether a file was made by `tabom eval` for its generate phase."""
    try:
        with path.open(encoding="utf-8") as stream:
            first = json.loads(stream.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.get("kind") == "requests"


def _harness_requests(recipe: Recipe, task: str, data_dir: Path | None) -> list[Any]:
    """Prompts that only lm-eval can render; the one place where this command needs it."""
    import tempfile

    try:
        from tabom_cli.core.evaluation.requests import build_requests

        with tempfile.TemporaryDirectory() as folder:
            return build_requests(
                [task],
                Path(folder, "requests.jsonl"),
                data_dir=data_dir,
                num_fewshot=recipe.eval.num_fewshot,
                limit=recipe.tds.num_prompts,
                seed=recipe.seed,
            )
    except ImportError as error:
        raise EnvironmentNotReady(
            f"task '{task}' needs lm-eval to render its prompts ({error})",
            hint="render them where lm-eval is installed and give the file with --prompts",
        ) from error


def _run(
    loaded: LoadedRecipe,
    models: dict[str, Any],
    prompts: Sequence[TdsPrompt],
    task: str | None,
    path: Path | None,
    output: Path,
) -> None:
    from tabom_cli.core.diagnostics.compare import measure, summary, write_report
    from tabom_cli.core.models.load import load_model
    from tabom_cli.core.rundir import manifest

    recipe = loaded.recipe
    if not prompts:
        raise DataError(f"{path or task}: no prompts")
    decode = recipe.tds.decode or recipe.eval.decode
    measured = []
    with console.progress_display() as progress:
        for label, config in models.items():
            model = load_model(config, device=runs.device(), seed=recipe.seed)
            measured.append(
                measure(
                    model,
                    prompts,
                    decode,
                    label=label,
                    max_prompt_length=recipe.eval.max_prompt_length,
                    progress=progress,
                )
            )
            del model
    record = {
        "task": task,
        "prompts": None if path is None else str(path),
        "prompt_ids": [prompt.id for prompt in prompts],
        "decode": decode.model_dump(mode="json"),
        "manifest": manifest(
            command=runs.command_line(), seed=recipe.seed, extra={"device": runs.device_name()}
        ),
    }
    values = summary(measured, positions=recipe.tds.positions, bins=recipe.tds.bins, record=record)
    write_report(output, measured, values)
    _show(values)
    console.note(f"picture: {output / 'tds.png'}")
    console.result(str(output / "tds.json"))


def _show(values: dict[str, Any]) -> None:
    chosen = values["positions"]
    others = [name for name in values["models"][0]["results"] if name != chosen]
    rows = []
    for model in values["models"]:
        results = model["results"]
        result = results[chosen]
        rows.append(
            (
                model["label"],
                _number(result["tds"]),
                _number(result["standard_error"]),
                _number(result["micro_mean"]),
                *(_number(results[name]["tds"]) for name in others),
                result["num_trajectories"] - result["num_undefined"],
            )
        )
    columns = ("model", f"TDS ({chosen})", "s.e.", "over all steps", *others, "prompts")
    console.table(columns, rows, title="Trajectory Discrimination Score, nats^2")
    for row in values["differences"]:
        if row["positions"] == chosen and row["mean"] is not None:
            error = "" if row["standard_error"] is None else f" +- {row['standard_error']:.4f}"
            console.result(
                f"{row['second']} minus {row['first']}: {row['mean']:+.4f}{error} "
                f"(paired, {row['count']} prompts)"
            )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _show_dry_run(
    loaded: LoadedRecipe, models: dict[str, Any], task: str | None, path: Path | None, output: Path
) -> None:
    recipe = loaded.recipe
    decode = recipe.tds.decode or recipe.eval.decode
    num_prompts = recipe.tds.num_prompts
    options.show_resolved(loaded)
    rows = [
        *((f"model {name}", config.adapter or config.path) for name, config in models.items()),
        ("prompts", f"at most {num_prompts:,} of {path or task}"),
        ("forwards", f"at most {len(models) * num_prompts * decode.steps:,} of single rows"),
        ("tokens", f"at most {len(models) * num_prompts * decode.max_new_tokens:,}"),
        *(("would write", output / n) for n in ("tds.json", "traces.jsonl", "tds.png", "tds.svg")),
    ]
    options.show_plan("dry run: nothing was loaded or written", rows)
