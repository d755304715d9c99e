"""Contexts as sparse matrices over words, mentioned items and typed titles, for signals that look at both.

`Lexicon` numbers the words of training dialogues and the titles of a catalogue; `Talk` counts them in contexts.
Nothing here is learnt beyond which words occur.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from crscli.catalogue import Catalogue
from crscli.dialogue import Context, Dialogue, Turn, merge_turns

MARK = "@"
"""Stands for a mentioned item in the words of a turn; no pair of words reaches across it."""

_WORD = re.compile(r"@|[^\W_]+(?:'[^\W\d_]+)?")
_NUMERAL = re.compile(r"\d{1,2}|i{1,3}|iv|vi{0,3}|part|chapter|episode|vol")
_ARTICLES = ("the", "a", "an")
_LONGEST_TITLE = 8
STATE_WIDTH = 7

TURNS_KEPT = 2048
"""Turns whose words and wishes are kept once they are read."""


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers of a text, in any script."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def turn_tokens(turn: Turn) -> list[str]:
    """Words of a turn with every placed mention replaced by MARK.

    So are the people that a recommender names: "Carrie-Anne Moss" in a reply is no word for the film Carrie.
    """
    text = turn.text.replace(MARK, " ")
    masked = ("item", "person") if turn.role == "recommender" else ("item",)
    for link in sorted(turn.links, key=lambda x: -x.start):
        if link.kind in masked and link.start >= 0:
            text = f"{text[: link.start]} {MARK} {text[link.end :]}"
    return tokens(text)


def terms_of(words: Sequence[str]) -> Iterator[str]:
    """Words, and pairs of neighbouring words."""
    yield from (w for w in words if w != MARK)
    yield from (f"{a} {b}" for a, b in pairwise(words) if MARK not in (a, b))


def sparse(
    rows: Sequence[int] | np.ndarray, columns: Sequence[int] | np.ndarray, shape: tuple[int, int], values: object = None
) -> sp.csr_array:
    """A float32 CSR matrix from places; ones where no values are given, equal places are summed."""
    rows, columns = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
    data = np.ones(len(rows), dtype=np.float32) if values is None else np.asarray(values, dtype=np.float32)
    return sp.csr_array((data, (rows, columns)), shape=shape)


def by_column(matrix: sp.csr_array, factors: np.ndarray) -> sp.csr_array:
    """Columns times factors; places that become zero stay."""
    data = matrix.data * factors[matrix.indices].astype(np.float32, copy=False)
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def rows_of_length_1(matrix: sp.csr_array) -> sp.csr_array:
    """Rows divided by their Euclidean length; empty rows stay empty."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    norms = np.sqrt(np.bincount(rows, weights=np.square(matrix.data), minlength=matrix.shape[0]))
    return scaled(matrix, 1.0 / np.where(norms > 0, norms, 1.0))


def scaled(matrix: sp.csr_array, factors: np.ndarray) -> sp.csr_array:
    """Rows times factors."""
    data = matrix.data * np.repeat(factors.astype(np.float32), np.diff(matrix.indptr))
    return sp.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


class Lexicon:
    """The words of training dialogues and the titles of a catalogue.

    `terms` by column, `vocabulary` term -> column; `title_words` words of each title; `typed` words -> items whose
    title they are; `years` (N,) 0 where unknown; `series` (N, groups) which items share a title before colon and
    numerals.
    """

    def __init__(self, catalogue: Catalogue, terms: Iterable[str]) -> None:
        self.catalogue = catalogue
        self.terms = list(terms)
        self.vocabulary = {term: num for num, term in enumerate(self.terms)}
        self.title_words = [[w for w in tokens(item.title) if w != MARK] for item in catalogue]
        self.typed: dict[tuple[str, ...], list[int]] = {}
        for num, words in enumerate(self.title_words):
            for form in {tuple(words), tuple(_without_article(words))} - {()}:
                self.typed.setdefault(form, []).append(num)
        self.years = np.array([item.year or 0 for item in catalogue], dtype=np.float32)
        groups: dict[str, int] = {}
        # A title without a Latin letter or digit shares no series with anything.
        of_item = [groups.setdefault(_series(item.title) or f"#{item.item_id}", len(groups)) for item in catalogue]
        self.series = sparse(range(len(of_item)), of_item, (len(catalogue), len(groups)))

        # A chat asks with the same turns again and again.
        self.read = lru_cache(maxsize=TURNS_KEPT)(self._read)

    def _read(self, turn: Turn) -> tuple[list[str], list[int], set[int]]:
        """The words of a turn, the columns of its terms, and the items whose titles stand in it."""
        words = turn_tokens(turn)
        columns = [self.vocabulary[term] for term in terms_of(words) if term in self.vocabulary]
        return words, columns, self.titles_in(words)

    @classmethod
    def fit(cls, catalogue: Catalogue, dialogues: Sequence[Dialogue], *, least: int = 3) -> "Lexicon":
        """The terms that at least `least` dialogues use, sorted."""
        used: Counter[str] = Counter()
        for dialogue in dialogues:
            used.update({term for turn in merge_turns(dialogue.turns) for term in terms_of(turn_tokens(turn))})
        return cls(catalogue, sorted(term for term, count in used.items() if count >= least))

    def titles_in(self, words: Sequence[str]) -> set[int]:
        """Items whose whole title, with or without its article, stands in the words."""
        found: set[int] = set()
        for start in range(len(words)):
            for end in range(start + 1, min(start + _LONGEST_TITLE, len(words)) + 1):
                found.update(self.typed.get(tuple(words[start:end]), ()))
        return found


def _without_article(words: list[str]) -> list[str]:
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def _series(title: str) -> str:
    words = [w for w in tokens(re.split(r":| - ", title)[0]) if w != MARK]
    while len(words) > 1 and _NUMERAL.fullmatch(words[-1]):
        words.pop()
    return " ".join(_without_article(words))


class Talk:
    """What B contexts say, counted once per distinct turn (T of them).

    `tokens` words of each turn; `words` (T, V) counts; `named` (T, N) mentions; `typed` (T, N) titles typed without a
    mark; `role` (T,) 0 seeker, 1 recommender; `seeker`, `recommender`, `last` (B, T) which turns of a context are the
    seeker's, the recommender's, the last two.
    """

    def __init__(self, contexts: Sequence[Context], lexicon: Lexicon) -> None:
        self.contexts = contexts
        self.lexicon = lexicon
        number: dict[int, int] = {}
        turns: list[Turn] = []
        self.spans: list[list[int]] = []
        for context in contexts:
            span = []
            for turn in context.turns:
                num = number.setdefault(id(turn), len(turns))
                if num == len(turns):
                    turns.append(turn)
                span.append(num)
            self.spans.append(span)
        self.turns = turns
        self.role = np.array([t.role == "recommender" for t in turns], dtype=np.int64)
        self._count()
        places = [(row, num, len(span) - at) for row, span in enumerate(self.spans) for at, num in enumerate(span)]
        self.seeker = self._select((row, num) for row, num, _ in places if not self.role[num])
        self.recommender = self._select((row, num) for row, num, _ in places if self.role[num])
        self.last = self._select((row, num) for row, num, back in places if back <= 2)

    def _count(self) -> None:
        """Words, mentions and typed titles of each turn."""
        words: tuple[list[int], list[int]] = ([], [])
        named: tuple[list[int], list[int]] = ([], [])
        typed: tuple[list[int], list[int]] = ([], [])
        self.lengths = np.zeros(len(self.turns), dtype=np.float32)
        self.tokens: list[list[str]] = []
        for num, turn in enumerate(self.turns):
            found, columns, titles = self.lexicon.read(turn)
            self.tokens.append(found)
            self.lengths[num] = len(found)
            items = dict.fromkeys(self.lexicon.catalogue.vocabulary.nums(turn.items).tolist())
            for (rows, places), values in ((words, columns), (named, items), (typed, titles)):
                rows.extend([num] * len(values))
                places.extend(values)
        turns, size = len(self.turns), len(self.lexicon.catalogue)
        self.words = sparse(*words, (turns, len(self.lexicon.vocabulary)))
        self.named = sparse(*named, (turns, size))
        self.typed = sparse(*typed, (turns, size))

    def _select(self, places: Iterable[tuple[int, int]]) -> sp.csr_array:
        listed = list(places)
        return sparse([r for r, _ in listed], [t for _, t in listed], (len(self.contexts), len(self.turns)))

    @cached_property
    def mentions(self) -> list[dict[int, list[tuple[int, int, int]]]]:
        """For each context: item number -> its mentions as (turn of the context, role, running number)."""
        found = []
        for span in self.spans:
            seen: dict[int, list[tuple[int, int, int]]] = {}
            running = 0
            for at, num in enumerate(span):
                start, end = self.named.indptr[num], self.named.indptr[num + 1]
                for item in self._in_order(num, self.named.indices[start:end]):
                    seen.setdefault(item, []).append((at, int(self.role[num]), running))
                    running += 1
            found.append(seen)
        return found

    def _in_order(self, num: int, items: np.ndarray) -> list[int]:
        """The items of a turn in the order of their last mention in its text."""
        if len(items) < 2:
            return items.tolist()
        nums = self.lexicon.catalogue.vocabulary.nums(self.turns[num].items)
        return list(dict.fromkeys(reversed(nums.tolist())))[::-1]

    def weighted(self, decay: float, *, by_seeker: bool = False) -> sp.csr_array:
        """Mentioned items, or those that the seeker named; the newest weighs 1, the next `decay`, ...: (B, N)."""
        rows, columns, values = [], [], []
        for row, every in enumerate(self.mentions):
            kept = (i for i, at in every.items() if not by_seeker or any(role == 0 for _, role, _ in at))
            age = {item: -every[item][-1][2] for item in kept}
            for place, item in enumerate(sorted(age, key=age.__getitem__)):
                rows.append(row)
                columns.append(item)
                values.append(decay**place)
        return sparse(rows, columns, (len(self.contexts), len(self.lexicon.catalogue)), values)

    @cached_property
    def recommended(self) -> np.ndarray:
        """How many distinct items the recommender has named: (B,)."""
        counts = [sum(any(role for _, role, _ in at) for at in seen.values()) for seen in self.mentions]
        return np.array(counts, dtype=np.int64)

    @cached_property
    def state(self) -> np.ndarray:
        """(B, 7): log mentions, log recommended, log turns, log words of the last turn, whether it names an item, asks
        something, and is the seeker's.
        """
        state = np.zeros((len(self.contexts), STATE_WIDTH), dtype=np.float32)
        state[:, 0] = np.log1p([len(seen) for seen in self.mentions])
        state[:, 1] = np.log1p(self.recommended)
        for row, span in enumerate(self.spans):
            if span:
                last = span[-1]
                named = self.named.indptr[last + 1] > self.named.indptr[last]
                asks = "?" in self.turns[last].text
                state[row, 2:] = np.log1p(len(span)), np.log1p(self.lengths[last]), named, asks, not self.role[last]
        return state
