from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn, merge_turns
from crscli.signals.talk import Lexicon, Talk, terms_of, tokens, turn_tokens


def slow_words(text):
    """Runs of letters and digits; an apostrophe holds if letters stand on both of its sides."""
    words, word = [], ""
    text = text.lower().replace("\u2019", "'")
    for at, letter in enumerate(text):
        inside = letter == "'" and word and "'" not in word and text[at + 1 : at + 2].isalpha()
        if letter.isalnum() or inside:
            word += letter
        else:
            words, word = words + [word] * bool(word), ""
    return words + [word] * bool(word)


def pieces(turn):
    """The words of a turn between its placed mentions."""
    links = sorted((x for x in turn.links if x.kind == "item" and x.start >= 0), key=lambda x: x.start)
    bounds = [0, *(edge for x in links for edge in (x.start, x.end)), len(turn.text)]
    return [slow_words(turn.text[start:end]) for start, end in zip(bounds[::2], bounds[1::2], strict=True)]


def slow_terms(turn):
    """Words and pairs of neighbours, none across a mention."""
    found = Counter()
    for words in pieces(turn):
        found.update(words)
        found.update(" ".join(pair) for pair in pairwise(words))
    return found


def slow_typed(turn, catalogue):
    """Items whose title, with or without its article, stands in the words outside mentions."""
    found = set()
    for num, item in enumerate(catalogue):
        title = slow_words(item.title)
        short = title[1:] if len(title) > 1 and title[0] in ("the", "a", "an") else title
        for words in pieces(turn):
            for form in (title, short):
                starts = range(len(words) - len(form) + 1)
                if form and any(words[s : s + len(form)] == form for s in starts):
                    found.add(num)
    return found


@pytest.fixture(scope="module")
def lexicon(catalogue, dialogues):
    return Lexicon.fit(catalogue, dialogues)


@pytest.fixture(scope="module")
def talk(lexicon, contexts):
    return Talk(contexts, lexicon)


def row(matrix, num):
    """A row of a sparse matrix as column -> value."""
    dense = matrix[[num], :].toarray().ravel()
    return {int(c): float(dense[c]) for c in np.flatnonzero(dense)}


def test_the_lexicon_holds_the_terms_of_at_least_three_dialogues_sorted(lexicon, dialogues):
    used = Counter(term for d in dialogues for term in {t for x in merge_turns(d.turns) for t in slow_terms(x)})
    assert list(lexicon.vocabulary) == sorted(t for t, count in used.items() if count >= 3)
    assert any(" " in term for term in lexicon.vocabulary)
    assert min(used.values()) < 3


def test_words_mentions_and_typed_titles_of_a_turn_equal_a_slow_loop(talk, lexicon, catalogue):
    assert len(talk.turns) > 60
    typed = 0
    for num, turn in enumerate(talk.turns):
        known = {lexicon.vocabulary[t]: c for t, c in slow_terms(turn).items() if t in lexicon.vocabulary}
        assert row(talk.words, num) == known
        assert row(talk.named, num) == {int(i): 1 for i in turn.items if i in catalogue}
        wanted = slow_typed(turn, catalogue)
        assert row(talk.typed, num) == dict.fromkeys(wanted, 1)
        typed += len(wanted)
        assert talk.role[num] == (turn.role == "recommender")
    assert typed > 40


def test_a_turn_that_contexts_share_is_counted_once(lexicon, contexts):
    shared = Turn("seeker", "quiet night")
    equal = Turn("seeker", "quiet night")
    found = Talk([Context((shared,)), Context((shared, Turn("recommender", "no"))), Context((equal,))], lexicon)
    assert len(found.turns) == 3  # the equal one is another turn
    words = (found.seeker @ found.words).toarray()
    assert np.array_equal(words[0], words[1])
    assert np.array_equal(words[0], words[2])
    assert words[0].sum() > 0
    every = {id(t) for c in contexts for t in c.turns}
    assert len(Talk(contexts, lexicon).turns) == len(every) < sum(len(c.turns) for c in contexts)


def test_a_contexts_turns_are_told_apart_by_role_and_age(talk, contexts):
    for num, context in enumerate(contexts):
        parts = {
            "seeker": [t for t in context.turns if t.role == "seeker"],
            "recommender": [t for t in context.turns if t.role == "recommender"],
            "last": context.turns[-2:],
        }
        known = talk.lexicon.vocabulary
        for name, turns in parts.items():
            wanted = sum((slow_terms(t) for t in turns), Counter())
            found = row(getattr(talk, name) @ talk.words, num)
            assert found == {known[t]: c for t, c in wanted.items() if t in known}


def test_mentions_are_those_of_the_context_newest_first(talk, contexts, catalogue):
    weighted = talk.weighted(0.5)
    assert sum(len(c.mentions) > 2 for c in contexts) > 10
    for num, context in enumerate(contexts):
        known = [int(i) for i in context.mentions if i in catalogue]
        seen = talk.mentions[num]
        newest_first = sorted(seen, key=lambda item: -seen[item][-1][2])
        if all(len(t.items) == len(set(t.items)) for t in context.turns):
            assert newest_first == known
        assert row(weighted, num) == {item: 0.5**place for place, item in enumerate(newest_first)}
        by_recommender = {i for t in context.turns if t.role == "recommender" for i in t.items}
        assert talk.recommended[num] == len(by_recommender - {"unknown"})
        for item, places in seen.items():
            turns = [(at, t.role) for at, t in enumerate(context.turns) if str(item) in t.items]
            assert [(at, ("seeker", "recommender")[role]) for at, role, _ in places] == turns


def test_the_state_tells_length_mentions_and_the_last_turn(talk, contexts, catalogue):
    for state, context in zip(talk.state, contexts, strict=True):
        known = {i for i in context.mentions if i in catalogue}
        by_recommender = {i for t in context.turns if t.role == "recommender" for i in t.items} & known
        wanted = [np.log1p(len(known)), np.log1p(len(by_recommender)), 0, 0, 0, 0, 0]
        if context.turns:
            last = context.turns[-1]
            placed = sum(link.kind == "item" and link.start >= 0 for link in last.links)
            words = sum(len(p) for p in pieces(last)) + placed  # a mention counts as a word
            named = any(i in catalogue for i in last.items)
            wanted[2:] = [np.log1p(len(context.turns)), np.log1p(words), named, "?" in last.text, last.role == "seeker"]
        assert np.allclose(state, wanted)
    assert talk.state.std(axis=0).min() > 0


def test_tokens_by_hand():
    assert tokens("I'd SEE it\u2014don\u2019t! 'x' 12-34") == ["i'd", "see", "it", "don't", "x", "12", "34"]
    turn = Turn("seeker", "a@b saw Up now", (Link("item", "7", 8, 10), Link("genre", "x", 0, 3), Link("item", "9")))
    assert turn_tokens(turn) == ["a", "b", "saw", "@", "now"]
    assert list(terms_of(turn_tokens(turn))) == ["a", "b", "saw", "now", "a b", "b saw"]


def test_series_share_what_stands_before_a_colon_and_numerals(lexicon):
    grid = (lexicon.series @ lexicon.series.T).toarray()
    groups = {tuple(np.flatnonzero(line).tolist()) for line in grid}
    assert {g for g in groups if len(g) > 1} == {(2, 3), (4, 5), (7, 8)}


def test_titles_without_latin_letters_are_no_series():
    titles = ["七人", "東京", "...", "III", "Part", "Rocky", "Rocky II", "The Rocky: A Return", "Rocky - Two", "Part 2"]
    found = Lexicon(Catalogue(Item(str(n), t) for n, t in enumerate(titles)), [])
    grid = (found.series @ found.series.T).toarray()
    groups = {tuple(np.flatnonzero(line).tolist()) for line in grid}
    assert groups == {(0,), (1,), (2,), (3,), (4, 9), (5, 6, 7, 8)}


def test_long_titles_are_found_up_to_eight_words():
    eight, nine = "one two three four five six seven eight", "one two three four five six seven eight nine"
    lexicon = Lexicon(Catalogue([Item("0", eight), Item("1", nine), Item("2", "The " + eight)]), [])
    assert lexicon.titles_in(f"so {nine} it is".split()) == {0, 2}
    assert lexicon.titles_in([]) == set()


def test_no_contexts_no_dialogues_no_words(catalogue):
    lexicon = Lexicon.fit(catalogue, [])
    assert lexicon.vocabulary == {}
    assert Lexicon.fit(catalogue, [Dialogue("d", ())]).vocabulary == {}
    empty = Talk([], lexicon)
    assert (empty.words.shape, empty.named.shape, empty.seeker.shape) == ((0, 0), (0, len(catalogue)), (0, 0))
    assert empty.mentions == []
    assert empty.weighted(0.5).shape == (0, len(catalogue))
    assert empty.state.shape == (0, 7)
