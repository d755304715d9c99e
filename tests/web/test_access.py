import os
import stat

import pytest
from web_world import ADDRESS, ANNA, BERT, CHAT, NASTY, chat, refused, service, user

from crscli.errors import ConfigError, UsageError
from crscli.web.access import Buckets, Settings, Tokens, is_loopback, read_tokens

PROTECTED = [
    ("POST", CHAT), ("POST", "/v1/recommendations"), ("POST", "/v1/opinions"), ("GET", "/v1/sessions/x"),
    ("DELETE", "/v1/sessions/x"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/openapi.json"),
    ("GET", "/none"),
]  # fmt: skip
PAGE = ["/", "/page.css", "/page.js", "/icon.svg", "/favicon.ico", "/health"]


# ---- tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer ", f"Bearer {ANNA[:-1]}", f"Basic {ANNA}", f"Bearer {ANNA} {ANNA}"]
)
def test_without_the_token_nothing_is_told(tmp_path, method, path, given):
    with service(tmp_path, tokens=[ANNA, BERT]) as client:
        answer = client.request(method, path, headers={} if given is None else {"Authorization": given})
        refused(answer, 401, "invalid_token")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_page_needs_no_token_and_the_token_opens_the_rest(tmp_path):
    with service(tmp_path, tokens=[ANNA]) as client:
        assert [client.get(path).status_code for path in PAGE] == [200] * len(PAGE)
        for scheme in ("Bearer", "bearer"):
            answer = client.get("/v1/models", headers={"Authorization": f"{scheme} {ANNA}"})
            assert answer.status_code == 200


def test_nobody_reads_or_takes_another_ones_conversation(tmp_path):
    with service(tmp_path, tokens=[ANNA, BERT], token=ANNA) as client:
        told = chat(client, "a comedy please")
        session_id = told["crs"]["session_id"]
        stolen = {"Authorization": f"Bearer {BERT}"}
        last = session_id[-1]
        for given, headers in (
            (session_id, stolen), (session_id.lower(), None), (session_id[:-1], None), ("' OR '1'='1", None),
            ("%", None), (session_id[:-1] + ("A" if last != "A" else "B"), None), (f"{session_id}\0", None), ("", None),
        ):  # fmt: skip
            asked = {"messages": [user("why?")], "session_id": given}
            opinion = {"session_id": given, "item_id": "1", "opinion": "liked"}
            for path, body in ((CHAT, asked), ("/v1/recommendations", asked), ("/v1/opinions", opinion)):
                refused(client.post(path, json=body, headers=headers), 404, "session_not_found")
        for method in ("GET", "DELETE"):
            refused(client.request(method, f"/v1/sessions/{session_id}", headers=stolen), 404, "session_not_found")
        # Nor by saying the same: what is kept under the same words is the other one's.
        again = {"messages": [user("a comedy please"), {"role": "assistant", "content": "Nothing."}, user("why?")]}
        assert client.post(CHAT, json=again, headers=stolen).json()["crs"]["session_id"] != session_id
        assert len(client.get(f"/v1/sessions/{session_id}").json()["turns"]) == 2


def test_a_token_is_compared_as_a_whole():
    tokens = Tokens([ANNA, BERT])
    owners = {tokens.owner(f"Bearer {token}") for token in (ANNA, BERT)}
    assert len(owners) == 2
    assert None not in owners
    assert not any(token in owner for owner in owners for token in (ANNA, BERT))
    assert tokens.owner(f"Bearer {ANNA}\udce9") is None
    assert Tokens().owner("anything") == ""
    assert not Tokens()


def test_tokens_come_from_a_file_of_ones_own_else_from_the_environment(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# ours\n{ANNA}\n\n{BERT}\n")
    file.chmod(0o600)
    assert read_tokens(file, {"CRS_SERVE_TOKEN": "another-0123456789"}) == (ANNA, BERT)
    assert read_tokens(None, {"CRS_SERVE_TOKEN": f" {ANNA}\n"}) == (ANNA,)
    assert read_tokens(None, {}) == ()
    for mode in (0o640, 0o604, 0o644):
        file.chmod(mode)
        with pytest.raises(ConfigError, match="read by others") as told:
            read_tokens(file)
        assert told.value.hint == f"run: chmod 600 {file}"
    file.chmod(0o600)
    for text in ("", "# nothing\n", "short\n", "blanks in it are not right\n", "é" * 20):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as told:
            read_tokens(file)
        assert not text.strip("# \n") or text.strip() not in str(told.value)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError):
            read_tokens(path)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


@pytest.mark.parametrize(
    ("host", "private"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.5", False), ("::ffff:1.2.3.4", False)],
)  # fmt: skip
def test_what_others_can_reach(host, private):
    assert is_loopback(host) is private


@pytest.mark.parametrize("host", ["", "example.org", "127.1", "localhost.example.org", "0"])
def test_an_address_is_an_address(host):
    with pytest.raises(UsageError):
        is_loopback(host)


# ---- other sites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:9", "LOCALHOST", "[::1]:8080", "[::1]"])
def test_names_of_this_machine(client, host):
    assert client.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[::2]",
        "a@localhost",
    ],
)
@pytest.mark.parametrize("path", ["/", "/v1/models", "/health"])
def test_a_name_that_was_pointed_here_is_not_answered(client, host, path):
    refused(client.get(path, headers={"Host": host}), 400, "wrong_host")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"}, {"Origin": "http://["},
     {"Sec-Fetch-Site": "cross-site"}],
)  # fmt: skip
def test_pages_of_other_sites_may_not_ask(client, headers):
    for method, path in PROTECTED[:6]:
        refused(client.request(method, path, headers=headers, json={}), 403, "cross_origin")
    assert "crs_sessions 0" in client.get("/metrics").text
    assert client.get("/", headers=headers).status_code == 200  # a link to the page


def test_the_own_page_may_ask_and_nobody_is_allowed_more(client):
    own = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
    answer = client.post(CHAT, json={"messages": [user("Hi")]}, headers=own)
    assert answer.status_code == 200
    asked = client.options(CHAT, headers=own | {"Access-Control-Request-Method": "POST"})
    assert asked.status_code == 405
    for told in (answer, asked):
        assert not [name for name in told.headers if name.startswith("access-control-")]


def test_every_answer_carries_the_headers(client):
    answers = [client.get(path) for path in (*PAGE, "/v1/models", "/none", "/openapi.json", "/metrics")]
    answers += [client.get("/", headers={"Host": "evil.example"}), client.post(CHAT, content=b"x" * 70_000)]
    answers.append(client.post(CHAT, json={"messages": [user("Hi")], "stream": True}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        for name in ("opener", "embedder", "resource"):
            assert answer.headers[f"cross-origin-{name}-policy"] in ("same-origin", "require-corp")
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


# ---- how much -----------------------------------------------------------------------------------------------------


def test_a_request_has_a_size(client):
    for size, status in ((60_000, 200), (70_000, 413)):
        body = {"messages": [{"role": "system", "content": "x" * size}, user("Hi")]}
        assert client.post(CHAT, json=body).status_code == status
    parts = iter([b"{" * 1000] * 100)  # without Content-Length
    refused(client.post(CHAT, content=parts, headers={"Content-Type": "application/json"}), 413, "too_large")


def test_messages_have_a_length_and_a_number(client):
    assert client.post(CHAT, json={"messages": [user("é" * 2000)]}).status_code == 200
    refused(client.post(CHAT, json={"messages": [user("é" * 2001)]}), 422, "too_long")
    refused(client.post(CHAT, json={"messages": [user("a" * 1500)] * 2}), 422, "too_long")
    refused(client.post(CHAT, json={"messages": [user("Hi")] * 101}), 422, "invalid")
    assert client.post(CHAT, json={"messages": [user("Hi")] * 100}).status_code == 200


def test_one_client_may_ask_so_often(tmp_path):
    with service(tmp_path, tokens=[ANNA, BERT], token=ANNA, per_minute=60, burst=5) as client:
        codes = [client.get("/v1/models").status_code for _ in range(8)]
        assert codes[:5] == [200] * 5
        assert 429 in codes[5:]
        answer = client.get("/v1/models")
        refused(answer, 429, "rate_limit")
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert client.get("/health").status_code == client.get("/").status_code == 200
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {BERT}"}).status_code == 200
        guesses = [client.get("/v1/models", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(8)]
        assert guesses[:5] == [401] * 5
        assert 429 in guesses  # who tries tokens is slowed down


def test_a_bucket_fills_again():
    clock = [0.0]
    buckets = Buckets(60, 2, now=lambda: clock[0])
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 1.0]
    assert buckets.wait("b") == 0
    clock[0] += 0.5
    assert buckets.wait("a") == pytest.approx(0.5)
    clock[0] += 0.5
    assert buckets.wait("a") == 0
    clock[0] += 1e6
    assert [buckets.wait("a") for _ in range(3)] == [0, 0, 1.0]


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_clients_without_number_take_no_memory_without_end(seconds):
    clock = [0.0]
    buckets = Buckets(60, 2, now=lambda: clock[0])
    for num in range(12_000):
        buckets.wait(str(num))
        clock[0] += seconds / 12_000
    assert len(buckets._left) <= 10_000


def test_the_limits_are_these():
    usual = Settings()
    assert (usual.body_at_most, usual.hosts) == (65_536, {"localhost", "127.0.0.1", "[::1]"})


def test_what_anybody_says_or_is_called_is_never_html(client):
    told = client.post(CHAT, json={"messages": [user(f"Something like {NASTY} from 1999")]})
    assert told.headers["content-type"] == "application/json"
    for answer in (
        client.get(f"/{NASTY}"),
        client.get(f"/v1/sessions/{NASTY}"),
        client.post(CHAT, json={NASTY: NASTY}),
    ):
        assert answer.headers["content-type"] == "application/json"
        assert NASTY not in answer.text
