"""From a prompt to token ids and back: the one place where chat templates are rendered.

Knows nothing about networks. Prompts are rendered once; response ids are appended to them and joined
text is never tokenised again, because a merge across the border would shift every recorded position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from tabom_cli.core.errors import ModelError

Messages = Sequence[Mapping[str, str]]

END_OF_TURN = ("<|im_end|>", "<|eot_id|>")
"""How the two families end a turn."""


def render_prompt(
    tokenizer: Any,
    prompt: str | Messages,
    *,
    max_length: int | None,
    keep: Literal["head", "tail"] = "head",
    gen_prefix: str | None = None,
) -> list[int]:
    """Token ids of a prompt in the chat template, ready for the assistant's answer.

    Args:
        tokenizer: Has a chat template.
        prompt: Text of one user turn, or messages with `role` and `content`.
        max_length: Longest result in tokens; None keeps everything.
        keep: `head` cuts the text of the last user turn behind its first tokens, so that the template
            stays whole (training and distillation); `tail` keeps the last ids of the rendered prompt
            (evaluation).
        gen_prefix: Text that starts the assistant's turn.

    Returns:
        Ids. With `head`, decoding the cut text and encoding it again can make the result a few tokens
        longer than `max_length`.

    Source: the release's prompt tokenisation.
    """
    messages = _messages(prompt)
    if max_length is not None and keep == "head":
        messages = _cut_last_user_turn(tokenizer, messages, max_length)
    ids = _encode(tokenizer, _render(tokenizer, messages, generate=True) + (gen_prefix or ""))
    if max_length is not None and keep == "tail":
        return ids[-max_length:]
    return ids


def response_ids(tokenizer: Any, prompt: str | Messages, response: str) -> list[int]:
    """Token ids of an answer as it follows the rendered prompt, with its end-of-turn token.

    A template that appends the assistant's header although nobody asked for it (LLaDA's) has that
    stray header removed, so that it is not trained on.

    Args:
        tokenizer: Has a chat template.
        prompt: What was asked, uncut.
        response: Text of the answer.

    Returns:
        Ids without padding; for Dream answer, `<|im_end|>`, newline; for LLaDA answer, `<|eot_id|>`.

    Raises:
        ModelError: The template rewrites the prompt once an answer follows it.
    """
    messages = _messages(prompt)
    answered = [*messages, {"role": "assistant", "content": response}]
    start = _render(tokenizer, messages, generate=True)
    whole = _render(tokenizer, answered, generate=False)
    if not whole.startswith(start):
        raise ModelError(
            "the chat template renders the prompt differently once an answer follows it"
        )
    ids = _encode(tokenizer, whole[len(start) :])
    if whole == _render(tokenizer, answered, generate=True):
        ends = [index for index, token in enumerate(ids) if token in turn_end_ids(tokenizer)]
        ids = ids[: ends[-1] + 1] if ends else ids
    return ids


def response_text(tokenizer: Any, ids: Sequence[int], end_ids: Collection[int]) -> str:
    """Text before the first id in `end_ids`; other special tokens stay visible."""
    end = next((index for index, token in enumerate(ids) if token in end_ids), len(ids))
    return str(tokenizer.decode(list(ids[:end]), skip_special_tokens=False))


def template_hash(tokenizer: Any) -> str:
    """First 16 hex digits of the SHA-256 of the chat template: equal hashes render equally."""
    return hashlib.sha256(chat_template(tokenizer).encode()).hexdigest()[:16]


def chat_template(tokenizer: Any, *, source: str | None = None) -> str:
    """The chat template of a tokenizer.

    Args:
        tokenizer: With or without a template.
        source: The folder it comes from, for the message.

    Raises:
        ModelError: It has none, or several without a default.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise ModelError(
            f"{source or 'the tokenizer'}: no chat template",
            hint="use an Instruct checkpoint, or add chat_template.jinja to the tokenizer's folder",
        )
    return template


def turn_end_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the end-of-turn tokens that the tokenizer has."""
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[token] for token in END_OF_TURN if token in vocabulary)


def _messages(prompt: str | Messages) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt]


def _render(tokenizer: Any, messages: Messages, *, generate: bool) -> str:
    chat_template(tokenizer)
    # tokenize=False gives text in every version; with ids, transformers 5 returns a mapping.
    return str(
        tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generate
        )
    )


def _encode(tokenizer: Any, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _cut_last_user_turn(
    tokenizer: Any, messages: list[dict[str, str]], max_length: int
) -> list[dict[str, str]]:
    index = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=None)
    if index is None:
        return messages
    blank = [*messages[:index], {**messages[index], "content": " "}, *messages[index + 1 :]]
    overhead = len(_encode(tokenizer, _render(tokenizer, blank, generate=True)))
    budget = max(1, max_length - overhead)
    ids = _encode(tokenizer, messages[index]["content"])
    if len(ids) <= budget:
        return messages
    text = tokenizer.decode(ids[:budget], skip_special_tokens=True)
    return [*messages[:index], {**messages[index], "content": text}, *messages[index + 1 :]]
