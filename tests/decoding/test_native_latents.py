"""Joint latents in ComfyUI's own nodes: taken apart, saved, decoded, put together again and sampled."""

from __future__ import annotations

from itertools import pairwise

import comfy.cli_args
import folder_paths
import numpy as np
import pytest
import torch
from comfy_extras.nodes_audio import VAEDecodeAudio, VAEEncodeAudio
from comfy_extras.nodes_lt import LTXVConcatAVLatent, LTXVSeparateAVLatent
from comfy_extras.nodes_video import SaveVideo
from native_cases import drawn, sample, small_vaes, text, write_tiny
from ovi_native.nodes.decoding import OviDecode
from ovi_native.nodes.latents import EmptyOviLatent, OviImageToVideo
from ovi_native.ovi_core.decoding import towers
from ovi_native.ovi_core.latents import denoise_mask, joint
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.tools.dev.clip_check import read_clip
from PIL import Image

from nodes import KSampler, LoadLatent, SaveLatent, SetLatentNoiseMask, VAEDecode, VAEDecodeTiled, VAEEncode

FRAME = 1 / 24  # s
# Four stripes, each a quarter of the width: which of them are left, and how wide, tells the geometry.
STRIPES = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0))
GREEN, RED, BLUE, WHITE = range(4)


pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_tiny(tmp_path_factory.mktemp("latents")))


@pytest.fixture(scope="module")
def vaes():
    return small_vaes()


def empty(width=64, height=64, seconds=0.4, batch=1):
    return EmptyOviLatent.execute(width, height, seconds, batch).result[0]


def filled(batch=1, **size):
    """A joint LATENT as a sampler would give it."""
    video, audio = empty(batch=batch, **size)["samples"].unbind()
    return {"samples": joint.join(drawn(*video.shape, seed=1), drawn(*audio.shape, seed=2))}


def with_kept_start(latent):
    video, audio = latent["samples"].unbind()
    mask = video.new_ones(video.shape[0], 1, video.shape[2], 1, 1)
    mask[:, :, 0] = 0
    return denoise_mask.with_parts(latent, video, audio, mask)


def apart(latent):
    return LTXVSeparateAVLatent.execute(latent).result


def together(video, audio):
    return LTXVConcatAVLatent.execute(video, audio).result[0]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.unbind(), second.unbind(), strict=True))


# -- stock Separate and Concat, SaveLatent and LoadLatent -----------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_a_latent_taken_apart_and_joined_is_the_same_and_samples_the_same(model, masked):
    latent = with_kept_start(filled()) if masked else filled()
    video, audio = apart(latent)
    assert video["samples"].shape == (1, 48, 3, 4, 4)
    assert audio["samples"].shape == (1, 20, 10)
    back = together(video, audio)
    assert back.keys() == latent.keys()
    assert all(equal(back[key], latent[key]) for key in latent)
    assert equal(sample(model, back), sample(model, latent))


def test_a_mask_of_the_video_alone_is_enough(model):
    """Concat AV Latent fills the other part's mask with ones of the latent's own shape."""
    video, audio = apart(with_kept_start(filled()))
    del audio["noise_mask"]
    assert equal(sample(model, together(video, audio)), sample(model, with_kept_start(filled())))


def test_saved_parts_come_back_bit_for_bit(model, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    latent = {"samples": sample(model)}
    loaded = []
    for name, part in zip(("video", "audio"), apart(latent), strict=True):
        SaveLatent().save(part, name)
        loaded.append(LoadLatent().load(f"{name}_00001_.latent [output]")[0])
    assert equal(together(*loaded)["samples"], latent["samples"])


# -- decoding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("tiled", ["auto", "on", "off"])
def test_decode_gives_what_the_stock_decoders_give(vaes, batch, tiled):
    latent = filled(batch=batch)
    images, audio, video = OviDecode.execute(latent, *vaes, tiled).result
    pictures, sound = apart(latent)
    if tiled == "on":
        (stock,) = VAEDecodeTiled().decode(vaes[0], pictures, 512, 64, 64, 8)
    else:
        (stock,) = VAEDecode().decode(vaes[0], pictures)
    assert images.shape == (9 * batch, 64, 64, 3)
    assert torch.equal(images, stock)
    assert images.min() >= 0
    assert images.max() <= 1
    stock_audio = VAEDecodeAudio.execute(vaes[1], sound).result[0]
    assert 0.01 < stock_audio["waveform"].std() < 0.19  # louder sound is scaled down by the stock node
    assert audio["sample_rate"] == stock_audio["sample_rate"] == 16_000
    assert audio["waveform"].shape == (batch, 1, 10 * 512)
    assert torch.equal(audio["waveform"], stock_audio["waveform"])
    assert video.get_dimensions() == (64, 64)


def test_tiles_smaller_than_the_picture_change_little(vaes):
    latent = filled(width=1024, height=96, seconds=0.2)
    whole, tiles = (OviDecode.execute(latent, *vaes, tiled).result[0] for tiled in ("off", "on"))
    (stock,) = VAEDecodeTiled().decode(vaes[0], apart(latent)[0], 512, 64, 64, 8)
    assert torch.equal(tiles, stock)
    assert 0 < (tiles - whole).abs().mean() < 0.05


def test_tiles_are_used_where_the_whole_picture_would_not_fit(vaes, monkeypatch):
    latent = filled(width=1024, height=32, seconds=0.2)
    tiles = OviDecode.execute(latent, *vaes, "on").result[0]
    # tiles of 512 px and no more fit, in the even sizes that these 1024 px take
    monkeypatch.setattr(towers, "_memory_once_free", lambda vae: 32.0)
    monkeypatch.setattr(towers, "_memory_of_tile", lambda vae, shape: shape[-1])
    monkeypatch.setattr(vaes[0], "memory_used_decode", lambda shape, dtype: shape[-1])
    even = vaes[0].decode_tiled(latent["samples"].unbind()[0], 2, 24, 4, 2, 1)
    auto = OviDecode.execute(latent, *vaes, "auto").result[0]
    assert torch.equal(auto, even[0])
    assert 0 < (auto - tiles).abs().mean() < 0.05


def test_stock_decoders_take_the_joint_latent_too(vaes):
    latent = filled()
    images, audio, _ = OviDecode.execute(latent, *vaes, "off").result
    assert torch.equal(VAEDecode().decode(vaes[0], latent)[0], images)
    assert torch.equal(VAEDecodeAudio.execute(vaes[1], latent).result[0]["waveform"], audio["waveform"])


def test_pictures_and_sound_encode_to_a_latent_that_samples(model, vaes):
    images, audio, _ = OviDecode.execute(filled(), *vaes, "off").result
    (video,) = VAEEncode().encode(vaes[0], images)
    sound = VAEEncodeAudio.execute(vaes[1], audio).result[0]
    joined = together(video, sound)
    assert [part.shape for part in joined["samples"].unbind()] == [(1, 48, 3, 4, 4), (1, 20, 10)]
    assert not equal(sample(model, joined, denoise=0.5), sample(model, filled(), denoise=0.5))


# -- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Saves a VIDEO with the stock node and says what is in the file."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)

    def run(video):
        SaveVideo.execute(video, "clip", "auto", {"codec": "auto"})
        (path,) = tmp_path.glob("clip_*")
        return path

    return run


@pytest.mark.parametrize(("seconds", "frames"), [(2, 49), (5, 121), (10, 241)])
def test_a_saved_clip_is_h264_at_24_fps_with_aac_of_the_same_length(vaes, save, seconds, frames):
    _, _, video = OviDecode.execute(filled(width=64, height=32, seconds=seconds), *vaes, "off").result
    facts = read_clip(save(video))
    assert (facts.video_codec, facts.fps, facts.frames) == ("h264", 24, frames)
    assert (facts.audio_codec, facts.sample_rate, facts.channels) == ("aac", 16_000, 1)
    assert (facts.width, facts.height) == (64, 32)
    assert abs(facts.video_seconds - frames / 24) < 1e-3
    assert abs(facts.audio_seconds - facts.video_seconds) < FRAME


def test_clips_of_a_batch_play_one_after_the_other_each_with_its_sound(vaes, save):
    batch = filled(width=64, height=32, seconds=1, batch=2)
    images, audio, video = OviDecode.execute(batch, *vaes, "off").result
    frames = images.shape[0] // 2
    components = video.get_components()
    sound = components.audio["waveform"]
    assert torch.equal(components.images, images)
    assert abs(sound.shape[-1] / 16_000 - 2 * frames / 24) < 1e-3
    for clip, (start, end) in enumerate(pairwise((0, round(frames / 24 * 16_000), sound.shape[-1]))):
        length = min(end - start, audio["waveform"].shape[-1]) - 2
        inner = slice(start + 1, start + length)
        assert torch.equal(sound[0, 0, inner], audio["waveform"][clip, 0, 1:length])
    facts = read_clip(save(video))
    assert facts.frames == 2 * frames
    assert abs(facts.audio_seconds - facts.video_seconds) < FRAME


# -- start pictures -----------------------------------------------------------------------------------------------


def striped(width, height):
    """A picture [1, H, W, 3] of four stripes."""
    stripe = torch.arange(width) * len(STRIPES) // width
    return torch.tensor(STRIPES)[stripe].expand(1, height, width, 3).clone()


@pytest.fixture
def seen(vaes, monkeypatch):
    """The pictures that reach the VAE."""
    pictures, encode = [], vaes[0].encode

    def look(image):
        pictures.append(image)
        return encode(image)

    monkeypatch.setattr(vaes[0], "encode", look)
    return pictures


def stripe_at(picture, x, y):
    """Which stripe shows at a pixel; None for the black of bars."""
    pixel = picture[0, y, x]
    if pixel.max() < 0.1:
        return None
    return int((torch.tensor(STRIPES) - pixel).abs().sum(dim=-1).argmin())


@pytest.mark.parametrize(
    ("fit", "size", "points"),
    [
        # 128x64 px in 64x64 px: the middle half, all of it in half the height, or all of it at half the width
        ("crop", (128, 64), {(3, 3): RED, (29, 60): RED, (34, 3): BLUE, (61, 61): BLUE}),
        ("pad", (128, 64), {(5, 13): None, (5, 50): None, (5, 18): GREEN, (24, 45): RED, (40, 32): BLUE}),
        ("stretch", (128, 64), {(5, 2): GREEN, (24, 61): RED, (40, 2): BLUE, (60, 61): WHITE}),
        # 64x128 px: crop keeps the full width, pad puts bars at the sides
        ("crop", (64, 128), {(5, 2): GREEN, (24, 61): RED, (40, 2): BLUE, (60, 61): WHITE}),
        ("pad", (64, 128), {(13, 5): None, (50, 60): None, (19, 5): GREEN, (36, 60): BLUE, (44, 60): WHITE}),
        ("stretch", (64, 128), {(5, 2): GREEN, (24, 61): RED, (40, 2): BLUE, (60, 61): WHITE}),
        # 256x256 px: of the clip's shape, nothing to cut or fill
        ("pad", (256, 256), {(5, 2): GREEN, (24, 61): RED, (40, 2): BLUE, (60, 61): WHITE}),
    ],
)
def test_a_picture_of_another_shape_is_cropped_padded_or_stretched(vaes, seen, fit, size, points):
    OviImageToVideo.execute(vaes[0], empty(), striped(*size), fit)
    (picture,) = seen
    assert picture.shape == (1, 64, 64, 3)
    assert {point: stripe_at(picture, *point) for point in points} == points


def test_a_picture_is_resized_as_pillow_resizes_it(vaes, seen):
    photo = torch.nn.functional.interpolate(drawn(1, 3, 8, 8).sigmoid(), size=(90, 120), mode="bicubic").clamp(0, 1)
    photo = photo.movedim(1, -1)
    OviImageToVideo.execute(vaes[0], empty(), photo, "stretch")
    eight_bit = Image.fromarray((photo[0].numpy() * 255).astype(np.uint8))
    expected = np.asarray(eight_bit.resize((64, 64), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    assert np.abs(seen[0][0].numpy() - expected).max() <= 1.5 / 255


def test_the_first_frame_is_the_encoded_picture_and_the_only_thing_kept(vaes):
    picture = striped(64, 64)
    out = OviImageToVideo.execute(vaes[0], empty(), picture).result[0]
    video, audio = out["samples"].unbind()
    (encoded,) = VAEEncode().encode(vaes[0], picture)
    assert torch.equal(video[:, :, :1], encoded["samples"])
    assert not audio.any()
    video_mask, audio_mask = out["noise_mask"].unbind()
    assert not video_mask[:, :, 0].any()
    assert (video_mask[:, :, 1:] == 1).all()
    assert (audio_mask == 1).all()


def test_a_stock_mask_of_the_video_still_counts_beside_the_picture(vaes):
    mask = torch.ones(1, 64, 64)
    mask[:, :, :32] = 0
    (masked,) = SetLatentNoiseMask().set_mask(empty(), mask)
    out = OviImageToVideo.execute(vaes[0], masked, striped(64, 64)).result[0]
    video_mask, audio_mask = out["noise_mask"].unbind()
    assert not video_mask[:, :, 0].any()
    assert not video_mask[:, :, 1:, :, :2].any()
    assert (video_mask[:, :, 1:, :, 2:] == 1).all()
    assert (audio_mask == 1).all()


def test_each_clip_of_a_batch_begins_with_its_own_picture(vaes):
    pictures = torch.cat((striped(64, 64), striped(64, 64).flip(2)))
    video, _ = OviImageToVideo.execute(vaes[0], empty(batch=2), pictures).result[0]["samples"].unbind()
    for clip in range(2):
        (encoded,) = VAEEncode().encode(vaes[0], pictures[clip : clip + 1])
        assert torch.equal(video[clip, :, :1], encoded["samples"][0])
    assert not torch.equal(video[0, :, 0], video[1, :, 0])


def test_one_picture_begins_every_clip_of_a_batch(vaes):
    video, _ = OviImageToVideo.execute(vaes[0], empty(batch=2), striped(64, 64)).result[0]["samples"].unbind()
    assert torch.equal(video[0, :, 0], video[1, :, 0])


def test_without_a_picture_the_latent_passes_through(vaes):
    latent = empty()
    assert OviImageToVideo.execute(vaes[0], latent).result[0] is latent


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("sampler", ["Ovi", "KSampler"])
def test_samplers_keep_the_picture_and_make_the_rest(model, vaes, sampler, batch):
    start = OviImageToVideo.execute(vaes[0], empty(batch=batch), striped(64, 64)).result[0]
    if sampler == "Ovi":
        made = sample(model, start)
    else:
        made = KSampler().sample(model, 1, 2, 4.0, "euler", "simple", text(5), text(6), start)[0]["samples"]
    before, after = start["samples"].unbind()[0], made.unbind()[0]
    assert torch.allclose(after[:, :, 0], before[:, :, 0], atol=1e-5)
    assert (after[:, :, 1:] - before[:, :, 1:]).abs().mean() > 0.1
