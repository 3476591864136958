"""Answers to prompts without a check and without a manifest: what `tabom generate` shows and writes.

Prompts are rendered as in evaluation (a long one keeps its end). Knows no file and no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabom_cli.core.data.prompts import Prompt
from tabom_cli.core.data.records import Trajectory, content_length, non_ltr_positions
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, DecodeResult, Observer, decode
from tabom_cli.core.distillation.jobs import decode_hash, method_name, row_seed
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.template import render_prompt, response_text, template_hash
from tabom_cli.core.progress import ProgressCallback, silent


@dataclass(frozen=True)
class Answer:
    """One prompt with what the model made of it.

    Attributes:
        prompt: The question.
        prompt_token_ids: What the model saw, assistant header included.
        seed: Seed of the row's generator.
        text: The answer up to its first end token.
        result: Token ids with their record.
    """

    prompt: Prompt
    prompt_token_ids: tuple[int, ...]
    seed: int
    text: str
    result: DecodeResult


def answer_prompts(
    model: DiffusionLM,
    prompts: Sequence[Prompt],
    config: DecodeConfig,
    *,
    seed: int,
    max_prompt_length: int | None = None,
    observer: Observer | None = None,
    progress: ProgressCallback = silent,
) -> Iterator[Answer]:
    """Decode all prompts and yield the answers in the order of the prompts, each as early as that allows.

    Args:
        model: A loaded model.
        prompts: With unique ids.
        config: The decode settings.
        seed: Seed of the run; a row's own seed depends on it and on the prompt's id.
        max_prompt_length: Longest rendered prompt in tokens; a longer one keeps its end.
        observer: Sees every step of every row.
        progress: Called once per finished row.
    """
    requests = [
        DecodeRequest(
            prompt.id,
            tuple(
                render_prompt(
                    model.tokenizer, prompt.text, max_length=max_prompt_length, keep="tail"
                )
            ),
            row_seed(seed, prompt.id, 0),
        )
        for prompt in prompts
    ]
    finished: dict[str, DecodeResult] = {}
    waiting = list(zip(prompts, requests, strict=True))[::-1]
    for result in decode(model, requests, config, observer=observer, progress=progress):
        finished[result.id] = result
        while waiting and waiting[-1][0].id in finished:
            prompt, request = waiting.pop()
            found = finished.pop(prompt.id)
            text = response_text(model.tokenizer, found.response_token_ids, model.ids.end)
            yield Answer(prompt, request.prompt_token_ids, request.seed, text, found)


def answer_row(answer: Answer, model: DiffusionLM, config: DecodeConfig) -> Trajectory:
    """An answer as a trajectory row, unverified, as `tabom distill` would write it."""
    ids = answer.result.response_token_ids
    length = content_length(ids, model.ids.end)
    return Trajectory(
        id=answer.prompt.id,
        group_id=answer.prompt.id,
        prompt=answer.prompt.text,
        prompt_token_ids=list(answer.prompt_token_ids),
        response=answer.text,
        response_token_ids=list(ids),
        decoding_order=list(answer.result.decoding_order),
        decoding_entropy=[float(f"{value:.7g}") for value in answer.result.decoding_entropy],
        non_ltr_positions=non_ltr_positions(answer.result.decoding_order, length=length),
        method=method_name(config.strategy),
        data_source=answer.prompt.source,
        reference=answer.prompt.reference,
        verdict="unverified",
        model=model.name if model.revision is None else f"{model.name}@{model.revision}",
        adapter=model.adapter,
        decode_hash=decode_hash(config),
        template_hash=template_hash(model.tokenizer),
        seed=answer.seed,
    )
