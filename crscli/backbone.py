"""Tokenizer, language model and adapter behind one interface: embed, encode, continue, give logits.

The door to transformers, peft and the model hub. Padding, positions and masks are explicit here, so that left, right
and no padding agree and a row never depends on its batch mates. Knows nothing about dialogues, items or training.
"""

import contextlib
import hashlib
import inspect
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
import transformers
from huggingface_hub import snapshot_download
from peft import LoraConfig, inject_adapter_in_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from crscli.errors import ArtifactMissing, ConfigError, CrsError, MachineError, SourceError, UsageError

Tune = Literal["lora", "full", "lora+full", "none"]

_SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"type": "gpt2", "layers": 12, "width": 768, "heads": 12, "vocabulary": 50_257},
    "gpt2-medium": {"type": "gpt2", "layers": 24, "width": 1024, "heads": 16, "vocabulary": 50_257},
    "microsoft/DialoGPT-small": {"type": "gpt2", "layers": 12, "width": 768, "heads": 12, "vocabulary": 50_257},
    "microsoft/DialoGPT-medium": {"type": "gpt2", "layers": 24, "width": 1024, "heads": 16, "vocabulary": 50_257},
}
"""Shapes that `random:NAME` can build without a download."""

_ENCODERS = ("bert", "roberta")
_TINY = ("gpt2", "llama", "mistral", "qwen2", *_ENCODERS)
_ATTENTION_NAMES = {
    "c_attn": ("c_attn",),
    "q_proj": ("q_proj", "k_proj", "v_proj"),
    "query": ("query", "key", "value"),
    "query_key_value": ("query_key_value",),
}
_BF16_TOLERANCE, _FP32_TOLERANCE = 0.1, 1e-3


@dataclass(frozen=True)
class Shape:
    """Size of a backbone that is built with random weights."""

    layers: int = 2
    width: int = 64
    heads: int = 2
    vocabulary: int = 8192
    positions: int = 1024


@dataclass(frozen=True)
class Adapter:
    """What of a backbone is trained.

    `tune`: "lora" adapters on frozen weights, "full" all weights, "lora+full" both, "none" neither. `targets`: "qkv" or
    "qv" (the attention's input projections), "all-linear", or module names separated by commas.
    """

    tune: Tune = "lora"
    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.1
    targets: str = "qkv"


@dataclass
class Prefix:
    """Keys and values of tokens that were encoded before: what a continuation attends to.

    `layers` L pairs of (B, H, P, D / H); `mask` (B, P) bool, which of them are real; `lengths` (B,) the next position.
    """

    layers: list[tuple[Tensor, Tensor]]
    mask: Tensor
    lengths: Tensor

    def select(self, rows: Tensor) -> "Prefix":
        """The prefix of some rows, repeated or reordered."""
        return Prefix([(k[rows], v[rows]) for k, v in self.layers], self.mask[rows], self.lengths[rows])

    def first(self, lengths: Tensor) -> "Prefix":
        """Only the first `lengths` (B,) columns of each row; rows are padded to the right."""
        width = int(lengths.max())
        mask = torch.arange(width, device=lengths.device) < lengths[:, None]
        return Prefix([(k[:, :, :width], v[:, :, :width]) for k, v in self.layers], mask, lengths)


class Backbone(nn.Module):
    """A language model with its tokenizer.

    Ids 0..V-1 are the model's own, V..V+S-1 the special tokens; ids from V + S on are vectors that the caller gives.
    Special tokens are not known to the tokenizer: no text can spell one.
    """

    def __init__(self, lm: Any, tokenizer: Any, name: str, *, specials: Sequence[str] = (), revision: str = "") -> None:
        """Wrap a transformers model; `load` is the usual way."""
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.name = name
        self.revision = revision
        self.specials = tuple(specials)
        self.is_decoder = lm.get_output_embeddings() is not None
        table = lm.get_input_embeddings().weight
        self.vocabulary, self.width = table.shape
        # RoBERTa counts positions from its padding index on.
        embeddings = getattr(lm.base_model, "embeddings", None)
        padding = getattr(embeddings, "padding_idx", None)
        self._first_position = 0 if padding is None else int(padding) + 1
        self.positions = int(getattr(lm.config, "max_position_embeddings", 0) or 1 << 30) - self._first_position
        # Explicit masks know no sliding window: within it, the model needs none.
        self.positions = min(self.positions, getattr(lm.config, "sliding_window", None) or self.positions)
        self.special_rows = nn.Parameter(table.mean(0).repeat(len(self.specials), 1).detach().clone().float())
        self.fingerprint = _fingerprint(lm)
        # transformers 5.24 renamed the argument; under the old name it warns, under a wrong one it is silent.
        parameters = inspect.signature(lm.base_model.forward).parameters
        self._cache_argument = "cache" if "cache" in parameters else "past_key_values"

    # ---- building ---------------------------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        name: str,
        *,
        specials: Sequence[str] = (),
        adapter: Adapter | None = None,
        shape: Shape | None = None,
        corpus: Iterable[str] = (),
        tokenizer: Path | None = None,
        positions: int = 0,
        encoder: bool = False,
        dropout: float | None = None,
        offline: bool = False,
        seed: int = 0,
    ) -> Self:
        """Load a pretrained model, or build one with random weights.

        Args:
            name: "tiny" or "tiny:TYPE" (gpt2, llama, mistral, qwen2, bert, roberta) of the given shape; "random:NAME"
                a known model's shape, or a local folder's, with random weights; else a local folder or a hub id,
                "id@revision" for one revision.
            specials: names of special tokens; each gets a trainable row.
            adapter: what is trained; LoRA by default.
            shape: of "tiny".
            corpus: texts on which a byte-level BPE is trained for random weights.
            tokenizer: a saved tokenizer's folder, instead of training one.
            positions: how many the longest sequence needs.
            encoder: load an encoder (bidirectional) instead of a decoder.
            dropout: everywhere in the model while training; the model's own by default.
            offline: look for hub ids in the local cache alone.
            seed: of random weights.

        Raises:
            SourceError: the hub cannot be reached.
            ConfigError: the folder lacks a tokenizer or weights, or it is the wrong kind of model.
            UsageError: an unknown name, or LoRA targets that are no linear layers of the model.
            ArtifactMissing: the saved tokenizer cannot be read.
        """
        is_random = name.split(":")[0] in ("tiny", "random")
        with _quiet(), _seeded(seed):
            if is_random:
                lm, tok, revision = _random_model(name, shape or Shape(), corpus, tokenizer, encoder)
            else:
                lm, tok, revision = _pretrained(name, encoder, offline)
        if getattr(lm, "pooler", None) is not None:
            lm.pooler = None  # an encoder's; nothing here uses it, and many checkpoints lack it
        if dropout is not None:
            _set_dropout(lm, dropout)
        _fuse_activations(lm)
        backbone = cls(lm, tok, name, specials=specials, revision=revision)
        unknown = backbone._without_rows
        if unknown:
            raise ConfigError(
                f"the tokenizer of {name} has {len(unknown)} tokens beyond the model's {backbone.vocabulary} rows, "
                f"such as {unknown[0]!r}",
                "raise vocabulary, or take the tokenizer that the model was saved with",
            )
        if positions > backbone.positions:
            raise ConfigError(
                f"backbone {name} has {backbone.positions} positions, {positions} are needed",
                "lower context_tokens and response_tokens, or take a backbone with more positions",
            )
        backbone.check()
        backbone._adapt(adapter or Adapter(), seed)
        return backbone

    def _adapt(self, adapter: Adapter, seed: int) -> None:
        """Freeze what is not trained and add LoRA weights."""
        self.lm.requires_grad_("full" in adapter.tune)
        if "lora" not in adapter.tune:
            return
        with _seeded(seed + 1):
            if adapter.targets == "qv" and _modules(self.lm, "c_attn", Conv1D):
                _adapt_fused_query_and_value(self.lm, adapter)
                return
            config = LoraConfig(
                r=adapter.rank,
                lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # a float scales just as well
                lora_dropout=adapter.dropout,
                target_modules=_targets(self.lm, adapter.targets),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # peft tells of Conv1D and of tied heads: both are well
                inject_adapter_in_model(config, self.lm)
        if "full" in adapter.tune:
            self.lm.requires_grad_(True)

    @property
    def is_random(self) -> bool:
        """Whether it began with random weights."""
        return self.name.split(":")[0] in ("tiny", "random")

    @torch.no_grad()
    def put_embeddings(self, table: Tensor) -> None:
        """Begin with these token embeddings (V, D), scaled to the length that the model's own have."""
        own = self.lm.get_input_embeddings().weight
        length = own.norm(dim=1).mean()
        own.copy_(table * (length / table.norm(dim=1).mean()).item())

    def save_tokenizer(self, directory: Path) -> None:
        """Write the tokenizer's files into a folder."""
        directory.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(str(directory))

    def describe(self) -> dict[str, Any]:
        """What a saved model must be loaded with again."""
        return {
            "name": self.name,
            "revision": self.revision,
            "type": self.lm.config.model_type,
            "vocabulary": self.vocabulary,
            "specials": list(self.specials),
            "fingerprint": self.fingerprint,
        }

    def require(self, record: dict[str, Any], place: str, hint: str) -> None:
        """Refuse weights that were trained on another backbone.

        Raises:
            ArtifactMissing: `record`, from `describe` of the other, differs.
        """
        own = self.describe()
        changed = [k for k in ("type", "vocabulary", "specials", "fingerprint") if own[k] != record.get(k)]
        if changed:
            what = ", ".join(f"{k} {str(record.get(k))[:24]!r} -> {str(own[k])[:24]!r}" for k in changed)
            raise ArtifactMissing(f"{place} was trained on another backbone than {self.name} is now: {what}", hint)

    # ---- text -------------------------------------------------------------------------------------------------

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without begin and end tokens; a text that spells a token of the model stays text."""
        if not texts:
            return []
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # lone surrogates
        # Not verbose: it would warn of texts longer than the model's positions, which the caller cuts.
        return self.tokenizer(
            clean, add_special_tokens=False, return_attention_mask=False, split_special_tokens=True, verbose=False
        )["input_ids"]

    def text(self, ids: Sequence[int]) -> str:
        """Text of token ids; special tokens by their name, the model's own (end of text) left out."""
        parts: list[str] = []
        run: list[int] = []
        for token in [*ids, self.vocabulary]:
            if token < self.vocabulary:
                run.append(int(token))
                continue
            parts.append(self.tokenizer.decode(run, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            run = []
            place = int(token) - self.vocabulary
            parts.append(self.specials[place] if place < len(self.specials) else "")
        return "".join(parts[:-1])

    def special(self, name: str) -> int:
        """The id of a special token."""
        return self.vocabulary + self.specials.index(name)

    @property
    def _own_specials(self) -> set[int]:
        """The model's own special tokens, which `tokenize` never gives."""
        added = self.tokenizer.added_tokens_decoder.items()
        return {*self.tokenizer.all_special_ids, *(i for i, token in added if token.special)}

    @property
    def unspoken(self) -> list[int]:
        """Ids that no text uses: rows beyond the tokenizer, and its own special tokens."""
        own = self._own_specials | set(range(len(self.tokenizer), self.vocabulary))
        return sorted(i for i in own if 0 <= i < self.vocabulary)

    @property
    def _without_rows(self) -> list[str]:
        """Tokens of texts that the model does not know: their ids would be taken for special tokens."""
        own = self._own_specials
        return [t for t, i in self.tokenizer.get_vocab().items() if i >= self.vocabulary and i not in own]

    # ---- tensors ----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.special_rows.device

    @property
    def position_table(self) -> Tensor | None:
        """Learned absolute positions (P, D) that the model adds to its input; None where it has none."""
        return next((m.weight for n, m in self.lm.named_modules() if n.endswith("wpe")), None)

    def embed(self, ids: Tensor, extra: Tensor | None = None) -> Tensor:
        """Input vectors of tokens by one look-up.

        Args:
            ids: (...,) int64; own tokens, special tokens, then rows of `extra`.
            extra: (X, D) vectors that ids from V + S on stand for.

        Returns:
            (..., D)
        """
        table = self.lm.get_input_embeddings().weight
        vectors = F.embedding(ids.clamp(max=self.vocabulary - 1), table)
        rows = self.special_rows if extra is None else torch.cat([self.special_rows, extra.to(self.special_rows.dtype)])
        own = ids < self.vocabulary
        if not len(rows) or bool(own.all()):
            return vectors
        others = F.embedding((ids - self.vocabulary).clamp(min=0), rows).to(vectors.dtype)
        return torch.where(own[..., None], vectors, others)

    def encode(
        self,
        embeds: Tensor,
        *,
        mask: Tensor | None = None,
        prefix: Prefix | None = None,
        visible: Tensor | None = None,
        positions: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Prefix | None]:
        """Hidden states after the last layer's norm, without the vocabulary head.

        Args:
            embeds: (B, T, D) input vectors.
            mask: (B, T) bool, real tokens; may be left out where padding stands to the right of a causal model.
            prefix: what stands before these tokens.
            visible: (T, T) or (B, T, T) bool, which of these tokens see which; causal by default. The prefix is seen.
            positions: (B, T) of each token; counted over the real ones by default.
            lengths: (B,) real tokens of each row, padded to the right; asks for the keys and values.

        Returns:
            (B, T, D), and with `lengths` the keys and values of the prefix and these tokens.
        """
        batch, width = embeds.shape[:2]
        arguments: dict[str, Any] = {}
        if prefix is not None:
            arguments[self._cache_argument] = DynamicCache(prefix.layers)
        elif lengths is not None:
            arguments[self._cache_argument] = DynamicCache()
        if self.is_decoder:
            arguments["use_cache"] = bool(arguments)
        # Positions without a mask would be taken for several sequences packed into one.
        given = (mask, prefix, visible, positions)
        if any(x is not None for x in given) or not self.is_decoder:
            seen = self._seen(batch, width, mask, prefix, visible, embeds.device)
            arguments["attention_mask"] = seen[:, None]
            if positions is None:
                positions = _positions(batch, width, mask, prefix, embeds.device)
        if positions is not None:
            arguments["position_ids"] = positions + self._first_position
        with self._precision():
            output = self.lm.base_model(inputs_embeds=embeds, **arguments)
        kept = None
        if lengths is not None:
            layers = [(layer.keys, layer.values) for layer in arguments[self._cache_argument].layers]
            real = torch.arange(width, device=embeds.device) < lengths[:, None]
            if prefix is not None:
                real, lengths = torch.cat([prefix.mask, real], dim=1), prefix.lengths + lengths
            kept = Prefix(layers, real, lengths)
        return output.last_hidden_state, kept

    def _seen(
        self,
        batch: int,
        width: int,
        mask: Tensor | None,
        prefix: Prefix | None,
        visible: Tensor | None,
        device: torch.device,
    ) -> Tensor:
        """(B, T, P + T) bool, what each token attends to; itself always, so that no row of it is empty."""
        own = torch.ones(width, width, dtype=torch.bool, device=device)
        if visible is not None:
            own = visible
        elif self.is_decoder:
            own = own.tril()
        own = own.expand(batch, width, width)
        if mask is not None:
            own = own & mask[:, None, :]
        own = own | torch.eye(width, dtype=torch.bool, device=device)
        if prefix is None:
            return own
        return torch.cat([prefix.mask[:, None, :].expand(batch, width, -1), own], dim=2)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token: (..., V + S) of hidden states (..., D)."""
        head = self.lm.get_output_embeddings()
        with self._precision():
            own = head(hidden)
            rows = F.linear(hidden.to(self.special_rows.dtype), self.special_rows)
        return torch.cat([own, rows.to(own.dtype)], dim=-1).float()

    def continuation(self, prefix: Prefix) -> "Continuation":
        """The state that decoding advances."""
        return Continuation(self, prefix)

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """bf16 arithmetic on a GPU, fp32 on a CPU."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            yield

    def on(self, device: str) -> Self:
        """Move to a device; there frozen weights are held in bf16 (on a GPU), trained ones in fp32."""
        self.to(device)
        if self.device.type == "cuda":
            for parameter in self.lm.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(torch.bfloat16)
        return self

    # ---- self-checks ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def check(self) -> None:
        """Find the failures that a model or a library version commits in silence.

        Hidden states must be finite, and the same with left, right and no padding; a decoder must not see what comes
        later, must continue from kept keys and values as if it had read everything, and must heed a mask.

        Raises:
            ConfigError: it does not; the message says which.
        """
        was_training = self.training
        self.eval()
        try:
            self._check()
        except CrsError:
            raise
        except Exception as error:  # another family's forward may raise anything
            raise ConfigError(
                f"backbone {self.name} fails its self-check: {_first_line(error)}",
                f"take another backbone, or another version of transformers than {transformers.__version__}",
            ) from error
        finally:
            self.train(was_training)

    def _check(self) -> None:
        tokens = (torch.arange(8, device=self.device) * 7 + 1) % self.vocabulary
        read = self.embed(tokens[None])
        plain = self.encode(read)[0][0]
        if not torch.isfinite(plain).all():
            raise ConfigError(f"backbone {self.name} gives values that are not finite", "its weights are damaged")
        if self.is_decoder:
            later = self.embed(torch.cat([tokens[:5], tokens[:3]])[None])
            if self._differ(plain[:5], self.encode(later)[0][0, :5]):
                raise ConfigError(
                    f"backbone {self.name} sees later tokens: it is an encoder, a decoder is needed",
                    "name a causal language model, such as gpt2",
                )
        pad = self.embed(tokens[:3][None])
        real = torch.ones(1, 8, dtype=torch.bool, device=self.device)
        none = torch.zeros(1, 3, dtype=torch.bool, device=self.device)
        left = self.encode(torch.cat([pad, read], 1), mask=torch.cat([none, real], 1))[0][0, 3:]
        right = self.encode(torch.cat([read, pad], 1), mask=torch.cat([real, none], 1))[0][0, :8]
        self._must_agree("padding changes its result", (plain, left), (plain, right))
        if not self.is_decoder:
            return
        length = torch.tensor([5], device=self.device)
        _, kept = self.encode(read[:, :5], lengths=length)
        continued = self.encode(read[:, 5:], prefix=kept)[0][0]
        hole = real[:, :8].clone()
        hole[0, 2] = False
        order = torch.tensor([[0, 1, 7, 2, 3, 4, 5, 6]], device=self.device)
        masked = self.encode(read, mask=hole, positions=order)[0][0, 3:]
        without = self.encode(torch.cat([read[:, :2], read[:, 3:]], 1))[0][0, 2:]
        self._must_agree("it does not continue from kept keys and values", (plain[5:], continued))
        self._must_agree("it does not heed a mask", (masked, without))

    def _differ(self, one: Tensor, other: Tensor) -> bool:
        tolerance = _FP32_TOLERANCE if self.device.type == "cpu" and one.dtype == torch.float32 else _BF16_TOLERANCE
        return float((one - other).abs().max()) > tolerance * max(1.0, float(one.abs().max()))

    def _must_agree(self, fault: str, *pairs: tuple[Tensor, Tensor]) -> None:
        if any(self._differ(one, other) for one, other in pairs):
            raise ConfigError(
                f"backbone {self.name} fails its self-check: {fault}",
                f"take another backbone, or another version of transformers than {transformers.__version__}",
            )


class Continuation:
    """Rows that are being continued token by token: the state that `generation.decode` advances."""

    def __init__(self, backbone: Backbone, prefix: Prefix) -> None:
        self._backbone = backbone
        self._cache = DynamicCache(prefix.layers)
        self._mask = prefix.mask
        self._lengths = prefix.lengths

    def advance(self, token_ids: Tensor) -> Tensor:
        """Append a token to each row: (R,) -> logits of the next (R, V + S)."""
        backbone = self._backbone
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        arguments = {backbone._cache_argument: self._cache}
        with backbone._precision():
            output = backbone.lm.base_model(
                inputs_embeds=backbone.embed(token_ids[:, None]),
                attention_mask=self._mask[:, None, None, :],
                position_ids=self._lengths[:, None],
                use_cache=True,
                **arguments,
            )
        self._lengths = self._lengths + 1
        return backbone.logits(output.last_hidden_state[:, -1])

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows."""
        self._cache.batch_select_indices(rows)
        self._mask, self._lengths = self._mask[rows], self._lengths[rows]


def _positions(batch: int, width: int, mask: Tensor | None, prefix: Prefix | None, device: torch.device) -> Tensor:
    """(B, T) places counted over real tokens, after the prefix."""
    if mask is None:
        places = torch.arange(width, device=device).expand(batch, width)
    else:
        places = (mask.long().cumsum(1) - 1).clamp(min=0)
    return places if prefix is None else places + prefix.lengths[:, None]


# ---- LoRA ---------------------------------------------------------------------------------------------------------


class FusedQueryValueLora(nn.Module):
    """LoRA on the query and value parts of a fused query-key-value projection, each with its own pair.

    Source: peft 0.1.0's merged layer with enable_lora [True, False, True], which PECRS's pinned version uses.
    """

    def __init__(self, base: Conv1D, adapter: Adapter) -> None:
        super().__init__()
        self.base = base
        width = base.weight.shape[0]
        # As peft draws its A: uniform within 1 / sqrt(inputs).
        self.down = nn.Parameter(torch.empty(2, width, adapter.rank).uniform_(-(width**-0.5), width**-0.5))
        self.up = nn.Parameter(torch.zeros(2, adapter.rank, width))
        self.dropout = nn.Dropout(adapter.dropout)
        self.scale = adapter.alpha / adapter.rank

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 3 D)."""
        dropped = self.dropout(hidden)
        query, value = ((dropped @ down @ up) * self.scale for down, up in zip(self.down, self.up, strict=True))
        return self.base(hidden) + torch.cat([query, torch.zeros_like(query), value], dim=-1)


def _adapt_fused_query_and_value(lm: nn.Module, adapter: Adapter) -> None:
    for module in list(lm.modules()):
        fused = getattr(module, "c_attn", None)
        if isinstance(fused, Conv1D):
            module.c_attn = FusedQueryValueLora(fused, adapter)


def _targets(lm: nn.Module, targets: str) -> str | list[str]:
    """Names of the layers that LoRA adapts, as peft takes them."""
    if targets == "all-linear":
        return targets
    names = [name.strip() for name in targets.split(",")]
    if targets in ("qkv", "qv"):
        found = next((names for probe, names in _ATTENTION_NAMES.items() if _modules(lm, probe)), ())
        names = [n for n in found if targets == "qkv" or n not in ("k_proj", "key")]
        if not found or (targets == "qv" and len(found) == 1):
            raise UsageError(
                f"lora_targets={targets} does not fit the attention of {type(lm).__name__}: its projections "
                + ("are one" if found else "have other names"),
                f"give lora_targets={'qkv, ' if found else ''}all-linear, or names of linear layers",
            )
    for name in names:
        # peft leaves out names that are not there, and an adapted look-up table would be read past its adapter.
        matched = _modules(lm, name)
        if not matched or not all(isinstance(m, nn.Linear | Conv1D) for m in matched):
            raise UsageError(
                f"LoRA target {name!r} is no linear layer of {type(lm).__name__}",
                "give lora_targets=qkv, qv or all-linear, or names of linear layers",
            )
    return names


def _modules(lm: nn.Module, name: str, kind: type[nn.Module] = nn.Module) -> list[nn.Module]:
    """The modules of a name or of an ending of it, as peft matches them."""
    return [m for n, m in lm.named_modules() if isinstance(m, kind) and (n == name or n.endswith(f".{name}"))]


# ---- loading ------------------------------------------------------------------------------------------------------


def _pretrained(name: str, encoder: bool, offline: bool) -> tuple[Any, Any, str]:
    """A saved model, its tokenizer and its revision, from a folder or the hub."""
    folder, revision = Path(name).expanduser(), ""
    if not folder.is_dir():
        if "/" in name and (name.startswith((".", "/", "~")) or name.count("/") > 1):
            raise ConfigError(f"no folder {name}", "name a folder with a saved model, or a hub id such as gpt2")
        hub_id, _, wanted = name.partition("@")
        folder = _download(hub_id, wanted or None, offline)
        revision = folder.name
    if not any((folder / f).exists() for f in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt")):
        raise ConfigError(f"{folder} holds no tokenizer", "copy tokenizer.json (or vocab.json and merges.txt) there")
    if not any(folder.glob("*.safetensors")):
        convert = "from transformers import AutoModelForCausalLM as M; M.from_pretrained('IN').save_pretrained('OUT')"
        raise ConfigError(
            f"{name} holds no weights: no .safetensors in {folder}",
            f'copy model.safetensors there; weights that are a .bin alone are converted by: python -c "{convert}"',
        )
    loader: Any = AutoModel if encoder else AutoModelForCausalLM
    try:
        # AutoTokenizer would build some families' tokenizers anew, and not always as tokenizer.json has them.
        as_it_is = transformers.PreTrainedTokenizerFast if (folder / "tokenizer.json").exists() else AutoTokenizer
        tokenizer = as_it_is.from_pretrained(str(folder), trust_remote_code=False)
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        _require_kind(config, name, encoder)
        lm, report = loader.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,  # the default would be the file's own
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
    except CrsError:
        raise
    except Exception as error:  # a damaged file may raise anything: tokenizers raises a bare Exception
        kind = "an encoder" if encoder else "a causal language model"
        raise ConfigError(
            f"{name} cannot be loaded as {kind}: {_first_line(error)}",
            "the folder needs config.json, model.safetensors and a tokenizer, whole and of one model",
        ) from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise ConfigError(
            f"{name} lacks {len(missing)} of its model's weights, such as {missing[0]}",
            "take the folder that the model was saved in, with its head",
        )
    return lm, tokenizer, revision


def _require_kind(config: Any, name: str, encoder: bool) -> None:
    """Refuse a model that reads in another way than asked for."""
    kind = config.model_type
    if config.is_encoder_decoder:
        found = f"an encoder-decoder ({kind})"
    elif not encoder and kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        found = f"an encoder ({kind})"
    else:
        return
    wanted, such = ("an encoder", "tiny:roberta or roberta-base") if encoder else ("a decoder", "tiny or gpt2")
    raise ConfigError(f"backbone {name} is {found}, {wanted} is needed", f"name {wanted}, such as {such}")


def _download(hub_id: str, revision: str | None, offline: bool) -> Path:
    """The local copy of a hub id's files, fetched where needed."""
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    way_out = (
        f"elsewhere run: hf download {hub_id} --local-dir DIR; then give --backbone DIR; or use a *-tiny model, "
        "which needs no download"
    )
    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=wanted,
                ignore_patterns=["onnx/*", "*/*"],
                local_files_only=offline,
            )
        )
    except OSError as error:
        where = "the local cache (--offline)" if offline else "the model hub"
        raise SourceError(f"{hub_id} was not found in {where}: {_first_line(error)}", way_out) from None
    except ValueError as error:  # no hub id at all
        raise UsageError(f"backbone {hub_id!r} is neither a folder nor a hub id: {error}", way_out) from None


def _random_model(
    name: str, shape: Shape, corpus: Iterable[str], saved: Path | None, encoder: bool
) -> tuple[Any, Any, str]:
    """A model with random weights and a byte-level BPE of the corpus."""
    kind, _, which = name.partition(":")
    if kind == "tiny":
        which = which or ("roberta" if encoder else "gpt2")
        if which not in _TINY:
            raise UsageError(f"backbone tiny:{which} is not known", f"known: {', '.join(f'tiny:{t}' for t in _TINY)}")
        config = _config(which, shape)
    elif which in _SHAPES:
        known = _SHAPES[which]
        config = _config(known["type"], replace(shape, **{k: v for k, v in known.items() if k != "type"}))
    elif Path(which).expanduser().is_dir():
        try:
            config = AutoConfig.from_pretrained(str(Path(which).expanduser()), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{which} holds no shape: {_first_line(error)}", "it needs a config.json") from None
    else:
        raise UsageError(f"the shape of {which!r} is not known", f"known: {', '.join(_SHAPES)}, or a local folder")
    _require_kind(config, name, encoder)
    tokenizer = _saved_tokenizer(saved) if saved else _train_tokenizer(corpus, config.vocab_size)
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    loader = AutoModel if encoder else AutoModelForCausalLM
    return loader.from_config(config, attn_implementation="sdpa", dtype=torch.float32), tokenizer, ""


def _config(model_type: str, shape: Shape) -> Any:
    common = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.positions,
        # GPT-2's .02 at width 768, kept in proportion: at small widths .02 leaves attention without a voice.
        "initializer_range": 0.02 * (768 / shape.width) ** 0.5,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if model_type != "gpt2":
        common |= {"intermediate_size": 4 * shape.width}
    if model_type in ("llama", "mistral", "qwen2"):
        common |= {"num_key_value_heads": max(1, shape.heads // 2)}
    if model_type == "roberta":
        common |= {"type_vocab_size": 1}
    return AutoConfig.for_model(model_type, **common)


def _train_tokenizer(corpus: Iterable[str], rows: int) -> Any:
    """A byte-level BPE of the corpus with at most `rows` tokens; every text can be written in it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=rows, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    bpe.train_from_iterator(corpus, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe)


def _saved_tokenizer(folder: Path) -> Any:
    try:
        return transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing more particular
        raise ArtifactMissing(f"{folder} holds no tokenizer: {_first_line(error)}", "train the model again") from None


def _set_dropout(lm: Any, dropout: float) -> None:
    """Every dropout of a model, those inside its attention too."""
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        for name in ("attention_dropout", "dropout_prob"):
            if isinstance(getattr(module, name, None), int | float):
                setattr(module, name, dropout)


def _fuse_activations(lm: Any) -> None:
    """GPT-2's activation as one operation instead of seven: the same function, a sixth of the time of a small model."""
    for module in lm.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "NewGELUActivation":
                setattr(module, name, nn.GELU(approximate="tanh"))


def _fingerprint(lm: nn.Module) -> str:
    """A digest of names, shapes and samples of all weights: other weights have another one."""
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            flat = parameter.detach().reshape(-1)
            sample = flat[:: max(1, len(flat) // 64)][:64].float().cpu().numpy()
            digest.update(json.dumps([name, list(parameter.shape)]).encode() + sample.tobytes())
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    """What another library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither bars nor reports of transformers inside: what matters of them is checked, and raised as an error."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of a seed inside, untouched ones outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def pick_device(name: str = "auto") -> str:
    """The device to compute on: the GPU where there is one.

    Raises:
        MachineError: a GPU is asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MachineError("no GPU was found", "leave --device out, or give --device cpu")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise UsageError(f"device {name!r} is not known", "give auto, cpu, cuda or cuda:N") from None
