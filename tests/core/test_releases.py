"""Renaming published checkpoints: what moves, what is refused, and what a kill leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tabom_cli.core import releases
from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.legacy_names import RELEASES
from tabom_cli.core.releases import apply_renames, plan_renames

CONTENT = {
    "adapter_config.json": "{}",
    "adapter_model.safetensors": "weights",
    ".gitattributes": "dots",
    "tokenizer.json": "tokens",
}
LEGACY = {release.recipe: release.legacy_path for release in RELEASES}


def tree(root: Path) -> dict[str, str]:
    """Every file, link and empty folder below `root`."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
        elif not any(path.iterdir()):
            found[name] = "empty"
    return found


def fill(folder: Path, mark: str = "") -> None:
    folder.mkdir(parents=True)
    for name, text in CONTENT.items():
        (folder / name).write_text(text + mark)
    (folder / "extra").mkdir()
    (folder / "extra" / "note").write_text("n" + mark)


def flat(recipe: str, mark: str = "") -> dict[str, str]:
    content = {f"{recipe}/{name}": text + mark for name, text in CONTENT.items()}
    return {**content, f"{recipe}/extra/note": "n" + mark}


def rename(root: Path, *recipes: str) -> int:
    return apply_renames(plan_renames(root, recipes))


def test_all_four_legacy_folders_become_flat_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    for recipe, path in LEGACY.items():
        fill(tmp_path / path, recipe)
    assert rename(tmp_path) == 4 * 6
    expected: dict[str, str] = {}
    for recipe in LEGACY:
        expected |= flat(recipe, recipe)
    assert tree(tmp_path) == expected
    again = plan_renames(tmp_path)
    assert (again.actions, again.warnings) == ((), ())
    assert again.notes == tuple(f"{recipe} is flat already" for recipe in LEGACY)


def test_planning_changes_nothing_and_names_each_move(tmp_path: Path) -> None:
    fill(tmp_path / LEGACY["llada_prm12k"])
    before = tree(tmp_path)
    plan = plan_renames(tmp_path)
    assert tree(tmp_path) == before
    first, last_move = plan.actions[0], [a for a in plan.actions if a.kind == "move"][-1]
    assert first.source == tmp_path / LEGACY["llada_prm12k"]
    assert first.target == tmp_path / "llada_prm12k" / "epoch_5"
    assert "llada_prm12k" in first.reason
    assert last_move.target == tmp_path / "llada_prm12k" / "adapter_config.json"


def test_only_the_named_recipes_move(tmp_path: Path) -> None:
    for path in LEGACY.values():
        fill(tmp_path / path)
    rename(tmp_path, "dream_prm12k")
    assert (tmp_path / "dream_prm12k" / "adapter_config.json").exists()
    assert (tmp_path / LEGACY["llada_prm12k"] / "adapter_config.json").exists()


def test_other_content_of_legacy_folders_and_train_folders_stay(tmp_path: Path) -> None:
    legacy = tmp_path / LEGACY["dream_prm12k"]
    fill(legacy)
    (legacy.parent / "epoch_2").mkdir()
    (legacy.parent / "epoch_2" / "a").write_text("a")
    (legacy.parent.parent / "log.txt").write_text("log")
    run = tmp_path / "dream_prm12k" / "train_20260101_000000" / "epoch_1"
    fill(run, "mine")
    rename(tmp_path)
    found = tree(tmp_path)
    assert flat("dream_prm12k").items() <= found.items()
    assert found[str((legacy.parent / "epoch_2" / "a").relative_to(tmp_path))] == "a"
    assert found[str((legacy.parent.parent / "log.txt").relative_to(tmp_path))] == "log"
    assert (run / "adapter_config.json").read_text() == "{}mine"
    assert plan_renames(tmp_path).actions == ()


def test_a_collision_of_epochs_names_both_sides_and_moves_nothing(tmp_path: Path) -> None:
    fill(tmp_path / LEGACY["dream_prm12k"], "old")
    fill(tmp_path / "dream_prm12k" / "epoch_1", "new")
    fill(tmp_path / LEGACY["llada_prm12k"])
    before = tree(tmp_path)
    with pytest.raises(RunError) as caught:
        plan_renames(tmp_path)
    assert str(tmp_path / LEGACY["dream_prm12k"]) in caught.value.message
    assert str(tmp_path / "dream_prm12k" / "epoch_1") in caught.value.message
    assert tree(tmp_path) == before


def test_all_collisions_are_shown_together(tmp_path: Path) -> None:
    fill(tmp_path / "llada_prm12k" / "epoch_5")
    for name in ("tokenizer.json", "extra"):
        (tmp_path / "llada_prm12k" / name).write_text("mine")
    with pytest.raises(RunError) as caught:
        plan_renames(tmp_path)
    for name in ("tokenizer.json", "extra"):
        assert str(tmp_path / "llada_prm12k" / "epoch_5" / name) in caught.value.message
        assert f"{tmp_path / 'llada_prm12k' / name} exist" in caught.value.message


@pytest.mark.parametrize(
    ("present", "taken"),
    [
        (("epoch_1", "epoch_5"), "epoch_5"),
        (("epoch_10", "epoch_9"), "epoch_9"),
        (("epoch_best", "epoch_10"), "epoch_10"),
    ],
)
def test_of_several_epochs_the_published_or_else_the_lowest_is_taken_with_a_warning(
    tmp_path: Path, present: tuple[str, ...], taken: str
) -> None:
    for name in present:
        fill(tmp_path / "llada_prm12k" / name, name)
    plan = plan_renames(tmp_path)
    (warning,) = plan.warnings
    assert f"{taken} is taken" in warning
    apply_renames(plan)
    assert flat("llada_prm12k", taken).items() <= tree(tmp_path).items()
    (left,) = set(present) - {taken}
    assert (tmp_path / "llada_prm12k" / left / "adapter_config.json").exists()
    again = plan_renames(tmp_path)
    assert again.actions == ()
    assert f"{left} stays beside it" in again.warnings[0]


def test_a_legacy_folder_beside_a_flat_adapter_arrives_as_its_epoch_and_is_mentioned(
    tmp_path: Path,
) -> None:
    (tmp_path / "dream_prm12k").mkdir()
    (tmp_path / "dream_prm12k" / "adapter_config.json").write_text("mine")
    fill(tmp_path / LEGACY["dream_prm12k"])
    plan = plan_renames(tmp_path)
    assert "holds an adapter already" in plan.warnings[0]
    apply_renames(plan)
    assert (tmp_path / "dream_prm12k" / "adapter_config.json").read_text() == "mine"
    assert (tmp_path / "dream_prm12k" / "epoch_1" / "adapter_config.json").read_text() == "{}"


def test_an_epoch_without_adapter_stays_and_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "dream_prm12k" / "epoch_1").mkdir(parents=True)
    (tmp_path / "dream_prm12k" / "epoch_1" / "model.safetensors").write_text("w")
    (tmp_path / "dream_prm12k" / "epoch_2").write_text("a file")
    before = tree(tmp_path)
    plan = plan_renames(tmp_path)
    assert plan.actions == ()
    assert "adapter_config.json" in plan.warnings[0]
    assert "epoch_2 is not a plain folder" in plan.warnings[1]
    apply_renames(plan)
    assert tree(tmp_path) == before


def test_a_kill_after_any_step_is_completed_by_the_next_run(tmp_path: Path) -> None:
    """Applies every prefix of the plan, then a whole run; the end is always the same."""
    fill(tmp_path / "whole" / LEGACY["dream_ling_coder"])
    rename(tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    count = 0
    while True:
        root = tmp_path / f"after_{count}"
        fill(root / LEGACY["dream_ling_coder"])
        plan = plan_renames(root)
        cut = releases.RenamePlan(plan.actions[:count], plan.warnings, plan.notes)
        apply_renames(cut)
        rename(root)
        assert tree(root) == expected
        if count == len(plan.actions):
            break
        count += 1
    assert count == 9


def test_a_target_that_appears_between_plan_and_move_is_kept(tmp_path: Path) -> None:
    fill(tmp_path / LEGACY["dream_prm12k"])
    plan = plan_renames(tmp_path)
    (tmp_path / "dream_prm12k" / "epoch_1").mkdir(parents=True)
    with pytest.raises(RunError, match=r"both .* and .*epoch_1 exist"):
        apply_renames(plan)
    assert tree(tmp_path / "dream_prm12k") == {"epoch_1": "empty"}


def test_a_folder_that_got_content_meanwhile_is_not_removed(tmp_path: Path) -> None:
    legacy = tmp_path / LEGACY["dream_prm12k"]
    fill(legacy)
    plan = plan_renames(tmp_path)
    (legacy.parent / "late.txt").write_text("x")
    apply_renames(plan)
    assert (legacy.parent / "late.txt").read_text() == "x"


def test_links_in_the_way_are_refused_and_harmless_ones_move(tmp_path: Path) -> None:
    fill(tmp_path / "store", "linked")
    home = tmp_path / "c" / "dream_prm12k"
    home.mkdir(parents=True)
    (home / "epoch_1").symlink_to(tmp_path / "store")
    legacy = tmp_path / "c" / LEGACY["llada_prm12k"]
    legacy.parent.mkdir(parents=True)
    legacy.symlink_to(tmp_path / "store")
    with pytest.raises(RunError, match="epoch_5 is not a plain folder"):
        plan_renames(tmp_path / "c")
    legacy.unlink()
    assert "epoch_1 is not a plain folder" in plan_renames(tmp_path / "c").warnings[0]

    fill(legacy)
    (legacy / "outside").symlink_to("../../weights")
    with pytest.raises(RunError, match="outside is a relative link that leads out"):
        plan_renames(tmp_path / "c")
    (legacy / "outside").unlink()
    (legacy / "inside").symlink_to("extra/note")
    (legacy / "far").symlink_to(tmp_path / "store")
    rename(tmp_path / "c")
    assert (tmp_path / "c" / "llada_prm12k" / "inside").read_text() == "n"
    assert (tmp_path / "c" / "llada_prm12k" / "far" / "extra" / "note").read_text() == "nlinked"


def test_a_root_that_is_a_link_works(tmp_path: Path) -> None:
    fill(tmp_path / "real" / LEGACY["dream_prm12k"])
    (tmp_path / "checkpoints").symlink_to(tmp_path / "real")
    rename(tmp_path / "checkpoints")
    assert tree(tmp_path / "real") == flat("dream_prm12k")


@pytest.mark.parametrize("place", ["recipe", "legacy"])
def test_a_file_where_a_folder_belongs_is_an_error(tmp_path: Path, place: str) -> None:
    path = tmp_path / ("dream_prm12k" if place == "recipe" else LEGACY["dream_prm12k"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    with pytest.raises(RunError, match=r"is not a (plain )?folder"):
        plan_renames(tmp_path)
    assert path.read_text() == "a file"


def test_a_missing_root_and_unknown_recipes_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        plan_renames(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        plan_renames(tmp_path / "file")
    with pytest.raises(UsageError, match="tiny"):
        plan_renames(tmp_path, ["tiny"])


def test_an_empty_root_has_nothing_to_do(tmp_path: Path) -> None:
    plan = plan_renames(tmp_path)
    assert (plan.actions, plan.warnings, len(plan.notes)) == ((), (), 4)
    assert tree(tmp_path) == {}


def test_a_fault_of_the_file_system_is_reported_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / LEGACY["dream_prm12k"])
    plan = plan_renames(tmp_path)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link", str(source))

    monkeypatch.setattr(releases.os, "rename", refuse)
    with pytest.raises(RunError, match="Invalid cross-device link"):
        apply_renames(plan)
    monkeypatch.undo()
    rename(tmp_path)
    assert tree(tmp_path) == flat("dream_prm12k")
