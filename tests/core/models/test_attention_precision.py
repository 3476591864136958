"""Both attention back ends in every type that `model.dtype` allows: padded, unpadded, batched, single.

The tolerances are absolute, for logits with a standard deviation of 3; they are about twice the largest
difference found on the CPU, and a control shows that a mask which is ignored exceeds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tabom_cli.core.models.config import ModelConfig
from tabom_cli.core.models.layers import attend
from tabom_cli.core.models.load import find_source, load_network

MODELS = ["dream_gqa", "dream_mha", "llada_mha", "llada_padvocab"]
ATTENTION = ["sdpa", "eager"]
TOLERANCES = {"float32": 3e-5, "float16": 0.08, "bfloat16": 0.7}
EACH_MODEL = pytest.mark.parametrize("name", MODELS)
EACH_DTYPE = pytest.mark.parametrize("dtype", TOLERANCES)


def load(fixtures: Path, name: str, dtype: Any, attention: Any) -> Any:
    config = ModelConfig(path=str(fixtures / "models" / name), dtype=dtype, attention=attention)
    return load_network(find_source(config.path), config)


def inputs(fixtures: Path, name: str) -> tuple[Tensor, Tensor]:
    data = load_file(fixtures / "forward" / f"{name}.safetensors")
    return data["input_ids"], data["attention_mask"].bool()


@torch.no_grad()
def logits(network: Any, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    return network.logits(network.hidden(ids, mask)).float()


def close(found: Tensor, expected: Tensor, dtype: str) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCES[dtype], rtol=0.0)


def test_every_type_of_the_recipe_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(get_args(ModelConfig.model_fields["dtype"].annotation))


@EACH_MODEL
@EACH_DTYPE
def test_back_ends_agree_with_each_other_and_with_float32(
    fixtures: Path, name: str, dtype: str
) -> None:
    ids, mask = inputs(fixtures, name)
    plain = load(fixtures, name, "float32", "sdpa")
    sdpa, eager = (load(fixtures, name, dtype, attention) for attention in ATTENTION)
    for given in (None, mask):
        found = [logits(network, ids, given)[mask] for network in (sdpa, eager)]
        close(found[0], found[1], dtype)
        for each in found:
            close(each, logits(plain, ids, given)[mask], dtype)


@EACH_MODEL
@EACH_DTYPE
@pytest.mark.parametrize("attention", ATTENTION)
def test_rows_alone_equal_their_padded_batch(
    fixtures: Path, name: str, dtype: str, attention: str
) -> None:
    ids, mask = inputs(fixtures, name)
    network = load(fixtures, name, dtype, attention)
    batched = logits(network, ids, mask)
    # Dream's states are shifted by one: the first has no token before it, the padding's is there instead.
    first = 1 if name.startswith("dream") else 0
    for row, real in enumerate(mask):
        alone = logits(network, ids[row, real][None])[0]
        close(batched[row, real][first:], alone[first:], dtype)


@EACH_MODEL
def test_a_mask_that_is_ignored_exceeds_every_tolerance(fixtures: Path, name: str) -> None:
    ids, mask = inputs(fixtures, name)
    network = load(fixtures, name, "float32", "sdpa")
    difference = (logits(network, ids) - logits(network, ids, mask)).abs()
    for row in range(len(ids)):
        if not mask[row].all():
            assert difference[row, mask[row]].max() > 2 * max(TOLERANCES.values())


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_query_head_reads_the_key_head_of_its_group(
    dtype: torch.dtype, tolerance: float, eager: bool, masked: bool
) -> None:
    """Against the formula, head by head in float32: head h of 6 reads key head h // 3 of 2."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 5, 8, generator=generator).to(dtype) for heads in (6, 2, 2)
    )
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., :2] = False
    found = attend(
        query, key, value, mask=mask if masked else None, eager=eager, dropout=0.0
    ).unflatten(-1, (6, 8))
    for head in range(6):
        q, k, v = query[:, head], key[:, head // 3], value[:, head // 3]
        scores = q.float() @ k.float().mT / 8**0.5
        if masked:
            scores = scores.masked_fill(~mask[:, 0], float("-inf"))
        expected = scores.softmax(dim=-1) @ v.float()
        torch.testing.assert_close(found[:, :, head].float(), expected, atol=tolerance, rtol=0.0)
