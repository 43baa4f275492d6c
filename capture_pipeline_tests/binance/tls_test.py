"""Verification of peers: TLS servers on loopback with certificates that the tests create."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.errors import UntrustedPeerError

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


class Handler(BaseHTTPRequestHandler):
    """Handler that answers every GET."""

    def do_GET(self) -> None:
        """Answer with two bytes."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Write no log."""


def certificate(folder: Path, name: str, *, until: str) -> Path:
    """Create a self-signed certificate, valid until a time (YYYYMMDDHHMMSSZ), in one file with its key."""
    key, made, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    request = [
        str(OPENSSL),
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-subj",
        "/CN=test",
        "-out",
        str(folder / "csr"),
    ]
    subprocess.run(request, check=True, capture_output=True, timeout=60)
    (folder / "extensions").write_text(f"subjectAltName={kind}:{name}\nbasicConstraints=CA:TRUE\n")
    (folder / "ca").mkdir(exist_ok=True)
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01")
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index.txt\n"
        f"serial={folder}/serial\nnew_certs_dir={folder}/ca\n"
        f"default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
    )
    sign = [
        "ca",
        "-batch",
        "-selfsign",
        "-config",
        str(folder / "ca.cnf"),
        "-keyfile",
        str(key),
        "-in",
        str(folder / "csr"),
    ]
    dates = [
        "-startdate",
        "20200101000000Z",
        "-enddate",
        until,
        "-extfile",
        str(folder / "extensions"),
        "-out",
        str(made),
        "-notext",
    ]
    subprocess.run([str(OPENSSL), *sign, *dates], check=True, capture_output=True, timeout=60)
    both.write_text(key.read_text() + made.read_text())
    return both


@contextmanager
def serving(both: Path) -> Iterator[str]:
    """Run an HTTPS server with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


GOOD = "20990101000000Z"
CASES = [
    ("127.0.0.1", GOOD, True, None),
    ("127.0.0.1", GOOD, False, "self-signed certificate"),
    ("127.0.0.1", "20210101000000Z", True, "certificate has expired"),
    ("other.example", GOOD, True, "IP address mismatch"),
]


@pytest.mark.parametrize(
    ("name", "until", "trusted", "refused"), CASES, ids=["good", "self-signed", "expired", "wrong host"]
)
def test_only_a_valid_certificate_of_that_host_is_believed(
    name: str, until: str, trusted: bool, refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is permanent and contains the reason; nothing is read."""
    both = certificate(tmp_path, name, until=until)
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
    with serving(both) as url:
        http = Http(HttpSettings(attempts=1))
        if refused is None:
            assert http.get(url, max_bytes=10).body == b"ok"
            return
        with pytest.raises(UntrustedPeerError, match=refused):
            http.get(url, max_bytes=10)
