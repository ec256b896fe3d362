"""The reference's three solvers, each with its own schedule, as samplers of ComfyUI.

All work on ComfyUI's prediction of the clean latent ("denoised"); x is the packed joint latent, so both towers step
together while every value keeps its own history. Coefficients are Python's numbers: no step waits for the device.
Sources: UniPC (arXiv 2302.04867; order 2, B2, predicting data), DPM-Solver++ (arXiv 2211.01095; 2M, midpoint), Euler
for flow matching; as the reference sets them up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import trange

from ..errors import OviError
from .comfyui import KSAMPLER

SOLVERS = ("unipc", "dpm++", "euler")
TRAIN_STEPS = 1000
HIGHEST = 1 + 1e-6  # noise level, rounded up


def schedule(solver: str, steps: int, shift: float) -> tuple[Tensor, np.ndarray]:
    """Noise levels and timesteps of a whole run.

    Returns:
        sigmas [steps + 1] float32, the last one 0, and the timesteps [steps] the reference gives the model. unipc and
        dpm++ cut these to whole numbers, for which a sigma may be moved to the next float32 so that the cut lands
        where the reference's float64 does.
    """
    if solver == "unipc":
        levels = np.linspace(float(np.float32(1 - 1 / TRAIN_STEPS)), 0, steps + 1)[:-1]
        sigmas = _shifted(levels, shift)
    elif solver == "dpm++":
        sigmas = _shifted(np.linspace(1, 0, steps + 1)[:-1], shift)
    else:
        lowest = float(_shifted(np.float32(1 / TRAIN_STEPS), np.float32(shift)))
        sigmas = _shifted(np.linspace(TRAIN_STEPS, TRAIN_STEPS * lowest, steps) / TRAIN_STEPS, shift)
    rounded = sigmas.astype(np.float32)
    if solver == "euler":
        timesteps = rounded * np.float32(TRAIN_STEPS)
    else:
        timesteps = np.trunc(sigmas * TRAIN_STEPS)
        for towards, misses in ((0, np.greater), (2, np.less)):
            missed = misses(np.floor(rounded * np.float32(TRAIN_STEPS)), timesteps)
            rounded[missed] = np.nextafter(rounded[missed], np.float32(towards))
    return torch.from_numpy(np.append(rounded, np.float32(0))), timesteps


def _shifted(levels: Any, shift: Any) -> Any:
    return shift * levels / (1 + (shift - 1) * levels)


def sampler(solver: str) -> KSAMPLER:
    """The solver as a sampler of ComfyUI, for any node that takes a SAMPLER."""
    return KSAMPLER({"unipc": sample_unipc, "dpm++": sample_dpmpp, "euler": sample_euler}[solver])


def _log_snr(sigma: float) -> float:
    """log((1 - sigma) / sigma), with its limits at 1 and 0."""
    if sigma <= 0:
        return math.inf
    return -math.inf if sigma >= 1 else math.log1p(-sigma) - math.log(sigma)


def _starts_from_noise(sigma: float) -> bool:
    """Whether a run begins at the top of its schedule (unipc's first sigma is 0.999 before the shift)."""
    return sigma >= 0.9989


def check_levels(sigmas: Tensor) -> None:
    """Raise OviError unless noise levels, which any node may give, can be those of a run of any sampler."""
    if sigmas.ndim != 1:
        raise _wrong_levels(f"noise levels of shape {list(sigmas.shape)}", "a list of numbers")
    levels = sigmas.tolist()
    if not all(0 <= level < math.inf for level in levels) or any(level >= 1 for level in levels[-1:]):
        # at 1 nothing is left of a latent: ComfyUI divides by what is left
        raise _wrong_levels(_shown(levels), "finite numbers from 0 on, of which the last is below 1")


def _check_sigmas(sigmas: list[float], falling: bool) -> None:
    """Raise OviError unless noise levels that :func:`check_levels` lets pass are those of the reference's solvers."""
    if not all(sigma > 0 for sigma in sigmas[:-1]):
        raise _wrong_levels(_shown(sigmas), "numbers above 0, of which the last may be 0")
    if falling and not (all(now > new for now, new in pairwise(sigmas)) and sigmas[0] <= HIGHEST):
        raise _wrong_levels(_shown(sigmas), "numbers from 1 to 0, each lower than the one before")


def _shown(sigmas: list[float]) -> str:
    return "the noise levels " + ", ".join(f"{sigma:g}" for sigma in sigmas[:8]) + (", …" if len(sigmas) > 8 else "")


def _wrong_levels(found: str, accepted: str) -> OviError:
    remedy = "Use Ovi Scheduler with the same solver."
    return OviError(input="sigmas", found=found, accepted=accepted, remedy=remedy)


class _Steps:
    """What the three loops share: the model's calls, whole timesteps, progress, the run's first state."""

    def __init__(
        self, model: Any, x: Tensor, sigmas: Tensor, extra_args: dict | None, callback: Any, whole: bool, falling: bool
    ):
        self.model, self.callback, self.device_sigmas = model, callback, sigmas
        self.sigmas: list[float] = sigmas.tolist()
        _check_sigmas(self.sigmas, falling)
        self.rows = x.new_ones([x.shape[0]])
        self.extra_args = dict(extra_args or {})
        if whole:
            options = dict(self.extra_args.get("model_options", {}))
            options["transformer_options"] = {**options.get("transformer_options", {}), "ovi_whole_timesteps": True}
            self.extra_args["model_options"] = options

    def start(self, x: Tensor) -> Tensor:
        """The run starts from the noise itself although unipc's first sigma is not 1."""
        noise = getattr(self.model, "noise", None)
        return noise if noise is not None and _starts_from_noise(self.sigmas[0]) else x

    def denoise(self, x: Tensor, i: int) -> Tensor:
        sigma = self.device_sigmas[i]
        denoised = self.model(x, sigma * self.rows, **self.extra_args)
        if self.callback is not None:
            self.callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        return denoised


def _solve(
    step: Callable[[Tensor, list[Tensor], list[float], int], Tensor],
    correct: Callable[[Tensor, list[Tensor], list[float], int], Tensor] | None,
    whole: bool,
    falling: bool,
) -> Callable[..., Tensor]:
    """A sampler function from one ``step`` (and a corrector): both take the state, past predictions, sigmas, index.

    Args:
        whole: cut timesteps to whole numbers.
        falling: the step needs noise levels that fall.
    """

    @torch.no_grad()
    def sample(
        model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None
    ) -> Tensor:
        steps = _Steps(model, x, sigmas, extra_args, callback, whole, falling)
        x = before = steps.start(x)
        predictions: list[Tensor] = []
        for i in trange(len(sigmas) - 1, disable=disable):
            predictions = [*predictions[-2:], steps.denoise(x, i)]
            if correct is not None and i > 0:
                x = correct(before, predictions, steps.sigmas, i)
            before = x
            x = step(x, predictions, steps.sigmas, i)
        return x

    return sample


def _euler_step(x: Tensor, predictions: list[Tensor], sigmas: list[float], i: int) -> Tensor:
    """x + (sigma' - sigma) v, with the velocity v = (x - denoised) / sigma."""
    return torch.lerp(predictions[-1], x, sigmas[i + 1] / sigmas[i])


def _dpmpp_step(x: Tensor, predictions: list[Tensor], sigmas: list[float], i: int) -> Tensor:
    """DPM-Solver++(2M), midpoint form; first order in the first step and the last."""
    now, new = _log_snr(sigmas[i]), _log_snr(sigmas[i + 1])
    data = predictions[-1]
    if i > 0 and i < len(sigmas) - 2:
        ratio = (new - now) / (now - _log_snr(sigmas[i - 1]))
        data = data + (data - predictions[-2]) * (0.5 * ratio)
    return x * (sigmas[i + 1] / sigmas[i]) + data * (-(1 - sigmas[i + 1]) * math.expm1(now - new))


def _unipc_move(x: Tensor, data: Tensor, change: Tensor | float, sigmas: list[float], i: int) -> Tensor:
    """From sigma i to i + 1 along ``data`` and its weighted finite differences ``change``."""
    decay = math.expm1(_log_snr(sigmas[i]) - _log_snr(sigmas[i + 1]))
    return x * (sigmas[i + 1] / sigmas[i]) - (data + change) * ((1 - sigmas[i + 1]) * decay)


def _unipc_order(sigmas: list[float], i: int) -> int:
    """2, but 1 in the first step, which has no history, and in the last, for stability."""
    return min(2, i + 1, len(sigmas) - 1 - i)


def _unipc_ratio(sigmas: list[float], i: int) -> float:
    """Length of the step before i against step i, in log-SNR, as a negative number."""
    now = _log_snr(sigmas[i])
    return (_log_snr(sigmas[i - 1]) - now) / (_log_snr(sigmas[i + 1]) - now)


def _unipc_step(x: Tensor, predictions: list[Tensor], sigmas: list[float], i: int) -> Tensor:
    """UniP: predict the state at sigma i + 1."""
    data, change = predictions[-1], 0.0
    if _unipc_order(sigmas, i) == 2:
        change = (predictions[-2] - data) * (0.5 / _unipc_ratio(sigmas, i))
    return _unipc_move(x, data, change, sigmas, i)


def _unipc_correct(before: Tensor, predictions: list[Tensor], sigmas: list[float], i: int) -> Tensor:
    """UniC: redo the step from sigma i - 1 to i, now that the prediction at i is known."""
    data, new = predictions[-2], predictions[-1]
    if _unipc_order(sigmas, i - 1) == 1:
        return _unipc_move(before, data, (new - data) * 0.5, sigmas, i - 1)
    ratio = _unipc_ratio(sigmas, i - 1)
    length = _log_snr(sigmas[i - 1]) - _log_snr(sigmas[i])
    b = math.expm1(length)
    phi = b / length - 1
    b1, b2 = phi / b, 2 * (phi / length - 0.5) / b
    old_weight = (b1 - b2) / (1 - ratio)
    change = (predictions[-3] - data) * (old_weight / ratio) + (new - data) * (b1 - old_weight)
    return _unipc_move(before, data, change, sigmas, i - 1)


sample_unipc = _solve(_unipc_step, _unipc_correct, whole=True, falling=True)
sample_dpmpp = _solve(_dpmpp_step, None, whole=True, falling=True)
sample_euler = _solve(_euler_step, None, whole=False, falling=False)

ONE_PREDICTION = (sample_unipc, sample_dpmpp, sample_euler)
"""Those that ask for one prediction a step, at the step's noise level."""
