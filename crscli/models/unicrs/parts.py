"""What all stages of UniCRS stand on: a decoder, an encoder that is never trained, the graph's nodes, the layout."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from crscli.backbone import Adapter, Backbone, Shape
from crscli.backbone.counted import counted_embeddings
from crscli.catalogue import Catalogue
from crscli.dialogue import Dialogue, merge_turns
from crscli.errors import ArtifactMissing
from crscli.graph_encoder import Nodes
from crscli.kg import KnowledgeGraph
from crscli.models.unicrs.config import UnicrsConfig
from crscli.models.unicrs.layout import ENCODER_SPECIALS, SPECIALS, Layout
from crscli.training.checkpoints import load_tensors, save_tensors

_RECORD, _TABLES = "backbones.json", "tables.safetensors"


@dataclass
class Parts:
    """Decoder, encoder, nodes and layout, and the seed that random weights came from."""

    decoder: Backbone
    encoder: Backbone
    nodes: Nodes
    layout: Layout
    seed: int

    @classmethod
    def build(
        cls,
        graph: KnowledgeGraph,
        config: UnicrsConfig,
        *,
        corpus: Iterable[str] = (),
        saved: Path | None = None,
        offline: bool = False,
        seed: int = 0,
    ) -> Self:
        """Load or build both models.

        Args:
            graph: whose nodes stand for entities and items.
            config: settings.
            corpus: texts that tokenizers of random weights are learnt from.
            saved: a folder that `save` wrote, instead.
            offline: no model is downloaded.
            seed: of random weights.
        """
        texts = list(corpus)
        longest = config.context_tokens + config.response_tokens + 8
        decoder = Backbone.load(
            config.backbone,
            specials=SPECIALS,
            adapter=Adapter(config.tune),  # type: ignore[arg-type]  # checked by the settings
            shape=Shape(config.layers, config.width, config.heads, config.vocabulary),
            corpus=texts,
            tokenizer=saved / "decoder" if saved else None,
            positions=longest,
            dropout=0.0,
            offline=offline,
            seed=seed,
        )
        encoder = Backbone.load(
            config.encoder,
            specials=ENCODER_SPECIALS,
            adapter=Adapter("none"),
            shape=Shape(config.encoder_layers, config.width, config.heads, config.vocabulary),
            corpus=texts,
            tokenizer=saved / "encoder" if saved else None,
            positions=config.context_tokens,
            encoder=True,
            dropout=0.0,
            offline=offline,
            seed=seed,
        )
        # What is never trained must not begin as one and the same.
        for num, backbone in enumerate((decoder, encoder)):
            backbone.draw_specials(seed + num)
        encoder.special_rows.requires_grad_(False)
        nodes = Nodes(graph)
        return cls(decoder, encoder, nodes, Layout(decoder, encoder, nodes, config), seed)

    @property
    def tables(self) -> dict[str, Tensor]:
        """Token embeddings that neither a seed nor a download gives again."""
        models = {"decoder": self.decoder, "encoder": self.encoder}
        return {name: b.lm.get_input_embeddings().weight for name, b in models.items() if b.is_random}

    def count(self, catalogue: Catalogue, dialogues: Sequence[Dialogue]) -> Tensor:
        """Put counted embeddings into random weights; (N, D) of nodes by the words of their names.

        Items that a dialogue names count with the words of their genres and people, so that words of seekers come to
        lie near those of the items that go with them.
        """
        names = self.nodes.names(catalogue)
        texts = [" ".join((item.name, *item.genres, *item.directors, *item.cast[:3])) for item in catalogue]
        made = []
        for backbone in (self.decoder, self.encoder):
            items = backbone.tokenize([f" {text}" for text in texts])
            documents: list[list[int]] = list(items)
            told = [" ".join(t.text for t in merge_turns(d.turns)) for d in dialogues]
            for dialogue, tokens in zip(dialogues, backbone.tokenize(told), strict=True):
                mentioned = catalogue.vocabulary.nums([i for t in dialogue.turns for i in t.items])
                documents.append(tokens + [token for num in mentioned for token in items[num]])
            table = counted_embeddings(documents, backbone.vocabulary, backbone.width, self.seed)
            if backbone.is_random:
                backbone.put_embeddings(table)
            rows = backbone.tokenize([f" {name}" for name in names])
            made.append(torch.stack([table[row].mean(0) if row else table.new_zeros(table.shape[1]) for row in rows]))
        return made[0]

    def on(self, device: str) -> Self:
        """Move both models."""
        self.decoder.on(device)
        self.encoder.on(device)
        return self

    def save(self, directory: Path, config: UnicrsConfig) -> None:
        """Write tokenizers, the graph, and what the models are."""
        self.decoder.save_tokenizer(directory / "decoder")
        self.encoder.save_tokenizer(directory / "encoder")
        (directory / "graph").mkdir()
        self.nodes.graph.save(directory / "graph")
        if config.lexical and self.tables:
            save_tensors(self.tables, directory / _TABLES)
        record = {"seed": self.seed, "decoder": self.decoder.describe(), "encoder": self.encoder.describe()}
        (directory / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, catalogue: Catalogue, config: UnicrsConfig, *, offline: bool = False) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactMissing: the graph is of other items, or a backbone is another than the run was made with.
        """
        record: dict[str, Any] = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
        graph = KnowledgeGraph.load(directory / "graph")
        again = "make it again, or give the backbones it was made with"
        if graph.items.ids != catalogue.vocabulary.ids:
            raise ArtifactMissing(f"run {directory.name} was made with other items", "make it again")
        made = cls.build(graph, config, saved=directory, offline=offline, seed=record["seed"])
        made.decoder.require(record["decoder"], f"run {directory.name}", again)
        made.encoder.require(record["encoder"], f"run {directory.name}", again)
        if (directory / _TABLES).exists():
            saved = load_tensors(directory / _TABLES)
            with torch.no_grad():
                for name, table in made.tables.items():
                    table.copy_(saved[name])
        return made


def corpus_of(catalogue: Catalogue, dialogues: Sequence[Dialogue]) -> Iterable[str]:
    """Texts of train and names of items, for tokenizers."""
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield f"{'System' if turn.role == 'recommender' else 'User'}: {turn.text}"
    for item in catalogue:
        yield from (item.name, *item.genres, *item.directors, *item.cast[:3])
