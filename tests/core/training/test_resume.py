from __future__ import annotations

import json
from pathlib import Path

import pytest

from tabom_cli.core.errors import RunError
from tabom_cli.core.rundir import RunDir
from tabom_cli.core.training import resume


def make_run(
    root: Path, name: str, *, recipe_hash: str = "h", states: tuple[int, ...] = ()
) -> RunDir:
    run = RunDir(root / "toy" / name)
    run.path.mkdir(parents=True)
    created = f"2026-01-01T00:00:{name[-2:]}+00:00"
    run.manifest.write_text(json.dumps({"recipe_hash": recipe_hash, "created": created}))
    for step in states:
        run.state(step).mkdir(parents=True)
    return run


def choose(
    root: Path, how: str, recipe_hash: str = "h", force: bool = False
) -> resume.Resume | None:
    return resume.choose(
        how, output_dir=str(root), recipe_name="toy", recipe_hash=recipe_hash, force=force
    )


def test_auto_takes_the_newest_unfinished_run_of_the_same_recipe(tmp_path: Path) -> None:
    make_run(tmp_path, "train_01", states=(3,))
    wanted = make_run(tmp_path, "train_02", states=(4, 10))
    make_run(tmp_path, "train_03", recipe_hash="other", states=(5,))
    make_run(tmp_path, "train_04", states=(6,)).final.mkdir()
    assert choose(tmp_path, "auto") == resume.Resume(wanted, wanted.state(10))


def test_auto_without_an_unfinished_run_starts_a_new_one(tmp_path: Path) -> None:
    make_run(tmp_path, "train_01", recipe_hash="other")
    assert choose(tmp_path, "auto") is None
    assert choose(tmp_path, "never") is None


def test_a_run_killed_before_its_first_state_starts_over_in_its_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, "train_01")
    assert choose(tmp_path, "auto") == resume.Resume(run, None)


def test_a_path_may_name_a_run_or_one_of_its_states(tmp_path: Path) -> None:
    run = make_run(tmp_path, "train_01", states=(2, 4))
    assert choose(tmp_path, str(run.path)) == resume.Resume(run, run.state(4))
    assert choose(tmp_path, str(run.state(2))) == resume.Resume(run, run.state(2))


def test_a_changed_recipe_is_refused_unless_forced(tmp_path: Path) -> None:
    run = make_run(tmp_path, "train_01", recipe_hash="before", states=(2,))
    with pytest.raises(RunError, match="hash before, now h") as caught:
        choose(tmp_path, str(run.path))
    assert "--force" in (caught.value.hint or "")
    assert choose(tmp_path, str(run.path), force=True) == resume.Resume(run, run.state(2))


def test_finished_missing_and_stateless_paths_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, "train_01", states=(2,))
    with pytest.raises(RunError, match="step_9 does not exist"):
        choose(tmp_path, str(run.state(9)))
    run.final.mkdir()
    with pytest.raises(RunError, match="is finished"):
        choose(tmp_path, str(run.path))
    with pytest.raises(RunError, match=r"manifest\.json is missing"):
        choose(tmp_path, str(tmp_path / "toy" / "nothing"))
