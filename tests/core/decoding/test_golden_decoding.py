"""Answers and orders of the original samplers, reproduced exactly on the native models."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tabom_cli.core import plugins
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, decode

GOLDEN = Path(__file__).parents[2] / "fixtures"
CASES = [
    (name, case)
    for name in ("dream_gqa", "dream_mha", "llada_mha", "llada_padvocab")
    for case in json.loads((GOLDEN / "decoding" / f"{name}.json").read_text())
]
_NETWORKS: dict[tuple[str, str], Any] = {}


def policy(name: str, mask_token_id: int, device: str = "cpu") -> Any:
    if (name, device) not in _NETWORKS:
        family = plugins.load("model family", name.split("_")[0])
        folder = GOLDEN / "models" / name
        network = family.NETWORK.from_pretrained(folder, dtype=torch.float32).eval()
        _NETWORKS[name, device] = network.to(device)
    network = _NETWORKS[name, device]
    return SimpleNamespace(
        mask_token_id=mask_token_id,
        eos_token_id=0,
        pad_token_id=0,
        device=torch.device(device),
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


EACH_CASE = pytest.mark.parametrize(
    ("name", "case"), CASES, ids=[f"{n}-{c['key']}" for n, c in CASES]
)


@pytest.mark.parametrize("batch_size", [16, 1])
@EACH_CASE
def test_tokens_and_orders_equal_the_original_sampler(
    name: str, case: dict[str, Any], batch_size: int
) -> None:
    check(name, case, device="cpu", batch_size=batch_size)


@pytest.mark.gpu
@EACH_CASE
def test_tokens_and_orders_equal_the_original_sampler_on_a_gpu(
    name: str, case: dict[str, Any]
) -> None:
    check(name, case, device="cuda", batch_size=16)


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["credit", "random", "hierarchical", "factor", "entropy"])
def test_drawn_answers_are_the_same_on_gpu_and_cpu(strategy: str) -> None:
    """Noise comes from the row's CPU generator and, for Gumbel, from integer arithmetic."""
    name, case = CASES[0]
    config = DecodeConfig(
        strategy=strategy, steps=12, max_new_tokens=12, temperature=1.0, token_pick="sample"
    )
    requests = [DecodeRequest(str(n), (1 + n, 2, 3 + n), seed=n) for n in range(4)]
    cpu, cuda = (
        {
            r.id: (r.response_token_ids, r.decoding_order)
            for r in decode(policy(name, case["mask_token_id"], device), requests, config)
        }
        for device in ("cpu", "cuda")
    )
    assert cpu == cuda


def check(name: str, case: dict[str, Any], *, device: str, batch_size: int) -> None:
    tensors: dict[str, Tensor] = load_file(GOLDEN / "decoding" / f"{name}.safetensors")
    golden = {key: tensors[f"{case['key']}/{key}"] for key in ("sequences", "decode_step")}
    prompts = tensors[f"{case['key']}/input_ids"]
    real = tensors[f"{case['key']}/attention_mask"].bool()
    requests = [
        DecodeRequest(str(row), tuple(ids[mask].tolist()), seed=row)
        for row, (ids, mask) in enumerate(zip(prompts, real, strict=True))
    ]
    config = settings(case).model_copy(update={"batch_size": batch_size})
    results = list(decode(policy(name, case["mask_token_id"], device), requests, config))
    assert len(results) == len(prompts)
    for result in results:
        row = int(result.id)
        assert result.response_token_ids == golden["sequences"][row, prompts.shape[1] :].tolist()
        assert result.decoding_order == golden["decode_step"][row].tolist()
        counts = [result.decoding_order.count(step) for step in range(case["steps"])]
        assert counts == case["tokens_per_step"]
