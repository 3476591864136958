"""`tabom train`: post-train a model with a recipe."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabom_cli import console
from tabom_cli.commands import options, runs
from tabom_cli.core import launch
from tabom_cli.core.errors import UsageError

if TYPE_CHECKING:
    from tabom_cli.core.recipe import LoadedRecipe, Recipe
    from tabom_cli.core.training.setup import TrainSections


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


def sections(recipe: Recipe) -> TrainSections:
    """The parts of a recipe that the training core takes."""
    from tabom_cli.core.training.setup import TrainSections

    return TrainSections(
        name=recipe.name,
        seed=recipe.seed,
        model=recipe.model,
        lora=recipe.lora,
        data=recipe.data,
        objective=recipe.objective.name,
        settings=recipe.objective.settings,
        train=recipe.train,
    )


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
    """Train in this process, which may be one of several."""
    import torch
    from accelerate.utils import broadcast_object_list

    from tabom_cli.core.errors import RunError
    from tabom_cli.core.rundir import RunDir, exclusive_lock, new_run_dir
    from tabom_cli.core.training import loop, setup
    from tabom_cli.core.training.plan import estimate_memory
    from tabom_cli.core.training.stop import StopRequest

    recipe = loaded.recipe
    stop = StopRequest(seconds)
    set_deterministic(recipe.train.deterministic)
    with stop.on_signals(), console.progress_display() as progress:
        accelerator = loop.make_accelerator(recipe.train)
        shared = [str(chosen.run.path) if chosen else ""]
        if accelerator.is_main_process and not chosen:
            shared = [str(new_run_dir(recipe.train.output_dir, recipe.name).path)]
        broadcast_object_list(shared)
        run = RunDir(Path(shared[0]))
        with exclusive_lock(run.lock) if accelerator.is_main_process else nullcontext():
            if accelerator.is_main_process:
                _write_records(loaded, run)
            torch.manual_seed(recipe.seed)
            job, _ = setup.build_job(
                sections(recipe),
                run,
                # Several CPU processes are `cpu:0` to accelerate, which safetensors refuses.
                device="cpu" if accelerator.device.type == "cpu" else str(accelerator.device),
                write_extras=lambda folder: _copy_records(run, folder),
                progress=progress,
            )
            try:
                state = chosen.state if chosen else None
                return loop.train(job, accelerator, stop=stop, resume_from=state, progress=progress)
            except torch.OutOfMemoryError as error:
                config = job.model.network.config.to_dict()  # type: ignore[union-attr,operator]
                bytes_ = estimate_memory(sections(recipe), config, accelerator.num_processes).total
                raise RunError(
                    f"out of GPU memory; the estimate for this recipe is {bytes_ / 2**30:.1f} GiB per "
                    f"GPU ({str(error).splitlines()[0]})",
                    hint="lower train.micro_batch_size (the optimisation stays the same), set "
                    "train.gradient_checkpointing=true, or shorten data.response_length and "
                    "data.max_prompt_length",
                ) from error


def set_deterministic(wanted: bool) -> None:
    """Make PyTorch's kernels repeatable: strict, with flash attention and without cuDNN's."""
    import os

    import torch

    if not wanted:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)


def _write_records(loaded: LoadedRecipe, run: Any) -> None:
    """The resolved recipe and the manifest; a resumed run keeps those it started with."""
    from tabom_cli.core.rundir import manifest, write_json_atomic, write_text_atomic

    if run.manifest.exists():
        return
    recipe = loaded.recipe
    write_text_atomic(run.recipe, runs.recipe_yaml(recipe))
    record = manifest(
        command=runs.command_line(),
        recipe_hash=recipe.training_hash(),
        seed=recipe.seed,
        extra={"processes": launch.world_size(), "device": runs.device_name()},
    )
    write_json_atomic(run.manifest, record)


def _copy_records(run: Any, folder: Path) -> None:
    for source in (run.recipe, run.manifest):
        (folder / source.name).write_bytes(source.read_bytes())


def show_dry_run(loaded: LoadedRecipe, num_processes: int | None) -> None:
    """The resolved recipe and what a run of it would do."""
    from tabom_cli.core.training.plan import plan_training

    recipe = loaded.recipe
    command, processes = runs.launch_line(recipe, num_processes)
    machines = int(recipe.train.launch.accelerate_args.get("num_machines", 1))
    plan = plan_training(sections(recipe), world_size=processes * machines)
    options.show_resolved(loaded)
    rows: list[tuple[str, Any]] = [("processes", processes * machines)]
    if plan.steps:
        steps = plan.steps
        batch = recipe.train.global_batch_size
        rows += [
            ("training rows", f"{steps.num_rows:,} (and {plan.num_validation:,} held out)"),
            ("rows left out", ", ".join(f"{n} {why}" for why, n in plan.dropped.items()) or "none"),
            ("optimizer steps", f"{steps.total_steps:,} ({steps.steps_per_epoch:,} per epoch)"),
            (
                "global batch",
                f"{batch} = {processes * machines} processes x {steps.micro_batch_size} rows x "
                f"{steps.accumulation} accumulated; the same optimisation on any number of GPUs",
            ),
            ("tokens", f"at most {plan.max_tokens:,}"),
        ]
    else:
        rows.append(
            ("data", f"not usable: {plan.data_fault.message if plan.data_fault else 'no rows'}")
        )
        if plan.data_fault and plan.data_fault.hint:
            rows.append(("", plan.data_fault.hint))
    if plan.num_parameters is None:
        rows.append(("parameters", "unknown: the base model's config is not at hand"))
    else:
        rows.append(("parameters", f"{plan.num_parameters:,}, {plan.num_trainable:,} trained"))
    if plan.memory:
        parts = plan.memory
        gib = 2**30
        rows.append(
            (
                "memory per process",
                f"about {parts.total / gib:.1f} GiB: weights {parts.parameters / gib:.1f}, "
                f"adapter and optimizer {(parts.adapter + parts.optimizer) / gib:.2f}, "
                f"activations {parts.activations / gib:.1f}, logits {parts.logits / gib:.1f}",
            )
        )
    rows += [("would write", name) for name in plan.files]
    rows.append(("launch", launch.shown(command)))
    options.show_plan("dry run: nothing was loaded or written", rows)
