"""Channels: hostile text, logins, secrets, and a channel of another, installed package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.main import main
from capture_pipeline.errors import ConfigError
from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.channels import mask_secret, open_channel
from capture_pipeline.operations.alerts.delivery import deliver, send_test
from capture_pipeline.operations.alerts.models import Alert
from capture_pipeline.operations.alerts.spool import Spool
from capture_pipeline.settings.levels import Level
from capture_pipeline.settings.loader import load_settings
from capture_pipeline_tests.support.attack import ATTACK, MARK, check_printable
from capture_pipeline_tests.support.deployment import NO_SETTINGS
from capture_pipeline_tests.support.exchange.network import make_authority
from capture_pipeline_tests.support.receivers import PATH, HttpReceiver, MailReceiver, free_port, settings_for

HOSTILE = (
    "a\r\nBcc: evil@example.org\r\n\r\n<!channel> <!here> <@U1> @channel @everyone "
    f"<http://evil|click> `` ``` & {ATTACK}"
)
LOGIN = {"username": "ann", "security": "none"}


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        main, list(arguments), env={"CAPTURE_CONFIG": str(NO_SETTINGS), **environment}, catch_exceptions=False
    )


def test_hostile_text_mentions_nobody_and_adds_no_header(
    web: HttpReceiver, mail: MailReceiver, lake: Lake
) -> None:
    """Titles, texts, keys and fields are covered."""
    settings = settings_for(web, mail)
    spool = Spool(lake, settings)
    spool.post([Alert(key=HOSTILE, level=Level.INFO, title=HOSTILE, text=HOSTILE, fields={HOSTILE: HOSTILE})])
    deliver(spool, settings)
    (text,), (message,) = web.texts, mail.messages
    check_printable(text)
    assert text.count(MARK) == 4
    assert not re.search(r"[<>]|@[A-Za-z]|&(?!amp;|lt;|gt;)", text)
    assert (text.count("`"), text.count("\n```\n"), text.endswith("\n```")) == (6, 1, True)
    check_printable(message.get_content().replace("\r\n", "\n"))
    assert MARK in message.get_content()
    assert message["Bcc"] is None
    assert message["Subject"].startswith("INFO: a\\r\\nBcc: evil@example.org")
    assert mail.envelopes[0].rcpt_tos == ["b@example.org"]
    assert set(message.keys()) >= {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted"}


def test_hostile_text_on_standard_error_is_one_line(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_for().model_validate({"channels": [{"name": "log", "kind": "log"}]})
    spool = Spool(lake, settings)
    spool.post([Alert(key="a", level=Level.CRITICAL, title=HOSTILE, text="x\ny")])
    deliver(spool, settings)
    (line,) = capsys.readouterr().err.splitlines()
    check_printable(line)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  Alert: CRITICAL: a\\r\\n", line)


def test_a_hostile_answer_of_a_mail_server_is_escaped(mail: MailReceiver) -> None:
    mail.refusal = f"554 no {ATTACK}".replace("\r\n", " ")
    (outcome,) = send_test(settings_for(mail=mail))
    check_printable(outcome.error)
    assert MARK in outcome.error
    assert "refuses the message: 554" in outcome.error


@pytest.mark.parametrize(("password", "accepted"), [("right", True), ("pa,ss: 'wrong'", False)])
def test_a_login_is_used_and_a_wrong_password_is_in_no_error(
    password: str, accepted: bool, mail: MailReceiver
) -> None:
    settings = settings_for(mail=mail)
    channel = settings.channels[0].model_copy(update=LOGIN)
    settings = settings.model_validate(
        {"channels": [channel.model_dump()], "secrets": {"mail": password}, "timeout_s": 30}
    )
    (outcome,) = send_test(settings)
    assert mail.logins[0] == (b"ann", password.encode())
    assert (outcome.error == "") is accepted
    assert accepted or "535" in outcome.error
    assert password not in outcome.error


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_without_tls_gets_no_mail(security: str, mail: MailReceiver) -> None:
    """No mail is sent without TLS if the settings require TLS."""
    (outcome,) = send_test(settings_for(mail=mail, timeout_s=5, mail_keys={"security": security}))
    assert outcome.error
    assert mail.messages == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("trusted", [True, False])
def test_mail_goes_by_tls_to_a_server_whose_certificate_is_trusted(
    security: str,
    trusted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trusted certificates are those of all other connections; another server gets no mail."""
    authority = make_authority(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    with MailReceiver(certificate=authority.context(), security=security).running() as mail:
        settings = settings_for(
            mail=mail,
            mail_keys={"security": security, "username": "ann"},
            secrets={"mail": "right"},
            timeout_s=30,
        )
        (outcome,) = send_test(settings)
    assert (outcome.error == "", len(mail.messages), len(mail.logins)) == (
        trusted,
        int(trusted),
        int(trusted),
    ), outcome.error
    assert trusted or "certificate verify failed" in outcome.error


SECRET = "T0SECRET/B0SECRET"  # noqa: S105 - of these tests


@pytest.mark.parametrize("state", ["down", "refuses", "bad address", "accepts"])
def test_the_address_of_a_webhook_is_shown_nowhere(
    state: str, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    """The address is set in the environment; it is in no output, log, file or error."""
    web = HttpReceiver(status=404 if state == "refuses" else 200, port=free_port())
    address = f"https://exa mple/{SECRET}" if state == "bad address" else web.address
    environment = {
        "CAPTURE_STORAGE_ROOT": str(lake.root),
        "CAPTURE_ALERTS_CHANNELS": "[{name: ops, kind: webhook}]",
        "CAPTURE_ALERTS_SECRETS": f"{{ops: '{address}'}}",
    }
    settings = load_settings(NO_SETTINGS, environment).alerts
    spool = Spool(lake, settings)
    spool.post([Alert(key="a", level=Level.INFO, title="a")])
    if state == "down":
        deliver(spool, settings)
        tested = run("alerts", "test", **environment)
    else:
        with web.running():
            deliver(spool, settings)
            tested = run("alerts", "test", **environment)
    shown = [tested, run("alerts", "status", **environment), run("alerts", "status", "--json", **environment)]
    shown.append(run("config", "show", **environment))
    assert [result.exit_code for result in shown] == [int(state != "accepts"), 0, 0, 0]
    texts = [result.output for result in shown] + [caplog.text, repr(settings), str(settings)]
    texts += [path.read_text() for path in lake.root.rglob("*") if path.is_file()]
    assert not [text for text in texts if "SECRET" in text]
    assert "**********" in shown[-1].output
    assert bool(web.texts) is (state == "accepts")


@pytest.mark.parametrize("text", [SECRET, f"https://h/{SECRET}?a=b", "pa\x1bss"])
def test_a_secret_is_hidden_in_every_form(text: str) -> None:
    quoted = f"Max retries exceeded with url: {text} and {text!r} and {text.partition('://h')[2] or text}"
    hidden = mask_secret(quoted, text)
    assert "SECRET" not in hidden
    assert "pa" not in hidden


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "alerts: {channels: [{name: ops, kind: webhook, url: 'https://h/SECRET'}]}",
            "url: unknown key; allowed: kind, level, name",
        ),
        ("alerts: {channels: ['https://h/SECRET']}", "alerts.channels.0: Input should be"),
        (
            "alerts: {channels: [{name: ops, kind: webhook}], secrets: {ops: [SECRET]}}",
            "alerts.secrets.ops: Input should be a valid string",
        ),
        (
            "alerts: {channels: [{name: ops, kind: webhook}], secrets: SECRET}",
            "alerts.secrets: Input should be",
        ),
        ("alerts: SECRET", "alerts: Input should be"),
        (
            "alerts: {channels: [{name: ops, kind: webhook}], secrets: {opps: SECRET}}",
            "secrets: opps: no channel has this name",
        ),
        (
            "alerts: {channels: [{name: ops, kind: webhook}, {name: ops, kind: log}]}",
            "channels: two channels have the same name",
        ),
        ("alerts: {channels: [{name: ops, kind: slack}]}", "'log', 'webhook', 'smtp', 'plugin'"),
        (
            "alerts: {channels: [{name: ops, kind: webhook, level: loud}]}",
            "level: Input should be 'info', 'warning' or 'critical', not 'loud'",
        ),
        (
            "sessions: [{regimee: a, weekday: tue, regime: b}]",
            "sessions.0.regimee: unknown key; did you mean regime?",
        ),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_without_a_secret(
    yaml: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml + "\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})
    assert message in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_login_without_tls_is_refused_but_on_this_machine(mail: MailReceiver) -> None:
    fields = settings_for(mail=mail).channels[0].model_dump() | LOGIN
    assert settings_for(mail=mail).model_validate({"channels": [fields]}).channels[0].name == "mail"
    with pytest.raises(ValueError, match="a login needs starttls or tls"):
        settings_for(mail=mail).model_validate({"channels": [fields | {"host": "mail.example.org"}]})


@pytest.mark.parametrize(
    "address", ["http://example.org/x", "ftp://127.0.0.1/x", "https:///x", "nothing", "https://[x/"]
)
def test_a_webhook_is_https_or_on_this_machine(address: str) -> None:
    settings = settings_for(HttpReceiver(port=1)).model_validate(
        {"channels": [{"name": "ops", "kind": "webhook"}], "secrets": {"ops": address}}
    )
    with pytest.raises(ConfigError, match="not the address of a webhook"):
        open_channel(settings, settings.channels[0])


def test_a_missing_secret_keeps_no_command_from_running_and_is_told_by_the_test(
    lake: Lake, mail: MailReceiver
) -> None:
    """Only the process that sends needs the secret."""
    channels = [
        {"name": "ops", "kind": "webhook"},
        {
            "name": "login",
            **settings_for(mail=mail).channels[0].model_dump(mode="json", exclude={"name"}),
            **LOGIN,
        },
        {"name": "log", "kind": "log"},
    ]
    environment = {"CAPTURE_STORAGE_ROOT": str(lake.root), "CAPTURE_ALERTS_CHANNELS": json.dumps(channels)}
    assert run("config", "show", **environment).exit_code == 0
    result = run("alerts", "test", **environment)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(
        "FAIL  ops: alerts.channels: ops: has no secret (set alerts.secrets.ops, or CAPTURE_ALERTS_SECRETS="
    )
    assert lines[1].startswith("FAIL  login: alerts.channels: login: has no secret")
    assert lines[2] == "PASS  log: the test alert was accepted"


def test_the_test_command_sends_to_the_chosen_channels_and_shows_which_failed(
    web: HttpReceiver, mail: MailReceiver, lake: Lake
) -> None:
    channels = [channel.model_dump(mode="json") for channel in settings_for(web, mail).channels]
    environment = {
        "CAPTURE_STORAGE_ROOT": str(lake.root),
        "CAPTURE_ALERTS_CHANNELS": json.dumps(channels),
        "CAPTURE_ALERTS_SECRETS": json.dumps({"ops": web.address}),
    }
    result = run("alerts", "test", **environment)
    assert (result.exit_code, result.stdout) == (
        0,
        "PASS  ops: the test alert was accepted\nPASS  mail: the test alert was accepted\n",
    )
    assert (web.titles(), mail.subjects()) == (["INFO: Test of this channel"], ["INFO: Test of this channel"])
    web.status = 500
    result = run("alerts", "test", **environment)
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL  ops: alerts.channels: ops: fails with 500\nPASS  mail")
    assert run("alerts", "test", "--channel", "mail", **environment).exit_code == 0
    assert (len(web.texts), len(mail.messages)) == (1, 3)
    unknown = run("alerts", "test", "--channel", "opps", **environment)
    assert (
        unknown.exit_code,
        "'opps' is not a channel (configured channels: ops, mail)" in unknown.stderr,
    ) == (
        2,
        True,
    )
    none = run("alerts", "test")
    assert (none.exit_code, "there is no channel" in none.stderr) == (2, True)


def test_the_status_shows_open_alerts_and_what_waits(lake: Lake) -> None:
    environment = {
        "CAPTURE_STORAGE_ROOT": str(lake.root),
        "CAPTURE_ALERTS_CHANNELS": "[{name: ops, kind: webhook, level: warning}]",
        "CAPTURE_ALERTS_SECRETS": f"{{ops: 'http://127.0.0.1:{free_port()}{PATH}'}}",
    }
    assert "No alert is open." in run("alerts", "status", **environment).stdout
    settings = load_settings(NO_SETTINGS, environment).alerts
    spool = Spool(lake, settings)
    spool.post(
        [
            Alert(key="check:a", level=Level.INFO, title="low"),
            Alert(key="check:b", level=Level.CRITICAL, title=HOSTILE),
        ]
    )
    deliver(spool, settings)
    document = json.loads(run("alerts", "status", "--json", **environment).stdout)
    assert [(one["level"], one["key"]) for one in document["open"]] == [
        ("critical", "check:b"),
        ("info", "check:a"),
    ]
    assert [
        (one["channel"], one["waiting"], "cannot be reached" in one["error"]) for one in document["channels"]
    ] == [("ops", 1, True)]
    shown = run("alerts", "status", **environment).stdout
    check_printable(shown)
    assert "2 open alerts" in shown


PLUGIN = """
from pathlib import Path

class Pager:
    def __init__(self, name, options, secret, timeout_s):
        if "folder" not in options:
            raise ValueError(f"no folder for {secret}")
        self.file = Path(options["folder"]) / f"{name}.txt"

    def send(self, alert):
        if alert.title == "bad":
            raise RuntimeError("the pager broke")
        with self.file.open("a") as file:
            file.write(f"{alert.level} {alert.state} {alert.title}\\n")

def nothing(**_):
    return None
"""
PROJECT = """
[build-system]
requires = ["setuptools>=80"]
build-backend = "setuptools.build_meta"
[project]
name = "pager-for-tests"
version = "1.0"
[tool.setuptools]
py-modules = ["pager_for_tests"]
[project.entry-points."capture_pipeline.alert_channels"]
pager = "pager_for_tests:Pager"
empty = "pager_for_tests:nothing"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a package with the entry points into a folder by pip."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pager_for_tests.py").write_text(PLUGIN)
    (source / "pyproject.toml").write_text(PROJECT)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, timeout=120)
    return target


@pytest.mark.slow
def test_a_channel_of_another_package_gets_alerts(installed: Path, tmp_path: Path) -> None:
    """A failing entry point is reported in one line without the secret; other channels still send."""
    channels = [
        {"name": "one", "kind": "plugin", "entry_point": "pager", "options": {"folder": str(tmp_path)}},
        {"name": "two", "kind": "plugin", "entry_point": "pager"},
        {"name": "three", "kind": "plugin", "entry_point": "pagger"},
        {"name": "four", "kind": "plugin", "entry_point": "empty"},
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "CAPTURE_CONFIG": str(NO_SETTINGS),
        "CAPTURE_STORAGE_ROOT": str(tmp_path / "data"),
        "CAPTURE_ALERTS_CHANNELS": json.dumps(channels),
        "CAPTURE_ALERTS_SECRETS": '{two: "hidden-word"}',
    }
    command = [str(Path(sys.executable).with_name("capture")), "alerts", "test"]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 1, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "PASS  one: the test alert was accepted"
    assert "the entry point 'pager' failed: ValueError: no folder for ***" in lines[1]
    assert "there is no entry point 'pagger' in the group capture_pipeline.alert_channels" in lines[2]
    assert "installed are empty, pager" in lines[2]
    assert "the entry point 'empty' returned no channel" in lines[3]
    assert (tmp_path / "one.txt").read_text() == "info open Test of this channel\n"


def test_without_such_a_package_the_error_says_so() -> None:
    settings = settings_for().model_validate(
        {"channels": [{"name": "one", "kind": "plugin", "entry_point": "pager"}]}
    )
    (outcome,) = send_test(settings)
    assert "none is installed" in outcome.error
