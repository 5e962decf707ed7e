"""A mail server that takes alerts, as apprise's `mailto://` URLs send them, and keeps what it took.

It speaks as much SMTP as a client needs to hand over a message, with a login. Added here: another way to answer.
Not here: tests.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread


@dataclass(frozen=True)
class Mail:
    """One message: the envelope, who logged in as `user:password`, the subject, and every part of the body as text."""

    sender: str
    recipients: tuple[str, ...]
    login: str
    subject: str
    body: str
    raw: str


@dataclass
class MailReceiver:
    """The mails taken so far, the port, and whether mail is taken at all."""

    port: int
    taken: list[Mail] = field(default_factory=list)
    is_full: bool = False


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    receiver: MailReceiver


class _Session(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.sender, self.recipients, self.login = "", [], ""
        self.say("220 receiver ready")
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            answer = getattr(self, f"do_{verb.lower()}", None)
            self.say(answer(rest) if answer else "502 not implemented")
            if verb.upper() == "QUIT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def do_ehlo(self, _: str) -> str:
        return "250-receiver\r\n250-AUTH PLAIN\r\n250 8BITMIME"

    def do_auth(self, rest: str) -> str:
        method, _, coded = rest.partition(" ")
        if method != "PLAIN":
            return "504 PLAIN only"
        self.login = base64.b64decode(coded).decode().strip("\0").replace("\0", ":")
        return "235 welcome"

    def do_mail(self, rest: str) -> str:
        self.sender, self.recipients = _address(rest), []
        return "452 mailbox is full" if self.server.receiver.is_full else "250 ok"

    def do_rcpt(self, rest: str) -> str:
        self.recipients.append(_address(rest))
        return "250 ok"

    def do_data(self, _: str) -> str:
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()).rstrip(b"\r\n") != b".":
            lines.append(line.removeprefix(b"."))
        self.server.receiver.taken.append(self.mail(b"".join(lines)))
        return "250 taken"

    def do_rset(self, _: str) -> str:
        return "250 ok"

    def do_quit(self, _: str) -> str:
        return "221 bye"

    def mail(self, content: bytes) -> Mail:
        message = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
        parts = [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
        subject = str(message["Subject"])
        return Mail(self.sender, tuple(self.recipients), self.login, subject, "\n".join(parts), content.decode())


def _address(argument: str) -> str:
    return argument[argument.index("<") + 1 : argument.index(">")]


@contextmanager
def receiving_mail() -> Iterator[MailReceiver]:
    """A mail server on a free port of this host, for as long as the block."""
    with _Server(("127.0.0.1", 0), _Session) as server:
        server.receiver = MailReceiver(server.server_address[1])
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.receiver
        finally:
            server.shutdown()
            thread.join()
