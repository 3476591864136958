"""A character-level model and completion files for the evaluation tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tabom_cli.core.evaluation.records import (
    Completion,
    CompletionsHeader,
    Request,
    read_requests,
)
from tabom_cli.core.models.base import DiffusionLM, SpecialIds

DATA_DIR_VARIABLE = "TABOM_DATA_DIR"
needs_benchmarks = pytest.mark.skipif(
    DATA_DIR_VARIABLE not in os.environ, reason=f"{DATA_DIR_VARIABLE} names no benchmarks"
)

EOS, TURN, MASK = "<|endoftext|>", "<|im_end|>", "<|mask|>"
CHARACTERS = ["\n", *(chr(code) for code in range(32, 127))]
VOCABULARY = [*CHARACTERS, EOS, TURN, MASK]
IDS = {text: index for index, text in enumerate(VOCABULARY)}


class CharacterTokenizer:
    """One token per character; three special tokens."""

    eos_token = EOS
    chat_template = "<role>content<|im_end|>"

    def get_vocab(self) -> dict[str, int]:
        return dict(IDS)

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids, rest = [], text
        while rest:
            special = next((item for item in (EOS, TURN, MASK) if rest.startswith(item)), None)
            token = special or rest[0]
            ids.append(IDS.get(token, IDS["?"]))
            rest = rest[len(token) :]
        return {"input_ids": ids}

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, str]],
        tokenize: bool = True,
        add_generation_prompt: bool = False,
    ) -> str:
        assert not tokenize
        turns = "".join(f"<{item['role']}>{item['content']}{TURN}" for item in messages)
        return turns + ("<assistant>" if add_generation_prompt else "")

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: Any) -> str:
        return "".join(VOCABULARY[index] for index in ids)


class CharacterNetwork(nn.Module):
    """Random logits that depend on the prompt and on the place counted from the right."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(len(VOCABULARY), 16, generator=generator))
        self.place = nn.Parameter(torch.randn(4096, 16, generator=generator))
        self.head = nn.Parameter(torch.randn(16, len(VOCABULARY), generator=generator))

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        embedded = self.embedding[input_ids]
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        mean = (embedded * weight[..., None]).sum(1, keepdim=True) / weight.sum(1)[:, None, None]
        places = torch.arange(input_ids.shape[1] - 1, -1, -1)
        return embedded + 2 * mean + self.place[places]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.head


def character_model(seed: int = 0) -> DiffusionLM:
    ids = SpecialIds(
        mask=IDS[MASK], eos=IDS[EOS], pad=IDS[EOS], end=frozenset({IDS[EOS], IDS[TURN]})
    )
    return DiffusionLM(
        family="dream",
        network=CharacterNetwork(seed).eval(),
        tokenizer=CharacterTokenizer(),
        ids=ids,
        name="characters",
    )


def write_completions(
    requests_path: Path, path: Path, answer: Callable[[Request], str], key: str = "k"
) -> None:
    """Completions as `generate` writes them, with the answers of a function."""
    _, requests = read_requests(requests_path)
    header = CompletionsHeader(
        key=key,
        model="lookup",
        revision=None,
        adapter=None,
        family="dream",
        weights_hash="w",
        template_hash="t",
        decode={
            "strategy": "entropy",
            "max_new_tokens": 8,
            "steps": 8,
            "temperature": 0.0,
            "tokens_per_step": 2,
        },
        max_prompt_length=1024,
        answer_end="turn",
        world_size=1,
        versions={},
        device="cpu",
    )
    lines = [header.model_dump_json()]
    for request in requests:
        completion = Completion(
            id=request.id,
            task=request.task,
            doc_index=request.doc_index,
            sample_index=request.sample_index,
            text=answer(request),
            num_prompt_tokens=10,
            num_tokens=4,
            num_revealed=8,
            num_forwards=4,
            num_steps=5,
            ended=True,
            time_s=0.5,
        )
        lines.append(completion.model_dump_json())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def real_benchmarks() -> Path:
    """The folder for tests with the mark `needs_benchmarks`."""
    return Path(os.environ[DATA_DIR_VARIABLE])


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
