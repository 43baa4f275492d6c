"""The webserver, directly and behind the shipped proxy, refuses requests of other sites."""

import base64
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
import urllib3
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from capture_pipeline_tests.support.dagster.ui import free_port
from capture_pipeline_tests.support.deployment import NO_SETTINGS, QUICK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HOST = "capture.example.org"
ORIGIN = f"https://{HOST}"
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"anna:correct horse").decode()}
QUERY = json.dumps({"query": "{version}"})
JSON = {"Content-Type": "application/json"}
WRAPPER = """
{user}
daemon off;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include capture.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """Addresses of the proxy and of the webserver behind it."""

    port: int
    upstream: int
    certificate: Path

    def request(
        self, method: str, path: str, headers: dict[str, str], body: str | None = None, host: str = HOST
    ) -> tuple[int, str]:
        """Send one request over TLS."""
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            self.port,
            server_hostname=HOST,
            assert_hostname=HOST,
            ca_certs=str(self.certificate),
            retries=False,
        ) as pool:
            answer = pool.request(
                method, path, body=body, headers={"Host": host, **headers}, redirect=False, timeout=20
            )
            return answer.status, answer.data.decode()


def until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("it does not listen")


@contextlib.contextmanager
def started(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[None]:
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log
        )
        try:
            until_open(port, process)
            yield
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Start nginx with the shipped file, with other addresses and paths, before Dagster's webserver."""
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if nginx is None:
        assert not os.environ.get("CI"), "CI needs nginx"
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("proxy")
    proxy = Proxy(free_port(), free_port(), folder / "capture.crt")
    name = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    key = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        "capture.key",
        "-out",
        "capture.crt",
        *name,
    ]
    subprocess.run(key, cwd=folder, check=True, capture_output=True)
    (folder / "capture.htpasswd").write_text("anna:{PLAIN}correct horse\n")
    shipped = (ROOT / "deploy" / "nginx.conf").read_text()
    replaced = {
        "listen 443 ": f"listen 127.0.0.1:{proxy.port} ",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
    }
    replaced |= {"127.0.0.1:3000": f"127.0.0.1:{proxy.upstream}", "/etc/nginx/": f"{folder}/"}
    for old, new in replaced.items():
        assert old in shipped
        shipped = shipped.replace(old, new)
    (folder / "capture.conf").write_text(shipped)
    (folder / "nginx.conf").write_text(WRAPPER.format(user="user root;" if os.geteuid() == 0 else ""))
    (folder / "home").mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", folder / "home")
    settings = {
        **QUICK,
        "CAPTURE_CONFIG": str(NO_SETTINGS),
        "DAGSTER_HOME": str(folder / "home"),
        "CAPTURE_UI_HOSTS": HOST,
    }
    web = [sys.executable, "-m", "capture_pipeline.webserver", "-h", "127.0.0.1", "-p", str(proxy.upstream)]
    with (
        started([*web, "-w", str(ROOT / "workspace.yaml")], proxy.upstream, folder, **settings),
        started([nginx, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"], proxy.port, folder),
    ):
        yield proxy


def test_only_who_logs_in_sees_anything(proxy: Proxy) -> None:
    """Pages, files and GraphQL need a login."""
    for path in ("/", "/server_info", "/logs/x"):
        assert proxy.request("GET", path, {})[0] == 401
    assert proxy.request("POST", "/graphql", JSON, QUERY)[0] == 401
    assert (
        proxy.request("GET", "/", {"Authorization": "Basic " + base64.b64encode(b"anna:wrong").decode()})[0]
        == 401
    )
    assert proxy.request("GET", "/", LOGIN)[0] == 200
    status, body = proxy.request("GET", "/server_info", LOGIN)
    assert status == 200
    assert json.loads(body)["dagster_version"]


def test_graphql_is_json_by_post_from_own_pages(proxy: Proxy) -> None:
    """Requests of the pages are accepted; requests that another site can cause in a browser are refused."""
    for origin in ({"Origin": ORIGIN}, {}):
        status, answer = proxy.request("POST", "/graphql", {**LOGIN, **JSON, **origin}, QUERY)
        assert (status, set(json.loads(answer)["data"])) == (200, {"version"})
    assert (
        proxy.request("POST", "/graphql", {**LOGIN, **JSON, "Origin": "https://evil.example"}, QUERY)[0]
        == 403
    )
    assert proxy.request("POST", "/graphql", {**LOGIN, **JSON, "Origin": "null"}, QUERY)[0] == 403
    assert proxy.request("POST", "/graphql", {**LOGIN, "Content-Type": "text/plain"}, QUERY)[0] == 405
    assert (
        proxy.request(
            "POST",
            "/graphql",
            {**LOGIN, "Content-Type": "application/x-www-form-urlencoded"},
            "query=%7Bversion%7D",
        )[0]
        == 405
    )
    assert proxy.request("GET", "/graphql?query=%7Bversion%7D", LOGIN)[0] == 405


RESUME = "mutation { setAutoMaterializePaused(paused: false) }"
PAUSED = json.dumps({"query": "{ instance { autoMaterializePaused } }"})


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Origin": "https://evil.example"}),
        ("POST", {"Content-Type": "text/plain", "Origin": "https://evil.example"}),
        ("POST", {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null"}),
        ("POST", {"Content-Type": "application/json", "Origin": "https://evil.example"}),
        ("POST", {"Content-Type": "application/json", "Host": "evil.example"}),
    ],
)
def test_a_page_of_another_site_changes_nothing_without_a_proxy(
    proxy: Proxy, method: str, headers: dict[str, str]
) -> None:
    """A page in a browser on this machine cannot send a mutation to the webserver on loopback."""
    url = f"http://127.0.0.1:{proxy.upstream}/graphql"
    if method == "GET":
        answer = requests.get(url, params={"query": RESUME}, headers=headers, timeout=20)
    else:
        body = (
            json.dumps({"query": RESUME})
            if "urlencoded" not in headers["Content-Type"]
            else urlencode({"query": RESUME})
        )
        answer = requests.post(url, data=body, headers=headers, timeout=20)
    assert answer.status_code == 403
    state = requests.post(
        url, data=PAUSED, headers={**JSON, "Origin": f"http://127.0.0.1:{proxy.upstream}"}, timeout=20
    )
    assert state.json()["data"]["instance"]["autoMaterializePaused"] is True
    assert requests.get(f"http://127.0.0.1:{proxy.upstream}/overview", timeout=20).status_code == 200


def test_nothing_else_can_be_posted(proxy: Proxy) -> None:
    """For instance reports of materializations are refused."""
    for path in (
        "/report_asset_materialization/bars",
        "/report_asset_check/bars",
        "/report_asset_observation/bars",
        "/",
        "/logs/x",
    ):
        assert proxy.request("POST", path, {**LOGIN, **JSON}, "{}")[0] == 403


def test_another_name_gets_no_answer(proxy: Proxy) -> None:
    """Another host name that resolves to this address is refused."""
    with pytest.raises(urllib3.exceptions.ProtocolError):
        proxy.request("GET", "/", LOGIN, host="evil.example")


@pytest.mark.parametrize(
    ("origin", "login", "status"),
    [(ORIGIN, LOGIN, 0), ("https://evil.example", LOGIN, 403), (ORIGIN, {}, 401)],
)
def test_web_sockets_pass_for_own_pages(
    origin: str, login: dict[str, str], status: int, proxy: Proxy
) -> None:
    """Run logs use WebSockets; a page of another site gets none, although the browser sends the password."""
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    expected = pytest.raises(InvalidStatus) if status else contextlib.nullcontext()
    link = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    own = [Subprotocol("graphql-ws")]
    with (
        link,
        expected as refused,
        connect(
            f"wss://{HOST}/graphql",
            sock=link,
            ssl=context,
            origin=Origin(origin),
            subprotocols=own,
            additional_headers=login,
            proxy=None,
        ) as channel,
    ):
        channel.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(channel.recv(timeout=20))["type"] == "connection_ack"
    if refused:
        assert refused.value.response.status_code == status
