"""Flags of the original release lead to the recipe key that replaced them."""

from __future__ import annotations

import pytest

from tabom_cli.core.errors import RecipeError
from tabom_cli.core.recipe import load_recipe
from tabom_cli.core.recipe.faults import field_names, original_flag_hint
from tabom_cli.core.recipe.flags import ORIGINAL_FLAGS
from tabom_cli.core.recipe.model import Recipe, objective_config


def test_every_target_in_the_table_is_a_key_of_a_recipe() -> None:
    assert len(ORIGINAL_FLAGS) > 30
    settings = {key for name in ("tabom", "nelbo") for key in objective_config(name).model_fields}
    for flag, target in ORIGINAL_FLAGS.items():
        if target.startswith(("(", "--")):
            continue
        *sections, key = target.split(".")
        if sections == ["objective"]:
            assert key in settings | {"name"}, flag
        else:
            assert key in field_names(Recipe, tuple(sections)), flag


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.entropy_rank_lambda=1", "--entropy_rank_lambda is 'objective.rank_weight' here"),
        ("objective.td_supervision_window=3", "is 'objective.supervision_window' here"),
        ("lr=3", "the original's --lr is 'train.learning_rate' here"),
        ("train.TRAIN_BATCH_SIZE=8", "TRAIN_BATCH_SIZE is 'train.micro_batch_size' here"),
        ("train.batch=8", "unknown key 'train.batch'"),
        ("lora.lora_r=8", "--lora_r is 'lora.rank' here"),
    ],
)
def test_an_original_flag_as_a_key_gets_the_key_that_replaced_it(override: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("tiny", [override])
    assert hint in caught.value.message


def test_hints_ignore_dashes_case_and_section() -> None:
    expected = "the original's --lora_r is 'lora.rank' here"
    for key in ("lora_r", "--lora_r", "LORA_R", "lora.lora_r"):
        assert original_flag_hint(key) == expected
    assert original_flag_hint("rank") is None
