"""Shots made side by side on the machines of a Ray cluster; what they make goes into the same store.

A shot waits for the one it goes on from and for no other. Each machine has ComfyUI, this pack and the model files at
the same paths, as those of one image or of a shared disk have.
"""

from __future__ import annotations

import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.cli_args
import comfy.model_management
import folder_paths

from ..errors import OviError
from .farm_worker import Loaded
from .plan import Plan
from .progress import spoken
from .shot_maker import Maker

LOSSES = 3  # workers that a shot may lose before it is taken for the reason
WAIT = 0.5  # s between looks at whether the artist has interrupted


def make(
    maker: Maker, plans: list[Plan], identity: str, address: str, say: Callable[[str], None], workers: int = 0
) -> dict[str, float]:
    """Make shots and put them into the store; seconds for each, by its key.

    A worker that is lost costs the shot it was at, which another one makes.

    Args:
        plans: shots that are not in the store, each behind those it goes on from.
        address: of the cluster, as Ray takes it; ``local`` for one of this machine alone.
        workers: how many; 0: one for each graphics card, or, where there is none, for each machine.

    Raises:
        OviError: there is no Ray or no cluster, models that cannot be loaded elsewhere, or what a shot is refused with.
    """
    ray = _ray()
    comfy.model_management.unload_all_models()  # a worker on this machine needs the room
    shared = ray.is_initialized()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OviError(
            input="farm",
            found=f"'{address}', where no Ray cluster answers ({str(error).splitlines()[0]})",
            accepted="the address of one, such as 'auto' or 'ray://192.168.0.7:10001'",
            remedy="Start it with 'ray start --head', then 'ray start --address=…' on the others; or leave farm empty.",
        ) from error
    farm = _Farm(ray, Loaded.of(maker.models, identity), maker, say)
    try:
        return farm.run(plans, workers or _machines(ray))
    finally:
        farm.close()
        if not shared:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray  # optional, and slow to import
    except ImportError as error:
        raise OviError(
            input="farm",
            found="no Ray in ComfyUI's Python",
            accepted="an empty input, or an address where Ray is installed",
            remedy="Install it on all machines with: python -m pip install 'ray>=2.40'.",
        ) from error
    return ray


def _machines(ray: Any) -> int:
    """Workers that a cluster has room for."""
    return int(ray.cluster_resources().get("GPU", 0)) or sum(node["Alive"] for node in ray.nodes())


class _Farm:
    """Workers, and which of them is at what."""

    def __init__(self, ray: Any, loaded: Loaded, maker: Maker, say: Callable[[str], None]):
        self.ray, self.maker, self.say = ray, maker, say
        cards = 1 if ray.cluster_resources().get("GPU") else 0
        self.worker_class = ray.remote(_worker_class()).options(num_gpus=cards)
        host = vars(comfy.cli_args.args), folder_paths.folder_names_and_paths
        self.start = (_places(), pickle.dumps(host), ray.put(pickle.dumps((loaded, maker.settings))))
        self.workers: list[Any] = []
        self.idle: list[Any] = []
        self.at: dict[Any, tuple[Any, Plan | None, float]] = {}
        """By the result to come: the worker, the shot it is at or None where it starts, and since when."""

    def run(self, plans: list[Plan], workers: int) -> dict[str, float]:
        """Make the shots; seconds for each, by its key."""
        waiting, took, lost = list(plans), dict[str, float](), Counter[Plan | None]()
        began = time.monotonic()
        self.say("The machines load the models.")
        for _ in range(min(workers, len(plans))):
            self.hire()
        while waiting or any(plan for _, plan, _ in self.at.values()):
            comfy.model_management.throw_exception_if_processing_interrupted()
            for plan in [plan for plan in waiting if not plan.last or self.maker.store.has(plan.last.key)]:
                if self.idle:
                    waiting.remove(plan)
                    self.give(plan)
            for result in self.ray.wait(list(self.at), timeout=WAIT)[0]:
                worker, done, since = self.at.pop(result)
                made = self.taken(result)
                if made is None:
                    lost[done] += 1
                    _check_losses(done, lost[done])
                    waiting[:0] = [done] if done else []
                    self.hire()
                    continue
                self.idle.append(worker)
                if done:
                    self.maker.store.put(done.key, made)
                    took[done.key] = time.monotonic() - since
                    left = (time.monotonic() - began) / len(took) * (len(plans) - len(took))
                    self.say(f"{len(took)} of {len(plans)} shots made. About {spoken(left)} left.")
        return took

    def hire(self) -> None:
        """Start a worker, wherever there is room."""
        worker = self.worker_class.remote()
        self.workers.append(worker)
        self.at[worker.start.remote(*self.start)] = (worker, None, time.monotonic())

    def give(self, plan: Plan) -> None:
        """Let an idle worker make a shot."""
        worker, store = self.idle.pop(), self.maker.store
        needed = {needed.key for needed in (plan.last, plan.first) if needed and needed is not plan}
        before = {key: store.shot(key).read_bytes() for key in needed}
        picture = self.maker.load(plan.picture).float().cpu().numpy() if plan.picture else None
        self.at[worker.make.remote(pickle.dumps(plan), before, picture)] = (worker, plan, time.monotonic())

    def taken(self, result: Any) -> bytes | None:
        """What a worker made; None where it was lost."""
        try:
            made, refused = self.ray.get(result)
        except self.ray.exceptions.RayActorError:
            return None
        if refused:
            raise OviError(**refused)
        return made

    def close(self) -> None:
        for worker in self.workers:
            self.ray.kill(worker)


def _places() -> list[str]:
    """Folders of ComfyUI and of this pack, and the pack's module name, which ComfyUI may have given any."""
    name = __name__.removesuffix(".ovi_core.story.farm")
    return [str(Path(folder_paths.__file__).parent), str(Path(sys.modules[name].__file__ or "").parent), name]


def _check_losses(plan: Plan | None, losses: int) -> None:
    if losses >= LOSSES:
        at = f"the shot of line {plan.line}" if plan else "loading the models"
        raise OviError(
            input="farm",
            found=f"{losses} workers that ended at {at}",
            accepted="machines with memory for models and shots",
            remedy="Look into Ray's log on the machines; make the shot shorter or smaller, or leave farm empty.",
        )


def _worker_class() -> type:
    """What runs on a machine: sent as it stands, for there is no pack before ``start``, so it imports all itself."""

    class Worker:
        def start(self, places: list[str], host: bytes, work: bytes) -> tuple[bytes, dict | None]:
            import importlib.util
            import pickle
            import sys

            comfyui, folder, pack = places
            sys.path.insert(0, comfyui)
            import comfy.cli_args

            arguments, folders = pickle.loads(host)
            vars(comfy.cli_args.args).update(arguments)
            import folder_paths

            folder_paths.folder_names_and_paths.update(folders)
            spec: Any = importlib.util.spec_from_file_location(
                pack, f"{folder}/__init__.py", submodule_search_locations=[folder]
            )
            sys.modules[pack] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            workshop = importlib.import_module(f"{pack}.ovi_core.story.farm_worker")
            self.error = workshop.OviError
            try:
                self.workshop = workshop.Workshop(*pickle.loads(work))
            except self.error as error:
                return b"", vars(error)
            return b"", None

        def make(self, plan: bytes, before: dict, picture: object) -> tuple[bytes, dict | None]:
            import pickle

            try:
                return self.workshop.make(pickle.loads(plan), before, picture), None
            except self.error as error:
                return b"", vars(error)

    return Worker
