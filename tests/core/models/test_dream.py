"""The native Dream against the reference's golden data and against itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.dream import DreamConfig, DreamModel
from tabom_cli.core.models.footprint import parameter_shapes

MODELS = ["dream_gqa", "dream_mha"]
ATTENTION = ["sdpa", "eager"]
FLOAT32 = {"atol": 1e-4, "rtol": 0.0}
"""The reference itself differs by 1.1e-5 between float32 and float64."""


def golden(fixtures: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(fixtures / "forward" / f"{name}.safetensors")


def load(fixtures: Path, name: str, attention: str = "sdpa", dtype: str = "float32") -> DreamModel:
    return DreamModel.from_pretrained(
        fixtures / "models" / name, attn_implementation=attention, dtype=getattr(torch, dtype)
    ).eval()


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_unmasked_logits_and_every_hidden_state_equal_the_reference(
    fixtures: Path, name: str, attention: str
) -> None:
    data = golden(fixtures, name)
    output = load(fixtures, name, attention)(data["input_ids"], output_hidden_states=True)
    torch.testing.assert_close(output.logits, data["logits_full"], **FLOAT32)
    states = [key for key in data if key.startswith("hidden_full.")]
    assert len(states) == len(output.hidden_states)
    for index, state in enumerate(output.hidden_states):
        torch.testing.assert_close(state, data[f"hidden_full.{index}"], **FLOAT32)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("form", ["2-D", "4-D bool", "4-D int", "4-D float"])
@pytest.mark.parametrize("case", ["train", "gen"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_masked_logits_equal_the_reference_for_every_form_of_mask(
    fixtures: Path, name: str, case: str, form: str, attention: str
) -> None:
    data = golden(fixtures, name)
    mask_BL = data["attention_mask"]
    positions = (mask_BL.cumsum(-1) - 1).clamp(min=0)
    if case == "gen":
        positions = positions.masked_fill(mask_BL == 0, 1)
    square = (mask_BL[:, None, :, None] * mask_BL[:, None, None, :]).bool()
    mask = {
        "2-D": mask_BL,
        "4-D bool": square,
        "4-D int": square.long(),
        "4-D float": torch.zeros(square.shape).masked_fill(~square, float("-inf")),
    }[form]
    logits = load(fixtures, name, attention)(data["input_ids"], mask, positions).logits
    real = mask_BL.bool()
    torch.testing.assert_close(logits[real], data[f"logits_masked_{case}"][real], **FLOAT32)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_double_precision_agrees_with_the_double_reference(fixtures: Path, name: str) -> None:
    data = golden(fixtures, name)
    logits = load(fixtures, name, dtype="float64")(data["input_ids"]).logits
    torch.testing.assert_close(logits, data["logits_full_f64"], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_bfloat16_stays_as_close_to_float32_as_the_reference_does(
    fixtures: Path, name: str
) -> None:
    data = golden(fixtures, name)
    logits = load(fixtures, name, dtype="bfloat16")(data["input_ids"]).logits
    assert logits.dtype == torch.bfloat16
    ours = (logits.float() - data["logits_full"]).abs().max()
    theirs = (data["logits_full_bf16"] - data["logits_full"]).abs().max()
    assert ours < 2 * theirs


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_padded_batched_and_single_rows_agree(fixtures: Path, name: str, attention: str) -> None:
    data = golden(fixtures, name)
    model = load(fixtures, name, attention)
    batched = model.logits(model.hidden(data["input_ids"], data["attention_mask"].bool()))
    for row, real in enumerate(data["attention_mask"].bool()):
        alone = model(data["input_ids"][row, real][None]).logits[0]
        torch.testing.assert_close(alone, data[f"logits_unpadded.{row}"], **FLOAT32)
        # hidden() is shifted: state i predicts token i, so it equals the reference's state i - 1.
        torch.testing.assert_close(batched[row, real][1:], alone[:-1], **FLOAT32)


@torch.no_grad()
def test_hidden_is_shifted_right_by_one_and_forward_is_not(fixtures: Path) -> None:
    data = golden(fixtures, "dream_gqa")
    model = load(fixtures, "dream_gqa")
    raw = model(data["input_ids"]).logits
    aligned = model.logits(model.hidden(data["input_ids"]))
    torch.testing.assert_close(aligned, torch.cat((raw[:, :1], raw[:, :-1]), dim=1))
    assert not torch.allclose(aligned[:, 1:], raw[:, 1:], atol=0.1)


@pytest.mark.parametrize("attention", ATTENTION)
def test_rows_of_padding_only_never_turn_into_nan_forward_or_backward(
    fixtures: Path, attention: str
) -> None:
    data = golden(fixtures, "dream_gqa")
    model = load(fixtures, "dream_gqa", attention)
    mask = data["attention_mask"].bool().clone()
    mask[1] = False
    logits = model.logits(model.hidden(data["input_ids"], mask))
    assert logits.isfinite().all()
    logits[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_a_mask_without_zeros_changes_nothing(fixtures: Path) -> None:
    data = golden(fixtures, "dream_gqa")
    model = load(fixtures, "dream_gqa")
    ones = torch.ones_like(data["input_ids"])
    assert torch.equal(model(data["input_ids"], ones).logits, model(data["input_ids"]).logits)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", MODELS)
def test_gradient_checkpointing_gives_equal_gradients(
    fixtures: Path, name: str, attention: str
) -> None:
    data = golden(fixtures, name)

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = load(fixtures, name, attention).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        hidden = model.hidden(data["input_ids"], data["attention_mask"].bool())
        model.logits(hidden).logsumexp(-1).sum().backward()
        return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[key], checkpointed[key]) for key in plain)


def test_gradient_checkpointing_really_recomputes_the_blocks(fixtures: Path) -> None:
    data = golden(fixtures, "dream_gqa")
    model = load(fixtures, "dream_gqa").train()
    model.gradient_checkpointing_enable()
    calls: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    model.hidden(data["input_ids"]).sum().backward()
    assert len(calls) == 2


def test_rotary_frequencies_survive_from_pretrained_and_casts(fixtures: Path) -> None:
    model = load(fixtures, "dream_gqa", dtype="bfloat16")
    expected = torch.tensor([1e6 ** (-2 * index / 8) for index in range(4)])
    torch.testing.assert_close(model.model.rotary.frequencies(torch.device("cpu")), expected)
    assert model.model.rotary.frequencies(torch.device("cpu")).dtype == torch.float32
    assert not list(model.buffers())


@pytest.mark.parametrize("nested", [False, True])
def test_the_rotary_base_is_read_from_either_key(nested: bool) -> None:
    keys = (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}
        if nested
        else {"rope_theta": 5e4}
    )
    config = DreamConfig(**keys)
    assert config.rope_theta == 5e4
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 5e4}


def test_two_different_rotary_bases_are_refused() -> None:
    with pytest.raises(ModelError, match="two rotary bases"):
        DreamConfig(rope_theta=1e4, rope_parameters={"rope_theta": 1e6})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "gelu"),
        ("use_sliding_window", True),
        ("use_mrope", True),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("num_key_value_heads", 3),
    ],
)
def test_options_that_no_published_checkpoint_uses_are_refused_by_name(
    key: str, value: object
) -> None:
    with pytest.raises(ModelError, match=key):
        DreamConfig(**{key: value})


@torch.no_grad()
def test_save_and_load_again_gives_equal_logits(fixtures: Path, tmp_path: Path) -> None:
    data = golden(fixtures, "dream_gqa")
    model = load(fixtures, "dream_gqa")
    model.save_pretrained(tmp_path)
    again = DreamModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.equal(model(data["input_ids"]).logits, again(data["input_ids"]).logits)
    assert json.loads((tmp_path / "config.json").read_text())["rope_theta"] == 1e6


@torch.no_grad()
def test_a_tied_head_shares_the_embedding_after_loading(tmp_path: Path) -> None:
    config = DreamConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    DreamModel(config).save_pretrained(tmp_path)
    model = DreamModel.from_pretrained(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    shapes = parameter_shapes(
        {
            **json.loads((tmp_path / "config.json").read_text()),
            "mask_token_id": 1,
            "eos_token_id": 0,
        }
    )
    assert set(load_file(tmp_path / "model.safetensors")) == set(shapes)


def test_meta_network_of_the_published_config_has_the_index_names_shapes_and_bytes(
    fixtures: Path,
) -> None:
    folder = fixtures / "checkpoints" / "Dream-v0-Instruct-7B"
    values = json.loads((folder / "config.json").read_text())
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    with torch.device("meta"):
        model = DreamModel(DreamConfig(**values))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert set(shapes) == set(index["weight_map"])
    assert shapes == parameter_shapes(values)
    assert shapes["model.layers.27.self_attn.k_proj.bias"] == (512,)
    assert shapes["model.layers.0.mlp.down_proj.weight"] == (3584, 18944)
    assert sum(p.numel() for p in model.parameters()) == 7_615_616_512
    assert 2 * sum(p.numel() for p in model.parameters()) == index["metadata"]["total_size"]


def test_forward_refuses_what_it_cannot_do(fixtures: Path) -> None:
    model = load(fixtures, "dream_mha")
    ids = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(ModelError, match="output_attentions"):
        model(ids, output_attentions=True)
    with pytest.raises(ModelError, match="input_ids or inputs_embeds"):
        model()
    with pytest.raises(ModelError, match="shape"):
        model(ids, torch.ones(1, 3, 3))


@torch.no_grad()
def test_the_head_can_run_on_the_last_positions_only(fixtures: Path) -> None:
    data = golden(fixtures, "dream_mha")
    model = load(fixtures, "dream_mha")
    last = model(data["input_ids"], num_logits_to_keep=3).logits
    # Not bit for bit: a smaller matrix product may be split over threads otherwise.
    torch.testing.assert_close(last, model(data["input_ids"]).logits[:, -3:], atol=1e-5, rtol=1e-5)
    assert model(data["input_ids"], return_dict=False)[0].shape[1] == data["input_ids"].shape[1]
