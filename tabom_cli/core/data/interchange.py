"""Trajectory files of other projects as our rows: dLLM-RL `step_map` files and d3LLM trajectories.

Written from the formats that the public repositories write (Gen-Verse/dLLM-RL `sample/*_rl_rollout.py`,
d3LLM `distill_1_data_prepare`). Knows those formats and a tokenizer; no model.

dLLM-RL: a JSON list. Rollouts hold `question`, the rendered `prompt`, and parallel lists `full_output`
(text with special tokens), `step_map` and, after judging, `correctness`; training data holds one
`prompt`, `response`, `step_map` and `reward` per row. A step map is 0-based, and 0 also stands for
"never": the two cannot be told apart. Tokens are not stored, so the text is tokenised again, and a row
whose length then differs is left out.

d3LLM: a JSON list, or a folder saved by `datasets`, with `question`, `prompt_ids`, `final_output` and
`trajectory`, the whole sequence (or the response) after every forward pass.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.data.lines import Faults, kind_of
from tabom_cli.core.data.records import (
    Trajectory,
    Verdict,
    content_length,
    non_ltr_positions,
    stable_hash,
)
from tabom_cli.core.data.sources import read_source
from tabom_cli.core.errors import DataError
from tabom_cli.core.models.base import SpecialIds
from tabom_cli.core.models.template import response_text

Format = Literal["dllm_rl", "d3llm"]
_USER_TURN = re.compile(
    r"<\|im_start\|>user\n(.*?)<\|im_end\|>"
    r"|<\|start_header_id\|>user<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>",
    re.DOTALL,
)


@dataclass
class ImportReport:
    """What was read.

    Attributes:
        format: The format that was found.
        num_rows: Rows handed out.
        dropped: Rows left out, by reason.
        num_first_steps: Tokens of step 0 in dLLM-RL files, which may mean "never decoded".
    """

    format: Format | None = None
    num_rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    num_first_steps: int = 0


@dataclass(frozen=True)
class _Answer:
    """One answer of a foreign row."""

    prompt: str
    prompt_token_ids: list[int] | None
    tokens: list[int]
    order: list[int]
    correct: bool | None
    reference: str | None


def import_rows(
    path: Path,
    tokenizer: Any,
    ids: SpecialIds,
    report: ImportReport,
    *,
    model: str,
    method: str | None = None,
    keep_verdicts: bool = False,
) -> Iterator[Trajectory]:
    """Yield our rows for every answer of a foreign file, in its order.

    Args:
        path: JSON, JSONL or parquet file, or folder saved by `datasets`.
        tokenizer: Of the model that answered.
        ids: Special ids of that model; the mask id says what was not yet decoded.
        report: Receives the counts.
        model: The model that answered, for the rows; the files do not say it.
        method: Decoder to record, for `data.method_filter`; the files do not say it.
        keep_verdicts: Record the file's own judgement; else rows are `unverified`, because d3LLM's
            check for Dream answers is switched off in its published code.

    Raises:
        DataError: The file is missing, damaged, or of neither format; up to ten faults are shown.
    """
    faults = Faults(path)
    hint = "known are dLLM-RL step_map files and d3LLM trajectory files"
    for number, row in _rows_of(path, faults):
        kind = _format_of(row)
        if kind is None:
            if not faults.count:
                hint += f"; line {number} has the keys {', '.join(row) or 'none'}"
            faults.add(number, "neither 'step_map' nor 'trajectory'")
            continue
        report.format = report.format or kind
        try:
            answers = (_from_step_map if kind == "dllm_rl" else _from_snapshots)(
                row, tokenizer, ids, report
            )
        except _Malformed as fault:
            faults.add(number, str(fault))
            continue
        group = stable_hash(kind, path.name, number)
        for index, answer in enumerate(answers):
            report.num_rows += 1
            row_id = f"{group}-{index}"
            imported = _trajectory(
                answer, row_id, group, tokenizer, ids, path, method, keep_verdicts
            )
            yield imported.model_copy(update={"model": model})
    faults.raise_if_any(hint)
    if not report.num_rows:
        reasons = "; ".join(f"{count} {reason}" for reason, count in report.dropped.items())
        raise DataError(f"{path}: no row can be used: {reasons or 'the file is empty'}")


class _Malformed(ValueError):
    """A row that lacks what its format has."""


def _rows_of(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix != ".json":
        yield from read_source(PromptsConfig(path=str(path)), faults)
        return
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}", hint="fetch the file again") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: a list of objects is expected, found {kind_of(values)}")
    for number, row in enumerate(values, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            faults.add(number, f"not an object but {kind_of(row)}")


def _format_of(row: Mapping[str, Any]) -> Format | None:
    if "step_map" in row:
        return "dllm_rl"
    return "d3llm" if "trajectory" in row else None


def _from_step_map(
    row: Mapping[str, Any], tokenizer: Any, ids: SpecialIds, report: ImportReport
) -> list[_Answer]:
    rollout = "full_output" in row
    texts = row.get("full_output") if rollout else [row.get("response")]
    maps = row["step_map"] if rollout else [row["step_map"]]
    if not isinstance(texts, list) or not isinstance(maps, list) or len(texts) != len(maps):
        raise _Malformed("'full_output' and 'step_map' are not lists of one length")
    judged = row.get("correctness") if rollout else [row.get("reward")]
    prompt = _prompt_of(row)
    rendered = row.get("prompt")
    prompt_ids = _encode(tokenizer, rendered) if isinstance(rendered, str) else None
    reference = row.get("ground_truth_answer")
    made = []
    for index, (text, steps) in enumerate(zip(texts, maps, strict=True)):
        if not isinstance(text, str) or not _is_ints(steps):
            raise _Malformed("an answer is no text, or its step map no list of whole numbers")
        tokens = _encode(tokenizer, text)
        if len(tokens) != len(steps):
            report.dropped["whose text has another number of tokens than its step map"] += 1
            continue
        order = [-1 if t == ids.mask else s for t, s in zip(tokens, steps, strict=True)]
        report.num_first_steps += order.count(0)
        correct = judged[index] if isinstance(judged, list) and index < len(judged) else None
        made.append(
            _Answer(
                prompt=prompt,
                prompt_token_ids=prompt_ids,
                tokens=tokens,
                order=order,
                correct=None if correct is None else float(correct) > 0,
                reference=reference if isinstance(reference, str) else None,
            )
        )
    return made


def _prompt_of(row: Mapping[str, Any]) -> str:
    rendered, question = row.get("prompt"), row.get("question")
    match = _USER_TURN.search(rendered) if isinstance(rendered, str) else None
    if match:
        return (match.group(1) or match.group(2) or "").strip()
    if isinstance(question, str) and question.strip():
        return question
    raise _Malformed("no user turn in 'prompt' and no 'question'")


def _from_snapshots(
    row: Mapping[str, Any], tokenizer: Any, ids: SpecialIds, report: ImportReport
) -> list[_Answer]:
    final, prompt_ids, question = (
        row.get("final_output"),
        row.get("prompt_ids"),
        row.get("question"),
    )
    snapshots = row["trajectory"]
    if not (_is_ints(final) and _is_ints(prompt_ids) and isinstance(question, str)):
        raise _Malformed("'final_output', 'prompt_ids' or 'question' is missing or of another type")
    final, prompt_ids = cast("list[int]", final), cast("list[int]", prompt_ids)
    tokens = final[len(prompt_ids) :] if final[: len(prompt_ids)] == prompt_ids else final
    if not isinstance(snapshots, list) or not all(_is_ints(snapshot) for snapshot in snapshots):
        raise _Malformed("'trajectory' is not a list of lists of token ids")
    if any(len(snapshot) not in (len(tokens), len(final)) for snapshot in snapshots):
        raise _Malformed("'trajectory' and 'final_output' differ in length")
    tails = [snapshot[len(snapshot) - len(tokens) :] for snapshot in snapshots]
    if ids.mask in tokens:
        report.dropped["that were not decoded to the end"] += 1
        return []
    order = order_of_snapshots(tails, mask_token_id=ids.mask, length=len(tokens))
    correct, answer = row.get("is_correct"), row.get("gt_answer")
    return [
        _Answer(
            prompt=question,
            prompt_token_ids=prompt_ids,
            tokens=tokens,
            order=order,
            correct=bool(correct) if isinstance(correct, bool | int) else None,
            reference=answer if isinstance(answer, str) and answer else None,
        )
    ]


def order_of_snapshots(
    snapshots: Sequence[Sequence[int]], *, mask_token_id: int, length: int
) -> list[int]:
    """The 0-based forward pass that revealed each token, from the sequence after every pass.

    Args:
        snapshots: Each of `length` ids, the first after the first pass.
        mask_token_id: Marks what is not yet decoded.
        length: Response tokens.

    Returns:
        For each position the first snapshot without a mask, -1 when there is none.
    """
    order = [-1] * length
    for step, snapshot in enumerate(snapshots):
        for position, token in enumerate(snapshot):
            if order[position] < 0 and token != mask_token_id:
                order[position] = step
    return order


def _trajectory(
    answer: _Answer,
    row_id: str,
    group_id: str,
    tokenizer: Any,
    ids: SpecialIds,
    path: Path,
    method: str | None,
    keep_verdicts: bool,
) -> Trajectory:
    verdict: Verdict = "unverified"
    if keep_verdicts and answer.correct is not None:
        verdict = "correct" if answer.correct else "wrong"
    length = content_length(answer.tokens, ids.end)
    return Trajectory(
        id=row_id,
        group_id=group_id,
        prompt=answer.prompt,
        prompt_token_ids=answer.prompt_token_ids,
        response=response_text(tokenizer, answer.tokens, ids.end),
        response_token_ids=answer.tokens,
        decoding_order=answer.order,
        non_ltr_positions=non_ltr_positions(answer.order, length=length),
        method=method,
        data_source=path.name,
        reference=answer.reference,
        verdict=verdict,
        reward=None if verdict == "unverified" else float(verdict == "correct"),
    )


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _is_ints(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) for value in values
    )
