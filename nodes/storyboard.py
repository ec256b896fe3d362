"""The storyboard: a script in, a film out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import folder_paths
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..ovi_core.errors import OviError
from ..ovi_core.sampling.variant_settings import AUTO, skip_layers_for, story_notes
from ..ovi_core.spec import VARIANTS, ClipShape
from ..ovi_core.story import farm as farms
from ..ovi_core.story import ray_cluster
from ..ovi_core.story import script as scripts
from ..ovi_core.story.models import Models
from ..ovi_core.story.plan import START_IMAGE, Settings
from ..ovi_core.story.render import render
from ..ovi_core.story.shot_maker import ShotMaker
from ..ovi_core.story.shot_store import Store
from .clips import CATEGORY
from .shared import input_media, notify
from .shared.boundary import checked
from .shared.widgets import (
    audio_vae_input,
    correct_input,
    model_input,
    overlap_input,
    seed_input,
    shift_input,
    size_inputs,
    skip_layers_input,
    solver_input,
    steps_input,
    strength_input,
    text_encoder_input,
    tiled_input,
    variant_input,
    video_vae_input,
)

NAME = "Ovi Storyboard"
FOLDER = "ovi_stories"
"""Under ComfyUI's output folder: shots and films stay until they are deleted."""

EXAMPLE = """shot 5 s
scene: A woman in a red coat stands on a pier at sunrise.
speech: The woman: Good morning.
sound: gulls, waves against wood

shot 5 s, go on
scene: She turns round and laughs."""


def _inputs() -> list:
    return [*_models_and_script(), *_joins(), *_sampling(), *_advanced()]


def _models_and_script() -> list:
    return [
        model_input(),
        text_encoder_input(),
        video_vae_input(),
        audio_vae_input(),
        io.String.Input(
            "script",
            multiline=True,
            default="",
            placeholder=EXAMPLE,
            tooltip="Each shot starts with a line 'shot 5 s', or 'shot 5 s, go on' to continue the shot before it. "
            "Below it come scene:, speech:, sound:, picture:, seed: and guidance:, as needed. 'cast Anna: face "
            "anna.png, voice anna.wav' above the first shot and 'with: Anna' in a shot give it a person's face and "
            "voice, with that person's consent. Lines above the first shot apply to all shots.",
        ),
        variant_input(
            "The variant that the prompts are written for. It sets the form of the audio caption, and the length of a "
            "shot without a length in the script."
        ),
        *size_inputs(960, height="Pixels, a multiple of 32. Best near the variant's area."),
    ]


def _joins() -> list:
    return [
        overlap_input(0.04, "How much of a shot's end starts the shot that continues it. It is shown once."),
        correct_input(
            "Against colour, contrast and loudness that drift between shots that continue one another, as in Ovi Join "
            "Clips."
        ),
    ]


def _sampling() -> list:
    return [
        seed_input(
            "For shots without a seed in the script. A shot that continues another uses that one's seed plus 1.",
            control_after_generate=io.ControlAfterGenerate.fixed,
        ),
        steps_input(),
        strength_input("video_cfg", 4.0, "video"),
        strength_input("audio_cfg", 3.0, "sound"),
        shift_input(),
        solver_input(),
        skip_layers_input(),
    ]


def _advanced() -> list:
    return [
        io.String.Input(
            "video_negative",
            default=Settings.video_negative,
            advanced=True,
            tooltip="What the video avoids.",
        ),
        io.String.Input(
            "audio_negative",
            default=Settings.audio_negative,
            advanced=True,
            tooltip="What the sound avoids.",
        ),
        tiled_input("Decode the frames in overlapping tiles: less memory, more time.", advanced=True),
        io.Image.Input("start_image", optional=True, tooltip="First frame of the first shot."),
        io.String.Input(
            "farm",
            default="",
            optional=True,
            advanced=True,
            tooltip="'on': the Ray cluster configured on this machine makes shots in parallel (see "
            "docs/storyboard.md). Empty: shots are made here, one after the other.",
        ),
    ]


class OviStoryboard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviStoryboard",
            display_name=NAME,
            category=CATEGORY,
            description="Makes a film from a script, shot by shot. Every shot is saved to disk: a stopped run resumes, "
            "and after a change only the shots that depend on it are redone. Untested with the published weights.",
            search_aliases=["script to film", "long video", "multi shot", "scenes", "movie", "resume"],
            inputs=_inputs(),
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="The film's file, for Save Video. It is not loaded into memory."
                ),
                io.String.Output(display_name="report", tooltip="Shots, times, seeds and speech, to read."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, script: str | None = None, farm: str | None = None) -> bool | str:
        """Report what is wrong before anything is loaded; what another node gives is not known yet."""
        try:
            if isinstance(script, str):
                scripts.parse(script)
            if isinstance(farm, str):
                ray_cluster.address(farm)
        except OviError as error:
            error.node = NAME
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, script: str | None = None, **others) -> list:
        """What decides the film and is no input: the files in ComfyUI's input folder that the script names."""
        try:
            shots = scripts.parse(script) if isinstance(script, str) else []
        except OviError:
            return []
        named = {(shot.picture, *(file for one in shot.people for file in (one.face, one.voice))) for shot in shots}
        return input_media.stamps(sorted({name for names in named for name in names if name}))

    @classmethod
    @checked
    def execute(
        cls,
        model,
        clip,
        vae,
        audio_vae,
        script: str,
        variant: str,
        width: int,
        height: int,
        overlap_seconds: float,
        correct: str,
        seed: int,
        steps: int,
        video_cfg: float,
        audio_cfg: float,
        shift: float,
        solver: str,
        skip_layers: str = AUTO,
        video_negative: str = Settings.video_negative,
        audio_negative: str = Settings.audio_negative,
        tiled: str = "auto",
        start_image=None,
        farm: str = "",
    ) -> io.NodeOutput:
        settings = Settings(
            variant=variant,
            width=width,
            height=height,
            overlap_seconds=overlap_seconds,
            correct=correct,
            seed=seed,
            steps=steps,
            video_cfg=video_cfg,
            audio_cfg=audio_cfg,
            shift=shift,
            solver=solver,
            skip_layers=skip_layers_for(skip_layers, model),
            video_negative=video_negative,
            audio_negative=audio_negative,
            tiled=tiled,
        )
        store = Store(Path(folder_paths.get_output_directory()) / FOLDER)
        address = ray_cluster.address(farm)
        notify.warn(cls, _notes(scripts.parse(script), settings))
        load_image = partial(_load_image, start_image)
        maker = ShotMaker(Models(model, clip, vae, audio_vae), settings, store, load_image, input_media.load_voice)
        film, report = render(
            maker,
            script,
            settings,
            store,
            load_image,
            start_image is not None,
            lambda line: notify.show(cls, line),
            partial(farms.make, maker, address) if address else None,
            input_media.load_voice,
        )
        return io.NodeOutput(InputImpl.VideoFromFile(str(film)), report)


def _notes(shots: list[scripts.Shot], settings: Settings) -> list[str]:
    """What of the script and the settings does not fit the variant, for the user."""
    variant = VARIANTS[settings.variant]
    size = (settings.width, settings.height)
    try:
        clips = [ClipShape.from_seconds(*size, shot.seconds or variant.seconds) for shot in shots]
    except OviError:
        return []  # reported with its line where the shots are planned
    strengths = [shot.guidance or (settings.video_cfg, settings.audio_cfg) for shot in shots]
    return story_notes(variant, clips, any(shot.people for shot in shots), strengths, settings.skip_layers)


def _load_image(start_image: Tensor | None, name: str) -> Tensor:
    """An image by its name in a plan: the one that is connected, or a file of ComfyUI's input folder."""
    return start_image if name == START_IMAGE and start_image is not None else input_media.load(name)


NODES = [OviStoryboard]
