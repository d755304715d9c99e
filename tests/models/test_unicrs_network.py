"""UniCRS's prompts and losses against slow loops, and what its rows may depend on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn, cut
from crscli.kg.metadata import graph_of
from crscli.models.unicrs import Fusion, Unicrs
from crscli.models.unicrs.config import CODE, STRUCTURE, UnicrsConfig
from crscli.models.unicrs.prompts import Prompts
from crscli.recommender import FitData

NAMES = ["Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel"]
CATALOGUE = Catalogue(
    Item(f"f{n}", name, genres=(("drama",), ("comedy",))[n % 2], directors=("Ann Lee",) * (n < 3))
    for n, name in enumerate(NAMES)
)
SMALL = {
    "backbone": "tiny", "encoder": "tiny", "layers": 2, "width": 16, "vocabulary": 300, "tune": "none", "node_width": 8,
    "bases": 2, "context_tokens": 60, "response_tokens": 20, "template_tokens": 6, "entities": 6,
    "recommendation_soft_tokens": 2, "conversation_soft_tokens": 3, "batch_size": 8, "conversation_batch": 8,
}  # fmt: skip


def turn(role, text, *items):
    links = []
    for item in items:
        start = text.index("{}")
        text = text.replace("{}", NAMES[item], 1)
        links.append(Link("item", f"f{item}", start, start + len(NAMES[item])))
    return Turn(role, text, tuple(links))


def dialogue(num):
    a, b, c = num % 8, (num + 2) % 8, (num + 5) % 8
    return Dialogue(
        f"d{num}",
        (
            turn("seeker", "Hello there" + " you" * num),
            turn("recommender", "What do you like?"),
            turn("seeker", "I liked {} and {} a lot", a, b),
            turn("recommender", "Then {} or {} or {} is for you", c, b, c),
            turn("seeker", "Seen" + " it" * (num % 3)),
            turn("recommender", "So try {}.", (num + 3) % 8),
        ),
    )


DIALOGUES = [dialogue(n) for n in range(8)]
CONTEXTS = [e.context for d in DIALOGUES for e in cut(d, with_items=False)]


def moved(network):
    """Every trained parameter some way from where it begins."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.trained().values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5


@pytest.fixture(scope="module")
def built():
    made = {}

    def build(**settings):
        key = repr(sorted(settings.items()))
        if key not in made:
            data = FitData(DIALOGUES, graph=graph_of(CATALOGUE))
            model = Unicrs.begun(Fusion.untrained(CATALOGUE, data, UnicrsConfig(**{**SMALL, **settings})))
            moved(model.conversation)
            moved(model.recommendation)
            made[key] = model
        return made[key]

    return build


def loss(network, examples):
    """Summed, with gradients by name."""
    network.zero_grad()
    (value,) = network.train().losses(network.collate(examples, None, range(len(examples)))).values()
    value.backward()
    network.eval()
    return value.item(), {n: p.grad for n, p in network.trained().items()}


# ---- parameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entities", "relations", "totals"),
    [(31_161, 25, (30_274_184, 30_872_840, 30_880_520)), (17_320, 13, (24_959_144, 25_557_800, 25_565_480))],
    ids=["redial", "inspired"],
)
def test_as_many_parameters_as_the_released_code(entities, relations, totals):
    """Of the fusion stage, with 10 soft tokens (recommendation) and with 20 (conversation)."""
    nodes = SimpleNamespace(
        count=entities + 1, relations=lambda loops: relations, edges=lambda loops: np.zeros((3, 0), dtype=np.int64)
    )
    for soft, total in zip((0, 10, 20), totals, strict=True):
        prompts = Prompts(nodes, UnicrsConfig(), width=768, encoder_width=768, prefix=(12, 12, 64), soft_tokens=soft)
        assert sum(p.numel() for p in prompts.parameters()) == total


@pytest.mark.parametrize(
    ("stage", "settings", "beside"),
    [
        ("recommendation", {}, set()),
        ("conversation", {}, {"decoder.special_rows"}),
        ("conversation", {"trained_placeholder": False}, set()),
    ],
)
def test_only_the_prompts_and_the_placeholder_are_trained(built, stage, settings, beside):
    network = getattr(built(**settings), stage)
    trained = network.trained()
    assert {name for name in trained if not name.startswith("prompts.")} == beside
    frozen = {n: p.detach().clone() for n, p in network.named_parameters() if n not in trained}
    examples = example_sets(built(**settings))[stage]
    _, gradients = loss(network, examples)
    assert all(g is not None and g.abs().sum() > 0 for n, g in gradients.items() if "special" not in n), gradients
    assert all(torch.equal(p, frozen[n]) for n, p in network.named_parameters() if n in frozen)
    if beside:
        assert gradients["decoder.special_rows"][1].abs().sum() > 0


def test_a_tuned_decoder_is_trained_and_its_stages_go_their_own_way(built):
    model = built(tune="full")
    assert any(n.startswith("decoder.lm.") for n in model.conversation.trained())
    assert model.conversation.decoder is not model.recommendation.decoder
    assert built().conversation.decoder is built().recommendation.decoder


# ---- fusion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_words", [True, False])
@pytest.mark.parametrize("softmax", [True, False])
def test_fusion_equals_a_slow_loop(built, to_words, softmax):
    prompts = built(fusion_softmax=softmax).recommendation.prompts
    generator = torch.Generator().manual_seed(1)
    states, entities = torch.randn(3, 5, 16, generator=generator), torch.randn(3, 4, 16, generator=generator)
    words, named = torch.arange(5) < torch.tensor([[5], [2], [1]]), torch.arange(4) < torch.tensor([[1], [4], [2]])
    with torch.no_grad():
        found, real = prompts.fused(states, words, entities, named, to_words=to_words)
        assert torch.equal(real, words if to_words else named)
        for row in range(3):
            own = prompts.read(states[row, : words[row].sum()])
            others = entities[row, : named[row].sum()]
            if not to_words:
                pass
            for at, vector in enumerate(own if to_words else others):
                told = others if to_words else own
                told_w, vector_w = (told, prompts.affinity(vector)) if to_words else (prompts.affinity(told), vector)
                shares = (told_w @ vector_w) / 16
                shares = shares.softmax(0) if softmax else shares
                assert torch.allclose(found[row, at], vector + shares @ told, atol=1e-5)


@pytest.mark.parametrize(("setting", "keeps"), [("use_words", "entities"), ("use_entities", "words")])
def test_an_ablation_leaves_out_one_side(built, setting, keeps):
    model = built(**{setting: False})
    network = model.recommendation
    (one,) = model.layout.recommendation_examples([DIALOGUES[0]], {})[:1]
    batch = network.batch([one.ids], [one])
    with torch.no_grad():
        before = network.read(batch).hidden
        if keeps == "entities":
            batch.states = torch.randn_like(batch.states)
        else:
            batch.nodes = batch.nodes * 0
        assert torch.equal(network.read(batch).hidden, before)


# ---- losses -----------------------------------------------------------------------------------------------------


def example_sets(model):
    layout = model.layout
    return {
        "conversation": layout.conversation_examples(DIALOGUES),
        "recommendation": layout.recommendation_examples(DIALOGUES, {"d1:3": [5, 6, layout.placeholder]}),
    }


@pytest.mark.parametrize("item_loss", ["bce", "items", "nodes"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_recommendation_loss_equals_one_target_at_a_time(built, item_loss, pooling):
    network = built(item_loss=item_loss, pooling=pooling).recommendation
    examples = example_sets(built(item_loss=item_loss, pooling=pooling))["recommendation"]
    assert sum(len(e.targets) for e in examples) > len(examples)
    value, _ = loss(network, examples)
    slow = 0.0
    with torch.no_grad():
        every = network.prompts.entities()
        for example in examples:
            hidden = network.read(network.batch([example.ids], [example])).hidden
            query = hidden[0, -1] if pooling == "last" else hidden[0].mean(0)
            candidates = every if item_loss == "nodes" else every[network.items]
            chances = (candidates @ query).softmax(0)
            for target in example.targets:
                at = target if item_loss == "nodes" else network.items.tolist().index(target)
                slow -= chances[at].log().item()
                if item_loss == "bce":
                    slow -= sum((1 - c).log().item() for n, c in enumerate(chances) if n != at)
    assert value == pytest.approx(slow, rel=1e-4)


@pytest.mark.parametrize("reads_aloud", [False, True])
def test_conversation_loss_equals_one_token_at_a_time(built, reads_aloud):
    model = built(reads_aloud=reads_aloud)
    network = model.conversation
    examples = example_sets(model)["conversation"]
    value, _ = loss(network, examples)
    slow = 0.0
    with torch.no_grad():
        for example in examples:
            ids = (*example.context, *example.response)
            first = 1 if reads_aloud else len(example.context) + len(model.layout.opening)
            for at in range(first, len(ids)):
                hidden = network.read(network.batch([ids[:at]], [example])).hidden
                slow += F.cross_entropy(network.decoder.logits(hidden[0, -1])[None], torch.tensor([ids[at]])).item()
    assert value == pytest.approx(slow, rel=1e-4)


def test_targets_of_a_turn_together_or_one_by_one_are_the_same_loss(built):
    grouped, single = built(), built(group_targets=False)
    one, gradients = loss(grouped.recommendation, example_sets(grouped)["recommendation"])
    other, again = loss(single.recommendation, example_sets(single)["recommendation"])
    assert len(example_sets(single)["recommendation"]) > len(example_sets(grouped)["recommendation"])
    assert one == pytest.approx(other, rel=1e-5)
    assert all(torch.allclose(g, again[n], rtol=1e-3, atol=1e-5) for n, g in gradients.items())


# ---- rows and their batch mates ---------------------------------------------------------------------------------


def scores(model, contexts):
    return np.stack([r.scores[np.argsort(r.item_nums)] for r in model.rank(contexts, 8)])


def test_the_same_scores_in_a_batch_of_1_and_of_64(built):
    model = built()
    many = [CONTEXTS[n % len(CONTEXTS)] for n in range(64)]
    together = scores(model, many)
    alone = np.concatenate([scores(model, [c]) for c in many])
    assert np.abs(together - alone).max() < 1e-4
    assert len({row.round(4).tobytes() for row in together}) > 8


def test_pads_are_seen_under_the_code_recipe_only(built):
    for settings, depends in ((CODE, True), ({}, False)):
        model = built(**settings)
        together, alone = scores(model, CONTEXTS), np.concatenate([scores(model, [c]) for c in CONTEXTS])
        assert (np.abs(together - alone).max() > 1e-3) == depends


def test_places_of_a_prompt_have_no_positions(built):
    """Words and entities padded to the left or to the right are the same prompt."""
    network = built().recommendation
    generator = torch.Generator().manual_seed(1)
    states, entities = torch.randn(1, 5, 16, generator=generator), torch.randn(1, 4, 16, generator=generator)
    ids = torch.tensor([[7, 8, 9]])
    found = []
    for turned in (False, True):
        words, named = torch.arange(5)[None] < 3, torch.arange(4)[None] < 2
        sides = [x.flip(1) if turned else x for x in (states, words, entities, named)]
        with torch.no_grad():
            prompt, _ = network.prompts(*sides, to_words=False)
            found.append(network.decoder.encode(network.decoder.embed(ids), prefix=prompt)[0])
    assert torch.allclose(*found, atol=1e-5)


def test_a_context_without_entities_is_ranked(built):
    said = [Context((Turn("seeker", "something for tonight"),)), Context(())]
    assert np.isfinite(scores(built(), said)).all()


def test_of_a_long_list_of_entities_the_newest_are_kept(built):
    layout = built().layout
    turns = tuple(turn("seeker", "I liked {}", n) for n in range(8))
    kept = layout.asked(Context(turns)).nodes
    assert kept == tuple(int(layout.nodes.items[n]) for n in range(2, 8))


def test_structure_names_settings():
    assert set(STRUCTURE) <= {name for name in UnicrsConfig.__dataclass_fields__}
    for recipe in Unicrs.recipes.values():
        assert recipe.keys().isdisjoint({"backbone", "encoder", "tune"})
        UnicrsConfig(**recipe)
