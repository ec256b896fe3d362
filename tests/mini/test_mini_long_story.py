"""The story of ``tools.mini.report.long_story``: two minutes, cuts and joins, nothing that the storyboard refuses."""

from __future__ import annotations

from ovi_native.ovi_core.story import film, script
from ovi_native.ovi_core.story.plan import Settings, plan_shots

from tools.mini.report import long_story


def test_it_lasts_two_minutes_and_every_fourth_shot_is_a_cut():
    told = script.parse(long_story.script(26, 5.0))
    assert [shot.goes_on for shot in told] == [number % 4 > 0 for number in range(26)]
    settings = Settings("mini", 96, 96, long_story.OVERLAP, skip_layers=())
    planned = plan_shots(told, settings, "models", False, long_story.nothing)
    assert film.starts_of(planned)[-1] >= 120 * 24
    assert len({plan.key for plan in planned}) == 26


def test_memory_is_that_of_late_shots_beside_early_ones():
    run = long_story.Run({**{shot: [100.0, 100.0 + shot] for shot in range(1, 25)}, 0: [90.0]}, highest=200.0)
    assert long_story.growth(run) == {"early": 105, "late": 122, "film": 90, "most": 200}
