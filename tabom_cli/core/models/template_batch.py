"""Many prompts and answers to token ids at once: what `template` gives one by one, several times faster.

Knows chat templates through the tokenizer; nothing about networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabom_cli.core.errors import ModelError
from tabom_cli.core.models.template import render_prompt, response_ids

_SLACK = 8
"""Prompts this close to the budget go one by one: cutting counts user and template tokens apart."""


def render_prompts(tokenizer: Any, prompts: Sequence[str], *, max_length: int) -> list[list[int]]:
    """`[render_prompt(tokenizer, prompt, max_length=max_length) for prompt in prompts]`.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        prompts: User texts.
        max_length: Prompt budget in tokens; longer texts keep their beginning.
    """
    if not prompts:
        return []
    rows = _encode(tokenizer, _render(tokenizer, [(text, None) for text in prompts], True))
    return [
        ids
        if len(ids) <= max_length - _SLACK
        else render_prompt(tokenizer, text, max_length=max_length)
        for ids, text in zip(rows, prompts, strict=True)
    ]


def response_ids_of(
    tokenizer: Any, prompts: Sequence[str], responses: Sequence[str]
) -> list[list[int]]:
    """`[response_ids(tokenizer, p, r) for p, r in zip(prompts, responses)]`.

    Args:
        tokenizer: A fast tokenizer with a chat template.
        prompts: User texts, uncut.
        responses: Answers, as many.

    Raises:
        ModelError: The template renders a prompt differently once an answer follows it.
    """
    if not prompts:
        return []
    pairs = list(zip(prompts, responses, strict=True))
    if _render(tokenizer, pairs[:1], True) == _render(tokenizer, pairs[:1], False):
        # The template adds a header that nobody asked for (LLaDA's); it is cut off row by row.
        return [response_ids(tokenizer, prompt, response) for prompt, response in pairs]
    starts = _render(tokenizer, [(prompt, None) for prompt in prompts], True)
    wholes = _render(tokenizer, pairs, False)
    for start, whole in zip(starts, wholes, strict=True):
        if not whole.startswith(start):
            raise ModelError("the chat template renders the prompt differently before an answer")
    tails = [whole[len(start) :] for start, whole in zip(starts, wholes, strict=True)]
    return _encode(tokenizer, tails)


def _render(tokenizer: Any, pairs: Sequence[tuple[str, str | None]], generate: bool) -> list[str]:
    conversations = [
        [{"role": "user", "content": prompt}]
        + ([{"role": "assistant", "content": response}] if response is not None else [])
        for prompt, response in pairs
    ]
    return list(
        tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=generate)
    )


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"])
