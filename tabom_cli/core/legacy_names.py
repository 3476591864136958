"""The four published adapters under their legacy folder names, and what such a name spells out.

Knows names only, no file system.

Source: the release's renaming script and the tag grammar of its evaluation driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tabom_cli.core.errors import UsageError


@dataclass(frozen=True)
class Release:
    """One published adapter.

    Attributes:
        recipe: Recipe that trained it.
        group: First legacy folder under the checkpoint root.
        tag: Second one, which spells out the settings.
        epoch: Published epoch, the third one.
    """

    recipe: str
    group: str
    tag: str
    epoch: int

    @property
    def legacy_path(self) -> Path:
        """The legacy folder relative to the checkpoint root."""
        return Path(self.group, self.tag, f"epoch_{self.epoch}")


RELEASES = (
    Release(
        "dream_prm12k",
        "prm12k_SD_response_TD_random_entropy_rank_grid_bs8_4gpu",
        "w32_a06_lam1_m01_mr08_tdw32_20260424_175927",
        1,
    ),
    Release(
        "dream_ling_coder",
        "ling_coder_SD_response_TD_non_ltr_cut_entropy_rank_grid_w32_bs8_gpu8_allmeth_lr1e4",
        "w32_a08_lam2_m01_mr08_nlcut_tdw32_20260426_100959",
        3,
    ),
    Release(
        "llada_prm12k",
        "prm12k_SD_response_TD_random_entropy_rank_grid_bs8_4gpu_llada",
        "w32_a06_lam1_m02_mr08_tdw32_20260428_012243",
        5,
    ),
    Release(
        "llada_ling_coder",
        "ling_coder_SD_response_TD_random_entropy_rank_grid_bs8_4gpu_llada_default_method_only",
        "w32_a06_lam1_m03_mr08_tdw32_datadef_20260504_235647",
        1,
    ),
)


@dataclass(frozen=True)
class LegacyTag:
    """The settings that a legacy folder name spells out, in the words of a recipe."""

    rank_window: int
    rank_weight: float
    rank_margin: float
    mask_ratio: float
    """Not used by trajectory masking."""
    non_ltr_cut: bool
    supervision_window: int
    default_method_only: bool
    timestamp: str
    alpha: float | None
    """Has no meaning in the released code; newer tags leave it out."""


_TAG = re.compile(
    r"w(?P<window>\d+)(?:_a(?P<alpha>\d{1,3}))?_lam(?P<weight>\d{1,3})_m(?P<margin>\d{1,3})"
    r"_mr(?P<ratio>\d{1,3})(?P<cut>_nlcut)?_tdw(?P<supervision>\d+)(?P<default>_datadef)?"
    r"_(?P<timestamp>\d{8}_\d{6})"
)


def parse_legacy_tag(tag: str) -> LegacyTag:
    """The settings in a legacy folder name; n, n/10 and n/100 for one, two and three digits.

    Raises:
        UsageError: The name does not follow the grammar.
    """
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(
            f"'{tag}' is not a legacy run name",
            hint="expected w<W>[_a<A>]_lam<L>_m<M>_mr<R>[_nlcut]_tdw<T>[_datadef]_<date>_<time>",
        )

    def decimal(name: str) -> float:
        return int(match[name]) / 10 ** (len(match[name]) - 1)

    return LegacyTag(
        rank_window=int(match["window"]),
        rank_weight=decimal("weight"),
        rank_margin=decimal("margin"),
        mask_ratio=decimal("ratio"),
        non_ltr_cut=match["cut"] is not None,
        supervision_window=int(match["supervision"]),
        default_method_only=match["default"] is not None,
        timestamp=match["timestamp"],
        alpha=decimal("alpha") if match["alpha"] else None,
    )
