"""Serves the page of a dataset on this machine alone. Knows nothing of episodes but what `DatasetView` tells."""

import json
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from emu_robot.data.view import DatasetView, ViewConfig
from emu_robot.errors import EmuRobotError, SystemSetupError

HOST, MOST_BYTES = "127.0.0.1", 1 << 20
"""Address, and largest request that is read [bytes]."""


def view(config: ViewConfig) -> None:
    """Serve the page until Ctrl-C. Prints its address."""
    shown = DatasetView(config)
    with make_server(shown, config.port) as server:
        print("\n".join(shown.quality.lines()))
        print(f"look at http://{HOST}:{server.server_address[1]}/ (Ctrl-C ends)", flush=True)
        server.serve_forever()


def make_server(shown: DatasetView, port: int) -> ThreadingHTTPServer:
    """A server of the page, not yet serving. Raises `SystemSetupError` if the port is taken."""
    try:
        server = ThreadingHTTPServer((HOST, port), _Handler)
    except OSError as error:
        raise SystemSetupError(f"port {port} cannot be opened ({error.strerror}); give another port=") from error
    server.daemon_threads = True
    server.shown = shown  # type: ignore[attr-defined]
    return server


class _Handler(BaseHTTPRequestHandler):
    """Answers one request. Pages of other sites may neither read nor write: Host and Origin must be this server's."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        shown: DatasetView = self.server.shown  # type: ignore[attr-defined]
        kind, _, name = self.path.strip("/").partition("/")
        answers: dict[str, tuple[str, Callable[[int], Any]]] = {
            "thumb": ("image/jpeg", shown.thumb),
            "clip": ("video/mp4", shown.clip),
            "curves": ("application/json", shown.curves),
        }
        if self._is_foreign():
            return
        if not kind:
            self._send("text/html; charset=utf-8", page_of(shown).encode())
        elif kind == "episodes":
            self._answer("application/json", lambda: [shown.told(index) for index in shown.episodes])
        elif kind in answers and name.isdigit():
            media, answer = answers[kind]
            self._answer(media, lambda: answer(int(name)))
        else:
            self._send("text/plain", b"no such page", HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        shown: DatasetView = self.server.shown  # type: ignore[attr-defined]
        kind, _, name = self.path.strip("/").partition("/")
        length = int(self.headers.get("Content-Length") or 0)
        if self._is_foreign():
            return
        if length > MOST_BYTES or self.headers.get_content_type() != "application/json":
            self._send("text/plain", b"expected JSON", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        elif kind == "episodes" and name.isdigit():
            body = self.rfile.read(length)
            self._answer("application/json", lambda: shown.save(int(name), json.loads(body)))
        else:
            self._send("text/plain", b"no such page", HTTPStatus.NOT_FOUND)

    def _is_foreign(self) -> bool:
        """Refuse a request that another site's page, or a name that leads here, may have made."""
        port = self.connection.getsockname()[1]
        own = [f"{name}:{port}" for name in (HOST, "localhost")]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in own and origin in (None, *(f"http://{name}" for name in own)):
            return False
        self.close_connection = True
        self._send("text/plain", b"only pages of this server may ask", HTTPStatus.FORBIDDEN)
        return True

    def _answer(self, media: str, answer: Callable[[], Any]) -> None:
        try:
            value = answer()
        except (EmuRobotError, ValueError) as error:
            self._send("application/json", json.dumps({"error": str(error)}).encode(), HTTPStatus.BAD_REQUEST)
            return
        self._send(media, value if isinstance(value, bytes) else json.dumps(value).encode())

    def _send(self, media: str, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        total, ranged = len(content), self.headers.get("Range", "")
        begin, end = 0, total
        if status is HTTPStatus.OK and ranged.startswith("bytes=") and "," not in ranged:
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            if first.isdigit() and int(first) < total:
                begin, end = int(first), min(int(last) + 1, total) if last.isdigit() else total
                status = HTTPStatus.PARTIAL_CONTENT
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{total}")
        self.end_headers()
        self.wfile.write(content[begin:end])

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not printed."""


def page_of(shown: DatasetView) -> str:
    """The page, which asks for all else."""
    folder = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("view.html.j2")
    return template.render(name=shown.files.root.name, notes=shown.quality.notes, headline=shown.quality.headline)
