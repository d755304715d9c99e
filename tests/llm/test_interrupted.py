"""Ctrl-C, a failure and a bug while several requests are under way."""

import time

import pytest
from llm_server import Endpoint as World
from llm_server import running

from crscli.errors import ConfigError
from crscli.llm import Endpoint, Llm, Message, Request
from crscli.metadata.cache import Cache


def ask(*texts):
    return [Request((Message("user", text),)) for text in texts]


def pressed(done, wait=0.0):
    """A progress callback at whose `done`-th call Ctrl-C is pressed, once."""
    calls = []

    def progress(*_):
        calls.append(1)
        if len(calls) == done:
            time.sleep(wait)
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_keeps_what_came_while_nobody_looked(tmp_path):
    world = World()
    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(Endpoint(address, "m", concurrency=4), cache, progress=pressed(1, wait=0.4))
        with pytest.raises(KeyboardInterrupt):
            llm.complete(ask(*map(str, range(30))))
        assert len(cache) == llm.usage.asked >= len(world.answered) - 4
        assert llm.usage.asked > 4
        llm.close()


def test_threads_that_ctrl_c_left_behind_are_not_woken_by_the_next_call(tmp_path):
    world = World(delay=0.15)
    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(Endpoint(address, "m", concurrency=4), cache, progress=pressed(1))
        with pytest.raises(KeyboardInterrupt):
            llm.complete(ask(*(f"old {n}" for n in range(30))))
        asked_before = len(world.asked)
        for n in range(3):
            llm.complete(ask(f"new {n}"))
        llm.close()
    old = [text for text in world.asked[asked_before:] if text.startswith("old")]
    assert len(old) <= 4


def test_who_waits_to_try_again_asks_no_more_when_another_has_failed_for_good(tmp_path):
    world = World(["500", "401"])
    with running(world) as address, Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(Endpoint(address, "m", concurrency=2, retries=9), cache)
        with pytest.raises(ConfigError):
            llm.complete(ask("a", "b"))
        llm.close()
    assert len(world.asked) == 2


def test_a_bug_in_a_thread_is_told_as_what_it_is(tmp_path):
    def broken(seconds):
        raise ZeroDivisionError("a bug")

    with running(World(["500"])) as address, Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(Endpoint(address, "m"), cache, sleep=broken)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            llm.complete(ask("a"))
        llm.close()
