"""A server on this machine that speaks as the Hugging Face hub does, well or badly."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"<!DOCTYPE html><html><title>Log in to this network</title></html>"


@dataclass
class File:
    """One file, and how it is served.

    Attributes:
        etag: as Hugging Face reports it; the SHA-256 of the data unless given.
        size: as Hugging Face reports it; that of the data unless given.
        status: of every answer.
        moved: where every answer sends on to, with status 307.
        faults: what goes wrong with the next requests of the body, one each; see ``_Handler.do_GET``.
    """

    data: bytes
    etag: str = ""
    size: int = 0
    status: int = 200
    moved: str = ""
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.sha256(self.data).hexdigest()
        self.size = self.size or len(self.data)


class Hub(ThreadingHTTPServer):
    """``files`` by repository and path ("owner/name/path"); ``log``: method, revision, path and range of requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, File] = {}
        self.log: list[tuple[str, str, str, str]] = []
        self.token = ""
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges(self) -> list[str]:
        """The Range of every request for a body, in order; empty for one of the whole."""
        return [span for method, _, _, span in self.log if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        file = self._file()
        if file is None:
            return
        if "log-in page" in file.faults:
            self._answer(200, {"Content-Type": "text/html", "Content-Length": str(len(PAGE))})
            return
        described = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
        self._answer(200, {**described, "ETag": f'"{file.etag}"', "Content-Length": str(file.size)})

    def do_GET(self) -> None:
        file = self._file()
        if file is None:
            return
        fault = file.faults.pop(0) if file.faults else ""
        first = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        data = file.data[first:]
        if fault == "page":
            first, data = 0, PAGE
        if fault == "damage":
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault == "short":
            data = data[: len(data) // 2]
        headers = {"Content-Length": str(len(data))}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(file.data) - 1}/{len(file.data)}"
        self._answer(206 if first else 200, headers)
        if fault in ("cut", "stall"):
            data = data[: len(data) * 2 // 3]
        try:
            self.wfile.write(data)
            if fault == "stall":
                self.server.closing.wait(30)
        except OSError:
            pass  # whoever asked has gone
        self.close_connection = True

    def _file(self) -> File | None:
        """The file that is asked for; answers itself, and gives None, where there is none to be had."""
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, path = rest.partition("/")
        if path:  # the library asks for other things as well
            self.server.log.append((self.command, revision, f"{repo}/{path}", self.headers.get("Range", "")))
        file = self.server.files.get(f"{repo}/{path}")
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted", "Content-Length": "0"})
            return None
        if file is not None and file.moved:
            self._answer(307, {"Location": file.moved, "Content-Length": "0"})
            return None
        if file is None or file.status != 200:
            code = {"X-Error-Code": "EntryNotFound"} if file is None else {}
            self._answer(file.status if file else 404, {**code, "Content-Length": "0"})
            return None
        return file

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
        thread.join()
