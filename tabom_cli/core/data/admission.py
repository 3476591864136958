"""Decide about one row of a trajectory file: build it, check it, filter it, count it.

Strict where the release was silently wrong. Knows one row at a time; does not read files.
Source: the loader of the original release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from pydantic import ValidationError

from tabom_cli.core.data.filters import MethodFilter, RowFault, from_alias_row, keeps_method
from tabom_cli.core.data.lines import kind_of
from tabom_cli.core.data.records import SCHEMA_VERSION, Trajectory, stable_hash

OnMissingOrder = Literal["error", "ltr", "drop"]
_CONTENT = ("prompt", "response", "response_token_ids", "method", "decoding_order")


@dataclass
class LoadReport:
    """What was read and what was left out.

    Attributes:
        path: The file.
        num_lines: Lines that hold something.
        num_rows: Rows handed out.
        num_no_prompt: Rows without a prompt, dropped as in the release.
        num_no_response: Rows handed out without answer text.
        dropped_methods: Rows that the method filter left out, by method.
        dropped_verdicts: Rows that the verdict filter left out, by verdict.
        num_order_dropped: Rows dropped for want of a full `decoding_order`.
        num_order_ltr: Rows that got a left-to-right order instead of the missing one.
        num_ids_dropped: Rows dropped for want of `response_token_ids`.
        stopped_at_max_rows: Whether the rest of the file was not read.
        num_known: Rows left out because an earlier file of a mixture holds them.
        num_weighted: Rows that weights add to the mixture, negative when they leave rows out.
        kept_failures: Rows handed out although their check failed, by verdict, when no filter was set.
    """

    path: str
    num_lines: int = 0
    num_rows: int = 0
    num_no_prompt: int = 0
    num_no_response: int = 0
    dropped_methods: Counter[str] = field(default_factory=Counter)
    dropped_verdicts: Counter[str] = field(default_factory=Counter)
    num_order_dropped: int = 0
    num_order_ltr: int = 0
    num_ids_dropped: int = 0
    stopped_at_max_rows: bool = False
    num_known: int = 0
    num_weighted: int = 0
    kept_failures: Counter[str] = field(default_factory=Counter)

    @classmethod
    def joined(cls, reports: Sequence[LoadReport]) -> LoadReport:
        """One report for several files: counts added up, paths in a row."""
        whole = cls(" + ".join(report.path for report in reports))
        for report in reports:
            for key in fields(cls):
                if key.name not in ("path", "stopped_at_max_rows"):
                    value = getattr(whole, key.name) + getattr(report, key.name)
                    setattr(whole, key.name, value)
            whole.stopped_at_max_rows |= report.stopped_at_max_rows
        return whole

    @property
    def num_dropped(self) -> int:
        """Rows of the read part of the file that were not handed out."""
        return self.num_lines + self.num_weighted - self.num_rows

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that were not handed out, by reason; reasons that did not occur are absent."""
        counts = {
            "without a prompt": self.num_no_prompt,
            **{f"of method {name}": n for name, n in self.dropped_methods.items()},
            **{f"of verdict {name}": n for name, n in self.dropped_verdicts.items()},
            "without response_token_ids": self.num_ids_dropped,
            "without a full decoding_order": self.num_order_dropped,
            "known from another file": self.num_known,
            "left out by their weight": max(0, -self.num_weighted),
        }
        return {reason: count for reason, count in counts.items() if count}

    def warnings(self) -> list[str]:
        """What training on these rows would be mistaken about, for people."""
        if not self.kept_failures:
            return []
        counts = ", ".join(f"{count} {kind}" for kind, count in self.kept_failures.most_common())
        return [
            f"{self.kept_failures.total()} of {self.num_rows} rows failed their check ({counts}) and "
            "are trained on; data.verdicts=[correct] leaves them out"
        ]

    def summary(self) -> list[str]:
        """One short line per reason that applied, for people."""
        counts = [
            *((f"{reason}: left out", count) for reason, count in self.dropped.items()),
            ("without a full decoding_order: left-to-right instead", self.num_order_ltr),
            ("without answer text: kept", self.num_no_response),
            ("repeated by their weight", self.num_weighted),
        ]
        return [f"{n} row{'s' if n > 1 else ''} {text}" for text, n in counts if n > 0]


@dataclass(frozen=True)
class Rules:
    """Which rows are wanted and what they must have; `read_trajectories` explains each field."""

    method_filter: MethodFilter = "all"
    family: str | None = None
    verdicts: Collection[str] | None = None
    needs_order: bool = False
    needs_ids: bool = False
    on_missing_order: OnMissingOrder = "error"
    response_length: int | None = None
    vocab_size: int | None = None


def admit(
    raw: dict[str, Any], ids: Counter[str], rules: Rules, report: LoadReport
) -> Trajectory | None:
    """A checked row, or None when it is left out and counted.

    Args:
        raw: One JSON object.
        ids: Row ids and content hashes seen so far; grows.
        rules: What is wanted.
        report: Receives the counts.

    Raises:
        RowFault: The row is malformed, or lacks what training needs.
    """
    row = _build(raw, ids)
    if row is None:
        report.num_no_prompt += 1
        return None
    _check_numbers(row, rules)
    if not keeps_method(row.method, rules.method_filter, family=rules.family):
        report.dropped_methods[str(row.method)] += 1
        return None
    # The published files hold verified rows only and say no verdict, so none is no reason to leave out.
    if rules.verdicts is not None and row.verdict not in (None, *rules.verdicts):
        report.dropped_verdicts[str(row.verdict)] += 1
        return None
    if rules.needs_ids and row.response_token_ids is None:
        if rules.on_missing_order == "drop":
            report.num_ids_dropped += 1
            return None
        raise RowFault(
            "'response_token_ids' is missing (data.on_missing_order=drop leaves such rows out, "
            "data.use_token_ids=false trains on the text)"
        )
    return _with_order(row, rules, report) if rules.needs_order else row


def _build(raw: dict[str, Any], ids: Counter[str]) -> Trajectory | None:
    if "schema_version" in raw:
        values: dict[str, Any] | None = raw
        if raw["schema_version"] != SCHEMA_VERSION:
            raise RowFault(
                f"schema_version {raw['schema_version']!r}: this tabom reads {SCHEMA_VERSION}"
            )
    else:
        values = from_alias_row(raw)
        if values is None:
            return None
        content = stable_hash(*(values.get(key) for key in _CONTENT))
        count = ids[f"\0{content}"] = ids[f"\0{content}"] + 1
        values = {
            "id": content if count == 1 else f"{content}-{count}",
            "group_id": stable_hash(values["prompt"]),
            **values,
        }
    try:
        row = Trajectory.model_validate(values)
    except ValidationError as error:
        raise RowFault(_sentence(error)) from None
    if not row.prompt.strip():
        return None
    if ids[row.id]:
        raise RowFault(f"row id '{row.id}' is there twice")
    ids[row.id] = 1
    return row


def _sentence(error: ValidationError) -> str:
    parts: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0]) if fault["loc"] else "row"
        place = f"'{key}'" + (f" item {fault['loc'][1]}" if len(fault["loc"]) > 1 else "")
        if fault["type"] == "extra_forbidden":
            parts.setdefault(key, f"unknown key {place}")
        elif fault["type"] == "missing":
            parts.setdefault(key, f"{place} is missing")
        else:
            message = fault["msg"][:1].lower() + fault["msg"][1:]
            parts.setdefault(key, f"{place}: {message}, found {kind_of(fault['input'])}")
    return "; ".join(parts.values())


def _check_numbers(row: Trajectory, rules: Rules) -> None:
    for key in ("response_token_ids", "prompt_token_ids"):
        for place, token in enumerate(getattr(row, key) or ()):
            if token < 0 or (rules.vocab_size is not None and token >= rules.vocab_size):
                limit = "" if rules.vocab_size is None else f" (0 to {rules.vocab_size - 1})"
                raise RowFault(f"'{key}' item {place} is {token}: outside the vocabulary{limit}")
    _check_order(row, rules)
    num_ids = len(row.response_token_ids or ())
    if row.decoding_entropy is not None and row.response_token_ids is not None:
        _check_length("decoding_entropy", row.decoding_entropy, num_ids)
    length = len(row.decoding_order or row.response_token_ids or row.non_ltr_positions)
    if any(not 0 <= place < length for place in row.non_ltr_positions):
        raise RowFault(f"'non_ltr_positions' leaves the response (0 to {length - 1})")


def _check_length(key: str, values: Sequence[object], num_ids: int) -> None:
    if len(values) != num_ids:
        raise RowFault(f"'{key}' has {len(values)} items for {num_ids} response_token_ids")


def _check_order(row: Trajectory, rules: Rules) -> None:
    order = row.decoding_order
    if order is None:
        return
    place = next((i for i, step in enumerate(order) if step < -1), None)
    if place is not None:
        raise RowFault(f"'decoding_order' item {place} is {order[place]}: -1 (never) or a step")
    if row.response_token_ids is not None and len(order) > len(row.response_token_ids):
        limit = rules.response_length
        if limit is None or len(row.response_token_ids) < limit:
            _check_length("decoding_order", order, len(row.response_token_ids))


def _with_order(row: Trajectory, rules: Rules, report: LoadReport) -> Trajectory | None:
    num_ids = len(row.response_token_ids or ())
    limit = rules.response_length
    needed = num_ids if limit is None else min(num_ids, limit)
    given = len(row.decoding_order or ())
    if row.decoding_order and given >= needed:
        return row
    if rules.on_missing_order == "drop":
        report.num_order_dropped += 1
        return None
    if rules.on_missing_order == "ltr" and row.response_token_ids is not None:
        report.num_order_ltr += 1
        return row.model_copy(
            update={"decoding_order": list(range(num_ids)), "non_ltr_positions": []}
        )
    state = f"is short: {given} of {needed} items" if given else "is missing"
    raise RowFault(f"'decoding_order' {state}")
