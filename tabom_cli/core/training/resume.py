"""Which run a command continues: `--resume auto|never|PATH`. Reads manifests, loads no tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tabom_cli.core.errors import RunError
from tabom_cli.core.rundir import RunDir, RunInfo, find_runs


@dataclass(frozen=True)
class Resume:
    """A run to continue.

    Attributes:
        run: Its folder.
        state: The state to start from; None when it was killed before the first one.
    """

    run: RunDir
    state: Path | None


def choose(
    how: str, *, output_dir: str, recipe_name: str, recipe_hash: str, force: bool
) -> Resume | None:
    """The run to continue, None for a new one.

    Args:
        how: `auto`, `never`, or the path of a run folder or of one of its states.
        output_dir: Where runs are.
        recipe_name: Runs of this recipe are looked at.
        recipe_hash: `Recipe.training_hash()`; `auto` wants it equal, a path refuses another one.
        force: Continue a run of a changed recipe all the same.

    Raises:
        RunError: The named run does not exist, is finished, or was started by another recipe.
    """
    if how == "never":
        return None
    if how == "auto":
        fitting = unfinished(output_dir, recipe_name, recipe_hash)
        return _newest_state(fitting[0].run) if fitting else None
    path = Path(how)
    state = path if path.parent.name == "state" else None
    run = RunDir(path.parent.parent if state else path)
    if not run.manifest.is_file():
        raise RunError(
            f"{how} is not a run folder: {run.manifest} is missing", "give train_<timestamp>"
        )
    if run.finished:
        raise RunError(
            f"{run.path} is finished: {run.final} exists", "start a new run without --resume"
        )
    info = next(
        (i for i in find_runs(run.path.parent.parent, run.path.parent.name) if i.run == run), None
    )
    if info and info.recipe_hash != recipe_hash and not force:
        raise RunError(
            f"{run.path} was started by a recipe that trains otherwise "
            f"(hash {info.recipe_hash}, now {recipe_hash})",
            hint=f"compare with {run.recipe}; --force continues all the same",
        )
    if state is not None and not state.is_dir():
        raise RunError(f"{state} does not exist", f"there are {[p.name for p in run.states()]}")
    return Resume(run, state) if state else _newest_state(run)


def unfinished(output_dir: str, recipe_name: str, recipe_hash: str) -> list[RunInfo]:
    """Unfinished runs of exactly this recipe, newest first."""
    return [
        info
        for info in find_runs(output_dir, recipe_name)
        if not info.finished and info.recipe_hash == recipe_hash
    ]


def _newest_state(run: RunDir) -> Resume:
    states = run.states()
    return Resume(run, states[-1] if states else None)
