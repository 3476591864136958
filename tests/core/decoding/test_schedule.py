"""Counts per step: known figures of the original schedules, and what a decode section refuses."""

from __future__ import annotations

from typing import Any

import pytest
from decoding_toys import toy
from pydantic import ValidationError

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.schedule import TransferSchedule
from tabom_cli.core.decoding.scheduler import decode
from tabom_cli.core.errors import RecipeError


def counts(**settings: Any) -> list[int]:
    """Reveals per step when every quota is followed."""
    schedule = TransferSchedule(DecodeConfig(**settings))
    found = []
    for block in range(schedule.num_blocks):
        low, high = schedule.block_range(block)
        masked = high - low
        for step in range(schedule.num_steps(block)):
            quota = schedule.quota(block, step, masked)
            assert quota is not None
            found.append(quota)
            masked -= quota
        assert masked == 0
    return found


@pytest.mark.parametrize("length", [256, 512, 768])
def test_dreams_schedule_with_steps_equal_to_length(length: int) -> None:
    """As computed from the original: first step empty, two at the last."""
    assert counts(steps=length, max_new_tokens=length) == [0] + [1] * (length - 2) + [2]


def test_dreams_schedule_at_1024_has_two_empty_steps_and_three_at_the_end() -> None:
    found = counts(steps=1024, max_new_tokens=1024)
    assert (found.count(0), found[-1], sum(found)) == (2, 3, 1024)


def test_dreams_schedule_with_half_the_steps_ends_with_three() -> None:
    assert counts(steps=128, max_new_tokens=256)[-1] == 3


def test_dreams_schedule_with_twice_the_steps_has_257_empty_ones() -> None:
    assert counts(steps=512, max_new_tokens=256).count(0) == 257


def test_the_even_schedule_gives_the_remainder_to_the_first_steps() -> None:
    even = {"schedule": "even", "max_new_tokens": 12}
    assert counts(**even, steps=5) == [3, 3, 2, 2, 2]
    assert counts(**even, steps=6, block_length=4) == [2] * 6
    assert counts(**even, steps=4, block_length=6) == [3] * 4
    assert counts(**even, steps=16) == [1] * 12 + [0] * 4


def test_blocks_share_the_steps_and_the_first_ones_get_the_remainder() -> None:
    schedule = TransferSchedule(DecodeConfig(steps=8, max_new_tokens=12, block_length=4))
    assert [schedule.num_steps(block) for block in range(3)] == [3, 3, 2]
    assert [schedule.block_range(block) for block in range(3)] == [(0, 4), (4, 8), (8, 12)]


def test_fixed_tokens_are_clamped_and_the_last_step_takes_the_rest() -> None:
    assert counts(steps=12, max_new_tokens=12, tokens_per_step=5)[:4] == [5, 5, 2, 0]
    assert counts(steps=3, max_new_tokens=12, tokens_per_step=2) == [2, 2, 8]


def test_certainty_decides_under_a_threshold_until_the_last_step() -> None:
    schedule = TransferSchedule(DecodeConfig(steps=3, max_new_tokens=12, threshold=0.9))
    assert [schedule.quota(0, step, 7) for step in range(3)] == [None, None, 7]
    by_rule = TransferSchedule(DecodeConfig(steps=3, max_new_tokens=12), fixed_counts=False)
    assert [by_rule.quota(0, step, 7) for step in range(3)] == [None, None, 7]
    assert not schedule.runs_all_steps
    assert not by_rule.runs_all_steps


def test_the_chance_of_a_position_is_one_over_the_steps_left_when_even() -> None:
    schedule = TransferSchedule(DecodeConfig(steps=4, max_new_tokens=12, schedule="even"))
    assert [schedule.share(0, step) for step in range(4)] == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 10, "block_length": 4}, "does not divide"),
        ({"max_new_tokens": 8, "block_length": 2, "steps": 3}, "less than one for each"),
        (
            {"max_new_tokens": 8, "block_length": 4, "steps": 5, "schedule": "even"},
            "not a multiple",
        ),
        ({"tokens_per_step": 2, "threshold": 0.9}, "exclude each other"),
        ({"alg_temp": 0.5, "threshold": 0.9}, "alg_temp has no effect"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        DecodeConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "origin", "tokens_per_step": 2},
        {"strategy": "origin", "threshold": 0.5},
        {"strategy": "origin", "eos_suppression": "confidence"},
        {"strategy": "random", "confidence_temperature": 1.0},
        {"strategy": "hierarchical", "alg_temp": 1.0},
        {"strategy": "entropy", "options": {"factor": 1.0}},
    ],
    ids=str,
)
def test_settings_that_a_strategy_would_ignore_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        decode(toy(4), [], DecodeConfig(**settings))
