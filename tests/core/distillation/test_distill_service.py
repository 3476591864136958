"""Distillation of a toy model: rows, resuming, shards, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_toys import LENGTH, prompts_in, toy_config, toy_model
from pydantic import ValidationError

from tabom_cli.core.data.prompts import read_prompts
from tabom_cli.core.data.records import Trajectory, content_length, non_ltr_positions
from tabom_cli.core.data.trajectory import read_trajectories
from tabom_cli.core.decoding.scheduler import DecodeRequest, decode
from tabom_cli.core.distillation import service
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.distillation.jobs import Shard
from tabom_cli.core.distillation.meter import DistillReport
from tabom_cli.core.distillation.queue import SharedQueue, queue_path
from tabom_cli.core.distillation.service import distill
from tabom_cli.core.errors import DataError, EnvironmentNotReady, RunError, UsageError
from tabom_cli.core.models.template import render_prompt, response_text, template_hash
from tabom_cli.core.progress import ProgressEvent

MODEL = toy_model()


def rows_of(path: Path) -> list[Trajectory]:
    return read_trajectories(path)[0]


class Stop:
    """Raises KeyboardInterrupt once that many rows are done."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, event: ProgressEvent) -> None:
        if event.kind == "progress" and event.done >= self.after:
            raise KeyboardInterrupt


def test_rows_hold_the_decode_and_come_in_prompt_order(tmp_path: Path) -> None:
    output, config = tmp_path / "t.jsonl", toy_config()
    report = distill(MODEL, config, output=output, seed=3)
    rows = rows_of(output)
    prompts = read_prompts(config.prompts)
    assert [row.id for row in rows] == [f"{p.id}-{k}" for p in prompts for k in range(2)]
    for row, prompt in zip(rows, (p for p in prompts for _ in range(2)), strict=True):
        digest = hashlib.sha256(f"3\0{prompt.id}\0{row.id[-1]}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") // 2
        prompt_ids = render_prompt(MODEL.tokenizer, prompt.text, max_length=64)
        request = DecodeRequest("x", tuple(prompt_ids), seed)
        (alone,) = decode(MODEL, [request], config.decode)
        assert row.seed == seed
        assert row.prompt_token_ids == prompt_ids
        assert row.response_token_ids == alone.response_token_ids
        assert row.decoding_order == alone.decoding_order
        assert row.decoding_entropy == pytest.approx(alone.decoding_entropy, rel=1e-5)
        length = content_length(alone.response_token_ids, MODEL.ids.end)
        assert row.non_ltr_positions == non_ltr_positions(alone.decoding_order, length=length)
        text = response_text(MODEL.tokenizer, alone.response_token_ids, MODEL.ids.end)
        assert row.response == text
        assert (row.prompt, row.group_id) == (prompt.text, prompt.id)
        assert (row.reference, row.data_source) == (prompt.reference, "countdown/train")
        assert (row.method, row.model, row.adapter) == ("entropy", "toy", None)
        assert row.template_hash == template_hash(MODEL.tokenizer)
        assert row.reward == float(row.verdict == "correct")
    assert len({tuple(row.response_token_ids or ()) for row in rows}) > 6
    assert report.num_rows == report.num_made == 12
    assert report.verdicts == Counter(row.verdict for row in rows)
    tokens = sum(content_length(r.response_token_ids or (), MODEL.ids.end) for r in rows)
    assert report.tokens_per_s == pytest.approx(tokens / report.time_s)
    assert report.rows_per_s == pytest.approx(12 / report.time_s)


def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole, cut, config = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl", toy_config()
    distill(MODEL, config, output=whole, seed=3)
    for after in (1, 5, 9):
        with pytest.raises(KeyboardInterrupt):
            distill(MODEL, config, output=cut, seed=3, progress=Stop(after))
        assert len(rows_of(cut)) == after
        with cut.open("ab") as stream:
            stream.write(b'{"schema_version": 1, "id": "torn')
    events: list[ProgressEvent] = []
    report = distill(MODEL, config, output=cut, seed=3, progress=events.append)
    assert cut.read_bytes() == whole.read_bytes()
    assert (report.num_made, report.num_rows) == (3, 12)
    texts = [event.text for event in events if event.kind != "progress"]
    assert texts[0] == f"{cut}: cut off 33 bytes of an unfinished last row"
    assert texts[1] == f"{cut}: 9 of 12 rows are already there"
    assert [e.done for e in events if e.kind == "progress"] == [10, 11, 12]


def test_a_finished_file_is_left_alone(tmp_path: Path) -> None:
    output, config = tmp_path / "t.jsonl", toy_config()
    distill(MODEL, config, output=output, seed=3)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("t.*")}
    report = distill(MODEL, config, output=output, seed=3)
    assert (report.num_made, report.num_rows) == (0, 12)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_batch_size_changes_nothing_in_the_file(tmp_path: Path) -> None:
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    distill(MODEL, toy_config(batch_size=1), output=one, seed=3)
    distill(MODEL, toy_config(batch_size=7), output=many, seed=3)
    assert one.read_bytes() == many.read_bytes()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 4}, "made with another seed"),
        ({"model": toy_model("other")}, "model is 'toy', this run has 'other'"),
        ({"config": toy_config(temperature=0.5)}, "decode_hash is"),
        ({"config": toy_config(verifier="none")}, "verifier is 'countdown', this run has 'none'"),
        ({"config": toy_config(max_prompt_length=32)}, "max_prompt_length is 64"),
        ({"config": toy_config(problem_seed=5)}, "12 rows there are of prompts or samples"),
        ({"config": toy_config(num_problems=5)}, "2 rows there are of prompts or samples"),
        ({"config": toy_config(num_samples=1)}, "6 rows there are of prompts or samples"),
    ],
)
def test_an_output_that_was_made_otherwise_is_refused_untouched(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    output = tmp_path / "t.jsonl"
    arguments = {"model": MODEL, "config": toy_config(), "seed": 3}
    distill(**arguments, output=output)  # type: ignore[arg-type]
    before = output.read_bytes()
    with pytest.raises(RunError, match=text):
        distill(**arguments | changes, output=output)  # type: ignore[arg-type]
    assert output.read_bytes() == before


def test_more_prompts_and_more_samples_of_the_same_source_go_on(tmp_path: Path) -> None:
    whole, grown = tmp_path / "whole.jsonl", tmp_path / "grown.jsonl"
    distill(MODEL, toy_config(), output=whole, seed=3)
    distill(MODEL, toy_config(num_problems=4, num_samples=1), output=grown, seed=3)
    report = distill(MODEL, toy_config(), output=grown, seed=3)
    assert (report.num_made, report.num_rows) == (8, 12)
    assert grown.read_bytes() == whole.read_bytes()


def test_an_unfinished_file_takes_no_rows_of_other_prompts(tmp_path: Path) -> None:
    output = tmp_path / "t.jsonl"
    with pytest.raises(KeyboardInterrupt):
        distill(MODEL, toy_config(), output=output, seed=3, progress=Stop(5))
    before = output.read_bytes()
    with pytest.raises(RunError, match="5 rows there are of prompts or samples"):
        distill(MODEL, toy_config(problem_seed=5), output=output, seed=3)
    assert output.read_bytes() == before


def run_together(output: Path, config: DistillConfig, *, world_size: int) -> list[DistillReport]:
    """All ranks of one call, as threads with a real barrier."""
    barrier = threading.Barrier(world_size)
    with ThreadPoolExecutor(world_size) as pool:
        waiting = [
            pool.submit(
                distill,
                MODEL,
                config,
                output=output,
                seed=3,
                rank=rank,
                world_size=world_size,
                barrier=barrier.wait,
            )
            for rank in range(world_size)
        ]
        return [future.result(timeout=60) for future in waiting]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_a_queue_and_merge_to_the_file_of_one(
    tmp_path: Path, world_size: int
) -> None:
    single, output, config = tmp_path / "single.jsonl", tmp_path / "t.jsonl", toy_config()
    distill(MODEL, config, output=single, seed=3)
    reports = run_together(output, config, world_size=world_size)
    assert output.read_bytes() == single.read_bytes()
    assert sum(report.num_made for report in reports) == 12
    assert reports[0].num_rows == 12
    assert not [path for path in tmp_path.iterdir() if "rank" in path.name or "queue" in path.name]


def test_a_slow_process_leaves_its_share_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_done = threading.Event()

    def slow_or_fast(*args: Any, **options: Any) -> Iterator[Any]:
        results = decode(*args, **options)
        if threading.current_thread().name.endswith("_0"):
            first = next(results, None)
            assert others_done.wait(timeout=60)
            if first is not None:
                yield first
        yield from results
        others_done.set()

    monkeypatch.setattr(service, "decode", slow_or_fast)
    config = toy_config(num_problems=20, batch_size=1)
    reports = run_together(tmp_path / "t.jsonl", config, world_size=2)
    made = sorted(report.num_made for report in reports)
    # The slow one holds at most the row it decodes, the next of its batch and the one read ahead.
    assert sum(made) == 40
    assert made[0] <= 3


def test_shards_are_parts_that_differ_by_one_row_at_most(tmp_path: Path) -> None:
    whole, config = tmp_path / "t.jsonl", toy_config()
    distill(MODEL, config, output=whole, seed=3)
    ids = [row.id for row in rows_of(whole)]
    sizes = []
    for index in range(1, 6):
        shard = Shard.parse(f"{index}/5")
        output = shard.path(whole)
        assert output.name == f"t.shard-{index}-of-5.jsonl"
        distill(MODEL, config, output=output, seed=3, shard=shard)
        assert [row.id for row in rows_of(output)] == ids[index - 1 :: 5]
        sizes.append(len(rows_of(output)))
        manifest = json.loads((tmp_path / f"t.shard-{index}-of-5.manifest.json").read_text())
        assert manifest["shard"] == {"index": index, "count": 5}
        assert (manifest["num_rows"], manifest["num_all_rows"]) == (sizes[-1], 12)
    assert sizes == [3, 3, 2, 2, 2]
    for text in ("0/5", "6/5", "1", "a/b"):
        with pytest.raises(UsageError, match="expected i/n"):
            Shard.parse(text)


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    output, config = tmp_path / "t.jsonl", toy_config()
    distill(MODEL, config, output=output, seed=3)
    other = toy_model()
    with torch.no_grad():
        other.network.head.add_(0.01)  # type: ignore[union-attr,operator]
    with pytest.raises(RunError, match="weights_hash is"):
        distill(other, config, output=output, seed=3)


def test_another_number_of_processes_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    single, output, config = tmp_path / "single.jsonl", tmp_path / "t.jsonl", toy_config()
    distill(MODEL, config, output=single, seed=3)
    shares = {"world_size": 3, "barrier": lambda: None}
    for rank in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            distill(
                MODEL,
                config,
                output=output,
                seed=3,
                rank=rank,
                progress=Stop(2),
                **shares,  # type: ignore[arg-type]
            )
    # Without a barrier both began with the same jobs: rank 1 made one row that rank 2 had made.
    made = {row.id for rank in (1, 2) for row in rows_of(tmp_path / f"t.jsonl.rank{rank}")}
    report = distill(MODEL, config, output=output, seed=3)
    assert report.num_made == 12 - len(made)
    assert output.read_bytes() == single.read_bytes()
    assert not list(tmp_path.glob("*.rank*"))


def test_rank_zero_says_which_rows_are_missing(tmp_path: Path) -> None:
    queue = SharedQueue(queue_path(tmp_path / "t.jsonl"))
    # The other process takes six jobs and never finishes them.
    lost = queue.take(12)
    shares = {"world_size": 2, "barrier": lambda: [next(lost, 0) for _ in range(6)]}
    with pytest.raises(RunError, match="6 of 12 rows are missing"):
        distill(MODEL, toy_config(), output=tmp_path / "t.jsonl", seed=3, **shares)  # type: ignore[arg-type]
    assert len(rows_of(tmp_path / "t.jsonl.rank0")) == 6
    with pytest.raises(UsageError, match="barrier"):
        distill(MODEL, toy_config(), output=tmp_path / "t.jsonl", seed=3, world_size=2)


def test_the_manifest_says_how_the_file_was_made(tmp_path: Path) -> None:
    output, config = tmp_path / "t.jsonl", toy_config()
    path = tmp_path / "t.manifest.json"
    with pytest.raises(KeyboardInterrupt):
        distill(MODEL, config, output=output, seed=3, progress=Stop(2))
    assert json.loads(path.read_text())["status"] == "running"
    report = distill(MODEL, config, output=output, seed=3, command=["tabom", "distill"])
    manifest = json.loads(path.read_text())
    assert manifest["status"] == "complete"
    assert manifest["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert manifest["num_rows"] == 12
    assert manifest["verdicts"] == dict(report.verdicts)
    assert manifest["last_call"]["num_made"] == 10
    assert (manifest["model"], manifest["seed"]) == ("toy", 3)
    assert manifest["decode_hash"] == rows_of(output)[0].decode_hash
    assert manifest["distill"]["decode"]["steps"] == LENGTH
    assert manifest["command"] == ["tabom", "distill"]
    assert manifest["packages"]["torch"]


def test_progress_carries_rates_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter(["correct", "wrong", "correct", "truncated"] * 3)
    monkeypatch.setattr(service, "verify", lambda *args, **options: next(verdicts))
    events: list[ProgressEvent] = []
    report = distill(MODEL, toy_config(), output=tmp_path / "t", seed=3, progress=events.append)
    last = events[-1]
    assert (last.task, last.done, last.total) == ("distill", 12, 12)
    assert last.info["accepted"] == 0.5
    assert last.info["left_s"] == 0.0
    assert float(events[5].info["left_s"]) > 0
    assert {"rows_per_s", "tokens_per_s", "forwards_per_token"} <= set(last.info)
    assert report.acceptance == 0.5
    assert report.verdicts == {"correct": 6, "wrong": 3, "truncated": 3}
    rewards = Counter(row.reward for row in rows_of(tmp_path / "t"))
    assert rewards == {1.0: 6, 0.0: 6}


def test_a_check_that_hangs_holds_up_no_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, busy, config = tmp_path / "quiet.jsonl", tmp_path / "busy.jsonl", toy_config()
    distill(MODEL, config, output=quiet, seed=3)
    others_done, calls, verify, in_time = threading.Event(), [0], service.verify, []

    def slow_at_first(kind: str, **options: Any) -> str:
        calls[0] += 1
        if calls[0] == 1:
            in_time.append(others_done.wait(60))
        return verify(kind, **options)

    def progress(event: ProgressEvent) -> None:
        if event.kind == "progress" and event.done == 11:
            others_done.set()

    monkeypatch.setattr(service, "verify", slow_at_first)
    distill(MODEL, config, output=busy, seed=3, progress=progress)
    assert in_time == [True]
    assert busy.read_bytes() == quiet.read_bytes()


def test_a_check_that_fails_stops_the_run_and_keeps_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, config, verify = tmp_path / "t.jsonl", toy_config(), service.verify
    calls = [0]

    def failing(kind: str, **options: Any) -> str:
        calls[0] += 1
        if calls[0] == 5:
            raise EnvironmentNotReady("the sandbox is gone")
        return verify(kind, **options)

    monkeypatch.setattr(service, "verify", failing)
    with pytest.raises(EnvironmentNotReady, match="the sandbox is gone"):
        distill(MODEL, config, output=output, seed=3)
    assert 1 <= len(rows_of(output)) < 12
    assert distill(MODEL, config, output=output, seed=3).num_rows == 12


def test_rows_nobody_judged_have_no_reward_and_no_acceptance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "verify", lambda *args, **options: "unverified")
    report = distill(MODEL, toy_config(verifier="none"), output=tmp_path / "t", seed=3)
    assert report.acceptance is None
    assert {row.reward for row in rows_of(tmp_path / "t")} == {None}


def test_a_degenerate_order_and_cut_prompts_are_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "1 + 1"}) + "\n" + json.dumps({"prompt": "2 " * 90}))
    config = toy_config(
        verifier="none", confidence_temperature=None, temperature=0.1, top_p=0.9
    ).model_copy(update={"prompts": prompts_in(path)})
    events: list[ProgressEvent] = []
    distill(MODEL, config, output=tmp_path / "t", seed=3, progress=events.append)
    warnings = [event.text for event in events if event.kind == "warning"]
    assert "after temperature 0.1 and top-p 0.9" in warnings[0]
    assert "confidence_temperature=1.0" in warnings[0]
    assert "1 of 2 prompts are longer than max_prompt_length 64" in warnings[1]
    assert "line 2 first" in warnings[1]
    events.clear()
    distill(
        MODEL, toy_config(temperature=0.1), output=tmp_path / "u", seed=3, progress=events.append
    )
    assert not [event for event in events if event.kind == "warning"]


def test_bad_prompts_do_not_stop_a_run_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    prompts: list[object] = ["1 + 1", "", None, "2 " * 90, "half \ud800", [], "unjudged"]
    rows = [{"prompt": prompt, "reference": "1"} for prompt in prompts]
    rows[-1]["reference"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = toy_config(verifier="math").model_copy(update={"prompts": prompts_in(path)})
    events: list[ProgressEvent] = []
    report = distill(MODEL, config, output=tmp_path / "t.jsonl", seed=3, progress=events.append)
    assert report.num_rows == 4
    assert {row.prompt for row in rows_of(tmp_path / "t.jsonl")} == {"1 + 1", "2 " * 90}
    manifest = json.loads((tmp_path / "t.manifest.json").read_text())
    assert (manifest["num_bad_prompts"], manifest["num_cut_prompts"]) == (5, 1)
    assert manifest["bad_prompts"] == {
        "'prompt' is empty": 1,
        "'prompt' is null, not text": 1,
        "'prompt' is no valid Unicode": 1,
        "'prompt' has no turn of a user": 1,
        "no reference in column 'reference'": 1,
    }
    warnings = [event.text for event in events if event.kind == "warning"]
    assert warnings[0].startswith("5 prompts left out: ")
    assert "no reference in column 'reference': 1 (line 7)" in warnings[0]


def test_a_check_that_cannot_judge_any_prompt_is_refused() -> None:
    prompts = prompts_in(Path("p.jsonl"))
    with pytest.raises(ValidationError, match=r"'tasks' needs prompts\.generate"):
        DistillConfig(prompts=prompts, verifier="tasks")
    free = prompts_in(Path("p.jsonl"), reference_column=None)
    with pytest.raises(ValidationError, match=r"'math' needs prompts\.reference_column"):
        DistillConfig(prompts=free, verifier="math")
    DistillConfig(prompts=free)


def test_prompts_without_references_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "reference": "1"}\n{"prompt": "b"}\n')
    strict = prompts_in(path, on_bad_prompt="error")
    config = toy_config(verifier="math").model_copy(update={"prompts": strict})
    with pytest.raises(DataError) as caught:
        distill(MODEL, config, output=tmp_path / "t", seed=3)
    assert caught.value.message == f"{path}:2: no reference in column 'reference'"
    assert not (tmp_path / "t").exists()


def test_code_is_not_run_without_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.sandbox, "why_unavailable", lambda: "user namespaces are off")
    with pytest.raises(EnvironmentNotReady, match="user namespaces are off"):
        distill(MODEL, toy_config(verifier="functions"), output=tmp_path / "t", seed=3)
    assert not (tmp_path / "t").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from distill_toys import toy_config, toy_model
from tabom_cli.core.distillation.service import distill

def kill(event):
    if event.kind == "progress" and event.done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

distill(toy_model(), toy_config(), output=Path(sys.argv[1]), seed=3, progress=kill)
"""


def test_sigkill_loses_no_finished_row(tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "t.jsonl"
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-c", KILLED, str(output), "4"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(rows_of(output)) == 4
    report = distill(MODEL, toy_config(), output=output, seed=3)
    assert report.num_made == 8
    distill(MODEL, toy_config(), output=whole, seed=3)
    assert rows_of(output) == rows_of(whole)
