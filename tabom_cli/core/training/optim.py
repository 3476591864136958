"""The optimizer and its learning-rate schedule. Knows neither objective nor data."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from tabom_cli.core.training.config import TrainConfig


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters."""
    return torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, config: TrainConfig, total_steps: int) -> float:
    """Learning rate of an optimizer step counted from 0.

    Linear from 0 over `warmup_steps`, then constant or half a cosine down to 0 at `total_steps`, as
    the usual warm-up schedules of transformers do (step 0 has rate 0 when there is a warm-up).
    """
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    span = max(1, total_steps - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / span)
    return config.learning_rate * max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` for the next update of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate
