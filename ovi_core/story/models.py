"""The models that make the shots of a storyboard."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from ..model import base_model
from ..text import encode
from ..vae import checks
from .model_fingerprint import identity
from .plan import hash_of


class Models(NamedTuple):
    """ComfyUI's MODEL, CLIP and both VAEs."""

    model: Any
    clip: Any
    vae: Any
    audio_vae: Any

    def check(self) -> None:
        """Raise OviError unless all four are Ovi's."""
        base_model.require_ovi(self.model)
        encode.umt5_sentencepiece(self.clip)
        checks.check_video_vae(self.vae)
        checks.check_audio_vae(self.audio_vae)

    def identity(self) -> str:
        """What decides the results of all four; see :mod:`.model_fingerprint`."""
        vaes = (self.vae, self.audio_vae)
        patchers = [self.model, self.clip.patcher, *(vae.patcher for vae in vaes)]
        tokenizer = hashlib.sha256(encode.umt5_sentencepiece(self.clip).serialized_model_proto()).hexdigest()
        return hash_of([*map(identity, patchers), *(str(checks.compute_dtype(vae)) for vae in vaes), tokenizer])
