"""Teaching: a folder of clips, and a LoRA trained on them."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io
from comfy_extras.nodes_train import SaveLoRA

from ..ovi_core.errors import reported_by
from ..ovi_core.spec import SIZE_GRID, VARIANTS, Clip
from ..ovi_core.training import dataset, trainer
from ..ovi_core.training.adapters import ALGORITHMS
from .notify import tell

CATEGORY = "Ovi/training"
NEW = "[None]"
INTERRUPTED = "ovi_interrupted"


def _choice(name: str, options: list[str], tooltip: str, advanced: bool = True) -> io.Combo.Input:
    return io.Combo.Input(name, options=options, default=options[0], tooltip=tooltip, advanced=advanced)


def _count(name: str, default: int, largest: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=1, max=largest, step=1, tooltip=tooltip)


def _tower_loss(name: str, tower: str) -> io.Float.Input:
    tooltip = f"How much errors of the {tower} count. 0: that tower is not trained."
    return io.Float.Input(name, default=1.0, min=0.0, max=10.0, step=0.1, tooltip=tooltip)


class OviLoadDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 704, "min": SIZE_GRID, "max": 4096, "step": SIZE_GRID}
        return io.Schema(
            node_id="OviLoadDataset",
            display_name="Load Ovi Dataset",
            category=CATEGORY,
            description="Clips with their sound and captions, for Train Ovi LoRA: a folder of videos with a .txt file "
            "beside each. What a clip is encoded to is kept in the folder, so only new clips take time.",
            search_aliases=["dataset", "training data", "load folder", "captions"],
            inputs=[
                io.Combo.Input(
                    "folder", options=folder_paths.get_input_subfolders(), tooltip="Folder in ComfyUI's input folder."
                ),
                io.Clip.Input("clip", tooltip="umt5-xxl: CLIPLoader of type wan, or Load Ovi (all in one)."),
                io.Vae.Input("vae", tooltip="The Wan 2.2 video VAE."),
                io.Vae.Input("audio_vae", tooltip="From Load Ovi Audio VAE."),
                io.Combo.Input(
                    "variant",
                    options=list(VARIANTS),
                    default="960x960_10s",
                    tooltip="The weights to be trained on: they differ in how the sound's caption is written.",
                ),
                io.Int.Input("width", tooltip="Pixels, a multiple of 32; clips of another shape are cropped.", **side),
                io.Int.Input("height", tooltip="Pixels, a multiple of 32.", **side),
                io.Float.Input(
                    "seconds",
                    default=5.0,
                    min=0.2,
                    max=60.0,
                    step=0.1,
                    tooltip="Of a longer clip this much is taken, from its beginning; a shorter one stays shorter.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latents", is_output_list=True),
                io.Conditioning.Output(display_name="positive", is_output_list=True),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, folder, **_: object) -> str:
        return dataset.state_of(_in_input(folder))

    @classmethod
    @reported_by("Load Ovi Dataset")
    def execute(
        cls, folder, clip, vae, audio_vae, variant: str, width: int = 704, height: int = 704, seconds: float = 5.0
    ) -> io.NodeOutput:
        encoder = dataset.Encoder(vae, audio_vae, Clip.from_seconds(width, height, seconds))
        latents, positive, notes = dataset.load_dataset(_in_input(folder), clip, VARIANTS[variant], encoder)
        tell("Load Ovi Dataset", cls.hidden.unique_id if cls.hidden else None, notes)
        return io.NodeOutput(latents, positive)


def _in_input(folder: str) -> Path:
    return Path(folder_paths.get_input_directory(), folder)


class OviTrainLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviTrainLora",
            display_name="Train Ovi LoRA",
            category=CATEGORY,
            description="Teach Ovi something new from clips with their sound: a LoRA on both towers. Save it with Save "
            "LoRA Weights, try it with Load LoRA Model, use its file with Load Ovi LoRA. If training is interrupted, "
            "what was learned so far is saved in output/loras.",
            search_aliases=["lora training", "fine-tune", "train lora", "teach"],
            is_input_list=True,
            inputs=[*_data(), *_schedule(), *_method(), *_objective()],
            outputs=[
                io.Custom("LORA_MODEL").Output(display_name="lora"),
                io.Custom("LOSS_MAP").Output(display_name="loss_map"),
                io.Int.Output(display_name="steps"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @reported_by("Train Ovi LoRA")
    def execute(
        cls,
        model,
        latents,
        positive,
        batch_size,
        grad_accumulation_steps,
        steps,
        learning_rate,
        rank,
        optimizer,
        loss_function,
        seed,
        training_dtype,
        lora_dtype,
        algorithm,
        gradient_checkpointing,
        offloading,
        existing_lora,
        video_loss,
        audio_loss,
        first_frame,
    ) -> io.NodeOutput:
        settings = trainer.Settings(
            steps=steps[0],
            learning_rate=learning_rate[0],
            rank=rank[0],
            seed=seed[0],
            batch_size=batch_size[0],
            grad_accumulation_steps=grad_accumulation_steps[0],
            optimizer=optimizer[0],
            loss_function=loss_function[0],
            algorithm=algorithm[0],
            training_dtype=training_dtype[0],
            lora_dtype=lora_dtype[0],
            gradient_checkpointing=gradient_checkpointing[0],
            offloading=offloading[0],
            video_loss=video_loss[0],
            audio_loss=audio_loss[0],
            first_frame=first_frame[0],
        )
        name = existing_lora[0]
        existing = None if name == NEW else folder_paths.get_full_path_or_raise("loras", name)
        trained = trainer.train(model[0], latents, positive, settings, existing, cls._keep)
        return io.NodeOutput(trained.lora, trained.losses, trained.steps)

    @classmethod
    def _keep(cls, lora: dict, steps: int) -> None:
        SaveLoRA.execute(lora, f"loras/{INTERRUPTED}", steps)
        note = (
            f"Training ended early. What {steps} steps have taught is saved in output/loras as '{INTERRUPTED}_{steps}"
            "_steps_…'; pick it as existing_lora to go on."
        )
        tell("Train Ovi LoRA", cls.hidden.unique_id if cls.hidden else None, [note])


def _data() -> list:
    return [
        io.Model.Input("model", tooltip="An Ovi model; LoRAs on it are part of what is trained on."),
        io.Latent.Input("latents", tooltip="Clips with their sound: from Load Ovi Dataset, or other joint latents."),
        io.Conditioning.Input("positive", tooltip="A caption for each clip, or one for all."),
    ]


def _schedule() -> list:
    return [
        _count("batch_size", 1, 10000, "Clips at once; only clips of the same size and length go together."),
        _count("grad_accumulation_steps", 1, 1024, "Batches whose gradients make one step."),
        _count("steps", 16, 100000, "Steps of training; a new subject takes hundreds to a few thousand."),
        io.Float.Input(
            "learning_rate",
            default=0.0005,
            min=0.0,
            max=1.0,
            step=0.0000001,
            tooltip="How far each step goes. Less where pictures or voices fall apart.",
        ),
        _count("rank", 8, 128, "Size of the LoRA: more can hold more, and takes more memory."),
    ]


def _method() -> list:
    dtypes = "none: what the model computes in anyway."
    return [
        _choice("optimizer", list(trainer.OPTIMIZERS), "How gradients become steps."),
        _choice("loss_function", list(trainer.LOSSES), "How errors are counted; the published weights: MSE."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            tooltip="Of all that is random: the same seed and settings give the same LoRA.",
        ),
        _choice("training_dtype", ["bf16", "fp32", "none"], f"What the model computes in while it learns. {dtypes}"),
        _choice("lora_dtype", ["bf16", "fp32"], "What the LoRA is handed out in; it always learns in fp32."),
        _choice("algorithm", list(ALGORITHMS), "Kind of adapter. LoRA can be used everywhere."),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            advanced=True,
            tooltip="Compute block pairs again for their gradients instead of keeping what they computed: a third "
            "slower, with a small part of the memory.",
        ),
        io.Boolean.Input(
            "offloading",
            default=False,
            advanced=True,
            tooltip="Keep the model's weights in main memory and stream them to the card.",
        ),
        io.Combo.Input(
            "existing_lora",
            options=[NEW, *folder_paths.get_filename_list("loras")],
            default=NEW,
            tooltip="A LoRA to go on from; its own rank and algorithm hold.",
        ),
    ]


def _objective() -> list:
    return [
        _tower_loss("video_loss", "picture"),
        _tower_loss("audio_loss", "sound"),
        io.Float.Input(
            "first_frame",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Share of clips whose first frame is given, as in image to video. 0: text to video alone.",
        ),
    ]


NODES = [OviLoadDataset, OviTrainLora]
