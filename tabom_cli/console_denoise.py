"""An answer on the terminal while it is denoised: positions fill as they are decided, coloured by step.

Is an observer of a decode with one row at a time. Computes nothing and imports no tensor library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tabom_cli.console import visible

UNDECIDED = "\u2591"
"""Shown for a masked position."""
UNDECODED = "\ufffd"
"""What a tokenizer returns for a part of a character."""
_RAMP = ((255, 243, 196), (120, 183, 178), (24, 58, 108))


class DenoiseDisplay:
    """A live picture of one answer at a time; the finished picture of each stays on the screen.

    While an answer is denoised, at most a screen of it is drawn, around its first masked position: a
    terminal cannot redraw what has scrolled away.

    Args:
        decode: Text of token ids; the parts of a character that several ids share come together.
        num_steps: Steps that the colours span.
        console: Where to draw.
        titles: Line above the picture of a request, by its id.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        *,
        num_steps: int,
        console: Console,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        self._decode = decode
        self._num_steps = num_steps
        self._console = console
        self._titles = titles or {}
        self._request: str | None = None
        self._order: list[int] = []
        self._answer = self._state = Text()
        self._live: Live | None = None

    def __enter__(self) -> DenoiseDisplay:
        """Nothing is drawn before the first step."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture on the screen."""
        self.finish()

    def before_reveal(self, view: Any) -> None:
        """Start a new picture when another row begins."""
        if view.request_ids[0] == self._request:
            return
        self.finish()
        self._request = view.request_ids[0]
        self._order = [-1] * view.canvas_BT.shape[1]
        self._answer = self._state = Text()
        if self._request in self._titles:
            self._console.print(Text(visible(self._titles[self._request]), style="bold"))
        # The picture is drawn on every step, so no thread needs to refresh it.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def after_reveal(self, view: Any) -> None:
        """Fill in what this step decided."""
        step = int(view.step_B[0])
        tokens, masked = view.canvas_BT[0].tolist(), view.masked_BT[0].tolist()
        for position, undecided in enumerate(masked):
            if not undecided and self._order[position] < 0:
                self._order[position] = step
        self._answer = self._picture(tokens, step)
        num_left = self._order.count(-1)
        state = f"step {step + 1}, {num_left} masked" if num_left else f"{step + 1} steps"
        self._state = Text(f"[{state}]", style="dim")
        if self._live is not None:
            self._live.update(self._screen(), refresh=True)

    def finish(self) -> None:
        """Leave the whole picture on the screen; what is printed next comes below it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._state:
                self._console.print(self._answer, self._state, sep="\n")

    def _screen(self) -> Text:
        """The lines of the picture that fit on the screen, and its state."""
        lines = self._answer.wrap(self._console, self._console.width)
        height = max(1, self._console.height - 2)
        first = next((row for row, line in enumerate(lines) if UNDECIDED in line.plain), len(lines))
        start = max(0, min(first - height // 2, len(lines) - height))
        return Text("\n").join([*lines[start : start + height], self._state])

    def _picture(self, tokens: list[int], step: int) -> Text:
        shown = Text()
        position = 0
        while position < len(tokens):
            if self._order[position] < 0:
                shown.append(UNDECIDED, style="dim")
                position += 1
                continue
            end, text = self._piece(tokens, position)
            decided = max(self._order[position:end])
            newest = " bold underline" if decided == step and -1 in self._order else ""
            share = decided / max(self._num_steps - 1, 1)
            shown.append(visible(text), style=step_style(share) + newest)
            position = end
        return shown

    def _piece(self, tokens: list[int], start: int) -> tuple[int, str]:
        """The shortest run of decided tokens from `start` that decodes, as its end and its text."""
        end, text = start + 1, self._decode(tokens[start : start + 1])
        while UNDECODED in text and end < len(tokens) and self._order[end] >= 0:
            if UNDECODED not in self._decode(tokens[end : end + 1]):
                break
            end += 1
            text = self._decode(tokens[start:end])
        return end, text


def step_style(share: float) -> str:
    """Ink and background at a share in [0, 1] of the colour ramp: early steps light, late ones dark."""
    share = min(max(share, 0.0), 1.0)
    start, end = _RAMP[:2] if share < 0.5 else _RAMP[1:]
    part = 2 * share - (share >= 0.5)
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(start, end, strict=True))
    ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 128 else "black"
    return f"{ink} on rgb({red},{green},{blue})"
