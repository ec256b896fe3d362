"""The twin transformer written the straightforward way, for the benchmark to compare with.

As a first port of the reference would be: modulation for every token, rope by complex float64 numbers made in every
call, text keys and values in every call, one forward for each prompt. Same weights, same result.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv3d, gelu, layer_norm, linear, scaled_dot_product_attention, silu

HEAD_DIM = 128
EPS = 1e-6


class PlainTwin:
    """``weights``: of an ``OviTransformer``, by the module's names."""

    def __init__(self, weights: dict[str, Tensor]):
        self.weights = weights
        self.depth = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("blocks."))

    def __call__(self, video: Tensor, audio: Tensor, timestep: Tensor, texts: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Velocity of video [1, 48, T, H, W] and audio [1, 20, L] at timestep [1]; two texts [1, 512, text_dim]."""
        patches = conv3d(video, self.weights["patch_embedding.weight"].to(video.dtype),
                         self.weights["patch_embedding.bias"].to(video.dtype), stride=(1, 2, 2))  # fmt: skip
        t, h, w = patches.shape[2:]
        x, a = patches.flatten(2).transpose(1, 2), self._audio_patches(audio)
        freqs = (self._video_freqs(t, h, w, x.device), self._audio_freqs(a.shape[1], x.device))
        ex, px = self._time("", timestep, x)
        ea, pa = self._time("audio_model.", timestep, a)
        text = [self._mlp(f"{tower}text_embedding", y) for tower, y in zip(("", "audio_model."), texts, strict=True)]
        for i in range(self.depth):
            vb, ab = f"blocks.{i}.", f"audio_model.blocks.{i}."
            a, ma = self._self_attention(ab, a, pa, freqs[1])
            x, mx = self._self_attention(vb, x, px, freqs[0])
            new_a = self._exchange(ab, a, x, text[1], freqs[1], freqs[0], ma)
            x = self._exchange(vb, x, a, text[0], freqs[0], freqs[1], mx)
            a = new_a
        x, a = self._head("", x, ex), self._head("audio_model.", a, ea)
        c = x.shape[-1] // 4
        x = x.view(1, t, h, w, 1, 2, 2, c)
        x = torch.einsum("bfhwpqrc->bcfphqwr", x).reshape(1, c, t, h * 2, w * 2)
        return [x, a.transpose(1, 2)]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"].to(x.dtype), self.weights[f"{name}.bias"].to(x.dtype))

    def _mlp(self, name: str, x: Tensor, activation: str = "gelu") -> Tensor:
        x = self._linear(f"{name}.0", x)
        return self._linear(f"{name}.2", gelu(x, approximate="tanh") if activation == "gelu" else silu(x))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"].to(x.dtype), self.weights[f"{name}.bias"].to(x.dtype)
        return layer_norm(x, x.shape[-1:], weight, bias, EPS)

    def _rms(self, name: str, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weights[f"{name}.weight"].to(x.dtype)

    def _audio_patches(self, audio: Tensor) -> Tensor:
        name = "audio_model.patch_embedding"
        x = silu(conv1d(audio, self.weights[f"{name}.0.weight"].to(audio.dtype),
                        self.weights[f"{name}.0.bias"].to(audio.dtype), padding=3))  # fmt: skip
        w1, w2, w3 = (self.weights[f"{name}.2.w{i}.weight"].to(x.dtype) for i in (1, 2, 3))
        return conv1d(silu(conv1d(x, w1, padding=3)) * conv1d(x, w3, padding=3), w2, padding=3).transpose(1, 2)

    def _time(self, tower: str, timestep: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding [1, L, D] and projection [1, L, 6, D], one row a token."""
        half = 128
        each = timestep[:, None].expand(-1, x.shape[1]).double()
        angles = each[..., None] * torch.pow(10000, -torch.arange(half, device=x.device).double() / half)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1).to(x.dtype)
        embedding = self._mlp(f"{tower}time_embedding", waves, "silu")
        return embedding, self._linear(f"{tower}time_projection.1", silu(embedding)).unflatten(-1, (6, -1))

    @staticmethod
    def _freqs(positions: Tensor, dim: int, scale: float = 1.0) -> Tensor:
        angles = torch.outer(positions.double(), scale / 10000 ** (torch.arange(0, dim, 2).double() / dim))
        return torch.polar(torch.ones_like(angles), angles)

    def _video_freqs(self, t: int, h: int, w: int, device: torch.device) -> Tensor:
        ft, fh, fw = (self._freqs(torch.arange(n), dim) for n, dim in ((t, 44), (h, 42), (w, 42)))
        parts = (ft.view(t, 1, 1, -1).expand(t, h, w, -1), fh.view(1, h, 1, -1).expand(t, h, w, -1),
                 fw.view(1, 1, w, -1).expand(t, h, w, -1))  # fmt: skip
        return torch.cat(parts, dim=-1).reshape(t * h * w, 1, -1).to(device)

    def _audio_freqs(self, steps: int, device: torch.device) -> Tensor:
        return self._freqs(torch.arange(steps), 44, 0.19676).view(steps, 1, -1).to(device)

    @staticmethod
    def _turn(x: Tensor, freqs: Tensor) -> Tensor:
        """x [1, L, heads, 128]; pairs beyond those of ``freqs`` pass."""
        pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
        turning = pairs[..., : freqs.shape[-1]] * freqs
        return torch.view_as_real(torch.cat((turning, pairs[..., freqs.shape[-1] :]), -1)).flatten(-2).to(x.dtype)

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)

    def _self_attention(self, block: str, x: Tensor, time: Tensor, freqs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        modulation = (self.weights[f"{block}modulation.weight"].to(x.dtype) + time.to(x.dtype)).unbind(2)
        y = layer_norm(x, x.shape[-1:], eps=EPS) * (1 + modulation[1]) + modulation[0]
        name = f"{block}self_attn"
        heads = (-1, HEAD_DIM)
        q = self._rms(f"{name}.norm_q", self._linear(f"{name}.q", y)).unflatten(-1, heads)
        k = self._rms(f"{name}.norm_k", self._linear(f"{name}.k", y)).unflatten(-1, heads)
        v = self._linear(f"{name}.v", y).unflatten(-1, heads)
        y = self._attend(self._turn(q, freqs), self._turn(k, freqs), v)
        return x + self._linear(f"{name}.o", y) * modulation[2], modulation

    def _exchange(
        self, block: str, x: Tensor, other: Tensor, text: Tensor, freqs: Tensor, other_freqs: Tensor, modulation: tuple
    ) -> Tensor:
        name, heads = f"{block}cross_attn", (-1, HEAD_DIM)
        q = self._rms(f"{name}.norm_q", self._linear(f"{name}.q", self._norm(f"{block}norm3", x))).unflatten(-1, heads)
        k = self._rms(f"{name}.norm_k", self._linear(f"{name}.k", text)).unflatten(-1, heads)
        y = self._attend(q, k, self._linear(f"{name}.v", text).unflatten(-1, heads))
        other = self._norm(f"{name}.pre_attn_norm_fusion", other)
        k = self._rms(f"{name}.norm_k_fusion", self._linear(f"{name}.k_fusion", other)).unflatten(-1, heads)
        v = self._linear(f"{name}.v_fusion", other).unflatten(-1, heads)
        y = y + self._attend(self._turn(q, freqs), self._turn(k, other_freqs), v)
        x = x + self._linear(f"{name}.o", y)
        y = layer_norm(x, x.shape[-1:], eps=EPS) * (1 + modulation[4]) + modulation[3]
        return x + self._mlp(f"{block}ffn", y) * modulation[5]

    def _head(self, tower: str, x: Tensor, embedding: Tensor) -> Tensor:
        modulation = self.weights[f"{tower}head.modulation.weight"].to(x.dtype) + embedding.unsqueeze(2).to(x.dtype)
        shift, scale = modulation.unbind(2)
        return self._linear(f"{tower}head.head", layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift)
