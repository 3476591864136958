from __future__ import annotations

import torch

from tabom_cli.core.training import order
from tabom_cli.core.training.config import TrainConfig


def test_one_gpu_and_eight_take_the_same_steps_over_the_same_rows() -> None:
    config = TrainConfig(global_batch_size=32, micro_batch_size=4, epochs=2)
    rows = list(range(70))
    for start, size in ((0, 32), (64, 6)):
        chosen = rows[start : start + size]
        for world in (1, 2, 3, 8, 16):
            plan = order.plan_steps(70, config, world)
            shares = [order.micro_batches(chosen, plan, rank) for rank in range(world)]
            assert len({len(share) for share in shares}) == 1, "every process runs equally often"
            seen = sorted(row for share in shares for chunk in share for row in chunk)
            assert seen == chosen
            assert (plan.steps_per_epoch, plan.total_steps) == (3, 6)


def test_more_processes_than_micro_batches_shrink_the_micro_batch() -> None:
    plan = order.plan_steps(64, TrainConfig(global_batch_size=32, micro_batch_size=8), 8)
    assert (plan.micro_batch_size, plan.accumulation) == (4, 1)


def test_accumulation_makes_up_for_fewer_gpus() -> None:
    plan = order.plan_steps(64, TrainConfig(global_batch_size=64, micro_batch_size=8), 2)
    assert (plan.micro_batch_size, plan.accumulation) == (8, 4)


def test_max_steps_ends_the_run_inside_an_epoch() -> None:
    config = TrainConfig(global_batch_size=8, micro_batch_size=8, epochs=5, max_steps=7)
    assert order.plan_steps(40, config, 1).total_steps == 7


def test_epoch_order_is_a_permutation_that_changes_with_epoch_and_seed() -> None:
    first = order.epoch_order(50, seed=1, epoch=0)
    assert sorted(first) == list(range(50))
    assert first == order.epoch_order(50, seed=1, epoch=0)
    assert first != order.epoch_order(50, seed=1, epoch=1)
    assert first != order.epoch_order(50, seed=2, epoch=0)


def test_a_row_draws_the_same_numbers_beside_any_other_rows() -> None:
    alone = order.row_generators(["b"], seed=5, epoch=2)[0]
    beside = order.row_generators(["a", "b", "c"], seed=5, epoch=2)[1]
    other_epoch = order.row_generators(["b"], seed=5, epoch=3)[0]
    numbers = torch.rand(4, generator=alone)
    assert torch.equal(numbers, torch.rand(4, generator=beside))
    assert not torch.equal(numbers, torch.rand(4, generator=other_epoch))


def test_validation_split_keeps_groups_together_and_has_about_the_asked_share() -> None:
    groups = [f"g{index // 4}" for index in range(4000)]
    kept, held = order.split_validation(groups, 0.1, seed=1)
    assert sorted(kept + held) == list(range(4000))
    assert {groups[index] for index in kept}.isdisjoint({groups[index] for index in held})
    assert 0.07 < len(held) / 4000 < 0.13
    assert order.split_validation(groups, 0.0, seed=1) == (list(range(4000)), [])
