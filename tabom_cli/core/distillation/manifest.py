"""The JSON beside a trajectory file that says how it was made. Knows no tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tabom_cli.core import rundir
from tabom_cli.core.data.prompts import PromptReport
from tabom_cli.core.data.records import SCHEMA_VERSION, stable_hash
from tabom_cli.core.data.writer import Identity
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.distillation.jobs import Job, Shard
from tabom_cli.core.errors import DataError, RunError

_SAME = ("verifier", "max_prompt_length")
"""Settings that change rows and that no row records."""


def manifest_path(output: Path) -> Path:
    """`trajectories.jsonl` has `trajectories.manifest.json` beside it."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.manifest.json")


def read_manifest(output: Path) -> Mapping[str, Any] | None:
    """The manifest beside a trajectory file, None when there is none.

    Raises:
        DataError: The file there is no manifest of a distillation.
    """
    place = manifest_path(output)
    if not place.is_file():
        return None
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{place}: not JSON: {error}") from error
    if not isinstance(values, dict) or "all_ids_hash" not in values:
        raise DataError(f"{place}: not a manifest of tabom distill")
    return values


def decode_of(output: Path) -> DecodeConfig | None:
    """The decode settings in the manifest beside a trajectory file, None when there is none.

    Raises:
        DataError: The manifest cannot be read, or is of another version of the settings.
    """
    values = ((read_manifest(output) or {}).get("distill") or {}).get("decode")
    if values is None:
        return None
    try:
        return DecodeConfig.model_validate(values, strict=False)
    except ValidationError as error:
        raise DataError(
            f"{manifest_path(output)}: decode settings of another version",
            hint="move the manifest away to leave them out of the statistics",
        ) from error


def refuse_other_settings(output: Path, config: DistillConfig) -> None:
    """Refuse to go on with rows that were cut or judged in another way; rows themselves do not say.

    Args:
        output: A file that holds rows.
        config: The distill section of this run.

    Raises:
        RunError: The manifest beside the file says other settings.
    """
    manifest = read_manifest(output) or {}
    old, new = manifest.get("distill") or {}, config.model_dump(mode="json")
    other = [
        f"{key} is {old[key]!r}, this run has {new[key]!r}"
        for key in _SAME
        if key in old and old[key] != new[key]
    ]
    if other:
        raise RunError(
            f"{output}: the rows there were made otherwise: {'; '.join(other)}",
            hint="choose another output, move the file away, or go back to the settings it had",
        )


def ids_hash(jobs: Sequence[Job]) -> str:
    """Hash of the row ids in order: equal for equal sets of rows."""
    return stable_hash([job.id for job in jobs])


def write_manifest(
    output: Path,
    *,
    status: Literal["running", "complete"],
    config: DistillConfig,
    identity: Identity,
    prompts: PromptReport,
    num_cut_prompts: int,
    jobs: Sequence[Job],
    shard: Shard | None,
    all_jobs: Sequence[Job],
    seed: int,
    command: Sequence[str],
    results: Mapping[str, Any],
) -> None:
    """Write the manifest, whole or not at all.

    Args:
        output: Trajectory file; hashed when complete.
        status: `running` until all rows are there.
        config: The distill section.
        identity: Model, adapter and hashes that the rows share.
        prompts: Counts of the prompts.
        num_cut_prompts: Prompts that lost their end to `max_prompt_length`.
        jobs: All rows that belong into the file.
        shard: Which part of `all_jobs` those are; None for all of them.
        all_jobs: All rows of all parts, in order; `tabom data merge` proves that they are there.
        seed: The run's seed.
        command: Command line.
        results: Counts and rates.

    Raises:
        RunError: The disk is full or the place cannot be written.
    """
    extra = {
        "status": status,
        "schema_version": SCHEMA_VERSION,
        "file": output.name,
        "sha256": rundir.file_sha256(output) if status == "complete" else None,
        "model": identity.model,
        "adapter": identity.adapter,
        "decode_hash": identity.decode_hash,
        "template_hash": identity.template_hash,
        "distill": config.model_dump(mode="json"),
        "num_prompts": prompts.num_prompts,
        "num_duplicate_prompts": prompts.num_duplicates,
        "num_prompts_without_reference": prompts.num_without_reference,
        "num_bad_prompts": prompts.num_bad,
        "bad_prompts": dict(prompts.bad),
        "num_cut_prompts": num_cut_prompts,
        "num_prompts_not_drawn": prompts.num_sampled_out,
        "contamination": {
            "checked": dict(prompts.checked),
            "found": dict(prompts.contaminated),
            "left_out": prompts.contaminated_left_out,
        },
        "weights_hash": identity.weights_hash,
        "ids_hash": ids_hash(jobs),
        "num_rows": len(jobs),
        "shard": None if shard is None else {"index": shard.index, "count": shard.count},
        "all_ids_hash": ids_hash(all_jobs),
        "num_all_rows": len(all_jobs),
        **results,
    }
    rundir.write_json_atomic(
        manifest_path(output), rundir.manifest(command=command, seed=seed, extra=extra)
    )
