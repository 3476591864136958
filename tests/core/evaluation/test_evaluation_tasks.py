import subprocess
import sys
from pathlib import Path

import pytest

from tabom_cli.core.errors import DataError, UsageError
from tabom_cli.core.evaluation.benchmark_data import read_rows
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.score import check_consent, primary_key
from tabom_cli.core.evaluation.tasks.base import (
    check_data,
    load_task,
    load_tasks,
    task_names,
)


def test_every_task_file_names_its_task_after_itself() -> None:
    names = task_names()
    assert {"gsm8k_cot", "countdown", "arithmetic", "functions"} <= set(names)
    for name in names:
        spec = load_task(name)
        assert spec.name == name
        assert spec.metrics
        assert spec.own or spec.files


def test_unknown_tasks_are_all_named_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="unknown task 'gsm8k'") as caught:
        load_tasks(["gsm8k", "countdwn"])
    assert "unknown task 'countdwn'" in caught.value.message
    assert caught.value.hint is not None
    assert "did you mean 'gsm8k_cot'?" in caught.value.hint
    assert "did you mean 'countdown'?" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "name",
    [
        *("hellaswag", "truthfulqa_mc2", "glue", "super_glue", "rte", "headqa", "headqa_en"),
        *("belebele", "belebele_deu_Latn", "xnli_de", "wmdp_bio", "arc_easy", "arc_de", "mmlu"),
    ],
)
def test_tasks_that_need_loglikelihoods_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' needs log-likelihoods"):
        load_tasks([name])


@pytest.mark.parametrize(
    "name",
    ["truthfulqa_gen", "arc_challenge_chat", "mmlu_pro_law", "mmlu_flan_cot_zeroshot", "drop"],
)
def test_tasks_of_the_harness_that_generate_are_unknown_but_not_of_the_wrong_kind(
    name: str,
) -> None:
    with pytest.raises(UsageError, match=f"unknown task '{name}'"):
        load_tasks([name])


def test_no_task_and_repeated_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match="no task"):
        load_tasks([])
    with pytest.raises(UsageError, match="named twice"):
        load_tasks(["gsm8k_cot", "gsm8k_cot"])


def test_listing_tasks_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from tabom_cli.core.evaluation.report import tasks_table\n"
        "assert len(tasks_table().rows) >= 4\n"
        "print(sorted({'torch', 'lm_eval', 'datasets', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_data_folder_without_the_file_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; task 'gsm8k_cot' reads it") as caught:
        build_requests(["gsm8k_cot"], tmp_path / "r.jsonl", data_dir=tmp_path)
    assert str(tmp_path / "gsm8k/test.jsonl") in caught.value.message
    assert not (tmp_path / "r.jsonl").exists()


def test_missing_data_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data folder"):
        check_data([load_task("gsm8k_cot")], tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"problem": "p", "answer": "1"}\n', "needs the columns question; the row has problem"),
        ('{"question": "q", "answer": "1"}\n{"question"\n', r"test\.jsonl:2: no JSON"),
        ("[1]\n", r"test\.jsonl:1: no JSON object"),
        ("\n", "empty"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
def test_data_files_with_other_content_are_refused_with_their_line(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "gsm8k/test.jsonl"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path, load_task("gsm8k_cot").files[0], task="gsm8k_cot")


def test_code_tasks_need_consent() -> None:
    with pytest.raises(UsageError, match="scoring functions runs code") as caught:
        check_consent([load_task("functions"), load_task("arithmetic")], False)
    assert caught.value.hint is not None
    assert "--allow-code-execution" in caught.value.hint
    check_consent([load_task("arithmetic")], False)


def test_primary_metric_is_found_by_key_then_by_name() -> None:
    spec = load_task("gsm8k_cot")
    both = {"exact_match,strict-match": 0.1, "exact_match,flexible-extract": 0.2}
    assert primary_key(spec, both) == "exact_match,flexible-extract"
    assert primary_key(spec, {"other,x": 1.0, "exact_match,new": 0.3}) == "exact_match,new"
    with pytest.raises(DataError, match="reported other,x"):
        primary_key(spec, {"other,x": 1.0})


def test_embedded_tasks_ask_the_test_split_in_one_user_turn(tmp_path: Path) -> None:
    from tabom_cli.assets.tasks import problems

    requests = build_requests(["countdown", "arithmetic"], tmp_path / "r.jsonl", limit=4)
    assert [item.task for item in requests] == ["countdown"] * 4 + ["arithmetic"] * 4
    expected = problems(["arithmetic"], split="test", num_problems=4)
    found = [item.messages for item in requests[4:]]
    assert [messages[0].content for messages in found] == [item.prompt for item in expected]
    assert all(len(messages) == 1 and messages[0].role == "user" for messages in found)
