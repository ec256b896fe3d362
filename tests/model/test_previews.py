"""What ComfyUI shows while it samples: the picture that it always shows, and the sound as a strip under it."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.latent_formats
import comfy.utils
import latent_preview
import numpy as np
import pytest
import story_cases
import tiny_ovi as tiny
import torch
from comfy.cli_args import LatentPreviewMethod
from ovi_native.ovi_core.latents import denoise_mask
from ovi_native.ovi_core.loading.loader import load_model
from ovi_native.ovi_core.model.latent_format import OviLatentFormat
from ovi_native.ovi_core.network.run_cache import SamplingRun
from PIL import Image
from sampler_cases import each_sampler, own_sampler
from torch.nn.functional import avg_pool2d

from tools.mini.stages import preview_factors
from tools.mini.world.casting import draw_scene
from tools.mini.world.frames import draw_frames

PICTURE = (162, 108)  # 6x4 latent cells, each shown as 27x27
STRIP = 20  # a pixel for each channel


@pytest.fixture
def shown(monkeypatch):
    """Pictures [H, W, 3] that the server would send while sampling."""
    seen: list = []
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Auto)
    monkeypatch.setattr(
        comfy.utils,
        "PROGRESS_BAR_HOOK",
        lambda value, total, preview, node_id=None: seen.append(preview and np.asarray(preview[1]).astype(int)),
    )
    return seen


def preview(latent_format, video) -> Image.Image:
    """ComfyUI's own preview of a video latent."""
    return latent_preview.get_previewer(torch.device("cpu"), latent_format).decode_latent_to_preview(video)


def with_sound(audio) -> dict:
    """A LATENT whose sound is kept as given."""
    latent = tiny.drawn_latent(3)
    video, _ = latent["samples"].unbind()
    return denoise_mask.with_parts(latent, video, audio, audio_mask=torch.zeros(1, 1, audio.shape[-1]))


def loudness(picture) -> np.ndarray:
    """How bright each column of the strip is."""
    return picture[-STRIP:].sum(axis=(0, 2)) / (3 * STRIP)


@each_sampler
def test_the_strip_follows_the_sound_under_every_sampler(model, shown, sample):
    burst = torch.zeros(1, 20, 10)
    burst[..., 6:8] = 2.0
    sample(model, with_sound(torch.zeros_like(burst)))
    silent = loudness(shown[-1])
    sample(model, with_sound(burst))
    assert [picture.shape for picture in shown] == [(PICTURE[1] + STRIP, PICTURE[0], 3)] * 4
    assert silent.max() - silent.min() <= 1
    assert silent.max() < 20
    for picture in shown[2:]:
        columns = loudness(picture)
        sounding = np.arange(PICTURE[0]) * 10 // PICTURE[0]
        inside = (sounding == 6) | (sounding == 7)
        assert columns[inside].min() > 60
        assert np.allclose(columns[~inside], silent[~inside], atol=1)
    assert model.model.latent_format.sampling_run is None


def test_each_channel_is_a_row_of_its_own(model, shown):
    audio = torch.zeros(1, 20, 10)
    audio[:, 13] = torch.linspace(0, 3, 10)
    own_sampler(model, with_sound(audio))
    strip = shown[-1][-STRIP:, :, 0]
    assert (np.delete(strip, 13, axis=0) < 20).all()
    assert (np.diff(strip[13]) >= 0).all()
    assert strip[13, -1] > 200


def test_the_picture_is_the_hosts(model, shown):
    """Latents small enough that no colour is cut off: ComfyUI enlarges pictures, we latents."""
    ours, plain = model.model.latent_format, comfy.latent_formats.Wan22()
    torch.manual_seed(0)
    video, audio = torch.randn(2, 48, 3, 4, 6) * 0.3, torch.randn(2, 20, 10)
    packed, shapes = comfy.utils.pack_latents([video, audio])
    with model.model.sampling(SamplingRun(latent_shapes=shapes)):
        assert torch.equal(model.model.preview_video(packed), video)
        whole = preview(ours, video)
    enlarged = preview(plain, video).resize(PICTURE, Image.Resampling.BILINEAR)
    difference = np.asarray(whole).astype(int)[: PICTURE[1]] - np.asarray(enlarged)
    assert np.asarray(enlarged).std() > 10
    assert abs(difference).max() <= 2
    assert preview(ours, video).tobytes() == preview(plain, video).tobytes()  # without sound nothing is changed


@pytest.mark.parametrize(
    ("video", "steps", "size"),
    [
        ((31, 34, 60), 157, (180, 122)),  # 960x544, 5 s
        ((31, 60, 34), 157, (170, 320)),  # upright
        ((61, 34, 60), 314, (360, 244)),  # 10 s
        ((200, 34, 60), 30000, (480, 332)),  # never larger than a preview, however long
        ((31, 600, 600), 157, (600, 680)),  # larger than one already
        ((1, 1, 1), 157, (160, 20)),  # sound alone
        ((1, 1, 1), 30000, (512, 60)),
    ],
)
def test_the_size_is_that_of_a_preview(model, shown, video, steps, size):
    ours = model.model.latent_format
    with model.model.sampling(SamplingRun(preview_audio=torch.ones(20, steps))):
        image = preview(ours, torch.zeros(1, 48, 1, *video[1:]))
    assert image.size == size


def test_sound_is_gone_from_the_preview_after_a_run_that_failed(model, shown, monkeypatch):
    def stop(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", stop)
    with pytest.raises(KeyboardInterrupt):
        own_sampler(model, tiny.empty_latent())
    assert model.model.latent_format.sampling_run is None


def test_a_story_shows_its_steps(tmp_path, shown):
    story_cases.rendered(tmp_path, "shot 0.5 s\nscene: A pier.\n", settings={"steps": 2})
    made = [picture for picture in shown if picture is not None]
    assert [picture.shape for picture in made] == [(80 + STRIP, 160, 3)] * 2  # 64x32 pixels: 4x2 cells


# -- the small model's own colours -----------------------------------------------------------------------------------

MINI = Path(__file__).resolve().parents[2] / "models" / "ovi-mini"
UNSEEN = range(5_000, 5_006)  # seeds of scenes that the factors were not fitted to


def previewed(latent_format, encode) -> tuple[np.ndarray, np.ndarray]:
    """Colours of cells as ComfyUI previews them, and as they are in the images, 0 to 255."""
    shown, real = [], []
    for seed in UNSEEN:
        image = torch.from_numpy(draw_frames(draw_scene(seed, preview_factors.CLIP))[:1])
        shown.append(np.asarray(preview(latent_format, encode(image)).resize((6, 6), Image.Resampling.BOX)))
        real.append(avg_pool2d(image.movedim(-1, 1) * 255, 16)[0].movedim(0, -1).numpy())
    return np.stack(shown).astype(float), np.stack(real)


@pytest.mark.usefixtures("shown")
@torch.inference_mode()
def test_the_small_model_is_previewed_in_the_colours_of_its_world():
    own = load_model(str(MINI / "diffusion_models" / "ovi_mini.safetensors")).model.latent_format
    encode = preview_factors.encoder(MINI / "vae" / "ovi_mini_video_vae.safetensors")
    shown, real = previewed(own, encode)
    stock, _ = previewed(comfy.latent_formats.Wan22(), encode)
    assert np.abs(shown - real).mean() < 16
    assert np.abs(stock - real).mean() > 40, "the measure sees no difference"


@torch.inference_mode()
def test_what_is_fitted_is_what_is_shipped():
    encode = preview_factors.encoder(MINI / "vae" / "ovi_mini_video_vae.safetensors")
    shipped = torch.tensor(json.loads((MINI / "preview.json").read_text(encoding="utf-8")), dtype=torch.float64)
    few = preview_factors.fitted(encode, scenes=40)
    assert preview_factors.error(shipped, encode, 20, UNSEEN.start) < 0.15
    assert preview_factors.error(few, encode, 20, UNSEEN.start) < 0.2
    assert json.loads(preview_factors.as_text(few)) == [[round(value, 4) for value in row] for row in few.tolist()]


@pytest.mark.parametrize(
    "table",
    ["", "{", "[]", "[[1, 2, 3]]", json.dumps([[1, 2]] * 49), json.dumps([[1, 2, "x"]] * 49), "[" * 9_000, "9" * 20_000]
    + [json.dumps([[0.0, 0.0, value]] * 49) for value in (float("nan"), float("inf"), 10**400, None)],
)
def test_a_table_that_is_none_changes_nothing(table):
    latent_format = OviLatentFormat()
    latent_format.take_preview(table)
    stock = comfy.latent_formats.Wan22()
    assert latent_format.latent_rgb_factors == stock.latent_rgb_factors
    assert latent_format.latent_rgb_factors_bias == stock.latent_rgb_factors_bias
