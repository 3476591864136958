from __future__ import annotations

import math

import pytest
import torch

from tabom_cli.core.training import optim
from tabom_cli.core.training.config import TrainConfig


def test_cosine_schedule_is_the_one_of_transformers() -> None:
    from transformers import get_cosine_schedule_with_warmup

    config = TrainConfig(learning_rate=0.5, warmup_steps=10, schedule="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 10, 60)
    for step in range(60):
        expected = optimizer.param_groups[0]["lr"]
        assert optim.learning_rate(step, config, 60) == pytest.approx(expected, abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_constant_schedule_stays_after_warm_up() -> None:
    config = TrainConfig(learning_rate=0.1, warmup_steps=4, schedule="constant")
    rates = [optim.learning_rate(step, config, 100) for step in (0, 2, 4, 99)]
    assert rates == [0.0, 0.05, 0.1, 0.1]


def test_cosine_reaches_half_in_the_middle() -> None:
    config = TrainConfig(learning_rate=1.0, warmup_steps=0)
    assert optim.learning_rate(50, config, 100) == pytest.approx(0.5)
    assert math.isclose(optim.learning_rate(100, config, 100), 0.0, abs_tol=1e-12)


def test_optimizer_takes_only_trainable_parameters() -> None:
    frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    trained = torch.nn.Parameter(torch.zeros(3))
    optimizer = optim.build_optimizer([frozen, trained], TrainConfig(weight_decay=0.3))
    (group,) = optimizer.param_groups
    assert [p.shape for p in group["params"]] == [trained.shape]
    assert (group["weight_decay"], group["betas"]) == (0.3, (0.9, 0.999))
