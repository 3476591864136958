"""The score against hand-worked numbers and a loop written from the definition."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tabom_cli.core.diagnostics.tds import POSITIONS, EntropyTrace, Trace, aggregate
from tabom_cli.core.errors import DataError, RunError

MASK, EOS, TURN_END = 9, 0, 1
NAN = float("nan")


@dataclass
class View:
    request_ids: list[str]
    step_B: Tensor
    canvas_BT: Tensor
    masked_BT: Tensor
    entropy_BT: Tensor


def view(rows: dict[str, tuple[list[int], list[float]]], step: int = 0) -> View:
    canvas = torch.tensor([tokens for tokens, _ in rows.values()])
    masked = canvas == MASK
    entropy = torch.tensor([values for _, values in rows.values()], dtype=torch.float32)
    return View(
        list(rows),
        torch.full((len(rows),), step),
        canvas,
        masked,
        torch.where(masked, entropy, torch.full_like(entropy, NAN)),
    )


def observe(steps: list[tuple[list[int], list[float]]], final: list[int]) -> Trace:
    """The trace of one row; each step is its canvas before the reveal and its entropies."""
    observer = EntropyTrace({EOS})
    canvases = [canvas for canvas, _ in steps[1:]] + [final]
    for (canvas, entropies), after in zip(steps, canvases, strict=True):
        observer.before_reveal(view({"a": (canvas, entropies)}))
        observer.after_reveal(view({"a": (after, [0.0] * len(after))}))
    return observer.trace("a")


def make(name: str, values: list[float | None], counts: list[int] | None = None) -> Trace:
    counts = counts or [0 if value is None else 4 for value in values]
    return Trace(name, dict.fromkeys(POSITIONS, values), dict.fromkeys(POSITIONS, counts))


def test_equal_entropies_score_zero() -> None:
    trace = observe([([MASK] * 4, [1.7] * 4)], [5, 6, 7, 8])
    assert trace.variances["all"] == [0.0]
    assert aggregate([trace]).tds == 0.0


def test_two_positions_with_entropies_zero_and_log_v_score_a_quarter_of_log_v_squared() -> None:
    log_v = math.log(152_064)
    trace = observe([([MASK, MASK], [0.0, log_v])], [5, 6])
    assert trace.variances["visible_eos"][0] == pytest.approx(log_v**2 / 4, rel=1e-6)


def test_the_three_choices_of_positions_differ_as_worked_by_hand() -> None:
    """Entropies 1 3 5 9 on four masks; the EOS appears at index 2 in the second step, then at 1."""
    trace = observe(
        [
            ([MASK, MASK, MASK, MASK], [1.0, 3.0, 5.0, 9.0]),
            ([MASK, MASK, EOS, MASK], [1.0, 3.0, 0.0, 9.0]),
            ([MASK, EOS, EOS, MASK], [1.0, 0.0, 0.0, 9.0]),
        ],
        [7, EOS, EOS, EOS],
    )
    # all: 1 3 5 9 (mean 4.5) -> 8.75; 1 3 9 (mean 13/3) -> 104/9; 1 9 -> 16
    assert trace.variances["all"] == [pytest.approx(8.75), pytest.approx(104 / 9), 16.0]
    # visible: no EOS yet -> all; left of 2: 1 3 -> 1; left of 1: one position
    assert trace.variances["visible_eos"] == [pytest.approx(8.75), 1.0, None]
    # final: the finished text ends at 1, so one position is left at every step
    assert trace.variances["final_eos"] == [None, None, None]
    assert trace.counts == {"all": [4, 3, 2], "visible_eos": [4, 2, 1], "final_eos": [1, 1, 1]}


def test_an_eos_revealed_in_a_step_counts_only_from_the_next_step_on() -> None:
    observer = EntropyTrace({EOS})
    observer.before_reveal(view({"a": ([MASK] * 3, [0.0, 2.0, 4.0])}))
    observer.after_reveal(view({"a": ([MASK, MASK, EOS], [0.0] * 3)}))
    observer.before_reveal(view({"a": ([MASK, MASK, EOS], [0.0, 2.0, 0.0])}, 1))
    observer.after_reveal(view({"a": ([4, 5, EOS], [0.0] * 3)}, 1))
    assert observer.trace("a").counts["visible_eos"] == [3, 2]


def test_what_an_early_stop_leaves_masked_counts_as_ended() -> None:
    trace = observe([([MASK] * 4, [0.0, 2.0, 4.0, 9.0])], [5, TURN_END, MASK, MASK])
    assert trace.counts["final_eos"] == [2]
    assert trace.variances["final_eos"] == [1.0]


def test_only_the_given_ids_end_a_text() -> None:
    steps = [([MASK, TURN_END, MASK, MASK], [1.0, 0.0, 3.0, 5.0])]
    trace = observe(steps, [4, TURN_END, 4, 4])
    assert trace.counts["visible_eos"] == [3]
    observer = EntropyTrace({EOS, TURN_END})
    observer.before_reveal(view({"a": steps[0]}))
    observer.after_reveal(view({"a": ([4, TURN_END, 4, 4], [0.0] * 4)}))
    assert observer.trace("a").counts["visible_eos"] == [1]


def test_rows_may_start_and_finish_at_different_times_and_are_forgotten_when_taken() -> None:
    observer = EntropyTrace({EOS})
    observer.before_reveal(view({"a": ([MASK, MASK], [0.0, 2.0])}))
    observer.after_reveal(view({"a": ([MASK, 5], [0.0, 0.0])}))
    observer.before_reveal(view({"b": ([MASK, MASK], [0.0, 4.0]), "a": ([MASK, 5], [1.0, 0.0])}))
    observer.after_reveal(view({"b": ([5, MASK], [0.0, 0.0]), "a": ([6, 5], [0.0, 0.0])}))
    assert observer.trace("a").variances["all"] == [1.0, None]
    with pytest.raises(RunError, match="'a'"):
        observer.trace("a")
    observer.before_reveal(view({"b": ([5, MASK], [0.0, 0.0])}))
    observer.after_reveal(view({"b": ([5, 6], [0.0, 0.0])}))
    assert observer.trace("b").variances["all"] == [4.0, None]


def test_a_masked_position_without_entropy_is_refused() -> None:
    observer = EntropyTrace({EOS})
    with pytest.raises(RunError, match="no entropy"):
        observer.before_reveal(view({"a": ([MASK, MASK], [0.0, NAN])}))


def test_random_decodes_agree_with_a_loop_over_the_definition() -> None:
    """Loop for loop: sets, means and squares in Python floats."""
    generator = torch.Generator().manual_seed(3)
    length, traces, expected = 7, [], {name: [] for name in POSITIONS}
    for _ in range(5):
        final = torch.randint(0, 6, (length,), generator=generator).tolist()
        order = torch.randperm(length, generator=generator).tolist()
        canvas, steps = [MASK] * length, []
        for position in order:
            entropies = (3 * torch.rand(length, generator=generator)).tolist()
            steps.append((list(canvas), entropies))
            canvas[position] = final[position]
        traces.append(observe(steps, final))
        for name in POSITIONS:
            values = []
            for before, entropies in steps:
                kept = []
                for index in range(length):
                    if name == "visible_eos" and EOS in before[: index + 1]:
                        break
                    if name == "final_eos" and EOS in final[: index + 1]:
                        break
                    if before[index] == MASK:
                        kept.append(entropies[index])
                if len(kept) >= 2:
                    mean = sum(kept) / len(kept)
                    values.append(sum((value - mean) ** 2 for value in kept) / len(kept))
            if values:
                expected[name].append(sum(values) / len(values))
    for name in POSITIONS:
        result = aggregate(traces, positions=name)
        assert result.tds == pytest.approx(sum(expected[name]) / len(expected[name]), rel=1e-5)
        assert result.num_trajectories - result.num_undefined == len(expected[name])


def test_the_three_averages_differ_for_trajectories_of_unequal_length() -> None:
    result = aggregate([make("a", [1.0, 3.0, None]), make("b", [5.0]), make("c", [None])])
    assert result.tds == pytest.approx((2.0 + 5.0) / 2)
    assert result.micro_mean == pytest.approx(9.0 / 3)
    assert result.curve_mean == pytest.approx(((1.0 + 5.0) / 2 + 3.0) / 2)
    # two means, 2 and 5: standard deviation 3 / sqrt(2), over sqrt(2)
    assert result.standard_error == pytest.approx(1.5)
    assert (result.num_trajectories, result.num_undefined, result.num_steps) == (3, 1, 3)


def test_the_curve_puts_steps_into_bins_of_their_progress() -> None:
    result = aggregate([make("a", [0.0, 1.0, 2.0, 3.0, 8.0]), make("b", [6.0, 4.0])], bins=4)
    # a: progress 0, 1/4, 1/2, 3/4, 1 -> bins 0, 1, 2, 3, 3; b: 0 and 1 -> bins 0 and 3
    assert [point.x for point in result.curve] == [0.125, 0.375, 0.625, 0.875]
    assert [point.mean for point in result.curve] == [3.0, 1.0, 2.0, (5.5 + 4.0) / 2]
    assert [point.count for point in result.curve] == [2, 1, 1, 2]
    assert result.curve[0].standard_error == pytest.approx(3.0)
    assert result.curve[1].standard_error is None
    assert [(point.x, point.mean, point.count) for point in result.step_curve] == [
        (0.0, 3.0, 2),
        (1.0, 2.5, 2),
        (2.0, 2.0, 1),
        (3.0, 3.0, 1),
        (4.0, 8.0, 1),
    ]


def test_a_single_step_is_at_the_start_of_the_curve() -> None:
    result = aggregate([make("a", [2.0])], bins=3)
    assert [point.count for point in result.curve] == [1, 0, 0]
    assert result.curve[2].mean is None


def test_the_sample_variance_divides_by_one_less() -> None:
    trace = make("a", [3.0, None], [4, 1])
    assert aggregate([trace], variance="sample").tds == pytest.approx(4.0)
    assert aggregate([trace], undefined="zero").tds == pytest.approx(1.5)


def test_nothing_defined_gives_none_and_not_zero() -> None:
    for traces in ([], [make("a", [None, None])]):
        result = aggregate(traces)
        assert (result.tds, result.micro_mean, result.curve_mean) == (None, None, None)
        assert all(point.mean is None for point in result.curve)


def test_traces_survive_json_and_give_the_same_result() -> None:
    trace = observe([([MASK] * 3, [0.1, 0.7, 2.3]), ([4, MASK, MASK], [0, 0.2, 0.9])], [4, EOS, 5])
    stored = Trace.from_json(json.loads(json.dumps(trace.as_json())))
    assert aggregate([stored]) == aggregate([trace])
    assert json.loads(json.dumps(aggregate([trace]).as_json()))["tds"] == aggregate([trace]).tds


@pytest.mark.parametrize(
    "change", [lambda v: v.pop("counts"), lambda v: v["counts"]["all"].append(1)]
)
def test_a_damaged_stored_trace_is_refused(change: object) -> None:
    value = json.loads(json.dumps(make("a", [1.0]).as_json()))
    change(value)  # type: ignore[operator]
    with pytest.raises(DataError, match="trace"):
        Trace.from_json(value)


def test_aggregation_needs_no_tensor_library() -> None:
    source = "import sys, tabom_cli.core.diagnostics.tds; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
