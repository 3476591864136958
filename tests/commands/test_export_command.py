"""`tabom export`: an adapter becomes a plain checkpoint that computes the same logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tabom_cli.core.errors import ModelError, RunError, TabomError
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.export import merged, save_model
from tabom_cli.core.models.load import load_model
from tabom_cli.main import app

IDS = torch.tensor([[5, 6, 3, 3, 8, 9], [1, 5, 3, 3, 3, 7]])


def export(*arguments: str) -> str:
    outcome = CliRunner().invoke(app, ["export", *arguments])
    if isinstance(outcome.exception, TabomError):
        raise outcome.exception
    assert outcome.exception is None, outcome.output
    return outcome.stdout


@torch.no_grad()
def logits(model: DiffusionLM) -> torch.Tensor:
    return model.logits(model.hidden(IDS)).float()


def load(path: Path | str, dtype: Any = "float32", **more: Any) -> DiffusionLM:
    return load_model(ModelConfig(path=str(path), dtype=dtype, **more))


def tuned(base: Path, folder: Path) -> Path:
    """An adapter whose update is as large as the weights."""
    model = load_model(ModelConfig(path=str(base), dtype="float32"), lora=LoraConfig(rank=2))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.network.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5, generator=generator)
    folder.mkdir()
    save_model(model, folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """A small base of either family with its adapter."""

    def make(family: str) -> tuple[Path, Path]:
        base = tmp_path / "base"
        base.mkdir()
        write_base(family, base)
        return base, tuned(base, tmp_path / "adapter")

    return make


def write_base(family: str, folder: Path) -> None:
    """Random weights of a small shape under the tiny tokenizer."""
    from safetensors.torch import save_file

    from tabom_cli.assets import tiny_path
    from tabom_cli.core.models.footprint import parameter_shapes

    tiny = json.loads((tiny_path() / "config.json").read_text())
    special = {key: tiny[key] for key in ("mask_token_id", "eos_token_id", "pad_token_id")}
    shape = {
        "dream": {"model_type": "Dream", "hidden_size": 32, "intermediate_size": 48}
        | {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        "llada": {"model_type": "llada", "d_model": 32, "mlp_hidden_size": 48, "n_layers": 2}
        | {"n_heads": 4, "n_kv_heads": 4, "weight_tying": False},
    }[family]
    config = {**special, **shape, "vocab_size": tiny["vocab_size"], "rope_theta": 1e4}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((tiny_path() / name).read_text())
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(shape, generator=generator) * 0.3
        for name, shape in parameter_shapes(config).items()
    }
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("family", ["dream", "llada"])
def test_an_exported_adapter_loads_as_a_base_with_equal_logits(
    family: str, checkpoint: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    base, adapter = checkpoint(family)
    (adapter / "recipe.resolved.yaml").write_text("name: mine\n")
    out = export(str(adapter), str(tmp_path / "plain"))
    assert out.strip() == str(tmp_path / "plain")
    expected = logits(load(base, adapter=str(adapter)))
    torch.testing.assert_close(logits(load(tmp_path / "plain")), expected, rtol=1e-5, atol=1e-5)
    assert (logits(load(base)) - expected).abs().max() > 0.1
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= names
    assert not any("adapter" in name or "generation" in name for name in names)
    assert (tmp_path / "plain" / "recipe.resolved.yaml").read_text() == "name: mine\n"
    record = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    assert record["base"] == str(base)
    assert record["adapter"] == str(adapter)
    assert record["dtype"] == "float32"


def test_the_dtype_is_the_base_s_own_unless_it_is_given(
    checkpoint: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    _, adapter = checkpoint("dream")
    export(str(adapter), str(tmp_path / "half"), "--dtype", "bfloat16")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("base", "half")]
    assert 1.9 < sizes[0] / sizes[1] < 2.1
    export(str(tmp_path / "half"), str(tmp_path / "copy"))
    copy = load(tmp_path / "copy", "bfloat16")
    torch.testing.assert_close(logits(copy), logits(load(tmp_path / "half", "bfloat16")))
    assert (tmp_path / "copy" / "model.safetensors").stat().st_size == sizes[1]


def test_merging_rounds_once(checkpoint: Callable[[str], tuple[Path, Path]]) -> None:
    base, adapter = checkpoint("llada")
    exact = merged(load(base, adapter=str(adapter)).network).state_dict()
    plain = load(base, "bfloat16").network.state_dict()
    half = merged(load(base, "bfloat16", adapter=str(adapter)).network).state_dict()
    wide = load(base, "bfloat16", adapter=str(adapter)).network
    for name, module in wide.named_modules():
        if not hasattr(module, "get_delta_weight"):
            continue
        key = name.removeprefix("base_model.model.") + ".weight"
        update = module.lora_B["default"].weight @ module.lora_A["default"].weight
        update = update * module.scaling["default"]
        assert torch.equal(half[key], (plain[key].float() + update).bfloat16())
        torch.testing.assert_close(half[key].float(), exact[key], rtol=2**-7, atol=2**-7)


def test_an_update_that_overflows_is_not_written(
    checkpoint: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    _, adapter = checkpoint("dream")
    factors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: value * 1e3 for name, value in factors.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(ModelError, match="not finite"):
        export(str(adapter), str(tmp_path / "plain"), "--dtype", "float16")
    assert not [path for path in tmp_path.iterdir() if "plain" in path.name]


def test_existing_folders_and_nameless_bases_are_refused(
    checkpoint: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    _, adapter = checkpoint("dream")
    with pytest.raises(RunError, match="exists"):
        export(str(adapter), str(tmp_path / "base"))
    path = adapter / "adapter_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="does not name its base"):
        export(str(adapter), str(tmp_path / "plain"))
