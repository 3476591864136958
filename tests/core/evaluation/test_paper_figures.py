from itertools import product

import pytest

from tabom_cli.core.evaluation.paper import (
    METHODS,
    T3D_NOTE,
    beside_paper,
    footnotes,
    paper_figure,
)
from tabom_cli.core.evaluation.report import tasks_table
from tabom_cli.core.evaluation.tasks.base import task_names

TASKS = ("gsm8k_cot", "minerva_math500", "humaneval_instruct", "mbpp_instruct", "ifeval")


def value(task: str, family: str, method: str, training: str) -> float:
    figure = paper_figure(task, family, method=method, training=training)  # type: ignore[arg-type]
    assert figure is not None
    return figure.value


def test_single_cells_are_where_the_paper_has_them() -> None:
    assert value("gsm8k_cot", "dream", "TABOM", "math") == 84.31
    assert value("humaneval_instruct_dream", "llada", "SFT-GT", "code") == 42.01
    assert value("mbpp_instruct", "dream", "dInfer", "math, 2 tokens per step") == 49.20
    assert value("ifeval", "llada", "SFT-GT", "math") == 26.98


def test_the_untrained_rows_agree_between_the_tables() -> None:
    for family, task in product(("dream", "llada"), TASKS):
        assert value(task, family, "No-SFT", "math") == value(task, family, "No-SFT", "code")


def test_every_t3d_cell_is_the_mean_of_its_neighbours() -> None:
    for family, training, task in product(("dream", "llada"), ("math", "code"), TASKS):
        mean = (
            value(task, family, "SFT-SD", training) + value(task, family, "dInfer", training)
        ) / 2
        # Two decimals, rounded half up or down.
        assert abs(value(task, family, "T3D", training) - mean) <= 0.00501


def test_footnotes_name_means_and_fractions_of_problems() -> None:
    figure = paper_figure("mbpp_instruct", "dream", method="T3D", training="code")
    assert figure is not None
    notes = footnotes(figure, 500)
    assert notes[0] == T3D_NOTE
    assert "58.70 % is not a whole number of the 500 problems" in notes[1]
    whole = paper_figure("mbpp_instruct", "dream", method="No-SFT", training="code")
    assert whole is not None
    assert footnotes(whole, 500) == []


def test_ours_beside_the_paper_says_whether_it_lies_in_the_interval() -> None:
    entry = {"family": "dream", "value": 0.83, "interval_95": [0.81, 0.85]}
    other = {"family": "dream", "value": 0.50, "interval_95": [0.42, 0.58]}
    results = {"tasks": {"gsm8k_cot": entry, "humaneval_instruct": other, "countdown": entry}}
    table = beside_paper(results, method="TABOM", training="math")
    assert table is not None
    assert [row[0] for row in table.rows] == ["gsm8k_cot", "humaneval_instruct"]
    assert table.rows[0][3:] == ("84.31", "-1.31", "yes")
    assert table.rows[1][3:] == ("58.54", "-8.54", "no")
    assert beside_paper({"tasks": {"countdown": entry}}, method="TABOM", training="math") is None


def test_unknown_cells_are_none() -> None:
    assert paper_figure("gsm8k_cot", "other", method="TABOM", training="math") is None
    assert paper_figure("gsm8k_cot", "dream", method="mine", training="math") is None
    assert len(METHODS) == 6


@pytest.mark.parametrize("task", ["gsm8k_cot", "functions"])
def test_the_task_list_shows_needs_and_presets(task: str) -> None:
    table = tasks_table()
    assert [row[0] for row in table.rows] == task_names()
    row = next(row for row in table.rows if row[0] == task)
    if task == "gsm8k_cot":
        assert row[1:3] == ("1319", "gsm8k/test.jsonl")
        assert "llada_paper 512/512/8" in row[3]
    else:
        assert row[1:4] == ("generated", "sandbox", "recipe")
