"""The figures of the TABOM paper, to stand beside ours, and what is odd about them.

Source: Tables 2, 3 and 4 of the paper; the oddities were found by arithmetic on its tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tabom_cli.core.evaluation.report import (
    Table,
    data_notes,
    departures,
    describe_decode,
    parallel_words,
    percent,
)

Training = Literal["math", "code", "math, 2 tokens per step"]

METHODS = ("No-SFT", "SFT-GT", "SFT-SD", "dInfer", "T3D", "TABOM")

_BENCHMARKS = {
    "gsm8k_cot": "GSM8K",
    "minerva_math500": "MATH500",
    "humaneval_instruct": "HumanEval",
    "humaneval_instruct_dream": "HumanEval",
    "mbpp_instruct": "MBPP",
    "mbpp_instruct_dream": "MBPP",
    "ifeval": "IFEval",
}

_COLUMNS: dict[Training, tuple[str, ...]] = {
    "code": ("HumanEval", "MBPP", "GSM8K", "MATH500", "IFEval"),
    "math": ("GSM8K", "MATH500", "HumanEval", "MBPP", "IFEval"),
    "math, 2 tokens per step": ("GSM8K", "MATH500", "HumanEval", "MBPP"),
}

# One line per method, in the order of METHODS; columns as above.
_FIGURES: dict[tuple[Training, str], str] = {
    ("code", "dream"): """
        52.66 58.00 81.41 39.80 56.56
        61.55 58.00 52.33 32.40 46.21
        53.66 59.20 81.81 41.60 57.10
        57.31 58.20 81.88 39.80 57.30
        55.48 58.70 81.84 40.70 57.20
        60.36 60.60 81.73 42.40 55.45""",
    ("code", "llada"): """
        36.01 39.20 76.12 36.20 33.08
        42.01 32.80 70.73 35.40 34.93
        39.63 38.80 76.95 35.80 32.90
        41.46 38.60 77.33 36.60 33.82
        40.54 38.70 77.14 36.20 33.36
        42.68 40.00 77.33 38.20 34.19""",
    ("math", "dream"): """
        81.41 39.80 52.66 58.00 56.56
        80.12 37.40 46.34 58.00 53.23
        81.95 39.80 57.92 58.60 56.01
        82.33 41.60 56.11 58.80 55.82
        82.14 40.70 57.01 58.70 55.91
        84.31 41.10 58.54 59.20 56.19""",
    ("math", "llada"): """
        76.12 36.20 36.01 39.20 33.08
        74.29 35.50 31.09 40.60 26.98
        75.96 35.70 36.58 39.80 34.38
        76.72 36.50 38.90 39.40 34.38
        76.34 36.10 37.74 39.60 34.38
        78.62 36.80 40.30 40.10 32.98""",
    ("math, 2 tokens per step", "dream"): """
        74.37 31.60 43.29 43.60
        72.33 25.40 40.85 40.12
        74.91 34.80 47.56 46.40
        77.63 33.20 40.24 49.20
        76.72 32.60 41.46 49.20
        77.79 34.40 45.73 47.60""",
}

_LM_EVAL_PROMPTS = ("humaneval_instruct", "mbpp_instruct")
T3D_NOTE = (
    "every T3D cell of Tables 2 and 3 equals the mean of the SFT-SD and dInfer cells; "
    "it is no target for a reproduction"
)
FRACTION_NOTE = (
    "{value:.2f} % is not a whole number of the {total} problems; the paper does not say over "
    "what it averaged"
)
MBPP_NOTE = (
    "Table 4 gives two MBPP entries of 49.20 different gains (+5.20, +5.60); the base implies +5.60"
)
PROMPT_NOTE = "lm-eval's own prompt, not the release's, which is task {task}_dream"
RANKING_NOTE = (
    "the paper's Table 5 gives 84.31 (GSM8K) and 58.54 (HumanEval) for the window of 32, its "
    "appendix C 84.08 and 60.37"
)


@dataclass(frozen=True)
class PaperFigure:
    """One cell of the paper.

    Attributes:
        benchmark: The paper's name of the task.
        method: Row of the table.
        training: What the row was trained on, or the decode of Table 4.
        value: In percent.
    """

    benchmark: str
    method: str
    training: Training
    value: float


def paper_figure(task: str, family: str, *, method: str, training: Training) -> PaperFigure | None:
    """The paper's cell for a task, None when it has none."""
    benchmark = _BENCHMARKS.get(task)
    figures = _FIGURES.get((training, family))
    if figures is None or benchmark not in _COLUMNS[training] or method not in METHODS:
        return None
    row = figures.split("\n")[1:][METHODS.index(method)].split()
    return PaperFigure(benchmark, method, training, float(row[_COLUMNS[training].index(benchmark)]))


def footnotes(figure: PaperFigure, total: int) -> list[str]:
    """What a reader should know about a cell before comparing with it.

    Args:
        figure: The cell.
        total: Problems of the benchmark.
    """
    notes = []
    if figure.method == "T3D" and figure.training in ("math", "code"):
        notes.append(T3D_NOTE)
    nearest = round(figure.value * total / 100) * 100 / total
    if abs(nearest - figure.value) > 0.0051:
        notes.append(FRACTION_NOTE.format(value=figure.value, total=total))
    if figure.training not in ("math", "code") and figure.benchmark == "MBPP":
        notes.append(MBPP_NOTE)
    if figure.method == "TABOM" and figure.training == "math" and figure.value in (84.31, 58.54):
        notes.append(RANKING_NOTE)
    return notes


def published_tables(results: Mapping[str, Any]) -> list[Table]:
    """Our scores beside the paper's, for every task of a results file that has a published row.

    Decoding several tokens per step is compared with Table 4 or not at all.
    """
    groups: dict[tuple[str, Training], dict[str, Any]] = {}
    for task, entry in results["tasks"].items():
        row = entry["settings"].get("paper")
        if not row:
            continue
        method, training = row
        if parallel_words(entry["decode"]):
            if parallel_words(entry["decode"]) != ["2 tokens/step"] or training != "math":
                continue
            training = "math, 2 tokens per step"
        groups.setdefault((method, training), {})[task] = entry
    tables = (
        beside_paper({"tasks": tasks}, method=method, training=training)
        for (method, training), tasks in groups.items()
    )
    return [table for table in tables if table is not None]


def beside_paper(results: Mapping[str, Any], *, method: str, training: Training) -> Table | None:
    """Our scores beside the paper's, None when the paper has none of the tasks.

    Args:
        results: Content of a results file.
        method: Row of the paper's table to compare with.
        training: Which of its tables.
    """
    rows: list[tuple[str, ...]] = []
    notes: dict[str, None] = {}
    for task, entry in results["tasks"].items():
        figure = paper_figure(task, entry["family"], method=method, training=training)
        if figure is None:
            continue
        low, high = (100 * bound for bound in entry["interval_95"])
        rows.append(
            (
                task,
                percent(entry["value"]),
                f"{low:.2f} to {high:.2f}",
                f"{figure.value:.2f}",
                f"{100 * entry['value'] - figure.value:+.2f}",
                "yes" if low <= figure.value <= high else "no",
            )
        )
        for note in data_notes(entry):
            notes[f"{task}: the paper's figure is for all problems; ours: {note}"] = None
        own = [*_caveats(task, entry, training), *footnotes(figure, _TOTALS[figure.benchmark])]
        notes.update({f"{task}: {note}": None for note in own})
        notes.update(dict.fromkeys(entry["settings"].get("paper_notes") or ()))
    if not rows:
        return None
    return Table(
        title=f"beside the paper: {method}, {training}",
        columns=("task", "ours", "95 % interval", "paper", "difference", "paper inside"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _caveats(task: str, entry: Mapping[str, Any], training: Training) -> list[str]:
    """How our score was made otherwise than the paper's, as far as it is known."""
    settings = entry["settings"]
    notes = [settings["note"]] if settings.get("note") else []
    if task in _LM_EVAL_PROMPTS:
        notes.append(PROMPT_NOTE.format(task=task))
    if not settings.get("profile"):
        notes.append(f"decoded by no profile: {describe_decode(entry['decode'])}")
    changed = departures(settings)
    if training not in ("math", "code"):
        changed = [text for text in changed if not text.startswith("decode.tokens_per_step ")]
    if changed:
        notes.append(f"departs from profile '{settings['profile']}': {', '.join(changed)}")
    return notes


_TOTALS = {"GSM8K": 1319, "MATH500": 500, "HumanEval": 164, "MBPP": 500, "IFEval": 541}
