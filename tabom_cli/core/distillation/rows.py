"""From one decode to the row that is written, less its verdict. Knows no file and no answer check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tabom_cli.core.data.records import Trajectory, Verdict, content_length, non_ltr_positions
from tabom_cli.core.data.writer import Identity
from tabom_cli.core.decoding.scheduler import DecodeResult
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.distillation.jobs import Job, method_name
from tabom_cli.core.errors import RunError
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.template import response_text


@dataclass(frozen=True)
class Answer:
    """A finished decode that waits for its verdict.

    Attributes:
        job: What was asked.
        prompt_token_ids: What the model saw.
        result: The decode.
        text: The answer up to its end.
        length: Answer tokens up to and including the end.
        ended: Whether the answer has an end token.
    """

    job: Job
    prompt_token_ids: Sequence[int]
    result: DecodeResult
    text: str
    length: int
    ended: bool


def read_answer(
    model: DiffusionLM, job: Job, prompt_token_ids: Sequence[int], result: DecodeResult
) -> Answer:
    """The answer in a finished decode.

    Raises:
        RunError: Masked positions are left.
    """
    tokens, end = result.response_token_ids, model.ids.end
    if model.mask_token_id in tokens:
        raise RunError(f"row '{job.id}': the decode left masked positions; this is a bug in tabom")
    return Answer(
        job=job,
        prompt_token_ids=prompt_token_ids,
        result=result,
        text=response_text(model.tokenizer, tokens, end),
        length=content_length(tokens, end),
        ended=any(token in end for token in tokens),
    )


def make_row(
    answer: Answer, verdict: Verdict, config: DistillConfig, identity: Identity
) -> Trajectory:
    """The row of a judged answer."""
    job, prompt, result = answer.job, answer.job.prompt, answer.result
    judged = config.verifier != "none" and verdict != "unverified"
    return Trajectory(
        id=job.id,
        group_id=prompt.id,
        prompt=prompt.text,
        prompt_token_ids=list(answer.prompt_token_ids),
        response=answer.text,
        response_token_ids=list(result.response_token_ids),
        decoding_order=list(result.decoding_order),
        decoding_entropy=[_stored(value) for value in result.decoding_entropy],
        non_ltr_positions=non_ltr_positions(result.decoding_order, length=answer.length),
        method=method_name(config.decode.strategy),
        data_source=prompt.source,
        reference=prompt.reference,
        verdict=verdict,
        reward=float(verdict == "correct") if judged else None,
        model=identity.model,
        adapter=identity.adapter,
        weights_hash=identity.weights_hash,
        decode_hash=identity.decode_hash,
        template_hash=identity.template_hash,
        seed=job.seed,
    )


def _stored(entropy: float) -> float:
    """Seven significant digits hold a float32; the rest would only lengthen the file."""
    return float(f"{entropy:.7g}")
