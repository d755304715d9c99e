"""Settings of PECRS, and the released code's where they differ from the paper's."""

from dataclasses import dataclass
from typing import Any

CODE: dict[str, Any] = {
    "lora_targets": "qv",
    "head_depth": 1,
    "rerank_through_query": False,
    "similarity": "dot",
    "rerank_temperature": 1.2,
    "smoothing": 0.02,
    "candidates_see": "each-other",
    "candidate_positions": "zero",
    "item_position": "code",
    "first_turn_items": False,
    "whole_turns": False,
    "no_item_target": False,
    "recall_weight": 0.8,
    "rerank_weight": 1.0,
    "generation_weight": 0.15,
}
"""What the released code does otherwise than the paper says (`--recipe code`).

Left out are its faults: weights that a step unfreezes by accident (`tune=lora+full` gives that), item vectors that
depend on the padding of their batch, one parameter listed twice, and a choice of the checkpoint on test.
"""

_CHOICES: dict[str, tuple[str, ...]] = {
    "tune": ("lora", "full", "lora+full", "none"),
    "item_position": ("left", "code", "mention"),
    "pooling": ("learned", "mean", "last"),
    "candidates_see": ("context", "each-other"),
    "candidate_positions": ("none", "zero"),
    "similarity": ("angular", "dot", "cosine"),
    "decision": ("token", "placeholder"),
}
_LEAST = {
    1: "layers width heads lora_rank context_tokens turn_tokens item_tokens epochs batch_size candidates validations "
    "head_depth",
    300: "vocabulary",
    0: "negatives micro_batch item_cache patience clip weight_decay warmup dropout lora_dropout smoothing "
    "recall_weight rerank_weight generation_weight",
}
_FIELDS = ("title", "name", "year", "cast", "directors", "writers", "genres", "keywords", "companies", "plot")


@dataclass(frozen=True)
class PecrsConfig:
    """Settings of PECRS; the defaults are the paper's for ReDial with GPT-2 small.

    Source: Ravaut et al., EACL 2024; Ravoxsg/efficient_unified_crs, main.py. `CODE` lists where the two differ.
    """

    backbone: str = "gpt2"
    """Hub id ("id@revision"), folder, "random:NAME" for a known shape with random weights, "tiny" for the next four."""
    layers: int = 2
    """Of a tiny backbone."""
    width: int = 64
    """Of a tiny backbone."""
    heads: int = 2
    """Of a tiny backbone."""
    vocabulary: int = 8192
    """Tokens of a tiny backbone, learnt from the dialogues and items, at most."""
    tune: str = "lora"
    """What of the backbone is trained: lora, full, lora+full, none."""
    lora_rank: int = 16
    """Width of the adapters."""
    lora_alpha: float = 16.0
    """Adapters are scaled by alpha / rank."""
    lora_dropout: float = 0.1
    """Before the adapters."""
    lora_targets: str = "qkv"
    """qkv, qv (the code's old library), all-linear, or module names."""
    dropout: float = 0.1
    """In the backbone, never while items are encoded."""
    context_tokens: int = 256
    """Newest tokens of the dialogue that are read, an item counting as one."""
    turn_tokens: int = 64
    """Tokens of a turn that are read; also the longest response."""
    item_tokens: int = 256
    """Tokens of an item's text that are read."""
    item_fields: str = "title,cast,directors,genres,plot"
    """Fields of an item's text in this order, three names of a cast; leave one out to ablate it."""
    item_position: str = "left"
    """Where a turn's items stand: left of its text (paper), code (seeker: right), mention (in place)."""
    first_turn_items: bool = True
    """Whether items of the opening turn are read."""
    whole_turns: bool = True
    """Whether the context is cut between turns, not inside one."""
    pooling: str = "learned"
    """Of an item's hidden states: learned weights, mean, or the last one."""
    item_head: bool = True
    """Whether the two layers after the pooling are there."""
    item_gradient: bool = False
    """Whether item texts teach the backbone too."""
    head_depth: int = 2
    """Layers of the query head and of the scoring head: 2 (paper) or 1 (code)."""
    rerank_through_query: bool = True
    """Whether candidates pass the query head before they are scored."""
    lexical: bool = False
    """Whether mean token embeddings are added to item vectors and queries, the network beginning with nothing to add;
    token embeddings then begin as what counts of the corpus tell. Not in the paper; for random weights."""
    similarity: str = "angular"
    """Of query and item: angular (minus the angular distance), dot or cosine."""
    temperature: float = 1.0
    """Divides similarities in the recall loss."""
    rerank_temperature: float = 1.0
    """Divides scores in the rerank loss."""
    smoothing: float = 0.0
    """Label smoothing of the generation loss."""
    rerank_residual: bool = False
    """Whether rerank scores are added to the recall's similarities, instead of replacing them. Not in the paper."""
    candidates_see: str = "context"
    """What a candidate sees in the rerank pass besides itself: context, or each-other too."""
    candidate_positions: str = "none"
    """Position embedding of candidates: none, or that of place zero."""
    negatives: int = 149
    """Items drawn for each step; 0 takes the whole catalogue (with item_cache)."""
    share_batch: bool = True
    """Whether all rows of a batch have the same negatives."""
    share_tasks: bool = True
    """Whether recall and rerank have the same negatives."""
    item_cache: int = 0
    """Steps for which items' hidden states are kept before they are computed anew; 0 computes them in each step."""
    recall_weight: float = 0.15
    """Of the recall loss; 0 leaves it out."""
    rerank_weight: float = 0.85
    """Of the rerank loss; 0 leaves it out."""
    generation_weight: float = 1.0
    """Of the generation loss; 0 leaves it out."""
    no_item_target: bool = True
    """Whether a response without item teaches that no item follows; needed for the model's own decision."""
    reads_aloud: bool = False
    """Whether the generation loss is over the context's tokens too. Not in the paper; for random weights."""
    decision: str = "token"
    """When to recommend: token ([REC] is likelier than a response without), placeholder (it speaks of an item)."""
    candidates: int = 700
    """Items that are reranked when ranking; the rest follow by similarity."""
    epochs: int = 10
    """Passes over the training points."""
    batch_size: int = 8
    """Points of a step, over all processes."""
    micro_batch: int = 0
    """Points that are computed at once; 0 for all. Changes memory, not the result."""
    learning_rate: float = 3e-5
    """At the end of the warm-up."""
    embedding_rate: float = 1.0
    """Share of the learning rate for token embeddings, where they are trained: counted ones should change slowly."""
    warmup: float = 0.1
    """Share of the steps."""
    weight_decay: float = 0.001
    """Of matrices."""
    clip: float = 0.0
    """Longest gradient; 0 for no limit."""
    validations: int = 1
    """A epoch."""
    patience: int = 0
    """Validations without gain after which training stops; 0 for never."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if unknown := set(self.fields) - set(_FIELDS):
            raise ValueError(f"item_fields: {', '.join(sorted(unknown))} unknown; known: {', '.join(_FIELDS)}")
        for least, names in _LEAST.items():
            for name in names.split():
                if getattr(self, name) < least:
                    raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "embedding_rate", "temperature", "rerank_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if max(self.dropout, self.lora_dropout, self.smoothing, self.warmup) >= 1:
            raise ValueError("dropout, lora_dropout, smoothing and warmup lie below 1")
        if wrong := next((text for test, text in self._combinations() if test), None):
            raise ValueError(wrong)

    def _combinations(self) -> tuple[tuple[bool, str], ...]:
        """Settings that exclude each other, each with what to say."""
        losses = self.recall_weight + self.rerank_weight + self.generation_weight
        return (
            (self.head_depth > 2, "head_depth is 1 or 2"),
            (self.width % self.heads > 0, "width must be a multiple of heads"),
            (losses == 0, "one of recall_weight, rerank_weight and generation_weight must be above 0"),
            (self.negatives == 0 and not self.item_cache, "negatives=0 (the whole catalogue) needs item_cache"),
            (self.item_gradient and self.item_cache > 0, "item_gradient and item_cache exclude each other"),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an item's text."""
        return tuple(name.strip() for name in self.item_fields.split(",") if name.strip())
