"""`results.json` and its samples: everything a score depends on, written whole or not at all.

Knows neither how answers were made nor how they were scored; `score` and `records` say that.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabom_cli.core.errors import DataError
from tabom_cli.core.evaluation.records import (
    Completion,
    CompletionsHeader,
    Request,
    RequestsHeader,
    decoding_time_s,
    digest,
    read_completions,
    read_requests,
)
from tabom_cli.core.evaluation.scores import Rate, TaskScore
from tabom_cli.core.files import write_json_atomic, write_text_atomic

SCHEMA_VERSION = 1
FILE_NAME = "results.json"

_NEEDED = (
    *("metric", "value", "num_correct", "num_total", "num_problems", "num_samples"),
    *("interval_95", "pass_at", "majority", "limit", "prompts_hash", "remarks"),
    *("model", "adapter", "family", "decode", "cost", "settings"),
)
"""Keys of a task's entry that tables and comparisons read."""
_AGAIN = "the answers beside it are safe; run the same command again to score them anew"


def write_results(
    folder: Path,
    scores: Sequence[TaskScore],
    *,
    requests_path: Path,
    completions_paths: Mapping[str, Path],
    manifest: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    wall_time_s: float | None = None,
) -> Path:
    """Write `results.json` and one samples file per task.

    The samples are written first and `results.json` last, so that a results file always has its
    samples; tasks of an existing results file that are not scored now are kept.

    Args:
        folder: Where the files go.
        scores: One score per task.
        requests_path: The prompts that were answered.
        completions_paths: The answers, by task.
        manifest: Versions, command line and seed of this run.
        settings: Anything else to record per task, such as the preset and what was overridden.
        wall_time_s: Seconds since the command began, with loading, decoding and scoring; an earlier
            command that made some of the answers is not in it.

    Returns:
        The path of `results.json`.

    Raises:
        DataError: An existing results file is damaged.
        RunError: The disk is full; the old results are untouched.
    """
    header, requests = read_requests(requests_path)
    path = folder / FILE_NAME
    kept = _existing_tasks(path)
    tasks = {}
    for score in scores:
        completions_header, completions = read_completions(completions_paths[score.task])
        if completions_header is None:
            raise DataError(f"{completions_paths[score.task]}: no answers")
        own = [item for item in requests if item.task == score.task]
        samples_path = folder / f"samples_{score.task}.jsonl"
        write_text_atomic(samples_path, _samples_text(score, completions))
        tasks[score.task] = {
            **_task_entry(score, header, own),
            **_model_entry(completions_header),
            "cost": _cost(own, completions, completions_paths[score.task]),
            "settings": dict((settings or {}).get(score.task, {})),
            "samples": samples_path.name,
        }
    document = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_time_s": None if wall_time_s is None else round(wall_time_s, 3),
        "tasks": {**kept, **tasks},
        "manifest": dict(manifest),
    }
    write_json_atomic(path, document)
    return path


def read_results(path: Path) -> dict[str, Any]:
    """The content of a `results.json`, or of the one in a folder.

    Raises:
        DataError: The file is missing, half written, of another kind or lacks something of a task.
    """
    if path.is_dir():
        path = path / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint="make it with `tabom eval`") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: damaged: {error}",
            hint=_AGAIN,
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("tasks"), dict):
        raise DataError(f"{path}: not a results file of `tabom eval`")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema_version {document.get('schema_version')}, this is {SCHEMA_VERSION}",
            hint=_AGAIN,
        )
    for task, entry in document["tasks"].items():
        missing = [key for key in _NEEDED if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise DataError(f"{path}: task '{task}' lacks {', '.join(missing)}", hint=_AGAIN)
    return document


def read_sample_scores(folder: Path, task: str) -> dict[int, float]:
    """Mean score of each problem by its index, for paired comparisons.

    Raises:
        DataError: The samples are missing or damaged.
    """
    path = folder / f"samples_{task}.jsonl"
    found: dict[int, list[float]] = {}
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            row = json.loads(line)
            found.setdefault(int(row["doc_index"]), []).append(float(row["score"]))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}:{number}: not a sample: {error!r}") from error
    return {index: sum(values) / len(values) for index, values in found.items()}


def set_unreadable_aside(folder: Path) -> str | None:
    """Rename a results file that cannot be read, so that scoring can write a new one.

    Nothing is lost: the answers lie beside it, and the old file stays as `results.json.old1`, or the
    next number that is free.

    Returns:
        What is wrong with it and how it is called now, None when there is none or it is whole.
    """
    path = folder / FILE_NAME
    try:
        _existing_tasks(path)
    except DataError as error:
        names = (path.with_name(f"{FILE_NAME}.old{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        path.replace(aside)
        return f"{error.message}; kept as {aside.name}, all is scored anew"
    return None


def _existing_tasks(path: Path) -> dict[str, Any]:
    return dict(read_results(path)["tasks"]) if path.exists() else {}


def _task_entry(
    score: TaskScore, header: RequestsHeader, requests: Sequence[Request]
) -> dict[str, Any]:
    return {
        "metric": score.metric,
        "value": score.value,
        "num_correct": score.num_correct,
        "num_total": score.num_total,
        "num_problems": score.num_problems,
        "published_problems": score.published_problems,
        "data": [asdict(item) for item in score.data],
        "interval_95": [score.interval.low, score.interval.high],
        "interval_kind": score.interval_kind,
        "metrics": dict(score.metrics),
        "counts": dict(score.counts),
        "num_samples": score.num_samples,
        "pass_at": {str(k): _rate(rate) for k, rate in score.pass_at.items()},
        "majority": None if score.majority is None else _rate(score.majority),
        "num_fewshot": header.num_fewshot,
        "limit": header.limit,
        "seed": header.seed,
        "task_version": score.version,
        "harness": f"lm-eval {header.harness}",
        "prompts_hash": digest([item.prompt_hash for item in requests])[:16],
        "remarks": dict(score.remarks),
    }


def _model_entry(header: CompletionsHeader) -> dict[str, Any]:
    return {
        "model": header.model,
        "revision": header.revision,
        "adapter": header.adapter,
        "family": header.family,
        "weights_hash": header.weights_hash,
        "base_hash": header.base_hash,
        "adapter_hash": header.adapter_hash,
        "template_hash": header.template_hash,
        "decode": header.decode,
        "max_prompt_length": header.max_prompt_length,
        "answer_end": header.answer_end,
        "versions": header.versions,
        "device": header.device,
        "num_processes": header.world_size,
    }


def _cost(
    requests: Sequence[Request], completions: Mapping[str, Completion], path: Path
) -> dict[str, float]:
    rows = [completions[item.id] for item in requests]
    forwards = sum(row.num_forwards for row in rows)
    revealed = sum(row.num_revealed for row in rows)
    answer = sum(row.num_tokens for row in rows)
    return {
        "decoding_time_s": round(decoding_time_s(path, {item.id for item in requests}), 3),
        "num_forwards": forwards,
        "num_steps": sum(row.num_steps for row in rows),
        "tokens_per_forward": revealed / forwards if forwards else 0.0,
        "answer_tokens_per_forward": answer / forwards if forwards else 0.0,
        "mean_answer_tokens": answer / len(rows) if rows else 0.0,
        "ended_fraction": sum(row.ended for row in rows) / len(rows) if rows else 0.0,
    }


def _samples_text(score: TaskScore, completions: Mapping[str, Completion]) -> str:
    lines = []
    for sample in score.samples:
        row = asdict(sample)
        completion = completions[sample.request_id]
        row["num_tokens"] = completion.num_tokens
        row["num_forwards"] = completion.num_forwards
        row["ended"] = completion.ended
        lines.append(json.dumps(row, allow_nan=False))
    return "\n".join(lines) + "\n"


def _rate(rate: Rate) -> dict[str, Any]:
    bounds = [rate.interval.low, rate.interval.high]
    return {"value": rate.value, "interval_95": bounds, "interval_kind": rate.kind}
