"""Signing in with a browser: a provider on loopback, the genuine redirects, and what each kind of person then sees."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, ready
from tests.support.oidc_provider import OidcProvider

Visit = Callable[[str], Page]


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    running = OidcProvider()
    yield running
    running.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Dashboard]:
    """A dashboard that asks people to sign in."""
    folder = tmp_path_factory.mktemp("guarded")
    served = Dashboard(
        folder,
        prepare=lambda url: {"STREAMLIT_SECRETS_FILES": str(provider.secrets_file(folder, url))},
        FLEET_Q_OPERATORS="ann@example.com", FLEET_Q_VIEWERS="*@example.com",
        FLEET_Q_API_KEYS="ci:operator:0123456789abcdef-ci,graf:viewer:0123456789abcdef-graf",
    )  # fmt: skip
    served.fleet.queue.submit_step({"task_type": "nobody-knows-it"}, step_id="waits-1")
    yield served
    served.stop()


def sign_in(page: Page) -> None:
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    ready(page)


def test_nobody_sees_anything_before(guarded: Dashboard, visit: Visit) -> None:
    for path in ("", "steps?step=waits-1", "audit", "cost"):
        page = visit(f"{guarded.url}/{path}")
        expect(page.get_by_text("This fleet is for people who have signed in.")).to_be_visible()
        assert "waits-1" not in page.inner_text("body")
        assert "pod-web" not in page.inner_text("body")


def test_an_operator_acts_and_the_log_has_the_name(guarded: Dashboard, visit: Visit, provider: OidcProvider) -> None:
    provider.person = {"email": "ann@example.com", "email_verified": True}
    page = visit(guarded.url)
    sign_in(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(page.locator("[data-testid=stSidebar]").get_by_text("ann@example.com")).to_be_visible()
    page.goto(f"{guarded.url}/steps?step=waits-1")
    ready(page)
    page.get_by_role("button", name="Requeue 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Requeue 1").click()
    expect(page.get_by_text("1 of 1 step requeued.")).to_be_visible()
    (record,) = guarded.fleet.queue.store.list_commands(5)
    assert (record.command.kind, record.command.issued_by) == ("requeue_steps", "ann@example.com")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert provider.ended_sessions == 1


def test_a_viewer_looks_and_cannot_act(guarded: Dashboard, visit: Visit, provider: OidcProvider) -> None:
    provider.person = {"email": "vic@example.com"}
    page = visit(f"{guarded.url}/pods")
    sign_in(page)
    page.goto(f"{guarded.url}/pods")
    ready(page)
    expect(page.get_by_role("button", name="Pause fleet")).to_be_disabled()
    assert "pod-web" in page.inner_text("body")


@pytest.mark.parametrize(
    ("person", "told"),
    [
        ({"email": "eve@elsewhere.org", "email_verified": True}, "Ask whoever runs it to name this address"),
        ({"email": "ann@example.com", "email_verified": False}, "this address is not verified"),
    ],
)
def test_a_stranger_is_told_why_and_sees_nothing(
    guarded: Dashboard, visit: Visit, provider: OidcProvider, person: dict[str, object], told: str
) -> None:
    provider.person = person
    page = visit(guarded.url)
    sign_in(page)
    expect(page.get_by_text(told)).to_be_visible()
    assert "pod-web" not in page.inner_text("body")


def test_a_provider_that_refuses_leaves_one_outside(guarded: Dashboard, visit: Visit, provider: OidcProvider) -> None:
    provider.refuses = True
    try:
        page = visit(guarded.url)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state("networkidle")
        page.goto(guarded.url)
        ready(page)
        expect(page.get_by_text("This fleet is for people who have signed in.")).to_be_visible()
    finally:
        provider.refuses = False


def test_a_forged_cookie_signs_nobody_in(guarded: Dashboard, page: Page) -> None:
    page.context.add_cookies([{"name": "_streamlit_user", "value": '"e30.forged"', "url": guarded.url}])
    page.goto(guarded.url)
    ready(page)
    expect(page.get_by_text("This fleet is for people who have signed in.")).to_be_visible()


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/admin/queue", None, 401), ("/admin/queue", "0123456789abcdef-graf", 200), ("/metrics", None, 401),
        ("/status/waits-1", None, 401), ("/status/waits-1", "0123456789abcdef-ci", 200), ("/health", None, 200),
    ],
)  # fmt: skip
def test_the_door_beside_it_asks_programs_for_a_key(
    guarded: Dashboard, path: str, key: str | None, status: int
) -> None:
    request = urllib.request.Request(guarded.url + path, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = answer.status
    except urllib.error.HTTPError as exc:
        found = exc.code
    assert found == status


def test_a_lost_auth_section_lets_nobody_in(tmp_path: Path, visit: Visit) -> None:
    broken = tmp_path / "secrets.toml"
    broken.write_text("[auth\nredirect_uri = ")
    served = Dashboard(
        tmp_path, prepare=lambda _: {"STREAMLIT_SECRETS_FILES": str(broken)}, FLEET_Q_OPERATORS="*@example.com"
    )
    try:
        page = visit(served.url)
        expect(page.get_by_text("Nobody can sign in here, so there is nothing to show.")).to_be_visible()
    finally:
        served.stop()
