"""Benchmark files with faults: each is refused with file, line and column, before anything is decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import write_completions

from tabom_cli.core.errors import DataError, EnvironmentNotReady
from tabom_cli.core.evaluation.benchmark_data import data_records, read_rows
from tabom_cli.core.evaluation.paper import published_tables
from tabom_cli.core.evaluation.report import results_table
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.results import read_results, write_results
from tabom_cli.core.evaluation.score import score
from tabom_cli.core.evaluation.tasks.base import load_task
from tabom_cli.core.progress import ProgressEvent

GSM8K = {"question": "How many?", "answer": "One.\n#### 1"}
MBPP = {
    "task_id": 11,
    "text": "Write f.",
    "code": "def f(): pass",
    "test_list": ["assert f", "assert f", "assert f"],
    "test_setup_code": "",
}
IFEVAL = {
    "key": 7,
    "prompt": "Describe rain.",
    "instruction_id_list": ["length_constraints:number_words"],
    "kwargs": [{"relation": "at least", "num_words": 5}],
}


def write(folder: Path, task: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / load_task(task).files[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("gsm8k_cot", {**GSM8K, "answer": 5}, "'answer': input should be a valid string, not 5"),
        ("mbpp_instruct", {**MBPP, "task_id": "11"}, "'task_id': input should be a valid integer"),
        ("mbpp_instruct_dream", {**MBPP, "test_list": ["assert f"]}, "at least 3 items"),
        ("mbpp_instruct", {**MBPP, "test_list": ["a", "b", 3]}, "'test_list' item 2: .* not 3"),
        ("humaneval_instruct", {"task_id": "1"}, "needs the columns prompt, entry_point"),
        ("minerva_math500", {"problem": "p", "answer": "1", "solution": 3}, "'solution'"),
        ("mmlu_generative", {"question": "q", "subject": "s", "choices": ["a"], "answer": 0}, "4"),
        ("ifeval", {**IFEVAL, "kwargs": [5]}, "'kwargs' item 0: input should be a valid dict"),
    ],
)
def test_a_column_of_another_type_is_named_with_its_line(
    tmp_path: Path, task: str, row: dict[str, Any], message: str
) -> None:
    good = {"gsm8k_cot": GSM8K, "ifeval": IFEVAL, "mbpp_instruct": MBPP}.get(task)
    path = write(tmp_path, task, [good, row] if good else [row])
    with pytest.raises(DataError, match=message) as caught:
        build_requests([task], tmp_path / "r.jsonl", data_dir=tmp_path)
    line = 2 if good else 1
    assert caught.value.message.startswith(f"{path}:{line}: task '{task}'")
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction_id_list": ["length:words"]}, "key 7: unknown instruction 'length:words'"),
        ({"kwargs": []}, "1 instructions but 0 kwargs"),
        ({"kwargs": [{"relation": "at least"}]}, "'length_constraints:number_words' lacks num_w"),
        ({"kwargs": [{"relation": "about", "num_words": 5}]}, "does not take .*'about'"),
        ({"kwargs": [{"relation": "at least", "num_words": "5"}]}, "does not take .*'5'"),
        ({"kwargs": [{"relation": "at least", "num_words": 5, "x": 1}]}, "unexpected keyword"),
    ],
)
def test_ifeval_rows_that_the_checkers_do_not_take_are_refused_before_decoding(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(tmp_path, "ifeval", [IFEVAL, {**IFEVAL, **change}])
    with pytest.raises(DataError, match=message):
        build_requests(["ifeval"], tmp_path / "r.jsonl", data_dir=tmp_path)


def test_a_file_without_a_problem_of_the_benchmark_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "mbpp_instruct", [{**MBPP, "task_id": 600}])
    with pytest.raises(DataError, match="no row is a problem of task 'mbpp_instruct'") as caught:
        build_requests(["mbpp_instruct"], tmp_path / "r.jsonl", data_dir=tmp_path)
    assert str(path) in caught.value.message


def test_columns_that_the_task_does_not_read_may_hold_anything(tmp_path: Path) -> None:
    write(tmp_path, "gsm8k_cot", [{**GSM8K, "note": 1}, {**GSM8K, "note": "one"}, GSM8K])
    requests = build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=tmp_path)
    assert len(requests) == 3
    rows = read_rows(tmp_path, load_task("gsm8k_cot").files[0], task="gsm8k_cot")
    assert rows == [GSM8K] * 3


def test_rows_that_the_harness_fails_on_are_reported_with_file_and_task(tmp_path: Path) -> None:
    answer = "\\boxed{1"  # never closed, so the harness finds no box
    path = write(tmp_path, "minerva_math500", [{"problem": "p", "answer": "1", "solution": answer}])
    with pytest.raises(DataError, match="does not fit task 'minerva_math500'") as caught:
        build_requests(["minerva_math500"], tmp_path / "r.jsonl", data_dir=tmp_path)
    assert caught.value.message.startswith(f"{path}: ")


def test_more_shots_than_the_harness_has_are_named(tmp_path: Path) -> None:
    write(tmp_path, "gsm8k_cot", [GSM8K])
    with pytest.raises(DataError, match=r"'gsm8k_cot' with 50 shots: .* exceeds the 8") as caught:
        build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=tmp_path, num_fewshot=50)
    assert "lower eval.num_fewshot" in str(caught.value.hint)


def test_without_data_folder_and_network_the_hint_says_how_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(EnvironmentNotReady, match="ConnectionError: Couldn't reach") as caught:
        build_requests(["gsm8k_cot"], tmp_path / "r.jsonl")
    assert "task 'gsm8k_cot'" in caught.value.message
    assert "tabom data pull DIR gsm8k_cot" in str(caught.value.hint)
    assert caught.value.exit_code == 3


def test_a_record_tells_an_incomplete_file_from_the_benchmark(
    tmp_path: Path, fixtures: Path
) -> None:
    (file,) = load_task("gsm8k_cot").files
    (record,) = data_records([file], fixtures / "benchmarks")
    assert (record.num_rows, record.published_rows) == (6, 1319)
    assert record.fault == "gsm8k/test.jsonl has 6 rows, the benchmark 1,319"
    write(tmp_path, "gsm8k_cot", [GSM8K] * 1319)
    (whole,) = data_records([file], tmp_path)
    assert whole.fault is None
    assert whole.sha256 != record.sha256
    assert data_records([file], None) == []


def results_of(folder: Path, num_rows: int, limit: int | None) -> dict[str, Any]:
    """Results of a GSM8K file of that many rows, every answer wrong."""
    write(folder, "gsm8k_cot", [{**GSM8K, "question": f"{i}?"} for i in range(num_rows)])
    requests, completions = folder / "r.jsonl", folder / "c.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=folder, limit=limit)
    write_completions(requests, completions, lambda item: "none")
    settings = {"profile": "release", "overridden": {}, "paper": ["TABOM", "math"]}
    path = write_results(
        folder,
        score(requests, completions),
        requests_path=requests,
        completions_paths={"gsm8k_cot": completions},
        manifest={},
        settings={"gsm8k_cot": settings},
    )
    results = read_results(path)
    # The answers of the helper are of two tokens per step, which has no such cell in the paper.
    results["tasks"]["gsm8k_cot"]["decode"]["tokens_per_step"] = 1
    return results


@pytest.mark.parametrize(
    ("num_rows", "limit", "notes"),
    [
        (5, None, ["gsm8k/test.jsonl has 5 rows, the benchmark 1,319: this is not its score"]),
        (5, 2000, ["gsm8k/test.jsonl has 5 rows, the benchmark 1,319: this is not its score"]),
        (1319, 5, ["only 5 of 1,319 problems (limit)"]),
        (1319, 1319, []),
    ],
)
def test_a_score_of_a_part_says_so_in_its_table_and_beside_the_paper(
    tmp_path: Path, num_rows: int, limit: int | None, notes: list[str]
) -> None:
    results = results_of(tmp_path, num_rows, limit)
    (record,) = results["tasks"]["gsm8k_cot"]["data"]
    assert (record["path"], record["num_rows"]) == ("gsm8k/test.jsonl", num_rows)
    assert len(record["sha256"]) == 64

    def about_parts(lines: tuple[str, ...]) -> list[str]:
        return [line for line in lines if "problems" in line or "rows" in line]

    assert about_parts(results_table(results).notes) == [f"gsm8k_cot: {note}" for note in notes]
    (table,) = published_tables(results)
    prefix = "gsm8k_cot: the paper's figure is for all problems; ours: "
    beside = [line for line in about_parts(table.notes) if line.startswith(prefix)]
    assert beside == [prefix + note for note in notes]


def test_an_incomplete_file_is_warned_of_before_anything_is_decoded(tmp_path: Path) -> None:
    write(tmp_path, "gsm8k_cot", [GSM8K] * 5)
    seen: list[ProgressEvent] = []
    build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=tmp_path, progress=seen.append)
    assert [(event.kind, event.text) for event in seen] == [
        ("warning", "gsm8k/test.jsonl has 5 rows, the benchmark 1,319")
    ]


def test_ifeval_scores_a_language_the_same_way_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import langdetect

    monkeypatch.setattr(langdetect.DetectorFactory, "seed", None)
    rule = {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "fi"}]}
    write(tmp_path, "ifeval", [{**IFEVAL, **rule}] * 30)
    requests, completions = tmp_path / "r.jsonl", tmp_path / "c.jsonl"
    build_requests(["ifeval"], requests, data_dir=tmp_path)
    # Unseeded, the detector takes these words for Finnish two times in three.
    write_completions(requests, completions, lambda item: "otto nina kala")
    (result,) = score(requests, completions)
    assert len({sample.score for sample in result.samples}) == 1
