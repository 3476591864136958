"""Several models on the same prompts: the report, its differences, and what is stored."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tabom_cli.core.diagnostics.compare import (
    MeasuredModel,
    difference,
    read_traces,
    summary,
    write_report,
)
from tabom_cli.core.diagnostics.tds import POSITIONS, Trace, aggregate
from tabom_cli.core.errors import DataError, RunError


def model(label: str, rows: dict[str, list[float | None]]) -> MeasuredModel:
    traces = [
        Trace(name, dict.fromkeys(POSITIONS, row), dict.fromkeys(POSITIONS, [4] * len(row)))
        for name, row in rows.items()
    ]
    return MeasuredModel(label, {"model": "tiny", "revision": None, "adapter": None}, traces)


BASE = model("base", {"a": [1.0, 3.0], "b": [2.0, 2.0], "c": [None], "d": [5.0]})
TUNED = model("tuned", {"d": [9.0], "b": [3.0, 3.0], "a": [2.0, 4.0, 9.0], "c": [1.0]})


def test_the_difference_is_paired_over_prompts_where_both_are_defined() -> None:
    """Per prompt: a 5 - 2, b 3 - 2, d 9 - 5; c has no score in the base."""
    found = difference(BASE, TUNED)
    values = [3.0, 1.0, 4.0]
    mean = sum(values) / 3
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert found.mean == pytest.approx(mean)
    assert found.standard_error == pytest.approx(spread / math.sqrt(3))
    assert (found.first, found.second, found.count) == ("base", "tuned", 3)


def test_models_without_a_common_prompt_have_no_difference() -> None:
    found = difference(BASE, model("other", {"z": [1.0]}))
    assert (found.mean, found.standard_error, found.count) == (None, None, 0)


def test_the_report_holds_all_choices_and_the_traces_give_it_again(tmp_path: Path) -> None:
    values = summary([BASE, TUNED], positions="final_eos", bins=5, record={"task": "countdown"})
    write_report(tmp_path / "out", [BASE, TUNED], values)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "tds.json",
        "tds.png",
        "tds.svg",
        "traces.jsonl",
    ]
    stored = json.loads((tmp_path / "out" / "tds.json").read_text())
    assert stored == json.loads(json.dumps(values))
    assert [entry["label"] for entry in stored["models"]] == ["base", "tuned"]
    assert stored["task"] == "countdown"
    assert {row["positions"] for row in stored["differences"]} == set(POSITIONS)
    traces = read_traces(tmp_path / "out" / "traces.jsonl")
    assert list(traces) == ["base", "tuned"]
    for entry in stored["models"]:
        for name in POSITIONS:
            again = aggregate(traces[entry["label"]], positions=name, bins=5)
            assert json.loads(json.dumps(again.as_json())) == entry["results"][name]


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    values = summary([BASE], positions="all", bins=5, record={})
    with pytest.raises(RunError, match="exists"):
        write_report(tmp_path / "out", [BASE], values)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"label": "a"}', '{"id": "a"}'])
def test_a_damaged_trace_line_is_named(tmp_path: Path, line: str) -> None:
    good = json.dumps({"label": "base", **BASE.traces[0].as_json()})
    (tmp_path / "traces.jsonl").write_text(good + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"traces\.jsonl:2"):
        read_traces(tmp_path / "traces.jsonl")
    with pytest.raises(DataError, match="nothing"):
        read_traces(tmp_path / "nothing")
