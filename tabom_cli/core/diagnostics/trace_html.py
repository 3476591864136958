"""One or several decoded answers as a page that shows in which order the tokens were revealed.

Knows tokens, steps and entropies; no model. The page is one file without outside resources, works
without a network, and every text in it is escaped.

Colours: the early steps are light, the late ones dark; the ramp is readable for colour-blind readers
and in grey print.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabom_cli.core.data.trajectory import Trajectory
from tabom_cli.core.errors import DataError
from tabom_cli.core.files import write_text_atomic

NEVER = -1
_LIGHT, _MIDDLE, _DARK = (255, 243, 196), (120, 183, 178), (24, 58, 108)
_STYLE = """
:root { --ink: #1c1c1c; --soft: #666; --line: #ddd; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .3rem; }
h2 { font-size: 1rem; margin: 0; }
.soft { color: var(--soft); font-size: .85rem; }
.bar { position: sticky; top: 0; background: var(--paper); padding: .6rem 0; z-index: 2;
  border-bottom: 1px solid var(--line); display: flex; gap: 1.2rem; align-items: center; flex-wrap: wrap; }
.ramp { width: 9rem; height: .8rem; border-radius: .2rem; display: inline-block; vertical-align: middle;
  background: linear-gradient(90deg, rgb(255 243 196), rgb(120 183 178), rgb(24 58 108)); }
section { margin-top: 1.4rem; border: 1px solid var(--line); border-radius: .4rem; padding: .9rem 1rem; }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; padding: .4rem .7rem;
  border-left: 3px solid var(--line); color: #444; }
.answer { font: 15px/1.95 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.t { position: relative; border-radius: .18rem; padding: .12rem .06rem; margin: 0 1px;
  background: var(--s); color: var(--si); }
.entropy .t { background: var(--e); color: var(--ei); }
.t.special { font-size: .68em; }
.t.never { background: repeating-linear-gradient(45deg, #eee, #eee 3px, #ccc 3px, #ccc 5px); color: #333; }
.t.hidden { background: #f1f1f1; color: transparent; outline: 1px dashed #bbb; outline-offset: -1px; }
.t:hover::after { content: attr(data-tip); position: absolute; left: 0; top: 1.9em; z-index: 3;
  padding: .25rem .5rem; border-radius: .25rem; background: #1c1c1c; color: #fff; white-space: pre;
  font: 12px/1.4 system-ui, "DejaVu Sans", sans-serif; }
input[type=range] { width: 11rem; vertical-align: middle; }
@media print { .controls { display: none; } }
"""
_SCRIPT = """
const all = [...document.querySelectorAll('.t')];
const slider = document.getElementById('step'), shown = document.getElementById('shown');
function replay() {
  const limit = Number(slider.value), last = Number(slider.max);
  shown.textContent = limit === last ? 'all' : limit;
  for (const token of all) token.classList.toggle('hidden', Number(token.dataset.step) >= limit);
}
slider.addEventListener('input', replay);
document.getElementById('mode').addEventListener('change',
  event => document.body.classList.toggle('entropy', event.target.value === 'entropy'));
"""


@dataclass(frozen=True)
class TracedAnswer:
    """One answer with its record.

    Attributes:
        title: Heading, such as the prompt's id and the model.
        prompt: What was asked.
        tokens: Text of each response token.
        order: 0-based forward pass that revealed each token, -1 for never.
        entropy: Entropy in nats just before the reveal; empty when it was not recorded.
        facts: More to show under the heading, such as verdict and reference.
    """

    title: str
    prompt: str
    tokens: Sequence[str]
    order: Sequence[int]
    entropy: Sequence[float] = ()
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Text that each id adds; an id that ends within a character adds nothing until it is complete.

    Args:
        tokenizer: Decodes a list of ids.
        ids: Response token ids.
    """
    pieces: list[str] = []
    done = ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(list(ids[:end]), skip_special_tokens=False)
        if text.endswith("\ufffd") and end < len(ids):
            pieces.append("")
            continue
        if not text.startswith(done):
            # Some decoders change earlier spaces when a token follows.
            text = done + tokenizer.decode([ids[end - 1]], skip_special_tokens=False)
        pieces.append(text[len(done) :])
        done = text
    return pieces


def traced(trajectory: Trajectory, tokenizer: Any) -> TracedAnswer:
    """A stored trajectory as an answer to show.

    Raises:
        DataError: The trajectory has no token ids or no decoding order.
    """
    ids, order = trajectory.response_token_ids, trajectory.decoding_order
    if ids is None or order is None:
        raise DataError(f"trajectory '{trajectory.id}' has no token ids or no decoding order")
    facts = [("verdict", trajectory.verdict), ("reference", trajectory.reference)]
    return TracedAnswer(
        title=trajectory.id,
        prompt=trajectory.prompt,
        tokens=token_texts(tokenizer, ids),
        order=order,
        entropy=trajectory.decoding_entropy or (),
        facts=tuple((name, value) for name, value in facts if value is not None),
    )


def trace_page(answers: Sequence[TracedAnswer], *, title: str = "Decoding order") -> str:
    """A self-contained HTML page.

    Args:
        answers: Shown one below the other; the colours of each run from its own first to last step.
        title: Heading of the page.

    Raises:
        DataError: No answers, or an answer whose lists differ in length.
    """
    if not answers:
        raise DataError("nothing to show: no answers")
    for answer in answers:
        lengths = {len(answer.tokens), len(answer.order)}
        lengths |= {len(answer.entropy)} if answer.entropy else set()
        if len(lengths) != 1:
            raise DataError(
                f"'{answer.title}': {len(answer.tokens)} tokens, {len(answer.order)} steps, "
                f"{len(answer.entropy)} entropies"
            )
    last = max((step for answer in answers for step in answer.order), default=0) + 1
    top = max((value for answer in answers for value in answer.entropy), default=0.0)
    has_entropy = any(answer.entropy for answer in answers)
    modes = '<option value="step">decode step</option>'
    if has_entropy:
        modes += '<option value="entropy">entropy at reveal</option>'
    sections = "\n".join(_section(answer, top) for answer in answers)
    heading = html.escape(title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{heading}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{heading}</h1>
<div class="soft">Each token is coloured by when it was revealed. Point at one for its step and entropy.</div>
<div class="bar controls">
<label>Colour by <select id="mode">{modes}</select></label>
<span>low <span class="ramp"></span> high</span>
<label>Steps shown <input type="range" id="step" min="0" max="{last}" value="{last}">
<span id="shown">all</span></label>
</div>
{sections}
<script>{_SCRIPT}</script>
</body>
</html>
"""


def write_trace_page(
    path: Path | str, answers: Sequence[TracedAnswer], *, title: str = "Decoding order"
) -> None:
    """Write `trace_page` to a file, whole or not at all."""
    write_text_atomic(path, trace_page(answers, title=title))


def _section(answer: TracedAnswer, top_entropy: float) -> str:
    num_steps = max(answer.order, default=NEVER) + 1
    facts = [("tokens", str(len(answer.tokens))), ("steps", str(num_steps)), *answer.facts]
    line = " &middot; ".join(f"{html.escape(k)} {html.escape(v)}" for k, v in facts)
    spans = "".join(
        _token(answer, index, num_steps, top_entropy) for index in range(len(answer.tokens))
    )
    return (
        f"<section><h2>{html.escape(answer.title)}</h2>"
        f'<div class="soft">{line}</div>'
        f'<div class="prompt">{html.escape(answer.prompt)}</div>'
        f'<div class="answer">{spans}</div></section>'
    )


def _token(answer: TracedAnswer, index: int, num_steps: int, top_entropy: float) -> str:
    text, step = answer.tokens[index], answer.order[index]
    tip = f"position {index}\nnever revealed" if step == NEVER else f"position {index}\nstep {step}"
    classes = ["t"]
    colours = ""
    if step == NEVER:
        classes.append("never")
    else:
        colours = _colours("s", step / max(num_steps - 1, 1))
        if answer.entropy:
            value = answer.entropy[index]
            tip += f"\nentropy {value:.4f} nats"
            colours += _colours("e", value / top_entropy if top_entropy > 0 else 0.0)
    if text.startswith("<|") and text.endswith("|>"):
        classes.append("special")
    shown = html.escape(text).replace("\n", "&#9166;\n") or "&#8203;"
    return (
        f'<span class="{" ".join(classes)}" data-step="{step}" data-tip="{html.escape(tip)}" '
        f'style="{colours}">{shown}</span>'
    )


def ramp(share: float) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) at a share in [0, 1] of the ramp, light first."""
    share = min(max(share, 0.0), 1.0)
    start, end, part = (
        (_LIGHT, _MIDDLE, 2 * share) if share < 0.5 else (_MIDDLE, _DARK, 2 * share - 1)
    )
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _colours(name: str, share: float) -> str:
    """CSS variables of the background at a share in [0, 1] of the ramp, and of readable ink on it."""
    red, green, blue = ramp(share)
    ink = "#fff" if 0.299 * red + 0.587 * green + 0.114 * blue < 128 else "#1c1c1c"
    return f"--{name}:rgb({red} {green} {blue});--{name}i:{ink};"
