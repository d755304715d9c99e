"""How much faster UniCRS's lean steps are than a naive form of the same mathematics, at the tiny size, on one thread.

Run by hand: OMP_NUM_THREADS=1 python tests/benchmarks/unicrs.py [--workspace DIR --dataset NAME --kg RUN].
Both forms have the same weights (unicrs-tiny after an epoch of fusion and some of conversation) and turns (some train
dialogues of the dataset; by default the bundled sample, made in a temporary workspace). Both go through the same
training loop at a learning rate of 0, which takes as long as any other and leaves the weights as they are: losses of
the same turns, their gradients, and greedy templates must agree, else the run ends there. Times are medians of CPU time
over rounds in which the two forms alternate; texts are tokenised before any time is taken, on both sides.

The naive form does what UniCRS's released code does (train_pre.py, train_conv.py, train_rec.py, infer_conv.py): all
nodes are encoded for the prompts of each batch, and once more for its scores, by torch_geometric's RGCNConv; the frozen
encoder reads the texts of each batch; a turn is an example for each of its targets; batches are random, and the
language head runs at every place. Templates are written 64 at once until the last of them has ended, bans of n-grams
are transformers' own, and nodes are encoded for each batch. There is a row without keys and values of what was read,
and one that keeps them, as the released code does with the transformers it asks for. Templates are as long as the
weights make them, or 50 tokens with the end banned. The naive form is spared what would only make it slower: attention
is fused, and what is read again for each token goes through the language head at its last place alone.

Ours keeps the encoder's states on disk in the first epoch of a stage, rounded to bf16, and reads them in later ones.
Here each stage begins without any, though a training shares them between its stages; templates are written without.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import RGCNConv
from transformers import NoRepeatNGramLogitsProcessor

from crscli import config as configuration
from crscli.dialogue import cut
from crscli.models import fusion_class, model_class, model_spec
from crscli.models.unicrs.fusion import frozen_states, stage_schedule
from crscli.models.unicrs.layout import Asked
from crscli.models.unicrs.network import PromptBatch, Read
from crscli.models.unicrs.templates import TemplateFile
from crscli.steps._dataset import find_kg, load_kg, read_dataset
from crscli.steps.build_kg import build_kg
from crscli.steps.fetch_dataset import fetch_dataset
from crscli.steps.fetch_metadata import fetch_metadata
from crscli.steps.link_entities import link_entities
from crscli.training import Run, fit
from crscli.workspace import Workspace

MODEL = "unicrs-tiny"
NAIVE_AT_ONCE, AT_ONCE, CHECKED = 64, 256, 32
TOLERANCE = {"losses": 1e-4, "gradients": 2e-3}


class Naive(nn.Module):
    """A stage's steps as the released code makes them, on the weights of our network: a Trainable of the same loop."""

    def __init__(self, network, encoder):
        super().__init__()
        self.net, self.encoder, self.stage = network, encoder, network.stage
        self.weights, self.slower = network.weights, {}
        entities = network.prompts.entities
        ours, graph = entities.convolution, entities.graph
        (bases, own, _), relations = ours.weight.shape, len(ours.comp)
        self.convolution = RGCNConv(own, own, relations, num_bases=bases)
        for name in ("weight", "comp", "root", "bias"):
            setattr(self.convolution, name, getattr(ours, name))
        self.edges, self.relations = torch.stack([graph.source, graph.target]), graph.relation

    def trained(self):
        return self.net.trained()

    def length(self, example):
        return 0  # of like examples the loop makes random batches

    def draw(self, examples, rng):
        return None

    def nodes(self):
        """(N, D) of all nodes."""
        entities = self.net.prompts.entities
        received = self.convolution(entities.table, self.edges, self.relations)
        return entities.project(entities.residual(entities.table + received))

    def texts(self, texts, sources):
        """A batch whose `states` are token ids for the encoder."""
        ids, lengths = padded(texts)
        words, word_counts = padded([s.words for s in sources])
        nodes, node_counts = padded([s.nodes for s in sources], self.net.layout.nodes.none)
        none = torch.zeros(0, dtype=torch.long)
        return PromptBatch(ids, lengths, words, word_counts, nodes, node_counts, none, none)

    def collate(self, examples, drawn, rows):
        """One row a target, or a response whose tokens are expected where they are learnt."""
        if self.stage != "conversation":
            over_items = self.stage == "recommendation" and self.net.config.item_loss != "nodes"
            targets = [self.net.item_of[a.targets[0]] if over_items else a.targets[0] for a in examples]
            batch = self.texts([a.ids for a in examples], examples)
            return replace(batch, expected=torch.tensor(targets), counts={self.stage: len(targets)})
        batch = self.texts([(*s.context, *s.response) for s in examples], examples)
        expected = torch.full_like(batch.ids, -100)
        for num, said in enumerate(examples):
            first = 1 if self.net.config.reads_aloud else len(said.context) + len(self.net.layout.opening)
            expected[num, first - 1 : len(said) - 1] = batch.ids[num, first : len(said)]
        return replace(batch, expected=expected, counts={self.stage: int((expected >= 0).sum())})

    def prompt(self, batch):
        """The prompt, and the mean of what was fused for it."""
        words, named = real(batch.state_lengths, batch.states), real(batch.node_counts, batch.nodes)
        with torch.no_grad():
            states, _ = self.encoder.encode(self.encoder.embed(batch.states), mask=words)
        to_words = self.stage == "conversation"
        return self.net.prompts(states, words, self.nodes()[batch.nodes], named, to_words=to_words)

    def losses(self, batch):
        """The stage's loss, summed over targets or tokens."""
        net = self.net
        prompt, pooled = self.prompt(batch)
        embeds, mask = net.decoder.embed(batch.ids), real(batch.lengths, batch.ids)
        hidden, _ = net.decoder.encode(embeds, prefix=prompt, mask=mask)
        if self.stage == "conversation":
            logits = net.decoder.logits(hidden)
            return {self.stage: F.cross_entropy(logits.flatten(0, 1), batch.expected.flatten(), reduction="sum")}
        scores = net.scores(Read(hidden, pooled, self.nodes(), None), batch.lengths)
        if self.stage == "recommendation" and net.config.item_loss != "nodes":
            scores = scores[:, net.items]
        if self.stage == "fusion" or net.config.item_loss != "bce":
            return {self.stage: F.cross_entropy(scores, batch.expected, reduction="sum")}
        wanted = F.one_hot(batch.expected, scores.shape[1]).float()
        return {self.stage: F.binary_cross_entropy(scores.softmax(1), wanted, reduction="sum")}

    # ---- templates ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def templates(self, contexts, banned, *, keep):
        """Token ids after each context; with `keep` what was read is not read again for each token."""
        made = []
        for start in range(0, len(contexts), NAIVE_AT_ONCE):
            before = [self.net.layout.before_reply(c) for c in contexts[start : start + NAIVE_AT_ONCE]]
            made += self.written(before, banned, keep)
        return made

    def written(self, before, banned, keep):
        """Of one batch; rows that have ended go on with their end until all have."""
        decoder, end, config = self.net.decoder, self.net.layout.end, self.net.config
        ban = NoRepeatNGramLogitsProcessor(config.no_repeat)
        texts = [[*s.context, *s.response] for s in before]
        batch, every = self.texts(texts, before), torch.arange(len(texts))
        kept, _ = self.prompt(batch)
        ids, lengths = batch.ids, batch.lengths
        replies, ended = torch.zeros(len(texts), 0, dtype=torch.long), torch.zeros(len(texts), dtype=torch.bool)
        while replies.shape[1] < config.template_tokens and not ended.all():
            asked = lengths if keep else None
            hidden, after = decoder.encode(decoder.embed(ids), prefix=kept, mask=real(lengths, ids), lengths=asked)
            logits = decoder.logits(hidden)[every, lengths - 1] if keep else decoder.logits(hidden[every, lengths - 1])
            logits[:, banned] = -torch.inf
            tokens = ban(replies, logits).argmax(1).masked_fill(ended, end)
            ended |= tokens == end
            replies = torch.cat([replies, tokens[:, None]], 1)
            if keep:
                kept, ids, lengths = after, tokens[:, None], torch.ones_like(lengths)
            else:
                texts = [[*text, token] for text, token in zip(texts, tokens.tolist(), strict=True)]
                ids, lengths = padded(texts)
        rows = replies.tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]


def padded(rows, filler=0):
    """Rows side by side, and their lengths."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), filler, dtype=torch.long)
    for num, row in enumerate(rows):
        ids[num, : len(row)] = torch.tensor(row)
    return ids, lengths


def real(lengths, like):
    return torch.arange(like.shape[1]) < lengths[:, None]


# ---- measuring ----------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """A line of the table."""

    name: str
    naive: list
    first: list
    later: list
    difference: str
    epochs: int = 1

    def __str__(self):
        naive, first, later = (statistics.median(x) if x else 0.0 for x in (self.naive, self.first, self.later))
        ours = (first + (self.epochs - 1) * later) / self.epochs
        split = f"{first:.2f} / {later:.2f}" if self.later else ""
        ratios = f"{naive / first:.1f} / {naive / later:.1f}" if self.later else ""
        cells = [self.name, f"{naive:.2f}", f"{ours:.2f}", f"**{naive / ours:.1f}**", split, ratios, self.difference]
        return f"| {' | '.join(cells)} |"


def seconds(work):
    """CPU time of a call, and what it gave."""
    started = time.process_time()
    made = work()
    return time.process_time() - started, made


def one_by_one(examples):
    """An example for each target; responses as they are."""
    return [
        replace(e, targets=(t,)) if isinstance(e, Asked) else e
        for e in examples
        for t in (e.targets if isinstance(e, Asked) else (0,))
    ]


def summed(trainable, examples):
    """Losses of examples as one batch, and gradients."""
    trained = trainable.trained()
    for parameter in trained.values():
        parameter.grad = None
    loss = trainable.losses(trainable.collate(examples, None, range(len(examples))))[trainable.stage]
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in trained.items() if p.grad is not None}


def agree(network, naive, examples):
    """The largest differences of losses and of gradients, as parts of their size, over batches of the same turns."""
    worst = dict.fromkeys(TOLERANCE, 0.0)
    network.train()
    for start in range(0, len(examples), CHECKED):
        chunk = examples[start : start + CHECKED]
        (own, slopes), (other, others) = summed(network, chunk), summed(naive, one_by_one(chunk))
        worst["losses"] = max(worst["losses"], abs(own - other) / abs(other))
        assert slopes.keys() == others.keys()
        size = sum(float(g.square().sum()) for g in others.values())
        apart = sum(float((slopes[n] - g).square().sum()) for n, g in others.items())
        worst["gradients"] = max(worst["gradients"], (apart / size) ** 0.5)
    for what, value in worst.items():
        if not value <= TOLERANCE[what]:
            raise SystemExit(f"{network.stage}: {what} of the two forms differ by {value:.2g} of their size")
    return worst


def measured(model, network, stage, examples, rounds):
    """A stage's row, and what its gradients differ by."""
    config = model.config
    epochs = stage_schedule(config, stage, seed=0).epochs
    naive, alone = Naive(network, model.parts.encoder), one_by_one(examples)
    row = Row(f"{stage}: {len(examples):,} turns, {len(alone):,} examples", [], [], [], "", epochs)

    def epoch(trainable, what, num):
        schedule = replace(stage_schedule(config, stage, seed=num), learning_rate=0.0, epochs=1, patience=0)
        return seconds(lambda: fit(trainable, what, schedule, Run()))[0]

    for num in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            network.states = frozen_states(model.parts, config, Run(directory=Path(folder)))
            row.naive.append(epoch(naive, alone, num))
            row.first.append(epoch(network, examples, num))
            row.later.append(epoch(network, examples, num + 1))
            if not num:
                worst = agree(network, naive, examples)
    network.states = frozen_states(model.parts, config, None)
    row.difference = f"{worst['losses']:.0e}"
    return row, worst["gradients"]


def measured_templates(model, examples, rounds, *, endless=False):
    """Rows without and with kept keys and values in the naive form, and templates by name; `endless` bans their end."""
    contexts, naive = [e.context for e in examples], Naive(model.conversation, model.parts.encoder)
    banned = model.speech._banned | ({model.layout.end} if endless else set())
    times, ours = {False: [], True: []}, []
    for _ in range(rounds):
        naive.eval()  # our network in it forgets the vectors of its nodes
        model._speech = None
        model.speech._banned = banned
        file = TemplateFile(Run(), model.layout, "templates")
        spent, made = seconds(lambda f=file: f.complete("train", examples, model._templates))
        ours.append(spent)
        for keep in times:
            spent, found = seconds(lambda k=keep: naive.templates(contexts, sorted(banned), keep=k))
            times[keep].append(spent)
            if differ := sum(a != b for a, b in zip(found, made.values(), strict=True)):
                raise SystemExit(f"{differ} of {len(found)} templates differ")
    model._speech = None
    name = f"templates: {len(contexts):,} of {statistics.mean(len(t) for t in made.values()):.1f} tokens"
    rows = [Row(f"{name}{', naive keeps its reading' * keep}", t, ours, [], "equal") for keep, t in times.items()]
    return rows, made


# ---- the world ----------------------------------------------------------------------------------------------------


def world(given):
    """Catalogue, and what is learnt from with a graph."""
    if given.workspace is None:
        with tempfile.TemporaryDirectory() as folder:
            for step in (fetch_dataset, fetch_metadata, link_entities, build_kg):
                step(Workspace(Path(folder)), dataset=given.dataset)
            return read(Workspace(Path(folder)), given.dataset, given.kg)
    return read(Workspace(given.workspace), given.dataset, given.kg)


def read(workspace, dataset, kg):
    data = read_dataset(workspace, dataset, linked=True)
    graph = load_kg(find_kg(workspace, dataset, kg), data.catalogue)
    return data.catalogue, replace(data.fit_data(refit=False), graph=graph)


def begun(catalogue, data, given):
    """A fusion stage and a model that have learnt a little: enough for templates of a few words."""
    preset, learnt = dict(model_spec(MODEL).preset), data.train[: given.learnt]
    settings = configuration.resolve(model_class(MODEL).config_class, preset, sets=given.sets, environment={})
    fusion = fusion_class(MODEL).untrained(catalogue, data, settings)
    ((_, network, examples, schedule),) = fusion.stages(learnt, 0)
    fit(network, examples, replace(schedule, epochs=1), Run())
    model = model_class(MODEL).begun(fusion)
    (_, network, examples, schedule), _ = model.stages(learnt, 0)
    fit(network, examples, replace(schedule, epochs=given.epochs, warmup=0.1), Run())
    return fusion, model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="a temporary one with the bundled sample, if not given")
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--kg", help="the graph; the newest, if not given")
    parser.add_argument("--dialogues", type=int, default=60)
    parser.add_argument("--learnt", type=int, default=300, help="dialogues that are learnt before any time is taken")
    parser.add_argument("--epochs", type=int, default=5, help="of them in the conversation stage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalogue, data = world(given)
    dialogues = data.train[: given.dialogues]
    fusion, model = begun(catalogue, data, given)
    nodes = model.layout.nodes
    schedules = [stage_schedule(model.config, s, seed=0) for s in ("fusion", "conversation", "recommendation")]
    print(
        f"{MODEL}, {given.dataset}: {len(dialogues)} of {len(data.train):,} dialogues; {nodes.count:,} nodes, "
        f"{nodes.edges().shape[1]:,} edges of {nodes.relations()} relations. torch {torch.__version__}, one thread.\n"
        f"CPU seconds an epoch, medians of {given.rounds} rounds. Ours is the mean over the preset's epochs "
        f"({', '.join(str(s.epochs) for s in schedules)}): one first epoch, which computes the encoder's states, and "
        "later ones, which read them.\n"
    )
    print("| stage | naive, s | ours, s | ratio | first / later epoch | ratio, first / later | losses differ by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    slopes = {}

    def told(network, stage, examples):
        row, slopes[stage] = measured(model, network, stage, examples, given.rounds)
        print(row, flush=True)

    told(fusion.network, "fusion", fusion.stages(dialogues, 0)[0][2])
    told(model.conversation, "conversation", model.stages(dialogues, 0)[0][2])
    some = [e for d in data.train for e in cut(d)][:AT_ONCE]
    rows, templates = measured_templates(model, some, given.rounds)
    rows += measured_templates(model, some, 1, endless=True)[0]
    told(model.recommendation, "recommendation", model.layout.recommendation_examples(dialogues, templates))
    print(*rows, sep="\n")
    print("\nGradients differ by " + ", ".join(f"{value:.0e} ({stage})" for stage, value in slopes.items()) + ".")


if __name__ == "__main__":
    main()
