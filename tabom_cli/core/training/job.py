"""What one training run is made of, as values; and the accelerator it runs on. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from tabom_cli.core.data.batch import TrainingRow
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.objectives.base import Objective
from tabom_cli.core.rundir import RunDir
from tabom_cli.core.training.config import TrainConfig


@dataclass(frozen=True)
class TrainJob:
    """Everything one training run needs.

    Attributes:
        model: The policy, with trainable parameters.
        objective: The loss.
        rows: Training rows.
        validation_rows: Held-out rows, may be empty.
        config: The `train` section.
        response_length: T in tokens.
        seed: The recipe's seed.
        run: The run folder.
        save_model: Writes the current weights and tokenizer into an empty folder.
        run_name: Shown by trackers.
    """

    model: DiffusionLM
    objective: Objective
    rows: Sequence[TrainingRow]
    validation_rows: Sequence[TrainingRow]
    config: TrainConfig
    response_length: int
    seed: int
    run: RunDir
    save_model: Callable[[Path], None]
    run_name: str


@dataclass(frozen=True)
class TrainOutcome:
    """Where the final model is, and the last epoch's figures."""

    final: Path
    steps: int
    summary: Mapping[str, float]


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator of a run: autocast, processes and tracker as the recipe says."""
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=config.output_dir,
    )
