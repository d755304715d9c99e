"""Settings of ReFICR, and the released code's where they differ from the paper's."""

from dataclasses import dataclass
from typing import Any

CODE: dict[str, Any] = {"epochs": 1, "in_batch": True, "mask_false_negatives": False, "whole_turns": False}
"""What the released code does otherwise than the paper says (`--recipe code`).

Left out are its faults: inverted roles, the oldest tokens kept where the newest should be, instructions that end
otherwise in training than in use, gold items in the prompt of a reply, an act that gates nothing.
"""

_CHOICES: dict[str, tuple[str, ...]] = {
    "tune": ("lora", "full", "lora+full", "none"),
    "quantise": ("", "nf4"),
    "tags": ("text", "tokens"),
    "layout": ("shared", "paper"),
    "item_names": ("written", "placeholder"),
    "second_stage": ("continue", "restart"),
    "conversations": ("trained", "untrained", "none"),
    "chosen_by": ("valid", "last"),
    "ranking": ("likelihood", "constrained", "free", "random", "none"),
}
_LEAST = {
    1: "layers width heads lora_rank query_tokens passage_tokens prompt_tokens reply_tokens batch_size candidates "
    "neighbours validations epochs",
    300: "vocabulary",
    0: "first_epochs negatives random_negatives chunk_tokens micro_batch patience clip weight_decay warmup dropout "
    "lora_dropout item_weight conversation_weight language_weight margin mined_depth skipped similar_weight",
}
_FIELDS = ("title", "name", "year", "cast", "directors", "writers", "genres", "keywords", "companies", "plot")


@dataclass(frozen=True)
class ReficrConfig:
    """Settings of ReFICR; the defaults are the paper's, with GritLM-7B.

    Source: Yang & Chen, RecSys 2024; yt556677/ReFICR, run.sh. `CODE` lists where the two differ.
    """

    backbone: str = "GritLM/GritLM-7B"
    """Hub id ("id@revision"), folder, "random:NAME" for a known shape with random weights, "tiny" for the next four."""
    layers: int = 2
    """Of a tiny backbone."""
    width: int = 64
    """Of a tiny backbone."""
    heads: int = 2
    """Of a tiny backbone."""
    vocabulary: int = 4096
    """Tokens of a tiny backbone, learnt from the dialogues and items, at most."""
    tune: str = "lora"
    """What of the backbone is trained: lora, full, lora+full, none."""
    quantise: str = ""
    """nf4 holds the frozen layers in 4 bits (QLoRA; needs the extra qlora)."""
    checkpointing: bool = False
    """Whether hidden states inside the layers are computed again in the backward pass, which takes less memory."""
    lora_rank: int = 64
    """Width of the adapters."""
    lora_alpha: float = 16.0
    """Adapters are scaled by alpha / rank."""
    lora_dropout: float = 0.05
    """Before the adapters."""
    lora_targets: str = "all-linear"
    """all-linear, qkv, qv, or module names."""
    dropout: float = 0.0
    """In the backbone."""
    lexical: bool = False
    """Whether token embeddings begin as what counts of the corpus tell. Not in the paper; for random weights."""
    tags: str = "text"
    """How <|user|> and its like are written: text (GritLM), or tokens of their own with trained rows."""
    instructions: bool = True
    """Whether embedded texts have an instruction before them; without: the paper's Table 4."""
    layout: str = "paper"
    """Prompts: paper (candidates before the dialogue), or shared: the dialogue first, read once for all subtasks."""
    item_names: str = "written"
    """Items of a reply: names written inside <item> tags (paper), or a placeholder each."""
    whole_turns: bool = True
    """Whether a dialogue is cut between turns, not inside one; the newest are kept."""
    query_tokens: int = 512
    """Newest tokens of the dialogue that are embedded."""
    passage_tokens: int = 1024
    """Tokens of an item's text, or of a stored conversation, that are embedded."""
    prompt_tokens: int = 1024
    """Newest tokens of the dialogue in a prompt."""
    reply_tokens: int = 512
    """Tokens of a response that are learnt; also the longest reply."""
    item_fields: str = "name,genres,directors,cast,keywords,plot"
    """Fields of an item's text in this order; leave one out to ablate it."""
    candidate_fields: str = "name,genres"
    """Fields of a candidate in the prompt of the ranking; the code shows the title alone."""
    temperature: float = 0.02
    """Divides cosines in the contrastive loss."""
    negatives: int = 9
    """Mined negatives of a row in the second stage; 0 for none: the paper's Figure 3."""
    in_batch: bool = False
    """Whether the passages of the batch's other rows are negatives too in the second stage; in the first they are."""
    random_negatives: int = 0
    """Items drawn for all rows of a batch. Not in the paper."""
    mask_false_negatives: bool = True
    """Whether a passage is no negative of a row that it may be right for: a target, a title of the same name, a film
    that the seeker has named, a conversation with a target in common or of the same dialogue."""
    margin: float = 0.0
    """A passage whose cosine is above the positive's by more is no negative either; 0 for no limit."""
    every_positive: bool = True
    """Whether all targets of a turn are positives of its row, not one of them by lot."""
    mined_depth: int = 50
    """Best passages of the first stage among which the negatives of a row are drawn; the paper takes the first nine."""
    skipped: int = 0
    """First passages that are not mined: near duplicates."""
    similar_weight: float = 1.0
    """Of the likeness of targets that is taken off a mined conversation's score (the paper's Eq. 3)."""
    item_weight: float = 1.0
    """Of the loss of finding items; 0 leaves it out."""
    conversation_weight: float = 1.0
    """Of the loss of finding conversations; 0 leaves it out."""
    language_weight: float = 1.0
    """Of the loss of answers: ranking, management, response; 0 leaves it out."""
    reads_aloud: bool = False
    """Whether the dialogue's newest turns are learnt too, not answers alone. Not in the paper; for random weights."""
    chunk_tokens: int = 0
    """Slots of embedded texts that hold their hidden states at once (GradCache); 0 for all. Changes memory alone."""
    first_epochs: int = 1
    """Of the first stage; after 0 the network mines as it began."""
    epochs: int = 2
    """Of the second stage."""
    second_stage: str = "continue"
    """Whether the second stage goes on from the first or begins anew; the paper does not say."""
    chosen_by: str = "last"
    """Parameters of the second stage: the last ones (paper), or those with the best recall on valid, which says nothing
    of the answers. Those of the first stage are chosen on valid."""
    batch_size: int = 2
    """Rows of a step, over all processes."""
    micro_batch: int = 0
    """Rows that are computed at once; 0 for all. Changes memory, not the result."""
    learning_rate: float = 2e-5
    """At the end of the warm-up."""
    embedding_rate: float = 1.0
    """Share of the learning rate for token embeddings, where they are trained: counted ones should change slowly."""
    warmup: float = 0.03
    """Share of the steps."""
    weight_decay: float = 0.0
    """Of matrices."""
    clip: float = 1.0
    """Longest gradient; 0 for no limit."""
    validations: int = 1
    """A epoch."""
    patience: int = 0
    """Validations without gain after which a stage stops; 0 for never."""
    conversations: str = "trained"
    """Similar conversations: trained, untrained (found, but not learnt to be), or none: the paper's Table 4."""
    neighbours: int = 20
    """Similar conversations that vote; the nearest one stands in the prompt of the ranking."""
    ranking: str = "likelihood"
    """How candidates are ordered: by the likelihood of their labels, by an answer whose labels are constrained, by one
    that is free, at random, or not at all."""
    candidates: int = 10
    """Items that are ordered: the paper's Figure 4."""
    blended: bool = False
    """Whether votes of conversations, popularity, mentions and the ranking are weighed together with the similarity, by
    weights fitted on valid. Not in the paper."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                known = ", ".join(choice or "''" for choice in allowed)
                raise ValueError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        for name in ("item_fields", "candidate_fields"):
            if unknown := set(_listed(getattr(self, name))) - set(_FIELDS):
                raise ValueError(f"{name}: {', '.join(sorted(unknown))} unknown; known: {', '.join(_FIELDS)}")
        for least, names in _LEAST.items():
            for name in names.split():
                if getattr(self, name) < least:
                    raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "embedding_rate", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if max(self.dropout, self.lora_dropout, self.warmup) >= 1:
            raise ValueError("dropout, lora_dropout and warmup lie below 1")
        if wrong := next((text for test, text in self._combinations() if test), None):
            raise ValueError(wrong)

    def _combinations(self) -> tuple[tuple[bool, str], ...]:
        """Settings that exclude each other, each with what to say."""
        losses = self.item_weight + self.conversation_weight + self.language_weight
        finds = self.item_weight + self.conversation_weight > 0
        compares = self.negatives > 0 or self.in_batch or self.random_negatives > 0
        asks = self.ranking not in ("none", "random")
        return (
            (self.width % self.heads > 0, "width must be a multiple of heads"),
            (losses == 0, "one of item_weight, conversation_weight and language_weight must be above 0"),
            (
                finds and not compares,
                "negatives, in_batch or random_negatives must give the second stage something to tell apart",
            ),
            (asks and self.language_weight == 0, f"ranking={self.ranking} needs language_weight above 0, or take none"),
            (self.candidates > 100, "candidates is at most 100"),
            (bool(self.quantise) and self.tune != "lora", "quantise goes with tune=lora alone"),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an item's text."""
        return _listed(self.item_fields)

    @property
    def shown_fields(self) -> tuple[str, ...]:
        """The fields of a candidate in a prompt."""
        return _listed(self.candidate_fields)

    @property
    def learns_conversations(self) -> bool:
        """Whether finding similar conversations is trained."""
        return self.conversations == "trained" and self.conversation_weight > 0


def _listed(names: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in names.split(",") if part.strip())
