"""Adapters: attached from a seed, saved, loaded strictly, in the fixtures' and the published layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.footprint import adapter_shapes
from tabom_cli.core.models.layers import enable_gradient_checkpointing
from tabom_cli.core.models.load import find_source, load_network
from tabom_cli.core.models.lora import (
    attach_adapter,
    is_adapted,
    load_adapter,
    save_adapter,
    trainable_parameters,
)
from tabom_cli.core.models.source import inspect_checkpoint

CASES = [("dream", "dream_gqa"), ("llada", "llada_mha")]
TASK_TYPES = {"dream": "FEATURE_EXTRACTION", "llada": "CAUSAL_LM"}


def base(folder: Path, **options: Any) -> nn.Module:
    config = ModelConfig(path=str(folder), **{"dtype": "float32", **options})
    return load_network(find_source(config.path), config)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("family", "name"), CASES)
@torch.no_grad()
def test_adapter_saved_by_an_old_peft_gives_the_reference_logits(
    fixtures: Path, family: str, name: str, attention: str
) -> None:
    data = load_file(fixtures / "lora" / name / "expected.safetensors")
    network = load_adapter(
        base(fixtures / "models" / name, attention=attention),
        str(fixtures / "lora" / name),
        base="small",
        family=family,
    )
    mask = data["attention_mask"]
    masked = {"attention_mask": mask}
    if family == "dream":
        masked["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = data.get("logits_masked_train_adapter", data.get("logits_masked_adapter"))
    assert expected is not None
    real = mask.bool()
    tolerance = {"atol": 2e-4, "rtol": 0.0}
    logits = network(input_ids=data["input_ids"]).logits
    torch.testing.assert_close(logits, data["logits_full_adapter"], **tolerance)
    logits = network(input_ids=data["input_ids"], **masked).logits
    torch.testing.assert_close(logits[real], expected[real], **tolerance)
    aligned = network.logits(network.hidden(data["input_ids"], real))
    if family == "dream":
        torch.testing.assert_close(
            aligned[:, 1:][real[:, :-1]], expected[:, :-1][real[:, :-1]], **tolerance
        )
    else:
        torch.testing.assert_close(aligned[real], expected[real], **tolerance)


@pytest.mark.parametrize(("family", "name"), CASES)
@torch.no_grad()
def test_disabling_the_adapter_gives_the_base_back(fixtures: Path, family: str, name: str) -> None:
    data = load_file(fixtures / "lora" / name / "expected.safetensors")
    plain = base(fixtures / "models" / name)(data["input_ids"]).logits
    network = load_adapter(
        base(fixtures / "models" / name), str(fixtures / "lora" / name), base="b", family=family
    )
    with network.disable_adapter():
        torch.testing.assert_close(network(input_ids=data["input_ids"]).logits, plain)
    assert not torch.allclose(network(input_ids=data["input_ids"]).logits, plain, atol=0.1)


@pytest.mark.parametrize("family", ["dream", "llada"])
def test_a_fresh_adapter_depends_on_the_seed_alone_and_changes_nothing_yet(
    small_checkpoint: Callable[..., Path], family: str
) -> None:
    folder = small_checkpoint(family)

    def attach(seed: int) -> nn.Module:
        torch.manual_seed(torch.seed())
        return attach_adapter(
            base(folder), LoraConfig(rank=4), task_type=TASK_TYPES[family], base="b", seed=seed
        )

    first, second, other = attach(1), attach(1), attach(2)
    for (name, one), (_, two) in zip(
        trainable_parameters(first), trainable_parameters(second), strict=True
    ):
        assert torch.equal(one, two), name
    pairs = zip(trainable_parameters(first), trainable_parameters(other), strict=True)
    assert all(torch.equal(a, b) is ("lora_B" in name) for (name, a), (_, b) in pairs)
    ids = torch.arange(12).reshape(2, 6)
    assert torch.equal(first(input_ids=ids).logits, base(folder)(ids).logits)


def test_attaching_leaves_the_global_generator_alone(
    small_checkpoint: Callable[..., Path],
) -> None:
    network = base(small_checkpoint("dream"))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    attach_adapter(network, LoraConfig(), task_type="FEATURE_EXTRACTION", base="b", seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_only_float32_factors_train_on_a_bfloat16_base(
    small_checkpoint: Callable[..., Path],
) -> None:
    network = attach_adapter(
        base(small_checkpoint("dream"), dtype="bfloat16"),
        LoraConfig(rank=2),
        task_type="FEATURE_EXTRACTION",
        base="b",
        seed=0,
    )
    trained = trainable_parameters(network)
    assert len(trained) == 2 * 2 * 2
    assert all(value.dtype == torch.float32 and "lora_" in name for name, value in trained)
    frozen = [value for value in network.parameters() if not value.requires_grad]
    assert {value.dtype for value in frozen} == {torch.bfloat16}


@pytest.mark.parametrize("family", ["dream", "llada"])
def test_gradient_checkpointing_inside_peft_gives_equal_adapter_gradients(
    small_checkpoint: Callable[..., Path], family: str
) -> None:
    folder = small_checkpoint(family)
    ids = torch.arange(14).reshape(2, 7)

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        network: Any = attach_adapter(
            base(folder), LoraConfig(rank=4), task_type=TASK_TYPES[family], base="b", seed=0
        )
        if checkpointing:
            enable_gradient_checkpointing(network)
        network.train()
        network.logits(network.hidden(ids)).logsumexp(-1).sum().backward()
        return {name: p.grad for name, p in trainable_parameters(network) if p.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert len(plain) == 8
    assert any(value.abs().sum() > 0 for value in plain.values())
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


@pytest.mark.parametrize("family", ["dream", "llada"])
@torch.no_grad()
def test_a_saved_adapter_loads_again_and_has_the_original_modules_keys_and_shapes(
    small_checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    folder = small_checkpoint(family)
    network = attach_adapter(
        base(folder), LoraConfig(rank=4), task_type=TASK_TYPES[family], base=str(folder), seed=0
    )
    for _, parameter in trainable_parameters(network):
        parameter.normal_(generator=torch.Generator().manual_seed(3))
    target = tmp_path / "adapter"
    target.mkdir()
    save_adapter(network, target, base=str(folder))
    written = {
        name: tuple(v.shape) for name, v in load_file(target / "adapter_model.safetensors").items()
    }
    config = json.loads((folder / "config.json").read_text())
    assert written == adapter_shapes(config, rank=4, target_modules=("q_proj", "v_proj"))
    settings = json.loads((target / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(folder)
    assert settings["task_type"] == TASK_TYPES[family]
    assert settings["target_modules"] == ["q_proj", "v_proj"]
    info = inspect_checkpoint(str(target))
    assert (info.kind, info.base, info.family) == ("adapter", str(folder), family)
    ids = torch.arange(12).reshape(2, 6)
    again = load_adapter(base(folder), str(target), base=str(folder), family=family)
    assert torch.equal(again(input_ids=ids).logits, network(input_ids=ids).logits)
    assert trainable_parameters(again) == []
    assert is_adapted(again)


def test_equal_weights_are_written_to_equal_bytes(
    small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = small_checkpoint("dream")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        network = attach_adapter(
            base(folder), LoraConfig(), task_type="FEATURE_EXTRACTION", base="b", seed=5
        )
        save_adapter(network, tmp_path / name, base="b")
    for file in ("adapter_config.json", "adapter_model.safetensors", "base_hash.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("published", "family"),
    [
        ("dream_prm12k", "dream"),
        ("dream_ling_coder", "dream"),
        ("llada_prm12k", "llada"),
        ("llada_ling_coder", "llada"),
    ],
)
@torch.no_grad()
def test_the_published_layout_loads(
    fixtures: Path,
    small_checkpoint: Callable[..., Path],
    tmp_path: Path,
    published: str,
    family: str,
) -> None:
    base_folder = small_checkpoint(family)
    folder = tmp_path / published
    shutil.copytree(fixtures / "checkpoints" / "published_adapters" / published, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    config = json.loads((base_folder / "config.json").read_text())
    shapes = adapter_shapes(config, rank=settings["r"], target_modules=settings["target_modules"])
    generator = torch.Generator().manual_seed(0)
    factors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(factors, folder / "adapter_model.safetensors")
    assert inspect_checkpoint(str(folder)).family == family
    ids = torch.arange(12).reshape(2, 6)
    network = load_adapter(base(base_folder), str(folder), base="b", family=family)
    # By hand: every targeted weight becomes W + (alpha / r) B A, here with alpha = r = 16.
    merged: Any = base(base_folder)
    for name in {name.rsplit(".lora_", 1)[0] for name in shapes}:
        linear = merged.get_submodule(name.removeprefix("base_model.model."))
        linear.weight += factors[f"{name}.lora_B.weight"] @ factors[f"{name}.lora_A.weight"]
    torch.testing.assert_close(
        network(input_ids=ids).logits, merged(ids).logits, atol=1e-3, rtol=1e-3
    )


def test_training_can_go_on_from_an_adapter_with_equal_settings_only(fixtures: Path) -> None:
    folder, network = fixtures / "lora" / "dream_gqa", base(fixtures / "models" / "dream_gqa")
    lora = LoraConfig(rank=4, alpha=8)
    going_on = load_adapter(network, str(folder), base="b", family="dream", lora=lora)
    assert len(trainable_parameters(going_on)) == 12
    with pytest.raises(ModelError, match=r"lora\.rank is 16, the adapter has 4"):
        load_adapter(network, str(folder), base="b", family="dream", lora=LoraConfig())


def adapter_copy(fixtures: Path, tmp_path: Path, name: str = "dream_gqa") -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(fixtures / "lora" / name, folder)
    return folder


def change_keys(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {k.replace("q_proj", "x_proj"): v for k, v in t.items()},
            "x_proj.*matches nothing",
        ),
        (lambda t: {k: v for k, v in t.items() if "layers.1" not in k}, r"layers\.1.*is missing"),
        (lambda t: {k: v[..., :2].contiguous() for k, v in t.items()}, r"shape \(4, 2\).*rank"),
        (lambda t: {k: v * float("nan") for k, v in t.items()}, "NaN or infinity"),
    ],
)
def test_adapter_files_that_do_not_fit_are_refused_with_their_keys(
    fixtures: Path, tmp_path: Path, change: Callable[..., Any], message: str
) -> None:
    folder = adapter_copy(fixtures, tmp_path)
    change_keys(folder, change)
    with pytest.raises(ModelError, match=f"(?s){message}"):
        load_adapter(
            base(fixtures / "models" / "dream_gqa"), str(folder), base="small", family="dream"
        )


def test_an_adapter_for_another_size_of_base_is_refused_and_names_both(fixtures: Path) -> None:
    with pytest.raises(ModelError, match=r"does not fit small.*Dream-org/Dream-v0-Instruct-7B"):
        load_adapter(
            base(fixtures / "models" / "dream_mha"),
            str(fixtures / "lora" / "dream_gqa"),
            base="small",
            family="dream",
        )


def test_an_adapter_of_the_other_family_is_refused_and_names_both(fixtures: Path) -> None:
    with pytest.raises(ModelError, match=r"llada family.*LLaDA-8B.*my-dream is dream") as caught:
        load_adapter(
            base(fixtures / "models" / "dream_gqa"),
            str(fixtures / "lora" / "llada_mha"),
            base="my-dream",
            family="dream",
        )
    assert "GSAI-ML/LLaDA-8B-Instruct" in str(caught.value.hint)


@pytest.mark.parametrize("spelling", ["{base}", "{base}/../{name}"])
def test_an_adapter_that_names_the_loaded_base_of_another_family_is_not_sent_back_to_it(
    fixtures: Path, tmp_path: Path, spelling: str
) -> None:
    folder, loaded = (
        adapter_copy(fixtures, tmp_path, "llada_mha"),
        fixtures / "models" / "dream_gqa",
    )
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = spelling.format(base=loaded, name=loaded.name)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"llada family.*is dream") as caught:
        load_adapter(base(loaded), str(folder), base=str(loaded.resolve()), family="dream")
    assert caught.value.hint is None


def saved_adapter(network: nn.Module, folder: Path, name: str) -> str:
    folder.mkdir()
    adapted = attach_adapter(network, LoraConfig(rank=2), task_type="CAUSAL_LM", base=name, seed=0)
    save_adapter(adapted, folder, base=name)
    return str(folder)


@pytest.mark.parametrize("family", ["dream", "llada"])
def test_an_adapter_is_refused_on_other_weights_of_equal_shape(
    small_checkpoint: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    one = small_checkpoint(family, name="one", seed=1)
    two = small_checkpoint(family, name="two", seed=2)
    folder = saved_adapter(base(one), tmp_path / "adapter", "first")
    load_adapter(base(one), folder, base="a copy", family=family)
    both = (
        r"trained on first with the weights \w{24}, the loaded base second has the weights \w{24}"
    )
    with pytest.raises(ModelError, match=both):
        load_adapter(base(two), folder, base="second", family=family)
    going_on = load_adapter(base(one), folder, base="first", family=family, lora=LoraConfig(rank=2))
    (tmp_path / "more").mkdir()
    save_adapter(going_on, tmp_path / "more", base="first")
    with pytest.raises(ModelError, match="trained on first with the weights"):
        load_adapter(base(two), str(tmp_path / "more"), base="second", family=family)


@pytest.mark.parametrize("trained_in", ["float32", "bfloat16", "float16"])
def test_the_precision_in_which_a_base_is_loaded_does_not_make_it_another(
    small_checkpoint: Callable[..., Path], tmp_path: Path, trained_in: str
) -> None:
    checkpoint = small_checkpoint("dream")
    folder = saved_adapter(base(checkpoint, dtype=trained_in), tmp_path / "adapter", "b")
    for dtype in ("float32", "bfloat16", "float16"):
        load_adapter(base(checkpoint, dtype=dtype), folder, base="b", family="dream")


def test_an_adapter_that_carries_no_hash_loads_on_any_base_of_its_shape(
    small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    folder = saved_adapter(base(small_checkpoint("dream", seed=1)), tmp_path / "adapter", "b")
    (Path(folder) / "base_hash.txt").unlink()
    other = base(small_checkpoint("dream", name="two", seed=2))
    assert is_adapted(load_adapter(other, folder, base="b", family="dream"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("modules_to_save", ["lm_head"]),
        ("lora_bias", True),
        ("peft_type", "IA3"),
    ],
)
def test_adapters_that_are_not_plain_lora_are_refused_by_name(
    fixtures: Path, tmp_path: Path, key: str, value: object
) -> None:
    folder = adapter_copy(fixtures, tmp_path)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, key: value}))
    with pytest.raises(ModelError, match=key):
        load_adapter(base(fixtures / "models" / "dream_gqa"), str(folder), base="b", family="dream")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": "a", "lora_alpha": "x"}, r"r = 'a'.*lora_alpha = 'x'"),
        ({"r": None, "lora_alpha": None}, "r is missing; lora_alpha is missing"),
        ({"r": 0}, "r = 0"),
        ({"task_type": "XX"}, "task_type = 'XX'.*FEATURE_EXTRACTION"),
        ({"target_modules": ["q_proj", 3]}, "target_modules"),
        ({"rank_pattern": 5}, "rank_pattern = 5"),
        ({"exclude_modules": 5}, "cannot be attached"),
        ({"init_lora_weights": "loftq"}, "peft refuses it.*loftq"),
    ],
)
def test_adapter_settings_of_a_wrong_type_are_named(
    fixtures: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = adapter_copy(fixtures, tmp_path)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **changes}))
    with pytest.raises(ModelError, match=rf"adapter_config\.json: .*{message}"):
        load_adapter(base(fixtures / "models" / "dream_gqa"), str(folder), base="b", family="dream")


@pytest.mark.parametrize(
    ("leftover", "message"),
    [("adapter_model.bin", "pickles"), (None, "adapter_model.safetensors: file not found")],
)
def test_an_adapter_without_safetensors_is_refused(
    fixtures: Path, tmp_path: Path, leftover: str | None, message: str
) -> None:
    folder = adapter_copy(fixtures, tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    if leftover:
        (folder / leftover).write_bytes(b"x")
    with pytest.raises(ModelError, match=message):
        load_adapter(base(fixtures / "models" / "dream_gqa"), str(folder), base="b", family="dream")


def test_unknown_target_modules_are_named_with_those_that_exist(fixtures: Path) -> None:
    with pytest.raises(
        ModelError, match="query not in the network; there are down_proj, gate_proj"
    ):
        attach_adapter(
            base(fixtures / "models" / "dream_gqa"),
            LoraConfig(target_modules=("q_proj", "query")),
            task_type="FEATURE_EXTRACTION",
            base="b",
            seed=0,
        )
