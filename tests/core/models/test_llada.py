"""The native LLaDA against the reference's golden data and against itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.footprint import parameter_shapes
from tabom_cli.core.models.llada import LLaDAConfig, LLaDAModelLM

MODELS = ["llada_mha", "llada_padvocab"]
ATTENTION = ["sdpa", "eager"]
FLOAT32 = {"atol": 1e-4, "rtol": 0.0}


def golden(fixtures: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(fixtures / "forward" / f"{name}.safetensors")


def load(
    fixtures: Path, name: str, attention: str = "sdpa", dtype: str = "float32"
) -> LLaDAModelLM:
    return LLaDAModelLM.from_pretrained(
        fixtures / "models" / name, attn_implementation=attention, dtype=getattr(torch, dtype)
    ).eval()


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_llada_unmasked_logits_and_every_hidden_state_equal_the_reference(
    fixtures: Path, name: str, attention: str
) -> None:
    data = golden(fixtures, name)
    output = load(fixtures, name, attention)(data["input_ids"], output_hidden_states=True)
    torch.testing.assert_close(output.logits, data["logits_full"], **FLOAT32)
    assert len(output.hidden_states) == len([key for key in data if key.startswith("hidden_full.")])
    for index, state in enumerate(output.hidden_states):
        torch.testing.assert_close(state, data[f"hidden_full.{index}"], **FLOAT32)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("form", ["mask", "bias"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_llada_hides_padded_keys_but_not_padded_queries(
    fixtures: Path, name: str, form: str, attention: str
) -> None:
    data = golden(fixtures, name)
    mask_BL = data["attention_mask"]
    hidden_keys = (mask_BL == 0)[:, None, None, :].expand(-1, 1, mask_BL.shape[1], -1)
    bias = torch.zeros(hidden_keys.shape).masked_fill(hidden_keys, float("-inf"))
    given = {"attention_mask": mask_BL} if form == "mask" else {"attention_bias": bias}
    logits = load(fixtures, name, attention)(data["input_ids"], **given).logits
    # The reference lets padded queries read the real keys, so here all rows can be compared.
    torch.testing.assert_close(logits, data["logits_masked"], **FLOAT32)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_llada_double_precision_agrees_with_the_double_reference(fixtures: Path, name: str) -> None:
    data = golden(fixtures, name)
    logits = load(fixtures, name, dtype="float64")(data["input_ids"]).logits
    # q and k are rotated in float32 by design, in the reference too.
    torch.testing.assert_close(logits, data["logits_full_f64"], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_llada_bfloat16_stays_as_close_to_float32_as_the_reference_does(
    fixtures: Path, name: str
) -> None:
    data = golden(fixtures, name)
    logits = load(fixtures, name, dtype="bfloat16")(data["input_ids"]).logits
    ours = (logits.float() - data["logits_full"]).abs().max()
    theirs = (data["logits_full_bf16"] - data["logits_full"]).abs().max()
    assert ours < 2 * theirs


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_llada_padded_batched_and_single_rows_agree_without_a_shift(
    fixtures: Path, name: str, attention: str
) -> None:
    data = golden(fixtures, name)
    model = load(fixtures, name, attention)
    batched = model.logits(model.hidden(data["input_ids"], data["attention_mask"].bool()))
    for row, real in enumerate(data["attention_mask"].bool()):
        alone = model(data["input_ids"][row, real][None]).logits[0]
        torch.testing.assert_close(alone, data[f"logits_unpadded.{row}"], **FLOAT32)
        torch.testing.assert_close(batched[row, real], alone, **FLOAT32)


@pytest.mark.parametrize("attention", ATTENTION)
@torch.no_grad()
def test_grouped_keys_equal_repeated_keys_and_values(attention: str) -> None:
    sizes = dict(
        vocab_size=20, d_model=32, n_layers=2, n_heads=8, mlp_hidden_size=48, rope_theta=1e4
    )
    sizes |= {"attn_implementation": attention}
    torch.manual_seed(0)
    grouped = LLaDAModelLM(LLaDAConfig(**sizes, n_kv_heads=2)).eval()
    full = LLaDAModelLM(LLaDAConfig(**sizes, n_kv_heads=8)).eval()
    weights = {}
    for name, value in grouped.state_dict().items():
        value = value.clone().normal_(std=0.3) if value.dim() > 1 else value
        grouped.state_dict()[name].copy_(value)
        if "k_proj" in name or "v_proj" in name:
            # Query head h reads key head h // 4: every head's 4 rows are written 4 times.
            heads = [value[4 * (head // 4) : 4 * (head // 4) + 4] for head in range(8)]
            value = torch.cat(heads)
        weights[name] = value
    full.load_state_dict(weights)
    assert grouped.uses_eager_attention == full.uses_eager_attention == (attention == "eager")
    ids = torch.randint(0, 20, (3, 9))
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, :4] = False
    torch.testing.assert_close(grouped(ids).logits, full(ids).logits)
    torch.testing.assert_close(grouped(ids, mask).logits, full(ids, mask).logits)


@pytest.mark.parametrize("attention", ATTENTION)
def test_llada_gradient_checkpointing_gives_equal_gradients(fixtures: Path, attention: str) -> None:
    data = golden(fixtures, "llada_mha")

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = load(fixtures, "llada_mha", attention).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        calls: list[int] = []
        model.model.transformer["blocks"][0].ff_proj.register_forward_pre_hook(
            lambda *_: calls.append(1)
        )
        hidden = model.hidden(data["input_ids"], data["attention_mask"].bool())
        model.logits(hidden).logsumexp(-1).sum().backward()
        assert len(calls) == (2 if checkpointing else 1)
        return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[key], checkpointed[key]) for key in plain)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_type", "swiglu"),
        ("alibi", True),
        ("attention_layer_norm", True),
        ("block_group_size", 2),
        ("block_type", "sequential"),
        ("clip_qkv", 8.0),
        ("include_bias", True),
        ("include_qkv_bias", True),
        ("input_emb_norm", True),
        ("layer_norm_type", "default"),
        ("multi_query_attention", True),
        ("norm_after", True),
        ("qk_norm", True),
        ("rope", False),
        ("rope_full_precision", False),
        ("scale_logits", True),
        ("residual_dropout", 0.1),
        ("embedding_size", 5),
        ("n_kv_heads", 5),
    ],
)
def test_llada_options_that_no_published_checkpoint_uses_are_refused_by_name(
    key: str, value: object
) -> None:
    with pytest.raises(ModelError, match=key):
        LLaDAConfig(**{key: value})


def test_llada_olmo_options_that_are_off_are_accepted() -> None:
    assert LLaDAConfig(clip_qkv=None, qk_norm=False, norm_after=None).n_layers == 32


def test_llada_names_all_refused_options_at_once() -> None:
    with pytest.raises(ModelError, match=r"(?s)alibi.*scale_logits"):
        LLaDAConfig(alibi=True, scale_logits=True)


def test_llada_standard_names_map_onto_the_original_fields(fixtures: Path) -> None:
    folder = fixtures / "checkpoints" / "LLaDA-8B-Instruct"
    config = LLaDAConfig(**json.loads((folder / "config.json").read_text()))
    assert config.hidden_size == 4096
    assert config.num_hidden_layers == 32
    assert config.num_attention_heads == config.num_key_value_heads == 32
    assert config.intermediate_size == 12288
    assert config.max_position_embeddings == 4096
    assert config.tie_word_embeddings is False
    assert config.rope_theta == 500000.0


def test_llada_meta_network_has_the_index_names_shapes_and_bytes(fixtures: Path) -> None:
    folder = fixtures / "checkpoints" / "LLaDA-8B-Instruct"
    values = json.loads((folder / "config.json").read_text())
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    with torch.device("meta"):
        model = LLaDAModelLM(LLaDAConfig(**values))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert set(shapes) == set(index["weight_map"])
    assert shapes == parameter_shapes(values)
    assert shapes["model.transformer.blocks.31.ff_out.weight"] == (4096, 12288)
    assert shapes["model.transformer.ff_out.weight"] == (126464, 4096)
    assert sum(p.numel() for p in model.parameters()) == 8_015_581_184
    assert 2 * sum(p.numel() for p in model.parameters()) == index["metadata"]["total_size"]


@torch.no_grad()
def test_weight_tying_shares_the_embedding_and_untied_heads_stay_their_own(tmp_path: Path) -> None:
    sizes = dict(vocab_size=11, d_model=8, n_layers=1, n_heads=2, mlp_hidden_size=8)
    for tied in (True, False):
        folder = tmp_path / str(tied)
        LLaDAModelLM(LLaDAConfig(**sizes, weight_tying=tied)).save_pretrained(folder)
        model = LLaDAModelLM.from_pretrained(folder)
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        assert (head.weight is embedding.weight) is tied


@torch.no_grad()
def test_llada_save_and_load_again_gives_equal_logits(fixtures: Path, tmp_path: Path) -> None:
    data = golden(fixtures, "llada_padvocab")
    model = load(fixtures, "llada_padvocab")
    model.save_pretrained(tmp_path)
    again = LLaDAModelLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.equal(model(data["input_ids"]).logits, again(data["input_ids"]).logits)


def test_llada_forward_refuses_what_it_cannot_do(fixtures: Path) -> None:
    model = load(fixtures, "llada_mha")
    ids = torch.zeros(1, 3, dtype=torch.long)
    for given, message in (
        ({"output_attentions": True}, "output_attentions"),
        ({"labels": ids}, "labels"),
        ({"attention_mask": ids, "attention_bias": torch.zeros(1, 1, 3, 3)}, "not both"),
        ({"inputs_embeds": torch.zeros(1, 3, 64)}, "either"),
    ):
        with pytest.raises(ModelError, match=message):
            model(ids, **given)
