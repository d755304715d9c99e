"""What every model keeps, whatever it is: run against each entry of MODELS."""

from itertools import permutations

import numpy as np
import pytest
import tiny
from test_llm_models import ByNumber, Colours

from crscli import config as configuration
from crscli.catalogue import Catalogue
from crscli.decoding import Decoding
from crscli.dialogue import Context, Link, Turn, cut, load_dialogues
from crscli.kg.metadata import graph_of
from crscli.models import MODELS, model_class, model_spec
from crscli.recommender import FitData
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.workspace import Workspace

GREETINGS = ("Hi", "Hello", "Hey", "Evening", "Howdy", "Morning")
"""No two dialogues of train read alike: which of two that tie is nearer would be rounding, not the model."""


def dialogue(num):
    """Every ordered triple of films of one colour: the first 48 dialogues are balanced, the rest repeat some."""
    triple = num // 2 % 24
    films = list(permutations(range(num % 2, 8, 2), 3))[triple]
    made = next(iter(tiny.dialogues()))
    texts = [
        GREETINGS[triple % 6] + "! I loved {} and want more of the kind.",
        "Then watch {}.",
        "Seen it.",
        "What about {}?",
    ]
    named = [films[0], films[1], None, films[2]]
    turns = [
        {**turn, "text": text.format(tiny.TITLES[n] if n is not None else ""), "items": [] if n is None else [f"f{n}"]}
        for turn, text, n in zip(made["turns"], texts, named, strict=True)
    ]
    split = "train" if num < 48 else "valid" if num < 56 else "test"
    return {"dialogue_id": f"d{num}", "split": split, "order": num, "turns": turns}


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Catalogue and splits of a balanced checkerboard world."""
    folder = tmp_path_factory.mktemp("contract")
    rows = [dialogue(num) for num in range(64)]
    tiny.write_lines(folder / "items.jsonl", tiny.items())
    tiny.write_lines(folder / "dialogues.jsonl", rows)
    workspace = Workspace(folder / "workspace")
    fetch_dataset(workspace, dataset="jsonl", source=folder, name="tiny")
    path = folder / "workspace" / "tiny"
    splits = {s: load_dialogues(path / "dialogues" / f"{s}.jsonl") for s in ("train", "valid", "test")}
    return Catalogue.load(path / "items" / "items.parquet"), splits


@pytest.fixture(scope="session")
def fitted(world):
    """name -> a model fitted on the tiny world."""
    catalogue, made = world[0], {}

    def fit(name, seed=0):
        if (name, seed) not in made:
            sets = SMALLER.get(name, ())
            settings = configuration.resolve(
                model_class(name).config_class, model_spec(name).preset, sets=sets, environment={}
            )
            fitted = model_class(name).fit(catalogue, given(world), settings, seed=seed)
            made[name, seed] = ready(fitted, catalogue), settings
        return made[name, seed]

    return fit


@pytest.fixture(scope="session")
def contexts(world):
    return [e.context for d in world[1]["test"] for e in cut(d)]


def given(world):
    """What a fit is given; the graph is that of the items' genres."""
    catalogue, splits = world
    return FitData(splits["train"], splits["valid"], graph=graph_of(catalogue))


def ready(model, catalogue):
    """With stand-ins for the endpoint and the model that some ask."""
    if getattr(model, "needs_llm", False):
        model.use_llm(Colours())
    if getattr(model, "needs_base", False):
        model.use_base(ByNumber(catalogue))
    return model


def same(one, other):
    return np.array_equal(one.item_nums, other.item_nums) and np.allclose(one.scores, other.scores, atol=1e-5)


SMALLER = {
    "pecrs-tiny": ("epochs=24", "batch_size=8", "context_tokens=64", "vocabulary=400", "reads_aloud=false"),
    "kbrd": (
        "node_width=16", "bases=2", "epochs=20", "batch_size=16", "learning_rate=2e-2", "width=32", "vocabulary=400",
        "context_tokens=64", "response_tokens=24", "bias_width=16", "generation_epochs=6", "generation_rate=1e-2",
    ),
    "unicrs-tiny": (
        "layers=1", "width=32", "vocabulary=400", "node_width=16", "bases=2", "context_tokens=64", "response_tokens=24",
        "template_tokens=12", "entities=8", "chosen_by=last", "batch_size=16", "fusion_epochs=10", "fusion_rate=5e-3",
        "conversation_epochs=3", "conversation_batch=16", "conversation_rate=5e-3", "conversation_soft_tokens=4",
        "recommendation_epochs=24", "recommendation_rate=3e-3", "recommendation_soft_tokens=2",
    ),
    "embedding": ("encoder=tiny",),
    "reficr-tiny": (
        "layers=1", "width=32", "vocabulary=400", "query_tokens=64", "passage_tokens=32", "prompt_tokens=64",
        "reply_tokens=24", "negatives=2", "random_negatives=4", "first_epochs=12", "epochs=6", "batch_size=16",
        "learning_rate=5e-3", "candidates=3", "neighbours=5", "dropout=0",
        "temperature=0.05",
    ),
}  # fmt: skip
"""Settings with which this small world is learnt in a few seconds."""
SAME_CODE = {
    "pecrs-small": "pecrs-tiny",
    "pecrs-medium": "pecrs-tiny",
    "unicrs": "unicrs-tiny",
    "reficr-small": "reficr-tiny",
    "reficr": "reficr-tiny",
}
"""Presets that need a download: the same class as one that needs none."""


SCALE = {"lora_rank", "quantise", "checkpointing", "chunk_tokens"}
"""Settings of large backbones alone; each has tests of its own."""


def test_the_battery_covers_every_model():
    assert len(MODELS) == 22
    for name, stand_in in SAME_CODE.items():
        assert model_spec(name).target == model_spec(stand_in).target
        assert MODELS[name].preset.keys() <= {*MODELS[stand_in].preset, *SCALE}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in SAME_CODE])
class TestContract:
    def test_at_most_k_distinct_known_items_best_first(self, name, fitted, contexts, world):
        model, _ = fitted(name)
        for k in (1, 3, len(world[0]), 50):
            for ranking in model.rank(contexts, k):
                assert len(ranking.item_nums) <= min(k, len(world[0]))
                assert len(set(ranking.item_nums.tolist())) == len(ranking.item_nums) == len(ranking.scores)
                assert all(0 <= n < len(world[0]) for n in ranking.item_nums)
                assert (np.diff(ranking.scores) <= 0).all()
                assert np.isfinite(ranking.scores).all()

    def test_all_items_are_ranked_except_by_copy(self, name, fitted, contexts, world):
        model, _ = fitted(name)
        lengths = {len(r.item_nums) for r in model.rank(contexts, 50)}
        assert name == "copy" or lengths == {len(world[0])}

    def test_a_row_alone_equals_the_row_in_a_batch(self, name, fitted, contexts):
        model, _ = fitted(name)
        together = model.rank(contexts, 5)
        alone = [model.rank([c], 5)[0] for c in contexts]
        assert all(same(a, b) for a, b in zip(alone, together, strict=True))

    def test_no_contexts_no_rankings(self, name, fitted):
        assert fitted(name)[0].rank([], 5) == []

    def test_same_seed_same_result(self, name, fitted, contexts, world):
        model, settings = fitted(name)
        again = ready(model_class(name).fit(world[0], given(world), settings, seed=0), world[0])
        assert all(same(a, b) for a, b in zip(again.rank(contexts, 8), model.rank(contexts, 8), strict=True))

    def test_save_and_load_give_the_same_scores(self, name, fitted, contexts, world, tmp_path):
        model, settings = fitted(name)
        model.save(tmp_path)
        loaded = ready(model_class(name).load(tmp_path, world[0], settings), world[0])
        assert all(same(a, b) for a, b in zip(loaded.rank(contexts, 8), model.rank(contexts, 8), strict=True))

    def test_an_empty_context_and_unknown_things_survive(self, name, fitted):
        model, _ = fitted(name)
        odd = [
            Context(()),
            Context((Turn("seeker", ""),)),
            Context((Turn("seeker", "zzz \x00 😀", (Link("item", "never-heard-of"),)),)),
            Context((Turn("seeker", "word " * 5000),)),
            Context(tuple(Turn("seeker", f"turn {n}") for n in range(500))),
        ]
        for ranking in model.rank(odd, 5):
            assert name == "copy" or len(ranking.item_nums) == 5

    def test_the_withheld_item_is_first(self, name, fitted, world):
        """After an even film only even films are right; mentioned ones are left out of the count."""
        model, _ = fitted(name)
        if name in ("popularity", "copy", "copy-popularity", "bm25", "embedding"):
            pytest.skip("learns nothing about which item follows which")
        for num in range(8):
            said = Turn("seeker", f"I loved {tiny.TITLES[num]}", (Link("item", f"f{num}"),))
            ranking = model.rank([Context((said,))], 8)[0]
            others = [n for n in ranking.item_nums.tolist() if n != num][:3]
            assert {n % 2 for n in others} == {num % 2}

    def test_replies_are_text_about_ranked_items(self, name, fitted, contexts, world):
        model, _ = fitted(name)
        if "respond" not in model.tasks:
            pytest.skip("has no language")
        odd = [Context(()), Context((Turn("seeker", "zzz [SEP] [REC] 😀", (Link("item", "never-heard-of"),)),))]
        asked = [*contexts[:6], *odd]
        rankings = model.rank(asked, 5)
        for decoding in (Decoding(), Decoding("nucleus", p=0.9), Decoding("beam-sampling", beams=2, max_tokens=8)):
            together = model.respond(asked, rankings, decoding)
            alone = [model.respond([c], model.rank([c], 5), decoding)[0] for c in asked]
            assert together == alone
            for said, ranking in zip(together, rankings, strict=True):
                assert not any(token in said.text for token in ("[REC", "[SEP]", "[MOVIE_ID]"))
                assert set(said.item_nums) <= set(ranking.item_nums.tolist())
                assert all(world[0][n].name in said.text for n in said.item_nums)
        told = model.respond(asked, rankings, Decoding(), recommend=[True] * len(asked))
        assert all(u.recommends for u in told)

    def test_likelihoods_are_of_the_given_responses(self, name, fitted, world):
        model, _ = fitted(name)
        if "respond" not in model.tasks:
            pytest.skip("has no language")
        examples = [e for d in world[1]["test"] for e in cut(d, with_items=False)]
        contexts, responses = [e.context for e in examples], [e.response for e in examples]
        likely = model.likelihoods(contexts, model.rank(contexts, 3), responses)
        odd = [Turn("recommender", "zebra quartz vexed jolt") for _ in responses]
        unlikely = model.likelihoods(contexts, model.rank(contexts, 3), odd)
        assert all(
            one.nats / one.tokens < other.nats / other.tokens for one, other in zip(likely, unlikely, strict=True)
        )
        empty = model.likelihoods(contexts[:1], model.rank(contexts[:1], 3), [Turn("recommender", "")])
        assert empty[0].tokens <= 2  # a blank after the speaker's sign, and the end

    def test_reasons_are_given_for_every_item(self, name, fitted, contexts):
        model, _ = fitted(name)
        if not hasattr(model, "explain"):
            pytest.skip("does not say why")
        nums = model.rank(contexts[:1], 3)[0].item_nums.tolist()
        reasons = model.explain(contexts[0], nums)
        assert len(reasons) == len(nums)
        for reason in (r for given in reasons for r in given):
            assert 0 <= reason.share <= 1
