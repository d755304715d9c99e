"""Recommenders that ask a language model behind an endpoint: one names titles, one orders another model's candidates.

Nothing is trained; the counts of popularity are all that is learnt. What an answer does not name follows in an order
that is known, so that any answer gives a ranking of all items.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, Self

import numpy as np

from crscli import metrics
from crscli.catalogue import Catalogue
from crscli.dialogue import Context
from crscli.errors import ConfigError
from crscli.labels import order_of
from crscli.llm import Completer, Request
from crscli.llm.questions import FIELDS, dialogue_text, item_text, order_request, titles_request
from crscli.names import key
from crscli.progress import Progress, silent
from crscli.recommender import FitData, Ranking, Recommender
from crscli.signals.mentions import Popularity
from crscli.titles import TitleReader


def _at_least(config: Any, least: int, names: str) -> None:
    for name in names.split():
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, not {getattr(config, name)}")


@dataclass(frozen=True)
class ZeroShotConfig:
    """Settings of llm-zeroshot."""

    titles: int = 20
    """Titles that are asked for; all that are named count."""
    context_characters: int = 8000
    """Of the dialogue that is shown: the newest whole turns."""
    max_tokens: int = 512
    """Of an answer."""
    fill: str = "popularity"
    """What follows the named items: the others by popularity, or none (then rankings end with what was named)."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "titles context_characters max_tokens")
        if self.fill not in ("popularity", "none"):
            raise ValueError(f"fill must be one of popularity, none, not {self.fill!r}")


@dataclass(frozen=True)
class RerankConfig:
    """Settings of llm-rerank."""

    base: str = "blend"
    """The model whose candidates are ordered."""
    candidates: int = 20
    """How many of its ranking are shown; the rest follows as it was."""
    item_fields: str = "name,genres,directors,cast,plot"
    """What is shown of a candidate, in this order, three names of a cast."""
    plot_characters: int = 200
    """Of a plot that is shown."""
    context_characters: int = 8000
    """Of the dialogue that is shown: the newest whole turns."""
    max_tokens: int = 256
    """Of an answer."""
    shuffle: bool = True
    """Whether candidates are shown in a random order, since models prefer what stands first; one order a context."""
    shuffle_seed: int = 0
    """Of that order."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "candidates plot_characters context_characters max_tokens")
        if unknown := set(self.fields) - set(FIELDS):
            raise ValueError(f"item_fields: {', '.join(sorted(unknown))} unknown; known: {', '.join(FIELDS)}")
        if not {"name", "title"} & set(self.fields):
            raise ValueError("item_fields must hold name or title")

    @property
    def fields(self) -> tuple[str, ...]:
        """What is shown of a candidate."""
        return tuple(name.strip() for name in self.item_fields.split(",") if name.strip())


class _Asking:
    """The counts, the endpoint, and what was counted of its answers since it was given."""

    tasks: frozenset[Literal["rank", "respond"]] = frozenset({"rank"})
    needs_llm: ClassVar[bool] = True
    rows_at_once = 256
    """So many requests go out together."""

    def __init__(self, catalogue: Catalogue, popularity: Popularity, config: Any) -> None:
        self.catalogue = catalogue
        self.popularity = popularity
        self.config = config
        self._llm: Completer | None = None
        self._tally: Counter[str] = Counter()
        self._by_popularity = metrics.top_k(popularity.counts[None], len(catalogue))[0]

    @classmethod
    def fit(
        cls, catalogue: Catalogue, data: FitData, config: Any, *, seed: int = 0, progress: Progress = silent
    ) -> Self:
        """Count what recommenders named."""
        return cls(catalogue, Popularity.fit(catalogue, data.learnable), config)

    def save(self, directory: Path) -> None:
        """Write the counts."""
        self.popularity.save(directory)

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: Any) -> Self:
        """Read the counts."""
        return cls(catalogue, Popularity.load(directory), config)

    def use_llm(self, llm: Completer) -> None:
        """Give the endpoint; what `facts` tells begins anew."""
        self._llm = llm
        self._tally.clear()

    def _answers(self, asked: Sequence[Request]) -> list[str]:
        if self._llm is None:
            raise ConfigError("this model asks a language model, and was given none", _NO_LLM)
        self._tally["answers"] += len(asked)
        return [answer.text for answer in self._llm.complete(asked)] if asked else []

    def _share(self, part: str, whole: str) -> float:
        return self._tally[part] / self._tally[whole] if self._tally[whole] else 0.0


_NO_LLM = "give --llm-base-url URL and --llm-model NAME"


def _ranking(first: Sequence[int], rest: np.ndarray, k: int) -> Ranking:
    """Items in an order, then the others of the rest; a score tells the place alone."""
    named = np.array(first, dtype=np.int64)
    rest = rest[: k + len(named)]  # without the named ones at least k remain, where there are as many
    items = np.concatenate([named, rest[~np.isin(rest, named)]])[:k].astype(np.int64)
    return Ranking(items, -np.arange(len(items), dtype=np.float32))


class LlmZeroShot(_Asking):
    """Asks for titles and finds them in the catalogue.

    The named items come first in the order of the answer, then all others by popularity in training. An answer of 20
    titles tells nothing past place 20: recall@50 is in part that of popularity, and so is recall@10 where few titles
    were found; `fill=none` leaves the others out.

    Source: He et al., Large Language Models as Zero-Shot Conversational Recommenders, CIKM 2023; the prompt is ours
    and asks for years, by which remakes are told apart; titles.TitleReader tells how titles are found.
    """

    config_class = ZeroShotConfig

    def __init__(self, catalogue: Catalogue, popularity: Popularity, config: ZeroShotConfig) -> None:
        super().__init__(catalogue, popularity, config)
        self._reader = TitleReader(catalogue, popularity.counts)

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """One request a context.

        Raises:
            ConfigError: no endpoint was given.
        """
        config = self.config
        dialogues = [dialogue_text(context, config.context_characters) for context in contexts]
        answers = self._answers([titles_request(text, config.titles, config.max_tokens) for text in dialogues])
        rest = self._by_popularity if config.fill == "popularity" else self._by_popularity[:0]
        return [_ranking(self._items(a, c), rest, k) for a, c in zip(answers, contexts, strict=True)]

    def _items(self, answer: str, context: Context) -> list[int]:
        """Items that an answer names, each once; counts what there is to count."""
        mentioned = set(self.catalogue.vocabulary.nums(context.mentions).tolist())
        items: list[int] = []
        seen: set[int | str] = set()
        for named in self._reader.read(answer):
            known = named.item_num >= 0
            same = named.item_num if known else key(named.text)
            if same in seen:
                self._tally["repeated"] += 1
                continue
            seen.add(same)
            if known:
                items.append(named.item_num)
                year = self.catalogue[named.item_num].year
                self._tally["fuzzy"] += named.edits > 0
                self._tally["other_years"] += None not in (year, named.year) and year != named.year
                self._tally["mentioned"] += named.item_num in mentioned
        self._tally.update(titles=len(seen), known=len(items), outside=len(seen) - len(items), empty=not seen)
        return items

    def facts(self) -> dict[str, float | int]:
        """What the answers since `use_llm` were like.

        Titles are counted once an answer. `hallucination_rate` is the share outside the catalogue, of titles that
        exist elsewhere too; `other_years` of found titles differ in the year; `mentioned_share` of found ones is that
        of items which the dialogue has named already.
        """
        tally = self._tally
        return {
            "answers": tally["answers"],
            "answers_without_title": tally["empty"],
            "titles_named": tally["titles"],
            "titles_in_catalogue": tally["known"],
            "hallucination_rate": self._share("outside", "titles"),
            "fuzzy_matches": tally["fuzzy"],
            "other_years": tally["other_years"],
            "repeated_titles": tally["repeated"],
            "mentioned_share": self._share("mentioned", "known"),
        }


class LlmRerank(_Asking):
    """Orders the first candidates of another recommender by a language model that sees all of them at once.

    Whatever is answered gives an order of the same candidates: the named ones as named, then the others as they were;
    then the rest of the other recommender's ranking.

    Source: the ranking step of ReFICR, RecSys 2024, without its training; labels of the list's own, texts of the
    candidates and their random order (against the bias that Hou et al., ECIR 2024, measured) are not in it.
    """

    config_class = RerankConfig
    needs_base: ClassVar[bool] = True

    def __init__(self, catalogue: Catalogue, popularity: Popularity, config: RerankConfig) -> None:
        super().__init__(catalogue, popularity, config)
        self._base: Recommender | None = None

    def use_base(self, recommender: Recommender) -> None:
        """Give the model whose candidates are ordered; it knows the same catalogue."""
        if recommender.catalogue.digest != self.catalogue.digest:
            raise ValueError("the base ranks another catalogue")
        self._base = recommender

    def rank(self, contexts: Sequence[Context], k: int) -> list[Ranking]:
        """One request a context.

        Raises:
            ConfigError: no endpoint or no base was given.
        """
        if self._base is None:
            raise ConfigError(
                "llm-rerank orders the candidates of another model, and was given none",
                f"train one: crs train --model {self.config.base}",
            )
        bases = [r.item_nums for r in self._base.rank(contexts, max(k, self.config.candidates))]
        shown = [self._shown(c, base) for c, base in zip(contexts, bases, strict=True)]
        answers = self._answers([self._request(c, items) for c, items in zip(contexts, shown, strict=True)])
        rankings = []
        for base, items, answer in zip(bases, shown, answers, strict=True):
            if len(base) < k:
                base = np.concatenate([base, self._by_popularity[~np.isin(self._by_popularity, base)]])
            rankings.append(_ranking(self._order(answer, items), base, k))
        return rankings

    def _shown(self, context: Context, base: np.ndarray) -> list[int]:
        """The candidates in the order in which the prompt shows them."""
        items = [int(item) for item in base[: self.config.candidates]]
        if self.config.shuffle:
            said = "\n".join(f"{turn.role}: {turn.text}" for turn in context.turns)
            text = f"{self.config.shuffle_seed}\n{said}".encode("utf-8", "surrogatepass")
            Random(int.from_bytes(hashlib.sha256(text).digest())).shuffle(items)
        return items

    def _request(self, context: Context, items: Sequence[int]) -> Request:
        config = self.config
        texts = [item_text(self.catalogue[item], config.fields, config.plot_characters) for item in items]
        return order_request(dialogue_text(context, config.context_characters), texts, config.max_tokens)

    def _order(self, answer: str, items: Sequence[int]) -> list[int]:
        """The named candidates; the ones that are not named stand in the base's order behind them."""
        order = order_of(answer, [self.catalogue[item] for item in items])
        self._tally.update(
            complete=len(order.labels) == len(items),
            unparsable=not order.labels,
            invented=order.invented,
            repeated=order.repeated,
        )
        return [items[label - 1] for label in order.labels]

    def facts(self) -> dict[str, float | int]:
        """What the answers since `use_llm` were like: labels named twice or that no candidate has, and gaps."""
        return {
            "answers": self._tally["answers"],
            "complete_share": self._share("complete", "answers"),
            "unparsable_answers": self._tally["unparsable"],
            "invented_labels": self._tally["invented"],
            "repeated_labels": self._tally["repeated"],
        }
