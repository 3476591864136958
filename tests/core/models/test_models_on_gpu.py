"""Both native networks on a GPU: equal to the CPU, repeatable, loaded without a second copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.config import LoraConfig, ModelConfig
from tabom_cli.core.models.layers import enable_gradient_checkpointing
from tabom_cli.core.models.load import load_model

pytestmark = pytest.mark.gpu
EACH_FAMILY = pytest.mark.parametrize("family", ["dream", "llada"])
IDS = torch.tensor([[5, 6, 7, 8, 3, 3, 9, 10], [0, 0, 0, 5, 6, 3, 3, 3]])
MASK = torch.tensor([[1] * 8, [0] * 3 + [1] * 5]).bool()


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `train.deterministic` sets."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_cudnn_sdp(False)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)


def load(folder: Path, device: str, dtype: Any = "float32", **more: Any) -> DiffusionLM:
    lora = more.pop("lora", None)
    config = ModelConfig(path=str(folder), dtype=dtype, **more)
    return load_model(config, lora=lora, device=device)


@torch.no_grad()
def logits(model: DiffusionLM, ids: Tensor = IDS, mask: Tensor | None = MASK) -> Tensor:
    device = model.device
    hidden = model.hidden(ids.to(device), None if mask is None else mask.to(device))
    return model.logits(hidden).float().cpu()


@EACH_FAMILY
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_equal_those_of_the_cpu(
    small_checkpoint: Callable[..., Path], family: str, attention: str
) -> None:
    folder = small_checkpoint(family, num_shards=2)
    expected = logits(load(folder, "cpu"))
    found = logits(load(folder, "cuda:0", attention=attention))
    torch.testing.assert_close(found[MASK], expected[MASK], rtol=1e-4, atol=1e-4)


@EACH_FAMILY
def test_bfloat16_stays_near_float32_and_padding_changes_rounding_only(
    small_checkpoint: Callable[..., Path], family: str
) -> None:
    folder = small_checkpoint(family)
    half = load(folder, "cuda:0", "bfloat16")
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    wide = logits(load(folder, "cuda:0"))
    gap = (logits(half) - wide)[MASK].abs()
    assert gap.mean() < 0.05 * wide[MASK].std()
    alone = logits(half, IDS[1:, 3:], None)
    assert (logits(half)[1, 3:] - alone[0])[1:].abs().mean() < 0.05 * wide[MASK].std()


@EACH_FAMILY
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.usefixtures("deterministic")
def test_a_training_step_runs_under_determinism_and_repeats_bit_for_bit(
    small_checkpoint: Callable[..., Path], family: str, checkpointing: bool
) -> None:
    folder = small_checkpoint(family)

    def gradients() -> list[Tensor]:
        model = load(folder, "cuda:0", "bfloat16", lora=LoraConfig(rank=2))
        if checkpointing:
            enable_gradient_checkpointing(model.network)
        model.network.train()
        for name, weight in model.network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(weight, 0.01)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            hidden = model.hidden(IDS.cuda(), MASK.cuda())
            picked = model.logits(hidden[MASK.cuda()]).float()
            targets = IDS.cuda()[MASK.cuda()]
            torch.nn.functional.cross_entropy(picked, targets).backward()
        return [p.grad for p in model.network.parameters() if p.grad is not None]

    first, second = gradients(), gradients()
    assert len(first) == 8
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert all(bool(value.abs().sum() > 0) for value in first)
