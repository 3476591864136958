"""One file from what several processes, or several calls, wrote. Knows row places, not rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabom_cli.core.data.writer import Identity, RowPlace, find_rows, lock_path, merge_rows
from tabom_cli.core.distillation.jobs import Job
from tabom_cli.core.errors import RunError
from tabom_cli.core.files import exclusive_lock


def existing_shards(output: Path) -> list[Path]:
    """Shards `<output>.rank<r>` that lie beside the output, of this call or of an earlier one."""
    prefix = f"{output.name}.rank"
    if not output.parent.is_dir():
        return []
    return sorted(
        path
        for path in output.parent.iterdir()
        if path.name.startswith(prefix) and path.name[len(prefix) :].isdecimal()
    )


def is_started(output: Path) -> bool:
    """Whether the output or a shard of it holds anything."""
    return any(
        path.is_file() and path.stat().st_size for path in (output, *existing_shards(output))
    )


def rows_elsewhere(output: Path, own: Path, identity: Identity) -> dict[str, int | None]:
    """Seeds by id of the complete rows in the output and its shards, without the file `own`."""
    files = [path for path in (output, *existing_shards(output)) if path != own]
    return {place.id: place.seed for path in files for place in find_rows(path, identity)}


def refuse_other_rows(output: Path, jobs: Sequence[Job], done: Mapping[str, int | None]) -> None:
    """Refuse to go on with rows of other prompts or samples, or that another seed made.

    A run that asks for more prompts or samples than the file has goes on; one that asks for fewer does not.

    Raises:
        RunError: A row that is there is none of this run, or has another seed than this run gives it.
    """
    ids = {job.id for job in jobs}
    foreign = [row_id for row_id in done if row_id not in ids]
    if foreign:
        raise RunError(
            f"{output}: {len(foreign)} rows there are of prompts or samples that this run does not have, "
            f"'{foreign[0]}' first",
            hint="choose another output, move the file away, or go back to the prompts it had",
        )
    other = [job.id for job in jobs if job.id in done and done[job.id] != job.seed]
    if other:
        raise RunError(
            f"{output}: {len(other)} rows there were made with another seed, '{other[0]}' first",
            hint="go back to the seed it had, choose another output or move the file away",
        )


def finish_file(output: Path, jobs: Sequence[Job], identity: Identity) -> Counter[str]:
    """Bring all rows into `output` in the order of the jobs and remove the shards.

    A kill leaves either the files as they were or the whole output beside shards that the next call
    removes.

    Args:
        output: Trajectory file.
        jobs: All rows that must be there.
        identity: What the rows have in common.

    Returns:
        Rows of the file by verdict.

    Raises:
        RunError: Rows are missing, or the file cannot be written.
    """
    with exclusive_lock(lock_path(output)):
        shards = existing_shards(output)
        found: dict[str, RowPlace] = {}
        for path in (output, *shards):
            for place in find_rows(path, identity):
                found.setdefault(place.id, place)
        missing = [job.id for job in jobs if job.id not in found]
        if missing:
            raise RunError(
                f"{output}: {len(missing)} of {len(jobs)} rows are missing, '{missing[0]}' first",
                hint="run the same command again: it makes the missing rows",
            )
        places = [found[job.id] for job in jobs]
        if shards or places != list(found.values()):
            merge_rows(output, places)
            for shard in shards:
                shard.unlink()
                lock_path(shard).unlink(missing_ok=True)
        return Counter(str(place.verdict) for place in places)
