"""Trajectory files: the release's alias forms, our own rows, and every way a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tabom_cli.core.data.filters import keeps_method, resolve_method_filter
from tabom_cli.core.data.trajectory import (
    Trajectory,
    content_length,
    non_ltr_positions,
    read_trajectories,
)
from tabom_cli.core.errors import DataError

EXPECTED = json.loads((Path(__file__).parents[2] / "fixtures/data/expected.json").read_text())
LOADS = [(name, case) for name, entry in EXPECTED.items() for case in entry["loads"]]


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "prompt": "2+2?",
        "response": "4",
        "method": "entropy",
        "response_token_ids": [7, 8, 9],
        "decoding_order": [1, 0, -1],
        "non_ltr_positions": [1],
    }
    return {key: value for key, value in (values | changes).items() if value != "absent"}


def own_row(**changes: object) -> dict[str, object]:
    return row(schema_version=1, id="a", group_id="g") | changes


def fault(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read_trajectories(path, **options)  # type: ignore[arg-type]
    return caught.value.message


def test_expected_json_covers_every_fixture_file() -> None:
    assert len(LOADS) == 72
    assert {name for name, _ in LOADS} == {
        "mixed_aliases.jsonl",
        "dream_ling_coder.jsonl",
        "llada_judged.jsonl",
    }


@pytest.mark.parametrize(("name", "case"), LOADS)
def test_release_files_load_with_the_releases_counts_and_items(
    fixtures: Path, name: str, case: dict[str, object]
) -> None:
    objective = "tabom" if case["mask_schedule"] == "td" else "nelbo"
    method_filter = resolve_method_filter(case["local_data_method"], objective=objective)  # type: ignore[arg-type]
    assert method_filter == case["resolved"]
    rows, report = read_trajectories(
        fixtures / "data" / name,
        method_filter=method_filter,
        family=str(case["student_backend"]),
    )
    assert len(rows) == report.num_rows == case["count"]
    assert report.num_no_response == case["missing_response"]
    assert report.num_lines == EXPECTED[name]["lines"]
    dropped = report.num_no_prompt + report.dropped_methods.total()
    assert report.num_lines - dropped == case["count"]
    for ours, theirs in zip(rows, case.get("items", []), strict=bool(case.get("items"))):  # type: ignore[call-overload]
        assert ours.prompt == theirs["prompt"]
        assert ours.response == (theirs["response"] or "")
        assert ours.response_token_ids == theirs["response_token_ids"]
        assert ours.decoding_order == theirs["decoding_order"]
        assert ours.non_ltr_positions == (theirs["non_ltr_positions"] or [])
        assert ours.data_source == theirs["data_source"]


@pytest.mark.parametrize(
    ("raw", "prompt", "response"),
    [
        ({"prompt": "p", "response": "", "output": "o"}, "p", "o"),
        ({"instruction": "p", "output": "", "response": "r"}, "p", "r"),
        ({"question": "p", "gen_text": "", "answer": "", "output": "o", "response": "r"}, "p", "o"),
        ({"question": "x", "prompt": "p", "gen_text": "g"}, "p", ""),
        ({"messages": [{"role": "user", "content": "p"}], "question": "x", "answer": "y"}, "p", ""),
    ],
)
def test_the_first_alias_present_decides_and_empty_text_falls_through(
    tmp_path: Path, raw: dict[str, object], prompt: str, response: str
) -> None:
    rows, _ = read_trajectories(write_rows(tmp_path / "t.jsonl", raw))
    assert (rows[0].prompt, rows[0].response) == (prompt, response)


def test_ids_depend_on_content_and_not_on_the_line(tmp_path: Path) -> None:
    first, second = row(), row(prompt="3+3?")
    ids = [r.id for r in read_trajectories(write_rows(tmp_path / "a", first, second, first))[0]]
    swapped = [r.id for r in read_trajectories(write_rows(tmp_path / "b", second, first))[0]]
    assert swapped == [ids[1], ids[0]]
    assert ids[2] == f"{ids[0]}-2"
    groups = [r.group_id for r in read_trajectories(tmp_path / "a")[0]]
    assert groups[0] == groups[2] != groups[1]


def test_own_rows_round_trip_through_the_file(tmp_path: Path) -> None:
    made = Trajectory(
        id="a-0",
        group_id="a",
        prompt="p",
        prompt_token_ids=[1, 2],
        response="r",
        response_token_ids=[3, 4],
        decoding_order=[1, 0],
        decoding_entropy=[0.25, -1.0],
        verdict="wrong",
        reward=0.0,
        seed=2**62 + 1,
    )
    path = write_rows(tmp_path / "t.jsonl", made.model_dump(mode="json"))
    assert read_trajectories(path)[0] == [made]


@pytest.mark.parametrize("order", ["absent", None, [], [1, 0]])
def test_missing_and_short_orders_follow_the_setting(tmp_path: Path, order: object) -> None:
    path = write_rows(tmp_path / "t.jsonl", row(), row(prompt="q", decoding_order=order))
    state = "short: 2 of 3 items" if isinstance(order, list) and order else "missing"
    assert f"{path}:2: 'decoding_order' is {state}" in fault(path, needs_order=True)
    rows, report = read_trajectories(path, needs_order=True, on_missing_order="ltr")
    assert rows[1].decoding_order == [0, 1, 2]
    assert rows[1].non_ltr_positions == []
    assert report.num_order_ltr == 1
    rows, report = read_trajectories(path, needs_order=True, on_missing_order="drop")
    assert len(rows) == 1
    assert report.num_order_dropped == 1
    assert report.summary() == ["1 row without a full decoding_order: left out"]


def test_the_hint_for_a_missing_order_names_the_setting(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", row(decoding_order="absent"))
    with pytest.raises(DataError) as caught:
        read_trajectories(path, needs_order=True)
    assert "data.on_missing_order" in str(caught.value.hint)


def test_an_order_is_full_at_the_response_length(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", row(decoding_order=[1, 0]))
    rows, _ = read_trajectories(path, needs_order=True, response_length=2)
    assert rows[0].decoding_order == [1, 0]


def test_rows_without_ids_are_an_error_or_dropped_but_never_retokenised(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", row(), row(prompt="q", response_token_ids="absent"))
    for policy in ("error", "ltr"):
        assert ":2: 'response_token_ids' is missing" in fault(
            path, needs_ids=True, on_missing_order=policy
        )
    rows, report = read_trajectories(path, needs_ids=True, on_missing_order="drop")
    assert len(rows) == 1
    assert report.num_ids_dropped == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"response_token_ids": [1, 200, 3]}, "item 1 is 200: outside the vocabulary (0 to 199)"),
        ({"response_token_ids": [1, -1, 3]}, "item 1 is -1: outside the vocabulary"),
        ({"response_token_ids": [1, 2.5, 3]}, "'response_token_ids' item 1"),
        ({"response_token_ids": "1 2 3"}, "found a string"),
        ({"decoding_order": [0, 1, 2, 3]}, "'decoding_order' has 4 items for 3"),
        ({"decoding_order": [0, -2, 1]}, "'decoding_order' item 1 is -2"),
        ({"decoding_order": [0, True, 1]}, "'decoding_order' item 1"),
        ({"decoding_entropy": [0.1]}, "'decoding_entropy' has 1 items for 3"),
        ({"non_ltr_positions": [3]}, "'non_ltr_positions' leaves the response (0 to 2)"),
        ({"prompt": 17}, "'prompt' is a number, not text"),
        ({"response": ["4"]}, "'response' is a list, not text"),
        ({"prompt": "absent", "messages": "hello"}, "'messages' is not a list"),
        ({"method": 3}, "'method': input should be a valid string, found a number"),
    ],
)
def test_malformed_rows_are_named_with_file_and_line(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    path = write_rows(tmp_path / "t.jsonl", row(), row(**changes))
    message = fault(path, vocab_size=200)
    assert message.startswith(f"{path}:2: ")
    assert text in message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"verdct": "wrong"}, "unknown key 'verdct'"),
        ({"verdict": "fine"}, "'verdict'"),
        ({"schema_version": 9}, "schema_version 9: this tabom reads 1"),
        ({"decoding_entropy": [0.1, float("nan"), 0.2]}, "'decoding_entropy' item 1"),
        ({"prompt_token_ids": [500]}, "'prompt_token_ids' item 0 is 500"),
        ({"id": "a"}, "row id 'a' is there twice"),
    ],
)
def test_malformed_rows_of_our_own_format_are_refused(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    path = write_rows(tmp_path / "t.jsonl", own_row(), own_row(id="b") | changes)
    message = fault(path, vocab_size=200)
    assert message.startswith(f"{path}:2: ")
    assert text in message


def test_ten_faults_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", *(row(prompt=number) for number in range(13)))
    lines = fault(path).splitlines()
    assert len(lines) == 11
    assert lines[9].startswith(f"{path}:10: ")
    assert lines[10] == "and 3 more faults"


def test_a_file_cut_in_the_middle_of_a_line_is_called_truncated(tmp_path: Path) -> None:
    whole = (json.dumps(row()) + "\n").encode()
    path = tmp_path / "t.jsonl"
    path.write_bytes(whole + whole[:-20])
    assert f"{path}:2: the last line is cut off" in fault(path)
    text = json.dumps(row(prompt="\u4ef7\u683c"), ensure_ascii=False).encode()
    path.write_bytes(whole + text[:14])
    assert text[:14].endswith(b"\xe4\xbb")
    assert f"{path}:2: the last line is cut off" in fault(path)
    path.write_bytes(whole[:-1])
    assert len(read_trajectories(path)[0]) == 1


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(json.dumps(row()).encode() + b'\n{"prompt": "caf\xe9"}\n[1]\n{"a":}\n')
    lines = fault(path).splitlines()
    assert lines[0] == f"{path}:2: not UTF-8: byte 0xe9 at column 16"
    assert lines[1] == f"{path}:3: not a JSON object but a list"
    assert lines[2].startswith(f"{path}:4: not JSON")


def test_a_byte_order_mark_and_blank_lines_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n\n  \n")
    rows, report = read_trajectories(path)
    assert len(rows) == report.num_lines == 1


def test_a_missing_file_says_where_it_comes_from_and_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_trajectories(tmp_path / "no.jsonl", source="the data folder", recipe="dream_prm12k")
    assert caught.value.message == f"{tmp_path}/no.jsonl: no such trajectory file"
    assert "the data folder" in str(caught.value.hint)
    assert "tabom distill --recipe dream_prm12k" in str(caught.value.hint)


def test_empty_files_and_files_of_filtered_rows_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n")
    assert fault(path) == f"{path}: the file is empty"
    write_rows(path, row(method="maskgit_plus"), row(prompt=" "))
    message = fault(path, method_filter="entropy")
    assert "none of its 2 rows can be used" in message
    assert "1 row of method maskgit_plus: left out" in message
    assert "1 row without a prompt: left out" in message


def test_verdicts_filter_and_max_rows_stops_early(tmp_path: Path) -> None:
    rows = [own_row(id=str(n), verdict=v) for n, v in enumerate(["correct", "wrong", "correct"])]
    path = write_rows(tmp_path / "t.jsonl", *rows)
    kept, report = read_trajectories(path, verdicts=("correct",))
    assert [r.id for r in kept] == ["0", "2"]
    assert report.dropped_verdicts == {"wrong": 1}
    assert report.dropped == {"of verdict wrong": 1}
    kept, report = read_trajectories(path, max_rows=2)
    assert [r.id for r in kept] == ["0", "1"]
    assert report.stopped_at_max_rows


def test_a_row_without_a_verdict_passes_the_verdicts_filter_and_an_unchecked_one_does_not(
    tmp_path: Path,
) -> None:
    rows = [own_row(id="a"), own_row(id="b", verdict="unverified"), row()]
    path = write_rows(tmp_path / "t.jsonl", *rows)
    kept, report = read_trajectories(path, verdicts=("correct",))
    assert [r.verdict for r in kept] == [None, None]
    assert report.dropped == {"of verdict unverified": 1}


def test_filtered_rows_need_no_order(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", row(), row(method="ltr", decoding_order="absent"))
    assert len(read_trajectories(path, method_filter="entropy", needs_order=True)[0]) == 1


def test_llada_keeps_default_and_credit_under_entropy_only() -> None:
    methods = ["entropy", "default", "credit", "ltr", None]
    kept = [m for m in methods if keeps_method(m, "entropy", family="llada")]
    assert kept == ["entropy", "default", "credit"]
    assert [m for m in methods if keeps_method(m, "default", family="llada")] == ["default"]
    assert [m for m in methods if keeps_method(m, "entropy", family="dream")] == ["entropy"]
    assert [m for m in methods if keeps_method(m, "all", family=None)] == methods


def test_non_ltr_positions_equal_the_double_loop_and_stop_at_the_content() -> None:
    orders = [[3, 4, 2, 0, 5, 1], [0, 0, 1, 1], [2, -1, 1, 2, 0], [-1, -1], []]
    for order in orders:
        expected = [
            r for r, o in enumerate(order) if o >= 0 and any(order[q] > o for q in range(r))
        ]
        assert non_ltr_positions(order, scope="all") == expected
        assert non_ltr_positions(order, length=3) == [r for r in expected if r < 3]


def test_content_ends_with_the_first_end_id() -> None:
    assert content_length([5, 9, 6, 9], {9, 10}) == 2
    assert content_length([5, 6], {9}) == 2
