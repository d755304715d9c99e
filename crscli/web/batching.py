"""A recommender that several threads may ask at once: what arrives together is ranked as one batch."""

import time
from collections.abc import Callable, Sequence
from functools import wraps
from threading import Event, Lock
from typing import Any

from crscli.dialogue import Context
from crscli.recommender import Ranking

WAIT_S = 0.003
"""How long the first of a batch waits for others; little beside the ranking itself."""
ROWS_AT_MOST = 32


class _Call:
    """What one caller asks, and what comes of it."""

    def __init__(self, contexts: Sequence[Context], k: int) -> None:
        self.contexts, self.k = contexts, k
        self.done = Event()
        self.rankings: list[Ranking] = []
        self.error: Exception | None = None


class Batched:
    """A model as it is, except that only one thread at a time is in it, and that `rank` calls are joined.

    A row's result never depends on its batch mates, so that joining changes nothing but the time it takes.
    """

    def __init__(self, inner: Any, *, wait_s: float = WAIT_S, rows_at_most: int = ROWS_AT_MOST) -> None:
        """Wrap a model.

        Args:
            inner: any Recommender.
            wait_s: how long the first caller waits for others.
            rows_at_most: contexts of one call of the model.
        """
        self.inner = inner
        self.catalogue, self.tasks = inner.catalogue, inner.tasks
        self.batches = self.rows = 0
        self._wait_s, self._rows_at_most = wait_s, rows_at_most
        self._waiting: list[_Call] = []
        self._door, self._model = Lock(), Lock()

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """As the model's own; an error reaches only the caller whose contexts cause it."""
        call = _Call(contexts, k)
        with self._door:
            self._waiting.append(call)
            is_first = len(self._waiting) == 1
        if is_first:
            time.sleep(self._wait_s)
            with self._model:  # while another batch is in the model, this one grows
                with self._door:
                    calls, self._waiting = self._waiting, []
                try:
                    self._answer(calls)
                finally:
                    for waiting in calls:
                        waiting.done.set()
        call.done.wait()
        if call.error is not None:
            raise call.error
        return call.rankings

    def _answer(self, calls: Sequence[_Call]) -> None:
        for k in dict.fromkeys(call.k for call in calls):
            joined: list[_Call] = []
            for call in (c for c in calls if c.k == k):
                if joined and sum(len(c.contexts) for c in (*joined, call)) > self._rows_at_most:
                    self._rank(joined, k)
                    joined = []
                joined.append(call)
            self._rank(joined, k)

    def _rank(self, calls: Sequence[_Call], k: int) -> None:
        contexts = [context for call in calls for context in call.contexts]
        try:
            rankings = self.inner.rank(contexts, k)
        except Exception as error:  # whatever it is, it is its caller's
            if len(calls) == 1:
                calls[0].error = error
            else:
                for call in calls:
                    self._rank([call], k)
            return
        self.batches += 1
        self.rows += len(contexts)
        for call in calls:
            call.rankings, rankings = rankings[: len(call.contexts)], rankings[len(call.contexts) :]

    def __getattr__(self, name: str) -> Any:
        """All else that the model has; its methods are taken one at a time."""
        if name == "inner":
            raise AttributeError(name)  # a copy that is not filled yet
        value = getattr(self.inner, name)
        return self._alone(value) if callable(value) else value

    def _alone(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            with self._model:
                return method(*args, **options)

        return call
