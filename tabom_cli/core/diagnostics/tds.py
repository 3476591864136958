"""Trajectory Discrimination Score: how much the entropies of the masked positions differ while decoding.

A larger variance means that the model tells easy from hard positions. Knows the decoder only as
views of its steps; knows no task, no recipe, no picture. Aggregation is a function of traces that
can be stored as JSON and needs no tensor library.

Source: TABOM, Eq. 10-11; the released generator's statistic `masked_entropy_var` for the per-step
form; what both leave open is an argument here.

Shape letters: B rows in flight, T response positions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tabom_cli.core.errors import DataError, RunError
from tabom_cli.core.progress import ProgressCallback, silent

if TYPE_CHECKING:
    from tabom_cli.core.decoding.config import DecodeConfig
    from tabom_cli.core.decoding.records import DecodeRequest, StepView
    from tabom_cli.core.models.base import Policy

Positions = Literal["visible_eos", "final_eos", "all"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)


@dataclass(frozen=True)
class Trace:
    """The variance of one decode, step by step; plain values that go to JSON and back.

    Attributes:
        id: Request id.
        variances: Population variance in nats squared per forward pass, None where fewer than two
            positions counted; one list for each choice of positions.
        counts: Positions that counted, in the same layout.
    """

    id: str
    variances: Mapping[Positions, Sequence[float | None]]
    counts: Mapping[Positions, Sequence[int]]

    def as_json(self) -> dict[str, Any]:
        """A mapping that `from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Trace:
        """The trace that `as_json` wrote.

        Raises:
            DataError: A key is missing or the lists differ in length.
        """
        try:
            trace = Trace(value["id"], value["variances"], value["counts"])
            lengths = {len(trace.variances[name]) for name in POSITIONS}
            lengths |= {len(trace.counts[name]) for name in POSITIONS}
        except (KeyError, TypeError) as error:
            raise DataError(f"not a stored entropy trace: {error!r}") from error
        if len(lengths) != 1:
            raise DataError(f"entropy trace '{trace.id}': lists of different lengths {lengths}")
        return trace


class EntropyTrace:
    """Observer of a decode that keeps the entropies of every step until the row is asked for.

    Rows may start and finish at different times. Memory: steps x T x 5 bytes per unfinished row.

    Args:
        eos_token_ids: Ids that end a text; by default of the callers the tokenizer's eos only, not
            the end of a turn.
    """

    def __init__(self, eos_token_ids: Collection[int]) -> None:
        self._eos = np.array(sorted(eos_token_ids), dtype=np.int64)
        self._steps: dict[str, list[tuple[np.ndarray, np.ndarray, int]]] = {}
        self._final_eos: dict[str, int] = {}

    def before_reveal(self, view: StepView) -> None:
        """Keep each row's entropies and the leftmost EOS that is visible before this step's transfer."""
        eos_BT = np.isin(view.canvas_BT.cpu().numpy(), self._eos)
        masked_BT = view.masked_BT.cpu().numpy()
        entropy_BT = view.entropy_BT.cpu().numpy()
        if np.isnan(entropy_BT[masked_BT]).any():
            raise RunError("the decoder gave no entropy for a masked position")
        for row, request_id in enumerate(view.request_ids):
            step = entropy_BT[row].copy(), masked_BT[row].copy(), _first(eos_BT[row])
            self._steps.setdefault(request_id, []).append(step)

    def after_reveal(self, view: StepView) -> None:
        """Note where each row's text would end if it were finished now.

        What an early stop leaves masked is filled with padding, which is the EOS in both families.
        """
        canvas_BT = view.canvas_BT.cpu().numpy()
        ended_BT = np.isin(canvas_BT, self._eos) | view.masked_BT.cpu().numpy()
        for row, request_id in enumerate(view.request_ids):
            self._final_eos[request_id] = _first(ended_BT[row])

    def trace(self, request_id: str) -> Trace:
        """The trace of a finished row, which is then forgotten.

        Raises:
            RunError: The row was not seen, or was already taken.
        """
        if request_id not in self._final_eos:
            raise RunError(f"no decoding step of '{request_id}' was observed")
        steps = self._steps.pop(request_id)
        final_eos = self._final_eos.pop(request_id)
        variances: dict[Positions, list[float | None]] = {name: [] for name in POSITIONS}
        counts: dict[Positions, list[int]] = {name: [] for name in POSITIONS}
        for entropy_T, masked_T, visible_eos in steps:
            ends: dict[Positions, int] = {
                "visible_eos": visible_eos,
                "final_eos": final_eos,
                "all": len(masked_T),
            }
            for name, end in ends.items():
                counted = entropy_T[:end][masked_T[:end]].astype(np.float64)
                counts[name].append(len(counted))
                variances[name].append(float(counted.var()) if len(counted) >= 2 else None)
        return Trace(request_id, variances, counts)


@dataclass(frozen=True)
class CurvePoint:
    """One point of a curve over trajectories.

    Attributes:
        x: Middle of the progress bin in [0, 1], or the step index.
        mean: Mean over the trajectories that are defined here, None when there is none.
        standard_error: Of that mean; None below two trajectories.
        count: Trajectories that are defined here.
    """

    x: float
    mean: float | None
    standard_error: float | None
    count: int


@dataclass(frozen=True)
class TdsResult:
    """The score of one model on one set of prompts, in nats squared.

    Attributes:
        positions: Which masked positions counted.
        tds: Mean over trajectories of the mean over their defined steps; None without any.
        standard_error: Of that mean over trajectories.
        micro_mean: Mean over all pairs of trajectory and defined step.
        curve_mean: Mean over steps of the mean over the trajectories defined at that step.
        num_trajectories: Trajectories given.
        num_undefined: Those without a single defined step; they count nowhere.
        num_steps: Defined steps over all trajectories.
        curve: Against normalised progress step / (steps - 1), in bins.
        step_curve: Against the raw step index.
    """

    positions: Positions
    tds: float | None
    standard_error: float | None
    micro_mean: float | None
    curve_mean: float | None
    num_trajectories: int
    num_undefined: int
    num_steps: int
    curve: tuple[CurvePoint, ...]
    step_curve: tuple[CurvePoint, ...]

    def as_json(self) -> dict[str, Any]:
        """A mapping of plain values."""
        return asdict(self)


def aggregate(
    traces: Sequence[Trace],
    *,
    positions: Positions = "visible_eos",
    bins: int = 50,
    variance: Literal["population", "sample"] = "population",
    undefined: Literal["omit", "zero"] = "omit",
) -> TdsResult:
    """The score of a set of traces.

    Args:
        traces: One per decode, from `EntropyTrace.trace` or a file.
        positions: Which masked positions count.
        bins: Bins of normalised progress.
        variance: Divide by n (release) or by n - 1.
        undefined: Steps with fewer than two positions are omitted (release) or count as zero.
    """
    rows = [_values(trace, positions, variance, undefined) for trace in traces]
    defined = [[value for value in row if value is not None] for row in rows]
    means = [_mean(values) for values in defined if values]
    by_bin: list[list[float]] = [[] for _ in range(bins)]
    by_step: list[list[float]] = [[] for _ in range(max(map(len, rows), default=0))]
    for row in rows:
        own: dict[int, list[float]] = {}
        for step, value in enumerate(row):
            if value is not None:
                by_step[step].append(value)
                own.setdefault(min(step * bins // max(len(row) - 1, 1), bins - 1), []).append(value)
        for index, values in own.items():
            by_bin[index].append(_mean(values))
    step_means = [_mean(values) for values in by_step if values]
    every = [value for values in defined for value in values]
    return TdsResult(
        positions=positions,
        tds=_mean(means) if means else None,
        standard_error=_standard_error(means),
        micro_mean=_mean(every) if every else None,
        curve_mean=_mean(step_means) if step_means else None,
        num_trajectories=len(rows),
        num_undefined=len(rows) - len(means),
        num_steps=len(every),
        curve=tuple(_point((index + 0.5) / bins, values) for index, values in enumerate(by_bin)),
        step_curve=tuple(_point(float(step), values) for step, values in enumerate(by_step)),
    )


def run_tds(
    model: Policy,
    requests: Iterable[DecodeRequest],
    decode_config: DecodeConfig,
    *,
    eos_token_ids: Collection[int] | None = None,
    progress: ProgressCallback = silent,
) -> list[Trace]:
    """Decode prompts and trace the variance of their entropies.

    Args:
        model: What decodes.
        requests: Prompts with unique ids.
        decode_config: The evaluation's decoding settings.
        eos_token_ids: Ids that end a text; None takes the model's eos only.
        progress: Receives the decoder's events.

    Returns:
        One trace per request, in the order of the requests.

    Raises:
        DataError: Two requests share an id.
    """
    from tabom_cli.core.decoding.scheduler import decode

    requests = list(requests)
    ids = [request.id for request in requests]
    repeated = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    if repeated:
        raise DataError(f"prompt ids are not unique: {', '.join(repeated[:5])}")
    observer = EntropyTrace({model.eos_token_id} if eos_token_ids is None else eos_token_ids)
    results = decode(model, requests, decode_config, observer=observer, progress=progress)
    traces = {result.id: observer.trace(result.id) for result in results}
    return [traces[name] for name in ids]


def _first(flag_T: np.ndarray) -> int:
    """Index of the first True, T when there is none."""
    found = np.flatnonzero(flag_T)
    return int(found[0]) if len(found) else len(flag_T)


def _values(
    trace: Trace, positions: Positions, variance: str, undefined: str
) -> list[float | None]:
    values: list[float | None] = []
    for value, count in zip(trace.variances[positions], trace.counts[positions], strict=True):
        if value is None:
            values.append(0.0 if undefined == "zero" else None)
        else:
            values.append(value * count / (count - 1) if variance == "sample" else value)
    return values


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1) / len(values))


def _point(x: float, values: Sequence[float]) -> CurvePoint:
    return CurvePoint(x, _mean(values) if values else None, _standard_error(values), len(values))
