"""From recipe sections to a training job: model, objective, rows. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tabom_cli.core import plugins
from tabom_cli.core.config import Section
from tabom_cli.core.data.batch import TrainingRow
from tabom_cli.core.data.config import DataConfig
from tabom_cli.core.data.rows import load_rows
from tabom_cli.core.errors import DataError
from tabom_cli.core.models import export
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.load import load_model
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent
from tabom_cli.core.rundir import RunDir, atomic_folder
from tabom_cli.core.training.config import TrainConfig
from tabom_cli.core.training.job import TrainJob
from tabom_cli.core.training.order import split_validation


@dataclass(frozen=True)
class TrainSections:
    """The parts of a recipe that training reads.

    Attributes:
        name: Recipe name.
        seed: Recipe seed.
        objective: Objective name.
        settings: The objective's own settings.
    """

    name: str
    seed: int
    model: ModelConfig
    lora: LoraConfig | None
    data: DataConfig
    objective: str
    settings: Section
    train: TrainConfig


def build_job(
    sections: TrainSections,
    run: RunDir,
    *,
    device: str,
    write_extras: Callable[[Path], None],
    progress: ProgressCallback = silent,
) -> TrainJob:
    """Load the model and the data of a recipe.

    Args:
        sections: What to train.
        run: The run folder.
        device: Where the model goes.
        write_extras: Adds files (resolved recipe, manifest) to every saved model.
        progress: Told about loading and tokenising.

    Raises:
        ModelError: The base, adapter or tokenizer is missing or damaged.
        DataError: The data is missing or malformed, or too few rows are left.
    """
    objective_type = plugins.load("objective", sections.objective).OBJECTIVE
    progress(ProgressEvent("message", text=f"loading {sections.model.path} on {device}"))
    model = load_model(sections.model, lora=sections.lora, device=device, seed=sections.seed)
    if sections.train.gradient_checkpointing:
        # Imports transformers, which a dry run does without.
        from tabom_cli.core.models.layers import enable_gradient_checkpointing

        enable_gradient_checkpointing(model.network)
    rows, report = load_rows(
        sections.data,
        model.tokenizer,
        objective=sections.objective,
        family=model.family,
        needs_order=objective_type.needs_order,
        vocab_size=model.network.config.vocab_size,  # type: ignore[union-attr,arg-type]
        recipe=sections.name,
        progress=progress,
    )
    for text in report.summary():
        progress(ProgressEvent("message", text=f"{report.path}: {text}"))
    for text in report.warnings():
        progress(ProgressEvent("warning", text=f"{report.path}: {text}"))
    kept, held_out = split_rows(rows, sections)
    return TrainJob(
        model=model,
        objective=objective_type(sections.settings),
        rows=kept,
        validation_rows=held_out,
        config=sections.train,
        response_length=sections.data.response_length,
        seed=sections.seed,
        run=run,
        save_model=lambda target: save_model(model, target, write_extras),
        run_name=f"{sections.name}-{run.path.name}",
    )


def split_rows(
    rows: list[TrainingRow], sections: TrainSections
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """(training, validation) rows; all rows of one prompt land on the same side.

    Raises:
        DataError: Nothing is left to train on.
    """
    kept, held_out = split_validation(
        [row.group_id for row in rows], sections.train.validation_fraction, seed=sections.seed
    )
    if not kept:
        raise DataError(
            f"train.validation_fraction {sections.train.validation_fraction} holds out all "
            f"{len(rows)} rows",
            hint="lower it, or add rows",
        )
    return [rows[index] for index in kept], [rows[index] for index in held_out]


def save_model(model: DiffusionLM, target: Path, write_extras: Callable[[Path], None]) -> None:
    """Write what was trained, the tokenizer and the extras in one piece."""
    with atomic_folder(target, on_existing="replace") as folder:
        export.save_model(model, folder)
        write_extras(folder)
