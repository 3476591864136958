"""Parameter names and counts from a config alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.footprint import (
    PUBLISHED,
    adapter_count,
    adapter_shapes,
    family_of,
    mlp_size,
    parameter_count,
    parameter_shapes,
)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_shapes_have_the_names_and_bytes_of_the_index(fixtures: Path, name: str) -> None:
    folder = fixtures / "checkpoints" / name.split("/")[1]
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(parameter_shapes(PUBLISHED[name])) == set(index["weight_map"])
    assert 2 * parameter_count(PUBLISHED[name]) == index["metadata"]["total_size"]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_built_in_configs_are_the_published_ones(fixtures: Path, name: str) -> None:
    folder = fixtures / "checkpoints" / name.split("/")[1]
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    assert {key: config[key] for key in PUBLISHED[name]} == PUBLISHED[name]


def test_adapter_size_by_hand() -> None:
    # Dream, r = 16: per layer q (3584 + 3584) * 16 and v (3584 + 512) * 16, times 28 layers.
    dream = PUBLISHED["Dream-org/Dream-v0-Instruct-7B"]
    expected = 28 * 16 * ((3584 + 3584) + (3584 + 512))
    assert adapter_count(dream, rank=16, target_modules=("q_proj", "v_proj")) == expected
    llada = PUBLISHED["GSAI-ML/LLaDA-8B-Instruct"]
    assert adapter_count(llada, rank=16, target_modules=("q_proj", "v_proj")) == 32 * 4 * 4096 * 16


@pytest.mark.parametrize("name", ["dream_gqa", "llada_mha"])
def test_adapter_names_are_those_that_peft_writes(fixtures: Path, name: str) -> None:
    config = json.loads((fixtures / "models" / name / "config.json").read_text())
    keys = json.loads((fixtures / "lora" / "index.json").read_text())[name]["keys"]
    assert sorted(adapter_shapes(config, rank=4, target_modules=("q_proj", "v_proj"))) == sorted(
        keys
    )


def test_missing_keys_are_named_together() -> None:
    with pytest.raises(ModelError, match="hidden_size is missing; num_hidden_layers is missing"):
        family_of(
            {
                "model_type": "Dream",
                "vocab_size": 8,
                "intermediate_size": 8,
                "num_attention_heads": 2,
                "mask_token_id": 3,
                "eos_token_id": 0,
            }
        )


@pytest.mark.parametrize("model_type", ["llada2_moe", "sdar", "qwen2", "dream", None])
def test_another_architecture_is_refused_with_the_list_of_supported_ones(
    model_type: str | None,
) -> None:
    with pytest.raises(ModelError, match=r"not supported; supported are 'Dream'.*'llada'"):
        family_of({"model_type": model_type})


def test_footprint_and_source_need_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; import tabom_cli.core.models.footprint, tabom_cli.core.models.source; "
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_inspecting_a_checkpoint_imports_no_transformers(fixtures: Path) -> None:
    code = (
        "import sys; from tabom_cli.core.models.load import inspect_checkpoint; "
        f"print(inspect_checkpoint({str(fixtures / 'lora' / 'dream_gqa')!r}).family, "
        "'transformers' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "dream False"


def test_the_mlp_width_may_be_given_as_a_ratio() -> None:
    published = dict(PUBLISHED["GSAI-ML/LLaDA-8B-Instruct"])
    assert mlp_size(published) == published.pop("mlp_hidden_size") == 12288
    assert mlp_size(published) == 4 * 4096
    assert mlp_size({**published, "mlp_hidden_size": None, "mlp_ratio": 2.5}) == 10240
    assert mlp_size(PUBLISHED["Dream-org/Dream-v0-Instruct-7B"]) == 18944


def test_a_training_plan_needs_no_written_mlp_width() -> None:
    from tabom_cli.commands.runs import training_sections
    from tabom_cli.core.recipe import load_recipe
    from tabom_cli.core.training.plan import estimate_memory

    recipe = load_recipe("llada_prm12k").recipe
    config = dict(PUBLISHED["GSAI-ML/LLaDA-8B-Instruct"])
    written = estimate_memory(training_sections(recipe), config, 1)
    del config["mlp_hidden_size"]
    by_ratio = estimate_memory(training_sections(recipe), {**config, "mlp_ratio": 3}, 1)
    assert by_ratio == written
