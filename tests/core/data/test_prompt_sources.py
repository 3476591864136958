"""Prompts from parquet, folders, saved datasets and presets; what is drawn and what is contaminated."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tabom_cli.core.data.config import PromptsConfig
from tabom_cli.core.data.contamination import EvaluationQuestions, Match
from tabom_cli.core.data.prompt_presets import PRESETS
from tabom_cli.core.data.prompts import load_prompts, read_prompts
from tabom_cli.core.data.verify import verify
from tabom_cli.core.errors import DataError

BENCHMARKS = Path(__file__).parents[2] / "fixtures" / "benchmarks"
ROWS = [{"prompt": f"question {n}", "reference": str(n)} for n in range(5)]


def config_of(**values: Any) -> PromptsConfig:
    return PromptsConfig(**values)


def test_every_local_format_gives_the_same_prompts(tmp_path: Path) -> None:
    import datasets
    import pyarrow
    import pyarrow.parquet

    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "p.jsonl").write_text(text)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "p.parquet")
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for number, part in enumerate((ROWS[:2], ROWS[2:])):
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(part), folder / f"train-{number}.parquet"
        )
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"prompt": "other split"}]), folder / "test-0.parquet"
    )
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": dataset}).save_to_disk(str(tmp_path / "splits"))
    expected = [(row["prompt"], row["reference"]) for row in ROWS]
    for name in ("p.jsonl", "p.jsonl.gz", "p.parquet", "hub", "saved", "splits"):
        prompts = read_prompts(config_of(path=str(tmp_path / name)))
        assert [(p.text, p.reference) for p in prompts] == expected, name
        assert [p.line for p in prompts] == [1, 2, 3, 4, 5], name
        assert {p.source for p in prompts} == {name}
    with pytest.raises(DataError, match=r"no split 'test' \(splits: train\)"):
        read_prompts(config_of(path=str(tmp_path / "splits"), split="test"))


def test_damaged_and_foreign_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_prompts(config_of(path=str(tmp_path / "p.parquet")))
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text('{"_data_files": [{"filename": "none.arrow"}]}')
    (saved / "dataset_info.json").write_text('{"features": {"a": {"_type": "NewThing"}}}')
    with pytest.raises(DataError, match="cannot read this folder") as caught:
        read_prompts(config_of(path=str(saved)))
    assert "another version" in str(caught.value.hint)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without JSONL or parquet files"):
        read_prompts(config_of(path=str(tmp_path / "empty")))


def test_a_hub_that_is_out_of_reach_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*args: object, **options: object) -> None:
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"a/b: cannot be loaded from the Hub: no route$") as caught:
        read_prompts(config_of(hub="a/b"))
    assert "hf download --repo-type dataset a/b" in str(caught.value.hint)


def test_a_hub_dataset_is_read_with_split_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    calls: list[tuple[str, str, str | None]] = []

    def load(name: str, *, split: str, revision: str | None) -> Any:
        calls.append((name, split, revision))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    prompts = read_prompts(config_of(hub="a/b", split="dev", revision="abc"))
    assert calls == [("a/b", "dev", "abc")]
    assert [p.source for p in prompts] == ["a/b"] * 5


def test_jsonl_needs_neither_pyarrow_nor_datasets(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    source = (
        "import sys; from tabom_cli.core.data.config import PromptsConfig;"
        "from tabom_cli.core.data.prompts import read_prompts;"
        f"read_prompts(PromptsConfig(path={str(tmp_path / 'p.jsonl')!r}));"
        "bad = {'pyarrow', 'datasets', 'pandas', 'torch', 'lm_eval'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_preset_fills_what_the_recipe_leaves_out_and_stays_when_resolved() -> None:
    config = config_of(preset="ling_coder_sft", path="x.jsonl", sample=17_000)
    assert (config.hub, config.path, config.sample) == (None, "x.jsonl", 17_000)
    assert (config.prompt_column, config.reference_column) == ("messages", None)
    assert PromptsConfig.model_validate(config.model_dump()) == config
    assert config_of(preset="mixchain_z_prm12k").hub == "horseee/MixChain-Z-PRM12K"
    with pytest.raises(ValidationError, match="unknown preset 'gsm8k'"):
        config_of(preset="gsm8k")
    for name in PRESETS:
        assert PromptsConfig(preset=name).preset == name


def test_turns_of_ling_coder_give_the_first_user_turn(tmp_path: Path) -> None:
    turns = [
        {"role": "SYSTEM", "content": "s"},
        {"role": "HUMAN", "content": "write f"},
        {"role": "ASSISTANT", "content": "def f"},
        {"role": "HUMAN", "content": "again"},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text(
        json.dumps({"mid": "1", "messages": turns}) + "\n" + json.dumps({"messages": []})
    )
    prompts, report = load_prompts(config_of(preset="ling_coder_sft", path=str(path)))
    assert [(p.text, p.reference) for p in prompts] == [("write f", None)]
    assert report.num_bad == 1
    assert "has no turn of a user" in report.warnings()[0]


def test_mbpp_training_questions_hold_tests_that_the_code_check_runs(tmp_path: Path) -> None:
    (tmp_path / "mbpp").mkdir()
    rows = [
        {
            "task_id": number,
            "text": f"Write a function number {number} to add.",
            "test_list": ["assert add(1, 2) == 3"],
            "test_setup_code": "import math",
        }
        for number in (11, 510, 600, 601, 974, 975)
    ]
    path = tmp_path / "mbpp" / "mbpp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts, report = load_prompts(config_of(preset="mbpp_train", data_dir=str(tmp_path)))
    assert [p.line for p in prompts] == [4, 5]
    assert report.num_read == 2
    assert prompts[0].text == (
        "Write a function number 601 to add.\nYour code should pass these tests:\n"
        "assert add(1, 2) == 3"
    )
    assert json.loads(str(prompts[0].reference)) == {
        "setup": "import math",
        "tests": ["assert add(1, 2) == 3"],
    }
    answer = "```python\ndef add(a, b):\n    return a + b\n```"
    judged = verify(
        "code",
        prompt=prompts[0].text,
        response=answer,
        reference=prompts[0].reference,
        task=None,
        ended=True,
    )
    assert judged == "correct"


def test_a_preset_of_a_data_folder_asks_for_it() -> None:
    with pytest.raises(DataError, match=r"gsm8k/train\.jsonl of a data folder") as caught:
        read_prompts(config_of(preset="gsm8k_train"))
    assert "--data-dir" in str(caught.value.hint)


def test_evaluation_questions_are_found_in_other_words_around_them(tmp_path: Path) -> None:
    known = EvaluationQuestions(BENCHMARKS, ngram=8)
    assert known.benchmarks["gsm8k"] == 6
    row = json.loads((BENCHMARKS / "gsm8k" / "test.jsonl").read_text().splitlines()[0])
    question = row["question"]
    assert known.find(question.upper().replace(",", " ")) == Match("gsm8k", "exact")
    words = question.split()
    assert known.find("I ask you: " + " ".join(words[2:]) + " or what?") == Match("gsm8k", "n-gram")
    assert known.find("I ask you: " + " ".join(words[2:9]) + " or what?") is None
    assert known.find("!!!") is None
    with pytest.raises(DataError, match="no evaluation set found"):
        EvaluationQuestions(tmp_path)


def test_contaminated_prompts_are_left_out_or_only_counted(tmp_path: Path) -> None:
    row = json.loads((BENCHMARKS / "math500" / "test.jsonl").read_text().splitlines()[0])
    path = tmp_path / "p.jsonl"
    texts = [row["problem"], "a question of my own"]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    config = config_of(path=str(path), data_dir=str(BENCHMARKS))
    prompts, report = load_prompts(config)
    assert [p.text for p in prompts] == texts[1:]
    assert report.contaminated == {"math500 (exact)": 1}
    assert report.warnings() == [
        "prompts that repeat evaluation questions are left out: 1 math500 (exact)"
    ]
    kept, report = load_prompts(config.model_copy(update={"contaminated": "keep"}))
    assert len(kept) == 2
    assert "KEPT" in report.warnings()[0]
    path.write_text(json.dumps({"prompt": texts[0]}))
    with pytest.raises(DataError, match="all repeat evaluation questions"):
        load_prompts(config)


def test_a_draw_depends_on_seed_and_texts_only(tmp_path: Path) -> None:
    texts = [f"question {n}" for n in range(200)]
    path, turned = tmp_path / "p.jsonl", tmp_path / "q.jsonl"
    for place, order in ((path, texts), (turned, texts[::-1])):
        place.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in order))

    def drawn(place: Path, **changes: Any) -> list[str]:
        return [p.text for p in read_prompts(config_of(path=str(place), sample=50, **changes))]

    first = drawn(path)
    assert len(first) == 50
    assert first == sorted(first, key=texts.index)
    assert set(drawn(turned)) == set(first)
    assert set(drawn(path, sample_seed=7)) != set(first)
    smaller = [p.text for p in read_prompts(config_of(path=str(path), sample=20))]
    assert set(smaller) < set(first)
    assert load_prompts(config_of(path=str(path), sample=50))[1].num_sampled_out == 150
    assert len(read_prompts(config_of(path=str(path), sample=500))) == 200


def test_bad_prompts_can_be_left_out_but_never_all(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": ""}\n{"prompt": "x"}\nnot json\n')
    prompts, report = load_prompts(config_of(path=str(path)))
    assert [p.text for p in prompts] == ["x"]
    assert (report.num_read, report.num_bad) == (2, 2)
    path.write_text('{"prompt": ""}\n')
    with pytest.raises(DataError, match="'prompt' is empty"):
        load_prompts(config_of(path=str(path)))
