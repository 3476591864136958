"""Rename published checkpoints from their legacy folders to a flat `checkpoints/<recipe>/`.

A plan is data, applying it is separate. Nothing is deleted or overwritten, `train_*` is never
touched, and a run that was killed is completed by the next one. Knows four published adapters by
path; loads none of them.

Source: the release's renaming script. It differs in
two points: the release deletes a legacy folder whose target exists, which is an error here; and
where several `epoch_*` lie side by side it flattens the first, while here the published epoch comes
first, then the lowest number, with a warning.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tabom_cli.core.errors import RunError, UsageError
from tabom_cli.core.files import os_errors
from tabom_cli.core.legacy_names import RELEASES, Release

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Action:
    """One step of a plan.

    Attributes:
        kind: `move` renames source to target, `remove empty` removes a folder if it is empty.
        recipe: Recipe it belongs to.
        source: What is moved or removed.
        target: Where to; None for a removal.
        reason: Why, for a person.
    """

    kind: Literal["move", "remove empty"]
    recipe: str
    source: Path
    target: Path | None
    reason: str


@dataclass(frozen=True)
class RenamePlan:
    """What renaming would do.

    Attributes:
        actions: In order; each may rely on those before it.
        warnings: Things a person should look at.
        notes: State of the recipes for which there is nothing to do.
    """

    actions: tuple[Action, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Draft:
    actions: list[Action] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def plan_renames(root: Path | str, recipes: Sequence[str] = ()) -> RenamePlan:
    """Look at a checkpoint folder and say what would be renamed; changes nothing.

    Args:
        root: Folder that holds the legacy folders and `<recipe>/`, usually `checkpoints`.
        recipes: Only these of the four; empty means all.

    Raises:
        UsageError: No such folder or recipe.
        RunError: Collisions and other obstacles, all of them, each with both sides.
    """
    root = Path(root)
    known = [release.recipe for release in RELEASES]
    if unknown := [name for name in recipes if name not in known]:
        raise UsageError(
            f"no published checkpoint belongs to {', '.join(unknown)}",
            hint=f"there are {', '.join(known)}",
        )
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise UsageError(f"{root} {state}", hint="name the folder that holds the checkpoints")
    draft = _Draft()
    with os_errors(root):
        for release in RELEASES:
            if not recipes or release.recipe in recipes:
                _plan_release(root, release, draft)
    if draft.faults:
        raise RunError(
            "nothing was renamed:\n  " + "\n  ".join(draft.faults),
            hint="decide which side is right, move the other one away by hand and run again",
        )
    return RenamePlan(tuple(draft.actions), tuple(draft.warnings), tuple(draft.notes))


def apply_renames(plan: RenamePlan) -> int:
    """Carry out a plan; after a failure or a kill, planning and applying again completes it.

    Returns:
        Number of folders and files that were moved.

    Raises:
        RunError: A target appeared meanwhile, or the file system refused.
    """
    moved = 0
    for action in plan.actions:
        with os_errors(action.source):
            if action.target is None:
                _remove_if_empty(action.source)
                continue
            if os.path.lexists(action.target):
                raise RunError(
                    f"both {action.source} and {action.target} exist",
                    hint="run again to see the plan as things are now",
                )
            action.target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(action.source, action.target)
            moved += 1
    return moved


def _plan_release(root: Path, release: Release, draft: _Draft) -> None:
    home = root / release.recipe
    if os.path.lexists(home) and not home.is_dir():
        draft.faults.append(f"{home} is not a folder")
        return
    before = len(draft.actions), len(draft.faults)
    arriving = _plan_legacy(root, release, draft)
    _plan_flattening(release, home, arriving, draft)
    if (len(draft.actions), len(draft.faults)) == before:
        state = "is flat already" if (home / ADAPTER_CONFIG).exists() else "has nothing to rename"
        draft.notes.append(f"{release.recipe} {state}")


def _plan_legacy(root: Path, release: Release, draft: _Draft) -> tuple[Path, Path] | None:
    """Plan the move of a legacy folder; returns its present and its coming place."""
    source = root / release.legacy_path
    target = root / release.recipe / source.name
    arriving = None
    if os.path.lexists(source):
        if not source.is_dir() or source.is_symlink():
            draft.faults.append(f"{source} is not a plain folder")
        elif os.path.lexists(target):
            draft.faults.append(f"both {source} and {target} exist")
        elif links := _links_that_would_break(source):
            draft.faults += links
        else:
            arriving = source, target
            reason = f"published adapter of {release.recipe}, epoch {release.epoch}"
            draft.actions.append(Action("move", release.recipe, source, target, reason))
    for folder in (source.parent, source.parent.parent):
        if folder.is_dir() and not folder.is_symlink():
            rest = {entry.name for entry in folder.iterdir()}
            going = {
                action.source.name for action in draft.actions if action.source.parent == folder
            }
            if rest <= going:
                reason = "nothing is left in it"
                draft.actions.append(Action("remove empty", release.recipe, folder, None, reason))
    return arriving


def _plan_flattening(
    release: Release, home: Path, arriving: tuple[Path, Path] | None, draft: _Draft
) -> None:
    """Plan to move the contents of one `epoch_*` up, `adapter_config.json` last as the end mark."""
    epochs = {path: path for path in home.glob("epoch_*")} if home.is_dir() else {}
    if arriving is not None:
        epochs[arriving[1]] = arriving[0]
    flat = os.path.lexists(home / ADAPTER_CONFIG)
    adapters = []
    for path, place in sorted(epochs.items(), key=lambda item: _rank(item[0], release.epoch)):
        if not place.is_dir() or place.is_symlink():
            draft.warnings.append(f"{path} is not a plain folder and stays as it is")
        elif not any(place.iterdir()):
            reason = "nothing is left in it"
            draft.actions.append(Action("remove empty", release.recipe, path, None, reason))
        elif not (place / ADAPTER_CONFIG).is_file():
            draft.warnings.append(f"{path} holds no {ADAPTER_CONFIG} and stays as it is")
        else:
            adapters.append(path)
    if flat:
        if adapters:
            rest = ", ".join(map(str, adapters))
            draft.warnings.append(f"{home} holds an adapter already; {rest} stays beside it")
        return
    if not adapters:
        return
    chosen, *others = adapters
    if others:
        left = ", ".join(path.name for path in others)
        draft.warnings.append(f"{home}: {chosen.name} is taken, {left} stays as it is")
    _plan_contents(release.recipe, chosen, epochs[chosen], draft)


def _plan_contents(recipe: str, folder: Path, place: Path, draft: _Draft) -> None:
    """Plan to move everything in `folder`, which lies at `place` now, one level up."""
    home = folder.parent
    if links := _links_that_would_break(place):
        draft.faults += links
        return
    entries = sorted(place.iterdir(), key=lambda entry: (entry.name == ADAPTER_CONFIG, entry.name))
    for entry in entries:
        source, target = folder / entry.name, home / entry.name
        if os.path.lexists(target):
            draft.faults.append(f"both {entry} and {target} exist")
        reason = f"{home.name} keeps its adapter at the top"
        draft.actions.append(Action("move", recipe, source, target, reason))
    draft.actions.append(Action("remove empty", recipe, folder, None, "nothing is left in it"))


def _rank(path: Path, published: int) -> tuple[int, int, str]:
    """Sort key of epoch folders: the published one, then by number, then other names."""
    number = path.name.removeprefix("epoch_")
    if not number.isdecimal():
        return 2, 0, path.name
    return (0 if int(number) == published else 1), int(number), path.name


def _links_that_would_break(folder: Path) -> list[str]:
    """Relative links inside `folder` that lead out of it."""
    broken = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not os.path.isabs(os.readlink(path)):
            goal = os.path.normpath(path.parent.relative_to(folder) / os.readlink(path))
            if goal.split(os.sep)[0] == "..":
                broken.append(
                    f"{path} is a relative link that leads out of {folder} and would break"
                )
    return broken


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
