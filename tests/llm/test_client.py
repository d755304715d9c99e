"""The client against an endpoint that answers, and one that does not."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
from llm_server import Endpoint as World
from llm_server import running

from crscli.errors import ConfigError, SourceError, UsageError
from crscli.llm import Completion, Endpoint, Llm, Message, Request
from crscli.llm.answers import key_of
from crscli.llm.batch import read_batch, write_batch
from crscli.metadata.cache import Cache, Reply

KEY = "sk-canary-3141592653"


def ask(text, **more):
    return Request((Message("system", "You answer."), Message("user", text)), **more)


class Asking:
    """A client of a world, and how long it waited."""

    def __init__(self, tmp_path, world, **settings):
        self.world, self.tmp_path, self.waits = world, tmp_path, []
        self.settings = {"timeout_s": 0.4, "retries": 3, "concurrency": 4, **settings}

    def __call__(self, *texts, **options):
        with running(self.world) as address, Cache(self.tmp_path / "llm.sqlite") as cache:
            endpoint = Endpoint(address.replace(address.split(":")[2], "1/v1") if options.pop("dead", 0) else address,
                                "some-model", **self.settings)  # fmt: skip
            self.llm = Llm(endpoint, cache, sleep=self.waits.append, **options)
            self.address = endpoint.base_url
            try:
                return self.llm.complete([ask(text) for text in texts])
            finally:
                self.llm.close()


@pytest.fixture
def asking(tmp_path, monkeypatch):
    monkeypatch.setenv("CRS_LLM_KEY", KEY)
    return lambda *faults, **settings: Asking(
        tmp_path, World(faults, settings.pop("forever", None), settings.pop("delay", 0.0)), **settings
    )


def test_answers_come_in_the_order_of_the_requests_and_equal_ones_are_asked_once(asking):
    one = asking(prompt_price=2.0, completion_price=10.0)
    found = one("a", "b", "a", "c")
    assert [c.text for c in found] == ["heard: a", "heard: b", "heard: a", "heard: c"]
    assert sorted(one.world.asked) == ["a", "b", "c"]
    assert set(one.world.keys) == {f"Bearer {KEY}"}
    used = one.llm.usage
    assert (used.asked, used.cached, used.prompt_tokens, used.completion_tokens) == (3, 0, 21, 9)
    assert used.cost == pytest.approx((21 * 2 + 9 * 10) / 1e6)


def test_requests_go_out_together_but_no_more_than_allowed(asking):
    one = asking(delay=0.05, concurrency=3)
    one(*map(str, range(9)))
    assert one.world.most == 3


FAULTS = {
    # what the endpoint does: (faults, kind of error or the answer, words, requests, waits)
    "resets a connection once": (["reset"], "heard: a", "", 2, 1),
    "breaks off its answer once": (["cut"], "heard: a", "", 2, 1),
    "hangs once": (["hang"], "heard: a", "", 2, 1),
    "sends a byte now and then": (["drip"] * 4, SourceError, "within 0.4 s|after 0.4 s", 4, 3),
    "is busy and says how long": (["429"], "heard: a", "", 2, [7.0]),
    "is busy for ever": (["429"] * 4, SourceError, "status 429: slow down (4 tries)", 4, [7.0] * 3),
    "fails once": (["500"], "heard: a", "", 2, 1),
    "shows a page": (["503 page"] * 4, SourceError, "status 503 (4 tries)", 4, 3),
    "sends half of its JSON once": (["half json"], "heard: a", "", 2, 1),
    "sends no JSON": (["not json"] * 4, SourceError, "not JSON", 4, 3),
    "answers without choices": (["no choices"] * 4, SourceError, "an answer without choices", 4, 3),
    "answers in an older form": (["wrong shape"] * 4, SourceError, "holds no message", 4, 3),
    "answers nothing": (["null"], "", "", 1, 0),
    "refuses the key": (["401"], ConfigError, "refused the key", 1, 0),
    "refuses the user": (["403"], ConfigError, "refused the key", 1, 0),
    "knows no such model": (["404"], UsageError, "knows no model 'some-model'", 1, 0),
    "wants shorter requests": (["400"], UsageError, "maximum context length", 1, 0),
    "wants the limit under its new name": (["old limit"] * 2, "new form", "", 2, 0),
    "leads elsewhere": (["redirect"], SourceError, "leads to another address", 1, 0),
    "never ends its answer": (["huge"] * 4, SourceError, "more than 4 MB", 4, 3),
}


@pytest.mark.parametrize("what", FAULTS)
def test_every_fault_ends_as_documented(asking, what):
    faults, result, words, requests, waits = FAULTS[what]
    one = asking(*faults)
    if isinstance(result, str):
        assert one("a")[0].text == result
    else:
        with pytest.raises(result) as caught:
            one("a")
        assert any(word in caught.value.message for word in words.split("|"))
        assert caught.value.hint
        assert caught.value.__context__ is None
    assert len(one.world.asked) == requests
    assert one.waits == waits if isinstance(waits, list) else len(one.waits) == waits
    assert all(0 < w <= 60 for w in one.waits if w)


def test_an_endpoint_that_is_not_there(asking):
    one = asking()
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        one("a", dead=True)
    assert "(4 tries)" in caught.value.message
    assert "run the same command again" in caught.value.hint


def test_what_came_before_a_fault_is_kept(asking):
    one = asking(None, None, "401", concurrency=1)
    with pytest.raises(ConfigError, match="2 of 4 answers came and are kept"):
        one("a", "b", "c", "d")
    assert len(one.world.asked) == 3


def test_a_rerun_asks_nothing_and_costs_nothing(tmp_path):
    world = World()
    with running(world) as address:
        endpoint = Endpoint(address, "m", prompt_price=1.0)
        for asked in (3, 0):
            with Cache(tmp_path / "llm.sqlite") as cache:
                llm = Llm(endpoint, cache)
                found = llm.complete([ask(t) for t in "abc"])
                assert [c.text for c in found] == ["heard: a", "heard: b", "heard: c"]
                assert (llm.usage.asked, llm.usage.cached) == (asked, 3 - asked)
                assert llm.usage.cost == pytest.approx(asked * 7 / 1e6)
                assert {c.is_cached for c in found} == {asked == 0}
        with Cache(tmp_path / "llm.sqlite") as cache:
            offline = Llm(endpoint, cache, offline=True)
            assert offline.complete([ask("a")])[0].text == "heard: a"
            with pytest.raises(SourceError, match="offline, and 1 of 2"):
                offline.complete([ask("a"), ask("z")])
            Llm(Endpoint(address, "other"), cache).complete([ask("a", max_tokens=9), ask("a", temperature=1.0)])
    assert len(world.asked) == 5


def test_batch_files_go_out_and_come_back(tmp_path):
    endpoint = Endpoint("https://example.org/v1", "m")
    with Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(endpoint, cache, collect=True)
        assert [c.text for c in llm.complete([ask("a"), ask("ü 😀"), ask("c")])] == ["", "", ""]
        write_batch(tmp_path / "out.jsonl", llm.collected, "m")
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
        assert {row["url"] for row in rows} == {"/v1/chat/completions"}
        assert rows[1]["body"]["messages"][1]["content"] == "ü 😀"
        back = [
            {"custom_id": r["custom_id"], "error": None,
             "response": {"status_code": 200, "body": {"choices": [{"message": {"content": f"for {n}"}}]}}}
            for n, r in enumerate(rows[:2])
        ]  # fmt: skip
        back.append({"custom_id": rows[2]["custom_id"], "response": {"status_code": 500, "body": {}}, "error": None})
        (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, back)), encoding="utf-8")
        assert read_batch(tmp_path / "in.jsonl", cache) == (2, 1)
        offline = Llm(endpoint, cache, offline=True)
        assert [c.text for c in offline.complete([ask("a"), ask("ü 😀")])] == ["for 0", "for 1"]


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "not JSON"), ("[]", "no answer of a batch"), ('{"custom_id": "x"}', "no answer of a batch"),
     ('{"custom_id": "x", "response": {"body": {"choices": 1}}}', "without choices")],
)  # fmt: skip
def test_a_bad_line_of_a_batch_is_named(tmp_path, line, words):
    good = {"custom_id": "k", "response": {"body": {"choices": [{"message": {"content": "x"}}]}}}
    (tmp_path / "in.jsonl").write_text(json.dumps(good) + "\n" + line + "\n")
    with Cache(tmp_path / "llm.sqlite") as cache:
        with pytest.raises(Exception, match=words) as caught:
            read_batch(tmp_path / "in.jsonl", cache)
        assert "in.jsonl:2" in str(caught.value)
        assert len(cache) == 1
        with pytest.raises(Exception, match="cannot be read"):
            read_batch(tmp_path / "nowhere.jsonl", cache)


@pytest.mark.parametrize(
    ("address", "environment", "error", "words"),
    [
        ("ftp://x/v1", {}, UsageError, "no address"),
        ("https://me:pw@example.org/v1", {}, UsageError, "no address"),
        ("nonsense", {}, UsageError, "no address"),
        ("https://example.org/v1", {}, ConfigError, "no key"),
        ("http://example.org/v1", {"CRS_LLM_KEY": KEY}, ConfigError, "in the open"),
        ("https://example.org/v1", {"OPENAI_API_KEY": "a b"}, ConfigError, "no key has"),
    ],
)
def test_addresses_and_keys_are_checked_before_anything_is_sent(
    tmp_path, monkeypatch, address, environment, error, words
):
    for name in ("CRS_LLM_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Cache(tmp_path / "llm.sqlite") as cache, pytest.raises(error, match=words) as caught:
        Llm(Endpoint(address, "m"), cache)
    assert KEY not in str(caught.value)


def test_a_key_file_must_be_for_its_owner_alone(tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o644)
    world = World()
    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        with pytest.raises(ConfigError, match="mode 0644"):
            Llm(Endpoint(address, "m", key_file=file), cache)
        file.chmod(0o600)
        Llm(Endpoint(address, "m", key_file=file), cache).complete([ask("a")])
    assert world.keys == [f"Bearer {KEY}"]


def test_the_key_is_in_nothing_that_is_said_or_kept(asking, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    said = []
    for fault in ("401", "400", "500", "redirect", "no choices"):
        one = asking(fault, retries=0)
        try:
            one("secret?")
        except (ConfigError, UsageError, SourceError) as error:
            said += ["".join(traceback.format_exception(error)), repr(error), str(error.hint), repr(one.llm)]
            said += [repr(vars(error)), repr(one.llm.describe()), repr(one.llm.usage), repr(one.llm.endpoint)]
    one = asking()
    one("a")
    said += [capfd.readouterr().out, capfd.readouterr().err, caplog.text]
    said += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir() if path.is_file()]
    assert len(said) > 20
    assert not any(KEY in text for text in said)


def test_ctrl_c_ends_at_once_and_loses_nothing(tmp_path):
    world = World(delay=0.05)

    def progress(name, done, total, note=""):
        if done == 5:
            raise KeyboardInterrupt

    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            Llm(Endpoint(address, "m", concurrency=2), cache, progress=progress).complete(
                [ask(str(n)) for n in range(99)]
            )
        assert time.monotonic() - started < 2
        assert 5 <= len(cache) <= 7  # what the two that were under way had brought meanwhile is kept too


KILLED = """
import sys
from pathlib import Path
from crscli.llm import Endpoint, Llm, Message, Request
from crscli.metadata.cache import Cache
with Cache(Path(sys.argv[2])) as cache:
    asked = [Request((Message("user", f"number {n}"),)) for n in range(1000)]
    found = Llm(Endpoint(sys.argv[1], "m", concurrency=8), cache).complete(asked)
    assert [c.text for c in found] == [f"heard: number {n}" for n in range(1000)]
    print("all", flush=True)
"""


def test_a_killed_run_of_a_thousand_requests_repeats_none_that_was_kept(tmp_path):
    world = World(delay=0.002)
    file = tmp_path / "llm.sqlite"
    with running(world) as address:
        command = [sys.executable, "-c", KILLED, address, str(file)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        first = subprocess.Popen(command, env=environment)
        until = time.monotonic() + 60
        while len(world.answered) < 400 and time.monotonic() < until:
            time.sleep(0.005)
        first.send_signal(signal.SIGKILL)
        first.wait()
        asked_before = list(world.asked)
        with Cache(file) as cache:
            endpoint = Endpoint(address, "m")
            keys = {
                f"number {n}": key_of(Request((Message("user", f"number {n}"),)), "m", address) for n in range(1000)
            }
            kept = {text for text, key in keys.items() if cache.get(key)}
            assert endpoint.model == "m"
        assert 300 < len(kept) < 1000
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all\n", done.stderr
    later = world.asked[len(asked_before) :]
    assert kept.isdisjoint(later)
    assert len(later) == len(set(later)) == 1000 - len(kept)
    # What was asked twice is at most what was under way when the process was killed.
    assert len(world.asked) - 1000 <= 8 + len(asked_before) - len(kept)
    assert len(asked_before) - len(kept) <= 16


def test_a_kept_answer_is_an_answer(tmp_path):
    with Cache(tmp_path / "llm.sqlite") as cache:
        cache.put(key_of(ask("a"), "m", "https://example.org/v1"), Reply(200, b'["hi", 1, 2]'))
        found = Llm(Endpoint("https://example.org/v1", "m"), cache, offline=True).complete([ask("a")])
    assert found == [Completion("hi", 1, 2, True)]
