import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from web_world import FILMS, Counting, chat, service, titles

from crscli.dialogue import Context, Turn
from crscli.recommender import Ranking
from crscli.web.batching import Batched


def context(text):
    return Context((Turn("seeker", text),))


class Shifted(Counting):
    """Each context has a ranking of its own."""

    def rank(self, contexts, k):
        super().rank(contexts, k)
        orders = [np.roll(np.arange(len(self.catalogue)), int(c.turns[0].text.split()[0]))[:k] for c in contexts]
        return [Ranking(order, -np.arange(len(order), dtype=np.float32)) for order in orders]


def asked_together(batched, asked):
    """What each of several threads gets, its error if there is one."""
    ready = threading.Barrier(len(asked))

    def ask(texts, k):
        ready.wait()
        try:
            return [r.item_nums.tolist() for r in batched.rank([context(t) for t in texts], k)]
        except ZeroDivisionError as error:
            return error

    with ThreadPoolExecutor(len(asked)) as threads:
        return list(threads.map(lambda one: ask(*one), asked))


def test_calls_that_come_together_are_one_batch_with_the_results_of_each_alone():
    asked = [([str(num)], 7) for num in range(6)] + [(["1", "2"], 7), (["3"], 3), ([], 7)]
    inner = Shifted()
    batched = Batched(inner, wait_s=0.1)
    found = asked_together(batched, asked)
    assert found == [[r.item_nums.tolist() for r in Shifted().rank([context(t) for t in ts], k)] for ts, k in asked]
    assert sorted(inner.calls) == [1, 8]  # one for each k
    assert (batched.batches, batched.rows) == (2, 9)


def test_a_batch_has_a_size():
    inner = Shifted()
    asked_together(Batched(inner, wait_s=0.1, rows_at_most=4), [([str(n)], 7) for n in range(10)])
    assert sum(inner.calls) == 10
    assert max(inner.calls) <= 4
    assert len(Batched(inner, rows_at_most=4).rank([context("1")] * 6, 7)) == 6  # one caller's are never parted


def test_an_error_reaches_the_caller_whose_context_causes_it():
    found = asked_together(Batched(Shifted(), wait_s=0.1), [(["1"], 7), (["2 breaks it"], 7), (["3"], 7)])
    assert [isinstance(f, ZeroDivisionError) for f in found] == [False, True, False]
    assert found[0] == [[6, 0, 1, 2, 3, 4, 5]]


def test_what_arrives_while_the_model_works_is_the_next_batch():
    inner = Shifted(seconds=0.15)
    batched = Batched(inner, wait_s=0.0)
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(batched.rank, [context("1")], 7)
        while not inner._inside:
            pass
        rest = [threads.submit(batched.rank, [context(str(n))], 7) for n in range(5)]
        for call in (first, *rest):
            call.result()
    assert inner.calls == [1, 5]


def test_one_thread_at_a_time_is_in_the_model():
    batched = Batched(Counting(seconds=0.005), wait_s=0.0)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(batched.explain, context("a"), [0]) for _ in range(8)]
        calls += [threads.submit(batched.rank, [context("a")], 7) for _ in range(8)]
        for call in calls:
            call.result()


def test_it_is_the_model_in_all_else():
    inner = Counting()
    batched = Batched(inner)
    assert (batched.catalogue, batched.tasks, batched.seconds) == (FILMS, inner.tasks, 0.0)
    assert not hasattr(batched, "respond")
    with pytest.raises(AttributeError):
        _ = batched.nothing


def test_the_service_answers_many_at_once_as_one_by_one(tmp_path):
    wanted = {"a comedy": ["Laughs", "Giggles"], "something from the 80s": ["Night", "Dunes"], "horror": ["Night"]}
    inner = Counting(seconds=0.01)
    with service(tmp_path, inner) as client, ThreadPoolExecutor(12) as threads:
        asked = list(wanted) * 8
        found = list(threads.map(lambda text: titles(chat(client, text)), asked))
    assert [titles_[: len(wanted[text])] for text, titles_ in zip(asked, found, strict=True)] == [
        wanted[t] for t in asked
    ]
    assert len(inner.calls) < len(asked)


def test_requests_on_one_session_are_taken_one_after_the_other(tmp_path):
    with service(tmp_path, Counting(seconds=0.003)) as client, ThreadPoolExecutor(6) as threads:
        session_id = chat(client, "Hi")["crs"]["session_id"]
        list(threads.map(lambda num: chat(client, f"a comedy, {num}", session_id), range(12)))
        turns = client.get(f"/v1/sessions/{session_id}").json()["turns"]
    assert [t["role"] for t in turns] == ["user", "assistant"] * 13
    assert sorted(t["text"] for t in turns[2::2]) == sorted(f"a comedy, {num}" for num in range(12))
