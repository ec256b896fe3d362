"""Storyboards: what a film consists of, what is stored, what is redone, and what a run that ends early loses."""

from __future__ import annotations

import gc
import math
import os
import shutil
import signal
import tracemalloc
from fractions import Fraction

import av
import comfy.model_management
import numpy as np
import pytest
import story_cases as story
import story_kills
import torch
from comfy.patcher_extension import WrappersMP
from film_cases import assert_same_film, assert_shows, decoded, put_together
from join_cases import clip, join, sound
from ovi_native.nodes.clips import OviExtend
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.sampling.time_left import in_words
from ovi_native.ovi_core.story import film, script
from ovi_native.ovi_core.story.plan import START_IMAGE, plan_shots
from ovi_native.ovi_core.story.progress import Progress

FROM_STORE = "from the store"


@pytest.fixture(scope="module", autouse=True)
def models():
    yield story.models()
    story.models.cache_clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store, film and report of a story that ran through."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *story.rendered(folder)


def plans(text=story.SCRIPT, load=None, start_image=False, models="models", **changed):
    return plan_shots(script.parse(text), story.settings(**changed), models, start_image, load)


def as_clip(path):
    """Images and AUDIO of a shot's file."""
    frames, samples = decoded(path)
    return torch.from_numpy(frames).float() / 255, {"waveform": torch.from_numpy(samples)[None], "sample_rate": 16_000}


# -- the film -------------------------------------------------------------------------------------------------------


def test_the_film_has_every_frame_and_sample(whole):
    _, path, report = whole
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec.name, video.average_rate, video.frames) == ("h264", 24, story.FRAMES)
        assert (video.width, video.height) == (64, 32)
        assert (audio.codec.name, audio.rate, audio.channels) == ("aac", 16_000, 1)
        assert video.duration * video.time_base == Fraction(story.FRAMES, 24)
        assert abs(audio.duration * audio.time_base - Fraction(story.FRAMES, 24)) < Fraction(1, 1000)
    frames, samples = decoded(path)
    assert len(frames) == story.FRAMES
    assert 0 <= samples.shape[1] - math.ceil(Fraction(story.FRAMES, 24) * 16_000) < 1024  # AAC comes in blocks
    assert f"{story.FRAMES} frames: {path}" in report


def test_shots_are_joined_as_the_join_node_joins_them(whole):
    folder, path, _ = whole
    planned = plans(models=story.models().identity())
    store = story.store(folder)
    one, two, three, four = (as_clip(store.shot(plan.key)) for plan in planned)
    expected = join(*one, *two, 0.2)
    expected = join(*expected, *three, 0.0)
    expected = join(*expected, *four, 0.0)
    frames, heard = put_together(store, planned)
    assert frames.shape == expected[0].shape
    assert (frames - expected[0]).abs().max() <= 0.5 / 255 + 1e-6
    assert heard.shape == expected[1]["waveform"].shape
    off = (heard - expected[1]["waveform"]).abs()[0, 0]
    cuts = [round(start / 24 * 16_000) for start in film.starts_of(planned)[2:4]]
    for cut in cuts:
        off[cut - 81 : cut + 81] = 0  # the node fades only where there is silence between
    off[-1000:] = 0  # and not at the end
    assert off.max() < 1e-6
    in_file, in_aac = decoded(path)
    assert_shows(in_file, frames)
    likeness = np.corrcoef(in_aac[0, : heard.shape[-1]], heard[0, 0].numpy())[0, 1]
    assert likeness > 0.9


def test_a_correction_is_that_of_the_join_node(whole, tmp_path):
    text = story.SCRIPT.split("shot 0.5 s")[0]
    raw = story.rendered(tmp_path, text, settings={"correct": "off"})
    identity = story.models().identity()
    one, two = (as_clip(story.store(tmp_path).shot(plan.key)) for plan in plans(text, models=identity, correct="off"))
    expected = join(*one, *two, 0.2, "to the overlap")
    frames, heard = put_together(story.store(whole[0]), plans(text, models=identity))
    uncorrected, _ = put_together(story.store(tmp_path), plans(text, models=identity, correct="off"))
    assert (frames - expected[0]).abs().max() < 1.6 / 255
    assert (uncorrected - expected[0]).abs().max() > 4 / 255
    assert (heard - expected[1]["waveform"])[..., :-1000].abs().max() < 1e-4
    assert raw[0] != whole[1]


def test_neither_frames_nor_samples_are_lost_over_many_shots_of_any_length(tmp_path):
    lengths = [0.5, 0.9, 0.5, 0.6, 1.1, 0.5, 2.0, 0.5]
    text = "scene: x\n" + "\n".join(f"shot {s} s{', go on' if n % 3 else ''}" for n, s in enumerate(lengths))
    planned, store = plans(text), story.store(tmp_path)
    for n, plan in enumerate(planned):
        store.write(plan, clip(plan.clip.frames, n), sound(plan.clip.samples - 7 * n, seed=n)["waveform"])
    frames, heard = put_together(store, planned)
    assert len(frames) == sum(plan.clip.frames - plan.overlap.frames for plan in planned)
    assert heard.shape[-1] == math.ceil(Fraction(len(frames), 24) * 16_000)
    for plan, start in zip(planned, film.starts_of(planned), strict=False):
        middle = plan.clip.frames // 2
        own = as_clip(store.shot(plan.key))
        assert torch.equal(frames[start + middle], own[0][middle])
        at, own_at = round((start + middle) / 24 * 16_000), round(middle / 24 * 16_000)
        assert min((heard[0, 0, at + i] - own[1]["waveform"][0, 0, own_at]).abs() for i in (-1, 0, 1)) < 1e-6


def test_no_click_where_loud_shots_meet(tmp_path):
    """No step of the waveform at a cut is larger than those of the tones themselves."""
    planned, store = plans("scene: x\nshot 1 s\nshot 1 s\nseed: 1"), story.store(tmp_path)
    for n, plan in enumerate(planned):
        tone = torch.cos(torch.arange(plan.clip.samples + 600) * (300 + 50 * n) * 2 * math.pi / 16_000)
        store.write(plan, clip(plan.clip.frames), 0.9 * tone.reshape(1, 1, -1))
    _, heard = put_together(store, planned)
    assert heard.diff().abs().max() < 1.2 * 0.9 * 2 * math.pi * 350 / 16_000


# -- memory ---------------------------------------------------------------------------------------------------------


class Peak:
    """The most bytes that tensors, arrays and objects of Python held, looked at again and again."""

    def __init__(self):
        self.bytes = 0

    def look(self, *_):
        gc.collect()
        tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in all_tensors()}
        self.bytes = max(self.bytes, sum(tensors.values()) + tracemalloc.get_traced_memory()[1])


def all_tensors():
    return [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.device.type == "cpu"]


@pytest.fixture
def traced():
    gc.collect()
    gc.freeze()  # what is there already is not looked at
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.unfreeze()


def script_of(count, seconds, way=""):
    return "scene: x\nguidance: 1, 1\n" + "\n".join(f"shot {seconds} s{way if n else ''}" for n in range(count))


def test_a_longer_film_is_written_in_the_same_memory(tmp_path, traced):
    peaks = []
    for count in (3, 24):
        planned, store = plans(script_of(count, 1, ", go on"), overlap_seconds=0.5), story.store(tmp_path)
        for plan in planned:
            store.write(plan, clip(plan.clip.frames), sound(plan.clip.samples)["waveform"])
        tracemalloc.reset_peak()
        peak = Peak()
        counter = iter(range(10_000))
        film.write(store, planned, lambda peak=peak, counter=counter: next(counter) % 20 or peak.look())
        peaks.append(peak.bytes)
    one_shot = 25 * 32 * 64 * 3
    assert peaks[1] < peaks[0] + 2 * one_shot  # 21 more shots


def test_a_longer_story_is_made_in_the_same_memory(tmp_path, traced):
    peaks = []
    for count in (2, 8):
        peak = Peak()
        tracemalloc.reset_peak()
        story.rendered(tmp_path / str(count), script_of(count, 0.6, ", go on"), settings={"steps": 1}, show=peak.look)
        peaks.append(peak.bytes)
    one_shot = 13 * 32 * 64 * 3 * 4
    assert peaks[1] < peaks[0] + 2 * one_shot  # 6 more shots


# -- what is kept ---------------------------------------------------------------------------------------------------


STAGES = {
    "before the first shot": 0,
    "sampling": 2,
    "writing a shot": 2,
    "before a shot has its checksum": 3,
    "writing the film": 4,
    "before the film has its checksum": 4,
}
"""Where a run is killed, and how many shots it has made by then."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    return folder, story_kills.killed_at(list(STAGES), folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_resumes_where_it_stopped(whole, killed, stage):
    folder, ended = killed[0] / stage, killed[1][stage]
    assert ended == -signal.SIGKILL
    planned = plans(models=story.models().identity())
    made = story.shot_files(folder)
    assert set(made) == {f"{plan.key}.mkv" for plan in planned[: STAGES[stage]]}
    film_there = [*folder.glob("films/*.mp4")]
    again, report = story.rendered(folder)
    rows = report.splitlines()[1:5]
    assert [FROM_STORE in row for row in rows] == [number < STAGES[stage] for number in range(4)]
    assert "damaged" not in report.replace("The film's file was damaged", "" if film_there else "damaged")
    assert made.items() <= story.shot_files(folder).items()
    assert again.name == whole[1].name
    assert_same_film(planned, (folder, again), (whole[0], whole[1]))
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left == {f"{plan.key}.{end}" for plan in planned for end in ("mkv", "sha256")} | {
        again.name,
        f"{again.stem}.sha256",
    }


def test_a_storyboard_that_is_run_again_makes_nothing(whole):
    folder, path, _ = whole
    before, written = story.shot_files(folder), path.stat().st_mtime_ns
    again, report = story.rendered(folder)
    assert (again, path.stat().st_mtime_ns, story.shot_files(folder)) == (path, written, before)
    assert report.count(FROM_STORE) == 4


@pytest.mark.parametrize("at", ["Shot 2 of 4, step 1", "Writing the film"])
def test_an_interrupted_run_loses_only_the_shot_it_was_at(whole, tmp_path, at):
    shutil.copytree(whole[0] / "shots", tmp_path / "shots")
    for plan in plans(models=story.models().identity())[1:]:
        if at.startswith("Shot"):
            story.store(tmp_path).shot(plan.key).unlink()
    kept = story.shot_files(tmp_path)

    def show(line):
        if line.startswith(at):
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        story.rendered(tmp_path, show=show)
    assert story.shot_files(tmp_path) == kept
    assert not [*tmp_path.glob("**/*.part*"), *tmp_path.glob("films/*")]


def keys(*arguments, **changed):
    return [plan.key for plan in plans(*arguments, **changed)]


def same(ours, theirs):
    return [a == b for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("on a pier", "on a hill", [False, False, True, True]),
        ("Good morning", "Good evening", [False, False, True, True]),
        ("She laughs", "She cries", [True, False, True, True]),
        ("shot 1 s", "shot 2 s", [True, False, True, True]),
        (", go on", "", [True, False, True, True]),
        ("lighthouse", "house", [True, True, False, True]),
        ("guidance: 1, 1", "guidance: 1, 2", [True, True, False, True]),
        ("seed: 9", "seed: 8", [True, True, True, False]),
        ("seed: 5", "seed: 6", [False, False, False, True]),
        ("waves", "wind", [False] * 4),
        ("# four", "\n\n# Four", [True] * 4),
    ],
)
def test_a_change_of_the_script_redoes_a_shot_and_what_goes_on_from_it(old, new, kept):
    assert same(keys(), keys(story.SCRIPT.replace(old, new))) == kept


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"models": "others"}, [False] * 4),
        ({"width": 96}, [False] * 4),
        ({"steps": 3}, [False] * 4),
        ({"shift": 4.0}, [False] * 4),
        ({"solver": "euler"}, [False] * 4),
        ({"tiled": "on"}, [False] * 4),
        ({"seed": 1}, [True] * 4),  # the script has its own
        ({"video_cfg": 5.0}, [False, False, True, False]),
        ({"audio_negative": "hum"}, [False, False, True, False]),
        ({"skip_layers": ()}, [False, False, True, False]),
        ({"overlap_seconds": 0.4}, [True, False, True, True]),
        ({"correct": "off"}, [True, False, True, True]),
    ],
)
def test_a_change_of_a_setting_redoes_what_it_decides(changed, kept):
    assert same(keys(), keys(**changed)) == kept


def test_a_shot_is_inserted_without_redoing_others():
    text = story.SCRIPT.replace("shot 0.5 s", "shot 0.5 s\nscene: A boat.\n\nshot 0.5 s")
    assert set(keys()) < set(keys(text))
    twice = keys(story.SCRIPT + "\nshot 0.8 s\nscene: Night.\nseed: 9")
    assert twice[3] == twice[4]  # the same shot, made once


def test_a_picture_is_known_by_what_it_shows():
    text = story.SCRIPT.replace("A lighthouse.", "A lighthouse.\npicture: light.png")
    pictures = [clip(1, seed) for seed in (1, 2)]
    a, b, again = (keys(text, lambda name, shown=shown: shown) for shown in (*pictures, pictures[0].clone()))
    assert same(keys(), a) == same(a, b) == [True, True, False, True]
    assert a == again
    started = keys(load=lambda name: pictures[0], start_image=True)
    assert same(keys(), started) == [False, False, True, True]


# -- what a shot begins with ----------------------------------------------------------------------------------------


class Watch:
    """Models that note what every run begins with."""

    def __init__(self):
        self.begun = []
        model = story.models().model.clone()
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "watch", self.note)
        self.models = story.models()._replace(model=model)

    def note(self, executor, noise, latent, sampler, sigmas, mask, *more, latent_shapes, **named):
        self.begun.append(latent[0, 0, : math.prod(latent_shapes[0][1:])].reshape(latent_shapes[0]).clone())
        return executor(noise, latent, sampler, sigmas, mask, *more, latent_shapes=latent_shapes, **named)


def test_shots_begin_with_their_picture_or_with_the_end_of_the_shot_before(tmp_path):
    watch, picture, vae = Watch(), clip(1, height=32, width=64), story.models().vae
    text = "scene: x\nshot 0.4 s\nshot 0.8 s, go on\nshot 0.4 s\npicture: p.png\nseed: 2\nshot 0.4 s\nseed: 3"
    loaded = []

    def load(name):
        loaded.append(name)
        return picture

    before = plans(text, load, True, models=watch.models.identity(), steps=1)[0]
    story.rendered(tmp_path, text, models=watch.models, load_image=load, start_image=True, settings={"steps": 1})
    start, went_on, named, empty = watch.begun
    encoded = vae.encode(picture)
    assert torch.equal(start[:, :, :1], encoded)
    assert torch.equal(named[:, :, :1], encoded)
    assert not empty.any()
    assert set(loaded) == {START_IMAGE, "p.png"}
    expected = OviExtend.execute(
        vae, story.models().audio_vae, *as_clip(story.store(tmp_path).shot(before.key)), 0.2, 0.8
    )
    assert torch.equal(went_on, expected.result[0]["samples"].unbind()[0])


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_the_time_left_goes_by_the_work_done():
    now, lines = iter([0.0, 10.0, 60.0]), []
    planned = plans()
    progress = Progress(planned, 4, lines.append, lambda: next(now))
    steps = [6, 7, 4, 6]  # latent steps of the shots
    progress.step(planned[0], 1, 2, None)
    left = 10 * (sum(steps) - 3) / 3
    assert lines == [f"Shot 1 of 4, step 1 of 2. About {in_words(left)} left."]
    for plan in planned[:3]:
        progress.made(plan)
    progress.step(planned[3], 2, 2, None)
    assert lines[-1] == "Shot 4 of 4, step 2 of 2. About 0 s left."


@pytest.mark.parametrize(("seconds", "words"), [(41.6, "42 s"), (190, "3 min 10 s"), (7500, "2 h 5 min")])
def test_times_are_shown_in_two_units(seconds, words):
    assert in_words(seconds) == words


def test_the_report_tells_of_every_shot(whole):
    rows = [row.split() for row in whole[2].splitlines()[1:5]]
    assert [row[:2] for row in rows] == [["1", "6"], ["2", "10"], ["3", "13"], ["4", "17"]]
    assert [row[2] for row in rows] == ["0:00.00", "0:00.67", "0:01.71", "0:02.25"]
    assert [int(row[4]) for row in rows] == story.LENGTHS
    assert "About 0.8 s of speech for 0.9 s" in whole[2]
    assert "Line 8, The woman" in whole[2]


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("The woman: Good", "The woman: <S>Good", "in the shot of line 6, speech: a tag in line 8"),
        ("The woman: Good morning.", "The woman:", "in the shot of line 6, speech: no words in line 8"),
        ("She laughs.", "She says <S>Ha<S>", "in the shot of line 10, scene:"),
        ("shot 1 s", "shot 0.2 s", "in the shot of line 10, overlap_seconds: an overlap of 0.21 s"),
        (
            "A lighthouse.",
            "A lighthouse.\npicture: small.png",
            "in the shot of line 13, small.png: an image of 8x8 px",
        ),
    ],
)
def test_what_cannot_be_made_is_reported_with_its_line(old, new, found):
    with pytest.raises(OviError) as caught:
        plans(story.SCRIPT.replace(old, new), lambda name: torch.zeros(1, 8, 8, 3))
    assert caught.value.input == "script"
    assert found in caught.value.found
    assert caught.value.remedy


def test_models_in_each_others_place_are_reported_before_anything_is_made(tmp_path):
    swapped = story.models()._replace(vae=story.models().audio_vae)
    with pytest.raises(OviError, match=r"Wan 2\.2 VAE"):
        story.rendered(tmp_path, models=swapped)
    with pytest.raises(OviError, match="umt5"):
        story.rendered(tmp_path, models=story.models()._replace(clip=None))
    assert not [*tmp_path.iterdir()]
