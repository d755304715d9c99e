"""Settings of UniCRS, and the released code's where they differ from the paper's."""

from dataclasses import dataclass
from typing import Any

CODE: dict[str, Any] = {
    "mask_pads": False,
    "whole_turns": False,
    "trained_placeholder": False,
    "group_targets": False,
    "item_loss": "nodes",
    "reads_aloud": True,
    "template": False,
    "bare_templates": False,
    "conversation_soft_tokens": 20,
    "ban_in_context": True,
    "chosen_by": "last",
}
"""What the released code does otherwise than the paper says (`--recipe code`).

Left out are its faults: roles swapped in a third of ReDial's dialogues, entities in arbitrary order, numbers of
entities that change from build to build. Padded tokens have states of zeros here.
"""

CFCRS: dict[str, Any] = {
    "mask_pads": False,
    "group_targets": False,
    "trained_placeholder": False,
    "item_loss": "nodes",
    "reads_aloud": True,
    "template": False,
    "recommendation_soft_tokens": 0,
    "conversation_soft_tokens": 0,
    "context_tokens": 128,
    "response_tokens": 128,
    "entities": 43,
    "conversation_batch": 32,
    "conversation_epochs": 15,
    "conversation_rate": 5e-4,
    "chosen_by": "last",
}
"""The revision by the same authors a year later, without soft tokens and templates (`--recipe cfcrs`).

Source: RUCAIBox/CFCRS, which iEvaLM uses too; its examples all have an entity in the context, ours need not.
"""

STRUCTURE = (
    "backbone", "encoder", "layers", "width", "heads", "encoder_layers", "vocabulary", "tune", "lexical", "node_width",
    "bases", "self_loops", "context_tokens", "response_tokens", "query_residual",
)  # fmt: skip
"""What a fusion run and the training that begins with it have in common."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "tune": ("none", "full"),
    "item_loss": ("bce", "items", "nodes"),
    "pooling": ("last", "mean"),
    "fusion_scale": ("width", "root"),
    "chosen_by": ("valid", "last"),
    "share_of": ("all", "recommendation"),
}
_LEAST = {
    300: "vocabulary",
    1: "layers width heads encoder_layers bases context_tokens response_tokens template_tokens entities batch_size "
    "fusion_epochs conversation_batch conversation_epochs recommendation_epochs",
    0: "node_width recommendation_soft_tokens conversation_soft_tokens no_repeat micro_batch clip weight_decay warmup "
    "patience kept_gb gate_times",
}


@dataclass(frozen=True)
class UnicrsConfig:
    """Settings of UniCRS; the defaults are the paper's for ReDial with DialoGPT-small and RoBERTa-base.

    Source: Wang et al., KDD 2022; RUCAIBox/UniCRS. `CODE` lists where the two differ.
    """

    backbone: str = "microsoft/DialoGPT-small"
    """The decoder: hub id, folder, "random:NAME", or "tiny" for the shape below."""
    encoder: str = "roberta-base"
    """The encoder of words, which is never trained: hub id, folder, "random:NAME" or "tiny"."""
    layers: int = 2
    """Of a tiny decoder."""
    width: int = 64
    """Of a tiny decoder and encoder."""
    heads: int = 2
    """Of a tiny decoder and encoder."""
    encoder_layers: int = 1
    """Of a tiny encoder."""
    vocabulary: int = 4096
    """Tokens of a tiny decoder and encoder, learnt from the dialogues and items, at most."""
    tune: str = "none"
    """What of the decoder is trained: none (the paper), or full, for one that begins with random weights."""
    decoder_rate: float = 1.0
    """Of the rate of prompts, for a trained decoder in the stage that recommends."""
    lexical: bool = False
    """Whether token embeddings of random weights, and nodes, begin as what counts of the corpus tell. Not in the
    paper."""
    node_width: int = 0
    """Of a node's own vector; 0 for half of the decoder's width."""
    bases: int = 8
    """Of the relational convolution."""
    self_loops: bool = True
    """Whether heads of triples have a relation with themselves."""
    context_tokens: int = 200
    """Newest tokens of the dialogue that are read."""
    response_tokens: int = 183
    """Tokens of a response that are learnt."""
    entities: int = 32
    """Entities of the context that were named last."""
    whole_turns: bool = True
    """Whether the context is cut between turns, not inside one."""
    mask_pads: bool = True
    """Whether padded places are hidden; a row depends on its batch mates where they are not."""
    fusion_softmax: bool = True
    """Whether affinities of words and entities become shares; the paper's equations do not say so."""
    fusion_scale: str = "width"
    """What affinities are divided by: width (the code) or its root."""
    use_words: bool = True
    """Whether prompts know words; off is the paper's ablation "w/o word"."""
    use_entities: bool = True
    """Whether prompts know entities; off is "w/o entity"."""
    recommendation_soft_tokens: int = 10
    """Soft tokens of the recommendation prompt; 0 is half of "w/o soft tokens"."""
    conversation_soft_tokens: int = 50
    """Soft tokens of the conversation prompt."""
    pretrained: bool = True
    """Whether training begins with a fusion run; off is "w/o pre-training"."""
    template: bool = True
    """Whether a generated template stands in the recommendation prompt; off is "w/o template"."""
    bare_templates: bool = True
    """Whether a template without a place for an item is kept."""
    template_tokens: int = 50
    """Tokens of a template."""
    no_repeat: int = 3
    """N-grams of so many tokens stand only once in a template; 0 for no ban."""
    ban_in_context: bool = False
    """Whether the ban counts the context too."""
    trained_placeholder: bool = True
    """Whether the placeholder's row is trained in the conversation stage; it stays random otherwise."""
    item_loss: str = "bce"
    """Of the recommendation stage: bce over items (Eq. 9), a softmax over items, or over all nodes."""
    pooling: str = "last"
    """What the query is: the state of the last token, or the mean over all."""
    query_residual: bool = False
    """Whether the query holds the mean of the fused entities too, to which the decoder adds. Not in the paper; for
    decoders that begin with random weights."""
    reads_aloud: bool = False
    """Whether the conversation stage learns the context's tokens too."""
    group_targets: bool = True
    """Whether all targets of a turn are one example; each is one of its own otherwise."""
    fusion_epochs: int = 5
    """Of the fusion stage."""
    batch_size: int = 64
    """Of the fusion and the recommendation stage."""
    fusion_rate: float = 5e-4
    """Of the fusion stage."""
    conversation_epochs: int = 10
    """Of the conversation stage."""
    conversation_batch: int = 8
    """Of the conversation stage."""
    conversation_rate: float = 1e-4
    """Of the conversation stage."""
    recommendation_epochs: int = 5
    """Of the recommendation stage."""
    recommendation_rate: float = 1e-4
    """Of the recommendation stage."""
    warmup: float = 0.0
    """Share of a stage's steps; 0 for one epoch."""
    weight_decay: float = 0.01
    """Of matrices."""
    clip: float = 0.0
    """Longest gradient; 0 for no limit."""
    micro_batch: int = 0
    """Examples that are computed at once; 0 for all. Changes memory, not the result."""
    validations: int = 1
    """A epoch."""
    patience: int = 0
    """Validations without gain after which a stage stops; 0 for never."""
    chosen_by: str = "valid"
    """Which parameters of a stage are taken: the best on valid, or the last."""
    gate: float = 0.4
    """R@1 on valid that the fusion stage should reach."""
    gate_times: float = 0.0
    """Times the R@1 of the commonest target, where that is less than `gate`; 0 for `gate` alone."""
    share: float = 1.0
    """Share of the train dialogues that are learnt from (the paper's Figure 4)."""
    share_of: str = "all"
    """What the share is of: all stages, or the recommendation stage alone (the code)."""
    kept_gb: float = 16.0
    """Of disk that states of the encoder may take while training; 0 keeps none."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for least, names in _LEAST.items():
            for name in names.split():
                if getattr(self, name) < least:
                    raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("decoder_rate", "fusion_rate", "conversation_rate", "recommendation_rate", "share"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.share > 1:
            raise ValueError(f"share must be at most 1, not {self.share}")
        if self.warmup >= 1:
            raise ValueError(f"warmup must be below 1, not {self.warmup}")
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        if not self.use_words and not self.use_entities:
            raise ValueError("use_words and use_entities cannot both be off: nothing would be fused")
