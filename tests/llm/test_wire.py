"""What goes to an endpoint, what is read of what it sends, and where the key may be."""

import email.utils
import gzip
import os
import subprocess
import sys
import time

import pytest
from llm_server import FAULTS, answer, error, running
from llm_server import Endpoint as World

from crscli.errors import ConfigError, SourceError, UsageError
from crscli.llm import Endpoint, Llm, Message, Request
from crscli.llm.answers import key_of
from crscli.llm.credential import read_key
from crscli.metadata.cache import Cache, Reply

KEY = "sk-canary-3141592653"


def ask(text):
    return Request((Message("user", text),))


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    for name in [n for n in os.environ if n.startswith("OPENAI")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CRS_LLM_KEY", KEY)


@pytest.fixture
def asked(tmp_path):
    """Texts of the answers of a world, and how long was waited."""

    def asked(world, *texts, waits=None, **settings):
        with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
            endpoint = Endpoint(address, "m", **{"retries": 0, "timeout_s": 0.6, **settings})
            llm = Llm(endpoint, cache, sleep=lambda s: None if waits is None else waits.append(s))
            try:
                return [c.text for c in llm.complete([ask(text) for text in texts or ("a",)])]
            finally:
                llm.close()

    return asked


def test_nothing_of_the_environment_goes_along(asked, monkeypatch):
    heads = []
    for name, value in {"ORG_ID": "org-own", "PROJECT_ID": "prj-own", "CUSTOM_HEADERS": "X-Own: own"}.items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    asked(World([lambda handler, body: (heads.append(dict(handler.headers)), handler.send(200, answer("x")))]))
    assert "own" not in str(heads)
    assert {k.lower(): v for k, v in heads[0].items()}["authorization"] == f"Bearer {KEY}"


def test_a_proxy_of_the_environment_gets_nothing_that_stays_on_this_machine(asked, monkeypatch):
    proxy = World()
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with running(proxy) as address:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address.removesuffix("/v1"))
        assert asked(World()) == ["heard: a"]
    assert not proxy.keys


def test_a_key_never_travels_in_the_open_however_the_address_is_written():
    for address in ("HTTP://example.org/v1", "Http://example.org"):
        with pytest.raises(ConfigError, match="in the open"):
            read_key(address, None)


@pytest.mark.parametrize(
    "address", [" http://localhost/v1", "http://localhost/v1\n", "ht\ntp://example.org", "http://localhost/\0", "http://ö"]
)  # fmt: skip
def test_an_address_is_what_it_looks_like(address):
    with pytest.raises(UsageError, match="no address"):
        Endpoint(address, "m")


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": float("nan")}, {"timeout_s": float("inf")}, {"concurrency": 10**6}, {"prompt_price": float("nan")}],
)
def test_settings_that_are_no_numbers(wrong):
    with pytest.raises(UsageError):
        Endpoint("http://localhost/v1", "m", **wrong)


def test_a_slash_at_the_end_is_the_same_place(tmp_path):
    world = World()
    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        for place in (address, address + "/"):
            llm = Llm(Endpoint(place, "m"), cache)
            llm.complete([ask("a")])
            llm.close()
    assert len(world.asked) == 1


def test_a_key_that_is_cut_or_said_back_is_taken_out(asked):
    with pytest.raises(UsageError) as caught:
        asked(World([error(400, "x" * 190 + KEY)]))
    assert "sk-" not in caught.value.message
    echo = World([lambda handler, body: handler.send(200, answer(f"you sent {handler.headers['Authorization']}"))])
    assert asked(echo) == ["you sent Bearer ***"]


def test_what_stands_for_no_key_is_a_word(asked, monkeypatch):
    monkeypatch.delenv("CRS_LLM_KEY")
    with pytest.raises(UsageError, match="none is loaded"):
        asked(World([error(400, "none is loaded")]))


def endless(sent):
    def send(handler, body):
        handler.send_response(500)
        handler.end_headers()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            sent.append(handler.wfile.write(b"1" * 65_536))

    return send


def slow(handler, body):
    handler.send_response(401)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def test_little_is_read_of_an_error(asked):
    sent, started = [], time.monotonic()
    with pytest.raises(SourceError, match="status 500"):
        asked(World([endless(sent)]))
    assert sum(sent) < 20_000_000
    with pytest.raises(ConfigError, match="status 401"):
        asked(World([slow]))
    assert time.monotonic() - started < 3


def test_an_answer_that_unpacks_to_much_more(asked):
    bomb = gzip.compress(b" " * 20_000_000, 1)
    with pytest.raises(SourceError, match="more than 4 MB"):
        asked(World([lambda handler, body: handler.send(200, bomb, [("Content-Encoding", "gzip")])]))


def test_a_date_says_how_long_to_wait(asked):
    waits, date = [], email.utils.formatdate(time.time() + 30, usegmt=True)
    told = [error(429, "slow down", [("Retry-After", wait)]) for wait in (date, "soon", "999999", "-5")]
    asked(World(told), waits=waits, retries=4)
    assert 20 < waits[0] <= 30
    assert 0 < waits[1] < 2
    assert waits[2] == 60
    assert 0 < waits[3] < 8


def refuse(name, message):
    def act(handler, body):
        time.sleep(0.05)
        error(400, message)(handler, body) if name in body else handler.send(200, answer(str(sorted(body))))

    return act


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (refuse("max_tokens", "use 'max_completion_tokens'"), "max_completion_tokens', 'messages', 'model', 'temp"),
        (refuse("temperature", "Unsupported value: 'temperature' does not support 0"), "['max_tokens', 'messages', 'm"),
    ],
)
def test_what_newer_models_refuse_is_left_out_by_all_threads_and_is_no_other_try(asked, act, names):
    world = World(forever=act)
    found = asked(world, *map(str, range(8)), concurrency=4)
    assert all(names in text for text in found)
    assert len(world.asked) <= 12


def test_a_refusal_for_another_reason_ends(asked):
    world = World(forever=error(400, "use 'max_completion_tokens', no 'temperature'"))
    with pytest.raises(UsageError):
        asked(world)
    assert len(world.asked) == 2


def test_halves_of_characters_do_no_harm_and_are_the_same_from_the_cache(asked):
    world = World([lambda handler, body: handler.send(200, answer("a \ud83d b"))])
    with running(World()):
        assert asked(world, "x \udcff") == ["a ? b"]
    assert world.asked == ["x ?"]


def test_halves_of_characters_of_an_answer_are_kept_as_they_were_given(tmp_path):
    world = World([lambda handler, body: handler.send(200, answer("a \ud83d b"))])
    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(Endpoint(address, "m"), cache)
        first, second = (llm.complete([ask("a")])[0] for _ in range(2))
        llm.close()
    assert (first.text, first.is_cached, second.text, second.is_cached) == ("a ? b", False, "a ? b", True)


def test_what_is_no_kept_answer_is_asked_for_again(tmp_path):
    with running(World()) as address, Cache(tmp_path / "llm.sqlite") as cache:
        for body in (b"{}", b"x", b"[1, 2, 3]", b"null"):
            cache.put(key_of(ask("a"), "m", address), Reply(200, body))
            llm = Llm(Endpoint(address, "m"), cache)
            assert llm.complete([ask("a")])[0].text == "heard: a"
            llm.close()


def test_many_tries_do_not_wait_longer_and_longer(asked):
    waits = []
    with pytest.raises(SourceError, match="31 tries"):
        asked(World(forever="500"), waits=waits, retries=30)
    assert max(waits) <= 60


def test_neither_the_package_nor_the_network_is_loaded_until_someone_is_asked():
    code = "import crscli.llm, sys; print([n for n in ('openai', 'httpx', 'requests', 'torch') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_fault_of_the_stand_in_is_a_kind_of_its_own():
    assert len(FAULTS) >= 18
