"""The models crs knows, by name. Literal, loaded when asked for; nothing here imports a model."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from crscli.errors import UsageError, unknown_name


@dataclass(frozen=True)
class ModelSpec:
    """A named model: the class that implements it, and the settings that make the preset.

    `needs_run` is True if it cannot be fitted on the fly when it is evaluated; `uses_graph` if it can take items'
    neighbours from a knowledge graph; `is_neural` if it is trained by steps, on a GPU where there is one; `needs_graph`
    if it learns on a knowledge graph and links; `fusion` the class of its pre-training, where it has one.
    """

    target: str
    summary: str
    source: str
    preset: dict[str, Any] = field(default_factory=dict)
    needs_run: bool = False
    uses_graph: bool = False
    is_neural: bool = False
    needs_graph: bool = False
    fusion: str = ""


_TRIVIAL = "crscli.models.trivial"
_NEIGHBOURS = "crscli.models.neighbours:SignalModel"
_PECRS = "crscli.models.pecrs:Pecrs"
_UNICRS = "crscli.models.unicrs:Unicrs"
_FUSION = "crscli.models.unicrs:Fusion"
_LLM = "crscli.models.llm"
_REFICR = "crscli.models.reficr:Reficr"
_RECSYS24 = "Yang & Chen, RecSys 2024"
_KDD22 = "Wang et al., KDD 2022"
_EACL24 = "Ravaut et al., EACL 2024"

MODELS: dict[str, ModelSpec] = {
    "popularity": ModelSpec(
        f"{_TRIVIAL}:Popularity", "items that recommenders named most often in training", "trivial baseline"
    ),
    "copy": ModelSpec(f"{_TRIVIAL}:Copy", "items of the context, the last mentioned first", "trivial baseline"),
    "copy-popularity": ModelSpec(
        f"{_TRIVIAL}:CopyPopularity", "items of the context first, then popularity", "trivial baseline"
    ),
    "bm25": ModelSpec(
        _NEIGHBOURS,
        "words of the dialogue against the text of each item",
        "Robertson & Zaragoza 2009, by bm25s",
        {"signal": "bm25"},
    ),
    "cooccurrence": ModelSpec(
        _NEIGHBOURS,
        "items named in the same training dialogues as those of the context",
        "item-item counts with shrinkage",
        {"signal": "cooccurrence"},
    ),
    "ease": ModelSpec(
        _NEIGHBOURS,
        "closed-form linear autoencoder over the items of a dialogue",
        "Steck, WWW 2019",
        {"signal": "ease"},
    ),
    "knn": ModelSpec(
        _NEIGHBOURS,
        "similar training contexts vote with what was recommended there",
        "after NBCRS, RecSys 2024, without a language model",
        {"signal": "knn"},
    ),
    "blend": ModelSpec(
        "crscli.models.blend:Blend",
        "cheap signals ordered by a learned listwise ranker; says why; no language model",
        "crs",
        needs_run=True,
        uses_graph=True,
    ),
    "blend-wide": ModelSpec(
        "crscli.models.blend:Blend",
        "blend with a small network that retrieves further candidates, and more rankers; slower to fit",
        "crs",
        {"retriever": True, "seeds": 5},
        needs_run=True,
        uses_graph=True,
    ),
    "pecrs-tiny": ModelSpec(
        _PECRS,
        "PECRS with a small backbone of its own, trained whole from the data; needs no download and no GPU",
        _EACL24,
        {
            "backbone": "tiny",
            "vocabulary": 4096,
            "tune": "full",
            "context_tokens": 160,
            "item_fields": "name,genres,keywords,directors,cast,plot",
            "lexical": True,
            "similarity": "cosine",
            "temperature": 0.1,
            "head_depth": 1,
            "rerank_through_query": False,
            "rerank_residual": True,
            "recall_weight": 1.0,
            "rerank_weight": 0.5,
            "generation_weight": 2.0,
            "reads_aloud": True,
            "epochs": 16,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "embedding_rate": 0.3,
        },
        needs_run=True,
        is_neural=True,
    ),
    "pecrs-small": ModelSpec(
        _PECRS,
        "one language model finds items, orders them and speaks; GPT-2 small with adapters",
        _EACL24,
        {"backbone": "gpt2"},
        needs_run=True,
        is_neural=True,
    ),
    "pecrs-medium": ModelSpec(
        _PECRS,
        "the same with GPT-2 medium",
        _EACL24,
        {"backbone": "gpt2-medium"},
        needs_run=True,
        is_neural=True,
    ),
    "kbrd": ModelSpec(
        "crscli.models.kbrd:Kbrd",
        "what a dialogue names, pooled on a knowledge graph, ranks items and colours a small Transformer's words",
        "Chen et al., EMNLP 2019",
        needs_run=True,
        is_neural=True,
        needs_graph=True,
    ),
    "unicrs-tiny": ModelSpec(
        _UNICRS,
        "UniCRS with a small decoder and encoder of its own; needs no download and no GPU",
        _KDD22,
        {
            "backbone": "tiny",
            "encoder": "tiny",
            "tune": "full",
            "lexical": True,
            "node_width": 64,
            "context_tokens": 128,
            "response_tokens": 64,
            "conversation_batch": 32,
            "query_residual": True,
            "batch_size": 32,
            "fusion_epochs": 10,
            "fusion_rate": 3e-3,
            "conversation_rate": 1e-3,
            "recommendation_rate": 1e-3,
            "patience": 3,
            "gate_times": 5.0,
        },
        needs_run=True,
        is_neural=True,
        needs_graph=True,
        fusion=_FUSION,
    ),
    "unicrs": ModelSpec(
        _UNICRS,
        "prompts of words and a graph's entities steer a frozen language model; DialoGPT-small, RoBERTa-base",
        _KDD22,
        needs_run=True,
        is_neural=True,
        needs_graph=True,
        fusion=_FUSION,
    ),
    "reficr-tiny": ModelSpec(
        _REFICR,
        "ReFICR with a small decoder of its own, trained whole from the data; needs no download and no GPU",
        _RECSYS24,
        {
            "backbone": "tiny",
            "tune": "full",
            "lexical": True,
            "tags": "tokens",
            "layout": "shared",
            "item_names": "placeholder",
            "query_tokens": 128,
            "passage_tokens": 96,
            "prompt_tokens": 128,
            "reply_tokens": 64,
            "dropout": 0.2,
            "temperature": 0.1,
            "negatives": 4,
            "in_batch": True,
            "random_negatives": 64,
            "reads_aloud": True,
            "first_epochs": 4,
            "epochs": 6,
            "batch_size": 32,
            "learning_rate": 2e-3,
            "embedding_rate": 0.3,
            "blended": True,
        },
        needs_run=True,
        is_neural=True,
    ),
    "reficr-small": ModelSpec(
        _REFICR,
        "the same subtasks on a language model of half a billion parameters with adapters",
        _RECSYS24,
        {
            "backbone": "Qwen/Qwen2.5-0.5B",
            "lora_rank": 32,
            "tags": "tokens",
            "layout": "shared",
            "item_names": "placeholder",
            "query_tokens": 512,
            "passage_tokens": 384,
            "prompt_tokens": 384,
            "reply_tokens": 128,
            "in_batch": True,
            "chunk_tokens": 16384,
            "checkpointing": True,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "blended": True,
        },
        needs_run=True,
        is_neural=True,
    ),
    "reficr": ModelSpec(
        _REFICR,
        "GritLM-7B in 4 bits with adapters finds items and dialogues, orders, decides and speaks, by instructions",
        _RECSYS24,
        {"quantise": "nf4", "checkpointing": True, "chunk_tokens": 16384},
        needs_run=True,
        is_neural=True,
    ),
    "gcrs": ModelSpec(
        "crscli.models.gcrs:Gcrs",
        "a walk over the graph of train dialogues and what they name; with an endpoint, a language model chooses",
        "after G-CRS, 2025, without its trained reasoner",
    ),
    "embedding": ModelSpec(
        "crscli.models.embedding:Embedding",
        "any encoder, frozen: the items nearest to the dialogue (minilm, which a package brings along)",
        "zero-shot embedding, as in ReFICR's Table 2",
    ),
    "llm-zeroshot": ModelSpec(
        f"{_LLM}:LlmZeroShot",
        "a language model behind an endpoint names titles, which are looked for in the catalogue",
        "He et al., CIKM 2023",
    ),
    "llm-rerank": ModelSpec(
        f"{_LLM}:LlmRerank",
        "a language model behind an endpoint orders the candidates of another model (blend)",
        "after ReFICR, without training",
    ),
}


def model_spec(name: str) -> ModelSpec:
    """Look a model up.

    Raises:
        UsageError: unknown; suggests the nearest.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS, "crs models lists what there is")
    return MODELS[name]


def model_class(name: str) -> Any:
    """Import the class of a model: a Recommender and Fittable with a `config_class` (crscli.recommender)."""
    return _imported(model_spec(name).target)


def fusion_class(name: str) -> Any:
    """Import the class of a model's pre-training: a Fittable with the same `config_class`.

    Raises:
        UsageError: it has none.
    """
    target = model_spec(name).fusion
    if not target:
        having = ", ".join(known for known, spec in MODELS.items() if spec.fusion)
        raise UsageError(f"{name} is not pre-trained", f"models that are: {having}")
    return _imported(target)


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
