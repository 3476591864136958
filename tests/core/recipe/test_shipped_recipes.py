"""The shipped recipes: all are found and valid, and the four published ones hold the published values.

The expected figures were typed from the release's table of recipes, not read from our files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tabom_cli.core.errors import EXIT_USAGE, RecipeError
from tabom_cli.core.recipe import find_recipe, library, list_recipes, load_recipe, recipes_folder

NAMES = {
    *("dream_prm12k", "dream_ling_coder", "llada_prm12k", "llada_ling_coder"),
    *("tiny", "tiny_base"),
}

DREAM, LLADA = "Dream-org/Dream-v0-Instruct-7B", "GSAI-ML/LLaDA-8B-Instruct"
PUBLISHED: dict[str, dict[str, Any]] = {
    "dream_prm12k": {
        "model.path": DREAM,
        "data.path": "data/dream_prm12k.jsonl",
        "data.method_filter": "entropy",
        "objective.cut_sampler": "uniform",
        "train.learning_rate": 2e-5,
        "objective.rank_weight": 1.0,
        "objective.rank_margin": 0.1,
        "train.global_batch_size": 4 * 8,
        "eval.tasks": ["gsm8k_cot"],
        "eval.decode.max_new_tokens": 256,
    },
    "dream_ling_coder": {
        "model.path": DREAM,
        "data.path": "data/dream_ling_coder.jsonl",
        "data.method_filter": "all",
        "objective.cut_sampler": "non_ltr",
        "train.learning_rate": 1e-4,
        "objective.rank_weight": 2.0,
        "objective.rank_margin": 0.1,
        "train.global_batch_size": 8 * 8,
        "eval.tasks": ["mbpp_instruct_dream"],
        "tds.task": "mbpp_instruct_dream",
        "eval.decode.max_new_tokens": 512,
    },
    "llada_prm12k": {
        "model.path": LLADA,
        "data.path": "data/llada_prm12k.jsonl",
        "data.method_filter": "entropy",
        "objective.cut_sampler": "uniform",
        "train.learning_rate": 2e-5,
        "objective.rank_weight": 1.0,
        "objective.rank_margin": 0.2,
        "train.global_batch_size": 4 * 8,
        "eval.tasks": ["gsm8k_cot"],
        "eval.decode.max_new_tokens": 256,
    },
    "llada_ling_coder": {
        "model.path": LLADA,
        "data.path": "data/llada_ling_coder.jsonl",
        "data.method_filter": "default",
        "objective.cut_sampler": "uniform",
        "train.learning_rate": 2e-5,
        "objective.rank_weight": 1.0,
        "objective.rank_margin": 0.3,
        "train.global_batch_size": 4 * 8,
        "eval.tasks": ["humaneval_instruct_dream"],
        "tds.task": "humaneval_instruct_dream",
        "eval.decode.max_new_tokens": 512,
    },
}
SHARED: dict[str, Any] = {
    "seed": 42,
    "model.adapter": None,
    "model.init": "pretrained",
    "model.dtype": "bfloat16",
    "lora.rank": 16,
    "lora.alpha": 16,
    "lora.dropout": 0.0,
    "lora.target_modules": ["q_proj", "v_proj"],
    "data.max_prompt_length": 256,
    "data.response_length": 256,
    "data.use_token_ids": True,
    "data.on_missing_order": "error",
    "data.verdicts": ["correct"],
    "data.max_rows": None,
    "objective.name": "tabom",
    "objective.parity": "release",
    "objective.supervision_window": 32,
    "objective.rank_window": 32,
    "objective.include_padding": True,
    "objective.window": "local",
    "objective.rank_scope": "all",
    "objective.ties": None,
    "objective.short": None,
    "objective.inclusive_last": None,
    "train.epochs": 5,
    "train.max_steps": None,
    "train.micro_batch_size": 8,
    "train.betas": [0.9, 0.999],
    "train.eps": 1e-8,
    "train.weight_decay": 0.01,
    "train.max_grad_norm": 1.0,
    "train.warmup_steps": 50,
    "train.schedule": "cosine",
    "train.precision": "bf16",
    "train.gradient_checkpointing": False,
    "train.deterministic": True,
    "train.validation_fraction": 0.0,
    "eval.num_fewshot": 0,
    "eval.decode.confidence_temperature": None,
    "eval.decode.token_pick": "argmax",
    "distill.decode.confidence_temperature": None,
    "distill.decode.token_pick": "sample",
    "distill.decode.max_new_tokens": 256,
}


def value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def test_all_shipped_recipes_are_listed_and_only_they_are_in_the_folder() -> None:
    files = list(recipes_folder().rglob("*.y*ml"))
    assert len(files) == len(NAMES) == 6
    assert {recipe.name for recipe in list_recipes()} == NAMES
    assert {path.stem for path in files} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_shipped_recipe_is_valid_and_named_after_its_file(name: str) -> None:
    loaded = load_recipe(name)
    assert loaded.recipe.name == loaded.path.stem == name
    summary = next(item for item in list_recipes() if item.name == name)
    assert summary.description == loaded.recipe.description
    assert summary.model == loaded.recipe.model.path
    assert summary.objective == loaded.recipe.objective.name
    assert 10 < len(summary.description) < 80


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_recipe_holds_exactly_the_published_values(name: str) -> None:
    values = load_recipe(name).recipe.to_dict()
    expected = {**SHARED, **PUBLISHED[name]}
    found = {key: value_at(values, key) for key in expected}
    found = {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}
    assert found == expected


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_one_switch_gives_the_repaired_form_of_a_published_recipe(name: str) -> None:
    released, repaired = load_recipe(name), load_recipe(name, ["objective.parity=repaired"])
    before, after = released.recipe.to_dict(), repaired.recipe.to_dict()
    assert after["objective"].pop("parity") == "repaired"
    assert before["objective"].pop("parity") == "release"
    assert before == after


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_recipe_says_where_its_data_comes_from(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert recipe.data.source is not None
    assert f"{name}.jsonl" in recipe.data.source
    assert recipe.distill is not None
    assert recipe.distill.prompts.preset in {"mixchain_z_prm12k", "ling_coder_sft"}


@pytest.mark.parametrize("name", ["tiny", "tiny_base"])
def test_the_tiny_recipes_use_the_embedded_model_and_the_repaired_objective(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert recipe.model.path == "tiny"
    assert recipe.objective.settings.parity == "repaired"  # type: ignore[attr-defined]
    assert recipe.eval.decode.confidence_temperature == 1.0


def test_recipes_in_sub_folders_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = find_recipe("tiny").read_text(encoding="utf-8")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "b.yaml").write_text(text.replace("name: tiny", "name: b"))
    (tmp_path / "deep" / "er" / "a.yaml").write_text(text.replace("name: tiny", "name: a"))
    monkeypatch.setattr(library, "recipes_folder", lambda: tmp_path)
    assert [recipe.name for recipe in list_recipes()] == ["a", "b"]
    assert find_recipe("a") == tmp_path / "deep" / "er" / "a.yaml"


def test_a_recipe_is_found_by_name_or_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("name: mine")
    assert find_recipe("tiny").parent == recipes_folder()
    assert find_recipe("tiny.yaml") == Path("tiny.yaml")
    assert find_recipe("./tiny.yaml") == Path("tiny.yaml")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("dream_prm", "unknown recipe 'dream_prm'", "did you mean 'dream_prm12k'?"),
        ("tinny", "there are dream_ling_coder, dream_prm12k", "did you mean 'tiny'?"),
        ("xyzzy", "unknown recipe 'xyzzy'", "a path ending in .yaml works too"),
        ("missing.yaml", "recipe file not found: missing.yaml", "tabom recipes list"),
        ("some/where", "recipe file not found: some/where", "tabom recipes list"),
        ("", "unknown recipe ''", "a path"),
    ],
)
def test_an_unknown_recipe_is_refused_with_the_nearest_name(
    name: str, message: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(name)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == EXIT_USAGE
