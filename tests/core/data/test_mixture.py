"""Several trajectory files in one recipe: weights, limits, ids, assets and compressed files."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from tabom_cli import assets
from tabom_cli.core.data import lines
from tabom_cli.core.data.config import DataConfig, DataFile, GenerateConfig
from tabom_cli.core.data.mixture import read_mixture
from tabom_cli.core.data.trajectory import Trajectory
from tabom_cli.core.errors import DataError


def row(row_id: str, response: str = "7", verdict: str = "correct") -> dict[str, object]:
    made = Trajectory(
        id=row_id,
        group_id=row_id,
        prompt=f"prompt {row_id}",
        response=response,
        response_token_ids=[5, 6],
        decoding_order=[1, 0],
        verdict=verdict,  # type: ignore[arg-type]
    )
    return made.model_dump(mode="json")


def write(path: Path, rows: list[dict[str, object]]) -> str:
    text = "".join(json.dumps(values) + "\n" for values in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


def ids_of(config: DataConfig) -> list[str]:
    rows, _ = read_mixture(config, objective="nelbo", family=None, needs_order=True)
    return [found.id for found in rows]


def test_files_come_one_after_the_other_each_with_its_own_limit(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [row("a"), row("b"), row("c")])
    second = write(tmp_path / "b.jsonl.gz", [row("d"), row("e", verdict="wrong"), row("f")])
    config = DataConfig(
        path=first,
        max_rows=2,
        verdicts=("correct",),
        more=({"path": second, "max_rows": 1}, str(tmp_path / "b.jsonl.gz")),  # type: ignore[arg-type]
    )
    rows, report = read_mixture(config, objective="nelbo", family=None, needs_order=True)
    assert [found.id for found in rows] == ["a", "b", "d", "f"]
    assert (report.num_lines, report.num_rows, report.num_known) == (2 + 1 + 3, 4, 1)
    assert report.dropped == {"of verdict wrong": 1, "known from another file": 1}
    assert report.num_dropped == 2


def test_rows_that_failed_their_check_are_warned_about_unless_a_filter_is_set(
    tmp_path: Path,
) -> None:
    kinds = ("correct", "wrong", "truncated", "truncated", "unverified")
    path = write(tmp_path / "a.jsonl", [row(str(n), verdict=v) for n, v in enumerate(kinds)])

    def warnings(verdicts: tuple[str, ...] | None) -> list[str]:
        config = DataConfig(path=path, verdicts=verdicts)
        return read_mixture(config, objective="nelbo", family=None, needs_order=True)[1].warnings()

    (text,) = warnings(None)
    assert text.startswith("3 of 5 rows failed their check (2 truncated, 1 wrong)")
    assert warnings(("correct",)) == warnings(("correct", "wrong")) == []


def test_the_same_id_with_another_answer_gets_an_id_of_its_own(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{name}.jsonl", [row("a", response=name), row(name)])
        for name in ("x", "y", "z")
    ]
    config = DataConfig(path=paths[0], more=tuple(DataFile(path=path) for path in paths[1:]))
    assert ids_of(config) == ["a", "x", "a~2", "y", "a~3", "z"]


def test_weights_repeat_rows_and_take_a_fixed_share(tmp_path: Path) -> None:
    names = [f"r{number}" for number in range(1000)]
    path = write(tmp_path / "a.jsonl", [row(name) for name in names])
    half = ids_of(DataConfig(path=path, weight=0.5))
    # 1000 fair draws: three standard deviations are 47.
    assert abs(len(half) - 500) < 48
    assert half == ids_of(DataConfig(path=path, weight=0.5))
    assert set(half) <= set(ids_of(DataConfig(path=path, weight=0.75)))
    more = ids_of(DataConfig(path=path, weight=2.5))
    assert len(set(more)) == len(more) == 2000 + len(half)
    counts = Counter(name.partition("~")[0] for name in more)
    assert {name for name, count in counts.items() if count == 3} == set(half)
    rows, report = read_mixture(
        DataConfig(path=path, weight=0.5), objective="nelbo", family=None, needs_order=False
    )
    assert report.dropped == {"left out by their weight": 1000 - len(rows)}


def test_assets_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "shipped.jsonl.gz", [row("a")])
    monkeypatch.setattr(lines, "asset_path", lambda name: tmp_path / name)
    assert ids_of(DataConfig(path="asset:shipped.jsonl.gz")) == ["a"]
    with pytest.raises(DataError, match=r"asset:none\.jsonl: no such file ships with tabom"):
        ids_of(DataConfig(path="asset:none.jsonl"))
    assert assets.asset_path("tiny") == assets.tiny_path()


def test_a_missing_second_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "damaged.jsonl"
    path.write_text("{")
    config = DataConfig(path=str(path), more=(str(tmp_path / "none.jsonl"),))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none\.jsonl: no such trajectory file"):
        ids_of(config)


def test_a_cut_off_archive_is_an_error_not_a_shorter_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write(path, [row(f"r{number}") for number in range(200)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged or cut off"):
        ids_of(DataConfig(path=str(path)))


def test_generated_problems_are_not_mixed() -> None:
    generate = GenerateConfig(tasks=("countdown",), num_problems=3)
    with pytest.raises(ValidationError, match="more and weight need path"):
        DataConfig(generate=generate, more=("a.jsonl",))  # type: ignore[arg-type]
