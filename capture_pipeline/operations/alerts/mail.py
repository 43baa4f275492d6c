"""Alerts by mail through an SMTP server, with the certificates and the deadline of the HTTP client."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from capture_pipeline.binance.http.deadline import Deadline, release, watch
from capture_pipeline.binance.http.network import trusted_certificates
from capture_pipeline.binance.periods import from_us
from capture_pipeline.errors import (
    CaptureError,
    NetworkError,
    RequestRefusedError,
    ServerError,
    UntrustedPeerError,
)
from capture_pipeline.operations.alerts.models import Alert
from capture_pipeline.settings.alerts import SmtpChannel

_FIRST_PERMANENT = 500


class MailSender:
    """Channel that sends each alert as a separate message over a new connection."""

    def __init__(self, settings: SmtpChannel, password: str | None, timeout_s: float) -> None:
        """Set the server; no connection is opened.

        Args:
            settings: Server, sender and recipients.
            password: Password of the login; None if the server needs no login.
            timeout_s: Longest time for one alert, from the connection to the acceptance by the server.
        """
        self._settings, self._password, self._timeout_s = settings, password, timeout_s
        self._where = f"alerts.channels: {settings.name}"

    def send(self, alert: Alert) -> None:
        """Send an alert.

        Raises:
            CaptureError: The server did not accept the alert for every recipient.
        """
        deadline = Deadline(self._timeout_s)
        try:
            with deadline.enforce():
                self._deliver(build_mail(alert, self._settings))
        except smtplib.SMTPResponseException as error:
            raise self._build_error(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise self._build_error(*next(iter(error.recipients.values()))) from None
        except smtplib.SMTPNotSupportedError as error:
            remedy = "check security and username of the channel"
            raise RequestRefusedError(
                f"{self._server} does not support a command: {error}",
                status=0,
                where=self._where,
                remedy=remedy,
            ) from None
        except ssl.SSLError as error:
            raise UntrustedPeerError(
                f"TLS with {self._server} failed: {error}",
                where=self._where,
                remedy="check the settings security and host of the channel",
            ) from None
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            late = (
                f"did not answer within {self._timeout_s:g} s"
                if deadline.is_over
                else f"cannot be reached or closed the connection: {error}"
            )
            raise NetworkError(f"{self._server} {late}", where=self._where) from None

    @property
    def _server(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _deliver(self, message: EmailMessage) -> None:
        kind = self._settings.security
        tls = trusted_certificates() if kind != "none" else None
        with (
            _WatchedTlsSmtp(timeout=self._timeout_s, context=tls)
            if kind == "tls"
            else _WatchedSmtp(timeout=self._timeout_s) as server
        ):
            server.connect(self._settings.host, self._settings.port)
            if kind == "starttls":
                server.starttls(context=tls)
            if self._settings.username is not None:
                server.login(self._settings.username, self._password or "")
            refused = server.send_message(message)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def _build_error(self, code: int, answer: bytes | str) -> CaptureError:
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
        what = f"{self._server} refuses the message: {code} {text}"
        if code >= _FIRST_PERMANENT:
            return RequestRefusedError(
                what, status=code, where=self._where, remedy="check login, sender and recipients"
            )
        return ServerError(what, where=self._where)


def build_mail(alert: Alert, settings: SmtpChannel) -> EmailMessage:
    """Build the mail of an alert; a repetition has the same Message-ID."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = alert.heading
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    message["Date"] = format_datetime(from_us(alert.at_us))
    message["Message-ID"] = f"<{alert.id}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(alert.body + "\n")
    return message


class _WatchedSmtp(smtplib.SMTP):
    """SMTP connection that the deadline of this thread can shut down."""

    _watched: socket.socket | None = None

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        # The host name for the check of the certificate. The library sets it in the constructor only.
        self._host = host
        connection: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
        # TLS detaches the file descriptor from this socket. The duplicate remains valid.
        self._watched = connection.dup()
        watch(self._watched)
        return connection

    def close(self) -> None:
        super().close()
        if self._watched is not None:
            release(self._watched)
            self._watched = None


class _WatchedTlsSmtp(smtplib.SMTP_SSL, _WatchedSmtp):
    """SMTP connection with TLS from the start that the deadline can shut down."""
