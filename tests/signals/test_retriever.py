import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.errors import MachineError
from crscli.signals.retriever import Batch, Design, Network, Retriever, RetrieverSettings, loss_and_gradients
from crscli.signals.talk import Lexicon, Talk

QUICK = RetrieverSettings(width=16, members=2, epochs=20, batch=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def lexicon(catalogue, dialogues):
    return Lexicon.fit(catalogue, dialogues)


@pytest.fixture(scope="module")
def fitted(lexicon, dialogues):
    return Retriever.fit(lexicon, dialogues, settings=QUICK)


def mention(num):
    return Link("item", str(num))


# ---- gradients ------------------------------------------------------------------------------------------------


def random_sparse(rng, shape, density=0.5):
    """The first row is empty."""
    filled = (rng.random(shape) < density) & (np.arange(shape[0]) > 0)[:, None]
    return sp.csr_array(rng.normal(size=shape) * filled)


def small_problem(seed=0):
    """Everything in float64: 5 rows, 9 inputs, 6 items with 4 features, width 3."""
    rng = np.random.default_rng(seed)
    inputs = random_sparse(rng, (5, 9))
    wanted = sp.csr_array(
        np.array(
            [[0.2, 0, 0.1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0.5, 0, 0, 0.5, 0], [0, 0, 0, 0, 0, 2], [1, 0, 0, 0, 0, 0]]
        )
    )
    network = Network(rng.normal(size=(9, 3)), rng.normal(size=(10, 3)), rng.normal(size=6))
    design = Design(random_sparse(rng, (6, 10)), random_sparse(rng, (9, 10), 0.3))
    kept = (rng.random((5, 3)) > 0.4) / 0.6
    return network, design, Batch(inputs, wanted, (np.array([0, 1, 4]), np.array([4, 0, 5])), kept)


def test_the_gradients_are_those_of_finite_differences():
    network, design, batch = small_problem()
    _, gradients, used = loss_and_gradients(network, design, batch)
    reader = np.zeros_like(network.reader)
    reader[used] = gradients.reader
    for name, gradient in (("reader", reader), ("items", gradients.items), ("bias", gradients.bias)):
        array = getattr(network, name)
        found = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            losses = []
            for step in (1e-6, -2e-6, 1e-6):
                array[place] += step
                losses.append(loss_and_gradients(network, design, batch)[0])
            found[place] = (losses[0] - losses[1]) / 2e-6
        np.testing.assert_allclose(gradient, found, atol=1e-7, err_msg=name)


def test_the_loss_is_that_of_a_slow_loop():
    network, design, batch = small_problem(1)
    items = design.composed.toarray() @ network.items
    expected = 0.0
    for row in range(5):
        context = np.zeros(3)
        for column, value in enumerate(batch.inputs.toarray()[row]):
            context += value * (network.reader[column] + design.read_as.toarray()[column] @ network.items)
        scores = items @ (context * batch.kept[row]) + network.bias
        scores[batch.masked[1][batch.masked[0] == row]] = -np.inf
        shares = np.exp(scores) / np.exp(scores).sum()
        wanted = batch.wanted.toarray()[row]
        expected -= (wanted[wanted > 0] * np.log(shares[wanted > 0])).sum()
    assert loss_and_gradients(network, design, batch)[0] == pytest.approx(expected)


# ---- the contract ---------------------------------------------------------------------------------------------


def test_scores_are_log_probabilities_and_the_loss_falls(fitted, lexicon, contexts):
    scores = fitted.scores(Talk(contexts, lexicon))
    assert scores.shape == (len(contexts), len(lexicon.catalogue))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-4)
    for member in (fitted.losses[:20], fitted.losses[20:]):
        assert len(member) == 20
        assert member[-1] < 0.9 * member[0]


def test_a_row_alone_equals_the_row_in_a_batch(fitted, lexicon, contexts):
    together = fitted.scores(Talk(contexts, lexicon))
    alone = [fitted.scores(Talk([context], lexicon))[0] for context in contexts]
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_no_rows_at_all_are_scored(fitted, lexicon):
    assert fitted.scores(Talk([], lexicon)).shape == (0, len(lexicon.catalogue))


def test_a_loaded_retriever_scores_like_the_saved_one(fitted, lexicon, contexts, tmp_path):
    fitted.save(tmp_path)
    terms = json.loads(json.dumps(list(lexicon.vocabulary)))
    loaded = Retriever.load(tmp_path, Lexicon(lexicon.catalogue, terms))
    talk = Talk(contexts, lexicon)
    np.testing.assert_array_equal(loaded.scores(talk), fitted.scores(talk))
    assert loaded.losses == fitted.losses


def test_the_same_seed_gives_the_same_and_another_another(fitted, lexicon, dialogues, contexts):
    talk = Talk(contexts, lexicon)
    again = Retriever.fit(lexicon, dialogues, settings=QUICK)
    np.testing.assert_array_equal(again.scores(talk), fitted.scores(talk))
    other = Retriever.fit(lexicon, dialogues, settings=replace(QUICK, epochs=1), seed=1)
    assert not np.allclose(other.scores(talk), fitted.scores(talk))


def test_progress_is_told_for_every_step(lexicon, dialogues):
    told = []
    settings = replace(QUICK, epochs=1)
    Retriever.fit(lexicon, dialogues, settings=settings, progress=lambda *report: told.append(report))
    steps = len(told) // 2
    assert told[-1] == ("learning to retrieve, 2 of 2", steps, steps)
    assert [done for label, done, _ in told if label.startswith("learning to retrieve, 1 ")] == list(
        range(1, steps + 1)
    )


def test_a_rate_that_is_too_high_is_told(lexicon, dialogues):
    with pytest.raises(MachineError, match="learning to retrieve diverged"), np.errstate(all="ignore"):
        Retriever.fit(lexicon, dialogues, settings=replace(QUICK, learning_rate=1e30))


@pytest.mark.parametrize("given", [[], [Dialogue("d", (Turn("seeker", "hello"), Turn("recommender", "hi")))]])
def test_nothing_to_learn_from_gives_equal_scores(catalogue, contexts, given):
    lexicon = Lexicon.fit(catalogue, given)
    scores = Retriever.fit(lexicon, given, settings=QUICK).scores(Talk(contexts, lexicon))
    assert np.abs(scores + np.log(len(catalogue))).max() < 0.2


# ---- what it learns -------------------------------------------------------------------------------------------

GENRES = ("horror", "comedy", "war")
PEOPLE = ("Ada Alder", "Bo Birch", "Cy Cedar")
ASK = {"horror": "something scary", "comedy": "something funny", "war": "something about soldiers"}


def world(*, metadata=True):
    """12 films: 4 of each genre, the last of each never named by the dialogues; who asks for a genre is given it."""
    items = []
    for num in range(12):
        genre = num % 3
        known = {"genres": (GENRES[genre],), "cast": (PEOPLE[genre],)} if metadata else {}
        items.append(Item(str(num), f"Film{num}", None, **known))
    rng = np.random.default_rng(3)
    dialogues = []
    for num in range(90):
        genre = num % 3
        first, second = (str(3 * place + genre) for place in rng.permutation(3)[:2])
        turns = [Turn("recommender", "hello there"), Turn("seeker", f"hi , i want {ASK[GENRES[genre]]} please")]
        turns += [Turn("recommender", "try @ now", (mention(first),)), Turn("seeker", "seen it")]
        dialogues.append(Dialogue(f"d{num}", (*turns, Turn("recommender", "then @ maybe", (mention(second),)))))
    return Catalogue(items), dialogues


@pytest.fixture(scope="module", params=[True, False], ids=["metadata", "bare"])
def taught(request):
    catalogue, dialogues = world(metadata=request.param)
    lexicon = Lexicon.fit(catalogue, dialogues)
    return request.param, Retriever.fit(lexicon, dialogues, settings=replace(QUICK, popularity=0.0))


def first_items(retriever, count, *turns):
    scores = retriever.scores(Talk([Context(turns)], retriever.lexicon))[0]
    return set(np.argsort(-scores, kind="stable")[:count].tolist())


@pytest.mark.parametrize("genre", range(3))
def test_words_find_items(taught, genre):
    _, retriever = taught
    found = first_items(retriever, 3, Turn("seeker", f"i want {ASK[GENRES[genre]]}"))
    assert found <= {genre, genre + 3, genre + 6, genre + 9}


@pytest.mark.parametrize("genre", range(3))
def test_an_item_that_no_dialogue_names_is_found_by_what_is_known_of_it(taught, genre):
    with_metadata, retriever = taught
    found = first_items(retriever, 4, Turn("seeker", f"i want {ASK[GENRES[genre]]}"))
    assert (found == {genre, genre + 3, genre + 6, genre + 9}) == with_metadata


@pytest.mark.parametrize("genre", range(3))
def test_a_mention_is_read_as_the_item(taught, genre):
    """Also one that no dialogue names, where something is known of it."""
    with_metadata, retriever = taught
    for mentioned in (genre, genre + 9) if with_metadata else (genre,):
        found = first_items(retriever, 4, Turn("seeker", "", (mention(mentioned),)))
        assert len(found & {genre, genre + 3, genre + 6, genre + 9}) >= 3


def test_dialogues_without_text_teach_as_well():
    catalogue, dialogues = world(metadata=False)
    bare = [replace(d, turns=tuple(replace(t, text="") for t in d.turns if t.links)) for d in dialogues]
    retriever = Retriever.fit(Lexicon.fit(catalogue, bare), bare, settings=replace(QUICK, popularity=0.0))
    assert first_items(retriever, 3, Turn("seeker", "", (mention(4),))) <= {1, 4, 7}


def test_unknown_items_in_targets_and_contexts_are_passed_over():
    catalogue, dialogues = world()
    strange = replace(dialogues[0], turns=(*dialogues[0].turns, Turn("seeker", "x", (mention("unknown"),))))
    retriever = Retriever.fit(Lexicon.fit(catalogue, dialogues), [strange, *dialogues[1:]], settings=QUICK)
    assert np.isfinite(retriever.losses).all()
