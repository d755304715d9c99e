"""How much faster PECRS's lean form is than a naive form of the same arithmetic, at the tiny size, on one thread.

Run by hand: python tests/benchmarks/pecrs.py [--repeats 5] [--parts train,rank,reply] [--rows 64].
Both forms have the same weights (GPT-2 type, 2 layers of width 64, a vocabulary of 50,257 and 4 special tokens, LoRA
on query and value, heads and losses of the released code), texts (ReDial's test dialogues in PECRS's form from
../shared/data, else the bundled sample), batch and negatives. Losses, gradients, item vectors and rerank scores must
agree, else there is no table. Times are medians of CPU time over repeats in which the two forms alternate; each repeat
of a training step has another batch, and the first repeat is not counted. The second ratio leaves out what the system
takes: to give out memory for the naive form's logits costs it up to as much as the arithmetic.

The naive form does what PECRS's released code does (engine.py, engine_validation.py, model.py): one look-up a token,
and for each item of a context a pass through the language model and its vocabulary head, again wherever the context is
read; candidates in chunks of 50, padded to the longest of the list, through the vocabulary head; responses with and
without item apart, logits at each place, two backward passes; contexts read again for retrieval, for the reranking of
700 candidates, and for each reply; an index by two passes over all items; replies one by one by `generate` of
transformers. It is spared what would only make it slower: here the backbone is frozen for good, nothing collects
garbage, dropout is off, attention is fused, losses are taken without one-hot targets, retrieval is exact (the released
code's is approximate), and evaluation has neither language loss nor validation losses. Items are pooled over their real
tokens, else the two could not agree. Texts are tokenised before any time is taken, on both sides.
"""

import argparse
import resource
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F

from crscli.backbone import Backbone
from crscli.catalogue import Catalogue
from crscli.datasets import jsonl, pecrs, sample
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.decoding import REFERENCE
from crscli.dialogue import cut
from crscli.generation import decode
from crscli.models import pecrs as model_module
from crscli.models.pecrs import Pecrs
from crscli.models.pecrs.config import CODE, PecrsConfig
from crscli.recommender import FitData

REDIAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "pecrs" / "REDIAL"
SIZE = {"backbone": "tiny", "layers": 2, "width": 64, "heads": 2, "vocabulary": 50_257}
BATCH, WITH_ITEM, CHUNK, NEAREST, BEST = 8, 5, 50, 700, 50
CHUNKS_TIMED, REPLIES_TIMED = 6, 8


class Naive:
    """PECRS's passes as its released code makes them, on the weights of a `Pecrs`."""

    def __init__(self, model):
        self.net, self.layout, self.lm = model.network, model.network.layout, model.network.backbone.lm
        self.table = self.lm.get_input_embeddings().weight
        self.with_specials = torch.cat([self.table, self.net.backbone.special_rows]).detach()

    def read(self, embeds, **arguments):
        """Hidden states; the vocabulary head runs too, as it does wherever the released code calls the model."""
        hidden = self.lm.base_model(inputs_embeds=embeds, use_cache=False, **arguments).last_hidden_state
        self.lm.lm_head(hidden)
        return hidden

    def items(self, numbers):
        """Vectors of a list of items, (X, D): chunks of 50, all as long as the longest of the list."""
        texts = [self.net.texts[n] for n in numbers]
        lengths = torch.tensor([len(t) for t in texts])
        made = []
        for start in range(0, len(texts), CHUNK):
            ids = torch.zeros(len(texts[start : start + CHUNK]), int(lengths.max()), dtype=torch.long)
            for num, text in enumerate(texts[start : start + CHUNK]):
                ids[num, : len(text)] = torch.tensor(text)
            with torch.no_grad():
                hidden = self.read(F.embedding(ids, self.with_specials))
            made.append(self.net.item_encoder(hidden, lengths[start : start + CHUNK]))
        return torch.cat(made)

    def token(self, token, vectors=None):
        """The input vector of one token, (1, D); an item's by a pass of its own, or from an index."""
        if token >= self.layout.base:
            return self.items([token - self.layout.base]) if vectors is None else vectors[[token - self.layout.base]]
        if token >= len(self.table):
            return self.net.backbone.special_rows[token - len(self.table)][None]
        return F.embedding(torch.tensor([token]), self.table)

    def tokens(self, ids, width=0, vectors=None):
        return [self.token(t, vectors) for t in [*ids, *[0] * (width - len(ids))]]

    # ---- training -------------------------------------------------------------------------------------------------

    def step(self, points, drawn):
        """Losses of a batch, and gradients."""
        width = max(len(p.context) + len(p.response) for p in points)
        embeds = [self.tokens([*p.context, *p.response], width) for p in points]
        rows = {has: [n for n, p in enumerate(points) if (p.target >= 0) == has] for has in (False, True)}
        weights, losses = self.net.weights, {}
        if rows[False]:
            spoken = self.language([points[n] for n in rows[False]], [torch.cat(embeds[n]) for n in rows[False]], 0)[0]
            losses["generation"] = spoken.detach() / len(points)
            (weights["generation"] * spoken / len(points)).backward()
        if rows[True]:
            chosen = [points[n] for n in rows[True]]
            found = self.with_items(chosen, [embeds[n] for n in rows[True]], drawn)
            found["generation"] = found["generation"] * len(chosen) / len(points)
            sum(weights[n] * v for n, v in found.items()).backward()
            losses = {n: v.detach() + losses.get(n, 0) for n, v in found.items()}
        return losses

    def language(self, points, rows, inserted):
        """The sum of the rows' mean losses, and hidden states; logits and losses at every place."""
        hidden = self.lm.base_model(inputs_embeds=torch.stack(rows), use_cache=False).last_hidden_state
        logits = self.net.backbone.logits(hidden)
        expected, mask = torch.zeros(hidden.shape[:2], dtype=torch.long), torch.zeros(hidden.shape[:2])
        for num, p in enumerate(points):
            begin = len(p.context) + inserted
            expected[num, begin : begin + len(p.response) - 1] = torch.tensor(p.response[1:])
            mask[num, begin : begin + len(p.response) - 1] = 1
            if inserted:
                expected[num, len(p.context) - 1], mask[num, len(p.context) - 1] = self.layout.rec, 1
        smoothing = self.net.config.smoothing
        each = F.cross_entropy(logits.flatten(0, 1), expected.flatten(), reduction="none", label_smoothing=smoothing)
        return ((each.view_as(mask) * mask).sum(1) / mask.sum(1)).sum(), hidden

    def with_items(self, points, embeds, drawn):
        """The three losses of rows with a target, each a mean over them."""
        rec, end = self.token(self.layout.rec), self.token(self.layout.rec_end)
        targets = [p.target for p in points]
        rows = []
        for p, row, vector in zip(points, embeds, self.items(targets), strict=True):
            at = len(p.context)
            rows.append(torch.cat([*row[:at], rec, vector[None], end, *row[at:]]))
        spoken, hidden = self.language(points, rows, 3)
        places = [len(p.context) for p in points]
        queries = self.net.query(hidden[torch.arange(len(points)), places])
        negatives = drawn.recall[0].tolist()
        vectors = self.items([*negatives, *targets])
        own = torch.stack(
            [torch.cat([vectors[: len(negatives)], vectors[len(negatives) + n][None]]) for n in range(len(points))]
        )
        last = torch.full((len(points),), len(negatives))
        recall = F.cross_entropy((queries[:, None] * own).sum(2), last)
        scores = self.rerank([p.context for p in points], own) / self.net.config.rerank_temperature
        return {"recall": recall, "rerank": F.cross_entropy(scores, last), "generation": spoken / len(points)}

    def rerank(self, contexts, candidates):
        """(R, M) scores of candidates (R, M, D), which see each other; contexts are read again."""
        width, many = max(len(c) for c in contexts), candidates.shape[1]
        length = width + 1 + many
        places = torch.zeros(len(contexts), length, dtype=torch.long)
        visible = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(contexts), 1, 1)
        rows = []
        for num, context in enumerate(contexts):
            at = len(context) + 1
            row = self.tokens(context, width)
            rows.append(torch.cat([*row[: at - 1], self.token(self.layout.rec), candidates[num], *row[at - 1 :]]))
            places[num, :at] = torch.arange(at)
            visible[num, at : at + many, at : at + many] = True
        hidden = self.read(torch.stack(rows), position_ids=places, attention_mask=visible[:, None])
        states = torch.stack([h[len(c) + 1 : len(c) + 1 + many] for h, c in zip(hidden, contexts, strict=True)])
        return self.net.score(states)[..., 0]

    # ---- evaluation -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def rank(self, contexts, vectors):
        """The best items of a batch of contexts (token ids), and their scores."""
        width = max(len(c) for c in contexts)
        rows = []
        for context in contexts:
            row = self.tokens(context, width)
            rows.append(torch.cat([*row[: len(context)], self.token(self.layout.rec), *row[len(context) :]]))
        hidden = self.read(torch.stack(rows))
        queries = self.net.query(hidden[torch.arange(len(contexts)), [len(c) for c in contexts]])
        nearest = (queries @ vectors.T).topk(min(NEAREST, len(vectors))).indices
        scores, order = self.rerank(contexts, vectors[nearest]).sort(descending=True)
        return nearest.gather(1, order)[:, :BEST].numpy(), scores[:, :BEST].numpy()

    # ---- replies --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reply(self, context, item, vectors):
        """Token ids of one reply; items are looked up in the index."""
        offer = [] if item is None else [self.layout.rec, self.layout.base + item, self.layout.rec_end]
        embeds = torch.cat(self.tokens([*context, *offer, *self.layout.opening], 0, vectors))[None]
        return self.lm.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            do_sample=True,
            num_beams=REFERENCE.beams,
            top_k=REFERENCE.k,
            temperature=REFERENCE.temperature,
            max_new_tokens=REFERENCE.max_tokens,
            pad_token_id=0,
        )[0]


def seconds(work):
    """CPU time of a call with and without the system's part, (2,), and what it gave."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    made = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    own = after.ru_utime - before.ru_utime
    return np.array([own + after.ru_stime - before.ru_stime, own]), made


def agree(what, one, other, tolerance=1e-4, least=1e-12):
    """Refuse results that differ by more than a part of their size, or of `least`."""
    one, other = (torch.as_tensor(x, dtype=torch.float64) for x in (one, other))
    difference = float((one - other).norm() / other.norm().clamp(min=least))
    if not difference <= tolerance:
        raise SystemExit(f"{what}: the two forms differ by {difference:.2g} of its size")
    return difference


def row(name, slow, fast):
    """A line of the table: medians and ranges of the naive form's seconds and ours, (repeats, 2) each."""
    slow, fast = np.array(slow), np.array(fast)
    cells = [f"{np.median(x):.3f} ({x.min():.3f}-{x.max():.3f})" for x in (slow[:, 0], fast[:, 0])]
    ratio, own = np.median(slow, axis=0) / np.median(fast, axis=0)
    print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.1f} | {own:.1f} |", flush=True)


def world():
    """Items and dialogues of ReDial's test in PECRS's form, or of the sample, and which."""
    if REDIAL.is_dir():
        corpus = pecrs.read(Source(REDIAL, pecrs.ALLOW), bad=BadRows())
        return Catalogue(corpus.items), corpus.splits["test"], "ReDial test"
    corpus = jsonl.read(Source(Path(sample.__file__).parent, ("*.jsonl",)), bad=BadRows())
    return Catalogue(corpus.items), [d for part in corpus.splits.values() for d in part], "bundled sample"


def built(catalogue, dialogues):
    """The model, with adapters that do something: they begin as zeros."""
    config = PecrsConfig(**SIZE, dropout=0.0, lora_dropout=0.0, **CODE)
    model = Pecrs.untrained(catalogue, FitData(dialogues), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.network.trained().values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def batches(model, dialogues, count):
    """Batches of 8 points, 5 of them with an item, as they come from a shuffle."""
    points = model.network.layout.points(dialogues)
    order = np.random.default_rng(0).permutation(len(points))
    for start in range(0, len(order) - BATCH, BATCH):
        chosen = [points[n] for n in order[start : start + BATCH]]
        if sum(p.target >= 0 for p in chosen) == WITH_ITEM:
            yield chosen
            count -= 1
        if not count:
            return


def lean_step(net, points, seed):
    """A step as the training loop makes it, without the optimiser; its mean losses."""
    drawn = net.draw(points, np.random.default_rng(seed))
    batch = net.collate(points, drawn, range(len(points)))
    means = {name: value / batch.counts[name] for name, value in net.losses(batch).items()}
    sum(net.weights[name] * value for name, value in means.items()).backward()
    return {name: value.detach() for name, value in means.items()}


def train(model, naive, dialogues, repeats):
    net, slow, fast, worst = model.network.train(), [], [], 0.0
    trained = net.trained()
    for num, points in enumerate(batches(model, dialogues, repeats + 1)):
        drawn = net.draw(points, np.random.default_rng(num))
        found = []
        for work in (lambda p=points, d=drawn: naive.step(p, d), lambda p=points, n=num: lean_step(net, p, n)):
            net.zero_grad(set_to_none=True)
            taken, losses = seconds(work)
            found.append((taken, losses, {n: p.grad for n, p in trained.items()}))
        for name, value in found[1][1].items():
            worst = max(worst, agree(f"{name} loss", found[0][1][name], value))
        # A bias that all candidates share has the gradient zero, but for rounding: it has no size of its own.
        least = 1e-3 * float(torch.cat([g.flatten() for g in found[1][2].values()]).norm())
        for name, gradient in found[1][2].items():
            worst = max(worst, agree(f"gradient of {name}", found[0][2][name], gradient, least=least))
        if num:  # the first pair warms up
            slow.append(found[0][0])
            fast.append(found[1][0])
    net.zero_grad(set_to_none=True)
    net.eval()
    row(f"training step of {BATCH} points, {WITH_ITEM} with an item, 150 candidates", slow, fast)
    print(f"<!-- losses and gradients of {len(trained)} parameters differ by at most {worst:.1g} of their size -->")


def rank(model, naive, contexts, whole, repeats):
    """The index, rankings without it, and both: for these contexts, and for `whole` of them."""
    model.network.eval()
    rows = [model.network.layout.context(c) for c in contexts]
    items = len(model.catalogue)
    starts = np.linspace(0, items - CHUNK, CHUNKS_TIMED).astype(int).tolist()
    times = []
    for _ in range(repeats + 1):
        with torch.no_grad():
            taken, parts = seconds(lambda: [naive.items(range(s, s + CHUNK)) for s in starts])
        model._index = model._last = None
        fast, index = seconds(lambda: model.index)
        for start, part in zip(starts, parts, strict=True):
            agree("item vectors", part, index.vectors[start : start + CHUNK])
        vectors = torch.from_numpy(index.vectors)
        eights = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        slow_rank, found = seconds(lambda b=eights, v=vectors: [naive.rank(batch, v) for batch in b])
        fast_rank, rankings = seconds(lambda: model.rank(contexts, BEST))
        best, scores = (np.concatenate(part) for part in zip(*found, strict=True))
        agree("rerank scores", scores, np.stack([r.scores for r in rankings]))
        same = sum(set(b.tolist()) == set(r.item_nums.tolist()) for b, r in zip(best, rankings, strict=True))
        # The released code makes the pass over the items twice, once for retrieval and once for reranking.
        slow = 2 * taken * items / (CHUNKS_TIMED * CHUNK)
        times.append([[slow, fast], [slow_rank, fast_rank]])
    index, ranked = np.array(times[1:]).transpose(1, 2, 0, 3)  # naive and ours, (2, repeats, 2) each
    row(f"index of {items:,} items (naive: {CHUNKS_TIMED * CHUNK} of them timed)", *index)
    row(f"{BATCH} of {len(rows)} contexts ranked, without the index", *ranked * BATCH / len(rows))
    row(f"{len(rows)} contexts ranked, and the index", *ranked + index)
    row(
        f"{BATCH} of {whole:,} contexts ranked, and their share of an index",
        *ranked * BATCH / len(rows) + index * BATCH / whole,
    )
    print(f"<!-- the same {BEST} items in {same} of {len(rows)} rankings -->")


def endless(state, logits, decoding, *, stop, banned, keys):
    """Decoding in which nothing ends a reply, so that all are of one length, which is checked."""
    replies = decode(state, logits, decoding, stop=(), banned=[*banned, *stop], keys=keys)
    assert {len(r) for r in replies} == {decoding.max_tokens}
    return replies


def reply(model, naive, examples, repeats):
    model.network.eval()
    contexts, told = [e.context for e in examples], [bool(e.targets) for e in examples]
    layout = model.network.layout
    vectors = torch.from_numpy(model.index.vectors)
    some = np.linspace(0, len(contexts) - 1, REPLIES_TIMED).astype(int).tolist()
    slow, fast = [], []
    for num in range(repeats + 1):
        rankings = model.rank(contexts, BEST)
        rows = [(layout.context(contexts[n]), int(rankings[n].item_nums[0]) if told[n] else None) for n in some]
        taken, made = seconds(lambda r=rows: [naive.reply(context, item, vectors) for context, item in r])
        # GPT-2's own tokenizer has a token for every row but one: none need be banned here either.
        with mock.patch.object(model_module, "decode", endless), mock.patch.object(Backbone, "unspoken", []):
            ours, _ = seconds(lambda r=rankings: model.respond(contexts, r, REFERENCE, recommend=told))
        assert {len(r) for r in made} == {REFERENCE.max_tokens}
        if num:
            slow.append(taken / len(some))
            fast.append(ours / len(contexts))
    row(f"a reply of {REFERENCE.max_tokens} tokens, {REFERENCE} (ours: {len(contexts)} at once)", slow, fast)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", default="train,rank,reply")
    parser.add_argument("--rows", type=int, default=64, help="contexts that are ranked and answered")
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalogue, dialogues, name = world()
    model = built(catalogue, dialogues)
    naive = Naive(model)
    examples = [e for d in dialogues for e in cut(d, with_items=False)]
    targets = sum(len(e.targets) for e in examples)
    chosen = [examples[n] for n in np.random.default_rng(1).choice(len(examples), given.rows, replace=False)]
    print(f"{name}: {len(catalogue):,} items, {targets:,} targets. torch {torch.__version__}, one thread.")
    print("Seconds of CPU time: median (range)\n")
    print("| | naive | ours | ratio | without the system |\n|---|---|---|---|---|")
    if "train" in given.parts:
        train(model, naive, dialogues, given.repeats)
    if "rank" in given.parts:
        rank(model, naive, [e.context for e in chosen], targets, given.repeats)
    if "reply" in given.parts:
        reply(model, naive, chosen, given.repeats)


if __name__ == "__main__":
    main()
