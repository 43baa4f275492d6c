"""Delivery of alerts to real receivers: levels, ends, limits, order, and absent receivers."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from capture_pipeline.binance.periods import HOUR_US
from capture_pipeline.errors import StorageError
from capture_pipeline.lake.paths import Lake
from capture_pipeline.operations.alerts.delivery import deliver
from capture_pipeline.operations.alerts.models import Alert, State
from capture_pipeline.operations.alerts.spool import MAX_WAIT_US, MAX_WAITING, Spool
from capture_pipeline.settings.levels import Level
from capture_pipeline_tests.support.receivers import HttpReceiver, MailReceiver, free_port, settings_for
from capture_pipeline_tests.support.waits import wait_for

NOW_US = 1_740_000_000_000_000
MINUTE_US = 60_000_000


def alert(
    name: str, level: Level = Level.WARNING, state: State = State.OPEN, at_us: int = NOW_US, text: str = ""
) -> Alert:
    return Alert(key=f"check:{name}", level=level, state=state, title=name, text=text, at_us=at_us)


def resolved(name: str) -> Alert:
    return alert(name, state=State.RESOLVED)


def test_an_alert_and_its_end_arrive_once_at_both_receivers(
    web: HttpReceiver, mail: MailReceiver, lake: Lake
) -> None:
    """A repeated alert, and the end of a condition that is not open, send no message."""
    settings = settings_for(web, mail)
    spool = Spool(lake, settings)
    for change in (
        [alert("gaps")],
        [alert("gaps"), alert("gaps")],
        [resolved("other")],
        [resolved("gaps")],
        [resolved("gaps")],
    ):
        spool.post(change)
        deliver(spool, settings, lambda: NOW_US)
    assert web.titles() == ["WARNING: gaps", "RESOLVED: gaps"]
    assert mail.subjects() == ["WARNING: gaps", "RESOLVED: gaps"]
    assert [set(body) for body in web.bodies] == [{"text"}] * 2
    assert mail.envelopes[0].rcpt_tos == ["b@example.org"]
    assert spool.read().open == {}


def test_a_condition_that_gets_worse_is_sent_again_and_one_that_gets_better_is_not(
    web: HttpReceiver, lake: Lake
) -> None:
    """The end has the highest level that was sent."""
    settings = settings_for(web)
    spool = Spool(lake, settings)
    for level in (Level.INFO, Level.CRITICAL, Level.WARNING, Level.CRITICAL):
        spool.post([alert("coverage", level)])
    assert spool.read().open["check:coverage"].times == 4
    (end,) = spool.post([resolved("coverage")])
    deliver(spool, settings, lambda: NOW_US)
    assert web.titles() == ["INFO: coverage", "CRITICAL: coverage", "RESOLVED: coverage"]
    assert end.level is Level.CRITICAL


def test_a_channel_gets_its_least_level_and_more_and_the_ends_of_these(
    web: HttpReceiver, mail: MailReceiver, lake: Lake
) -> None:
    settings = settings_for(web, mail, web_level="warning", mail_level="critical")
    spool = Spool(lake, settings)
    spool.post([alert("a", Level.INFO), alert("b", Level.WARNING), alert("c", Level.CRITICAL)])
    spool.post([resolved("a"), resolved("b"), resolved("c")])
    deliver(spool, settings, lambda: NOW_US)
    assert web.titles() == ["WARNING: b", "CRITICAL: c", "RESOLVED: b", "RESOLVED: c"]
    assert mail.subjects() == ["CRITICAL: c", "RESOLVED: c"]


def test_many_alerts_are_few_messages_an_hour(web: HttpReceiver, lake: Lake) -> None:
    """The last message of the hour combines the rest; later alerts wait for the next hour."""
    settings = settings_for(web, messages_per_hour=4)
    spool = Spool(lake, settings)
    spool.post([alert(f"n{number}") for number in range(40)] + [alert("worst", Level.CRITICAL)])
    deliver(spool, settings, lambda: NOW_US)
    assert web.titles() == ["WARNING: n0", "WARNING: n1", "WARNING: n2", "CRITICAL: 38 alerts"]
    assert "WARNING: n3\n" in web.texts[3]
    assert "and 9 more" in web.texts[3]
    spool.post([alert("later")])
    deliver(spool, settings, lambda: NOW_US + HOUR_US - 1)
    assert len(web.texts) == 4
    deliver(spool, settings, lambda: NOW_US + HOUR_US)
    assert web.titles()[4:] == ["WARNING: later"]


def test_alerts_wait_for_an_absent_receiver_and_arrive_in_order(mail: MailReceiver, lake: Lake) -> None:
    """The other channel gets its message at once; the waits between attempts grow."""
    web = HttpReceiver(port=free_port())
    settings = settings_for(web, mail)
    spool = Spool(lake, settings)
    now_us, tries = NOW_US, []
    for number in range(40):
        if number < 3:
            spool.post([alert(f"n{number}")])
        outcomes = deliver(spool, settings, lambda: now_us)  # noqa: B023
        tries += [now_us] if any(outcome.error for outcome in outcomes) else []
        now_us += MINUTE_US // 2
    assert mail.subjects() == ["WARNING: n0", "WARNING: n1", "WARNING: n2"]
    waits = [(later - earlier) // (MINUTE_US // 2) for earlier, later in itertools.pairwise(tries)]
    assert waits == [1, 2, 4, 8, 16]
    queue = spool.read().queues["ops"]
    assert (len(queue.waiting), queue.failures, "cannot be reached" in queue.error) == (3, 6, True)
    with web.running():
        deliver(Spool(lake, settings), settings, lambda: now_us + HOUR_US)
    assert web.titles() == ["WARNING: n0", "WARNING: n1", "WARNING: n2"]
    queue = spool.read().queues["ops"]
    assert (queue.waiting, queue.failures, queue.error, queue.next_us) == ([], 0, "", 0)


def test_a_receiver_that_never_answers_delays_no_other_and_its_caller_for_a_bounded_time(
    mail: MailReceiver, lake: Lake
) -> None:
    """The receiver keeps the connection open; the message waits for the next attempt."""
    with HttpReceiver(delay=threading.Event()).running() as web:
        settings = settings_for(web, mail, timeout_s=1.5)
        spool = Spool(lake, settings)
        spool.post([alert("gaps")])
        outcomes: list[object] = []
        thread = threading.Thread(target=lambda: outcomes.extend(deliver(spool, settings, lambda: NOW_US)))
        thread.start()
        wait_for(lambda: mail.subjects() == ["WARNING: gaps"])
        assert web.delay is not None
        thread.join(30)
        assert not thread.is_alive()
        assert "sent too little within 1.5 s" in spool.read().queues["ops"].error
        web.delay.set()
    assert len(spool.read().queues["ops"].waiting) == 1


def test_a_mail_server_that_never_answers_is_given_up_in_time(lake: Lake) -> None:
    """The server accepts the connection and sends nothing, or one byte at a time."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not over.wait(0.2):
                    try:
                        connection.sendall(b"2")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        settings = settings_for(mail=MailReceiver(port=listener.getsockname()[1]), timeout_s=2)
        spool = Spool(lake, settings)
        spool.post([alert("gaps")])
        (outcome,) = deliver(spool, settings, lambda: NOW_US)
        over.set()
    assert "did not answer within 2 s" in outcome.error


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (404, {}, "answers with 404"),
        (403, {}, "refuses the message (403)"),
        (500, {}, "fails with 500"),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, "redirects to another address"),
        (429, {"Retry-After": "1800"}, "requires a wait of 1800 s"),
    ],
)
def test_a_refused_message_waits(
    status: int, headers: dict[str, str], message: str, web: HttpReceiver, lake: Lake
) -> None:
    """The reason is stored without the address; Retry-After is used as the wait."""
    settings = settings_for(web)
    spool = Spool(lake, settings)
    web.status, web.headers = status, headers
    spool.post([alert("gaps")])
    (outcome,) = deliver(spool, settings, lambda: NOW_US)
    assert message in outcome.error
    queue = spool.read().queues["ops"]
    assert (len(queue.waiting), queue.next_us - NOW_US) == (1, 1800_000_000 if status == 429 else 30_000_000)
    web.status, web.headers = 204, {}
    deliver(spool, settings, lambda: queue.next_us)
    assert web.titles() == ["WARNING: gaps"]


PROGRAM = """
import sys
from pathlib import Path
from capture_pipeline.operations.alerts.delivery import deliver
from capture_pipeline.operations.alerts.models import Alert
from capture_pipeline.operations.alerts.spool import Spool
from capture_pipeline.settings.alerts import Alerts
from capture_pipeline.lake.paths import Lake
channels = [{"name": "ops", "kind": "webhook"}]
settings = Alerts.model_validate({"channels": channels, "secrets": {"ops": sys.argv[2]}, "timeout_s": 30})
spool = Spool(Lake(Path(sys.argv[1])), settings)
spool.post([Alert(key=name, level="warning", title=name) for name in ("first", "second")])
deliver(spool, settings)
"""


def test_alerts_outlive_a_killed_process(lake: Lake) -> None:
    """The process is killed before the receiver accepted the first message: both arrive later, in order."""
    web = HttpReceiver(delay=threading.Event())
    with web.running():
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(lake.root), web.address])
        wait_for(lambda: len(web.bodies) == 1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert web.delay is not None
        web.status = 500
        web.delay.set()
    web.status, web.delay = 200, None
    settings = settings_for(web)
    with web.running():
        deliver(Spool(lake, settings), settings)
    assert web.titles() == ["WARNING: first", "WARNING: second"]


def test_two_processes_send_nothing_twice(web: HttpReceiver, lake: Lake) -> None:
    """While one process sends to a channel, another one does not."""
    web.delay = threading.Event()
    settings = settings_for(web, timeout_s=30)
    spool = Spool(lake, settings)
    spool.post([alert("gaps")])
    first = threading.Thread(target=deliver, args=(spool, settings))
    first.start()
    wait_for(lambda: len(web.bodies) == 1)
    (outcome,) = deliver(Spool(lake, settings), settings)
    assert (outcome.sent, outcome.error) == (0, "")
    web.delay.set()
    first.join()
    assert web.titles() == ["WARNING: gaps"]


def test_posts_of_many_threads_are_all_kept(lake: Lake) -> None:
    settings = settings_for(HttpReceiver(port=1))
    threads = [
        threading.Thread(target=Spool(lake, settings).post, args=([alert(f"n{number}")],))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book = Spool(lake, settings).read()
    assert (len(book.open), len(book.queues["ops"].waiting)) == (8, 8)


def test_what_waits_is_bounded(lake: Lake) -> None:
    """The oldest of too many alerts, and too old alerts, are dropped and counted."""
    settings = settings_for(HttpReceiver(port=1))
    spool = Spool(lake, settings)
    spool.post([alert(f"n{number}") for number in range(MAX_WAITING + 5)])
    queue = spool.read().queues["ops"]
    assert (len(queue.waiting), queue.waiting[0].title, queue.dropped) == (MAX_WAITING, "n5", 5)
    spool.post([alert("late", at_us=NOW_US + MAX_WAIT_US)])
    queue = spool.read().queues["ops"]
    assert ([waiting.title for waiting in queue.waiting], queue.dropped) == (["late"], MAX_WAITING + 5)


def test_a_damaged_file_is_set_aside_and_alerts_go_on(
    web: HttpReceiver, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(web)
    spool = Spool(lake, settings)
    spool.post([alert("gaps")])
    lake.state("alerts").joinpath("alerts.json").write_text("{")
    assert spool.read().open == {}
    spool.post([alert("gaps")])
    deliver(spool, settings, lambda: NOW_US)
    assert web.titles() == ["WARNING: gaps"]
    assert len(list(lake.state("alerts").glob("alerts.json.damaged-*"))) == 1
    assert "alerts that waited in it are not sent" in caplog.text


def test_nothing_is_written_where_nothing_changes(lake: Lake) -> None:
    """A sensor reads the file every 30 seconds."""
    spool = Spool(lake, settings_for(HttpReceiver(port=1)))
    spool.post([])
    spool.post([resolved("gaps")])
    assert not lake.state("alerts").joinpath("alerts.json").exists()


def test_a_disk_that_refuses_is_an_error_and_changes_nothing(lake: Lake) -> None:
    """The caller keeps its cursor and reports again."""
    lake.root.mkdir(parents=True)
    lake.root.joinpath("state").write_text("")
    with pytest.raises(StorageError):
        Spool(lake, settings_for(HttpReceiver(port=1))).post([alert("gaps")])


def test_removed_channels_are_forgotten_and_new_ones_begin_empty(
    web: HttpReceiver, mail: MailReceiver, lake: Lake, tmp_path: Path
) -> None:
    del tmp_path
    first, second = settings_for(web), settings_for(mail=mail)
    Spool(lake, first).post([alert("gaps")])
    spool = Spool(lake, second)
    spool.post([alert("more")])
    assert set(spool.read().queues) == {"mail"}
    deliver(spool, second, lambda: time.time_ns() // 1000)
    assert mail.subjects() == ["WARNING: more"]
