"""A Ray cluster: where its address comes from, how it is started on this machine, and what is taken from it.

A cluster trusts everybody who reaches it, and this process trusts what the cluster answers. So the address is set on
this machine alone, what is started here listens to this machine alone, and answers of workers are bytes that no
unpickler sees.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import psutil

from ..errors import OviError

VARIABLE, FILE = "OVI_FARM_ADDRESS", "ovi_farm.txt"
ON = "on"
LOCAL = "local"
LONGEST_FILE = 4096  # bytes
ADDRESS = re.compile(r"auto|local|[A-Za-z0-9.-]{1,253}:[0-9]{1,5}|\[[0-9A-Fa-f:.]{2,45}\]:[0-9]{1,5}")
RAW = b"RAW"  # what Ray writes beside an object that is bytes, to be taken as they are


def address(switch: str) -> str:
    """The address that this machine's owner has set, or nothing where the node's ``switch`` is empty.

    Raises:
        OviError: another word than :data:`ON`, no address, or one that is not supported.
    """
    where = Path(folder_paths.get_user_directory()) / FILE
    how = f"Write the address into {where}, or into the environment variable {VARIABLE} before ComfyUI starts"
    if not switch.strip():
        return ""
    if switch.strip().lower() != ON:
        raise OviError(
            input="farm",
            found=f"'{switch.strip()}'",
            accepted=f"nothing, or '{ON}'; a workflow never names a machine",
            remedy=f"{how}, and '{ON}' here; or leave farm empty.",
        )
    found = os.environ.get(VARIABLE, "").strip() or _first_line(where)
    if not ADDRESS.fullmatch(found):
        raise OviError(
            input="farm",
            found=f"'{found}' as the address of the farm" if found else "no address of a farm on this machine",
            accepted="'auto' for the Ray cluster that this machine belongs to, 'local' for one of this machine alone, "
            "or host:port of the cluster; not the ray:// of Ray's client",
            remedy=f"{how}; or leave farm empty.",
        )
    return found


def _first_line(path: Path) -> str:
    """The first line of a small file that is no comment; nothing where there is no file."""
    try:
        with open(path, "rb") as file:
            text = file.read(LONGEST_FILE).decode("utf-8-sig", "replace")
    except OSError:
        return ""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")


@contextlib.contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """The cluster at an address; it is left after the block unless this process was in it before.

    Raises:
        OviError: Ray is not installed, no cluster answers, or one started here would listen to other machines.
    """
    ray = _ray()
    shared = ray.is_initialized()
    options = {"log_to_driver": False, "configure_logging": False, "ignore_reinit_error": True}
    try:
        if address == LOCAL and not shared:
            with _this_machine_only(ray):
                ray.init(address=LOCAL, include_dashboard=False, **options)
        else:
            ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise OviError(
            input="farm",
            found=f"'{address}', where no Ray cluster answers ({(str(error).splitlines() or [''])[0]})",
            accepted="the address of a cluster that runs",
            remedy="Start it with 'ray start --head', then 'ray start --address=…' on the others; or leave farm empty.",
        ) from error
    try:
        if address == LOCAL and not shared:
            _check_unreachable()
        yield Cluster(ray)
    finally:
        if not shared:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray  # optional, and slow to import
    except ImportError as error:
        raise OviError(
            input="farm",
            found="no Ray in ComfyUI's Python",
            accepted="an empty input, or a farm where Ray is installed",
            remedy="Install it on all machines with: python -m pip install 'ray>=2.40'.",
        ) from error
    return ray


@contextlib.contextmanager
def _this_machine_only(ray: Any) -> Iterator[None]:
    """Ray binds to 127.0.0.1 where it takes no other machines for possible, as on Windows and macOS by default."""
    import ray._private.ray_constants as constants

    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    constants.ENABLE_RAY_CLUSTER = False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _check_unreachable() -> None:
    """Raise OviError if a process that was started here listens to other machines, whatever its settings."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN and not _is_loopback(connection.laddr.ip):
                    raise OviError(
                        input="farm",
                        found=f"a Ray that listens at {connection.laddr.ip}, where other machines reach it",
                        accepted="a Ray that listens at 127.0.0.1 alone",
                        remedy="Install another version of Ray (2.60 is known to do it), or leave farm empty.",
                    )


def _is_loopback(ip: str) -> bool:
    found = ipaddress.ip_address(ip.partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


class Cluster:
    """What a farm needs of Ray."""

    def __init__(self, ray: Any):
        self.ray = ray
        self.put, self.kill = ray.put, ray.kill

    def remote(self, worker: type) -> Any:
        """A class whose objects live on the machines, each with a graphics card if there are any."""
        cards = 1 if self.ray.cluster_resources().get("GPU") else 0
        return self.ray.remote(worker).options(num_gpus=cards)

    def machines(self) -> int:
        """Workers that there is room for."""
        return int(self.ray.cluster_resources().get("GPU", 0)) or sum(node["Alive"] for node in self.ray.nodes())

    def wait(self, results: list[Any], seconds: float) -> list[Any]:
        """Those of the results that are there within some time."""
        return self.ray.wait(results, timeout=seconds)[0]

    def bytes_of(self, result: Any) -> bytes | None:
        """What a worker returned, which must be bytes; None where the worker was lost.

        ``ray.get`` would unpickle whatever comes. Here the object is taken as it lies in Ray's memory.

        Raises:
            OviError: anything else than bytes.
        """
        from ray._private.worker import global_worker

        process: Any = global_worker
        get = process.core_worker.get_objects
        try:
            (found,) = get([result], -1)
        except TypeError:  # before Ray 2.45 or so
            (found,) = get([result], process.current_task_id, -1)
        data, metadata = found[0], bytes(found[1] or b"")
        kind = metadata.partition(b",")[0]
        if kind == RAW:
            return data.to_pybytes() if data is not None else b""
        if kind.isdigit() and not self._is_exception(kind):
            return None
        raise OviError(
            input="farm",
            found="a worker that answered with something else than bytes",
            accepted="workers of this pack",
            remedy="Use the same version of this pack on all machines, and look into Ray's log.",
        )

    def _is_exception(self, kind: bytes) -> bool:
        import ray.core.generated.common_pb2 as messages

        kinds: Any = messages
        return int(kind) == kinds.ErrorType.Value("TASK_EXECUTION_EXCEPTION")
