"""One file from the parts of a job array, with the proof that no row is missing or double.

Knows trajectory files and the manifests beside them; the rows themselves are copied byte for byte.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabom_cli.core import rundir
from tabom_cli.core.data.lines import Faults, read_objects
from tabom_cli.core.data.records import stable_hash
from tabom_cli.core.data.writer import Identity, RowPlace, find_rows, lock_path, merge_rows
from tabom_cli.core.distillation.manifest import manifest_path, read_manifest
from tabom_cli.core.errors import DataError, RunError
from tabom_cli.core.files import exclusive_lock

_SHOWN = 10


@dataclass(frozen=True)
class MergeReport:
    """What was joined.

    Attributes:
        output: The merged file.
        num_rows: Rows in it.
        verdicts: Rows by verdict.
        unproven: Files without a manifest: nobody can say whether rows of theirs are missing.
    """

    output: Path
    num_rows: int
    verdicts: Mapping[str, int]
    unproven: tuple[Path, ...]


@dataclass(frozen=True)
class _Part:
    path: Path
    places: list[RowPlace]
    manifest: Mapping[str, Any] | None

    @property
    def shard(self) -> tuple[int, int]:
        shard = (self.manifest or {}).get("shard") or {"index": 1, "count": 1}
        return shard["index"], shard["count"]


def merge(files: Sequence[Path], output: Path, *, command: Sequence[str] = ()) -> MergeReport:
    """Join trajectory files of one model and decode configuration.

    Parts of a job array come out in the order of the undivided run and are proven against the ids that
    their manifests promise; other files follow one another.

    Args:
        files: At least one; given twice counts once.
        output: New file; it and its manifest are complete or not there.
        command: Command line, for the manifest.

    Raises:
        DataError: An id twice, an unfinished file, a missing part, or rows that are not those that the
            manifest promises; all faults at once.
        RunError: The rows were made by different models or settings, or the output exists.
    """
    paths = list(dict.fromkeys(path.resolve() for path in files))
    if not paths:
        raise DataError("nothing to merge: no files")
    if output.exists():
        raise RunError(f"{output} exists and is not overwritten", "choose another --output")
    identity = _identity_of(paths)
    parts = [_Part(path, find_rows(path, identity), read_manifest(path)) for path in paths]
    faults = [*_doubles(parts), *(fault for part in parts for fault in _own_faults(part))]
    groups: dict[str, list[_Part]] = {}
    for part in parts:
        key = part.manifest["all_ids_hash"] if part.manifest else str(part.path)
        groups.setdefault(key, []).append(part)
    if not faults:
        faults += [fault for group in groups.values() for fault in _group_faults(group)]
    if faults:
        rest = [f"and {len(faults) - _SHOWN} more faults"] if len(faults) > _SHOWN else []
        raise DataError(
            "\n".join([*faults[:_SHOWN], *rest]),
            hint="nothing was written; run tabom distill --shard again for parts that are not whole",
        )
    places = [place for group in groups.values() for place in _in_order(group)]
    with exclusive_lock(lock_path(output)):
        merge_rows(output, places)
    verdicts = Counter(str(place.verdict) for place in places)
    _describe(output, parts, places, verdicts, command)
    unproven = tuple(part.path for part in parts if part.manifest is None)
    return MergeReport(output, len(places), dict(verdicts), unproven)


def _identity_of(paths: Sequence[Path]) -> Identity:
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such trajectory file")
        faults = Faults(path)
        for _, row in read_objects(path, faults):
            return Identity(**{key: row.get(key) for key in Identity.__dataclass_fields__})
        faults.raise_if_any()
    raise DataError(f"{paths[0]}: the file is empty")


def _doubles(parts: Sequence[_Part]) -> list[str]:
    seen: dict[str, Path] = {}
    faults = []
    for part in parts:
        for place in part.places:
            if place.id in seen:
                faults.append(
                    f"row id '{place.id}' is in {seen[place.id].name} and {part.path.name}"
                )
            seen[place.id] = part.path
    return faults


def _own_faults(part: _Part) -> list[str]:
    with part.path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        whole = stream.read() == b"\n"
    if not whole:
        return [f"{part.path}: the last row is cut off"]
    if part.manifest is None:
        return []
    if part.manifest["status"] != "complete":
        return [f"{part.path}: not finished ({len(part.places)} rows so far)"]
    ids = [place.id for place in part.places]
    if stable_hash(ids) != part.manifest["ids_hash"]:
        return [
            f"{part.path}: its {len(ids)} rows are not the {part.manifest['num_rows']} that "
            "its manifest promises"
        ]
    return []


def _group_faults(group: Sequence[_Part]) -> list[str]:
    manifest = group[0].manifest
    if manifest is None:
        return []
    counts = {part.shard[1] for part in group}
    if len(counts) > 1:
        divisions = ", ".join(str(count) for count in sorted(counts))
        return [f"parts of different divisions of one run: of {divisions}"]
    there = {part.shard[0] for part in group}
    missing = [index for index in range(1, counts.pop() + 1) if index not in there]
    if missing:
        names = ", ".join(map(str, missing))
        return [
            f"part{'s' if len(missing) > 1 else ''} {names} of {group[0].shard[1]} missing: "
            f"{manifest['num_all_rows'] - sum(len(part.places) for part in group)} of "
            f"{manifest['num_all_rows']} rows"
        ]
    ids = [place.id for place in _in_order(group)]
    if stable_hash(ids) != manifest["all_ids_hash"]:
        return [f"{len(ids)} rows are not the {manifest['num_all_rows']} of the undivided run"]
    return []


def _in_order(group: Sequence[_Part]) -> list[RowPlace]:
    """Rows as the undivided run has them: part i of n holds every n-th row from the i-th."""
    parts = sorted(group, key=lambda part: part.shard)
    longest = max(len(part.places) for part in parts)
    return [
        part.places[number]
        for number in range(longest)
        for part in parts
        if number < len(part.places)
    ]


def _describe(
    output: Path,
    parts: Sequence[_Part],
    places: Sequence[RowPlace],
    verdicts: Mapping[str, int],
    command: Sequence[str],
) -> None:
    """A manifest like that of the undivided run, with the parts it came from."""
    first = parts[0].manifest or {}
    ids_hash = stable_hash([place.id for place in places])
    kept = ("schema_version", "model", "adapter", "decode_hash", "template_hash", "weights_hash")
    proven = all(part.manifest is not None for part in parts)
    extra = {
        "status": "complete",
        "file": output.name,
        "sha256": rundir.file_sha256(output),
        **{key: first.get(key) for key in kept},
        "distill": first.get("distill"),
        "num_rows": len(places),
        "ids_hash": ids_hash,
        "shard": None,
        "all_ids_hash": ids_hash,
        "num_all_rows": len(places),
        "verdicts": dict(verdicts),
        "proven_complete": proven,
        "merged_from": [
            {"file": part.path.name, "sha256": rundir.file_sha256(part.path)} for part in parts
        ],
    }
    rundir.write_json_atomic(
        manifest_path(output),
        rundir.manifest(command=command, seed=first.get("seed"), extra=extra),
    )
