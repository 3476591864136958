"""Prompts: columns, ids, duplicates and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tabom_cli.core.data.config import GenerateConfig, PromptsConfig
from tabom_cli.core.data.prompts import load_prompts, read_prompts
from tabom_cli.core.errors import DataError


def prompt_file(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(path: Path, **changes: object) -> PromptsConfig:
    return PromptsConfig(path=str(path), **changes)  # type: ignore[arg-type]


def test_columns_are_mapped_and_references_become_text(tmp_path: Path) -> None:
    rows = [
        {"q": "one?", "a": "1", "from": "x"},
        {"q": "two?", "a": 2},
        {"q": "three?", "a": ["assert f(1)", "assert f(2)"]},
        {"q": "four?"},
    ]
    path = prompt_file(tmp_path / "p.jsonl", *rows)
    prompts, report = load_prompts(
        config_of(path, prompt_column="q", reference_column="a", source_column="from")
    )
    assert [p.text for p in prompts] == ["one?", "two?", "three?", "four?"]
    tests = '{"setup": "", "tests": ["assert f(1)", "assert f(2)"]}'
    assert [p.reference for p in prompts] == ["1", "2", tests, None]
    assert [p.source for p in prompts] == ["x", "p.jsonl", "p.jsonl", "p.jsonl"]
    assert [p.line for p in prompts] == [1, 2, 3, 4]
    assert report.num_without_reference == 1


def test_duplicates_are_left_out_and_counted_before_the_limit(tmp_path: Path) -> None:
    rows = [{"prompt": t} for t in ("a b", "a  b ", "c", "a b", "d")]
    path = prompt_file(tmp_path / "p.jsonl", *rows)
    prompts, report = load_prompts(config_of(path))
    assert [p.text for p in prompts] == ["a b", "c", "d"]
    assert (report.num_read, report.num_duplicates, report.num_prompts) == (5, 2, 3)
    assert [p.text for p in read_prompts(config_of(path, limit=2))] == ["a b", "c"]


def test_ids_depend_on_source_index_and_text_but_not_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    here = prompt_file(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"})
    there = prompt_file(tmp_path / "x" / "p.jsonl", {"prompt": "a"}, {"prompt": "b"})
    ids = [p.id for p in read_prompts(config_of(here))]
    assert ids == [p.id for p in read_prompts(config_of(there))]
    assert len(set(ids)) == 2
    prompt_file(here, {"prompt": "b"}, {"prompt": "a"})
    assert not set(ids) & {p.id for p in read_prompts(config_of(here))}


def test_bad_prompts_are_named_together(tmp_path: Path) -> None:
    rows = [
        {"prompt": ""},
        {"prompt": "  \n"},
        {"prompt": 5},
        {"promt": "x"},
        {"prompt": "y" * 100_001},
        {"prompt": "z", "reference": {"a": 1}},
        {"prompt": [{"role": "assistant", "content": "x"}]},
        {"prompt": "half \ud800"},
        {"prompt": "w", "reference": "\udc00"},
    ]
    path = prompt_file(tmp_path / "p.jsonl", *rows)
    with pytest.raises(DataError) as caught:
        read_prompts(config_of(path))
    assert caught.value.message.splitlines() == [
        f"{path}:1: 'prompt' is empty",
        f"{path}:2: 'prompt' is empty",
        f"{path}:3: 'prompt' is a number, not text",
        f"{path}:4: no column 'prompt': the row has promt; did you mean 'promt'?",
        f"{path}:5: 'prompt' is too long: 100001 characters, at most 100000",
        f"{path}:6: 'reference' is an object: a text, a number or a list of tests",
        f"{path}:7: 'prompt' has no turn of a user",
        f"{path}:8: 'prompt' is no valid Unicode: it holds half of a surrogate pair",
        f"{path}:9: 'reference' is no valid Unicode: it holds half of a surrogate pair",
    ]


def test_bad_prompts_are_left_out_and_counted_by_reason(tmp_path: Path) -> None:
    rows: list[object] = [{"prompt": ""} for _ in range(4)]
    rows += [{"prompt": 5}, {"prompt": "half \ud800", "reference": "1"}, "no object"]
    good = {"prompt": "a", "reference": "1", "source": "\ud800"}
    path = prompt_file(tmp_path / "p.jsonl", *rows, good)
    prompts, report = load_prompts(config_of(path, source_column="source"))
    assert [(p.text, p.source) for p in prompts] == [("a", "p.jsonl")]
    assert report.num_bad == 7
    assert report.bad == {
        "'prompt' is empty": 4,
        "'prompt' is a number, not text": 1,
        "'prompt' is no valid Unicode": 1,
        "not a JSON object but a string": 1,
    }
    (warning,) = report.warnings()
    assert warning.startswith(
        "7 prompts left out: 'prompt' is empty: 4 (lines 1, 2, 3, ...); 'prompt' is a number, not "
        "text: 1 (line 5); "
    )


def test_prompts_whose_reference_cannot_be_used_are_bad_only_under_a_check(tmp_path: Path) -> None:
    references: list[object] = [None, [], "", {"a": 1}, "3"]
    rows = [{"prompt": f"p{i}", "reference": value} for i, value in enumerate(references)]
    path = prompt_file(tmp_path / "p.jsonl", *rows, {"prompt": "without"})
    prompts, report = load_prompts(config_of(path), need_references=True)
    assert [p.text for p in prompts] == ["p4"]
    assert report.bad == {"no reference in column 'reference'": 4, "'reference' is an object": 1}
    free, report = load_prompts(config_of(path))
    assert [p.text for p in free] == ["p0", "p1", "p2", "p4", "without"]
    assert report.num_without_reference == 4
    with pytest.raises(DataError, match=r":6: no column 'prompts'"):
        load_prompts(config_of(path, prompt_column="prompts"))
    with pytest.raises(DataError, match=r":6: no reference in column 'answer'"):
        load_prompts(config_of(path, reference_column="answer"), need_references=True)


def test_missing_and_empty_prompt_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_prompts(config_of(tmp_path / "no.jsonl", source="the Hub"))
    assert "no such prompt file" in caught.value.message
    assert "the prompts come from the Hub" in str(caught.value.hint)
    with pytest.raises(DataError, match="the file is empty"):
        read_prompts(config_of(prompt_file(tmp_path / "p.jsonl")))


def test_generated_prompts_keep_task_reference_and_id() -> None:
    config = PromptsConfig(
        generate=GenerateConfig(tasks=("countdown", "arithmetic"), num_problems=6)
    )
    prompts = read_prompts(config)
    assert len(prompts) == 6
    assert [p.task for p in prompts[:2]] == ["countdown", "arithmetic"]
    assert all(p.reference and p.id.startswith(f"{p.task}-") for p in prompts)
    assert prompts == read_prompts(config)
