"""Delivery against real servers on loopback: an HTTP server and a mail server with TLS and passwords."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from helpers.adapters.alert_email import EmailChannel, MailServer
from helpers.adapters.alert_webhook import WebhookChannel
from helpers.adapters.certificates import X509Certificates
from helpers.domain.cost.budget_alerts import NEAR_RATIO, BudgetAlert
from helpers.domain.cost.budget_messages import email_message, slack_message
from helpers.domain.cost.money import Month
from helpers.domain.errors import DependencyError, InputError
from tests.fakes.http_server import QuietHandler, serving_http

LOOPBACK = "127.0.0.1"
ALERT = BudgetAlert("ml", Month(2026, 3), NEAR_RATIO, Decimal(100), Decimal(85), complete=True)
SECRET = "/services/T0/B0/secret"


class Hook:
    """A webhook that answers with `status` and remembers what came."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str, Any]] = []
        self.status = 200
        self.location = ""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}{SECRET}"


@pytest.fixture
def hook() -> Iterator[Hook]:
    state = Hook()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.came.append((self.path, str(self.headers["Content-Type"]), body))
            self.send_response(state.status)
            if state.location:
                self.send_header("Location", state.location)
            self.end_headers()
            self.wfile.write(b"ok" if state.status < 300 else b"invalid_payload\n")

    with serving_http(Handler) as state.port:
        yield state


def test_the_webhook_gets_slacks_form_as_json(hook: Hook) -> None:
    assert WebhookChannel(hook.url).deliver(ALERT) == "200 ok"
    assert hook.came == [(SECRET, "application/json", slack_message(ALERT))]


@pytest.mark.parametrize(("status", "location"), [(400, ""), (404, ""), (500, ""), (302, "http://127.0.0.1:1/away")])
def test_what_is_not_2xx_is_no_delivery_and_is_sent_once(hook: Hook, status: int, location: str) -> None:
    hook.status, hook.location = status, location
    with pytest.raises(DependencyError, match=f"alert webhook at 127.0.0.1: {status} invalid_payload") as raised:
        WebhookChannel(hook.url).deliver(ALERT)
    assert len(hook.came) == 1
    assert "secret" not in str(raised.value)


def test_no_answer_names_the_host_and_never_the_secret_path() -> None:
    with pytest.raises(DependencyError, match=r"alert webhook at 127\.0\.0\.1: no answer") as raised:
        WebhookChannel(f"http://{LOOPBACK}:1{SECRET}").deliver(ALERT)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("url", ["", "hooks.example/x", "ftp://x/secret", "http:///secret"])
def test_an_address_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(InputError, match="begins with http:// or https://") as raised:
        WebhookChannel(url)
    assert "secret" not in str(raised.value)


class Mailbox:
    """aiosmtpd's handler: keeps what comes, takes nothing for `nobody@`."""

    def __init__(self) -> None:
        self.goodbye = "221 Bye"
        self.mails: list[tuple[str, list[str], bytes, bool]] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("nobody@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_QUIT(self, *_: Any) -> str:  # noqa: N802
        return self.goodbye

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content, session.ssl is not None))
        return "250 OK"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """The server's side, and the authority that clients are to trust."""
    folder = tmp_path_factory.mktemp("tls")
    made = X509Certificates().issue(frozenset({LOOPBACK}), now_at=datetime.now(UTC), lifetime_seconds=3600)
    (folder / "chain.pem").write_text(made.chain_pem)
    (folder / "key.pem").write_text(made.key_pem)
    (folder / "ca.pem").write_text(made.authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context, folder / "ca.pem"


@contextmanager
def mail_server(**settings: Any) -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port = taken.getsockname()[1]
    controller = Controller(box, hostname=LOOPBACK, port=port, **settings)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


def channel(port: int, *recipients: str, **settings: Any) -> EmailChannel:
    server = MailServer(LOOPBACK, port, **{"security": "none", **settings})
    return EmailChannel(server, "gpumem@example.org", recipients or ("ops@example.org",))


def test_a_mail_arrives_with_subject_and_text() -> None:
    with mail_server() as (box, port):
        text = channel(port, "ops@example.org", "ml@example.org").deliver(ALERT)
    assert text == f"mail server {LOOPBACK}:{port} took it for 2 of 2"
    ((sender, recipients, content, _),) = box.mails
    assert (sender, recipients) == ("gpumem@example.org", ["ops@example.org", "ml@example.org"])
    mail = message_from_bytes(content, policy=policy.default)
    expected = email_message(ALERT)
    assert mail["Subject"] == expected.subject
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == expected.body


def test_a_recipient_that_is_refused_is_named_and_the_others_get_it() -> None:
    with mail_server() as (box, port):
        text = channel(port, "ops@example.org", "nobody@example.org").deliver(ALERT)
        assert text.endswith("took it for 1 of 2; refused: nobody@example.org")
        with pytest.raises(DependencyError, match="no such user"):
            channel(port, "nobody@example.org").deliver(ALERT)
    assert [mail[1] for mail in box.mails] == [["ops@example.org"]]


def test_a_server_that_says_no_to_the_goodbye_has_taken_the_mail() -> None:
    """Otherwise it would be sent again at every look."""
    with mail_server() as (box, port):
        box.goodbye = "451 not now"
        assert channel(port).deliver(ALERT).endswith("took it for 1 of 1")
    assert len(box.mails) == 1


def test_starttls_with_a_password(tls: tuple[ssl.SSLContext, Path]) -> None:
    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"gpumem", b"right"), handled=False)

    context, authority = tls
    login = {"security": "starttls", "ca_file": str(authority), "user": "gpumem"}
    with mail_server(tls_context=context, authenticator=authenticate, auth_required=True) as (box, port):
        channel(port, **login, password="right").deliver(ALERT)
        with pytest.raises(DependencyError, match="535"):
            channel(port, **login, password="wrong").deliver(ALERT)
        with pytest.raises(DependencyError, match="530"):
            channel(port).deliver(ALERT)
    assert [mail[3] for mail in box.mails] == [True]


def test_a_certificate_of_an_unknown_authority_is_refused(tls: tuple[ssl.SSLContext, Path]) -> None:
    with mail_server(tls_context=tls[0]) as (box, port), pytest.raises(DependencyError, match="CERTIFICATE_VERIFY"):
        channel(port, security="starttls").deliver(ALERT)
    assert box.mails == []


def test_tls_from_the_first_byte(tls: tuple[ssl.SSLContext, Path]) -> None:
    context, authority = tls
    with mail_server(ssl_context=context) as (box, port):
        channel(port, security="tls", ca_file=str(authority)).deliver(ALERT)
    assert len(box.mails) == 1


def test_a_server_without_starttls_gets_no_mail_in_the_clear() -> None:
    with mail_server() as (box, port), pytest.raises(DependencyError, match="STARTTLS"):
        channel(port, security="starttls").deliver(ALERT)
    assert box.mails == []


def test_a_server_that_is_away_is_named() -> None:
    with pytest.raises(DependencyError, match=f"mail server {LOOPBACK}:1: .*refused"):
        channel(1).deliver(ALERT)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at least one recipient"):
        EmailChannel(MailServer(LOOPBACK, 25), "gpumem@example.org", ())
    with pytest.raises(InputError, match="a password goes over TLS only"):
        channel(25, user="gpumem", password="x")
