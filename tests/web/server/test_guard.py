"""The guard in front of every route of the app: hosts, origins, sign-in, sizes, rates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from lcm_studio.spec.passwords import single
from lcm_studio.web.options import Options
from lcm_studio.web.server.guard import Buckets, Guard, Hosts, Proxies, Refusal
from lcm_studio.web.server.signin import Login

OWN = {"host": "127.0.0.1:7860"}


def routes_of(app: Any, prefix: str = "") -> Iterator[str]:
    """Every path of the app, mounts included, with its parameters filled in."""
    app = getattr(app, "app", app) if isinstance(app, Guard) else app
    while not hasattr(app, "routes") and hasattr(app, "app"):
        app = app.app
    for route in getattr(app, "routes", ()):
        path = prefix + getattr(route, "path", "")
        if hasattr(route, "original_router"):  # FastAPI keeps an included router as one entry
            inner = getattr(route.include_context, "prefix", "")
            yield from routes_of(route.original_router, prefix + inner)
            continue
        if hasattr(route, "routes") and route.routes:
            yield from routes_of(route, path)
        elif hasattr(route, "app") and hasattr(route.app, "routes"):
            yield from routes_of(route.app, path)
        else:
            yield re.sub(r"\{[^}]*\}", "x", path) or "/"


@pytest.fixture(scope="module")
def paths(client: Any) -> list[str]:
    found = sorted(set(routes_of(client.app)))
    joined = " ".join(found)
    for known in (
        "/queue/join",
        "/cancel",
        "/reset",
        "/heartbeat",
        "/upload",
        "/studio/live",
        "/studio/settings",
    ):
        assert known in joined, f"{known} is not among {len(found)} routes"
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:7860"},
        {"host": "192.168.1.5:7860"},
        {**OWN, "origin": "null"},
        {**OWN, "origin": "https://evil.example"},
        {**OWN, "origin": "http://127.0.0.1:9999"},
        {**OWN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_every_route_refuses_foreign_requests(
    client: Any, paths: list[str], headers: dict[str, str]
) -> None:
    for path in paths:
        for method in ("GET", "POST"):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 403, (method, path, answer.status_code)


def test_every_route_wants_a_sign_in(client: Any, paths: list[str]) -> None:
    from starlette.testclient import TestClient

    guarded = Guard(client.app.app, Options(users=single("ann", "secret"), preload=False))
    guarded.buckets = Buckets(rate=1e6, burst=1e6)
    anonymous = TestClient(guarded, base_url="http://127.0.0.1:7860")
    for path in paths:
        for method in ("GET", "POST", "DELETE"):
            if path == "/login" or path.endswith("/logout"):
                continue
            answer = anonymous.request(method, path, follow_redirects=False)
            assert answer.status_code == 401, (method, path, answer.status_code)
    assert anonymous.get("/studio/state", auth=("ann", "secret")).status_code == 200
    page = anonymous.get("/", headers={"accept": "text/html"})
    assert page.status_code == 401 and "Sign in" in page.text and "lcm-splash" not in page.text


def test_signing_in_by_form_and_out_again(client: Any) -> None:
    from starlette.testclient import TestClient

    guarded = Guard(client.app.app, Options(users=single("ann", "s:ecret"), preload=False))
    browser = TestClient(guarded, base_url="http://127.0.0.1:7860")
    answer = browser.post("/login", data={"username": "ann", "password": "s:ecret"})
    assert answer.status_code == 200 and "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]
    assert browser.get("/studio/state").status_code == 200
    browser.get("/logout", follow_redirects=False)
    assert browser.get("/studio/state").status_code == 401


def test_guesses_are_throttled(client: Any) -> None:
    from starlette.testclient import TestClient

    guarded = Guard(client.app.app, Options(users=single("ann", "secret"), preload=False))
    thief = TestClient(guarded, base_url="http://127.0.0.1:7860")
    codes = [
        thief.post("/login", data={"username": "ann", "password": str(i)}).status_code
        for i in range(7)
    ]
    assert codes == [401] * 5 + [429] * 2
    assert thief.get("/studio/state", auth=("ann", "secret")).status_code == 401


def test_login_counts_each_address_by_itself() -> None:
    login = Login(single("ann", "secret"))
    for _ in range(5):
        assert not login.check(b"ann:guess", "10.0.0.1")
    assert login.throttled("10.0.0.1") and not login.throttled("10.0.0.2")


def test_bodies_are_capped_whether_or_not_they_say_their_length(client: Any) -> None:
    from starlette.testclient import TestClient

    guarded = Guard(client.app.app, Options(body_limit=10_000, preload=False))
    small = TestClient(guarded, base_url="http://127.0.0.1:7860")
    assert small.post("/studio/settings", content=b"x" * 20_000).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    assert small.post("/studio/settings", content=chunks()).status_code == 413
    assert small.post("/studio/settings", content=b"x" * 500).status_code == 422


def test_twenty_files_under_the_limit_are_over_it_together(client: Any) -> None:
    from starlette.testclient import TestClient

    guarded = Guard(client.app.app, Options(body_limit=100_000, preload=False))
    small = TestClient(guarded, base_url="http://127.0.0.1:7860")
    files = [("files", (f"{i}.png", b"x" * 9_000, "image/png")) for i in range(20)]
    assert small.post("/gradio_api/upload", files=files).status_code == 413


def test_too_many_requests_are_refused() -> None:
    bucket = Buckets(rate=0.0, burst=5)
    assert [bucket.take("a") for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take("b")


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=https://evil.example/x",
        "/gradio_api/file=http://169.254.169.254/x",
        "/file=HTTPS://evil.example",
    ],
)
def test_nothing_is_fetched_for_a_page(client: Any, path: str) -> None:
    assert client.get(path, headers=OWN).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../etc/passwd",
        "/studio/static/../app.py",
        "/studio/static/%2e%2e/server/guard.py",
        "/studio/picture/..%2f..%2fx.png",
        "/studio/picture/x%00.png",
    ],
)
def test_no_path_leads_out(client: Any, path: str) -> None:
    answer = client.get(path, headers=OWN)
    assert (
        answer.status_code in (403, 404)
        and "root:" not in answer.text
        and "class Guard" not in answer.text
    )


def check(options: Options, **headers: str) -> None:
    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    Hosts(options).check(
        {"headers": raw, "method": "GET"}, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_hosts_by_interface() -> None:
    check(Options(), host="localhost:7860")
    check(Options(), host="[::1]:7860", origin="http://[::1]:7860")
    everywhere = Options(host="0.0.0.0", allow_origins=("https://studio.example",))
    check(everywhere, host="192.168.1.5:7860", origin="http://192.168.1.5:7860")
    check(everywhere, host="studio.example", origin="https://studio.example")
    for host in ("rebound.example:7860", "", "127.0.0.1.evil.example", "localhost.evil.example"):
        with pytest.raises(Refusal):
            check(everywhere, host=host)


def test_the_page_forbids_other_hosts_and_frames(client: Any) -> None:
    answer = client.get("/", headers=OWN)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"https?://", policy)
    assert "googleapis" not in answer.text and "og:image" not in answer.text


def seen(proxies: tuple[str, ...], peer: str, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "client": (peer, 5), "headers": headers, "scheme": "http"}
    return str(Proxies(proxies).seen_through(scope)["client"][0])


def test_only_a_trusted_proxy_says_who_the_client_is() -> None:
    assert seen((), "127.0.0.1", "1.2.3.4") == "127.0.0.1"
    assert seen(("10.0.0.0/8",), "127.0.0.1", "1.2.3.4") == "127.0.0.1"
    assert seen(("127.0.0.1",), "127.0.0.1", "1.2.3.4") == "1.2.3.4"
    assert seen(("127.0.0.1",), "::ffff:127.0.0.1", "2001:db8::7") == "2001:db8::7"
    # what a client wrote itself stands before what the proxies appended
    assert seen(("127.0.0.1", "10.0.0.0/8"), "127.0.0.1", "9.9.9.9, 1.2.3.4, 10.1.1.1") == "1.2.3.4"
    assert seen(("127.0.0.1",), "127.0.0.1", "9.9.9.9", "1.2.3.4") == "1.2.3.4"
    for damaged in ("", "unknown", "1.2.3.4:99", "x" * 9000):
        assert seen(("127.0.0.1",), "127.0.0.1", damaged) == "127.0.0.1"


def test_users_behind_a_trusted_proxy_are_limited_each_by_themselves(client: Any) -> None:
    from starlette.testclient import TestClient

    def codes(options: Options) -> list[int]:
        guarded = Guard(client.app.app, options)
        guarded.buckets = Buckets(rate=0.0, burst=2)
        proxy = TestClient(guarded, base_url="http://127.0.0.1:7860", client=("10.0.0.9", 1))
        return [
            proxy.post(
                "/studio/settings", content=b"x", headers={"x-forwarded-for": user}
            ).status_code
            for user in ("1.1.1.1", "1.1.1.1", "1.1.1.1", "2.2.2.2")
        ]

    assert codes(Options(preload=False)) == [422, 422, 429, 429]
    assert codes(Options(preload=False, trusted_proxies=("10.0.0.9",))) == [422, 422, 429, 422]


def test_guesses_behind_a_trusted_proxy_lock_out_only_the_guesser(client: Any) -> None:
    from starlette.testclient import TestClient

    options = Options(users=single("ann", "secret"), preload=False, trusted_proxies=("10.0.0.0/8",))
    proxy = TestClient(
        Guard(client.app.app, options), base_url="http://127.0.0.1:7860", client=("10.0.0.9", 1)
    )
    for _ in range(6):
        proxy.get("/studio/state", auth=("ann", "no"), headers={"x-forwarded-for": "6.6.6.6"})
    assert [
        proxy.get(
            "/studio/state", auth=("ann", "secret"), headers={"x-forwarded-for": user}
        ).status_code
        for user in ("6.6.6.6", "7.7.7.7")
    ] == [401, 200]
