"""Shots made side by side on the machines of a Ray cluster; what they make goes into the same store.

A shot waits for the one it goes on from and for no other. Each machine has ComfyUI, this pack and the model files at
the same paths, as those of one image or of a shared disk have. Whoever reaches a Ray cluster can run code on it, so
its address never comes from a workflow: see :mod:`.ray_cluster`.
"""

from __future__ import annotations

import io
import pickle
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths

from ..errors import OviError
from ..sampling.time_left import in_words
from . import ray_cluster
from .comfyui import check_interrupted, started_as
from .farm_worker import Loaded, Media, file_in, strange_answer
from .maker import ShowLine
from .plan import Plan
from .shot_maker import ShotMaker
from .shot_store import decodes

LOSSES = 3  # workers that a shot may lose before it is taken for the reason
WAIT = 0.5  # s between looks at whether the user has interrupted


def make(maker: ShotMaker, address: str, plans: list[Plan], show: ShowLine, workers: int = 0) -> dict[str, float]:
    """Make shots and put them into the store; seconds for each, by its key.

    A worker that is lost costs the shot it was at, which another one makes.

    Args:
        address: of the cluster, from :func:`.ray_cluster.address`.
        plans: shots that are not in the store, each behind those it goes on from.
        workers: how many; 0: one for each graphics card, or, where there is none, for each machine.

    Raises:
        OviError: there is no Ray or no cluster, models that cannot be loaded elsewhere, or what a shot is refused with.
    """
    comfy.model_management.unload_all_models()  # a worker on this machine needs the room
    loaded = Loaded.of(maker.models, maker.identity())
    with ray_cluster.connected(address) as cluster:
        farm = _Farm(cluster, loaded, maker, show)
        try:
            return farm.run(plans, workers or cluster.machines())
        finally:
            farm.close()


class _Farm:
    """Workers, and which of them is at what."""

    def __init__(self, cluster: ray_cluster.Cluster, loaded: Loaded, maker: ShotMaker, show: ShowLine):
        self.cluster, self.maker, self.show = cluster, maker, show
        self.worker_class = cluster.remote(_worker_class())
        self.start = (_places(), pickle.dumps(started_as()), cluster.put(pickle.dumps((loaded, maker.settings))))
        self.workers: list[Any] = []
        self.idle: list[Any] = []
        self.at: dict[Any, tuple[Any, Plan | None, float]] = {}
        """By the result to come: the worker, the shot it is at or None where it starts, and since when."""
        self.waiting: list[Plan] = []
        self.seconds: dict[str, float] = {}
        self.lost: Counter[Plan | None] = Counter()

    def run(self, plans: list[Plan], workers: int) -> dict[str, float]:
        """Make the shots; seconds for each, by its key."""
        self.waiting, began = list(plans), time.monotonic()
        missing = {plan.key for plan in plans}
        self.show("The machines load the models.")
        for _ in range(min(workers, len(plans))):
            self.hire()
        while len(self.seconds) < len(missing):
            check_interrupted()
            self.give_work(missing)
            for result in self.cluster.wait(list(self.at), WAIT):
                if self.take(result):
                    left = (time.monotonic() - began) / len(self.seconds) * (len(plans) - len(self.seconds))
                    self.show(f"{len(self.seconds)} of {len(plans)} shots made. About {in_words(left)} left.")
        return self.seconds

    def hire(self) -> None:
        """Start a worker, wherever there is room."""
        worker = self.worker_class.remote()
        self.workers.append(worker)
        self.at[worker.start.remote(*self.start)] = (worker, None, time.monotonic())

    def give_work(self, missing: set[str]) -> None:
        """Let idle workers make the shots that wait for no other."""
        to_come = missing - self.seconds.keys()
        for plan in [plan for plan in self.waiting if not plan.previous or plan.previous.key not in to_come]:
            if self.idle:
                self.waiting.remove(plan)
                self.give(plan)

    def give(self, plan: Plan) -> None:
        """Let an idle worker make a shot."""
        worker, store = self.idle.pop(), self.maker.store
        needed = {needed.key for needed in (plan.previous, plan.first) if needed and needed is not plan}
        before = {key: store.shot(key).read_bytes() for key in needed}
        media = Media.of(plan, self.maker).as_arrays()
        self.at[worker.make.remote(pickle.dumps(plan.shortened()), before, media)] = (worker, plan, time.monotonic())

    def take(self, result: Any) -> bool:
        """Take what a worker made; whether it was a shot."""
        worker, plan, since = self.at.pop(result)
        answer = self.cluster.bytes_of(result)
        if answer is None:
            self.lost[plan] += 1
            _check_losses(plan, self.lost[plan])
            self.waiting[:0] = [plan] if plan else []
            self.hire()
            return False
        made = file_in(answer)
        self.idle.append(worker)
        if plan is None:
            return False
        if not decodes(io.BytesIO(made), plan):
            raise strange_answer()
        self.maker.store.put(plan, made)
        self.seconds[plan.key] = time.monotonic() - since
        return True

    def close(self) -> None:
        for worker in self.workers:
            self.cluster.kill(worker)


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
    """What runs on a machine: sent as it stands, for there is no pack before ``start``, so it imports all itself.

    Both methods return the bytes of :func:`.farm_worker.answer`, whatever happens.
    """

    class Worker:
        def start(self, places: list[str], started_as: bytes, work: bytes) -> bytes:
            import pickle

            try:
                self.module = self.pack(places, started_as)
            except Exception as error:
                import json

                found = f"a worker that found no ComfyUI with this pack ({type(error).__name__}: {error})"
                accepted = f"ComfyUI at {places[0]} and this pack at {places[1]} on every machine"
                parts = {"input": "farm", "found": found, "accepted": accepted, "remedy": "Install both there."}
                return b"-" + json.dumps(parts).encode()
            return self.module.answer(lambda: self.load(*pickle.loads(work)))

        def pack(self, places: list[str], started_as: bytes) -> Any:
            """The pack's module of a worker, once ComfyUI is started as on the first machine."""
            import importlib.util
            import pickle
            import sys

            comfyui, folder, name = places
            sys.path.insert(0, comfyui)
            import comfy.cli_args

            arguments, folders = pickle.loads(started_as)
            vars(comfy.cli_args.args).update(arguments)
            import folder_paths

            folder_paths.folder_names_and_paths.update(folders)
            spec: Any = importlib.util.spec_from_file_location(
                name, f"{folder}/__init__.py", submodule_search_locations=[folder]
            )
            sys.modules[name] = package = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(package)
            return importlib.import_module(f"{name}.ovi_core.story.farm_worker")

        def load(self, loaded: Any, settings: Any) -> bytes:
            self.worker = self.module.FarmWorker(loaded, settings)
            return b""

        def make(self, plan: bytes, before: dict, media: tuple) -> bytes:
            import pickle

            return self.module.answer(lambda: self.worker.make(pickle.loads(plan), before, media))

    return Worker
