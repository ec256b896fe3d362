"""Terms that translations take from ComfyUI: names of stock nodes as its frontend shows them, and words to avoid."""

from __future__ import annotations

import re

STOCK_NODES = {
    "Load CLIP": {"fr": "Charger CLIP", "zh": "加载CLIP"},
    "Load Image": {"fr": "Charger Image", "zh": "加载图像"},
    "Load Video": {"fr": "Charger une vidéo", "zh": "加载视频"},
    "Load Audio": {"fr": "ChargerAudio", "zh": "加载音频"},
    "Get Video Components": {"fr": "Obtenir les composants vidéo", "zh": "获取视频元素"},
    "SamplerCustomAdvanced": {"fr": "ÉchantillonneurPersonnaliséAvancé", "zh": "自定义采样器（高级）"},
    "Save Video": {"fr": "Enregistrer la vidéo", "zh": "保存视频"},
    "Save LoRA Weights": {"fr": "Enregistrer les poids LoRA", "zh": "保存 LoRA"},
    "Load LoRA Model": {"fr": "Charger le modèle LoRA", "zh": "加载 LoRA 模型"},
}
"""English name of a stock node: its name in ComfyUI's own translations."""

AVOID = {
    "fr": {
        r"\bpas d'échantillonnage|\bun pas\b|\bPas d'entraînement": "étape",
        r"\b[Uu]ne LoRA|\bla LoRA|cette LoRA": "un LoRA",
        r"latents? communs?": "latent conjoint",
        r"délestage": "offloading",
        r"\bjetons?\b": "token",
        r"recalcul des gradients": "point de contrôle de gradient",
        r"le modèle fait\b": "le modèle génère",
    },
    "zh": {
        "潜空间|潜变量": "Latent",
        "令牌": "token",
        "座塔|视频塔|音频塔|画面塔|声音塔": "分支",
        "负面计算": "负向计算",
        "自带人声": "自定义人声",
        "采样返回|个采样会": "采样点",
    },
}
"""Patterns that a translation must not contain, each with the term to use instead."""


def avoided(language: str, text: str) -> list[str]:
    """What ``text`` says that it should not, with the right term."""
    found = [(re.search(pattern, text), term) for pattern, term in AVOID[language].items()]
    return [f"'{match.group()}': use {term}" for match, term in found if match]
