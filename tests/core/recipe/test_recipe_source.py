"""The YAML reader: numbers as authors mean them, line numbers, and faults that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tabom_cli.core.errors import EXIT_USAGE, RecipeError
from tabom_cli.core.recipe.source import parse_value, read_yaml


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.5e-3", 1.5e-3),
        ("2E5", 2e5),
        ("-1e+2", -100.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("null", None),
        ("true", True),
        ("1e", "1e"),
        ("e4", "e4"),
        ("1-4", "1-4"),
        ("'1e-4'", "1e-4"),
        ("[1e-4, 2]", [1e-4, 2]),
        ("{steps: 4}", {"steps": 4}),
        ("", None),
    ],
)
def test_numbers_are_read_as_their_author_means_them(text: str, value: object) -> None:
    read = parse_value(text)
    assert read == value
    assert type(read) is type(value)


def test_every_key_remembers_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "# head\nname: x\n\nmodel:\n  path: tiny\n  init: random\nseed: 3\n")
    source = read_yaml(path)
    assert source.values == {"name": "x", "model": {"path": "tiny", "init": "random"}, "seed": 3}
    assert source.lines == {
        ("name",): 2,
        ("model",): 4,
        ("model", "path"): 5,
        ("model", "init"): 6,
        ("seed",): 7,
    }
    assert source.where(("model", "init")) == f"{path}:6"
    assert source.where(("model", "absent")) == f"{path}:4"
    assert source.where(("absent",)) == f"{path}:1"


def test_a_key_written_twice_is_a_fault_with_its_path_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\nmodel:\n  path: a\n  path: b\nname: y\n")
    assert read_yaml(path).faults == [
        f"{path}:4: key 'model.path' is written twice",
        f"{path}:5: key 'name' is written twice",
    ]


def test_keys_inside_lists_have_lines_and_are_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path, "more:\n  - path: a\n    weight: 1\n  - path: b\n    path: c\n")
    source = read_yaml(path)
    assert source.values == {"more": [{"path": "a", "weight": 1}, {"path": "c"}]}
    assert source.where(("more", "0", "weight")) == f"{path}:3"
    assert source.where(("more", "1", "absent")) == f"{path}:4"
    assert source.faults == [f"{path}:5: key 'more.1.path' is written twice"]


def test_a_key_that_is_no_word_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path, "name: x\n? [a, b]\n: 1\n")
    (fault,) = read_yaml(path).faults
    assert fault.startswith(f"{path}:2: keys must be")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: caf\xe9\n", "is not UTF-8 text (byte 9)"),
        (b"- a\n- b\n", ":1: a recipe is a mapping of sections"),
        (b"just words\n", ":1: a recipe is a mapping of sections"),
        (b"", ":1: a recipe is a mapping of sections"),
        (b"name: x\nseed: 1\nmodel: [tiny\ndata: y\n", ":4: not valid YAML"),
        (b"name: x\nmodel: a: b\n", ":2: not valid YAML"),
        (b"name: x\n\tseed: 1\n", ":2: not valid YAML"),
        (b"name: *nothing\n", ":1: not valid YAML"),
        (b"name: !!python/object:os.system x\n", ":1: not valid YAML"),
        (b"name: x\nseed: !secret 3\n", ":2: not valid YAML"),
        (b"name: x\nname2: \x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(RecipeError) as caught:
        read_yaml(path)
    assert f"{path}" in caught.value.message
    assert expected in caught.value.message
    assert caught.value.exit_code == EXIT_USAGE


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        read_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(RecipeError, match="cannot read"):
        read_yaml(tmp_path)


def test_anchors_and_block_text_work(tmp_path: Path) -> None:
    text = "a: &one {steps: 3}\nb: *one\nc: >-\n  two\n  words\n"
    assert read_yaml(write(tmp_path, text)).values == {
        "a": {"steps": 3},
        "b": {"steps": 3},
        "c": "two words",
    }


def test_an_alias_that_holds_itself_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not valid YAML"):
        read_yaml(write(tmp_path, "name: &loop\n  again: *loop\n"))
