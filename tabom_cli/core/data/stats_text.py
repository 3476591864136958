"""The figures of a trajectory file as lines of text. Computes nothing and knows no terminal."""

from __future__ import annotations

from tabom_cli.core.data.stats import Summary, TrajectoryStats


def stat_lines(values: TrajectoryStats) -> list[tuple[str, str]]:
    """(what, value) lines, in the order in which they matter."""
    rows = [("prompts", f"{values.num_groups:,}")]
    rows += [
        (f"verdict {name}", _of(count, values.num_rows)) for name, count in values.verdicts.items()
    ]
    for name, share in (("rows", values.acceptance), ("prompts", values.group_acceptance)):
        rows.append((f"accepted {name}", "nobody judged" if share is None else f"{share:.1%}"))
    rows += [
        (f"method {name}", _of(count, values.num_rows)) for name, count in values.methods.items()
    ]
    return [
        *rows,
        ("answer tokens", _summary(values.content_tokens, ".1f")),
        ("answers without an end token", f"{values.share_unended:.1%}"),
        ("response tokens behind the end", f"{values.share_tail:.1%}"),
        ("step of the end token / last step", _summary(values.end_step, ".2f")),
        ("tokens per step", _summary(values.tokens_per_step, ".2f")),
        ("positions that share their step", f"{values.share_tied:.1%}"),
        ("positions out of left-to-right order", f"{values.share_non_ltr:.1%}"),
        ("Kendall tau of order and position", _summary(values.kendall_tau, ".3f")),
        ("raw entropy at the reveal, nats", _summary(values.entropy_nats, ".3f")),
        ("raw entropies exactly 0", f"{values.share_zero:.1%}"),
        ("raw entropies at most 0.0001", f"{values.share_near_zero:.1%}"),
        ("distinct raw entropies of a row", _summary(values.distinct_entropies, ".1%")),
    ]


def _of(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})"


def _summary(values: Summary, form: str) -> str:
    if not values.count:
        return "none"
    low, high = format(values.low, form), format(values.high, form)
    return f"{format(values.mean, form)} (median {format(values.median, form)}, {low} to {high})"
