"""A dry run of ``dev.py speed-report``: its rows come out, exact is equal, and its measure of likeness is right."""

from __future__ import annotations

import comfy.model_management
import numpy as np
import pytest

from tools.mini.report import speed
from tools.mini.report.__main__ import MODELS, into_page
from tools.mini.report.figures import of_kinds
from tools.mini.report.studio import Studio


def test_a_dry_run_gives_a_row_for_each_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "in_training", False)
    studio = Studio(MODELS, tmp_path)
    chosen = [setting for setting in speed.settings() if setting.name in ("exact", "guidance 1")]
    orders = of_kinds(speed.KINDS, 1, steps=2)
    exact, unguided = speed.rows_of(studio, orders, chosen)
    assert exact.startswith("| exact | 100% | equal | 1 | 0 |")
    assert unguided.startswith("| guidance 1 | 50% |")
    assert "equal" not in unguided
    video, audio = (float(number) for number in exact.split("|")[-2].split(","))
    assert max(video, audio) <= 1e-5  # of the reference's run
    assert list(speed.rows_of(studio, orders, chosen[:1])) == [exact]  # from the shelf
    page = into_page(speed.PAGE.read_text(encoding="utf-8"), "table", exact + "\n")
    assert page.count("| exact | 100%") == 1


def test_likeness_is_one_of_the_same_and_falls_with_noise():
    made = np.random.default_rng(1)
    clip = made.random((2, 16, 16, 3))
    noisy = [clip + size * made.standard_normal(clip.shape) for size in (0.05, 0.5)]
    assert speed.ssim(clip, clip) == pytest.approx(1)
    assert 1 > speed.ssim(clip, noisy[0]) > speed.ssim(clip, noisy[1])
