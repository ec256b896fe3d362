"""A small tokenizer and the settings of UMT5, for tests of text encoders."""

from __future__ import annotations

import io

import sentencepiece

UMT5 = {"model_type": "umt5", "is_gated_act": True, "dense_act_fn": "gelu_pytorch_tanh"}


def train_tokenizer() -> bytes:
    """A small sentencepiece model that knows every byte."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a small boat on a calm sea", "she says hello to the wind"] * 20),
        model_writer=model,
        vocab_size=290,
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()
