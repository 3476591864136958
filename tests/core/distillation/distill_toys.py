"""A toy model with the tiny tokenizer, small enough to distil dozens of rows in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tabom_cli.assets import tiny_path
from tabom_cli.core.data.config import GenerateConfig, PromptsConfig
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.models.base import DiffusionLM, SpecialIds

LENGTH = 8
WIDTH = 12


class ToyNetwork(nn.Module):
    """Fixed random features of place and context, in float64 so that batches cannot reorder ties."""

    def __init__(self, vocab_size: int, mask_id: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        shapes = {
            "tokens": (vocab_size, WIDTH),
            "places": (512, WIDTH),
            "head": (vocab_size, WIDTH),
        }
        for name, shape in shapes.items():
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(values))
        self.mask_id = mask_id

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        place = (real.cumsum(-1) - 1).clamp(min=0)
        features = self.tokens[input_ids] * real[..., None]
        context = features.sum(1, keepdim=True) / real.sum(1)[:, None, None]
        return torch.tanh(self.places[place] + 3 * context)

    def logits(self, hidden: Tensor) -> Tensor:
        logits = hidden @ self.head.T
        logits[..., self.mask_id] = -1e9
        return logits


def toy_model(name: str = "toy") -> DiffusionLM:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(tiny_path()))
    vocabulary = tokenizer.get_vocab()
    mask, end = vocabulary["<|mask|>"], vocabulary["<|endoftext|>"]
    ids = SpecialIds(mask=mask, eos=end, pad=end, end=frozenset({end, vocabulary["<|im_end|>"]}))
    network = ToyNetwork(max(vocabulary.values()) + 1, mask).eval()
    return DiffusionLM("dream", network, tokenizer, ids, name)


def toy_config(
    *,
    num_problems: int = 6,
    problem_seed: int = 0,
    num_samples: int = 2,
    verifier: str = "countdown",
    max_prompt_length: int = 64,
    **decode: object,
) -> DistillConfig:
    settings = {
        "steps": LENGTH,
        "max_new_tokens": LENGTH,
        "temperature": 1.0,
        "confidence_temperature": 1.0,
        "token_pick": "sample",
        "batch_size": 4,
    }
    return DistillConfig(
        prompts=PromptsConfig(
            generate=GenerateConfig(
                tasks=("countdown",), num_problems=num_problems, seed=problem_seed
            )
        ),
        num_samples=num_samples,
        verifier=verifier,  # type: ignore[arg-type]
        max_prompt_length=max_prompt_length,
        decode=DecodeConfig(**settings | decode),  # type: ignore[arg-type]
    )


def prompts_in(path: Path, **columns: object) -> PromptsConfig:
    return PromptsConfig(path=str(path), **columns)  # type: ignore[arg-type]
