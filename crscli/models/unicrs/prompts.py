"""UniCRS's prompts: a graph's entities and the words of a dialogue, fused, as keys and values before a text.

Knows tensors; nothing of tokens, dialogues and losses. Source: Wang et al., KDD 2022, section 3.2;
RUCAIBox/UniCRS, model_prompt.py. Differs: padded places are masked on both axes and in the prompt, unless set
otherwise; the graph is encoded once a step.
"""

import torch
from torch import Tensor, nn

from crscli.backbone import Prefix
from crscli.graph_encoder import Nodes, RelationalConv, relational_graph
from crscli.models.unicrs.config import UnicrsConfig


class Residual(nn.Module):
    """x + two layers with a bottleneck of half the width between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return x + self.layers(x)


class Entities(nn.Module):
    """Vectors of a graph's nodes: a table, one relational convolution with a residual, and two projections."""

    def __init__(self, nodes: Nodes, width: int, config: UnicrsConfig) -> None:
        super().__init__()
        own = config.node_width or width // 2
        self.graph = relational_graph(nodes, loops=config.self_loops)
        self.table = nn.Parameter(torch.empty(nodes.count, own))
        nn.init.xavier_uniform_(self.table)
        relations = nodes.relations(loops=config.self_loops)
        self.convolution = RelationalConv(own, own, relations=relations, bases=config.bases)
        self.residual = Residual(own)
        self.project = nn.Linear(own, width)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """(N, D) of all nodes, or (R, D) of some, at the cost of their neighbours alone."""
        own = self.table if rows is None else self.table[rows]
        return self.project(self.residual(own + self.convolution(self.table, self.graph, rows)))


class Prompts(nn.Module):
    """Makes the prompt of one stage.

    Shapes: B batch, W words, E entities, P places of the prompt, D the decoder's width.
    """

    def __init__(
        self,
        nodes: Nodes,
        config: UnicrsConfig,
        *,
        width: int,
        encoder_width: int,
        prefix: tuple[int, int, int],
        soft_tokens: int,
    ) -> None:
        """Draw the weights from torch's random numbers.

        Args:
            nodes: of the graph.
            config: settings.
            width: of the decoder.
            encoder_width: of the encoder's states.
            prefix: layers, heads, and head width of the decoder's keys and values.
            soft_tokens: learnt places that stand in every prompt.
        """
        super().__init__()
        self.config, self.shape = config, prefix
        self.entities = Entities(nodes, width, config)
        self.read = nn.Sequential(Residual(encoder_width), nn.Linear(encoder_width, width))
        self.affinity = nn.Linear(width, width, bias=False)
        layers, heads, head = prefix
        self.write = nn.Sequential(Residual(width), nn.Linear(width, layers * 2 * heads * head))
        self.soft: nn.Parameter | None = None
        if soft_tokens:
            self.soft = nn.Parameter(torch.randn(soft_tokens, width))
            self.soft_residual = Residual(width)

    def fused(
        self, states: Tensor, words: Tensor, entities: Tensor, named: Tensor, *, to_words: bool
    ) -> tuple[Tensor, Tensor]:
        """Words and entities, each knowing of the other.

        Args:
            states: (B, W, D') of the encoder.
            words: (B, W) bool, real ones.
            entities: (B, E, D).
            named: (B, E) bool, real ones.
            to_words: whether words are told of entities (conversation), or entities of words.

        Returns:
            (B, W or E, D) and which of them are real.

        Source: Eq. 2-4; the code makes shares over the other axis of them and divides by the width.
        """
        config = self.config
        if not config.use_words:
            return entities, named
        read = self.read(states)
        if not config.use_entities:
            return read, words
        width = read.shape[-1]
        scale = width if config.fusion_scale == "width" else width**0.5
        affinity = self.affinity(read) @ entities.transpose(1, 2) / scale  # (B, W, E)
        axis = 2 if to_words else 1
        other = named[:, None, :] if to_words else words[:, :, None]
        if config.fusion_softmax:
            affinity = affinity.masked_fill(~other, -torch.inf) if config.mask_pads else affinity
            affinity = affinity.softmax(axis)
        elif config.mask_pads:
            affinity = affinity.masked_fill(~other, 0.0)
        if to_words:
            return read + affinity @ entities, words
        return entities + affinity.transpose(1, 2) @ read, named

    def forward(
        self, states: Tensor, words: Tensor, entities: Tensor, named: Tensor, *, to_words: bool
    ) -> tuple[Prefix, Tensor]:
        """The prompt of B texts, and the mean (B, D) of what was fused for it.

        Its places have no positions, so their order means nothing.
        """
        places, real = self.fused(states, words, entities, named, to_words=to_words)
        pooled = torch.einsum("bp,bpd->bd", real / real.sum(1, keepdim=True).clamp(min=1), places)
        if self.soft is not None:
            soft = self.soft_residual(self.soft).expand(len(places), -1, -1)
            places = torch.cat([soft, places], dim=1)
            real = torch.cat([real.new_ones(len(real), soft.shape[1]), real], dim=1)
        layers, heads, head = self.shape
        made = self.write(places).view(*places.shape[:2], layers, 2, heads, head).permute(2, 3, 0, 4, 1, 5)
        if not self.config.mask_pads:
            real = torch.ones_like(real)
        start = torch.zeros(len(places), dtype=torch.long, device=places.device)
        return Prefix([(layer[0], layer[1]) for layer in made], real, start), pooled
