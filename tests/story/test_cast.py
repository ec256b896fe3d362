"""The cast of a storyboard: who is in a shot, what they look and sound like, and how shots with them are made."""

from __future__ import annotations

import pickle
import shutil
import wave
from pathlib import Path

import av
import comfy.model_management
import folder_paths
import numpy as np
import pytest
import story_cases as story
import torch
from comfy_api.latest import InputImpl
from film_cases import assert_same_film
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from native_cases import empty_latent
from ovi_native.nodes.person import OviPerson
from ovi_native.nodes.shared import input_media
from ovi_native.nodes.storyboard import OviStoryboard
from ovi_native.ovi_core.conditioning.person import voice_second
from ovi_native.ovi_core.errors import OviError
from ovi_native.ovi_core.media import provenance
from ovi_native.ovi_core.network.references import KEY
from ovi_native.ovi_core.sampling import sample
from ovi_native.ovi_core.story import farm_worker, script, shot_maker
from ovi_native.ovi_core.story.plan import Voice, plan_shots
from ovi_native.ovi_core.story.script import HIGHEST_GUIDANCE, Person, parse
from PIL import Image
from refusals import refusal

CAST = """cast Anna: face anna.png, voice anna.wav from 1.5 s
  A woman of thirty with red hair
  and a green coat.
cast Tom Bell: face tom.jpg
"""
SCRIPT = f"""# three shots, two people
{CAST}
seed: 5
guidance: 2, 2

shot 0.8 s
with: Anna, Tom Bell
scene: Anna looks at Tom Bell, not at Annabel.
speech:
anna (softly): Good morning.
The gull: Aah.

shot 0.8 s, go on
with: Anna
scene: She laughs.
speech: Ha.

shot 0.4 s
scene: Night.
"""
RATE = 8_000


def face(seed: int) -> torch.Tensor:
    return torch.rand(1, 40, 36, 3, generator=torch.Generator().manual_seed(seed))


def speech(seed: int, seconds: float = 4) -> torch.Tensor:
    return 0.3 * torch.rand(1, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) - 0.15


FACES = {"anna.png": face(1), "tom.jpg": face(2), "other.png": face(3), "same.png": face(1)}
VOICES = {"anna.wav": speech(1), "other.wav": speech(2), "same.wav": speech(1)}


def load_image(name: str) -> torch.Tensor:
    return FACES[name]


def load_voice(name: str, start: float) -> Voice:
    return Voice({"waveform": VOICES[name], "sample_rate": RATE}, start, 0.0)


def plans(text=SCRIPT, models="models", image=load_image, voice=load_voice, **changed):
    return plan_shots(parse(text), story.settings(**{"variant": "dreamid_omni"} | changed), models, False, image, voice)


def keys(*arguments, **changed):
    return [plan.key for plan in plans(*arguments, **changed)]


# -- the script ------------------------------------------------------------------------------------------------------


def test_a_cast_is_read_and_shots_say_who_is_in_them():
    first, second, third = parse(SCRIPT)
    anna = Person(2, "Anna", "A woman of thirty with red hair and a green coat.", "anna.png", "anna.wav", 1.5)
    tom = Person(5, "Tom Bell", "", "tom.jpg", "", 1.0)
    assert first.people == (anna, tom)
    assert second.people == (anna,)
    assert third.people == ()
    assert parse(SCRIPT.replace("Anna, Tom Bell", "tom  bell ,ANNA"))[0].people == (tom, anna)


@pytest.mark.parametrize(
    ("line", "face", "voice", "start"),
    [
        ("CAST anna: voice a.wav", "", "a.wav", 1.0),
        ("cast Anna: Voice my, own voice.wav from 0, face a from b.png,", "a from b.png", "my, own voice.wav", 0.0),
        ("cast Anna: face sub/a.png, voice a.wav from .25 sec", "sub/a.png", "a.wav", 0.25),
        ("cast Anna: voice tape from 1970.wav from 3600 s", "", "tape from 1970.wav", 3600.0),
        ("cast  Anna : face a.png", "a.png", "", 1.0),
        ("cast Anna： face a.png", "a.png", "", 1.0),
    ],
)
def test_a_cast_may_be_written_in_several_ways(line, face, voice, start):
    (shot,) = parse(f"{line}\nshot\nwith: Anna\nscene: x")
    (anna,) = shot.people
    assert (anna.face, anna.voice, anna.voice_start, anna.description) == (face, voice, start, "")


def test_above_the_first_shot_stands_who_is_in_all_of_them():
    shots = parse(f"{CAST}with: Anna\nshot\nscene: a\nshot, go on\nscene: b\nshot\nscene: c\nwith:\n")
    assert [[one.name for one in shot.people] for shot in shots] == [["Anna"], ["Anna"], []]


def test_the_documented_cast_is_one():
    page = (Path(__file__).parents[2] / "docs" / "storyboard.md").read_text(encoding="utf-8")
    shots = parse(page.split("```")[3])
    assert [[one.name for one in shot.people] for shot in shots] == [["Anna", "Tom"], ["Anna"], []]


def test_scripts_without_a_cast_say_what_they_said():
    """Who speaks may have any name, and a scene may begin with any word."""
    speech_of = parse("speech:\nCast member: Hi.\nshot\nscene: x\nspeech:\nWitch: Boo.\nThe cast: Hurrah.\n cast a: b")
    assert [row for row in speech_of[0].speech.splitlines() if row] == ["Witch: Boo.", "The cast: Hurrah.", "cast a: b"]
    assert parse("shot\nscene: A gate of\ncast iron.")[0].scene == "A gate of cast iron."


SHOT = "\nshot\nscene: x\n"


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        (f"{CAST}{SHOT}with: Ana", "'Ana', who is not in the cast, in line 8", "Write 'Anna'"),
        (f"{SHOT}with: Anna", "'Anna', who is not in the cast, in line 4", "above the first shot"),
        (f"{CAST}{SHOT}with: Anna, ANNA", "'Anna' twice in line 8", "Delete one"),
        (f"{CAST}cast Eve: face e.png{SHOT}with: Anna, Eve, Tom Bell", "more than two people in line 8", "scene"),
        (f"{CAST}cast ANNA: face b.png{SHOT}", "a second 'ANNA' in the cast in line 5", "another name"),
        (f"cast Anna:{SHOT}", "neither a face nor a voice for 'Anna' in line 1", "face"),
        (f"cast Anna:\n  A woman.{SHOT}", "neither a face nor a voice for 'Anna' in line 1", "face"),
        (f"cast Anna: a.png{SHOT}", "\"a.png\" for 'Anna' in line 1", "Correct"),
        (f"cast Anna: face{SHOT}", "\"face\" for 'Anna' in line 1", "Correct"),
        (f"cast Anna: face a.png, face b.png{SHOT}", "\"face b.png\" for 'Anna' in line 1", "Correct"),
        (f"cast: face a.png{SHOT}", "a cast without a name in line 1", "cast Anna"),
        (f"cast A, B: face a.png{SHOT}", 'the name "A, B" in line 1', "cast Anna"),
        (f"cast <sub1>: face a.png{SHOT}", 'the name "<sub1>" in line 1', "cast Anna"),
        (f"cast {'x' * 41}: face a.png{SHOT}", "the name", "cast Anna"),
        (f"cast Anna: voice a.wav from -1 s{SHOT}", 'a voice "from -1 s" in line 1', "from 1.5 s"),
        (f"cast Anna: voice a.wav from 3601 s{SHOT}", 'a voice "from 3601 s" in line 1', "from 1.5 s"),
        (f"cast Anna: voice a.wav from {'9' * 4000} s{SHOT}", "a voice", "from 1.5 s"),
        (f"{SHOT}cast Anna: face a.png", "a cast within a shot in line 4", "above the first shot"),
        (f"cast Anna: face {'x' * 5000}{SHOT}", "'cast:' of 5,005 characters in line 1", "Shorten"),
        (
            f"{''.join(f'cast p{n}: face a.png' + chr(10) for n in range(101))}{SHOT}",
            "a person number 101",
            "in no shot",
        ),
        (f"cast Anna: face a.png\nwiht: Anna{SHOT}", "'wiht:', which is no field, in line 2", "Write 'with:'"),
        (f"{CAST}{SHOT}with: Anna\nreference: 1", 'the reference "1" in line 9', "reference: 1.5, 2"),
        (f"{CAST}{SHOT}reference: 1, {HIGHEST_GUIDANCE + 1}", "the reference", "reference: 1.5, 2"),
        (
            "cast Anna: face a.png\n " + "x" * 4900 + "\n" + "shot\nscene: x\nwith: Anna\n" * 205,
            "too much text",
            "Shorten",
        ),
    ],
)
def test_a_mistake_in_the_cast_is_reported_with_its_line(text, found, remedy):
    with pytest.raises(OviError) as caught:
        parse(text)
    error = caught.value
    assert error.input == "script"
    assert found in error.found
    assert remedy in error.remedy
    assert len(str(error)) < 600
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    "row",
    ["cast " + "a " * 240_000, "cast a:" + " ," * 240_000, "cast a: voice x" + " from " * 80_000, "with:" * 90_000],
)
def test_a_long_row_of_the_cast_is_read_at_once(row):
    with pytest.raises(OviError):
        parse(f"{row}\nshot\nscene: x\nwith: {row}")


ROWS = [
    "cast Anna: face a.png", "cast B: voice b.wav from 1", "cast anna:", "with: Anna", "with: B, Anna", "with:", "shot",
    "shot, go on", "scene: A.", "speech:", "cast B: hi", " more", "more", "reference: 1 2", "CAST x: face",
]  # fmt: skip


@hypothesis_settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(ROWS), st.text(max_size=20).map("cast {}".format)), max_size=10))
def test_any_cast_is_one_or_an_error_in_one_line(rows):
    shots, problem = [], None
    try:
        shots = parse("\n".join(rows))
    except OviError as error:
        problem = error
    assert (problem is None) == bool(shots)
    assert not problem or len(str(problem).splitlines()) == 1
    assert all(one.face or one.voice for shot in shots for one in shot.people)


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_weights_that_were_trained_on_people_read_their_tags():
    first, second, third = plans()
    assert first.prompt == (
        "<img1>: A woman of thirty with red hair and a green coat, identified as <sub1>.\n"
        "<img2>: Tom Bell, identified as <sub2>.\n"
        "**Overall Environment/Scene**: <sub1> looks at <sub2>, not at Annabel.\n"
        "<sub1> says, softly, <S>Good morning.<E> The gull says, <S>Aah.<E>"
    )
    assert second.prompt.endswith("She laughs.\n<sub1> says, <S>Ha.<E>")  # nobody else is there to say it
    assert third.prompt == "Night."
    assert "Line 14, anna: about" in first.report
    assert "of one or two people. This shot has none." in third.report
    assert (first.reference, second.reference, third.reference) == ((1.5, 2.0), (1.5, 2.0), (0.0, 0.0))


def test_other_weights_are_allowed_with_a_warning():
    first, _, third = plans(variant="mini")
    assert first.prompt.startswith("Anna looks at Tom Bell, not at Annabel. anna says, softly, <S>Good morning.<E> ")
    assert "Warning: The weights mini were not trained on reference faces and voices." in first.report
    assert "not trained" not in third.report
    assert first.reference == (0.0, 0.0)
    assert plans(SCRIPT.replace("guidance", "reference"), variant="mini")[0].reference == (2.0, 2.0)


def test_a_shot_of_faces_alone_is_not_guided_by_voices():
    only_tom = plans(SCRIPT.replace("with: Anna, Tom Bell", "with: Tom Bell"))[0]
    assert only_tom.reference == (1.5, 0.0)


def test_a_voice_that_the_weights_bind_to_another_face_is_reported():
    swapped = plans(SCRIPT.replace("Anna, Tom Bell", "Tom Bell, Anna"))[0]
    assert "Warning: Voice 1 is that of person 2" in swapped.report
    assert swapped.prompt.startswith("<img1>: Tom Bell, identified as <sub1>.")


def test_a_sound_that_is_not_read_is_reported():
    first = plans("sound: waves\n" + SCRIPT)[0]
    assert "waves" not in first.prompt
    assert "'sound:' is left out" in first.report


# -- keys ------------------------------------------------------------------------------------------------------------


def test_shots_without_people_are_known_by_the_keys_they_always_had():
    """Recorded before there was a cast, with and without one above them."""
    recorded = [
        "1970be04fe93e75ae3549a503da7c4fd",
        "449d3a545fc154b44f500852a57f8d86",
        "9bfd437d8026f523559d84fa07aec385",
        "d10e39b9fd5942e0ad7faae816e0dc3d",
    ]
    text = story.SCRIPT
    for before in ("", CAST, f"{CAST}with: Anna\n"):
        shots = parse(before + (text.replace("scene:", "with:\nscene:") if "with" in before else text))
        found = plan_shots(shots, story.settings(), "models", False, None)
        assert [plan.key for plan in found] == recorded


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("anna.png", "same.png", [True, True, True]),
        ("anna.wav", "same.wav", [True, True, True]),
        ("anna.png", "other.png", [False, False, True]),
        ("anna.wav", "other.wav", [False, False, True]),
        ("from 1.5 s", "from 1.6 s", [False, False, True]),
        ("tom.jpg", "other.png", [False, False, True]),  # the second goes on from the first
        ("Anna, Tom Bell", "Tom Bell, Anna", [False, False, True]),
        ("with: Anna\n", "", [True, False, True]),
        ("red hair", "grey hair", [False, False, True]),
        ("guidance: 2, 2", "guidance: 2, 2\nreference: 1.5, 2", [True, True, True]),
        ("guidance: 2, 2", "guidance: 2, 2\nreference: 1, 2", [False, False, True]),
    ],
)
def test_a_change_of_the_cast_redoes_the_shots_with_them(old, new, kept):
    found = keys(SCRIPT.replace(old, new))
    assert [a == b for a, b in zip(keys(), found, strict=True)] == kept


def test_names_decide_nothing_where_the_weights_read_tags():
    renamed = SCRIPT.replace("Annabel", "her").replace("Anna", "Eva").replace("anna (", "Eva (")
    assert keys(renamed) == keys(SCRIPT.replace("Annabel", "her"))


@pytest.mark.parametrize(
    ("image", "voice", "found"),
    [
        (lambda name: torch.zeros(1, 8, 8, 3), load_voice, "of 'Anna' in line 2, face: an image of 8x8 px"),
        (load_image, lambda *_: Voice({"waveform": torch.zeros(1, 1, 40_000), "sample_rate": RATE}, 1.5, 7.0),
         "of 'Anna' in line 2, voice: silence from 8.5 s to 9.5 s"),
        (load_image, lambda *_: Voice({"waveform": speech(1, 1), "sample_rate": RATE}, 1.5, 7.0),
         "a voice of 8.00 s, of which nothing is left after 8.5 s"),
        (load_image, lambda *_: Voice({"waveform": speech(1) * float("nan"), "sample_rate": RATE}, 1.5, 0.0), "NaN"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_reference_is_reported_before_any_work(image, voice, found):
    with pytest.raises(OviError) as caught:
        plans(image=image, voice=voice)
    assert caught.value.input == "script"
    assert found in caught.value.found


# -- shots -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def models():
    yield story.models()
    story.models.cache_clear()


def rendered(folder, text=SCRIPT, **more):
    settings = {"variant": "dreamid_omni", "steps": 1}
    return story.rendered(folder, text, load_image=load_image, load_voice=load_voice, settings=settings, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store and film of the script, and what each of its runs was given."""
    folder, runs = tmp_path_factory.mktemp("cast"), []
    real = sample.sample

    def noted(patcher, positive, negative, guidance, *more):
        towers = tuple(tower.reference for tower in guidance.options)
        runs.append((positive[0][1].get(KEY, []), negative[0][1].get(KEY, []), towers))
        return real(patcher, positive, negative, guidance, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "sample", noted)
        film, _ = rendered(folder)
    return folder, film, runs


def test_every_run_has_the_references_of_its_people(whole):
    """The same in all shots, on both conditionings, and those of the node Ovi Person."""
    text, latent = [[torch.zeros(1, 3, 64), {}]], empty_latent(height=2, width=4)
    vaes = story.models()[2:]
    recording = {"waveform": VOICES["anna.wav"], "sample_rate": RATE}
    with torch.inference_mode():
        both = OviPerson.execute(text, text, *vaes, latent, FACES["anna.png"], recording, 1.5).result
        both = OviPerson.execute(*both, *vaes, latent, FACES["tom.jpg"]).result
    expected = both[0][0][1][KEY]
    assert [len(people) for people, _, _ in whole[2]] == [2, 1, 0]
    assert [towers for _, _, towers in whole[2]] == [(1.5, 2.0), (1.5, 2.0), (0.0, 0.0)]
    for positive, negative, _ in whole[2]:
        assert len(positive) == len(negative)
        for one, same, other in zip(positive, negative, expected, strict=False):
            for part in ("face", "voice"):
                assert one[part] is same[part]
                assert one[part] is other[part] is None or torch.equal(one[part], other[part])


def planned(text=SCRIPT):
    return plans(text, models=story.models().identity(), steps=1)


def test_people_change_what_is_made(whole, tmp_path):
    other = SCRIPT.replace("tom.jpg", "other.png")
    rendered(tmp_path, other)
    assert len(story.shot_files(whole[0]).keys() & story.shot_files(tmp_path).keys()) == 1
    ours, theirs = planned()[0], planned(other)[0]
    change = story.store(whole[0]).images(ours, 0) - story.store(tmp_path).images(theirs, 0)
    assert change.abs().max() > 1 / 255


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_film_with_people_resumes(whole, tmp_path, at):
    def show(line):
        if line.startswith(f"Shot {at} of 3"):
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        rendered(tmp_path, show=show)
    made = len(story.shot_files(tmp_path))
    assert made in (at - 1, at)
    again, report = rendered(tmp_path)
    assert report.count("from the store") == made
    assert_same_film(planned(), (tmp_path, again), whole[:2])


def test_a_worker_of_a_farm_makes_the_same_shots(whole, monkeypatch):
    """What a worker is given, without Ray around it: no file of the script is there."""
    monkeypatch.setattr(farm_worker.Loaded, "load", lambda self: story.models())
    settings = story.settings(variant="dreamid_omni", steps=1)
    worker = farm_worker.FarmWorker(farm_worker.Loaded((), (), (), (), {}, ""), settings)
    maker = shot_maker.ShotMaker(story.models(), settings, story.store(whole[0]), load_image, load_voice)
    for plan in planned():
        before = {one.key: maker.store.shot(one.key).read_bytes() for one in (plan.previous, plan.first) if one}
        media = pickle.loads(pickle.dumps(farm_worker.Media.of(plan, maker).as_arrays()))
        assert worker.make(plan.shortened(), before, media) == maker.store.shot(plan.key).read_bytes()


# -- the node --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """ComfyUI's folders, with the cast's files in the input folder."""
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    for name in ("anna.png", "tom.jpg"):
        pixels = (FACES[name][0] * 255).round().byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "input" / name)
    write_wav(tmp_path / "input" / "anna.wav", VOICES["anna.wav"][0])
    return tmp_path


def write_wav(path, samples, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.T.numpy() * 32767).round().astype("<i2").tobytes())


SMALL = {
    "variant": "dreamid_omni", "width": 64, "height": 32, "overlap_seconds": 0.2, "correct": "off", "seed": 1,
    "steps": 1, "video_cfg": 3.0, "audio_cfg": 4.0, "shift": 5.0, "solver": "unipc", "skip_layers": "0",
}  # fmt: skip


def test_the_node_makes_a_film_with_a_cast_and_knows_when_its_files_change(folders):
    with torch.inference_mode():
        video, report = OviStoryboard.execute(*story.models(), SCRIPT, **SMALL).result
    assert video.get_frame_count() == 21 + 21 - 5 + 9
    assert "3 of 3 shots made" in report
    before = OviStoryboard.fingerprint_inputs(SCRIPT)
    assert [stamp[0] for stamp in before] == ["anna.png", "anna.wav", "tom.jpg"]
    write_wav(folders / "input" / "anna.wav", VOICES["other.wav"][0][:, :20_000])
    assert OviStoryboard.fingerprint_inputs(SCRIPT) != before


@pytest.mark.parametrize(("channels", "read"), [(1, 1), (6, 6), (7, 7), (8, 2), (16, 2)])
def test_voices_of_any_number_of_channels_are_read(folders, channels, read):
    """PyAV ends the process at eight channels of planar audio."""
    write_wav(folders / "input" / "many.wav", VOICES["anna.wav"][0][:1].expand(channels, -1))
    waveform = input_media.load_voice("many.wav", 0.0).audio["waveform"]
    assert waveform.shape[1] == read
    expected = input_media.load_voice("anna.wav", 0.0).audio["waveform"][:, :1]
    mono = waveform.mean(dim=1, keepdim=True)
    assert torch.corrcoef(torch.cat([mono[0], expected[0][..., : mono.shape[-1]]]))[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["face", "voice"])
@pytest.mark.parametrize("name", ["missing", "../output/secret", "/etc/passwd", "C:\\secret"])
def test_files_that_are_missing_or_elsewhere_are_reported_with_their_line(folders, kind, name):
    shutil.copy(folders / "input" / "anna.wav", folders / "output" / "secret")
    text = SCRIPT.replace({"face": "anna.png", "voice": "anna.wav"}[kind], name)
    refusal(
        OviStoryboard.execute, *story.models(), text, **SMALL, node="Ovi Storyboard", input="script",
        found=f"of 'Anna' in line 2, {kind}: '{name}', which is not in ComfyUI's input folder", remedy="input folder",
    )  # fmt: skip
    assert not [*(folders / "output").rglob("*.mkv")]


@pytest.mark.parametrize("content", [b"", b"no audio", b"RIFF\x00\x00\x00\x00WAVEfmt ", "a picture"])
def test_a_voice_that_is_no_audio_is_reported(folders, content):
    path = folders / "input" / "anna.wav"
    path.write_bytes((folders / "input" / "anna.png").read_bytes() if isinstance(content, str) else content)
    refusal(
        OviStoryboard.execute, *story.models(), SCRIPT, **SMALL, node="Ovi Storyboard", input="script",
        found="voice: 'anna.wav'", remedy="",
    )  # fmt: skip


@pytest.mark.parametrize("start", [0.0, 0.5, 1.0, 2.75, 5.0])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_part_of_a_recording_gives_the_same_second_as_all_of_it(folders, start, rate):
    samples = 0.2 * torch.randn(2, 7 * rate, generator=torch.Generator().manual_seed(1)).clamp(-4, 4)
    write_wav(folders / "input" / "long.wav", samples, rate)
    voice = input_media.load_voice("long.wav", start)
    read = np.frombuffer((folders / "input" / "long.wav").read_bytes()[44:], "<i2").reshape(-1, 2).T / 32768
    whole = {"waveform": torch.from_numpy(read.astype(np.float32))[None], "sample_rate": rate}
    ours, theirs = voice_second(voice.audio, voice.start), voice_second(whole, start)
    assert ours.shape == theirs.shape == (1, 16_000)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert voice.audio["waveform"].shape[-1] <= 4 * rate


def test_a_recording_that_ends_before_is_reported(folders):
    with pytest.raises(OviError, match="nothing is left after 9 s"):
        input_media.load_voice("anna.wav", 9.0)
    assert script.LATEST_VOICE == 3600.0


# -- the film's mark -------------------------------------------------------------------------------------------------


def tags(path):
    with av.open(str(path), options={"export_xmp": "1"}) as file:
        return dict(file.metadata)


def test_a_film_says_that_ai_made_it_of_faces_and_voices(whole, tmp_path):
    found = tags(whole[1])
    assert found["given_likeness"] == '"A person\'s face and voice were given to the model."'
    assert found["digital_source_type"].endswith('trainedAlgorithmicMedia"')
    assert "A person's face and voice were given to the model." in found["xmp"]
    video = InputImpl.VideoFromFile(str(whole[1]))
    video.save_to(str(tmp_path / "saved.mp4"))
    assert tags(tmp_path / "saved.mp4")["given_likeness"] == found["given_likeness"]
    assert provenance.likeness_of(video) == ("face", "voice")


def test_a_film_without_people_says_nothing_of_them(whole, tmp_path):
    film, _ = rendered(tmp_path, CAST + "shot 0.4 s\nscene: Night.\nguidance: 1, 1")
    found = tags(film)
    assert "given_likeness" not in found
    assert found["digital_source_type"].endswith('trainedAlgorithmicMedia"')
    assert "AIPromptInformation" not in found["xmp"]
