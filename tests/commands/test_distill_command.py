"""`tabom distill` as a process: what it writes, and that kills and signals cost no row."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tabom_processes import Nursery, run_fresh, write_lines, write_small_run

from tabom_cli.core.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

DISTILL = ("distill", "--recipe", "small.yaml")
EXACT = ("id", "prompt_token_ids", "response", "response_token_ids", "verdict", "seed", "method")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def assert_same_rows(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal but for the last digits of entropies: other rows in a batch, other padding."""
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    for row, reference in zip(rows, expected, strict=True):
        assert {key: row[key] for key in EXACT} == {key: reference[key] for key in EXACT}
        assert row["decoding_order"] == reference["decoding_order"]
        assert row["decoding_entropy"] == pytest.approx(reference["decoding_entropy"], abs=1e-4)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, small_base: Path, nursery: Nursery
) -> tuple[Path, str]:
    """The file and the output of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole_distill")
    write_small_run(folder, small_base)
    done = nursery.run(*DISTILL, cwd=folder)
    assert done.code == 0, done.stderr
    return folder / "distilled.jsonl", done.stdout


def test_every_prompt_is_answered_as_often_as_asked(whole: tuple[Path, str]) -> None:
    rows = rows_of(whole[0])
    assert len(rows) == 20
    groups = [row["group_id"] for row in rows]
    assert all(groups.count(group) == 2 for group in groups)
    for row in rows:
        assert len(row["response_token_ids"]) == len(row["decoding_order"]) == 12
        assert 3 not in row["response_token_ids"], "the mask is never emitted"
        assert min(row["decoding_order"]) >= 0
    lines = whole[1].splitlines()
    assert (lines[0], lines[-1]) == ("20 rows in distilled.jsonl", "distilled.jsonl")


def test_the_rows_can_be_trained_on(work: Path, whole: tuple[Path, str], nursery: Nursery) -> None:
    (work / "rows.jsonl").write_bytes(whole[0].read_bytes())
    done = nursery.run("train", "--recipe", "small.yaml", "--set", "train.max_steps=2", cwd=work)
    assert done.code == 0, done.stderr
    assert done.stdout.strip().endswith("final")


def test_running_again_adds_nothing(work: Path, whole: tuple[Path, str], nursery: Nursery) -> None:
    first = nursery.run(*DISTILL, cwd=work)
    content = (work / "distilled.jsonl").read_bytes()
    assert content == whole[0].read_bytes(), "equal seeds give equal bytes"
    again = nursery.run(*DISTILL, cwd=work)
    assert (first.code, again.code) == (0, 0)
    assert "20 of 20 rows are already there" in again.stderr
    assert (work / "distilled.jsonl").read_bytes() == content


def test_kills_at_random_moments_cost_no_row(
    work: Path, whole: tuple[Path, str], nursery: Nursery
) -> None:
    draw = random.Random(4)
    slow = ("--set", "distill.decode.batch_size=2")
    kills, path = 0, work / "distilled.jsonl"
    for _ in range(12):
        command = nursery.start(*DISTILL, *slow, cwd=work)
        before, deadline = size(path), time.monotonic() + 0.6
        while size(path) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        command.signal(signal.SIGKILL)
        kills += command.wait().code == -signal.SIGKILL
        if size(path) and len(path.read_text().splitlines()) > 16:
            break
    assert kills >= 2
    assert nursery.run(*DISTILL, *slow, cwd=work).code == 0
    assert_same_rows(rows_of(path), rows_of(whole[0]))


def test_ctrl_c_keeps_what_was_written(
    work: Path, whole: tuple[Path, str], nursery: Nursery
) -> None:
    path = work / "distilled.jsonl"
    command = nursery.start(*DISTILL, "--set", "distill.decode.batch_size=1", cwd=work)
    command.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
    command.signal(signal.SIGINT)
    stopped = command.wait()
    assert stopped.code == EXIT_INTERRUPTED
    assert "Traceback" not in stopped.stderr
    kept = rows_of(path)
    assert 3 <= len(kept) < 20
    done = nursery.run(*DISTILL, cwd=work)
    assert done.code == 0, done.stderr
    assert "rows are already there" in done.stderr
    assert_same_rows(rows_of(path), rows_of(whole[0]))


def test_resume_asks_for_something_to_continue(
    work: Path, whole: tuple[Path, str], nursery: Nursery
) -> None:
    path = work / "distilled.jsonl"
    for more in ((), ("--dry-run",)):
        none = nursery.run(*DISTILL, "--resume", *more, cwd=work)
        assert none.code == EXIT_USAGE
        assert "--resume: distilled.jsonl has no rows to continue from" in none.stderr
    assert not path.exists()
    path.write_text("".join(whole[0].read_text().splitlines(keepends=True)[:7]))
    done = nursery.run(*DISTILL, "--resume", cwd=work)
    assert done.code == 0, done.stderr
    assert "7 of 20 rows are already there" in done.stderr
    assert_same_rows(rows_of(path), rows_of(whole[0]))


@pytest.mark.slow
def test_two_processes_write_the_same_rows_as_one(work: Path, whole: tuple[Path, str]) -> None:
    done = run_fresh(*DISTILL, "--num-processes", "2", cwd=work)
    assert done.code == 0, done.stderr
    assert "starting 2 processes" in done.stderr
    assert_same_rows(rows_of(work / "distilled.jsonl"), rows_of(whole[0]))
    assert not list(work.glob("*.rank*"))


@pytest.mark.parametrize("change", ["distill.decode.temperature=0.5", "model.path=other", "seed=6"])
def test_rows_of_other_settings_are_not_mixed_in(
    work: Path, whole: tuple[Path, str], nursery: Nursery, small_base: Path, change: str
) -> None:
    from tabom_processes import write_small_model

    write_small_model(work / "other", seed=9)
    (work / "distilled.jsonl").write_bytes(whole[0].read_bytes())
    done = nursery.run(*DISTILL, "--set", change, cwd=work)
    assert done.code == EXIT_FAILED
    assert "distilled.jsonl" in done.stderr
    assert (work / "distilled.jsonl").read_bytes() == whole[0].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--set", "distill=null"), EXIT_USAGE, "has no distill section"),
        (("--set", "model.path=nowhere"), EXIT_FAILED, "nowhere: no such folder"),
        (("--set", "distill.prompts={path: none.jsonl}"), EXIT_FAILED, "none.jsonl"),
        (("--set", "distill.decode.strategy=entrpy"), EXIT_USAGE, "did you mean 'entropy'?"),
        (("--output", "base"), EXIT_FAILED, "base"),
        (("--data-dir", "nowhere"), EXIT_USAGE, "--data-dir nowhere: the prompts of 'small' are"),
    ],
)
def test_what_cannot_be_distilled_is_refused(
    work: Path, nursery: Nursery, arguments: tuple[str, ...], code: int, text: str
) -> None:
    done = nursery.run(*DISTILL, *arguments, cwd=work)
    assert (done.code, "Traceback" in done.stderr) == (code, False), done.stderr
    assert text in done.stderr
    assert not (work / "distilled.jsonl").exists()


def test_a_file_that_is_no_trajectory_file_is_not_overwritten(work: Path, nursery: Nursery) -> None:
    path = write_lines(work / "distilled.jsonl", [{"something": "else"}])
    done = nursery.run(*DISTILL, cwd=work)
    assert (done.code, "Traceback" in done.stderr) == (EXIT_FAILED, False), done.stderr
    assert "distilled.jsonl" in done.stderr
    assert rows_of(path) == [{"something": "else"}]


def test_a_dry_run_counts_and_writes_nothing(work: Path, nursery: Nursery) -> None:
    before = sorted(work.rglob("*"))
    done = nursery.run(*DISTILL, "--dry-run", "--num-processes", "2", cwd=work)
    assert done.code == 0, done.stderr
    assert sorted(work.rglob("*")) == before
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    facts = {row[0]: row[1] for row in rows if len(row) == 2}
    assert facts["prompts"] == "10"
    assert facts["answers"] == "20 (2 per prompt)"
    assert facts["forwards"] == f"at most {5 * 12} batches of 4"
    assert facts["tokens"] == "at most 240"
    assert "torch.distributed.run" in facts["launch"]
    written = [row[1] for row in rows if row[0] == "would write"]
    assert written[:2] == ["distilled.jsonl.rank0", "distilled.jsonl.rank1"]
    assert "distilled.jsonl" in written


def test_an_ungraded_temperature_without_raw_certainty_is_warned_about(
    work: Path, nursery: Nursery
) -> None:
    values = ("--set", "distill.decode.confidence_temperature=null", "--set")
    done = nursery.run(*DISTILL, *values, "distill.decode.temperature=0.4", "--dry-run", cwd=work)
    assert done.code == 0
    assert "Warning: " in done.stderr
    assert "confidence_temperature" in done.stderr
