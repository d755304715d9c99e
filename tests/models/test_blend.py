from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn, cut
from crscli.errors import DataError
from crscli.models import blend
from crscli.models.blend import Blend, BlendConfig
from crscli.recommender import FitData
from crscli.signals import features
from crscli.signals.features import COPY_FEATURES, FEATURES, GROUPS
from crscli.signals.talk import Talk
from crscli.steps.evaluate import evaluate
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.steps.train import train
from crscli.workspace import Workspace

KINDS = ("scary", "funny", "tender")
SIZE = 30


def link(num, at=-1):
    return Link("item", str(num), at, at + len(f"Title{num}") if at >= 0 else -1)


def dialogue(num, rng, order=True):
    """A seeker names a kind of film and one film of it; the recommender answers with others of that kind."""
    kind = int(rng.integers(3))
    liked, first, second = (int(n) for n in rng.permutation(SIZE // 3)[:3] * 3 + kind)
    turns = (
        Turn("seeker", f"I want {KINDS[kind]} films like Title{liked}", (link(liked, 19 + len(KINDS[kind])),)),
        Turn("recommender", f"Then see Title{first}", (link(first, 9),)),
        Turn("seeker", f"Seen, more {KINDS[kind]} ones?"),
        Turn("recommender", f"Well: Title{second}", (link(second, 6),)),
    )
    return Dialogue(f"d{num}", turns, order=num if order else None, recommender_id=f"w{num // 3}")


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue(Item(str(n), f"Title{n}", 1990 + n) for n in range(SIZE))


@pytest.fixture(scope="module")
def dialogues():
    rng = np.random.default_rng(4)
    return [dialogue(num, rng) for num in range(150)]


QUICK = BlendConfig(seeds=1, epochs=8, learning_rate=5e-3, stacking="blocks", negatives=0.35)


@pytest.fixture(scope="module")
def fitted(catalogue, dialogues):
    return Blend.fit(catalogue, FitData(dialogues[:120], dialogues[120:140]), QUICK)


@pytest.fixture(scope="module")
def rows(dialogues):
    return [e for d in dialogues[140:] for e in cut(d)]


def kinds_of(nums):
    return [int(n) % 3 for n in nums]


# ---- what is learnt from what ---------------------------------------------------------------------------------


def bare(num, worker, order=None):
    return Dialogue(f"d{num}", (Turn("seeker", "hi"),), order=order, recommender_id=worker)


def workers(dialogues):
    return {d.recommender_id for d in dialogues} - {None}


def test_blocks_follow_in_time_and_learn_from_earlier_dialogues_of_other_recommenders():
    rng = np.random.default_rng(0)
    told = [bare(num, None if num % 7 == 0 else f"w{rng.integers(90)}", num) for num in range(200)]
    sequences = [bare(1000 + num, None, num) for num in range(0, 200, 2)]
    mixed = [told[n] for n in rng.permutation(200)]
    parts = list(blend._parts(mixed, sequences, BlendConfig(stacking="blocks"), seed=0))
    assert len(parts) == 4
    held_out = [d for _, part in parts for d in part]
    assert held_out == told[76:]  # disjoint, complete past the base share, in time
    for learnt, part in parts:
        assert learnt
        assert not workers(learnt) & workers(part)
        start = part[0].order
        assert max(d.order for d in learnt) < start
        assert [d.order for d in learnt] == sorted(d.order for d in learnt)
        assert [d for d in learnt if d in sequences] == [s for s in sequences if s.order < start]
        kept = {d.dialogue_id for d in told[:start] if d.recommender_id not in workers(part)}
        assert {d.dialogue_id for d in learnt if d not in sequences} == kept


@pytest.mark.parametrize("in_time", [True, False])
def test_folds_are_drawn_by_recommender_and_learn_from_all_the_others(in_time):
    told = [bare(num, None if num % 3 == 0 else f"w{num % 17}", num if in_time else None) for num in range(90)]
    sequences = [bare(1000, None)]
    config = BlendConfig(stacking="folds" if in_time else "blocks", parts=5)
    parts = list(blend._parts(told, sequences, config, seed=1))
    assert len(parts) == 5
    assert Counter(d.dialogue_id for _, part in parts for d in part) == Counter(d.dialogue_id for d in told)
    for learnt, part in parts:
        assert not workers(learnt) & workers(part)
        assert len(learnt) + len(part) == len(told) + len(sequences)
        assert sequences[0] in learnt
        assert 8 <= len(part) <= 30
    other = list(blend._parts(told, sequences, config, seed=2))
    assert [p for _, p in parts] != [p for _, p in other]


def test_a_sequence_without_a_time_is_in_no_block_that_might_be_earlier():
    told = [bare(num, None, num) for num in range(40)]
    for learnt, _ in blend._parts(told, [bare(1000, None)], BlendConfig(stacking="blocks"), seed=0):
        assert "d1000" not in {d.dialogue_id for d in learnt}


def test_no_dialogues_no_parts():
    assert list(blend._parts([], [], BlendConfig(stacking="blocks"), seed=0)) == []


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("stacking", ["blocks", "folds"])
def test_few_recommenders_who_hold_everything_are_no_hindrance(catalogue, workers, stacking):
    rng = np.random.default_rng(0)
    alike = [replace(dialogue(num, rng), recommender_id=f"w{num % workers}") for num in range(60)]
    model = Blend.fit(catalogue, FitData(alike), BlendConfig(ranker="linear", stacking=stacking))
    assert len(model.log["parts"]) == 4


@pytest.mark.parametrize("order", [True, False])
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_dialogues_are_told(catalogue, order, count):
    rng = np.random.default_rng(0)
    few = [dialogue(num, rng, order) for num in range(count)]
    with pytest.raises(DataError, match=f"{count} dialogues are too few") as refused:
        Blend.fit(catalogue, FitData(few), QUICK)
    assert "some dozens" in refused.value.hint


def test_dialogues_that_name_nothing_are_told(catalogue):
    silent = [Dialogue(f"d{n}", (Turn("seeker", "hello"), Turn("recommender", "hello")), order=n) for n in range(40)]
    with pytest.raises(DataError, match="40 dialogues are too few"):
        Blend.fit(catalogue, FitData(silent), QUICK)


# ---- candidates and features ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(fitted, rows):
    return features.candidates(fitted.signals, Talk([e.context for e in rows], fitted.signals.lexicon))


def test_candidates_hold_every_mentioned_item_and_none_twice(found, rows):
    for row, example in enumerate(rows):
        own = found.items[found.starts[row] : found.starts[row + 1]]
        assert len(set(own.tolist())) == len(own)
        assert own.tolist() == sorted(own.tolist())
        assert {int(i) for i in example.context.mentions} <= set(own.tolist())
    assert len(found.starts) == len(rows) + 1


def test_candidates_are_the_tops_of_the_signals(fitted, rows, monkeypatch):
    small = {name: replace(f, top=min(f.top, 2)) for name, f in FEATURES.items()}
    monkeypatch.setattr(features, "FEATURES", small)
    talk = Talk([e.context for e in rows], fitted.signals.lexicon)
    found = features.candidates(fitted.signals, talk, always=np.array([7]))
    scores = fitted.signals.scores(talk)
    for row, example in enumerate(rows):
        mentioned = {int(i) for i in example.context.mentions}
        wanted = mentioned | {7}
        for name, feature in small.items():
            free = [(-v, n) for n, v in enumerate(scores[name][row].tolist()) if n not in mentioned and v > 0]
            wanted |= {n for _, n in sorted(free)[: feature.top]}
        own = slice(found.starts[row], found.starts[row + 1])
        assert set(found.items[own].tolist()) == wanted
        assert len(wanted) < SIZE
        for column, name in enumerate(FEATURES):
            assert np.array_equal(found.values[own, column], scores[name][row][found.items[own]])
            assert found.highest[row, column] == found.values[own, column].max()


def test_copy_features_equal_a_slow_loop(found, rows):
    for row, example in enumerate(rows):
        turns = example.context.turns
        for num in range(found.starts[row], found.starts[row + 1]):
            item = str(found.items[num])
            places = [at for at, turn in enumerate(turns) if item in turn.items]
            wanted = dict.fromkeys(COPY_FEATURES, 0.0)
            if places:
                roles = {turns[at].role for at in places}
                newest_first = list(example.context.mentions)
                wanted = {
                    "is_mentioned": 1,
                    "turns_since": np.log1p(len(turns) - 1 - places[-1]),
                    "times": np.log(len(places)),
                    "by_seeker": "seeker" in roles,
                    "by_recommender": "recommender" in roles,
                    "newer_mentions": np.log1p(newest_first.index(item)),
                    "in_last_turn": places[-1] == len(turns) - 1,
                    "in_turn_before": places[-1] == len(turns) - 2,
                }
            assert np.allclose(found.copied[num], list(wanted.values()))


@pytest.mark.parametrize("crossed", [True, False])
def test_every_column_of_the_features_has_a_name_and_a_kind(found, fitted, crossed):
    values = features.features_of(found, fitted.floors, crossed)
    names = features.columns(crossed)
    assert values.shape == (len(found.items), len(names))
    assert set(names) == {*FEATURES, *COPY_FEATURES}
    assert {features.kind_of(name) for name in names} == set(get_args(features.ReasonKind))
    assert {feature.group for feature in FEATURES.values()} == set(GROUPS) - {"copy and state"}
    assert np.isfinite(values).all()
    assert len(names) == 46 + 2 * 22 + 8 + crossed * (5 * 7 + 3 * 7)


def test_features_of_a_scaled_signal_are_its_value_logarithm_and_share_of_the_highest(found, fitted):
    values = features.features_of(found, fitted.floors, False)
    names = features.columns(False)
    of_row = np.repeat(np.arange(len(found.starts) - 1), np.diff(found.starts))
    for num, name in enumerate(FEATURES):
        columns = [c for c, other in enumerate(names) if other == name]
        assert np.array_equal(values[:, columns[0]], found.values[:, num])
        if FEATURES[name].scaled:
            positive = np.maximum(found.values[:, num], 0)
            assert np.allclose(values[:, columns[1]], np.log(positive + fitted.floors[num]))
            shares = positive / np.maximum(found.highest[of_row, num], 1e-9)
            assert np.allclose(values[:, columns[2]], shares, atol=1e-5)
        else:
            assert len(columns) == 1


def test_wrong_candidates_are_sampled_and_right_and_mentioned_ones_kept(fitted, rows):
    (every,), facts = blend._stack(fitted.signals, rows, BlendConfig(negatives=1.0), seed=0)
    (some,), same_facts = blend._stack(fitted.signals, rows, BlendConfig(negatives=0.3), seed=0)
    assert facts == same_facts
    assert facts["rows"] == len(rows)
    assert facts["coverage"] == 1.0
    candidates, labels, offsets = some
    assert labels.sum() == every[1].sum() == len(rows)
    assert candidates.copied[:, 0].sum() == every[0].copied[:, 0].sum()
    wrong = (labels == 0) & (candidates.copied[:, 0] == 0)
    assert np.allclose(offsets, np.where(wrong, -np.log(0.3), 0))
    assert wrong.mean() < 1 - (every[1].sum() + every[0].copied[:, 0].sum()) / len(every[1])
    assert 0.2 < len(labels) / len(every[1]) < 0.6
    assert not every[2].any()
    assert np.array_equal(candidates.highest, every[0].highest)  # shares do not depend on the sample


# ---- ranking --------------------------------------------------------------------------------------------------


def test_the_right_kind_comes_first_and_more_items_than_there_are_may_be_asked_for(fitted, rows):
    for ranking, example in zip(fitted.rank([e.context for e in rows], 1000), rows, strict=True):
        nums = ranking.item_nums.tolist()
        assert sorted(nums) == list(range(SIZE))
        fresh = [n for n in nums if str(n) not in example.context.mentions]
        assert kinds_of(fresh[:5]) == [int(example.targets[0]) % 3] * 5
        assert (np.diff(ranking.scores) <= 0).all()
    assert [r.item_nums.shape for r in fitted.rank([rows[0].context], 1)] == [(1,)]


def test_what_no_signal_proposes_follows_by_popularity(fitted, monkeypatch):
    monkeypatch.setattr(features, "FEATURES", {name: replace(f, top=0) for name, f in FEATURES.items()})
    context = Context((Turn("seeker", "anything like Title5", (link(5),)),))
    ranking = fitted.rank([context], 1000)[0]
    counts = fitted.signals.joint.arrays["fallback"]
    wanted = [n for n in np.argsort(-counts, kind="stable").tolist() if n != 5]
    assert ranking.item_nums.tolist() == [5, *wanted]
    assert (np.diff(ranking.scores) < 0).all()
    empty = fitted.rank([Context(())], 4)[0]
    assert empty.item_nums.tolist() == np.argsort(-counts, kind="stable")[:4].tolist()


@pytest.mark.parametrize(
    "config",
    [
        BlendConfig(ranker="linear", stacking="blocks", epochs=15, learning_rate=0.02),
        BlendConfig(ranker="linear", stacking="folds", parts=3, epochs=15, learning_rate=0.02),
        BlendConfig(stacking="folds", seeds=2, parts=2, epochs=4, learning_rate=5e-3, negatives=1.0),
    ],
    ids=["linear", "linear folds", "folds"],
)
def test_other_settings_learn_the_same_rule(config, catalogue, dialogues, rows, tmp_path):
    model = Blend.fit(catalogue, FitData(dialogues[:120]), config)
    assert len(model.rankers) == (1 if config.ranker == "linear" else 2)
    assert len(model.log["parts"]) == (4 if config.stacking == "blocks" else config.parts)
    rankings = model.rank([e.context for e in rows], 8)
    right = []
    for ranking, example in zip(rankings, rows, strict=True):
        fresh = [n for n in ranking.item_nums.tolist() if str(n) not in example.context.mentions]
        right += [n % 3 == int(example.targets[0]) % 3 for n in fresh[:4]]
    assert np.mean(right) > 0.95
    model.save(tmp_path)
    loaded = Blend.load(tmp_path, catalogue, config)
    for a, b in zip(loaded.rank([e.context for e in rows], 8), rankings, strict=True):
        assert np.array_equal(a.item_nums, b.item_nums)
        assert np.array_equal(a.scores, b.scores)
    reasons = loaded.explain(rows[0].context, rankings[0].item_nums.tolist())
    assert all(given for given in reasons)


def test_the_log_tells_what_was_learnt_from_what(fitted):
    parts = fitted.log["parts"]
    assert len(parts) == 4
    assert sum(part["held_out"] for part in parts) == 140 - 53
    assert all(part["rows"] == 2 * part["held_out"] for part in parts)
    assert all(part["learnt"] > 0 and 0 < part["coverage"] <= 1 for part in parts)
    assert fitted.log["sequences"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranker": "tree"}, "ranker 'tree' is none of mlp, linear"),
        ({"stacking": "none"}, "stacking 'none' is none of blocks, folds"),
        ({"seeds": 0}, "seeds >= 1"),
        ({"epochs": 0}, "epochs >= 1"),
        ({"parts": 1}, "parts >= 2"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"base_share": 1.0}, "base_share in"),
        ({"negatives": 0.0}, "negatives in"),
        ({"without": "wishes"}, "without 'wishes' is none of popularity, mentions, words, requests"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        BlendConfig(**settings)


# ---- why ------------------------------------------------------------------------------------------------------


def test_reasons_name_the_mention_and_the_word_behind_and_shares_sum_to_one(fitted):
    by_kind = Counter()
    for kind, word in enumerate(KINDS):
        for liked in range(kind, SIZE, 3):
            said = Turn("seeker", f"I want {word} films like Title{liked}", (link(liked, 19 + len(word)),))
            context = Context((said,))
            top = fitted.rank([context], 6)[0].item_nums.tolist()
            for item, reasons in zip(top, fitted.explain(context, top), strict=True):
                assert sum(r.share for r in reasons) == pytest.approx(1)
                assert [r.share for r in reasons] == sorted((r.share for r in reasons), reverse=True)
                assert len({r.kind for r in reasons}) == len(reasons) >= 1
                for reason in reasons:
                    by_kind[reason.kind] += 1
                    assert features.kind_of(reason.feature) == reason.kind
                    if reason.kind == "mention":
                        assert reason.evidence == str(liked)
                    elif reason.kind == "word":
                        assert reason.evidence == word
                    elif reason.kind == "repeat":
                        assert reason.evidence == str(item) == str(liked)
                    else:
                        assert reason.evidence == ""
    assert by_kind["mention"] > 30
    assert by_kind["word"] > 30


def test_shares_are_of_what_sets_an_item_off_from_the_mean_candidate(fitted, rows):
    context = rows[0].context
    found = features.candidates(fitted.signals, Talk([context], fitted.signals.lexicon))
    values = features.features_of(found, fitted.floors, False)
    parts = fitted.rankers[0].contributions(values, found.state, found.starts)
    names = features.columns(False)
    for item in fitted.rank([context], 5)[0].item_nums.tolist():
        apart = parts[found.items.tolist().index(item)] - parts.mean(axis=0)
        gains = Counter()
        for name, gain in zip(names, apart.tolist(), strict=True):
            gains[features.kind_of(name)] += gain
        (reasons,) = fitted.explain(context, [item])
        total = sum(gains[r.kind] for r in reasons)
        for reason in reasons:
            assert gains[reason.kind] > 0
            assert reason.share == pytest.approx(gains[reason.kind] / total, abs=1e-4)


def test_without_mentions_and_words_only_popularity_is_left(fitted):
    for context in (Context(()), Context((Turn("seeker", "zzz"),))):
        top = fitted.rank([context], 5)[0].item_nums.tolist()
        kinds = {r.kind for reasons in fitted.explain(context, top) for r in reasons}
        assert kinds <= ({"popularity"} if not context.turns else {"popularity", "dialogues"})
        assert "popularity" in kinds


def test_any_item_can_be_explained_and_none_at_all(fitted):
    context = Context((Turn("seeker", "scary"),))
    assert len(fitted.explain(context, list(range(SIZE)))) == SIZE
    assert fitted.explain(context, []) == []


GENRES = ("Horror", "Comedy", "Western")


@pytest.fixture(scope="module")
def described():
    """The same world with genres; the last three films are in no dialogue, and Ann Lee made them alone."""
    items = [Item(str(n), f"Title{n}", 1990 + n, (GENRES[n % 3],), (f"Maker {n}",)) for n in range(SIZE)]
    unnamed = [Item(str(n), f"Title{n}", 2020, (GENRES[n % 3],), ("Ann Lee",)) for n in range(SIZE, SIZE + 3)]
    rng = np.random.default_rng(4)
    words = dict(zip(KINDS, ("horror", "comedy", "western"), strict=True))

    def asked(turn):
        for kind, word in words.items():
            turn = replace(turn, text=turn.text.replace(kind, word))
        return replace(turn, links=tuple(replace(x, start=-1, end=-1) for x in turn.links))

    talks = [dialogue(num, rng) for num in range(120)]
    talks = [replace(d, turns=tuple(asked(turn) for turn in d.turns)) for d in talks]
    catalogue = Catalogue([*items, *unnamed])
    return Blend.fit(catalogue, FitData(talks), replace(QUICK, seeds=2))


def test_a_film_that_no_dialogue_names_is_found_by_what_is_asked_for_and_why_is_told(described):
    context = Context((Turn("seeker", "I want western films by Ann Lee"),))
    found = features.candidates(described.signals, Talk([context], described.signals.lexicon))
    assert {SIZE, SIZE + 1, SIZE + 2} <= set(found.items.tolist())
    (reasons,) = described.explain(context, [SIZE + 2])
    assert {(r.kind, r.evidence) for r in reasons} >= {("request", "western")} or reasons[0].kind == "name"
    assert all(r.evidence in ("western", "Ann Lee", "") for r in reasons)
    genres = [
        GENRES.index(described.catalogue[n].genres[0]) for n in described.rank([context], 8)[0].item_nums.tolist()
    ]
    assert genres == [2] * 8


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_left_out_is_silent(group, described):
    context = Context((Turn("seeker", "a western like Title2 by Ann Lee", (link(2),)),))
    found = features.candidates(described.signals, Talk([context], described.signals.lexicon), without=group)
    for num, feature in enumerate(FEATURES.values()):
        assert feature.group != group or not found.values[:, num].any()
    assert (group == "copy and state") == (not found.copied.any())
    every = features.candidates(described.signals, Talk([context], described.signals.lexicon))
    assert set(found.items.tolist()) <= set(every.items.tolist())


# ---- real data ------------------------------------------------------------------------------------------------


METADATA = {
    "redial": (
        "kg/redial_ievalm/id2info.json",
        "metadata/si630_redial_tmdb_movies.json.gz",
        "metadata/pecrs_redial_movie_db.jsonl",
        "metadata/tmdb_5000_movies.csv.gz",
    ),
    "inspired": ("kg/inspired_kerl/movie_kg.json",),
}


def measured(workspace, dataset, model, protocol, exclude):
    report = evaluate(
        workspace, dataset=dataset, models=[model], protocol=protocol, exclude_mentioned=exclude, draws=10
    ).report["models"][model]
    return report["figures"]


@pytest.mark.realdata
def test_inspired_figures_do_not_fall(shared_data, tmp_path):
    """One fit with default settings and the published metadata, measured on the test split."""
    workspace = Workspace(tmp_path)
    fetch_dataset(workspace, dataset="inspired", source=shared_data / "inspired", form="unicrs")
    fetch_metadata(workspace, dataset="inspired-unicrs", files=[shared_data / name for name in METADATA["inspired"]])
    train(workspace, dataset="inspired-unicrs", model="blend")
    figures = measured(workspace, "inspired-unicrs", "blend", "inspired-unicrs", False)["micro"]["all"]
    least = {"recall@1": 0.12, "recall@10": 0.36, "recall@50": 0.53}
    assert all(figures[name]["value"] >= figure for name, figure in least.items())


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "sets", "new", "every"),
    [
        ("blend", ("ranker=linear",), (0.042, 0.198, 0.385), (0.0, 0.0, 0.0)),
        ("blend", (), (0.042, 0.198, 0.385), (0.058, 0.245, 0.445)),
        ("blend-wide", (), (0.045, 0.212, 0.428), (0.058, 0.245, 0.445)),
    ],
)
def test_redial_figures_do_not_fall(model, sets, new, every, shared_data, tmp_path):
    """Some minutes each: fitted on train and valid with the published metadata, measured on the test split."""
    workspace = Workspace(tmp_path)
    fetch_dataset(workspace, dataset="redial", source=shared_data / "redial", sequences=True)
    fetch_metadata(workspace, dataset="redial", files=[shared_data / name for name in METADATA["redial"]])
    made = train(workspace, dataset="redial", model=model, sets=sets)
    assert made.fitted_on == ["train", "valid"]
    for protocol, exclude, least in (("redial-merged-new", True, new), ("redial-merged-all", False, every)):
        figures = measured(workspace, "redial", model, protocol, exclude)["row"]["all"]
        found = [figures[f"recall@{k}"]["value"] for k in (1, 10, 50)]
        assert all(value >= figure for value, figure in zip(found, least, strict=True)), found
