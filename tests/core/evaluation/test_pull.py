"""Fetching task data, with invented rows in place of the Hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tabom_cli.core.errors import DataError, EnvironmentNotReady, UsageError
from tabom_cli.core.evaluation import pull
from tabom_cli.core.evaluation.benchmark_data import DataFile
from tabom_cli.core.evaluation.tasks.base import check_data, load_task, task_names


def rows_of(file: DataFile) -> list[dict[str, Any]]:
    return [{name: f"{name} {i}" for name in file.columns} for i in range(file.num_rows or 1)]


def fetched(file: DataFile) -> pull.Fetched:
    return pull.Fetched(rows_of(file), "c0ffee")


def test_pulled_files_are_what_the_data_folder_needs(tmp_path: Path) -> None:
    done = pull.pull(tmp_path, ["gsm8k_cot", "humaneval_instruct"], fetch=fetched)
    assert [(item.path, item.num_rows, item.is_new) for item in done] == [
        ("gsm8k/test.jsonl", 1319, True),
        ("humaneval/HumanEval.jsonl", 164, True),
    ]
    check_data([load_task("gsm8k_cot"), load_task("humaneval_instruct_dream")], tmp_path)
    sources = json.loads((tmp_path / "sources.json").read_text())
    assert sources["gsm8k/test.jsonl"]["hub"]["name"] == "openai/gsm8k"
    assert sources["gsm8k/test.jsonl"]["revision"] == "c0ffee"
    assert len(sources["gsm8k/test.jsonl"]["sha256"]) == 64


def test_files_that_exist_are_kept_unless_wanted_again(tmp_path: Path) -> None:
    def refuse(file: DataFile) -> pull.Fetched:
        raise AssertionError(file.path)

    pull.pull(tmp_path, ["gsm8k_cot"], fetch=fetched)
    (item,) = pull.pull(tmp_path, ["gsm8k_cot"], fetch=refuse)
    assert (item.num_rows, item.is_new) == (1319, False)
    with pytest.raises(AssertionError, match="gsm8k"):
        pull.pull(tmp_path, ["gsm8k_cot"], again=True, fetch=refuse)


def test_all_files_are_tried_and_all_faults_named(tmp_path: Path) -> None:
    def some(file: DataFile) -> pull.Fetched:
        if file.path == "ifeval/input_data.jsonl":
            return fetched(file)
        raise EnvironmentNotReady(f"{file.path}: no", hint="ask")

    with pytest.raises(EnvironmentNotReady) as found:
        pull.pull(tmp_path, ["gsm8k_cot", "ifeval", "minerva_math500"], fetch=some)
    assert "gsm8k/test.jsonl: no\nmath500/test.jsonl: no" in found.value.message
    assert found.value.hint == "ask"
    assert (tmp_path / "ifeval/input_data.jsonl").is_file()
    assert list(json.loads((tmp_path / "sources.json").read_text())) == ["ifeval/input_data.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "1318 rows were fetched, the benchmark has 1319"),
        (lambda rows: [{"question": "q"} for _ in rows], "lack answer"),
    ],
)
def test_other_rows_than_the_benchmarks_are_not_written(
    tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        pull.pull(
            tmp_path,
            ["gsm8k_cot"],
            fetch=lambda file: pull.Fetched(change(rows_of(file)), "c0ffee"),
        )
    assert not (tmp_path / "gsm8k/test.jsonl").exists()


def test_empty_fields_of_records_are_dropped(tmp_path: Path) -> None:
    def fetch(file: DataFile) -> pull.Fetched:
        row = {"key": 1, "prompt": "p", "instruction_id_list": ["a"]}
        kwargs = [{"num_words": 5, "relation": None}]
        return pull.Fetched([{**row, "kwargs": kwargs} for _ in range(541)], "c0ffee")

    pull.pull(tmp_path, ["ifeval"], fetch=fetch)
    first = json.loads((tmp_path / "ifeval/input_data.jsonl").read_text().splitlines()[0])
    assert first["kwargs"] == [{"num_words": 5}]


def test_every_benchmark_says_where_it_lies() -> None:
    for name in task_names():
        spec = load_task(name)
        assert spec.own or all(file.hub and file.num_rows for file in spec.files)
    paths = [file.path for file in pull.files_of([])]
    assert len(set(paths)) == len(paths) >= 10
    with pytest.raises(UsageError, match="nothing to fetch"):
        pull.files_of(["countdown"])


def test_without_a_network_the_hint_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("unreachable")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    (file,) = pull.files_of(["gpqa_main_generative_n_shot"])
    with pytest.raises(EnvironmentNotReady, match="unreachable") as caught:
        pull.hub_rows(file)
    assert "accept the terms" in str(caught.value.hint)
    with pytest.raises(UsageError, match="not published"):
        pull.hub_rows(replace(file, hub=None))


def test_rows_are_of_the_commit_that_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    asked = []

    def load(name: str, *_: Any, revision: str, **__: Any) -> list[dict[str, str]]:
        asked.append((name, revision))
        return [{"question": "q", "answer": "a"}]

    def info(_: Any, name: str) -> SimpleNamespace:
        return SimpleNamespace(sha=f"commit of {name}")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    (file,) = pull.files_of(["gsm8k_cot"])
    found = pull.hub_fetch(file)
    assert (found.revision, len(found.rows)) == ("commit of openai/gsm8k", 1)
    assert asked == [("openai/gsm8k", "commit of openai/gsm8k")]
    with pytest.raises(UsageError, match="not published"):
        pull.hub_fetch(replace(file, hub=None))


def test_a_dataset_that_cannot_be_looked_up_is_an_environment_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    def fail(*_: Any) -> None:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    with pytest.raises(EnvironmentNotReady, match="openai/gsm8k cannot be fetched: offline"):
        pull.hub_fetch(pull.files_of(["gsm8k_cot"])[0])
