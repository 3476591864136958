"""The page of a decoded answer: every token once, its record beside it, nothing executable in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tabom_cli.core.data.trajectory import Trajectory
from tabom_cli.core.diagnostics.trace_html import (
    TracedAnswer,
    token_texts,
    trace_page,
    traced,
    write_trace_page,
)
from tabom_cli.core.errors import DataError

EVIL = "<script>alert('1')</script>&\"'"


class Page(HTMLParser):
    """Tokens (text and attributes), prompts, and counts of tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tokens: list[dict[str, Any]] = []
        self.prompts: list[str] = []
        self.tags: list[str] = []
        self._into: list[dict[str, Any]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        if "t" in classes:
            self.tokens.append({**values, "text": "", "classes": classes})
            self._into.append(self.tokens[-1])
        elif "prompt" in classes:
            self.prompts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self._into:
            self._into.pop()
        self.last_end = tag

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1]["text"] += data
        elif self.prompts and self.prompts[-1] == "":
            self.prompts[-1] = data


ANSWER = TracedAnswer(
    title=EVIL,
    prompt=EVIL,
    tokens=["a", EVIL, "b\nc", "", "<|im_end|>"],
    order=[2, 0, 1, -1, 2],
    entropy=[0.5, 1.0, 0.0, -1.0, 0.25],
    facts=(("reference", EVIL),),
)


def test_every_token_appears_once_with_its_step_and_entropy() -> None:
    page = Page(trace_page([ANSWER]))
    shown = [token["text"].replace("\u23ce", "").replace("\u200b", "") for token in page.tokens]
    assert shown == list(ANSWER.tokens)
    assert [int(token["data-step"]) for token in page.tokens] == list(ANSWER.order)
    tips = [token["data-tip"].split("\n") for token in page.tokens]
    assert tips[0] == ["position 0", "step 2", "entropy 0.5000 nats"]
    assert tips[3] == ["position 3", "never revealed"]
    assert page.tokens[3]["classes"] == ["t", "never"]
    assert "special" in page.tokens[4]["classes"]


def test_nothing_from_the_answer_becomes_markup() -> None:
    text = trace_page([ANSWER], title=EVIL)
    page = Page(text)
    assert page.tags.count("script") == 1
    assert text.count("<script>") == 1
    assert "alert('1')" not in text
    assert page.prompts == [EVIL]


def test_the_page_loads_nothing_from_elsewhere() -> None:
    text = trace_page([ANSWER])
    assert not re.search(r"https?:|//|\bsrc=|\bhref=|url\(|@import", text)
    assert "default-src 'none'" in text
    assert trace_page([ANSWER]) == text


def test_early_tokens_are_light_and_late_ones_dark_with_readable_ink() -> None:
    steps = list(range(11))
    answer = TracedAnswer("t", "p", ["x"] * 11, steps)
    brightness, contrast = [], []
    for token in Page(trace_page([answer])).tokens:
        red, green, blue = map(
            int, re.search(r"--s:rgb\((\d+) (\d+) (\d+)\)", token["style"]).groups()
        )
        brightness.append(0.299 * red + 0.587 * green + 0.114 * blue)
        ink = 255 if "--si:#fff" in token["style"] else 28
        contrast.append(abs(brightness[-1] - ink))
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[0] - brightness[-1] > 150
    assert min(contrast) > 90


def test_entropy_colouring_is_offered_only_when_it_was_recorded() -> None:
    assert 'value="entropy"' in trace_page([ANSWER])
    plain = TracedAnswer("t", "p", ["a"], [0])
    text = trace_page([plain])
    assert 'value="entropy"' not in text
    assert "nats" not in text
    assert Page(trace_page([plain, ANSWER])).tags.count("section") == 2


def test_lists_of_different_lengths_and_no_answers_are_refused() -> None:
    with pytest.raises(DataError, match="no answers"):
        trace_page([])
    for order, entropy in (([0], ()), ([0, 1], (0.5,))):
        with pytest.raises(DataError, match="'t': 2 tokens"):
            trace_page([TracedAnswer("t", "p", ["a", "b"], order, entropy)])


class Bytes:
    """Every id is one byte of UTF-8."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return bytes(ids).decode("utf-8", errors="replace")


class Words:
    """Joins words with spaces, as some decoders do."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return " ".join("abc"[index] for index in ids)


def test_a_character_over_several_ids_is_shown_where_it_is_complete() -> None:
    ids = list("a\u00e9\u20acb".encode())
    assert token_texts(Bytes(), ids) == ["a", "", "\u00e9", "", "", "\u20ac", "b"]
    assert token_texts(Bytes(), [*b"a", 0xE2]) == ["a", "\ufffd"]
    assert "".join(token_texts(Words(), [0, 1, 2])) == "a b c"


def test_a_stored_trajectory_becomes_a_page(tmp_path: Path) -> None:
    trajectory = Trajectory(
        id="t-1",
        group_id="t",
        prompt="add",
        response="ab",
        response_token_ids=[97, 98],
        decoding_order=[1, 0],
        decoding_entropy=[0.5, 0.25],
        verdict="correct",
    )
    answer = traced(trajectory, Bytes())
    assert (list(answer.tokens), list(answer.order)) == (["a", "b"], [1, 0])
    assert tuple(answer.facts) == (("verdict", "correct"),)
    write_trace_page(tmp_path / "out" / "page.html", [answer])
    assert (tmp_path / "out" / "page.html").read_text(encoding="utf-8") == trace_page([answer])
    with pytest.raises(DataError, match="'t-1' has no token ids"):
        traced(trajectory.model_copy(update={"decoding_order": None}), Bytes())
