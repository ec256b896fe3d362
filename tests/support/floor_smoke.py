"""Run with ``COMFYUI_PATH`` set to an old ComfyUI: imports the pack, lists its nodes, makes a clip of two steps."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    sys.path.append(str(ROOT))
    from tools import pack

    pack.load("--cpu")
    import comfyui_version
    import ovi_native
    import torch

    extension = asyncio.run(ovi_native.comfy_entrypoint())
    asyncio.run(extension.on_load())
    nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}
    with torch.inference_mode():  # as ComfyUI runs nodes
        loaded = nodes["OviPipelineLoader"].execute(variant="mini", precision="bf16").result
        model, text_encoder, vae, audio_vae = loaded[:4]
        prompt, negative = (
            nodes["OviTextEncode"].execute(clip=text_encoder, prompt=text, variant="mini").result[0]
            for text in ("A large purple rubber ball bounces. Audio: Thuds.", "blur")
        )
        latent = nodes["EmptyOviLatent"].execute(width=64, height=64, seconds=0.4, batch_size=1).result[0]
        settings = {"seed": 1, "steps": 2, "video_cfg": 2.0, "audio_cfg": 2.0, "shift": 5.0, "solver": "unipc"}
        sampled = (
            nodes["OviSampler"]
            .execute(model=model, positive=prompt, negative=negative, latent=latent, skip_layers="2", **settings)
            .result[0]
        )
        result = nodes["OviDecode"].execute(samples=sampled, vae=vae, audio_vae=audio_vae, tiled="auto").result
    images = next(value for value in result if isinstance(value, torch.Tensor))
    audio = next(value for value in result if isinstance(value, dict))["waveform"]
    print(
        json.dumps(
            {
                "comfyui": comfyui_version.__version__,
                "nodes": len(nodes),
                "images": list(images.shape),
                "finite": bool(images.isfinite().all() and audio.isfinite().all()),
                "spread": float(images.std()),
                "audio": list(audio.shape),
            }
        )
    )


if __name__ == "__main__":
    main()
