"""Pictures: written whole, the same every time, and showing what they were given."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from tabom_cli.core.diagnostics import plots
from tabom_cli.core.diagnostics.plots import AccuracyCell, demo_figure, tds_figure
from tabom_cli.core.diagnostics.tds import POSITIONS, TdsResult, Trace, aggregate
from tabom_cli.core.errors import UsageError


def result(*rows: list[float | None], positions: str = "visible_eos") -> TdsResult:
    traces = [
        Trace(str(i), dict.fromkeys(POSITIONS, row), dict.fromkeys(POSITIONS, [4] * len(row)))
        for i, row in enumerate(rows)
    ]
    return aggregate(traces, positions=positions, bins=4)  # type: ignore[arg-type]


BASE = result([1.0, 2.0, 3.0, None], [2.0, 2.0, 5.0, None])
TUNED = result([4.0, 4.0, 4.0, 4.0])
CELLS = [
    AccuracyCell("countdown", "base", 0.25, 0.2, 0.3, 120),
    AccuracyCell("countdown", "TABOM", 0.3, 0.25, 0.35, 120),
    AccuracyCell("functions", "base", 0.5, 0.4, 0.6, 100),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    original = plots._save

    def save(figure: Figure, path: Path) -> tuple[Path, Path]:
        figures.append(figure)
        return original(figure, path)

    monkeypatch.setattr(plots, "_save", save)
    return figures


def test_a_curve_shows_the_means_of_the_defined_bins(tmp_path: Path, drawn: list[Figure]) -> None:
    png, svg = tds_figure({"base": BASE, "tuned": TUNED}, tmp_path / "a" / "curve.v2")
    assert (png.name, svg.name) == ("curve.v2.png", "curve.v2.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    base, tuned = axes.lines
    assert list(base.get_xdata()) == [0.125, 0.375, 0.625]
    assert list(base.get_ydata()) == [1.5, 2.0, 4.0]
    assert list(tuned.get_ydata()) == [4.0] * 4
    assert base.get_color() != tuned.get_color()
    assert base.get_linestyle() != tuned.get_linestyle()
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(1.0)
    assert band[:, 1].max() == pytest.approx(5.0)
    assert base.get_label() == "base: TDS 2.500 \u00b1 0.500"
    assert tuned.get_label() == "tuned: TDS 4.000"


def test_the_files_are_the_same_in_every_process_and_hold_no_date(tmp_path: Path) -> None:
    source = """
        import sys
        from pathlib import Path
        from tabom_cli.core.diagnostics.plots import tds_figure
        from tabom_cli.core.diagnostics.tds import POSITIONS, Trace, aggregate
        trace = Trace("a", dict.fromkeys(POSITIONS, [1.0, 2.0]), dict.fromkeys(POSITIONS, [4, 3]))
        tds_figure({"base": aggregate([trace])}, Path(sys.argv[1]))
        print("pyplot" in str(sorted(sys.modules)), "torch" in sys.modules)
    """
    for name in ("one", "two"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(source), str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "False False\n"
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert not re.search(r"20\d\d-\d\d-\d\d", (tmp_path / "one.svg").read_text())


def test_many_models_stay_tellable_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    tds_figure({f"m{i}": TUNED for i in range(12)}, tmp_path / "many")
    looks = {(line.get_color(), str(line.get_linestyle())) for line in drawn[0].axes[0].lines}
    assert len({colour for colour, _ in looks}) == 7
    assert len(drawn[0].axes[0].get_legend().get_texts()) == 12


def test_a_model_without_any_defined_step_is_named_without_a_number(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    tds_figure({"short": result([None])}, tmp_path / "a")
    assert drawn[0].axes[0].get_legend().get_texts()[0].get_text() == "short: not defined"


def test_the_demo_picture_shows_each_cell_with_its_interval(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    demo_figure(CELLS, {"base": BASE, "TABOM": TUNED}, tmp_path / "demo")
    left, right = drawn[0].axes
    assert [text.get_text() for text in left.texts] == ["25.0", "30.0", "50.0"]
    spans = [tuple(line.get_xdata()) for line in left.lines if len(line.get_xdata()) == 2]
    assert spans == [(0.2, 0.3), (0.25, 0.35), (0.4, 0.6)]
    assert [text.get_text() for text in left.get_yticklabels()] == ["countdown", "functions"]
    assert "100 to 120" in left.get_xlabel()
    assert len(right.lines) == 2
    assert left.lines[0].get_color() == right.lines[0].get_color()
    assert left.lines[2].get_color() == right.lines[1].get_color()


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        tds_figure({}, tmp_path / "a")
    with pytest.raises(UsageError, match="no accuracies"):
        demo_figure([], {"base": BASE}, tmp_path / "a")
    with pytest.raises(UsageError, match="different positions"):
        tds_figure({"a": BASE, "b": result([1.0], positions="all")}, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
