"""Training rows: trajectories or generated problems, tokenised once.

Pre-tokenised rows keep their recorded ids, so that every recorded step stays with its token; text is
tokenised only where the recipe says so (SFT on dataset answers). Knows tokenizers; no model, no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tabom_cli.assets import tasks
from tabom_cli.core.data.batch import TrainingRow
from tabom_cli.core.data.config import DataConfig, GenerateConfig
from tabom_cli.core.data.mixture import read_mixture
from tabom_cli.core.data.records import Trajectory
from tabom_cli.core.data.trajectory import LoadReport
from tabom_cli.core.errors import RecipeError
from tabom_cli.core.models.template import template_hash
from tabom_cli.core.models.template_batch import render_prompts, response_ids_of
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

_CHUNK = 4096


def load_rows(
    config: DataConfig,
    tokenizer: Any,
    *,
    objective: str,
    family: str | None,
    needs_order: bool,
    vocab_size: int | None = None,
    recipe: str | None = None,
    progress: ProgressCallback = silent,
) -> tuple[list[TrainingRow], LoadReport]:
    """The rows that a recipe's data section trains on, and what was left out.

    Args:
        config: The data section.
        tokenizer: The model's tokenizer.
        objective: Objective name; decides what a null `method_filter` means.
        family: Model family of the student.
        needs_order: The objective reads decoding orders.
        vocab_size: Ids at or above it are faults.
        recipe: Recipe name for hints.
        progress: Task "tokenise".

    Raises:
        RecipeError: The objective needs orders and the section cannot give any.
        DataError: The file is missing, damaged or malformed, or nothing is left of it.
    """
    if needs_order and (config.generate is not None or not config.use_token_ids):
        what = "data.generate" if config.generate is not None else "data.use_token_ids=false"
        raise RecipeError(
            f"objective '{objective}' needs decoding orders, and {what} has none",
            hint="train on a trajectory file with its token ids, or choose objective nelbo",
        )
    if config.generate is not None:
        rows = problem_rows(config.generate, tokenizer, config, progress=progress)
        return rows, LoadReport("generated problems", num_lines=len(rows), num_rows=len(rows))
    trajectories, report = read_mixture(
        config,
        objective=objective,
        family=family,
        needs_order=needs_order,
        vocab_size=vocab_size,
        recipe=recipe,
    )
    return training_rows(trajectories, tokenizer, config, progress=progress), report


def training_rows(
    trajectories: Sequence[Trajectory],
    tokenizer: Any,
    config: DataConfig,
    *,
    progress: ProgressCallback = silent,
) -> list[TrainingRow]:
    """Trajectories as training rows, in the same order.

    The recorded prompt ids are used when they were rendered with this tokenizer's template and fit
    the budget; otherwise the text is rendered, keeping its beginning. Responses, orders and entropies
    are cut to `response_length`, not padded.

    Args:
        trajectories: With `use_token_ids`, every one has `response_token_ids`.
        tokenizer: The model's tokenizer.
        config: The data section.
        progress: Task "tokenise".
    """
    own_hash = template_hash(tokenizer)
    made: list[TrainingRow] = []
    for chunk in _chunks(trajectories, progress):
        recorded = [_recorded_prompt(row, own_hash, config.max_prompt_length) for row in chunk]
        texts = [row.prompt for row, ids in zip(chunk, recorded, strict=True) if ids is None]
        rendered = iter(render_prompts(tokenizer, texts, max_length=config.max_prompt_length))
        prompts = [ids if ids is not None else next(rendered) for ids in recorded]
        if config.use_token_ids:
            responses = [row.response_token_ids or [] for row in chunk]
        else:
            responses = response_ids_of(
                tokenizer, [row.prompt for row in chunk], [row.response for row in chunk]
            )
        made += [
            _training_row(row, prompt, response, config)
            for row, prompt, response in zip(chunk, prompts, responses, strict=True)
        ]
    return made


def problem_rows(
    generate: GenerateConfig,
    tokenizer: Any,
    config: DataConfig,
    *,
    progress: ProgressCallback = silent,
) -> list[TrainingRow]:
    """Generated problems with their reference answers, tokenised as text.

    Args:
        generate: Which problems.
        tokenizer: The model's tokenizer.
        config: The data section; its budgets apply, `max_rows` counts problems.
        progress: Task "tokenise".
    """
    num_problems = min(generate.num_problems, config.max_rows or generate.num_problems)
    problems = tasks.problems(
        generate.tasks, split=generate.split, num_problems=num_problems, seed=generate.seed
    )
    made: list[TrainingRow] = []
    for chunk in _chunks(problems, progress):
        texts = [problem.prompt for problem in chunk]
        prompts = render_prompts(tokenizer, texts, max_length=config.max_prompt_length)
        answers = response_ids_of(tokenizer, texts, [problem.answer for problem in chunk])
        made += [
            TrainingRow(
                sample_id=problem.id,
                group_id=problem.id,
                prompt_token_ids=tuple(prompt),
                response_token_ids=tuple(answer[: config.response_length]),
            )
            for problem, prompt, answer in zip(chunk, prompts, answers, strict=True)
        ]
    return made


def _chunks(items: Sequence[Any], progress: ProgressCallback) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        yield chunk
        progress(ProgressEvent(task="tokenise", done=start + len(chunk), total=len(items)))


def _recorded_prompt(row: Trajectory, own_hash: str, max_length: int) -> list[int] | None:
    ids = row.prompt_token_ids
    if not ids or row.template_hash != own_hash or len(ids) > max_length:
        return None
    return ids


def _training_row(
    row: Trajectory, prompt: Sequence[int], response: Sequence[int], config: DataConfig
) -> TrainingRow:
    length = config.response_length
    order = row.decoding_order if config.use_token_ids else None
    entropy = row.decoding_entropy if config.use_token_ids else None
    return TrainingRow(
        sample_id=row.id,
        group_id=row.group_id,
        prompt_token_ids=tuple(prompt),
        response_token_ids=tuple(response[:length]),
        decoding_order=None if order is None else tuple(order[:length]),
        decoding_entropy=None
        if entropy is None
        else tuple(math.nan if value < 0 else value for value in entropy[:length]),
        non_ltr_positions=tuple(place for place in row.non_ltr_positions if place < length)
        if config.use_token_ids
        else (),
        reward=row.reward,
    )
