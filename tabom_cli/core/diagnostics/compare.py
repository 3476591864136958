"""Measure several models on the same prompts and write `tds.json`, the traces and the picture.

Knows prompts as messages and models as loaded ones; not how checkpoints are found, nor any task.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabom_cli.core.diagnostics.tds import POSITIONS, Positions, Trace, aggregate, run_tds
from tabom_cli.core.errors import DataError
from tabom_cli.core.files import atomic_folder, write_json_atomic
from tabom_cli.core.jsonl import append_jsonl
from tabom_cli.core.progress import ProgressCallback, ProgressEvent, silent

if TYPE_CHECKING:
    from tabom_cli.core.decoding.config import DecodeConfig
    from tabom_cli.core.models.base import DiffusionLM

SCHEMA_VERSION = 1
TRACES = "traces.jsonl"


@dataclass(frozen=True)
class TdsPrompt:
    """One question that every model decodes.

    Attributes:
        id: Unique among the prompts.
        messages: The chat without the assistant's turn.
        seed: Seeds the decode of this prompt.
        gen_prefix: Text that opens the assistant's turn.
    """

    id: str
    messages: Sequence[Mapping[str, str]]
    seed: int
    gen_prefix: str | None = None


@dataclass(frozen=True)
class MeasuredModel:
    """One model's traces.

    Attributes:
        label: Its name in tables and pictures.
        source: What it is: model, revision, adapter.
        traces: One per prompt, in the order of the prompts.
    """

    label: str
    source: Mapping[str, Any]
    traces: Sequence[Trace]


@dataclass(frozen=True)
class Difference:
    """How the scores of two models differ on the same prompts, in nats squared.

    Attributes:
        first: Label of the model that is subtracted.
        second: Label of the other one.
        positions: Which masked positions counted.
        mean: Mean of second minus first over prompts where both are defined; None without any.
        standard_error: Of that mean; None below two prompts.
        count: Prompts where both are defined.
    """

    first: str
    second: str
    positions: Positions
    mean: float | None
    standard_error: float | None
    count: int


def measure(
    model: DiffusionLM,
    prompts: Sequence[TdsPrompt],
    decode: DecodeConfig,
    *,
    label: str,
    max_prompt_length: int,
    progress: ProgressCallback = silent,
) -> MeasuredModel:
    """Decode all prompts with one model and trace the variance of its entropies.

    Args:
        model: A loaded model.
        prompts: What is decoded; longer ones keep their end, as in evaluation.
        decode: The evaluation's decoding settings.
        label: The model's name in tables and pictures.
        max_prompt_length: Prompt budget in tokens.
        progress: Told after every prompt.
    """
    from tabom_cli.core.decoding.scheduler import DecodeRequest
    from tabom_cli.core.models.template import render_prompt

    def report(event: ProgressEvent) -> None:
        info = event.info
        progress(ProgressEvent(task=f"tds {label}", done=event.done, total=len(prompts), info=info))

    rows = [
        render_prompt(
            model.tokenizer, prompt.messages, max_length=None, gen_prefix=prompt.gen_prefix
        )
        for prompt in prompts
    ]
    num_cut = sum(len(row) > max_prompt_length for row in rows)
    if num_cut:
        text = f"{num_cut} of {len(rows)} prompts exceed {max_prompt_length} tokens; they keep their end"
        progress(ProgressEvent(kind="warning", text=text))
    requests = [
        DecodeRequest(prompt.id, tuple(row[-max_prompt_length:]), prompt.seed)
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    traces = run_tds(model, requests, decode, progress=report)
    source = {"model": model.name, "revision": model.revision, "adapter": model.adapter}
    return MeasuredModel(label, source, traces)


def difference(
    first: MeasuredModel, second: MeasuredModel, *, positions: Positions = "visible_eos"
) -> Difference:
    """The mean over prompts of the second model's score minus the first's; prompts are matched by id."""
    scores = [
        {trace.id: aggregate([trace], positions=positions).tds for trace in model.traces}
        for model in (first, second)
    ]
    values = [
        scores[1][name] - value  # type: ignore[operator]
        for name, value in scores[0].items()
        if value is not None and scores[1].get(name) is not None
    ]
    count = len(values)
    mean = math.fsum(values) / count if count else None
    error = None
    if count > 1 and mean is not None:
        squares = math.fsum((value - mean) ** 2 for value in values)
        error = math.sqrt(squares / (count - 1) / count)
    return Difference(first.label, second.label, positions, mean, error, count)


def summary(
    models: Sequence[MeasuredModel],
    *,
    positions: Positions,
    bins: int,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """What `tds.json` holds: each model's result for each choice of positions, and the differences.

    Args:
        models: The first one is what the others are compared with.
        positions: The choice that is drawn.
        bins: Bins of normalised progress.
        record: Decode settings, prompts, manifest and what else the caller knows.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "unit": "nats^2",
        "positions": positions,
        "models": [
            {
                "label": model.label,
                **model.source,
                "results": {
                    name: aggregate(model.traces, positions=name, bins=bins).as_json()
                    for name in POSITIONS
                },
            }
            for model in models
        ],
        "differences": [
            asdict(difference(models[0], model, positions=name))
            for model in models[1:]
            for name in POSITIONS
        ],
        **record,
    }


def write_report(
    folder: Path | str, models: Sequence[MeasuredModel], values: Mapping[str, Any]
) -> None:
    """Write `tds.json`, `traces.jsonl`, `tds.png` and `tds.svg` into a new folder, all or nothing.

    Args:
        folder: Must not exist.
        models: What was measured.
        values: From `summary`.

    Raises:
        RunError: The folder exists or the disk is full.
    """
    from tabom_cli.core.diagnostics.plots import tds_figure

    positions: Positions = values["positions"]
    bins = len(values["models"][0]["results"][positions]["curve"])
    results = {
        model.label: aggregate(model.traces, positions=positions, bins=bins) for model in models
    }
    with atomic_folder(folder) as partial:
        write_json_atomic(partial / "tds.json", values)
        with append_jsonl(partial / TRACES) as writer:
            for model in models:
                for trace in model.traces:
                    writer.write({"label": model.label, **trace.as_json()})
        tds_figure(results, partial / "tds")


def read_traces(path: Path | str) -> dict[str, list[Trace]]:
    """The traces of `traces.jsonl` by label, in file order.

    Raises:
        DataError: The file is missing, or a line is not a trace; names file and line.
    """
    found: dict[str, list[Trace]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            found.setdefault(value["label"], []).append(Trace.from_json(value))
        except (ValueError, KeyError, TypeError, DataError) as error:
            raise DataError(f"{path}:{number}: not a stored entropy trace ({error})") from error
    return found
