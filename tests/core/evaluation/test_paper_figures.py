from itertools import product

from tabom_cli.core.evaluation.paper import (
    METHODS,
    T3D_NOTE,
    beside_paper,
    footnotes,
    paper_figure,
    published_row,
    published_tables,
)
from tabom_cli.core.evaluation.report import parallel_words, presets_table, tasks_table
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


def test_the_task_list_shows_needs_and_settings_with_eos_options() -> None:
    table = tasks_table()
    assert [row[0] for row in table.rows] == task_names()
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["gsm8k_cot"][0::2] == ("1319", "gsm8k/test.jsonl")
    assert rows["functions"][0::2] == ("generated", "sandbox")
    presets = presets_table()
    assert (
        "mbpp_instruct_dream",
        "paper, release",
        "llada: low_confidence 256/256, block 256, EOS suppressed (confidence), T=0",
    ) in presets.rows
    assert "llada gsm8k_cot, release: the paper lists 512/512" in presets.notes


def test_checkpoints_find_their_row_of_the_paper() -> None:
    dream, llada = "Dream-org/Dream-v0-Instruct-7B", "GSAI-ML/LLaDA-8B-Instruct"
    assert published_row(dream, recipe=None, objective="tabom") == ("No-SFT", "math")
    assert published_row(dream, recipe="dream_prm12k", objective="tabom") == ("TABOM", "math")
    row = published_row(llada, recipe="llada_ling_coder", objective="dinfer")
    assert row == ("dInfer", "code")
    assert published_row(llada, recipe="llada_prm12k_sft_sd", objective="nelbo") == (
        "SFT-SD",
        "math",
    )
    assert published_row(llada, recipe="llada_prm12k", objective="nelbo") is None
    assert published_row("tiny", recipe="tiny", objective="tabom") is None


def scored_entry(decode: dict[str, object], paper: list[str] | None) -> dict[str, object]:
    plain = {"strategy": "entropy", "steps": 256, "max_new_tokens": 256, "temperature": 0.1}
    return {
        "value": 0.75,
        "interval_95": [0.7, 0.8],
        "family": "dream",
        "limit": None,
        "decode": {**plain, **decode},
        "settings": {"paper": paper},
    }


def test_parallel_decoding_is_compared_with_table_4_or_not_at_all() -> None:
    def tables(decode: dict[str, object], paper: list[str] | None) -> list[str]:
        results = {"tasks": {"gsm8k_cot": scored_entry(decode, paper)}}
        return [f"{table.title}: {table.rows[0][3]}" for table in published_tables(results)]

    tabom = ["TABOM", "math"]
    assert tables({}, tabom) == ["beside the paper: TABOM, math: 84.31"]
    two = "beside the paper: TABOM, math, 2 tokens per step: 77.79"
    assert tables({"tokens_per_step": 2}, tabom) == [two]
    assert tables({"steps": 128}, tabom) == []
    assert tables({"threshold": 0.9}, tabom) == []
    assert tables({"tokens_per_step": 2}, ["TABOM", "code"]) == []
    assert tables({}, None) == []


def test_what_makes_a_decode_parallel_is_named() -> None:
    plain = {"strategy": "entropy", "steps": 8, "max_new_tokens": 8, "temperature": 0.0}
    assert parallel_words(plain) == []
    assert parallel_words({**plain, "tokens_per_step": 1}) == []
    assert parallel_words({**plain, "tokens_per_step": 2}) == ["2 tokens/step"]
    assert parallel_words({**plain, "threshold": 0.9}) == ["threshold 0.9"]
    assert parallel_words({**plain, "steps": 4}) == ["2 tokens/step planned"]
    assert parallel_words({**plain, "strategy": "factor"}) == ["factor acceptance"]
    assert parallel_words({**plain, "cache": "prefix"}) == ["cache prefix"]
    assert parallel_words({**plain, "cache": None}) == []
