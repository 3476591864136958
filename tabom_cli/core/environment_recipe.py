"""What a recipe needs from this machine: weights, tokenizer, data, memory, disk.

Reads configs, headers, tokenizers and data files; loads no weights, asks no network, changes nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabom_cli.core.environment import GIB, Check, available_memory, check_disk, size_text
from tabom_cli.core.errors import TabomError, UsageError
from tabom_cli.core.models import footprint
from tabom_cli.core.models.checks import check_adapter, check_checkpoint, checkpoint_bytes
from tabom_cli.core.models.source import ADAPTER_WEIGHTS, Source, known_config, local_source
from tabom_cli.core.models.source import read_config as read_model_config

if TYPE_CHECKING:
    from tabom_cli.core.models.config import ModelConfig
    from tabom_cli.core.recipe import Recipe
    from tabom_cli.core.training.plan import TrainPlan
    from tabom_cli.core.training.setup import TrainSections

_STATES_ON_DISK = 3
_STORED_BYTES = 2
_FAULTS_IN_A_LINE = 2
# The largest excess measured at the 7B and 8B shapes was 6 % (LLaDA: 35.5 GiB reserved, 33.5 estimated).
_MEMORY_MARGIN = 1.1
_LARGE_MODEL = 1_000_000_000


def needs_sandbox(recipe: Recipe) -> bool:
    """Whether distilling or scoring with this recipe runs generated code."""
    from tabom_cli.core.evaluation.tasks.base import load_task

    if recipe.distill and recipe.distill.verifier in ("code", "functions", "tasks"):
        generate = recipe.distill.prompts.generate
        if recipe.distill.verifier != "tasks" or (generate and "functions" in generate.tasks):
            return True
    return recipe.eval.allow_code_execution and any(
        load_task(name).executes_code for name in recipe.eval.tasks
    )


def check_recipe(
    recipe: Recipe, sections: Callable[[], TrainSections], *, name: str
) -> list[Check]:
    """Everything that the recipe reads or fills, in the order in which a run meets it.

    Args:
        recipe: The resolved recipe.
        sections: Makes the training sections; called late, because that imports PyTorch.
        name: How the user names the recipe, for the commands that fix something.
    """
    source, checks = check_model(recipe.model)
    if source is not None:
        checks.append(check_tokenizer(source, recipe.model))
    if recipe.model.adapter is not None:
        checks.append(check_adapter_folder(recipe.model))
    checks += _check_inputs(recipe)
    try:
        plan = _plan(sections)
    except ImportError as error:
        return [
            *checks,
            Check("training", "fail", f"cannot be imported: {error}", "pip install tabom"),
        ]
    except TabomError as error:
        return [*checks, Check("training", "fail", error.message, error.hint)]
    checks.append(_check_data(plan, recipe, name))
    checks.append(check_memory(plan, recipe))
    checks.append(check_disk(recipe.train.output_dir, needed=_bytes_written(plan, recipe)))
    return checks


def check_model(model: ModelConfig) -> tuple[Source | None, list[Check]]:
    """The folder of the base model, and what is wrong with its config and weights.

    The config is checked as loading does it, options that the network does not have included. Every shard's header is compared with the shapes that config.json asks for; no tensor is read.
    """
    from tabom_cli.core.models.load import read_network_config

    source = None
    try:
        source = local_source(model.path, revision=model.revision)
        if source is None:
            return None, _not_cached(model)
        read_network_config(source.folder)
        shapes = footprint.parameter_shapes(read_model_config(source.folder))
        if model.init == "random":
            return source, [Check("weights", "pass", f"{model.path}: drawn at random, none needed")]
        files = check_checkpoint(source.folder, shapes)
        size = checkpoint_bytes(source.folder)
    except ImportError as error:
        return source, [_no_transformers("weights", error)]
    except TabomError as error:
        fix = "pip install --force-reinstall tabom" if model.path == "tiny" else error.hint
        return source, [Check("weights", "fail", _one_line(error.message), fix)]
    detail = f"{source.folder}: {len(shapes)} tensors, {size_text(size)} in {len(files)} files"
    return source, [Check("weights", "pass", detail)]


def check_tokenizer(source: Source, model: ModelConfig) -> Check:
    """Whether the tokenizer loads, has a chat template and agrees with config.json."""
    from tabom_cli.core.models.load import load_checked_tokenizer
    from tabom_cli.core.models.template import template_hash

    try:
        tokenizer, ids = load_checked_tokenizer(source.folder, label=model.path)
        template = template_hash(tokenizer)
    except ImportError as error:
        return _no_transformers("tokenizer", error)
    except TabomError as error:
        return Check("tokenizer", "fail", _one_line(error.message), error.hint)
    detail = f"{len(tokenizer)} tokens, mask {ids.mask}, eos {ids.eos}, chat template {template}"
    return Check("tokenizer", "pass", detail)


def check_adapter_folder(model: ModelConfig) -> Check:
    """Whether the recipe's starting adapter fits its base, from headers alone."""
    folder = Path(str(model.adapter)).expanduser()
    try:
        from tabom_cli.core.models.lora import read_adapter_config

        values = read_adapter_config(folder)
        base = known_config(model.path, revision=model.revision)
        targets = values.get("target_modules")
        if base is None or not isinstance(targets, list):
            reason = "the base is not here" if base is None else f"target_modules is {targets!r}"
            return Check("adapter", "warning", f"{folder}: not compared, {reason}")
        expected = footprint.adapter_shapes(base, rank=values["r"], target_modules=targets)
        trained_on = values.get("base_model_name_or_path")
        check_adapter(folder / ADAPTER_WEIGHTS, expected, base=model.path, adapter_base=trained_on)
    except (ImportError, TabomError) as error:
        message = error.message if isinstance(error, TabomError) else str(error)
        hint = error.hint if isinstance(error, TabomError) else "pip install --upgrade peft"
        return Check("adapter", "fail", _one_line(message), hint)
    return Check("adapter", "pass", f"{folder}: {len(expected)} factors fit {model.path}")


def check_memory(plan: TrainPlan, recipe: Recipe) -> Check:
    """The estimate of a training step against what the emptiest GPU, or the host, has free."""
    import torch

    if plan.memory is None:
        return Check("memory", "warning", "unknown: the base model's config is not on this machine")
    needed = plan.memory.total
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() > 0
    free: int | None
    if on_gpu:
        free = min(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
    else:
        free = available_memory()
    where = "free on the fullest GPU" if on_gpu else "of host memory available"
    detail = f"a training step takes about {needed / GIB:.1f} GiB"
    if free is None:
        return Check("memory", "warning", f"{detail}; free memory is unknown")
    detail += f", {free / GIB:.1f} GiB {where}"
    if needed > free and not on_gpu:
        return Check("memory", "fail", detail, "run on a machine with a GPU, or with more memory")
    if on_gpu and needed * _MEMORY_MARGIN > free:
        fix = "--set train.micro_batch_size=1 --set train.gradient_checkpointing=true"
        if needed <= free:
            detail += "; steps have reserved up to 6 % more than the estimate"
            return Check("memory", "warning", detail, fix)
        if plan.memory.parameters > free:
            fix = "a GPU with more memory: the weights alone do not fit"
        return Check("memory", "fail", detail, fix)
    if not on_gpu and (plan.num_parameters or 0) > _LARGE_MODEL:
        billions = (plan.num_parameters or 0) / 1e9
        detail += f"; {billions:.1f} billion parameters on a CPU take hours per step"
        return Check("memory", "warning", detail, "run on a machine with a GPU")
    return Check("memory", "pass", detail)


def _plan(sections: Callable[[], TrainSections]) -> TrainPlan:
    from tabom_cli.core.training.plan import plan_training

    return plan_training(sections(), world_size=1)


def _no_transformers(name: str, error: ImportError) -> Check:
    return Check(name, "fail", f"transformers: {error}", "pip install --upgrade transformers")


def _not_cached(model: ModelConfig) -> list[Check]:
    """Weights and tokenizer that are still to be downloaded, and whether the disk has room for them."""
    from huggingface_hub import constants

    config: Mapping[str, Any] | None = known_config(model.path, revision=model.revision)
    revision = f" --revision {model.revision}" if model.revision else ""
    fix = f"hf download {model.path}{revision}, or --set model.path=FOLDER"
    detail = f"{model.path} is not in the Hub cache of this machine"
    checks = [Check("tokenizer", "warning", "not here: it comes with the weights", fix)]
    if config:
        size = footprint.parameter_count(config) * _STORED_BYTES
        detail += f" ({size / GIB:.1f} GiB)"
        room = "free space, or HF_HOME=/another/disk"
        checks.append(check_disk(constants.HF_HUB_CACHE, needed=size, name="Hub cache", fix=room))
    return [Check("weights", "fail", detail, fix), *checks]


def _check_hub_prompts(name: str) -> Check:
    """Whether a Hub dataset is in the cache of this machine."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    if folder.is_dir():
        return Check("prompts", "pass", f"{name}, in the Hub cache")
    return Check(
        "prompts",
        "warning",
        f"dataset {name} is not in the Hub cache of this machine; needed by tabom distill only",
        f"hf download --repo-type dataset {name}, or --set distill.prompts.path=FILE",
    )


def _check_inputs(recipe: Recipe) -> list[Check]:
    """Files and packages besides the training data that the recipe names."""
    found = []
    if recipe.distill and recipe.distill.prompts.path:
        prompts = recipe.distill.prompts
        path = Path(str(prompts.path))
        if path.exists():
            found.append(Check("prompts", "pass", str(path)))
        else:
            detail = f"{path}: no such file; needed by tabom distill only"
            found.append(Check("prompts", "warning", detail, prompts.source))
    elif recipe.distill and recipe.distill.prompts.hub:
        found.append(_check_hub_prompts(recipe.distill.prompts.hub))
    if recipe.eval.data_dir is not None:
        found.append(_check_benchmarks(recipe, Path(recipe.eval.data_dir)))
    tracker = recipe.train.tracker
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        detail = f"train.tracker {tracker} is not installed"
        found.append(Check("tracker", "fail", detail, f"pip install 'tabom[{tracker}]'"))
    return found


def _check_benchmarks(recipe: Recipe, data_dir: Path) -> Check:
    from tabom_cli.core.evaluation.tasks.base import load_task

    try:
        files = [file.path for name in recipe.eval.tasks for file in load_task(name).files]
    except UsageError as error:
        return Check("benchmarks", "fail", error.message, error.hint)
    missing = [str(data_dir / path) for path in files if not (data_dir / path).is_file()]
    if missing:
        fix = "copy the benchmark files there, or --set eval.data_dir=null to use the Hub"
        return Check("benchmarks", "fail", f"missing: {', '.join(missing)}", fix)
    return Check("benchmarks", "pass", f"{data_dir}: {len(files)} files")


def _check_data(plan: TrainPlan, recipe: Recipe, name: str) -> Check:
    """The training rows; a file that this recipe can make by itself is missing but in nobody's way."""
    if plan.steps is not None:
        detail = f"{plan.num_rows:,} rows, {plan.steps.total_steps:,} optimizer steps"
        return Check("data", "pass", detail)
    fault = plan.data_fault
    detail = _one_line(fault.message) if fault else "no rows to train on"
    absent = recipe.data.path is not None and not Path(recipe.data.path).exists()
    if absent and recipe.distill and recipe.distill.prompts.generate:
        detail += "; needed by tabom train only"
        return Check("data", "warning", detail, f"tabom distill --recipe {name}")
    return Check("data", "fail", detail, (fault and fault.hint) or f"tabom distill --recipe {name}")


def _bytes_written(plan: TrainPlan, recipe: Recipe) -> int:
    """Models of all epochs and the final one, and the resumable states that exist at one time."""
    trainable = plan.num_trainable or 0
    stored = 4 if recipe.lora is not None or recipe.model.dtype == "float32" else 2
    models = (recipe.train.epochs + 1) * trainable * stored
    return models + _STATES_ON_DISK * trainable * 12 + 2**26


def _one_line(text: str) -> str:
    """A message of several lines, the summary and its first faults, as one."""
    summary, *faults = (part.strip() for part in text.splitlines())
    more = ["and others"] if len(faults) > _FAULTS_IN_A_LINE else []
    return "; ".join([summary, *faults[:_FAULTS_IN_A_LINE], *more])
