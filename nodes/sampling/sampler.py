"""Sampling: a guider for both towers, the reference's schedules and solvers, and all of it in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ...ovi_core.sampling import sample, solvers
from ...ovi_core.sampling.guidance import Guidance, GuidanceOptions
from ...ovi_core.sampling.guider import OviGuider as Guider
from ...ovi_core.sampling.schedules import Interval
from ...ovi_core.sampling.variant_settings import (
    AUTO,
    clip_notes,
    latent_speech_notes,
    notes_for,
    skip_layers_for,
)
from ..shared import notify
from ..shared.boundary import checked
from ..shared.widgets import (
    denoise_input,
    guidance_options_input,
    interval_inputs,
    model_input,
    prompt_inputs,
    seed_input,
    shift_input,
    skip_layers_input,
    solver_input,
    steps_input,
    strength_input,
)

CATEGORY = "Ovi/sampling"


class OviGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviGuider",
            display_name="Ovi Guider",
            category=CATEGORY,
            description="Guidance with a strength for each tower, for SamplerCustomAdvanced.",
            search_aliases=["ovi cfg", "dual guidance", "skip layer guidance"],
            inputs=[
                model_input(),
                *prompt_inputs(),
                strength_input("video_cfg", 4.0, "video"),
                strength_input("audio_cfg", 3.0, "sound"),
                skip_layers_input(),
                *interval_inputs("guidance", advanced=True),
                guidance_options_input(),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model,
        positive,
        negative,
        video_cfg: float,
        audio_cfg: float,
        skip_layers: str = AUTO,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        guidance_options=None,
    ) -> io.NodeOutput:
        layers = skip_layers_for(skip_layers, model)
        interval, options = Interval(start_percent, end_percent), guidance_options or GuidanceOptions()
        guidance = Guidance(video_cfg, audio_cfg, layers, interval, options)
        notify.warn(cls, notes_for(model, positive, guidance))
        guider = Guider(model, guidance)
        guider.set_conds(positive, negative)
        return io.NodeOutput(guider)


class OviScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviScheduler",
            display_name="Ovi Scheduler",
            category=CATEGORY,
            description="The noise schedule of one of the solvers of Ovi's published code.",
            search_aliases=["ovi sigmas", "ovi steps"],
            inputs=[solver_input(), steps_input(), shift_input(), denoise_input()],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="Noise levels of the steps, for SamplerCustomAdvanced.")
            ],
        )

    @classmethod
    @checked
    def execute(cls, solver: str, steps: int, shift: float, denoise: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(sample.sigmas_for(solver, steps, shift, denoise))


class OviSamplerSelect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviSamplerSelect",
            display_name="Ovi Sampler Select",
            category=CATEGORY,
            description="One of the solvers of Ovi's published code as a SAMPLER. Stock samplers work too, with their "
            "own schedules.",
            search_aliases=["ovi solver", "unipc", "dpm++"],
            inputs=[solver_input()],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="The solver, for SamplerCustomAdvanced.")],
        )

    @classmethod
    @checked
    def execute(cls, solver: str) -> io.NodeOutput:
        return io.NodeOutput(solvers.sampler(solver))


class OviSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviSampler",
            display_name="Ovi Dual-Tower Sampler",
            category=CATEGORY,
            description="Generates a clip and its sound together, with the solvers, schedules and guidance of Ovi's "
            "published code.",
            search_aliases=[
                "ovi ksampler",
                "video with sound",
                "talking video",
                "lip sync",
                "text to video",
                "text to video with sound",
                "t2v",
            ],
            inputs=[
                model_input(),
                *prompt_inputs(),
                io.Latent.Input("latent", tooltip="From Empty Ovi Latent or Ovi Image To Video."),
                seed_input(
                    "Sets the noise to start from. The same seed and settings give the same clip.",
                    control_after_generate=True,
                ),
                steps_input(),
                strength_input("video_cfg", 4.0, "video"),
                strength_input("audio_cfg", 3.0, "sound"),
                shift_input(),
                solver_input(),
                skip_layers_input(),
                denoise_input(),
                guidance_options_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The finished clip as a latent, for Ovi AV Decode.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model,
        positive,
        negative,
        latent,
        seed: int,
        steps: int,
        video_cfg: float,
        audio_cfg: float,
        shift: float,
        solver: str,
        skip_layers: str = AUTO,
        denoise: float = 1.0,
        guidance_options=None,
    ) -> io.NodeOutput:
        layers = skip_layers_for(skip_layers, model)
        guidance = Guidance(video_cfg, audio_cfg, layers, options=guidance_options or GuidanceOptions())
        sigmas = sample.sigmas_for(solver, steps, shift, denoise)
        notes = [*notes_for(model, positive, guidance), *clip_notes(model, latent)]
        notify.warn(cls, notes)
        # the run itself logs what this says
        show = notify.below(cls, [*notes, *latent_speech_notes(positive, latent)])
        return io.NodeOutput(sample.sample(model, positive, negative, guidance, latent, solver, sigmas, seed, show))


NODES = [OviGuider, OviScheduler, OviSamplerSelect, OviSampler]
