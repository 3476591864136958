import json
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from tabom_cli.core.evaluation.paper import (
    METHODS,
    PROMPT_NOTE,
    T3D_NOTE,
    beside_paper,
    footnotes,
    paper_figure,
    published_tables,
)
from tabom_cli.core.evaluation.published import (
    COPY_NOTE,
    DATA_NOTE,
    RECIPE_NOTE,
    PaperRow,
    published_base,
    published_row,
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
    entry = scored_entry({}, None) | {"value": 0.83, "interval_95": [0.81, 0.85]}
    other = scored_entry({}, None) | {"value": 0.50, "interval_95": [0.42, 0.58]}
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


DREAM, LLADA = "Dream-org/Dream-v0-Instruct-7B", "GSAI-ML/LLaDA-8B-Instruct"


def row(base: str, recipe: str | None, objective: str = "tabom") -> tuple[str, str] | None:
    found = published_row(base, recipe=recipe, data=None, objective=objective)
    return found and (found.method, found.training)


def test_checkpoints_find_their_row_of_the_paper() -> None:
    assert row(DREAM, None) == ("No-SFT", "math")
    assert row(DREAM, "dream_prm12k") == ("TABOM", "math")
    assert row(LLADA, "llada_ling_coder", "dinfer") == ("dInfer", "code")
    assert row(LLADA, "llada_prm12k_sft_sd", "nelbo") == ("SFT-SD", "math")
    assert row(LLADA, "llada_prm12k", "nelbo") is None
    assert row("tiny", "tiny") is None


def test_recipes_of_another_name_find_their_row_by_their_data() -> None:
    find = partial(published_row, DREAM, objective="tabom")
    published = find(recipe="dream_prm12k", data="data/dream_prm12k.jsonl")
    assert published == PaperRow("TABOM", "math")
    copied = find(recipe="my_run", data="data/dream_ling_coder.jsonl")
    assert copied is not None
    assert (copied.method, copied.training) == ("TABOM", "code")
    assert copied.notes == (RECIPE_NOTE.format(recipe="my_run"),)
    other_data = find(recipe="dream_prm12k", data="data/mine.jsonl")
    assert other_data == PaperRow("TABOM", "math", (DATA_NOTE.format(data="data/mine.jsonl"),))
    assert find(recipe="my_run", data="data/mine.jsonl") is None


def test_a_local_copy_of_a_base_is_known_by_its_name_and_shapes(
    fixtures: Path, tmp_path: Path
) -> None:
    copy = fixtures / "checkpoints/Dream-v0-Instruct-7B"
    assert published_base(str(copy)) == DREAM
    found = published_row(str(copy), recipe=None, data=None, objective="tabom")
    assert found == PaperRow("No-SFT", "math", (COPY_NOTE.format(base=copy, name=DREAM),))
    assert published_base(str(fixtures / "checkpoints/LLaDA-8B-Instruct")) == LLADA
    assert published_base("/elsewhere/models/dream-v0-instruct-7b") == DREAM
    cached = "/hub/models--GSAI-ML--LLaDA-8B-Instruct/snapshots/0123abc"
    assert published_base(cached) == LLADA
    config = json.loads((copy / "config.json").read_text())
    for folder, changes in (("tuned", {}), ("Dream-v0-Instruct-7B", {"num_hidden_layers": 27})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config | changes))
        assert published_base(str(tmp_path / folder)) is None


def scored_entry(decode: dict[str, object], paper: list[str] | None) -> dict[str, Any]:
    plain = {"strategy": "entropy", "steps": 256, "max_new_tokens": 256, "temperature": 0.1}
    return {
        "value": 0.75,
        "interval_95": [0.7, 0.8],
        "family": "dream",
        "limit": None,
        "decode": {**plain, **decode},
        "settings": {"paper": paper, "profile": "release", "overridden": {}, "note": None},
    }


def test_what_departs_from_the_papers_way_stands_below_the_table() -> None:
    def notes(task: str = "mbpp_instruct_dream", **settings: Any) -> list[str]:
        entry = scored_entry({}, ["No-SFT", "math"])
        entry["settings"] |= settings
        (table,) = published_tables({"tasks": {task: entry}})
        return [note.removeprefix(f"{task}: ") for note in table.notes]

    assert notes() == []
    changed = {"decode.steps": {"preset": 256, "used": 16}}
    departs = "departs from profile 'release': decode.steps 16 instead of 256"
    assert notes(overridden=changed) == [departs]
    assert notes(profile=None) == ["decoded by no profile: entropy 256/256, T=0.1"]
    assert notes(note="the paper lists 512/512") == ["the paper lists 512/512"]
    assert notes(paper_notes=["a copy"]) == ["a copy"]
    for task in ("mbpp_instruct", "humaneval_instruct"):
        assert notes(task)[0] == PROMPT_NOTE.format(task=task)


def test_the_step_of_table_4_is_no_departure_from_it() -> None:
    entry = scored_entry({"tokens_per_step": 2}, ["No-SFT", "math"])
    two = {"decode.tokens_per_step": {"preset": None, "used": 2}}
    hot = {"decode.temperature": {"preset": 0.1, "used": 0.5}}
    entry["settings"]["overridden"] = two
    (table,) = published_tables({"tasks": {"gsm8k_cot": entry}})
    assert not any("departs" in note for note in table.notes)
    entry["settings"]["overridden"] = two | hot
    (table,) = published_tables({"tasks": {"gsm8k_cot": entry}})
    departs = "gsm8k_cot: departs from profile 'release': decode.temperature 0.5 instead of 0.1"
    assert departs in table.notes


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
