"""Appending rows: what survives a kill and a full disk, and what is refused."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tabom_cli.core.data.trajectory import Identity, Trajectory, TrajectoryWriter, read_trajectories
from tabom_cli.core.data.writer import find_rows, merge_rows
from tabom_cli.core.errors import DataError, RunError

IDENTITY = Identity(model="m@1", adapter=None, decode_hash="d", template_hash="t")


def made(row_id: str, **changes: object) -> Trajectory:
    values: dict[str, object] = {
        "id": row_id,
        "group_id": "g",
        "prompt": "p",
        "response": "r" * 50,
        "model": "m@1",
        "decode_hash": "d",
        "template_hash": "t",
        "verdict": "wrong",
        "seed": len(row_id),
    }
    return Trajectory(**values | changes)  # type: ignore[arg-type]


def ids(path: Path) -> list[str]:
    return [row.id for row in read_trajectories(path)[0]]


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("fsync", [False, True])
def test_rows_are_in_the_file_when_write_returns(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "deep" / "t.jsonl"
    with TrajectoryWriter(path, IDENTITY, fsync=fsync) as writer:
        writer.write(made("a"))
        assert ids(path) == ["a"]
        writer.write(made("bb"))
        assert ids(path) == ["a", "bb"]
        assert writer.seeds == {"a": 1, "bb": 2}
    with TrajectoryWriter(path, IDENTITY) as writer:
        assert writer.seeds == {"a": 1, "bb": 2}
        writer.write(made("c"))
    assert ids(path) == ["a", "bb", "c"]


def test_every_cut_in_the_last_row_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TrajectoryWriter(path, IDENTITY) as writer:
        writer.write(made("a"))
        first = path.stat().st_size
        writer.write(made("b"))
    whole = path.read_bytes()
    for size in (first + 1, first + 20, len(whole) - 2):
        path.write_bytes(whole[:size])
        with TrajectoryWriter(path, IDENTITY) as writer:
            assert writer.repaired_bytes == size - first
            assert list(writer.seeds) == ["a"]
            writer.write(made("b"))
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    with TrajectoryWriter(path, IDENTITY) as writer:
        assert writer.repaired_bytes == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "other",
    [{"model": "m@2"}, {"adapter": "x"}, {"decode_hash": "e"}, {"template_hash": None}],
)
def test_rows_made_otherwise_are_never_mixed(tmp_path: Path, other: dict[str, str]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(made("a").model_dump() | other) + "\n")
    before = path.read_bytes()
    with pytest.raises(RunError, match=f"{path}:1: the rows there were made otherwise"):
        TrajectoryWriter(path, IDENTITY)
    path.unlink()
    with TrajectoryWriter(path, IDENTITY) as writer, pytest.raises(RunError, match="another conf"):
        writer.write(made("a", **other))
    assert path.read_bytes() == b""
    path.write_bytes(before)


def test_files_of_others_and_double_ids_are_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    for rows, text in (
        (['{"prompt": "p", "response": "r"}'], ":1: not a row that tabom wrote"),
        ([made("a").model_dump_json()] * 2, ":2: row id 'a' is there twice"),
        (["nonsense"], ":1: not JSON"),
    ):
        path.write_text("\n".join(rows) + "\n")
        before = path.read_bytes()
        with pytest.raises(DataError, match=text):
            TrajectoryWriter(path, IDENTITY)
        assert path.read_bytes() == before
    path.write_text("")
    with TrajectoryWriter(path, IDENTITY) as writer:
        writer.write(made("a"))
        with pytest.raises(RunError, match="already in the file"):
            writer.write(made("a"))


def test_two_writers_of_one_file_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TrajectoryWriter(path, IDENTITY) as writer:
        with pytest.raises(RunError, match="another process"):
            TrajectoryWriter(path, IDENTITY)
        writer.write(made("a"))
    writer.close()
    with TrajectoryWriter(path, IDENTITY) as again:
        again.write(made("b"))
    assert ids(path) == ["a", "b"]


def test_a_full_disk_is_a_run_error_and_keeps_every_row(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TrajectoryWriter(path, IDENTITY) as writer:
        writer.write(made("a"))
        size = path.stat().st_size
        with largest_file(size + 100), pytest.raises(RunError):
            writer.write(made("b"))
        assert path.stat().st_size == size
        assert list(writer.seeds) == ["a"]
        writer.write(made("b"))
    assert ids(path) == ["a", "b"]


def test_rows_of_several_files_merge_in_the_given_order_or_not_at_all(tmp_path: Path) -> None:
    files = [tmp_path / "x.jsonl", tmp_path / "y.jsonl"]
    for path, names in zip(files, (["a", "c"], ["b"]), strict=True):
        with TrajectoryWriter(path, IDENTITY) as writer:
            for name in names:
                writer.write(made(name))
    places = {p.id: p for path in files for p in find_rows(path, IDENTITY)}
    assert {p.verdict for p in places.values()} == {"wrong"}
    before = files[0].read_bytes()
    with largest_file(len(before)), pytest.raises(RunError):
        merge_rows(files[0], [places[name] for name in "cba"])
    assert files[0].read_bytes() == before
    merge_rows(files[0], [places[name] for name in "cba"])
    assert ids(files[0]) == ["c", "b", "a"]
    assert not list(tmp_path.glob(".*merging*"))


def test_a_torn_last_row_of_a_running_process_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(made("a").model_dump_json() + "\n" + made("b").model_dump_json()[:40])
    assert [place.id for place in find_rows(path, IDENTITY)] == ["a"]
    assert find_rows(tmp_path / "none.jsonl", IDENTITY) == []
