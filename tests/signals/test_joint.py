"""Every joint signal against a slow, dense form in double precision that says what it means."""

from collections import Counter

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn, cut, merge_turns
from crscli.signals.joint import SIGNALS, JointSettings, JointSignals
from crscli.signals.talk import Lexicon, Talk, terms_of, tokens, turn_tokens

SIZE = 16
WORDS_WEIGHT, RIDGE, WORDS_IN_EASE, SHRINKAGE, DECAY = 1.5, 30.0, 0.8, 10.0, 0.85


@pytest.fixture(scope="module")
def lexicon(catalogue, dialogues):
    return Lexicon.fit(catalogue, dialogues)


@pytest.fixture(scope="module")
def fitted(lexicon, dialogues):
    return JointSignals.fit(lexicon, dialogues)


@pytest.fixture(scope="module")
def scores(fitted, lexicon, contexts):
    return fitted.scores(Talk(contexts, lexicon))


def numbers(items):
    return [int(i) for i in items if i != "unknown"]


def unit(rows):
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-5)


class Slow:
    """The fitted counts and the contexts as dense arrays."""

    def __init__(self, lexicon, dialogues, contexts):
        self.terms = list(lexicon.vocabulary)
        self.lexicon = lexicon
        self.contexts = contexts
        merged = [merge_turns(d.turns) for d in dialogues]
        self.named = np.array([self.marks({n for t in turns for n in numbers(t.items)}) for turns in merged])
        self.words = np.array([self.counts(turns) for turns in merged])
        used = (self.words > 0).sum(axis=0)
        telling = (used >= min(3, len(dialogues) // 10)) & (used <= len(dialogues) / 2)
        self.idf = np.where(telling, np.log(len(dialogues) / used), 0)
        self.of_dialogues = unit((self.words > 0) * self.idf)
        self.weights = np.zeros((len(contexts), SIZE))
        for row, newest_first in enumerate(self.mentions):
            for place, num in enumerate(newest_first):
                self.weights[row, num] = DECAY**place
        self.weights = unit(self.weights * (self.named.sum(axis=0) > 0))
        self.seeker = self.tf_idf([[t for t in c.turns if t.role == "seeker"] for c in contexts])
        self.lately = self.tf_idf([c.turns[-2:] for c in contexts])
        self.everything = unit(np.array([(self.counts(c.turns) > 0) * self.idf for c in contexts]))

    @property
    def mentions(self):
        talk = Talk(self.contexts, self.lexicon)
        return [sorted(seen, key=lambda n: -seen[n][-1][2]) for seen in talk.mentions]

    def marks(self, nums):
        return np.array([float(n in nums) for n in range(SIZE)])

    def counts(self, turns):
        bag = Counter(term for t in turns for term in terms_of(turn_tokens(t)))
        return np.array([float(bag[term]) for term in self.terms])

    def tf_idf(self, groups):
        counts = np.array([self.counts(turns) for turns in groups])
        return unit(np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * self.idf)

    def recommended(self, context):
        return {n for t in context.turns if t.role == "recommender" for n in numbers(t.items)}

    def similarity(self):
        return self.weights @ self.named.T, WORDS_WEIGHT * self.everything @ self.of_dialogues.T


@pytest.fixture(scope="module")
def slow(lexicon, dialogues, contexts):
    return Slow(lexicon, dialogues, contexts)


def test_the_signals_are_these_and_all_of_one_shape(scores, contexts):
    assert list(scores) == list(SIGNALS)
    assert len(SIGNALS) == 23
    for name, values in scores.items():
        assert values.shape == (len(contexts), SIZE)
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all()
        assert np.ptp(values) > 0, f"{name} tells nothing in this world"


def test_popularity_counts_new_targets_in_all_and_by_step(scores, dialogues, contexts, slow):
    steps = np.zeros((3, SIZE))
    for d in dialogues:
        for example in cut(d):
            fresh = set(numbers(example.targets)) - set(numbers(example.context.mentions))
            for num in fresh:
                steps[min(2, len(slow.recommended(example.context))), num] += 1
    total = steps.sum(axis=0)
    assert (steps.sum(axis=1) > 5).all()
    assert np.allclose(scores["popularity"], np.log1p(total))
    share = total / total.sum()
    for row, context in enumerate(contexts):
        own = steps[min(2, len(slow.recommended(context)))]
        wanted = np.log(1e4 * (own + 20 * share) / (own.sum() + 20) + 0.3)
        assert np.allclose(scores["popularity_by_step"][row], wanted, atol=1e-4)


def test_frequency_counts_dialogues(scores, slow):
    assert np.allclose(scores["frequency"], np.log1p(slow.named.sum(axis=0)))
    assert not slow.named[:, 14].any()


def test_cooccurrence_in_one_and_two_steps(scores, slow):
    pairs = slow.named.T @ slow.named
    np.fill_diagonal(pairs, 0)
    shares = pairs / (pairs.sum(axis=1, keepdims=True) + SHRINKAGE)
    assert np.allclose(scores["cooccurrence"], slow.weights @ shares, atol=1e-6)
    assert np.allclose(scores["cooccurrence_two_steps"], slow.weights @ shares @ shares, atol=1e-6)


def test_cooccurrence_with_the_newest_mention_and_with_those_of_the_seeker(scores, slow, contexts):
    pairs = slow.named.T @ slow.named
    np.fill_diagonal(pairs, 0)
    shares = pairs / (pairs.sum(axis=1, keepdims=True) + SHRINKAGE)
    known = slow.named.sum(axis=0) > 0
    for row, (newest_first, context) in enumerate(zip(slow.mentions, contexts, strict=True)):
        theirs = {n for t in context.turns if t.role == "seeker" for n in numbers(t.items)}
        own = [num for num in newest_first if num in theirs]
        for name, nums, decay in (("newest", newest_first, 0.3), ("by_seeker", own, DECAY)):
            weights = np.zeros(SIZE)
            weights[nums] = decay ** np.arange(len(nums))
            assert np.allclose(scores[f"cooccurrence_{name}"][row], unit(weights * known) @ shares, atol=1e-5)


def test_joint_ease_is_the_direct_solution_over_items_and_words(scores, slow):
    """The primal form, (G + ridge)^-1 over items and words with the diagonal divided out: Steck's own equation."""
    table = np.hstack([slow.named, WORDS_WEIGHT * slow.of_dialogues])
    inverse = np.linalg.inv(table.T @ table + RIDGE * np.eye(table.shape[1]))
    weights = np.eye(len(inverse)) - RIDGE * inverse  # = (G + ridge)^-1 G, not yet freed of its diagonal
    context = np.hstack([slow.weights, WORDS_IN_EASE * slow.everything])
    named = slow.named.any(axis=0)
    wanted = (context @ weights[:, :SIZE])[:, named] / (1 - np.diag(weights)[:SIZE][named])
    assert np.allclose(scores["joint_ease"][:, named], wanted, atol=1e-3 * np.abs(wanted).max())
    assert not scores["joint_ease"][:, ~named].any()


@pytest.mark.parametrize("neighbours", [3, 20, 300])
def test_similar_dialogues_vote_by_what_they_have_above_the_first_one_left_out(
    neighbours, fitted, lexicon, contexts, slow
):
    few = JointSignals(lexicon, fitted.arrays, fitted.matrices)
    few.settings = JointSettings(neighbours=neighbours)
    found = few.scores(Talk(contexts, lexicon))["similar_dialogues"]
    for row, similar in enumerate(sum(slow.similarity())):
        nearest = np.argsort(-similar)
        left_out = similar[nearest[min(neighbours, len(similar) - 1)]]
        votes, total = np.zeros(SIZE), 1e-9
        for num in np.flatnonzero(similar >= left_out - 1e-7):
            weight = max(0.0, similar[num] - 0.8 * left_out)
            votes += weight * slow.named[num]
            total += weight
        assert np.allclose(found[row], votes / total, atol=1e-4)


def test_words_with_item_are_shares_of_a_words_dialogues(scores, slow):
    both = ((slow.words > 0) * (slow.idf > 0)).T @ slow.named
    shares = both / (both.sum(axis=1, keepdims=True) + SHRINKAGE)
    assert np.allclose(scores["words_with_item"], slow.seeker @ shares, atol=1e-5)


def test_item_by_words_is_bm25_of_an_items_words(scores, slow):
    both = slow.named.T @ ((slow.words > 0) * (slow.idf > 0))
    lengths = both.sum(axis=1)
    mean = lengths[lengths > 0].mean()
    for num in range(SIZE):
        damp = 1.2 * (1 - 0.5 + 0.5 * lengths[num] / mean)
        weights = np.array([tf * 2.2 / (tf + damp) if tf else 0.0 for tf in both[num]])
        assert np.allclose(scores["item_by_words"][:, num], slow.seeker @ weights, atol=1e-4)


def test_latent_equals_a_full_decomposition(fitted, scores, slow):
    """More dimensions than the table has rank: the randomised decomposition leaves nothing out."""
    damp = 3 / np.sqrt(slow.named.sum(axis=0) + 3)
    table = np.hstack([slow.named * damp, WORDS_WEIGHT * slow.of_dialogues])
    _, strength, directions = np.linalg.svd(table, full_matrices=False)
    assert np.allclose(fitted.arrays["strength"], strength[:128], atol=1e-4)
    named = slow.named.any(axis=0)
    items = unit((directions[:, :SIZE] * strength[:, None]).T)
    by_items = (slow.weights * damp) @ directions[:, :SIZE].T * strength
    by_words = WORDS_WEIGHT * slow.everything @ directions[:, SIZE:].T * strength
    for name, place in {"latent_mentions": by_items, "latent_words": by_words, "latent": by_items + by_words}.items():
        assert np.allclose(scores[name][:, named], (unit(place) @ items.T)[:, named], atol=1e-3)
        assert (scores[name][:, ~named] == -1).all()


def test_few_dimensions_keep_the_strongest_directions(fitted, lexicon):
    few = JointSignals(lexicon, dict(fitted.arrays), fitted.matrices)
    few.settings = JointSettings(dimensions=4)
    few._fit_latent(fitted.matrices["dialogue_items"], fitted.matrices["dialogue_words"], 0)
    assert few.arrays["latent_items"].shape[1] == len(few.arrays["strength"]) == 4
    assert np.allclose(few.arrays["strength"], fitted.arrays["strength"][:4], rtol=0.05)


def test_typed_titles_are_worth_the_words_they_are_made_of(scores, contexts, lexicon, slow):
    known = dict(zip(slow.terms, slow.idf, strict=True))
    worth = np.zeros(SIZE)
    for num, item in enumerate(lexicon.catalogue):
        total = sum(known.get(word, slow.idf.max()) for word in tokens(item.title))
        worth[num] = min(total, 40) if total > 4 else 0
    assert 0 < (worth > 0).sum() < SIZE
    for row, context in enumerate(contexts):
        for name, chosen in {
            "typed_by_seeker": [t for t in context.turns if t.role == "seeker"],
            "typed_by_recommender": [t for t in context.turns if t.role == "recommender"],
            "typed_lately": context.turns[-2:],
        }.items():
            wanted = sum((worth * slow.marks(lexicon.titles_in(turn_tokens(t))) for t in chosen), np.zeros(SIZE))
            assert np.allclose(scores[name][row], wanted, atol=1e-5)


def test_title_words_are_the_cosine_of_words_and_title(scores, lexicon, slow):
    titles = np.zeros((SIZE, len(slow.terms)))
    for num, item in enumerate(lexicon.catalogue):
        for word in tokens(item.title):
            if word in slow.terms:
                titles[num, slow.terms.index(word)] += slow.idf[slow.terms.index(word)]
    assert np.allclose(scores["title_words"], slow.seeker @ unit(titles).T, atol=1e-5)
    assert np.allclose(scores["title_words_lately"], slow.lately @ unit(titles).T, atol=1e-5)


def test_series_counts_mentions_of_the_same_series(scores, slow):
    same = np.eye(SIZE)
    for a, b in ((2, 3), (4, 5), (7, 8)):
        same[a, b] = same[b, a] = 1
    wanted = [same[mentions].sum(axis=0) for mentions in slow.mentions]
    assert np.allclose(scores["series"], wanted)


def test_years_in_decades(scores, lexicon, slow):
    years = [item.year for item in lexicon.catalogue]
    assert np.allclose(scores["year"], [0.8 if y is None else (y - 2000) / 10 for y in years])
    for name, decay in (("year_from_mentions", 1.0), ("year_from_newest", 0.3)):
        for row, mentions in enumerate(slow.mentions):
            pairs = [(decay**place, years[num]) for place, num in enumerate(mentions) if years[num]]
            total = sum(weight for weight, _ in pairs)
            mean = sum(weight * year for weight, year in pairs) / total if pairs else None
            wanted = [1.0 if year is None or mean is None else abs(year - mean) / 10 for year in years]
            assert np.allclose(scores[name][row], wanted, atol=1e-4)


# ---- any row alone, any world ---------------------------------------------------------------------------------


def test_a_context_alone_scores_as_in_a_batch(fitted, lexicon, scores, contexts):
    for row, context in enumerate(contexts[:30]):
        alone = fitted.scores(Talk([context], lexicon))
        for name in SIGNALS:
            assert np.allclose(alone[name][0], scores[name][row], atol=1e-5), name


def test_a_loaded_model_scores_to_the_last_bit_like_the_fitted_one(fitted, lexicon, scores, contexts, tmp_path):
    fitted.save(tmp_path)
    loaded = JointSignals.load(tmp_path, lexicon.catalogue)
    again = loaded.scores(Talk(contexts, loaded.lexicon))
    assert all(np.array_equal(again[name], scores[name]) for name in SIGNALS)
    assert {p.suffix for p in tmp_path.iterdir()} == {".npz", ".json"}


def silent(dialogues):
    """The same mentions without a word."""
    for d in dialogues:
        turns = [Turn(t.role, "", tuple(Link("item", i) for i in t.items)) for t in d.turns]
        yield Dialogue(d.dialogue_id, tuple(turns), order=d.order)


def unnamed(dialogues):
    """The same words without a mention."""
    for d in dialogues:
        yield Dialogue(d.dialogue_id, tuple(Turn(t.role, t.text) for t in d.turns), order=d.order)


@pytest.mark.parametrize(
    ("made", "dead"),
    [
        (lambda ds: list(silent(ds)), {"words_with_item", "item_by_words", "latent_words", "title_words"}),
        (lambda ds: ds[:1], set()),
        (lambda ds: list(unnamed(ds)), {"popularity", "frequency", "cooccurrence", "joint_ease", "similar_dialogues"}),
        (lambda ds: [Dialogue("d", ())], {"popularity", "cooccurrence", "joint_ease"}),
    ],
    ids=["no words", "one dialogue", "no mentions", "one empty dialogue"],
)
def test_poor_worlds_give_finite_scores_and_can_be_saved(made, dead, catalogue, dialogues, contexts, tmp_path):
    learnt = made(dialogues)
    lexicon = Lexicon.fit(catalogue, learnt)
    fitted = JointSignals.fit(lexicon, learnt)
    talk = Talk(contexts, lexicon)
    scores = fitted.scores(talk)
    for name, values in scores.items():
        assert np.isfinite(values).all(), name
        assert name not in dead or not (values > 0).any(), name
    fitted.save(tmp_path)
    loaded = JointSignals.load(tmp_path, catalogue)
    again = loaded.scores(Talk(contexts, loaded.lexicon))
    assert all(np.array_equal(again[name], scores[name]) for name in SIGNALS)
    assert fitted.mention_behind(talk, 0, 3) is None
    assert fitted.word_behind(talk, 0, 3) is None


def test_no_contexts_no_rows(fitted, lexicon):
    assert {values.shape for values in fitted.scores(Talk([], lexicon)).values()} == {(0, SIZE)}


def test_only_the_most_named_items_and_newest_dialogues_are_solved_for(lexicon, dialogues, slow, contexts, monkeypatch):
    monkeypatch.setattr("crscli.signals.joint.ITEMS_AT_MOST", 5)
    monkeypatch.setattr("crscli.signals.joint.DIALOGUES_AT_MOST", 40)
    fitted = JointSignals.fit(lexicon, dialogues)
    count = slow.named[-40:].sum(axis=0)
    assert fitted.arrays["items"].tolist() == sorted(np.argsort(-count, kind="stable")[:5].tolist())
    assert fitted.arrays["joint"].shape == (40, 5)
    found = fitted.scores(Talk(contexts, lexicon))
    outside = np.setdiff1d(np.arange(SIZE), fitted.arrays["items"])
    assert not found["joint_ease"][:, outside].any()
    assert (found["popularity"][:, outside] > 0).any()  # all dialogues count there


# ---- why ------------------------------------------------------------------------------------------------------


def test_the_mention_behind_an_item_cooccurs_most_and_is_the_seekers_if_one_is(fitted, lexicon, contexts, slow):
    pairs = slow.named.T @ slow.named
    np.fill_diagonal(pairs, 0)
    shares = pairs / (pairs.sum(axis=1, keepdims=True) + SHRINKAGE)
    talk = Talk(contexts, lexicon)
    given = 0
    for row, (newest_first, context) in enumerate(zip(slow.mentions, contexts, strict=True)):
        by_seeker = {n for t in context.turns if t.role == "seeker" for n in numbers(t.items)}
        for item in range(SIZE):
            carried = {num: DECAY**place * shares[num, item] for place, num in enumerate(newest_first)}
            carried = {num: weight for num, weight in carried.items() if weight > 0}
            carried = {num: weight for num, weight in carried.items() if num in by_seeker} or carried
            found = fitted.mention_behind(talk, row, item)
            assert (found is None) == (not carried)
            if carried:
                assert carried[found] == pytest.approx(max(carried.values()), rel=1e-5)
                given += 1
    assert given > 100


def test_the_word_behind_an_item_is_the_seekers_strongest_single_one(fitted, lexicon, contexts, slow):
    talk = Talk(contexts, lexicon)
    weights = fitted.matrices["item_by_words"].toarray()
    columns = {int(num): column for column, num in enumerate(fitted.arrays["items"])}
    given = 0
    for row, context in enumerate(contexts[:30]):
        said = {term for t in context.turns if t.role == "seeker" for term in terms_of(turn_tokens(t))}
        for item in range(SIZE):
            found = fitted.word_behind(talk, row, item)
            carried = slow.seeker[row] * weights[:, columns[item]] if item in columns else np.zeros(len(slow.terms))
            carried = np.where([" " in term for term in slow.terms], 0, carried)  # pairs of words read badly
            if carried.max() <= 0:
                assert found is None
            else:
                assert found in said
                assert carried[slow.terms.index(found)] == pytest.approx(carried.max(), rel=1e-4)
                given += 1
    assert given > 100


def test_a_planted_pair_and_a_planted_word_are_found():
    catalogue = Catalogue(Item(str(n), f"Title{n}") for n in range(6))
    dialogues = []
    for num in range(60):
        liked, word = num % 3, ("funny", "scary", "tender")[num % 3]
        turns = (
            Turn("seeker", f"I like {word} films", (Link("item", str(liked)),)),
            Turn("recommender", "Here", (Link("item", str(liked + 3)),)),
        )
        dialogues.append(Dialogue(str(num), turns, order=num))
    lexicon = Lexicon.fit(catalogue, dialogues)
    fitted = JointSignals.fit(lexicon, dialogues)
    said = [
        Context((Turn("seeker", "scary please"),)),
        Context((Turn("seeker", "", (Link("item", "2"), Link("item", "0"))),)),
    ]
    talk = Talk(said, lexicon)
    scores = fitted.scores(talk)
    for name in ("words_with_item", "item_by_words", "latent_words", "joint_ease", "similar_dialogues"):
        assert set(scores[name][0].argsort()[-2:].tolist()) == {1, 4}, name
    for name in ("cooccurrence", "joint_ease", "similar_dialogues", "latent_mentions"):
        assert scores[name][1, 3] > scores[name][1, 5] > scores[name][1, 4], name  # the newest mention weighs most
    assert fitted.word_behind(talk, 0, 4) == "scary"
    assert fitted.mention_behind(talk, 1, 5) == 2
    assert fitted.mention_behind(talk, 1, 4) is None
    assert fitted.word_behind(talk, 1, 5) is None
