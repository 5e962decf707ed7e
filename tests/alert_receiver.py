"""A web service that takes alerts, as apprise's `json://` URLs send them, and keeps what it took.

Added here: another way to answer. Not here: tests.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Receiver:
    """The alerts taken so far, as (title, message), the port, and the status to answer with."""

    port: int
    taken: list[tuple[str, str]] = field(default_factory=list)
    answer: int = 200

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}"


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of this host, for as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.taken.append((told["title"], told["message"]))
            self.send_response(receiver.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stays silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
