"""Dagster's webserver behind a request guard: `python -m capture_pipeline.webserver` takes the options of `dagster-webserver`.

Dagster's own program answers GraphQL mutations sent by GET, as text/plain and from any origin, so that a web page in a browser on
the same machine could launch runs. The guard runs in the same process: no second port exists that is not guarded.
"""

from __future__ import annotations

import os
from typing import Any

from dagster_webserver import cli
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import Scope

from capture_pipeline.request_guard import LOOPBACK_NAMES, RequestGuard

HOSTS_VARIABLE = "CAPTURE_UI_HOSTS"
_BUILD = "create_app_from_workspace_process_context"
"""The name by which Dagster's command line builds its application."""
_JSON = "application/json"


def accepted_hosts(variable: str) -> frozenset[str]:
    """Host names that the webserver accepts.

    Args:
        variable: The value of `CAPTURE_UI_HOSTS`: further names, separated by commas, for instance of a proxy.
    """
    return LOOPBACK_NAMES | {name.strip().lower() for name in variable.split(",") if name.strip()}


def check_request(scope: Scope, headers: Headers) -> str:
    """Refuse what the UI's pages do not send: GraphQL other than JSON by POST or a WebSocket, and other writing requests."""
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

    def build_guarded(*args: Any, **options: Any) -> Starlette:  # noqa: ANN401 - passed on as they are
        app: Starlette = build(*args, **options)
        app.add_middleware(RequestGuard, hosts=hosts, check=check_request)
        return app

    # Where a release of Dagster builds its application by another name, `getattr` above fails: nothing is served without the guard.
    setattr(cli, _BUILD, build_guarded)
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
