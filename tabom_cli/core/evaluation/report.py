"""Results as plain tables: columns, rows and footnotes. Knows nothing about terminals or colours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tabom_cli.core.evaluation.benchmark_data import DataRecord
from tabom_cli.core.evaluation.presets import load_presets, preset_files
from tabom_cli.core.evaluation.tasks.base import load_tasks, task_names

PARALLEL_STRATEGIES = ("threshold", "factor", "credit", "hierarchical")
"""Strategies that decide themselves how many tokens a step reveals."""


@dataclass(frozen=True)
class Table:
    """Text for a table.

    Attributes:
        title: What it shows.
        columns: Column heads.
        rows: Cells as text, one tuple per row.
        notes: Footnotes.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def tasks_table() -> Table:
    """Every task with what it needs; builds no harness."""
    rows = []
    for spec in load_tasks(task_names()):
        needs = [file.path for file in spec.files] + (["sandbox"] if spec.executes_code else [])
        count = "generated" if spec.num_problems is None else str(spec.num_problems)
        rows.append((spec.name, count, spec.summary, ", ".join(needs) or "-"))
    return Table(
        title="tasks",
        columns=("task", "problems", "what it is", "needs (below --data-dir)"),
        rows=tuple(rows),
    )


def presets_table() -> Table:
    """The decode settings of every profile by task; equal settings of several share a row."""
    users: dict[tuple[str, str], list[str]] = {}
    notes: dict[str, None] = {}
    for name in preset_files():
        family, _, profile = name.partition("_")
        for task, preset in load_presets(family, profile).items():
            shots = f", {preset.num_fewshot} shots" if preset.num_fewshot else ""
            text = describe_decode(preset.decode.model_dump()) + shots
            users.setdefault((task, f"{family}: {text}"), []).append(profile)
            if preset.note:
                notes[f"{family} {task}, {profile}: {preset.note}"] = None
    rows = sorted((task, ", ".join(profiles), text) for (task, text), profiles in users.items())
    return Table(
        title="decode settings by profile (tokens/steps)",
        columns=("task", "profile", "settings"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def results_table(results: Mapping[str, Any]) -> Table:
    """One row per task: score, interval, counts and cost."""
    rows = []
    notes: dict[str, None] = {}
    for task, entry in results["tasks"].items():
        cost = entry["cost"]
        rows.append(
            (
                task,
                entry["metric"],
                percent(entry["value"]),
                _interval(entry["interval_95"]),
                _counts(entry),
                describe_decode(entry["decode"]),
                f"{cost['tokens_per_forward']:.2f}",
                f"{cost['decoding_time_s']:.1f}",
            )
        )
        notes.update(dict.fromkeys(_notes(task, entry)))
    if results.get("wall_time_s") is not None:
        text = f"the last command took {results['wall_time_s']:.1f} s, loading and scoring included"
        notes[text] = None
    return Table(
        title=results_title(results["tasks"].values()),
        columns=(
            "task",
            "metric",
            "score",
            "95 % interval",
            "correct/total",
            "decode",
            "tokens/forward",
            "decoding s",
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def describe_decode(decode: Mapping[str, Any]) -> str:
    """The decode in a few words; what departs from plain decoding is always named."""
    words = [f"{decode['strategy']} {decode['max_new_tokens']}/{decode['steps']}"]
    if decode.get("block_length"):
        words.append(f"block {decode['block_length']}")
    words += parallel_words(decode)
    if decode.get("eos_suppression", "none") != "none":
        words.append(f"EOS suppressed ({decode['eos_suppression']})")
    words.append(f"T={decode['temperature']:g}")
    return ", ".join(words)


def parallel_words(decode: Mapping[str, Any]) -> list[str]:
    """What makes a decode faster than one token per forward, empty for plain decoding."""
    words = []
    if (decode.get("tokens_per_step") or 1) > 1:
        words.append(f"{decode['tokens_per_step']} tokens/step")
    elif decode.get("threshold"):
        words.append(f"threshold {decode['threshold']}")
    elif not decode.get("tokens_per_step") and decode["steps"] < decode["max_new_tokens"]:
        words.append(f"{decode['max_new_tokens'] / decode['steps']:.3g} tokens/step planned")
    if decode["strategy"] in PARALLEL_STRATEGIES:
        words.append(f"{decode['strategy']} acceptance")
    words += [f"{key} {value}" for key, value in decode.items() if "cache" in key and _is_on(value)]
    return words


def _is_on(value: Any) -> bool:
    return value not in (None, False, "none", "off")


def results_title(entries: Collection[Mapping[str, Any]]) -> str:
    """The models of some entries of a results file, and how they decode when that is not plain."""
    names = {
        f"{entry['model']}" + (f" + {entry['adapter']}" if entry["adapter"] else "")
        for entry in entries
    }
    return ("; ".join(sorted(names)) or "no tasks") + decode_mode(entries)


def decode_mode(entries: Collection[Mapping[str, Any]]) -> str:
    """The parallel decode modes of some entries, such as ` [2 tokens/step]`; empty for plain."""
    modes = {", ".join(parallel_words(entry["decode"])) for entry in entries}
    return "" if modes <= {""} else f" [{' | '.join(sorted(m or 'plain' for m in modes))}]"


def data_notes(entry: Mapping[str, Any]) -> list[str]:
    """Why a score is not one of the whole benchmark; empty when it is."""
    records = [DataRecord(**item) for item in entry.get("data", ())]
    notes = [f"{record.fault}: this is not its score" for record in records if record.fault]
    limit, published = entry.get("limit"), entry.get("published_problems")
    if limit is not None and limit == entry.get("num_problems") != published:
        of_all = f" of {published:,}" if published else ""
        notes.append(f"only {limit:,}{of_all} problems (limit)")
    return notes


def percent(value: float) -> str:
    """A proportion in percent with two decimals."""
    return f"{100 * value:.2f}"


def departures(settings: Mapping[str, Any]) -> list[str]:
    """What an entry's settings override of their preset, such as "decode.steps 8 instead of 256"."""
    return [
        f"{key} {change['used']} instead of {change['preset']}"
        for key, change in (settings.get("overridden") or {}).items()
    ]


def _notes(task: str, entry: Mapping[str, Any]) -> list[str]:
    notes = [f"{task}: {name} {text}" for name, text in entry["remarks"].items()]
    settings = entry.get("settings") or {}
    if settings.get("profile"):
        changed = departures(settings)
        words = f" with {', '.join(changed)}" if changed else ""
        remark = f" ({settings['note']})" if settings.get("note") else ""
        notes.append(f"{task}: profile '{settings['profile']}'{words}{remark}")
    notes += [f"{task}: {note}" for note in data_notes(entry)]
    wrong = [f"{count:,} {name}" for name, count in entry.get("counts", {}).items() if count]
    if wrong:
        notes.append(f"{task}: of {entry['num_total']:,} answers {', '.join(wrong)}")
    for k, rate in entry["pass_at"].items():
        notes.append(
            f"{task}: pass@{k} {percent(rate['value'])} ({_interval(rate['interval_95'])})"
        )
    if entry["majority"]:
        rate = entry["majority"]
        notes.append(
            f"{task}: majority of {entry['num_samples']} {percent(rate['value'])} "
            f"({_interval(rate['interval_95'])})"
        )
    return notes


def _interval(bounds: Sequence[float]) -> str:
    return f"{percent(bounds[0])} to {percent(bounds[1])}"


def _counts(entry: Mapping[str, Any]) -> str:
    if entry["num_correct"] is None:
        return f"-/{entry['num_total']}"
    return f"{entry['num_correct']}/{entry['num_total']}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
