"""Training: a folder of clips, and a LoRA trained on them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..ovi_core.loading import folders
from ..ovi_core.spec import VARIANTS, ClipShape
from ..ovi_core.training import clip_folder, dataset, saving, trainer
from ..ovi_core.training.adapters import ALGORITHMS
from .shared import notify
from .shared.boundary import checked
from .shared.widgets import (
    audio_vae_input,
    seconds_input,
    seed_input,
    size_inputs,
    text_encoder_input,
    variant_input,
    video_vae_input,
)

CATEGORY = "Ovi/training"
NEW = "[None]"


def _choice(name: str, options: list[str], tooltip: str, advanced: bool = True) -> io.Combo.Input:
    return io.Combo.Input(name, options=options, default=options[0], tooltip=tooltip, advanced=advanced)


def _count(name: str, default: int, largest: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=1, max=largest, step=1, tooltip=tooltip)


def _tower_loss(name: str, tower: str) -> io.Float.Input:
    tooltip = f"Weight of errors in the {tower}. 0: this tower is not trained."
    return io.Float.Input(name, default=1.0, min=0.0, max=10.0, step=0.1, tooltip=tooltip)


class OviLoadDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviLoadDataset",
            display_name="Load Ovi Dataset",
            category=CATEGORY,
            description="Clips with sound and captions for Train Ovi LoRA: a folder of videos with a .txt file beside "
            "each. Encoded clips are cached in the folder, so only new ones take time.",
            search_aliases=["dataset", "training data", "load folder", "captions"],
            inputs=[
                io.Combo.Input(
                    "folder", options=folder_paths.get_input_subfolders(), tooltip="Folder in ComfyUI's input folder."
                ),
                text_encoder_input(),
                video_vae_input(),
                audio_vae_input(),
                variant_input("The variant to train. Variants differ in the form of the audio caption."),
                *size_inputs(704, "Pixels, a multiple of 32. Clips of another shape are cropped."),
                seconds_input(5.0, "Longer clips are cut to this length from their start. Shorter clips stay shorter."),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latents", tooltip="A latent for each clip, for Train Ovi LoRA.", is_output_list=True
                ),
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="An encoded caption for each clip, for Train Ovi LoRA.",
                    is_output_list=True,
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, folder, **_: object) -> str:
        return clip_folder.state_in(_input_folder(), folder)

    @classmethod
    @checked
    def execute(
        cls, folder, clip, vae, audio_vae, variant: str, width: int = 704, height: int = 704, seconds: float = 5.0
    ) -> io.NodeOutput:
        encoder = dataset.Encoder(vae, audio_vae, ClipShape.from_seconds(width, height, seconds))
        clips = clip_folder.folder_in(_input_folder(), folder)
        latents, positive, notes = dataset.load_dataset(clips, clip, VARIANTS[variant], encoder)
        notify.warn(cls, notes)
        return io.NodeOutput(latents, positive)


def _input_folder() -> Path:
    return Path(folder_paths.get_input_directory())


class OviTrainLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="OviTrainLora",
            display_name="Train Ovi LoRA",
            category=CATEGORY,
            description="Trains a LoRA for both towers on clips with sound. Save it with Save LoRA Weights, try it "
            "with Load LoRA Model, use its file with Load Ovi LoRA. If training is interrupted, the LoRA so far is "
            "saved in output/loras.",
            search_aliases=["lora training", "fine-tune", "train lora", "teach"],
            is_input_list=True,
            inputs=[*_data(), *_schedule(), *_method(), *_objective()],
            outputs=[
                io.Custom("LORA_MODEL").Output(
                    display_name="lora", tooltip="For Save LoRA Weights or Load LoRA Model."
                ),
                io.Custom("LOSS_MAP").Output(display_name="loss_map", tooltip="The loss at each step."),
                io.Int.Output(display_name="steps", tooltip="The steps the LoRA was trained for."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
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
        existing = None if name == NEW else folders.path("loras", name, input="existing_lora")
        if held := saving.save_held(_interrupted_folders()):
            notify.warn(cls, [f"The LoRA of an earlier training that was interrupted is saved: {held[0]}."])
        trained = trainer.train(model[0], latents, positive, settings, existing, cls._keep)
        return io.NodeOutput(trained.lora, trained.losses, trained.steps)

    @classmethod
    def _keep(cls, lora: dict, steps: int) -> None:
        folders = _interrupted_folders()
        path = saving.save_interrupted(lora, steps, folders)
        if path is None:
            note = (
                f"Training ended early, and no folder takes the LoRA after {steps} steps (the disk is full or "
                "read-only). It is held until ComfyUI ends: make room and run this node again, which saves it first."
            )
        elif path.parent == folders[0]:
            note = (
                f"Training ended early. The LoRA after {steps} steps is saved in output/loras as '{path.name}'. Choose "
                "it as existing_lora to continue."
            )
        else:
            note = (
                f"Training ended early, and output/loras does not take files. The LoRA after {steps} steps is saved as "
                f"'{path}'. Move it to models/loras, and choose it as existing_lora to continue."
            )
        notify.warn(cls, [note])


def _interrupted_folders() -> list[Path]:
    """Where the LoRA of an interrupted training goes, or else, if there is no room: ComfyUI empties the last ones."""
    user, temp = folder_paths.get_user_directory(), folder_paths.get_temp_directory()
    folders = (folder_paths.get_output_directory(), "loras"), (user, "ovi_loras"), (temp,), (tempfile.gettempdir(),)
    return [Path(*parts) for parts in folders]


def _data() -> list:
    return [
        io.Model.Input("model", tooltip="An Ovi model. LoRAs on it are part of the base that is trained on."),
        io.Latent.Input("latents", tooltip="Clips with sound: from Load Ovi Dataset, or other joint latents."),
        io.Conditioning.Input("positive", tooltip="One caption for each clip, or one for all."),
    ]


def _schedule() -> list:
    return [
        _count("batch_size", 1, 10000, "Clips per batch. Only clips of the same size and length share a batch."),
        _count("grad_accumulation_steps", 1, 1024, "Batches whose gradients are added up to one training step."),
        _count("steps", 16, 100000, "Training steps. A new subject takes hundreds to a few thousand."),
        io.Float.Input(
            "learning_rate",
            default=0.0005,
            min=0.0,
            max=1.0,
            step=0.0000001,
            tooltip="Size of each training step. Use less if frames or voices break down.",
        ),
        _count("rank", 8, 128, "Size of the LoRA. A higher rank learns more and takes more memory."),
    ]


def _method() -> list:
    dtypes = "none: the one the model uses anyway."
    return [
        _choice("optimizer", list(trainer.OPTIMIZERS), "Algorithm that turns gradients into training steps."),
        _choice(
            "loss_function",
            list(trainer.LOSSES),
            "How errors are measured. The published weights: MSE.",
        ),
        seed_input("Sets everything random. The same seed and settings give the same LoRA."),
        _choice("training_dtype", ["bf16", "fp32", "none"], f"Precision of the computation during training. {dtypes}"),
        _choice("lora_dtype", ["bf16", "fp32"], "Precision of the returned LoRA. It is always trained in fp32."),
        _choice("algorithm", list(ALGORITHMS), "Type of adapter. LoRA works everywhere."),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            advanced=True,
            tooltip="Recompute block pairs for their gradients instead of storing the results: much less memory, more "
            "time.",
        ),
        io.Boolean.Input(
            "offloading",
            default=False,
            advanced=True,
            tooltip="Keep the model's weights in system memory and stream them to the graphics card.",
        ),
        io.Combo.Input(
            "existing_lora",
            options=[NEW, *folder_paths.get_filename_list("loras")],
            default=NEW,
            tooltip="A LoRA to continue from. Its own rank and algorithm are used.",
        ),
    ]


def _objective() -> list:
    return [
        _tower_loss("video_loss", "video"),
        _tower_loss("audio_loss", "sound"),
        io.Float.Input(
            "first_frame",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Share of clips that are trained with their first frame given, as in image to video. 0: text to "
            "video only.",
        ),
    ]


NODES = [OviLoadDataset, OviTrainLora]
