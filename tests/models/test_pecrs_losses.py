"""PECRS's losses against a slow loop: one row, one item and one candidate at a time, nothing padded, kept or shared."""

import numpy as np
import pytest
import torch

from crscli import backbone as backbone_module
from crscli.backbone import Backbone
from crscli.catalogue import Catalogue, Item
from crscli.dialogue import Context, Dialogue, Link, Turn
from crscli.models.pecrs import Pecrs
from crscli.models.pecrs.config import CODE, PecrsConfig
from crscli.recommender import FitData
from crscli.training import Run, Schedule, fit

WORDS = ["amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "lagoon"]
CATALOGUE = Catalogue(
    Item(
        f"m{num}",
        f"The {word.title()}" + " Returns" * (num % 3),
        1980 + num,
        genres=(("drama",), (), ("comedy", "crime"))[num % 3],
        directors=(f"Ann {word}",) * (num % 2),
        cast=tuple(f"{word} {other}" for other in WORDS[: num % 4]),
        plot=" ".join(WORDS[:num]) + "." * (num > 0),
    )
    for num, word in enumerate(WORDS)
)


def turn(role, text, *items):
    """A turn whose {} are items."""
    links = []
    for item in items:
        start, name = text.index("{}"), CATALOGUE[item].name
        text = text.replace("{}", name, 1)
        links.append(Link("item", f"m{item}", start, start + len(name)))
    return Turn(role, text, tuple(links))


def dialogue(num):
    one, two, three = num * 5 % 12, (num * 5 + 3) % 12, (num * 7 + 1) % 12
    return Dialogue(
        f"d{num}",
        (
            turn("seeker", "Hi, I liked {} a lot" + " and more" * (num % 4) + ".", one),
            turn("recommender", "What did you like in it?"),
            turn("seeker", "The " + " ".join(WORDS[num : num + 3]) + ", as in {} and {}.", two, three),
            turn("recommender", "Then see {} or {}!", (one + 1) % 12, (two + 2) % 12),
            turn("seeker", "Seen."),
            turn("recommender", "How about {}?" + " It is fine." * (num % 3), (three + 4) % 12),
            turn("seeker", "Thanks, bye."),
            turn("recommender", "Enjoy" + " it" * num + "."),
        ),
    )


DIALOGUES = [dialogue(num) for num in range(8)]
SMALL = {
    "backbone": "tiny",
    "width": 16,
    "vocabulary": 300,
    "lora_rank": 4,
    "dropout": 0.0,
    "lora_dropout": 0.0,
    "context_tokens": 60,
    "turn_tokens": 24,
    "item_tokens": 40,
    "negatives": 5,
    "candidates": 7,
    "batch_size": 8,
}


def built(**settings):
    """A model whose trained parameters are all some way from where they begin."""
    model = Pecrs.untrained(CATALOGUE, FitData(DIALOGUES), PecrsConfig(**{**SMALL, **settings}))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.network.trained().values():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def chosen(model, count=8):
    """Points with and without an item, of many lengths."""
    points = model.network.layout.points(DIALOGUES)
    picked = [points[num] for num in np.random.default_rng(5).permutation(len(points))[:count]]
    assert {p.target >= 0 for p in picked} == {True, False}
    return picked


def losses(network, points, drawn, rows=None):
    rows = range(len(points)) if rows is None else rows
    batch = network.collate([points[num] for num in rows], drawn, rows)
    return network.losses(batch), batch.counts


class Slow:
    """The same losses by the formulas, from the network's parameters alone."""

    def __init__(self, network):
        self.net, self.config, self.layout = network, network.config, network.layout
        lm, specials = network.backbone.lm, network.backbone.special_rows
        self.lm, self.table = lm, torch.cat([lm.get_input_embeddings().weight, specials])
        self.head = torch.cat([lm.get_output_embeddings().weight, specials])
        self.made = {}

    def states(self, embeds, places=None, visible=None):
        length = len(embeds)
        places = torch.arange(length) if places is None else places
        visible = torch.ones(length, length, dtype=torch.bool).tril() if visible is None else visible
        read = self.lm.base_model(
            inputs_embeds=embeds[None], position_ids=places[None], attention_mask=visible[None, None], use_cache=False
        )
        return read.last_hidden_state[0]

    def item(self, num):
        if num not in self.made:
            self.made[num] = self.vector(self.table[torch.tensor(self.net.texts[num])])
        return self.made[num]

    def vector(self, embeds):
        encoder = self.net.item_encoder
        with torch.set_grad_enabled(self.config.item_gradient):
            hidden = self.states(embeds)
        if self.config.pooling == "last":
            pooled = hidden[-1]
        else:
            weights = encoder.weights if self.config.pooling == "learned" else torch.ones(len(hidden))
            pooled = sum(w * h for w, h in zip(weights, hidden, strict=False)) / weights[: len(hidden)].sum()
        if self.config.item_head:
            pooled = encoder.mix(encoder.residual(pooled) + pooled)
        vector = encoder.project(pooled)
        return vector + embeds.mean(0) if self.config.lexical else vector

    def tokens(self, ids):
        base = self.layout.base
        return [self.item(t - base) if t >= base else self.table[t] for t in ids]

    def similarity(self, query, item):
        if self.config.similarity == "dot":
            return query @ item
        cosine = query @ item / (query.norm() * item.norm())
        return cosine if self.config.similarity == "cosine" else -torch.sqrt((2 - 2 * cosine).clamp(min=1e-6))

    def scores(self, read, candidates):
        """Of candidates after what was read, up to [REC]."""
        if self.config.candidates_see == "context":
            return torch.cat([self.block(read, [vector]) for vector in candidates])
        return self.block(read, candidates)

    def block(self, read, candidates):
        before, many = len(read), len(candidates)
        learned = self.lm.config.model_type == "gpt2"
        if self.config.candidate_positions == "none" and learned:
            candidates = [vector - self.lm.transformer.wpe.weight[0] for vector in candidates]
        place = 0 if learned or self.config.candidate_positions == "zero" else before
        places = torch.cat([torch.arange(before), torch.full((many,), place)])
        visible = torch.ones(before + many, before + many, dtype=torch.bool).tril()
        visible[before:, before:] = True
        hidden = self.states(torch.stack([*read, *candidates]), places, visible)[before:]
        return self.net.score(self.net.query(hidden) if self.config.rerank_through_query else hidden)[:, 0]

    def spoken(self, point, hidden):
        """The mean loss of the response's tokens, and of the context's where it is read aloud."""
        at, begin = len(point.context), len(point.context) + 3 * (point.target >= 0)
        learnt = [(begin + num - 1, token) for num, token in enumerate(point.response) if num > 0]
        if point.target >= 0:
            learnt.append((at - 1, self.layout.rec))
        elif self.config.no_item_target:
            learnt.append((at - 1, point.response[0]))
        read = [(num - 1, token) for num, token in enumerate(point.context) if num > 0 and token < self.layout.base]
        return self.mean(learnt, hidden) + (self.mean(read, hidden) if self.config.reads_aloud else 0)

    def mean(self, learnt, hidden):
        """Of the losses of the tokens after some places."""
        each = []
        for place, token in learnt:
            logs = (self.head @ hidden[place]).log_softmax(0)
            each.append(-(1 - self.config.smoothing) * logs[token] - self.config.smoothing * logs.mean())
        return sum(each) / len(each)

    def row(self, point, recall, rerank):
        """The losses of one point with its negatives."""
        context = self.tokens(point.context)
        read = [*context, self.table[self.layout.rec]]
        offer = [read[-1], self.item(point.target), self.table[self.layout.rec_end]] if point.target >= 0 else []
        hidden = self.states(torch.stack([*context, *offer, *self.tokens(point.response)]))
        made = {"generation": self.spoken(point, hidden)}
        if point.target < 0:
            return made
        query = self.net.query(hidden[len(context)])
        if self.config.lexical:
            heard = hidden[: len(context)] @ self.net.attention * hidden.shape[1] ** 0.5
            share = heard.softmax(0)
            query = query + sum(part * vector for part, vector in zip(share, context, strict=True))
        similar = [self.similarity(query, self.item(num)) / self.config.temperature for num in [*recall, point.target]]
        made["recall"] = torch.stack(similar).logsumexp(0) - similar[-1]
        candidates = [self.item(num) for num in [*rerank, point.target]]
        scores = self.scores(read, candidates)
        if self.config.rerank_residual:
            similar = [self.similarity(query, vector) / self.config.temperature for vector in candidates]
            scores = scores + torch.stack(similar).detach()
        scores = scores / self.config.rerank_temperature
        made["rerank"] = scores.logsumexp(0) - scores[-1]
        return made

    def losses(self, points, drawn):
        """Sums over the points."""
        totals = dict.fromkeys(self.net.weights, torch.zeros(()))
        for num, point in enumerate(points):
            negatives = [d[num % len(d)].tolist() for d in (drawn.recall, drawn.rerank)]
            if self.config.negatives == 0:
                negatives = [[n for n in range(len(CATALOGUE)) if n != point.target]] * 2
            for name, value in self.row(point, *negatives).items():
                if name in totals:
                    totals[name] = totals[name] + value
        return totals


def gradients(network, made):
    """Of the weighted sum of losses, by name; zeros where there is none."""
    network.zero_grad(set_to_none=True)
    sum(network.weights[name] * value for name, value in made.items()).backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in network.trained().items()}


def assert_same(made, expected):
    """Losses to 1e-5 of their size."""
    assert made.keys() == expected.keys()
    for name, value in expected.items():
        assert float(made[name].detach()) == pytest.approx(float(value.detach()), rel=1e-5, abs=1e-5), name


def assert_same_gradients(made, expected):
    """Gradients to 1e-4 of the size of all of them."""
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    assert made.keys() == expected.keys()
    assert whole > 0
    for name, gradient in expected.items():
        assert float((made[name] - gradient).norm() / whole) < 1e-4, name


SWITCHES = {
    "paper": {},
    "code": CODE,
    "candidates see each other": {"candidates_see": "each-other"},
    "candidates at place zero": {"candidate_positions": "zero"},
    "each other at place zero": {"candidates_see": "each-other", "candidate_positions": "zero"},
    "dot": {"similarity": "dot"},
    "cosine with temperatures": {"similarity": "cosine", "temperature": 0.1, "rerank_temperature": 0.7},
    "one layer": {"head_depth": 1},
    "scored directly": {"rerank_through_query": False},
    "mean pooling": {"pooling": "mean"},
    "last token": {"pooling": "last"},
    "no item head": {"item_head": False},
    "negatives by row": {"share_batch": False},
    "negatives by loss": {"share_tasks": False},
    "negatives by row and loss": {"share_batch": False, "share_tasks": False},
    "items as the code places them": {"item_position": "code"},
    "items in their place": {"item_position": "mention", "first_turn_items": False, "whole_turns": False},
    "smoothing": {"smoothing": 0.2},
    "read aloud": {"reads_aloud": True, "smoothing": 0.1, "item_position": "mention"},
    "no target without item": {"no_item_target": False},
    "cached items": {"item_cache": 1},
    "whole catalogue": {"item_cache": 1, "negatives": 0},
    "whole catalogue, each other": {"item_cache": 1, "negatives": 0, "candidates_see": "each-other"},
    "whole catalogue, residual": {"item_cache": 1, "negatives": 0, "lexical": True, "rerank_residual": True},
    "items teach the backbone": {"item_gradient": True},
    "all weights": {"tune": "full"},
    "lexical": {"lexical": True, "rerank_residual": True, "temperature": 0.5},
    "no recall": {"recall_weight": 0.0},
    "no rerank": {"rerank_weight": 0.0},
    "no generation": {"generation_weight": 0.0},
}
ROTARY = ("paper", "code", "candidates see each other", "candidates at place zero", "items teach the backbone")


@pytest.mark.parametrize(
    ("backbone", "switch"), [("tiny", name) for name in SWITCHES] + [("tiny:llama", name) for name in ROTARY]
)
def test_losses_and_gradients_are_those_of_the_slow_loop(backbone, switch):
    model = built(backbone=backbone, **SWITCHES[switch])
    network, points = model.network.train(), chosen(model)
    drawn = network.draw(points, np.random.default_rng(0))
    made, _ = losses(network, points, drawn)
    expected = Slow(network).losses(points, drawn)
    assert_same(made, expected)
    assert all(float(value.detach()) > 0 for value in made.values())
    assert_same_gradients(gradients(network, made), gradients(network, expected))


@pytest.mark.parametrize("settings", [{}, {"share_batch": False, "share_tasks": False}, CODE])
def test_micro_batches_sum_to_the_whole_batch(settings):
    model = built(**settings)
    network, points = model.network.train(), chosen(model, 7)
    drawn = network.draw(points, np.random.default_rng(0))
    whole, counts = losses(network, points, drawn)
    parts = [losses(network, points, drawn, rows) for rows in (range(0, 3), range(3, 6), range(6, 7))]
    assert counts == {name: sum(part[1][name] for part in parts) for name in counts}
    together = {name: sum(part[0][name] for part in parts) for name in whole}
    assert_same(together, whole)
    assert_same_gradients(gradients(network, together), gradients(network, whole))


def test_a_batch_without_any_item_teaches_the_response_alone():
    model = built()
    network = model.network.train()
    points = [p for p in model.network.layout.points(DIALOGUES) if p.target < 0][:3]
    drawn = network.draw(points, np.random.default_rng(0))
    made, counts = losses(network, points, drawn)
    assert counts == {"recall": 0, "rerank": 0, "generation": 3}
    assert float(made["recall"].detach()) == float(made["rerank"].detach()) == 0.0
    expected = Slow(network).losses(points, drawn)
    assert_same(made, expected)
    assert_same_gradients(gradients(network, made), gradients(network, {"generation": expected["generation"]}))


@pytest.mark.parametrize("settings", [{}, {"pooling": "mean"}, {"pooling": "last"}, {"backbone": "tiny:llama"}])
@torch.no_grad()
def test_the_vector_of_an_item_does_not_depend_on_the_items_beside_it(settings):
    network = built(**settings).network.eval()
    together = network.item_vectors(range(len(CATALOGUE)))
    assert len({len(text) for text in network.texts}) > 3
    for num, vector in enumerate(together):
        assert torch.allclose(network.item_vectors([num])[0], vector, atol=1e-5)
        assert torch.allclose(network.item_vectors([num, 11 - num, 5])[0], vector, atol=1e-5)
        assert torch.allclose(Slow(network).item(num), vector, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, CODE, {"backbone": "tiny:llama"}])
def test_the_scores_of_a_context_are_the_same_alone_and_among_64(settings):
    model = built(**settings)
    turns = [turn for d in DIALOGUES for turn in d.turns]
    contexts = [Context(tuple(turns[num : num + 1 + num % 6])) for num in range(len(turns))]
    assert len(contexts) == 64
    together = model.rank(contexts, 12)
    for num in range(0, 64, 5):
        (alone,) = model.rank([contexts[num]], 12)
        scores = dict(zip(together[num].item_nums.tolist(), together[num].scores.tolist(), strict=True))
        assert sorted(scores) == list(range(12))
        for item, score in zip(alone.item_nums.tolist(), alone.scores.tolist(), strict=True):
            assert scores[item] == pytest.approx(score, abs=1e-5)


HEADS = ("item_encoder.", "query.", "score.", "backbone.special_rows")
ADAPTERS = {"lora qkv": (".lora_A.", ".lora_B."), "lora qv": (".c_attn.down", ".c_attn.up")}


@pytest.mark.parametrize(
    ("settings", "taught"),
    [
        ({"tune": "lora"}, ADAPTERS["lora qkv"]),
        ({"tune": "lora", "lora_targets": "qv"}, ADAPTERS["lora qv"]),
        ({"tune": "full"}, ("backbone.lm.",)),
        ({"tune": "none"}, ()),
    ],
)
def test_a_step_changes_what_is_declared_as_trained_and_nothing_else(settings, taught):
    model = built(**settings, weight_decay=0.0, learning_rate=0.01)
    network = model.network
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    declared = {name for name in before if name.startswith(HEADS) or any(part in name for part in taught)}
    assert set(network.trained()) == declared
    fit(network, chosen(model), Schedule.of(model.config, seed=0), Run(max_steps=1))
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    # A bias that all candidates share cannot be learnt from a softmax over them: it moves by rounding, if at all.
    assert declared - {"score.2.bias"} <= changed <= declared
    assert (declared == before.keys()) == (settings["tune"] == "full")


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        # Own count of the released code with what it means to train: adapters, heads and four rows.
        ("gpt2", CODE, 2_957_441),
        ("gpt2-medium", CODE, 5_777_921),
        # The paper's f and g have a second layer each.
        ("gpt2", {}, 4_138_625),
        ("gpt2-medium", {}, 7_877_121),
    ],
)
def test_the_number_of_trained_parameters(monkeypatch, name, settings, expected):
    # On a device without memory nothing can be computed, so the checks of what was loaded are left out.
    monkeypatch.setattr(backbone_module, "_fingerprint", lambda lm: "")
    monkeypatch.setattr(Backbone, "check", lambda self: None)
    with torch.device("meta"):
        model = Pecrs.build(CATALOGUE, PecrsConfig(backbone=f"random:{name}", **settings), corpus=["a film"] * 2)
    assert sum(parameter.numel() for parameter in model.network.trained().values()) == expected
