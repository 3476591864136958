"""The tag grammar of the four published adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tabom_cli.core.errors import UsageError
from tabom_cli.core.legacy_names import RELEASES, LegacyTag, parse_legacy_tag
from tabom_cli.core.recipe import find_recipe

EXPECTED = {
    "dream_prm12k": LegacyTag(32, 1.0, 0.1, 0.8, False, 32, False, "20260424_175927", 0.6),
    "dream_ling_coder": LegacyTag(32, 2.0, 0.1, 0.8, True, 32, False, "20260426_100959", 0.8),
    "llada_prm12k": LegacyTag(32, 1.0, 0.2, 0.8, False, 32, False, "20260428_012243", 0.6),
    "llada_ling_coder": LegacyTag(32, 1.0, 0.3, 0.8, False, 32, True, "20260504_235647", 0.6),
}


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.recipe)
def test_the_four_published_names_spell_out_their_settings(release: object) -> None:
    assert parse_legacy_tag(release.tag) == EXPECTED[release.recipe]  # type: ignore[attr-defined]


def test_the_legacy_paths_are_those_of_the_release() -> None:
    assert [str(release.legacy_path) for release in RELEASES] == [
        "prm12k_SD_response_TD_random_entropy_rank_grid_bs8_4gpu/"
        "w32_a06_lam1_m01_mr08_tdw32_20260424_175927/epoch_1",
        "ling_coder_SD_response_TD_non_ltr_cut_entropy_rank_grid_w32_bs8_gpu8_allmeth_lr1e4/"
        "w32_a08_lam2_m01_mr08_nlcut_tdw32_20260426_100959/epoch_3",
        "prm12k_SD_response_TD_random_entropy_rank_grid_bs8_4gpu_llada/"
        "w32_a06_lam1_m02_mr08_tdw32_20260428_012243/epoch_5",
        "ling_coder_SD_response_TD_random_entropy_rank_grid_bs8_4gpu_llada_default_method_only/"
        "w32_a06_lam1_m03_mr08_tdw32_datadef_20260504_235647/epoch_1",
    ]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.recipe)
def test_the_shipped_recipe_has_the_settings_of_its_legacy_name(release: object) -> None:
    path = find_recipe(release.recipe)  # type: ignore[attr-defined]
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))["objective"]
    tag = parse_legacy_tag(release.tag)  # type: ignore[attr-defined]
    assert settings["rank_window"] == tag.rank_window
    assert settings["supervision_window"] == tag.supervision_window
    assert settings["rank_weight"] == tag.rank_weight
    assert settings["rank_margin"] == tag.rank_margin
    assert ("non_ltr" in str(settings)) == tag.non_ltr_cut


def test_newer_names_leave_alpha_out_and_digits_scale_by_their_number() -> None:
    tag = parse_legacy_tag("w16_lam05_m005_mr1_tdw8_20260101_000000")
    assert tag == LegacyTag(16, 0.5, 0.05, 1.0, False, 8, False, "20260101_000000", None)


@pytest.mark.parametrize(
    "name",
    [
        "train_20260101_000000",
        "w32_a06_lam1_m01_mr08_tdw32",
        "w32_a06_lam1_m01_tdw32_20260424_175927",
        "w32_a06_lam1_m0123_mr08_tdw32_20260424_175927",
        "",
        str(Path("x", "w32_a06_lam1_m01_mr08_tdw32_20260424_175927")),
    ],
)
def test_other_names_are_refused_with_the_grammar(name: str) -> None:
    with pytest.raises(UsageError, match="not a legacy run name") as caught:
        parse_legacy_tag(name)
    assert "w<W>" in str(caught.value.hint)
