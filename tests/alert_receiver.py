"""A web service that takes alerts, as apprise's `json://` URLs and chat webhooks send them, and keeps what it took.

Added here: another way to answer. Not here: tests.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep


@dataclass
class Receiver:
    """The alerts taken so far, as (title, message), and the port.

    `answer` is the status to answer with after `seconds`; `refused` counts what was not taken, `bodies` holds each
    request as it came.
    """

    port: int
    taken: list[tuple[str, str]] = field(default_factory=list)
    answer: int = 200
    seconds: float = 0.0
    refused: int = 0
    bodies: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}"

    @property
    def chat_url(self) -> str:
        """Of a chat's incoming webhook, with the token that such URLs hold."""
        return f"mmost://127.0.0.1:{self.port}/yobjmukpaw3r3urc5h6i369yima"

    def take(self, body: str) -> None:
        """Webhooks name a title and a message, chats hold both in one text."""
        self.bodies.append(body)
        if self.answer != 200:
            self.refused += 1
            return
        told = json.loads(body)
        title, _, text = told.get("text", "").replace("\r\n", "\n").partition("\n")
        self.taken.append((told.get("title", title), told.get("message", text)))


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver on this port, or a free one, of this host, for as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            sleep(receiver.seconds)
            receiver.take(body)
            self.send_response(receiver.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stays silent."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
