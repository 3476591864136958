"""Merging parts of a job array: the file of the undivided run, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distill_toys import toy_config, toy_model

from tabom_cli.core.data.trajectory import read_trajectories
from tabom_cli.core.distillation.jobs import Shard
from tabom_cli.core.distillation.merge import merge
from tabom_cli.core.distillation.service import distill
from tabom_cli.core.errors import DataError, RunError

MODEL = toy_model()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    made = []
    for index in (1, 2, 3):
        shard = Shard(index, 3)
        made.append(shard.path(folder / "t.jsonl"))
        distill(MODEL, toy_config(num_problems=5), output=made[-1], seed=3, shard=shard)
    return made


def copies(parts: list[Path], folder: Path) -> list[Path]:
    for part in parts:
        manifest = part.with_name(part.name.replace(".jsonl", ".manifest.json"))
        for path in (part, manifest):
            (folder / path.name).write_bytes(path.read_bytes())
    return [folder / part.name for part in parts]


def test_parts_merge_to_the_bytes_of_the_undivided_run(parts: list[Path], tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "merged.jsonl"
    distill(MODEL, toy_config(num_problems=5), output=whole, seed=3)
    report = merge([parts[2], parts[0], parts[1], parts[0]], output, command=["tabom"])
    assert output.read_bytes() == whole.read_bytes()
    assert (report.num_rows, report.unproven) == (10, ())
    manifest = json.loads((tmp_path / "merged.manifest.json").read_text())
    undivided = json.loads((tmp_path / "whole.manifest.json").read_text())
    for key in ("ids_hash", "all_ids_hash", "num_rows", "sha256", "model", "distill", "verdicts"):
        assert manifest[key] == undivided[key], key
    assert manifest["proven_complete"]
    assert len(manifest["merged_from"]) == 3
    # What was merged can itself be resumed, and nothing is made again.
    again = distill(MODEL, toy_config(num_problems=5), output=output, seed=3)
    assert again.num_made == 0


def test_a_missing_part_is_named_with_its_rows(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="part 2 of 3 missing: 3 of 10 rows"):
        merge([parts[0], parts[2]], tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()


def test_lost_double_and_cut_rows_are_found(parts: list[Path], tmp_path: Path) -> None:
    first, second, third = copies(parts, tmp_path)
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[:-1]))
    second.write_bytes(second.read_bytes() + lines[0])
    with pytest.raises(DataError) as caught:
        merge([first, second, third], tmp_path / "m.jsonl")
    row_id = json.loads(lines[0])["id"]
    assert f"row id '{row_id}' is in {first.name} and {second.name}" in caught.value.message
    assert "its 3 rows are not the 4 that its manifest promises" in caught.value.message
    first.write_bytes(b"".join(lines)[:-9])
    with pytest.raises(DataError, match="the last row is cut off"):
        merge([first, third], tmp_path / "m.jsonl")


def test_an_unfinished_part_is_refused(parts: list[Path], tmp_path: Path) -> None:
    files = copies(parts, tmp_path)
    place = tmp_path / files[1].name.replace(".jsonl", ".manifest.json")
    place.write_text(json.dumps(json.loads(place.read_text()) | {"status": "running"}))
    with pytest.raises(DataError, match="not finished"):
        merge(files, tmp_path / "m.jsonl")


def test_files_of_other_models_are_refused(parts: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    distill(toy_model("other"), toy_config(), output=other, seed=3)
    with pytest.raises(RunError, match="made otherwise"):
        merge([parts[0], other], tmp_path / "m.jsonl")


def test_files_without_manifests_are_merged_but_not_proven(
    parts: list[Path], tmp_path: Path
) -> None:
    bare = [tmp_path / f"{number}.jsonl" for number in (1, 2)]
    for path, part in zip(bare, parts, strict=False):
        path.write_bytes(part.read_bytes())
    report = merge(bare, tmp_path / "m.jsonl")
    assert report.unproven == tuple(bare)
    ids = [row.id for row in read_trajectories(tmp_path / "m.jsonl")[0]]
    assert ids == [row.id for path in bare for row in read_trajectories(path)[0]]
    with pytest.raises(RunError, match="exists and is not overwritten"):
        merge(bare, tmp_path / "m.jsonl")
