import json
from pathlib import Path

import pytest
from evaluation_helpers import character_model, write_completions

from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.errors import DataError
from tabom_cli.core.evaluation.comparison import compare_results, comparison_table
from tabom_cli.core.evaluation.identity import decode_hash, weights_hash
from tabom_cli.core.evaluation.records import (
    Request,
    decoding_time_s,
    read_requests,
    shard_path,
)
from tabom_cli.core.evaluation.report import describe_decode, results_table
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.results import (
    read_results,
    set_unreadable_aside,
    write_results,
)
from tabom_cli.core.evaluation.score import score


def run(folder: Path, data_dir: Path, right: set[int], *, limit: int | None = None) -> Path:
    """Results in which exactly the problems of `right` are answered correctly."""
    folder.mkdir()
    rows = [json.loads(line) for line in (data_dir / "gsm8k/test.jsonl").open()]

    def answer(item: Request) -> str:
        return rows[item.doc_index]["answer"] if item.doc_index in right else "no idea"

    requests, completions = folder / "r.jsonl", folder / "c.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir, limit=limit)
    write_completions(requests, completions, answer)
    return write_results(
        folder,
        score(requests, completions),
        requests_path=requests,
        completions_paths={"gsm8k_cot": completions},
        manifest={},
        settings={
            "gsm8k_cot": {
                "profile": "release",
                "overridden": {"decode.steps": {"preset": 256, "used": 8}},
            }
        },
    )


@pytest.fixture
def data_dir(fixtures: Path) -> Path:
    return fixtures / "benchmarks"


def test_results_hold_counts_interval_cost_and_settings(tmp_path: Path, data_dir: Path) -> None:
    entry = read_results(run(tmp_path / "a", data_dir, {0, 1, 4}))["tasks"]["gsm8k_cot"]
    assert (entry["num_correct"], entry["num_total"], entry["value"]) == (3, 6, 0.5)
    # By hand: p = 1/2, n = 6, z^2 = 3.8415; half width = z sqrt(1/24 + z^2/144) / (1 + z^2/6).
    assert entry["interval_95"] == pytest.approx([0.18761, 0.81239], abs=1e-5)
    assert entry["cost"] == {
        "decoding_time_s": 3.0,
        "num_forwards": 24,
        "num_steps": 30,
        "tokens_per_forward": 2.0,
        "answer_tokens_per_forward": 1.0,
        "mean_answer_tokens": 4.0,
        "ended_fraction": 1.0,
    }
    assert entry["settings"]["overridden"] == {"decode.steps": {"preset": 256, "used": 8}}
    assert entry["harness"].startswith("lm-eval 0.4.")
    assert entry["model"] == "lookup"


def test_results_of_another_task_stay_when_one_is_added(tmp_path: Path, data_dir: Path) -> None:
    path = run(tmp_path / "a", data_dir, {0})
    document = json.loads(path.read_text())
    document["tasks"]["earlier"] = document["tasks"]["gsm8k_cot"]
    path.write_text(json.dumps(document))
    folder = tmp_path / "a"
    write_results(
        folder,
        score(folder / "r.jsonl", folder / "c.jsonl"),
        requests_path=folder / "r.jsonl",
        completions_paths={"gsm8k_cot": folder / "c.jsonl"},
        manifest={},
    )
    assert set(read_results(folder)["tasks"]) == {"earlier", "gsm8k_cot"}


def test_half_written_results_are_an_error_that_says_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"schema_version": 1, "tasks": {"gsm')
    with pytest.raises(DataError, match="damaged") as caught:
        read_results(tmp_path)
    assert "answers beside it are safe" in str(caught.value.hint)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema_version": 9, "tasks": {}}'])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError):
        read_results(tmp_path)


def test_a_results_file_that_lacks_something_is_refused_with_its_name(
    tmp_path: Path, data_dir: Path
) -> None:
    path = run(tmp_path / "a", data_dir, {0})
    document = json.loads(path.read_text())
    del document["tasks"]["gsm8k_cot"]["prompts_hash"]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="task 'gsm8k_cot' lacks prompts_hash"):
        compare_results(tmp_path / "a", tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "reason"), [("[]", "not a results file"), ('{"tasks": {}}', "schema_version None")]
)
def test_an_unreadable_results_file_never_replaces_an_earlier_one(
    tmp_path: Path, content: str, reason: str
) -> None:
    assert set_unreadable_aside(tmp_path) is None
    for number in (1, 2):
        (tmp_path / "results.json").write_text(content + " " * number)
        text = set_unreadable_aside(tmp_path)
        assert text is not None
        assert reason in text
        assert f"kept as results.json.old{number}" in text
        assert "damaged" not in text
    sizes = [(tmp_path / f"results.json.old{number}").stat().st_size for number in (1, 2)]
    assert sizes == [len(content) + 1, len(content) + 2]


def test_what_went_wrong_with_answers_is_noted_below_the_table(
    tmp_path: Path, data_dir: Path
) -> None:
    results = read_results(run(tmp_path / "a", data_dir, {0}))
    results["tasks"]["gsm8k_cot"]["counts"] = {"failures": 0, "timeouts": 2, "crashes": 1}
    assert "gsm8k_cot: of 6 answers 2 timeouts, 1 crashes" in results_table(results).notes


def test_table_shows_score_interval_counts_and_decode(tmp_path: Path, data_dir: Path) -> None:
    table = results_table(read_results(run(tmp_path / "a", data_dir, {0, 1, 4}, limit=5)))
    (row,) = table.rows
    cells = dict(zip(table.columns, row, strict=True))
    assert cells["score"] == "60.00"
    assert cells["correct/total"] == "3/5"
    assert cells["decode"] == "entropy 8/8, 2 tokens/step, T=0"
    assert "gsm8k_cot: only 5 of 1,319 problems (limit)" in table.notes
    assert "| gsm8k_cot | exact_match,flexible-extract | 60.00 |" in table.markdown()


def test_comparison_pairs_the_problems(tmp_path: Path, data_dir: Path) -> None:
    run(tmp_path / "a", data_dir, {0, 1})
    run(tmp_path / "b", data_dir, {1, 2, 3, 4})
    comparison = compare_results(tmp_path / "a", tmp_path / "b")["gsm8k_cot"]
    assert (comparison.wins, comparison.losses, comparison.num_problems) == (3, 1, 6)
    assert comparison.difference == pytest.approx(2 / 6)
    table = comparison_table(tmp_path / "a", tmp_path / "b")
    (row,) = table.rows
    cells = dict(zip(table.columns, row, strict=True))
    assert cells["metric"] == "exact_match,flexible-extract"
    assert (cells["difference"], cells["real"]) == ("+33.33", "no")
    assert len(table.notes) == 1


def test_comparison_names_models_decode_modes_and_every_setting_that_differs(
    tmp_path: Path, data_dir: Path
) -> None:
    run(tmp_path / "a", data_dir, {0})
    path = run(tmp_path / "b", data_dir, {0})
    document = json.loads(path.read_text())
    entry = document["tasks"]["gsm8k_cot"]
    entry["decode"] |= {"tokens_per_step": None, "batch_size": 64}
    entry |= {"metric": "exact_match,strict-match", "max_prompt_length": 77, "adapter": "mine"}
    path.write_text(json.dumps(document))
    table = comparison_table(tmp_path / "a", tmp_path / "b")
    assert table.title == (
        f"{tmp_path / 'b'} (lookup + mine) against {tmp_path / 'a'} (lookup [2 tokens/step])"
    )
    assert table.notes[1:] == (
        "gsm8k_cot: metric exact_match,strict-match against exact_match,flexible-extract",
        "gsm8k_cot: max_prompt_length 77 against 1024",
        "gsm8k_cot: decode.tokens_per_step None against 2",
    )


def test_comparing_different_problems_is_refused(tmp_path: Path, data_dir: Path) -> None:
    run(tmp_path / "a", data_dir, {0})
    run(tmp_path / "b", data_dir, {0}, limit=3)
    with pytest.raises(DataError, match="different prompts"):
        compare_results(tmp_path / "a", tmp_path / "b")


def test_every_departure_from_plain_decoding_is_in_its_description() -> None:
    config = DecodeConfig(
        steps=64, max_new_tokens=64, block_length=8, threshold=0.9, eos_suppression="confidence"
    )
    assert describe_decode(config.model_dump()) == (
        "entropy 64/64, block 8, threshold 0.9, EOS suppressed (confidence), T=0"
    )


def shard(folder: Path, requests: Path, rank: int, world_size: int, num_rows: int) -> None:
    """Answers to the last `num_rows` requests as one of several processes writes them."""
    path = shard_path(folder / "c.jsonl", rank, world_size)
    write_completions(requests, path, lambda item: "")
    header, *rows = path.read_text().splitlines(keepends=True)
    header = header.replace('"world_size":1', f'"world_size":{world_size}')
    path.write_text(header + "".join(rows[-num_rows:]))


def test_decoding_time_is_that_of_the_slowest_process(tmp_path: Path, data_dir: Path) -> None:
    requests = tmp_path / "r.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    shard(tmp_path, requests, 0, 2, 6)
    shard(tmp_path, requests, 1, 2, 3)
    assert decoding_time_s(tmp_path / "c.jsonl") == pytest.approx(6 * 0.5)


def test_decoding_time_adds_up_over_runs_with_other_numbers_of_processes(
    tmp_path: Path, data_dir: Path
) -> None:
    requests = tmp_path / "r.jsonl"
    build_requests(["gsm8k_cot"], requests, data_dir=data_dir)
    for rank, world_size, num_rows in ((0, 1, 4), (0, 2, 2), (1, 2, 1), (1, 3, 1)):
        shard(tmp_path, requests, rank, world_size, num_rows)
    assert decoding_time_s(tmp_path / "c.jsonl") == pytest.approx((4 + 2 + 1) * 0.5)


def test_decoding_time_counts_the_scored_answers_only(tmp_path: Path, data_dir: Path) -> None:
    path = run(tmp_path / "a", data_dir, {0})
    build_requests(["gsm8k_cot"], tmp_path / "a/r.jsonl", data_dir=data_dir, limit=2)
    folder = tmp_path / "a"
    write_results(
        folder,
        score(folder / "r.jsonl", folder / "c.jsonl"),
        requests_path=folder / "r.jsonl",
        completions_paths={"gsm8k_cot": folder / "c.jsonl"},
        manifest={},
        wall_time_s=12.3456,
    )
    document = read_results(path)
    assert document["tasks"]["gsm8k_cot"]["cost"]["decoding_time_s"] == pytest.approx(2 * 0.5)
    assert document["wall_time_s"] == 12.346
    note = "the last command took 12.3 s, loading and scoring included"
    assert note in results_table(document).notes


def test_weights_hash_sees_one_changed_step_and_the_precision() -> None:
    network = character_model().network
    first = weights_hash(network)
    assert weights_hash(character_model().network) == first
    for parameter in network.parameters():
        parameter.data.add_(1e-3)
        break
    assert weights_hash(network) != first
    assert weights_hash(character_model().network.double()) != first


def test_decode_hash_ignores_the_batch_size_only() -> None:
    base = DecodeConfig()
    assert decode_hash(base) == decode_hash(base.model_copy(update={"batch_size": 99}))
    for name, value in {"steps": 128, "top_p": 0.5, "strategy": "origin"}.items():
        assert decode_hash(base) != decode_hash(base.model_copy(update={name: value}))


def test_requests_file_that_is_cut_off_is_refused(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "r.jsonl"
    build_requests(["gsm8k_cot"], path, data_dir=data_dir)
    content = path.read_text()
    path.write_text(content[:-10])
    with pytest.raises(DataError, match="incomplete"):
        read_requests(path)
    path.write_text("")
    with pytest.raises(DataError, match="empty"):
        read_requests(path)
    with pytest.raises(DataError, match="no such file"):
        read_requests(tmp_path / "nothing.jsonl")
