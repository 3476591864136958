"""Wiring that commands share: processes, devices, manifests, the recipe of a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from tabom_cli import console
from tabom_cli.core import launch
from tabom_cli.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from tabom_cli.core.models.config import ModelConfig
    from tabom_cli.core.models.source import CheckpointInfo
    from tabom_cli.core.recipe import LoadedRecipe, Recipe
    from tabom_cli.core.training.setup import TrainSections


def launch_line(recipe: Recipe, num_processes: int | None) -> tuple[list[str], int]:
    """The command that starts all processes of this very command line, and how many there are."""
    settings = recipe.train.launch
    processes, gpus = launch.resolve_processes(num_processes or settings.num_processes)
    command = launch.launch_command(
        [argument for argument in sys.argv[1:] if argument != "--dry-run"],
        processes=processes,
        gpus=gpus,
        accelerate_args=settings.accelerate_args,
    )
    return command, processes


def start_processes(recipe: Recipe, num_processes: int | None) -> None:
    """Start several processes and exit with their code; return when one process is enough."""
    if launch.is_distributed():
        return
    command, processes = launch_line(recipe, num_processes)
    if processes > 1 or recipe.train.launch.accelerate_args:
        console.note(f"starting {processes} processes: {launch.shown(command)}")
        raise typer.Exit(launch.run(command))


def device() -> str:
    """The device of this process: its own GPU, or the CPU."""
    import os

    if launch.visible_gpus() == 0:
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def device_name() -> str:
    """What the device is called, for manifests."""
    if launch.visible_gpus() == 0:
        import platform

        return f"CPU {platform.machine()}"
    import torch

    return torch.cuda.get_device_name(0)


def barrier() -> Any:
    """A call that waits for all processes, or None for a single one."""
    if launch.world_size() == 1:
        return None
    from accelerate import PartialState

    return PartialState(cpu=launch.visible_gpus() == 0).wait_for_everyone


def recipe_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that runs again."""
    head = (
        "# Resolved recipe: every value of the run, defaults included. Runs again with --recipe.\n"
    )
    return head + yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def command_line() -> list[str]:
    """What the user typed, for manifests."""
    return ["tabom", *sys.argv[1:]]


def recipe_of(checkpoint: str, recipe: str | None, overrides: list[str] | None) -> LoadedRecipe:
    """The recipe that a checkpoint is evaluated with.

    The one that was named; else the resolved recipe saved beside the weights; else the shipped recipe
    that a parent folder is named after; else a recipe of the same base model.
    """
    from tabom_cli.core.recipe import list_recipes, load_recipe

    shipped = {summary.name: summary for summary in list_recipes()}
    if recipe is None:
        folder = Path(checkpoint)
        saved = [folder / "recipe.resolved.yaml", folder.parent / "recipe.resolved.yaml"]
        beside = next((path for path in saved if path.is_file()), None)
        named = next(
            (p.name for p in (folder, *folder.absolute().parents) if p.name in shipped), None
        )
        recipe = str(beside) if beside else named or _same_base(checkpoint, shipped)
    return load_recipe(recipe, overrides or ())


def training_sections(recipe: Recipe) -> TrainSections:
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


def model_config(checkpoint: str, loaded: LoadedRecipe) -> ModelConfig:
    """The `model` section that loads a checkpoint, base or adapter, in the recipe's dtype.

    The base of an adapter is a typed `model.path`, else the one that it names, else the recipe's. A
    recipe alone does not decide: it names the Hub where the adapter may know a local folder.

    Raises:
        ModelError: No such checkpoint, or the adapter's base folder is gone.
    """
    from tabom_cli.core.models.source import inspect_checkpoint

    model = loaded.recipe.model
    info = inspect_checkpoint(checkpoint)
    path = info.path
    if info.kind == "adapter":
        typed = _typed(loaded, "path")
        path = model.path if typed else named_base(info, "--set model.path=FOLDER") or model.path
    adapter = info.path if info.kind == "adapter" else None
    return model.model_copy(update={"path": path, "adapter": adapter, "init": "pretrained"})


def named_base(info: CheckpointInfo, option: str) -> str | None:
    """The base that an adapter names, None when it names none.

    Args:
        info: The adapter.
        option: How the user gives another base, for the hint.

    Raises:
        ModelError: It names a folder that is not there.
    """
    base = info.base
    if base and Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(
            f"{info.path}: its base model {base} is not there",
            hint=f"name the folder where it is now with {option}",
        )
    return base


def refuse_unused_model_settings(checkpoints: Sequence[str], loaded: LoadedRecipe) -> None:
    """Refuse `--set model.*` values that none of the checkpoints takes up.

    Raises:
        UsageError: A typed model.path without an adapter, model.adapter or model.init.
    """
    from tabom_cli.core.models.source import inspect_checkpoint

    model = loaded.recipe.model
    infos = [inspect_checkpoint(checkpoint) for checkpoint in checkpoints]
    adapters = {info.path for info in infos if info.kind == "adapter"}
    used = {
        "path": bool(adapters) or model.path in checkpoints,
        "adapter": model.adapter is None or model.adapter in adapters,
        "init": model.init == "pretrained",
    }
    unused = [
        f"model.{key}={getattr(model, key)}"
        for key, is_used in used.items()
        if _typed(loaded, key) and not is_used
    ]
    if unused:
        raise UsageError(
            f"--set {' '.join(unused)} would change nothing: {', '.join(checkpoints)} is what is loaded",
            hint="give the model or adapter that you mean as CKPT; model.path names an adapter's base",
        )


def _typed(loaded: LoadedRecipe, key: str) -> bool:
    return loaded.origins[f"model.{key}"] == "command line"


def newest_checkpoint(path: str) -> str:
    """`final/` (or the newest epoch) of a run folder; any other path unchanged."""
    from tabom_cli.core.rundir import RunDir

    run = RunDir(Path(path))
    if not run.manifest.is_file() or (run.path / "adapter_config.json").is_file():
        return path
    if run.finished:
        return str(run.final)
    epochs = run.epochs()
    if epochs:
        console.warn(f"{path} is not finished; using {epochs[-1].name}")
        return str(epochs[-1])
    return path


def _same_base(checkpoint: str, shipped: Mapping[str, Any]) -> str:
    from tabom_cli.core.models.source import inspect_checkpoint

    info = inspect_checkpoint(checkpoint)
    if checkpoint == "tiny" or info.base == "tiny":
        return "tiny"
    same = [name for name, summary in shipped.items() if summary.model == info.base]
    family = [name for name in shipped if name.startswith(f"{info.family}_")]
    return sorted(same or family or ["tiny"])[-1]
