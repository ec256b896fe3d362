"""The vocabulary of the text encoder: pieces of words, learned from captions of the world."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import sentencepiece
import torch
from ovi_native.ovi_core.spec import ClipShape
from torch import Tensor

from ..world.captions import caption
from ..world.casting import draw_scene
from .config import Config

PAD, EOS, UNKNOWN = 0, 1, 2  # ids as in UMT5
SPEECH_TAGS = ["<S>", "<E>"]
# Whatever else people write must have pieces too, if only letter by letter.
LETTERS = "".join(chr(code) for code in range(33, 127))


def learn_pieces(config: Config) -> bytes:
    """A sentencepiece model learned from training captions; the same bytes for the same configuration."""
    clip = ClipShape.from_seconds(96, 96, 2)
    captions = (caption(draw_scene(seed, clip), seed) for seed in range(config.text.captions))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=captions,
        model_writer=model,
        vocab_size=config.text.pieces,
        model_type="bpe",  # merges until each word of the world is one piece, which unigram sees no need for
        pad_id=PAD,
        eos_id=EOS,
        unk_id=UNKNOWN,
        bos_id=-1,
        user_defined_symbols=SPEECH_TAGS,
        required_chars=LETTERS,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


class Tokenizer:
    """Texts to ids, as ComfyUI's tokenizer makes them of the same sentencepiece model."""

    def __init__(self, model: bytes):
        self.model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids [B, S] with the end of text, padded to the longest of them, and the mask [B, S] of what is text."""
        rows = [[*self._pieces.encode(text), EOS] for text in texts]
        ids = np.full((len(rows), max(map(len, rows))), PAD)
        for row, into in zip(rows, ids, strict=True):
            into[: len(row)] = row
        lengths = torch.tensor([len(row) for row in rows])
        return torch.from_numpy(ids), (torch.arange(ids.shape[1]) < lengths[:, None]).float()
