"""Run folders and their manifests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tabom_cli
from tabom_cli.core import rundir
from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.rundir import RunDir, find_runs, manifest, new_run_dir, write_json_atomic


def test_a_run_lies_under_its_recipe_and_timestamp(tmp_path: Path) -> None:
    run = new_run_dir(tmp_path / "checkpoints", "tiny", "20260101_000000")
    assert run.path == tmp_path / "checkpoints" / "tiny" / "train_20260101_000000"
    assert run.path.is_dir()
    assert run.metrics == run.path / "metrics.jsonl"
    assert run.timings == run.path / "timings.jsonl"
    assert run.epoch(3) == run.path / "epoch_3"
    assert run.state(20) == run.path / "state" / "step_20"
    assert run.final == run.path / "final"
    assert run.recipe == run.path / "recipe.resolved.yaml"
    assert run.manifest == run.path / "manifest.json"


def test_a_given_timestamp_that_exists_is_refused(tmp_path: Path) -> None:
    run = new_run_dir(tmp_path, "tiny", "20260101_000000")
    (run.path / "mine").write_text("x")
    with pytest.raises(RunError, match="exists and is not overwritten"):
        new_run_dir(tmp_path, "tiny", "20260101_000000")
    assert (run.path / "mine").read_text() == "x"


def test_two_runs_in_one_second_get_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(rundir.datetime):
        @classmethod
        def now(cls, tz: object = None) -> rundir.datetime:
            return rundir.datetime(2026, 4, 5, 6, 7, 8)

    monkeypatch.setattr(rundir, "datetime", Clock)
    made = [new_run_dir(tmp_path, "tiny").path.name for _ in range(3)]
    assert made == ["train_20260405_060708", "train_20260405_060708_2", "train_20260405_060708_3"]


@pytest.mark.parametrize("name", ["a/b", "..", "", ".hidden", "a b"])
def test_a_name_that_is_not_one_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a folder"):
        new_run_dir(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_epochs_and_states_come_in_numeric_order(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.epochs() == run.states() == []
    for name in ("epoch_10", "epoch_2", "epoch_x", ".epoch_3.partial-7"):
        (tmp_path / name).mkdir()
    (tmp_path / "epoch_4").write_text("a file")
    for step in (100, 20, 3):
        run.state(step).mkdir(parents=True)
    assert [path.name for path in run.epochs()] == ["epoch_2", "epoch_10"]
    assert [path.name for path in run.states()] == ["step_3", "step_20", "step_100"]


def test_runs_are_found_newest_first_with_state_and_recipe_hash(tmp_path: Path) -> None:
    for name, created, recipe_hash in (
        ("train_b", "2026-03-01T10:00:00+00:00", "h1"),
        ("train_a", "2026-03-01T12:30:00+02:00", "h2"),
        ("train_c", "2026-02-01T00:00:00+00:00", "h1"),
    ):
        (tmp_path / "tiny" / name).mkdir(parents=True)
        write_json_atomic(
            tmp_path / "tiny" / name / "manifest.json",
            {"created": created, "recipe_hash": recipe_hash},
        )
    (tmp_path / "tiny" / "train_b" / "final").mkdir()
    (tmp_path / "tiny" / "epoch_1").mkdir()
    (tmp_path / "other" / "train_z").mkdir(parents=True)
    found = find_runs(tmp_path, "tiny")
    assert [(info.run.path.name, info.finished, info.recipe_hash) for info in found] == [
        ("train_a", False, "h2"),
        ("train_b", True, "h1"),
        ("train_c", False, "h1"),
    ]
    assert find_runs(tmp_path, "nothing") == []


def test_a_run_without_a_readable_manifest_is_listed_with_the_fault(tmp_path: Path) -> None:
    for name, text in (("train_1", None), ("train_2", '{"created": "20'), ("train_3", "[]")):
        (tmp_path / "tiny" / name).mkdir(parents=True)
        if text is not None:
            (tmp_path / "tiny" / name / "manifest.json").write_text(text)
        os.utime(tmp_path / "tiny" / name, (int(name[-1]) * 1000, int(name[-1]) * 1000))
    found = find_runs(tmp_path, "tiny")
    assert [info.run.path.name for info in found] == ["train_3", "train_2", "train_1"]
    assert all(info.recipe_hash is None and "manifest.json" in str(info.fault) for info in found)


def test_the_manifest_says_where_a_result_came_from() -> None:
    value = manifest(command=["tabom", "train"], recipe_hash="abc", seed=7, extra={"device": "cpu"})
    assert json.loads(json.dumps(value)) == value
    assert value["tabom"] == tabom_cli.__version__
    assert value["packages"]["torch"].startswith("2.")
    assert value["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert (value["command"], value["recipe_hash"], value["seed"]) == (["tabom", "train"], "abc", 7)
    assert value["device"] == "cpu"


def test_the_commit_is_that_of_the_package_and_marks_changes(tmp_path: Path) -> None:
    assert rundir._git_commit(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (
        ["init", "-q"],
        [*identity, "commit", "-q", "--allow-empty", "-m", "one"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    commit = rundir._git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "a").write_text("1")
    subprocess.run(["git", "-C", str(tmp_path), "add", "a"], check=True)
    assert rundir._git_commit(tmp_path) == f"{commit}+changes"


def test_run_folders_need_no_tensor_library() -> None:
    source = "import sys, tabom_cli.core.rundir; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
