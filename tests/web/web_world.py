"""A catalogue of seven films, a model that ranks them by number, and ways to ask the service about them."""

import json
import re
import time
from contextlib import contextmanager

import numpy as np
from fastapi.testclient import TestClient

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Link
from crscli.recommender import Ranking, Reason
from crscli.session import Host
from crscli.web.access import Settings, Tokens
from crscli.web.app import make_app
from crscli.web.store import Store

ADDRESS = "http://127.0.0.1:8080"
ANNA, BERT = "anna-0123456789abcdef", "bert-0123456789abcdef"
CHAT = "/v1/chat/completions"
NASTY = "<img src=x onerror=alert(1)>"

FILMS = Catalogue(
    [
        Item("1", "Night", 1984, ("Horror",), ("Ann Lee",), plot="A house is haunted.", runtime=95, language="en"),
        Item("2", "Laughs", 1995, ("Comedy",), (), ("Bo Ray",), runtime=150, language="fr"),
        Item("3", "Toys", 2018, ("Animation", "Family"), ("Cy Dee",), runtime=80, language="en"),
        Item("4", "Dunes", 1986, ("Drama",), (), ("Bo Ray", "Ann Lee"), plot="A family crosses a desert."),
        Item("5", "Giggles", 2001, ("Comedy", "Drama"), ("Ann Lee",), ("Bo Ray",), runtime=99, language="en"),
        Item("6", NASTY, 1999, ("<b>Drama</b>",), (NASTY,), plot=NASTY),
        Item("7", "Harbour", 1972, ("Drama",), plot="Two brothers mend a boat."),
    ]
)


class Counting:
    """Ranks all items by number, whatever was said; breaks if two threads are in it at once."""

    tasks = frozenset({"rank"})

    def __init__(self, catalogue=FILMS, seconds=0.0):
        self.catalogue, self.seconds = catalogue, seconds
        self.calls, self._inside = [], 0

    def rank(self, contexts, k):
        with self._alone():
            self.calls.append(len(contexts))
            if any("breaks it" in turn.text for context in contexts for turn in context.turns):
                raise ZeroDivisionError("a bug in the model")
            every = np.arange(len(self.catalogue))[:k]
            return [Ranking(every, -every.astype(np.float32)) for _ in contexts]

    def explain(self, context, item_nums):
        with self._alone():
            return [(Reason("name", f"name {n}", 1.0),) for n in item_nums]

    @contextmanager
    def _alone(self):
        self._inside += 1
        time.sleep(self.seconds)
        assert self._inside == 1, "two threads at once"
        try:
            yield
        finally:
            self._inside -= 1


def links(text, before):
    """Every title in a text."""
    found = [(m.start(), item) for item in FILMS for m in re.finditer(rf"\b{re.escape(item.title)}\b", text)]
    return tuple(Link("item", item.item_id, start, start + len(item.title)) for start, item in sorted(found))


def application(folder, recommender=None, *, tokens=(), now=time.time, **settings):
    host = Host(recommender or Counting(), links, 2)
    limits = {"per_minute": 1e6, "burst": 100_000} | settings
    return make_app(host, Store(folder / "sessions.sqlite", now=now), Settings("blend", Tokens(tokens), **limits))


@contextmanager
def service(folder, recommender=None, *, token=None, **options):
    """A client of a service that keeps its conversations in a folder."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with TestClient(application(folder, recommender, **options), base_url=ADDRESS, headers=headers) as client:
        yield client


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def chat(client, text, session_id=None, **more):
    """What is answered to one message."""
    body = {"messages": [user(text)], **({"session_id": session_id} if session_id else {}), **more}
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def content(completion):
    return completion["choices"][0]["message"]["content"]


def titles(completion):
    return [item["title"] for item in completion["crs"]["items"]]


def refused(answer, status, code=None):
    """Whether an answer is an error as OpenAI's are; gives its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    assert "Traceback" not in answer.text
    return error["message"]


def events(text):
    """The data of server-sent events."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part[6:]) for part in parts]
