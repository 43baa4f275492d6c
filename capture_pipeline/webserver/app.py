"""Dagster's webserver behind a request guard, extended by the report pages.

Started by `python -m capture_pipeline.webserver`. It takes the options of `dagster-webserver`.

Dagster's webserver accepts GraphQL mutations by GET, as text/plain and from every origin: a web page in a
browser on the same machine could launch runs. The guard runs in the process of the webserver, so there is no
unguarded port.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from dagster_webserver import cli
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.paths import Lake
from capture_pipeline.reporting.pages import REPORTS
from capture_pipeline.request_guard import LOOPBACK_NAMES, RequestGuard
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line
from capture_pipeline.webserver import check_states

HOSTS_VARIABLE = "CAPTURE_UI_HOSTS"
_BUILD = "create_app_from_workspace_process_context"
"""Function of Dagster's command line that creates the application."""
_JSON = "application/json"
_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Reports(StaticFiles):
    """Read-only files of a folder. Pages among them cannot run scripts or load other files."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with the restricting headers."""
        answer = await super().get_response(path, scope)
        answer.headers.update(
            {
                "content-security-policy": _POLICY,
                "x-content-type-options": "nosniff",
                "cache-control": "no-cache",
            }
        )
        return answer


def accepted_hosts(variable: str) -> frozenset[str]:
    """Return the host names that the webserver accepts.

    Args:
        variable: Value of `CAPTURE_UI_HOSTS`: further names, for instance of a proxy, separated by commas.
    """
    return LOOPBACK_NAMES | {name.strip().lower() for name in variable.split(",") if name.strip()}


def check_request(scope: Scope, headers: Headers) -> str:
    """Return the reason to refuse a request that the pages of the UI never send, or an empty text.

    The pages send GraphQL as JSON by POST or over a WebSocket, and no other requests that write.
    """
    if scope["type"] == "websocket":
        return ""
    is_graphql = scope["path"].rstrip("/").endswith("/graphql")
    if scope["method"] in {"GET", "HEAD"}:
        return "GraphQL is accepted as JSON by POST or over a WebSocket" if is_graphql else ""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not is_graphql or scope["method"] != "POST" or content_type != _JSON:
        return "only GraphQL as JSON is accepted by POST"
    return ""


def main() -> None:
    """Run `dagster-webserver` with the guard."""
    build = getattr(cli, _BUILD)
    hosts = accepted_hosts(os.environ.get(HOSTS_VARIABLE, ""))
    try:
        reports = Mount(
            REPORTS, Reports(directory=Lake(load_settings().storage.root).reports(), check_dir=False)
        )
    except CaptureError as error:
        write_line(f"Error: {error}", err=True)
        sys.exit(2)

    def build_guarded(*args: Any, **options: Any) -> Starlette:  # noqa: ANN401 - passed on as they are
        app: Starlette = build(*args, **options)
        app.router.routes.insert(0, reports)  # before the route of the UI, which answers every path
        app.add_middleware(RequestGuard, hosts=hosts, check=check_request)
        return app

    # If a release of Dagster renames the function, `getattr` above fails and no unguarded webserver starts.
    setattr(cli, _BUILD, build_guarded)
    check_states.install()
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")
