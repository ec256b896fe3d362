"""The storyboard: a script in, a film out."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import InputImpl, io
from server import PromptServer
from torch import Tensor

from nodes import LoadImage

from ..ovi_core.decoding.decode import TILED
from ..ovi_core.errors import OviError, reported_by
from ..ovi_core.media import drift_correction
from ..ovi_core.model import base_model
from ..ovi_core.sampling.guidance import parse_skip_layers
from ..ovi_core.spec import VARIANTS
from ..ovi_core.story import script as scripts
from ..ovi_core.story.models import Models
from ..ovi_core.story.plan import START_IMAGE, Settings
from ..ovi_core.story.render import tell
from ..ovi_core.story.shot_store import Store
from .clips import CATEGORY
from .widgets import MAX_SIDE, overlap_input, schedule_inputs, skip_layers_input, solver_input, strength_input

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
    side = {"default": 960, "min": 32, "max": MAX_SIDE, "step": 32}
    return [
        io.Model.Input("model", tooltip="An Ovi model."),
        io.Clip.Input("clip", tooltip="umt5-xxl: CLIPLoader of type wan, or Load Ovi (all in one)."),
        io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
        io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
        io.String.Input(
            "script",
            multiline=True,
            default="",
            placeholder=EXAMPLE,
            tooltip="A line 'shot 5 s', or 'shot 5 s, go on' to go on from the shot before; below it scene:, speech:, "
            "sound:, picture:, seed: and guidance:, each where needed. What stands above the first shot holds for all.",
        ),
        io.Combo.Input(
            "variant",
            options=list(VARIANTS),
            default="960x960_10s",
            tooltip="The weights that will read the prompts: they decide how the sound's caption is written, and the "
            "length of a shot that has none in the script.",
        ),
        io.Int.Input("width", tooltip="Pixels, a multiple of 32.", **side),
        io.Int.Input("height", tooltip="Pixels, a multiple of 32. Best near the variant's area.", **side),
    ]


def _joins() -> list:
    return [
        overlap_input(0.04, "How much of a shot's end the shot that goes on from it begins with. It is shown once."),
        io.Combo.Input(
            "correct",
            options=list(drift_correction.CORRECTIONS),
            default=drift_correction.CORRECTIONS[0],
            tooltip="Against colour, contrast and loudness that creep from shot to shot where they go on; as in Ovi "
            "Join Clips.",
        ),
    ]


def _sampling() -> list:
    steps, shift = schedule_inputs()
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="For shots that have none in the script; a shot that goes on takes that of the one before plus 1.",
        ),
        steps,
        strength_input("video_cfg", 4.0, "picture"),
        strength_input("audio_cfg", 3.0, "sound"),
        shift,
        solver_input(),
        skip_layers_input(),
    ]


def _advanced() -> list:
    return [
        io.String.Input(
            "video_negative",
            default=Settings.video_negative,
            advanced=True,
            tooltip="What the picture is to keep away from.",
        ),
        io.String.Input(
            "audio_negative",
            default=Settings.audio_negative,
            advanced=True,
            tooltip="What the sound is to keep away from.",
        ),
        io.Combo.Input(
            "tiled",
            options=list(TILED),
            default="auto",
            advanced=True,
            tooltip="Decode the picture in overlapping tiles: less memory, more time.",
        ),
        io.Image.Input("start_image", optional=True, tooltip="First frame of the first shot."),
        io.String.Input(
            "farm",
            default="",
            optional=True,
            advanced=True,
            tooltip="Address of a Ray cluster that makes shots side by side: 'auto' or 'ray://192.168.0.7:10001'. "
            "Empty: they are made here, one after the other.",
        ),
    ]


class OviStoryboard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviStoryboard",
            display_name=NAME,
            category=CATEGORY,
            description="A film from a script, shot by shot. Every shot is kept on disk: a run that was stopped goes "
            "on where it was, and after a change only what depends on it is made anew.",
            search_aliases=["script to film", "long video", "multi shot", "scenes", "movie", "resume"],
            inputs=_inputs(),
            outputs=[
                io.Video.Output(display_name="video", tooltip="The film's file, for Save Video; not held in memory."),
                io.String.Output(display_name="report", tooltip="Shots, times, seeds, and what is spoken, to read."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, script: str = EXAMPLE) -> bool | str:
        """Tell what is wrong with the script before anything is loaded; one that is connected is not known yet."""
        try:
            scripts.parse(script)
        except OviError as error:
            error.node = NAME
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, script: str = EXAMPLE, **others) -> list:
        """What decides the film and is no input: the pictures in ComfyUI's input folder that the script names."""
        pictures = sorted({shot.picture for shot in scripts.parse(script) if shot.picture})
        there = filter(folder_paths.exists_annotated_filepath, pictures)
        stats = [(name, os.stat(folder_paths.get_annotated_filepath(name))) for name in there]
        return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]

    @classmethod
    @reported_by(NAME)
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
        skip_layers: str = "11",
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
            skip_layers=parse_skip_layers(skip_layers, base_model.require_ovi(model).num_layers),
            video_negative=video_negative,
            audio_negative=audio_negative,
            tiled=tiled,
        )
        node_id = cls.hidden.unique_id if cls.hidden else None
        film, report = tell(
            Models(model, clip, vae, audio_vae),
            script,
            settings,
            Store(Path(folder_paths.get_output_directory()) / FOLDER),
            lambda name: start_image if name == START_IMAGE else _picture(name),
            start_image is not None,
            lambda line: _say(node_id, line),
            farm.strip(),
        )
        return io.NodeOutput(InputImpl.VideoFromFile(str(film)), report)


def _picture(name: str) -> Tensor:
    """The first picture [1, H, W, 3] of a file in ComfyUI's input folder.

    Raises:
        OviError: there is no such file, or it is no picture.
    """
    if not folder_paths.exists_annotated_filepath(name):
        raise OviError(
            input="picture",
            found=f"'{name}', which is not in ComfyUI's input folder",
            accepted="the name of a file there",
            remedy="Put the picture into the input folder, or drop it on a Load Image node, and write its name.",
        )
    try:
        return LoadImage().load_image(name)[0][:1]
    except Exception as error:  # ComfyUI lets through what its decoders raise
        raise OviError(
            input="picture",
            found=f"'{name}', which cannot be read as a picture ({error})",
            accepted="a PNG, JPEG or WebP file",
            remedy="Open it in a picture editor and save it anew.",
        ) from error


def _say(node_id: str | None, line: str) -> None:
    """Show a line under the node while it runs."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(line, node_id)


NODES = [OviStoryboard]
