"""The middle of evaluation: prompts to answers with our sampler. Knows no task and no lm-eval.

Needs torch, transformers, peft, accelerate and pydantic only, so that it can run on a machine that
has nothing else. Every answer is appended as soon as it exists; a stopped run goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, DecodeResult
from tabom_cli.core.decoding.scheduler import decode as decode_rows
from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.evaluation.identity import (
    decode_hash,
    device_name,
    package_versions,
    part_hashes,
    weights_hash,
)
from tabom_cli.core.evaluation.observers import TracingObserver
from tabom_cli.core.evaluation.records import (
    Completion,
    CompletionsHeader,
    Request,
    digest,
    read_completions,
    read_requests,
    shard_path,
    unlike_header,
)
from tabom_cli.core.jsonl import append_jsonl
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.template import render_prompt, template_hash
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

AnswerEnd = Literal["turn", "eos"]


@dataclass(frozen=True)
class GenerateSummary:
    """What one process did.

    Attributes:
        path: The file it appended to.
        num_done: Answers that exist for its share of the requests.
        num_new: Answers made by this call.
        num_truncated: Prompts of its share that were longer than the budget.
        time_s: Seconds spent decoding.
    """

    path: Path
    num_done: int
    num_new: int
    num_truncated: int
    time_s: float


def generate(
    model: DiffusionLM,
    requests_path: Path,
    completions_path: Path,
    decode: DecodeConfig,
    *,
    tasks: Collection[str] | None = None,
    only: Collection[str] | None = None,
    rank: int = 0,
    world_size: int = 1,
    max_prompt_length: int = 1024,
    answer_end: AnswerEnd = "turn",
    observer: TracingObserver | None = None,
    progress: ProgressCallback = silent,
) -> GenerateSummary:
    """Answer every request that has no answer yet.

    Requests are dealt to processes by prompt length, longest first, so that batches hold prompts of
    similar length, shares are equal, and a lack of memory shows at once. A row's answer depends on
    its own seed only, never on the number of processes.

    Args:
        model: The model that answers.
        requests_path: File made by `build_requests`.
        completions_path: File to append to; with several processes each appends to a shard beside
            it (`shard_path`), and readers read them all.
        decode: How answers are decoded.
        tasks: Answer the requests of these tasks only; None for all.
        only: Answer only requests with these ids; None for all.
        rank: Number of this process.
        world_size: Number of processes.
        max_prompt_length: Prompt budget in tokens; longer prompts keep their end, as in the release.
        answer_end: Cut at the first end token of the family, or at the tokenizer's eos only.
        observer: Records a trace per row that is stored with the answer.
        progress: Told after every answer.

    Raises:
        DataError: The requests or completions cannot be read.
        RunError: The completions were made with another model or other decode settings.
    """
    if not 0 <= rank < world_size:
        raise UsageError(f"rank {rank} is not below the number of processes {world_size}")
    _, requests = read_requests(requests_path)
    requests = [
        item
        for item in requests
        if (tasks is None or item.task in tasks) and (only is None or item.id in only)
    ]
    header = _header(model, decode, max_prompt_length, answer_end, world_size)
    existing, done = read_completions(completions_path)
    if existing is not None:
        _refuse_other_run(existing, header, completions_path)
    prompts = {item.id: _prompt_ids(model, item, None) for item in requests}
    share = sorted(requests, key=lambda item: (-len(prompts[item.id]), item.id))[rank::world_size]
    num_truncated = sum(len(prompts[item.id]) > max_prompt_length for item in share)
    if num_truncated:
        text = (
            f"{num_truncated} of {len(share)} prompts exceed {max_prompt_length} tokens; "
            "their beginning is cut"
        )
        progress(ProgressEvent(kind="warning", task="generate", text=text))
    todo = {item.id: item for item in share if item.id not in done}
    rows = [
        DecodeRequest(item.id, tuple(_prompt_ids(model, item, max_prompt_length)), item.seed)
        for item in todo.values()
    ]
    num_done = len(share) - len(rows)
    out = shard_path(completions_path, rank, world_size)
    began = last = time.monotonic()
    with append_jsonl(out) as writer:
        if out.stat().st_size == 0:
            writer.write(header.model_dump(mode="json"))
        for result in decode_rows(model, rows, decode, observer=observer):
            now = time.monotonic()
            trace = observer.trace(result.id).as_json() if observer is not None else None
            num_prompt_tokens = min(len(prompts[result.id]), max_prompt_length)
            writer.write(
                _completion(
                    model, todo[result.id], result, num_prompt_tokens, answer_end, now - last, trace
                ).model_dump(mode="json")
            )
            last, num_done = now, num_done + 1
            progress(ProgressEvent(task="generate", done=num_done, total=len(share)))
    return GenerateSummary(
        path=out,
        num_done=num_done,
        num_new=len(rows),
        num_truncated=num_truncated,
        time_s=time.monotonic() - began,
    )


def answer_text(
    model: DiffusionLM, token_ids: Sequence[int], until: Sequence[str], answer_end: AnswerEnd
) -> str:
    """The text of an answer, cut at its end and then at each `until` string.

    Special tokens stay in the text, since `until` strings may name them.

    Source: the release's post-processing.
    """
    if answer_end == "turn":
        token_ids = token_ids[: _answer_length(model, token_ids)]
    text = str(
        model.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    )
    for stop in (model.tokenizer.eos_token, *until):
        if stop:
            text = text.split(stop)[0]
    return text


def rendered_prompt(model: DiffusionLM, request: Request, max_prompt_length: int) -> str:
    """The prompt that the model sees, as text with special tokens."""
    ids = _prompt_ids(model, request, max_prompt_length)
    return str(model.tokenizer.decode(ids, skip_special_tokens=False))


def _answer_length(model: DiffusionLM, token_ids: Sequence[int]) -> int:
    """Tokens before the first end token."""
    ends = (index for index, token in enumerate(token_ids) if token in model.ids.end)
    return next(ends, len(token_ids))


def _prompt_ids(model: DiffusionLM, request: Request, max_length: int | None) -> list[int]:
    messages = [message.model_dump() for message in request.messages]
    return render_prompt(
        model.tokenizer,
        messages,
        max_length=max_length,
        keep="tail",
        gen_prefix=request.gen_prefix,
    )


def _completion(
    model: DiffusionLM,
    request: Request,
    result: DecodeResult,
    num_prompt_tokens: int,
    answer_end: AnswerEnd,
    time_s: float,
    trace: dict[str, Any] | None,
) -> Completion:
    num_tokens = _answer_length(model, result.response_token_ids)
    return Completion(
        id=request.id,
        task=request.task,
        doc_index=request.doc_index,
        sample_index=request.sample_index,
        text=answer_text(model, result.response_token_ids, request.until, answer_end),
        num_prompt_tokens=num_prompt_tokens,
        num_tokens=num_tokens,
        num_revealed=sum(step >= 0 for step in result.decoding_order),
        num_forwards=result.num_forwards,
        num_steps=result.num_steps,
        ended=num_tokens < len(result.response_token_ids),
        time_s=round(time_s, 6),
        tds=trace,
    )


def _header(
    model: DiffusionLM,
    decode: DecodeConfig,
    max_prompt_length: int,
    answer_end: AnswerEnd,
    world_size: int,
) -> CompletionsHeader:
    weights = weights_hash(model.network)
    base_hash, adapter_hash = part_hashes(model.network)
    template = template_hash(model.tokenizer)
    key = digest([weights, template, decode_hash(decode), max_prompt_length, answer_end])[:24]
    return CompletionsHeader(
        key=key,
        model=model.name,
        revision=model.revision,
        adapter=model.adapter,
        family=model.family,
        weights_hash=weights,
        base_hash=base_hash,
        adapter_hash=adapter_hash,
        template_hash=template,
        decode=decode.model_dump(mode="json"),
        max_prompt_length=max_prompt_length,
        answer_end=answer_end,
        world_size=world_size,
        versions=package_versions(),
        device=device_name(model.device),
    )


def _refuse_other_run(existing: CompletionsHeader, own: CompletionsHeader, path: Path) -> None:
    if existing.key == own.key:
        return
    differing = [
        f"{name} {old} against {new}"
        for name, old, new in (
            ("model", existing.model, own.model),
            ("adapter", existing.adapter, own.adapter),
            ("weights", existing.weights_hash, own.weights_hash),
            ("template", existing.template_hash, own.template_hash),
        )
        if old != new
    ] + unlike_header(
        existing,
        decode=own.decode,
        max_prompt_length=own.max_prompt_length,
        answer_end=own.answer_end,
    )
    raise RunError(
        f"{path} holds answers of another run: {'; '.join(differing)}",
        hint="choose another output folder; answers of two settings are never mixed",
    )
