"""Answers and orders of the original samplers, reproduced exactly on the native models."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, decode

GOLDEN = Path(__file__).parents[2] / "fixtures"
CASES = [
    (name, case)
    for name in ("dream_gqa", "dream_mha", "llada_mha", "llada_padvocab")
    for case in json.loads((GOLDEN / "decoding" / f"{name}.json").read_text())
]
_NETWORKS: dict[str, Any] = {}


def policy(name: str, mask_token_id: int) -> Any:
    if name not in _NETWORKS:
        try:
            family = importlib.import_module(f"tabom_cli.core.models.{name.split('_')[0]}")
        except ModuleNotFoundError:
            pytest.skip("the native module of this family does not exist yet")
        folder = GOLDEN / "models" / name
        _NETWORKS[name] = family.NETWORK.from_pretrained(folder, dtype=torch.float32).eval()
    network = _NETWORKS[name]
    return SimpleNamespace(
        mask_token_id=mask_token_id,
        eos_token_id=0,
        pad_token_id=0,
        hidden=network.hidden,
        logits=network.logits,
    )


def settings(case: dict[str, Any]) -> DecodeConfig:
    if "alg" in case:
        return DecodeConfig(
            strategy=case["alg"],
            steps=case["steps"],
            max_new_tokens=case["max_new_tokens"],
            eps=case["eps"],
        )
    return DecodeConfig(
        strategy=case["remasking"],
        steps=case["steps"],
        max_new_tokens=case["gen_length"],
        block_length=case["block_length"],
        schedule="even",
    )


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "alone"])
@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{c['key']}" for n, c in CASES])
def test_tokens_and_orders_equal_the_original_sampler(
    name: str, case: dict[str, Any], batched: bool
) -> None:
    tensors: dict[str, Tensor] = load_file(GOLDEN / "decoding" / f"{name}.safetensors")
    golden = {key: tensors[f"{case['key']}/{key}"] for key in ("sequences", "decode_step")}
    prompts = tensors[f"{case['key']}/input_ids"]
    real = tensors[f"{case['key']}/attention_mask"].bool()
    requests = [
        DecodeRequest(str(row), tuple(ids[mask].tolist()), seed=row)
        for row, (ids, mask) in enumerate(zip(prompts, real, strict=True))
    ]
    config = settings(case).model_copy(update={"batch_size": 16 if batched else 1})
    results = list(decode(policy(name, case["mask_token_id"]), requests, config))
    assert len(results) == len(prompts)
    for result in results:
        row = int(result.id)
        assert result.response_token_ids == golden["sequences"][row, prompts.shape[1] :].tolist()
        assert result.decoding_order == golden["decode_step"][row].tolist()
        counts = [result.decoding_order.count(step) for step in range(case["steps"])]
        assert counts == case["tokens_per_step"]
