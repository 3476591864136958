"""JSON lines that a kill leaves readable."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tabom_cli.core.errors import RunError
from tabom_cli.core.jsonl import append_jsonl, truncate_jsonl


def read(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_on_disk_as_soon_as_write_returns(tmp_path: Path) -> None:
    with append_jsonl(tmp_path / "new" / "m.jsonl") as writer:
        writer.write({"step": 1})
        assert (tmp_path / "new" / "m.jsonl").read_text() == '{"step": 1}\n'
        writer.write({"step": 2, "text": "\u2028 \u00e9\n"})
    assert read(tmp_path / "new" / "m.jsonl") == [
        {"step": 1},
        {"step": 2, "text": "\u2028 \u00e9\n"},
    ]
    writer.close()


@pytest.mark.parametrize(
    ("before", "expected", "cut"),
    [
        ('{"a": 1}\n{"a": 2', [{"a": 1}, {"a": 9}], 7),
        ('{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}, {"a": 9}], 0),
        ('{"a": 1}\n', [{"a": 1}, {"a": 9}], 0),
        ('{"a"', [{"a": 9}], 4),
        ("", [{"a": 9}], 0),
        ('{"a": 1}\n' + '{"a": "' + "x" * 200_000, [{"a": 1}, {"a": 9}], 200_007),
    ],
)
def test_a_torn_last_line_is_repaired_on_opening(
    tmp_path: Path, before: str, expected: list[object], cut: int
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(before)
    with append_jsonl(path) as writer:
        assert writer.repaired_bytes == cut
        writer.write({"a": 9})
    assert read(path) == expected


def test_nan_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with append_jsonl(tmp_path / "m.jsonl") as writer, pytest.raises(ValueError, match="JSON"):
        writer.write({"loss": float("nan")})
    assert (tmp_path / "m.jsonl").read_bytes() == b""


def test_a_line_that_does_not_fit_is_taken_back_and_shorter_ones_still_go(tmp_path: Path) -> None:
    source = """
        import resource, sys
        from tabom_cli.core.errors import RunError
        from tabom_cli.core.jsonl import append_jsonl
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        with append_jsonl(sys.argv[1]) as writer:
            writer.write({"step": 1})
            try:
                writer.write({"step": "x" * 500})
            except RunError as error:
                print(error.message)
            writer.write({"step": 3})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), str(tmp_path / "m.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert "File too large" in done.stdout
    assert read(tmp_path / "m.jsonl") == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize(("keep", "left"), [(0, 0), (1, 1), (2, 2)])
def test_truncation_keeps_the_first_lines(tmp_path: Path, keep: int, left: int) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    truncate_jsonl(path, keep)
    assert read(path) == [{"a": 1}, {"a": 2}][:left]


def test_truncation_to_more_lines_than_there_are_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    with pytest.raises(RunError, match="1 complete lines, 2 were expected"):
        truncate_jsonl(path, 2)
    assert path.read_text() == '{"a": 1}\n{"a": 2}'


def test_truncating_a_file_that_was_never_written_to_nothing_is_fine(tmp_path: Path) -> None:
    truncate_jsonl(tmp_path / "m.jsonl", 0)
    assert list(tmp_path.iterdir()) == []
