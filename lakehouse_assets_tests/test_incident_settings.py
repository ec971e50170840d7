"""Routes of notifications, from the environment and a routes file; errors contain no address."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse_assets.errors import InputError
from lakehouse_assets.observability.incidents.causes import Role, Severity
from lakehouse_assets.settings import IncidentSettings, load_settings

TOKEN = "planted-token-4711"
ROUTES = f"""\
routes:
  - name: on-call
    urls: ["json://127.0.0.1/{TOKEN}", "mailto://127.0.0.1?from=b@example.org&to=a@example.org"]
    severity: critical
  - {{name: research, urls: ["json://127.0.0.1/x"], roles: [research], exchanges: [binance]}}
"""


@pytest.fixture
def routes_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "routes.yaml"
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_ROUTES_FILE", str(path))
    path.write_text(ROUTES)
    return path


@pytest.mark.usefixtures("routes_file")
def test_routes_come_from_the_file_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_URLS", f"json://127.0.0.1/{TOKEN}  json://127.0.0.1/b")
    settings = load_settings().incidents
    on_call, research, urls = settings.routes()
    assert (on_call.name, on_call.severity, len(on_call.urls)) == ("on-call", Severity.CRITICAL, 2)
    assert (research.roles, research.exchanges) == ((Role.RESEARCH,), ("binance",))
    assert [url.get_secret_value() for url in urls.urls] == [f"json://127.0.0.1/{TOKEN}", "json://127.0.0.1/b"]
    settings.notifier().check()
    assert TOKEN not in repr(settings) + repr(on_call) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routes: [{name: a, urls: [json://TOKEN], severity: bad}]", "routes.0.severity: Input should be 'warning'"),
        ("routes: [{name: a, urls: []}]", "a route needs a URL"),
        ("routes: [{name: a, urls: [json://TOKEN], to: x}]", "routes.0.to: Extra inputs are not permitted"),
        ("routes: [{name: 'a, urls: [json://TOKEN]}]", "is not valid YAML, at line 1"),
        ("- json://TOKEN", "Input should be a valid dictionary"),
        ("{}", "no routes"),
    ],
)
def test_an_invalid_routes_file_is_reported_without_its_addresses(routes_file: Path, text: str, message: str) -> None:
    routes_file.write_text(text.replace("TOKEN", TOKEN))
    with pytest.raises(InputError) as error:
        load_settings().incidents.notifier()
    assert str(routes_file) in str(error.value)
    assert message in str(error.value)
    assert TOKEN not in str(error.value)


def test_a_missing_routes_file_is_reported(routes_file: Path) -> None:
    routes_file.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_settings().incidents.notifier()


@pytest.mark.parametrize(
    ("url", "message"),
    [(f"http://user:{TOKEN}@alerts.example.org", "plain HTTP"), (f"alerts/{TOKEN}", "is not a URL")],
)
def test_an_alertmanager_needs_https_unless_on_loopback(
    monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    monkeypatch.setenv("LAKEHOUSE_INCIDENTS_ALERTMANAGER_URL", url)
    with pytest.raises(InputError, match=f"LAKEHOUSE_INCIDENTS_ALERTMANAGER_URL.* {message}") as error:
        load_settings().incidents.notifier()
    assert TOKEN not in str(error.value)
    for good in ("http://127.0.0.1:9093", "https://alerts.example.org"):
        monkeypatch.setenv("LAKEHOUSE_INCIDENTS_ALERTMANAGER_URL", good)
        IncidentSettings().notifier()
