"""Receivers of alerts on loopback, an HTTP server and aiosmtpd.

Their ports stay the same after a stop.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.spool import Spool
from capture_pipeline.settings.alerts import Alerts

PATH = "/services/T0SECRET/B0SECRET"
"""A webhook's path is its secret."""


@dataclass
class HttpReceiver:
    """An HTTP server that stores the received alerts.

    Attributes:
        port: Port of the server; 0 before the first start.
        texts: Texts of accepted alerts, in order.
        bodies: Bodies of all requests, in order.
        status: Status of the answers.
        headers: Headers of the answers.
        delay: The server answers after this event is set; None answers at once.
    """

    port: int = 0
    texts: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: threading.Event | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    def titles(self) -> list[str]:
        return [text.partition("\n")[0] for text in self.texts]

    @contextmanager
    def running(self) -> Iterator[HttpReceiver]:
        """Run the server, on the same port as the last time."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == PATH
                assert self.headers["Content-Type"] == "application/json"
                receiver.bodies.append(body)
                if receiver.delay is not None:
                    receiver.delay.wait(60)
                if 200 <= receiver.status < 300:
                    receiver.texts.append(body["text"])
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass
class MailReceiver:
    """An SMTP server that stores the received mails.

    Attributes:
        port: Port of the server; 0 before the first start.
        messages: Accepted mails, in order.
        logins: User names and passwords of all logins.
    """

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    refusal: str = ""
    certificate: ssl.SSLContext | None = None
    security: str = "none"

    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for message in self.messages]

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802 - the library's name
        """Accept a mail, or answer with the refusal."""
        if self.refusal:
            return self.refusal
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        self.envelopes.append(envelope)
        self.messages.append(message)
        return "250 accepted"

    def authenticate(self, _: SMTP, __: Session, ___: Envelope, ____: str, data: Any) -> AuthResult:
        """Accept the password `right` only."""
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)

    @contextmanager
    def running(self) -> Iterator[MailReceiver]:
        """Run the server, on the same port as the last time."""
        options: dict[str, Any] = {"authenticator": self.authenticate, "auth_require_tls": False}
        if self.security == "starttls":
            options |= {"tls_context": self.certificate, "require_starttls": True}
        elif self.security == "tls":
            options["ssl_context"] = self.certificate
        controller = Controller(self, hostname="127.0.0.1", port=self.port or free_port(), **options)
        controller.start()
        self.port = controller.port
        try:
            yield self
        finally:
            controller.stop()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def settings_for(web: HttpReceiver | None = None, mail: MailReceiver | None = None, **more: Any) -> Alerts:
    """Return settings with the channels `ops` and `mail` for the receivers."""
    channels: list[dict[str, Any]] = []
    if web is not None:
        channels.append({"name": "ops", "kind": "webhook", "level": more.pop("web_level", "info")})
    if mail is not None:
        address = {
            "host": "127.0.0.1",
            "port": mail.port,
            "security": "none",
            "sender": "a@example.org",
            "recipients": ["b@example.org"],
        }
        channels.append(
            {
                "name": "mail",
                "kind": "smtp",
                "level": more.pop("mail_level", "info"),
                **address,
                **more.pop("mail_keys", {}),
            }
        )
    secrets = {"ops": web.address} if web is not None else {}
    return Alerts.model_validate(
        {"channels": channels, "secrets": {**secrets, **more.pop("secrets", {})}, **more}
    )


def spool_of(lake: Lake, settings: Alerts) -> Spool:
    return Spool(lake, settings)
