"""Tokenizer, language model and adapter behind one interface: embed, encode, continue, give logits.

The package is the door to transformers, peft and the model hub. Padding, positions and masks are explicit, so that
left, right and no padding agree and a row never depends on its batch mates. Knows nothing about dialogues, items or
training.
"""

import hashlib
import inspect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import Cache

from crscli.backbone.adapters import Adapter, adapt
from crscli.backbone.attention import Prefix, counted_positions, right_padded, seen_tokens
from crscli.backbone.checks import at_rest, check_both_ways, check_reading
from crscli.backbone.continuation import Continuation
from crscli.backbone.devices import free_bytes, pick_device, precision
from crscli.backbone.loading import load_model, seeded
from crscli.backbone.quantised import require_quantisable, settle
from crscli.backbone.shapes import Shape, is_random
from crscli.backbone.tokens import ids_of, text_of, unspoken_tokens
from crscli.errors import ArtifactMissing, ConfigError

__all__ = ["Adapter", "Backbone", "Continuation", "Prefix", "Shape", "free_bytes", "is_random", "pick_device"]


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
        self.checkpointing = False
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
        quantise: str = "",
        checkpointing: bool = False,
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
            quantise: "nf4" holds the frozen linear layers in 4 bits, double quantised; the head stays as it is.
            checkpointing: compute hidden states inside the layers again in the backward pass, which takes less memory;
                while training no keys and values can be kept then.
            offline: look for hub ids in the local cache alone.
            seed: of random weights.

        Raises:
            SourceError: the hub cannot be reached.
            ConfigError: the folder lacks a tokenizer or weights, or the model is of the wrong kind, has too few
                positions or rows, or fails `check`.
            UsageError: an unknown name, LoRA targets that are no linear layers, or what cannot be held in 4 bits.
            MachineError: random weights are larger than the memory that is free.
            ArtifactMissing: the saved tokenizer cannot be read.
        """
        adapter = adapter or Adapter()
        require_quantisable(quantise, adapter.tune)
        with seeded(seed):
            lm, tok, revision = load_model(
                name,
                shape=shape or Shape(),
                corpus=corpus,
                tokenizer=tokenizer,
                encoder=encoder,
                dropout=dropout,
                quantise=quantise,
                offline=offline,
            )
        backbone = cls(lm, tok, name, specials=specials, revision=revision)
        if positions > backbone.positions:
            raise ConfigError(
                f"backbone {name} has {backbone.positions} positions, {positions} are needed",
                "lower context_tokens and turn_tokens, or take a backbone with more positions",
            )
        backbone.check()
        with seeded(seed + 1):
            adapt(lm, adapter)
        if checkpointing:
            backbone.checkpointing = True
            enable = getattr(lm, "activation_checkpointing_enable", None) or lm.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        return backbone

    def check(self) -> None:
        """Find the failures that a model or a library version commits in silence, as `checks` describes them.

        Raises:
            ConfigError: there is one; the message says which.
        """
        with at_rest(self):
            check_reading(self)

    def check_both_ways(self) -> None:
        """Find out whether `read_both_ways` does so, before anything is trained on it.

        Raises:
            ConfigError: it does not; the message says in what.
        """
        with at_rest(self):
            check_both_ways(self)

    @torch.no_grad()
    def put_embeddings(self, table: Tensor) -> None:
        """Begin with these token embeddings (V, D), scaled to the length that the model's own have."""
        own = self.lm.get_input_embeddings().weight
        length = own.norm(dim=1).mean()
        own.copy_(table * (length / table.norm(dim=1).mean()).item())

    # ---- identity ---------------------------------------------------------------------------------------------

    @property
    def is_random(self) -> bool:
        """Whether it began with random weights."""
        return is_random(self.name)

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
        return ids_of(self.tokenizer, texts)

    def text(self, ids: Sequence[int]) -> str:
        """Text of token ids; special tokens by their name, the model's own (end of text) left out."""
        return text_of(self.tokenizer, ids, self.vocabulary, self.specials)

    def special(self, name: str) -> int:
        """The id of a special token."""
        return self.vocabulary + self.specials.index(name)

    @property
    def unspoken(self) -> list[int]:
        """Ids that no text uses: rows beyond the tokenizer, and its own special tokens."""
        return unspoken_tokens(self.tokenizer, self.vocabulary)

    @property
    def marks(self) -> dict[str, int]:
        """The tokenizer's own tokens that begin ("cls"), separate ("sep") and end ("eos") texts; those it has."""
        found = {name: getattr(self.tokenizer, f"{name}_token_id", None) for name in ("cls", "sep", "eos")}
        return {name: int(token) for name, token in found.items() if token is not None}

    # ---- tensors ----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.special_rows.device

    def on(self, device: str) -> Self:
        """Move to a device; there frozen weights are held in bf16 (on a GPU), trained ones in fp32."""
        self.to(device)
        settle(self.lm, self.device)
        if self.device.type == "cuda":
            for parameter in self.lm.parameters():
                if not parameter.requires_grad and parameter.is_floating_point():
                    parameter.data = parameter.data.to(torch.bfloat16)
        return self

    @property
    def position_table(self) -> Tensor | None:
        """Learned absolute positions (P, D) that the model adds to its input; None where it has none."""
        return next((m.weight for n, m in self.lm.named_modules() if n.endswith("wpe")), None)

    @torch.no_grad()
    def prefix_shape(self) -> tuple[int, int, int]:
        """(L, H, D / H) layers, heads of keys and values, and their width, as a prefix must have them.

        Raises:
            ConfigError: the model keeps no keys and values that a prefix could stand among.
        """
        try:
            _, kept = self.encode(
                self.embed(torch.zeros(1, 1, dtype=torch.long, device=self.device)),
                lengths=torch.ones(1, dtype=torch.long, device=self.device),
            )
            assert kept is not None, "keys and values were asked for"
            shapes = {tuple(t.shape) for layer in kept.layers for t in layer}
            ((_, heads, _, width),) = shapes
        except (AttributeError, AssertionError, IndexError, TypeError, ValueError):
            raise ConfigError(
                f"the layers of backbone {self.name} keep no keys and values that a prompt could stand among",
                "take a decoder with attention in every layer, such as microsoft/DialoGPT-small",
            ) from None
        return len(kept.layers), heads, width

    @torch.no_grad()
    def draw_specials(self, seed: int) -> None:
        """Begin special tokens at random, spread as the model's own are: where they stay as they begin."""
        table = self.lm.get_input_embeddings().weight
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.special_rows.shape, generator=draw).to(self.special_rows.device)
        self.special_rows.copy_(table.float().mean(0) + noise * table.float().std(0))

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
            visible: (T, T) or (B, T, T) bool, which of these tokens see which, or (1, T), which all of them see; causal
                by default. The prefix is seen.
            positions: (B, T) of each token; counted over the real ones by default.
            lengths: (B,) real tokens of each row, padded to the right; asks for the keys and values.

        Returns:
            (B, T, D), and with `lengths` the keys and values of the prefix and these tokens.
        """
        seen = None
        # Positions without a mask would be taken for several sequences packed into one.
        if not self.is_decoder or any(given is not None for given in (mask, prefix, visible, positions)):
            if mask is None:
                mask = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
            seen = seen_tokens(mask, prefix, visible, causal=self.is_decoder)
            positions = counted_positions(mask, prefix) if positions is None else positions
        cache: Any = None
        if prefix is not None or lengths is not None:
            cache = DynamicCache(None if prefix is None else prefix.layers)
        hidden = self._read(embeds, seen, positions, cache)
        if lengths is None:
            return hidden, None
        real = right_padded(lengths, embeds.shape[1])
        if prefix is not None:
            real, lengths = torch.cat([prefix.mask, real], dim=1), prefix.lengths + lengths
        return hidden, Prefix([(layer.keys, layer.values) for layer in cache.layers], real, lengths)

    def read_both_ways(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, T, D) of vectors (B, T, D) that all see each other, as far as `mask` (B, T) is real.

        Source: GritLM's embedding mode, by an explicit mask instead of a changed library file.
        """
        return self.encode(embeds, mask=mask, visible=torch.ones_like(mask[:1]))[0]

    def _read(self, embeds: Tensor, seen: Tensor | None, positions: Tensor | None, cache: Cache | None) -> Tensor:
        """Hidden states (B, T, D) of vectors that attend to `seen` (B, T or 1, P + T); the cache grows by them."""
        arguments: dict[str, Any] = {}
        if seen is not None:
            arguments["attention_mask"] = seen[:, None]
        if positions is not None:
            arguments["position_ids"] = positions + self._first_position
        if cache is not None:
            if self.checkpointing and self.training:  # the layers would leave them out
                raise ConfigError(
                    f"backbone {self.name} cannot keep keys and values while it trains with checkpointing",
                    "give checkpointing=false",
                )
            arguments[self._cache_argument] = cache
        if self.is_decoder:
            arguments["use_cache"] = cache is not None
        with precision(self.device):
            return self.lm.base_model(inputs_embeds=embeds, **arguments).last_hidden_state

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """Scores of the next token: (..., V + S) of hidden states (..., D).

        `out` (R, V + S) float32 takes those of (R, D) on a CPU, without gradient: to join own and special ones, in new
        memory at each step, would cost half as much again as the product.
        """
        head = self.lm.get_output_embeddings()
        if out is not None and head.bias is None:
            torch.mm(hidden, head.weight.T, out=out[:, : self.vocabulary])
            torch.mm(hidden, self.special_rows.T, out=out[:, self.vocabulary :])
            return out
        with precision(self.device):
            own = head(hidden)
            rows = F.linear(hidden.to(self.special_rows.dtype), self.special_rows)
        return torch.cat([own, rows.to(own.dtype)], dim=-1).float()

    def continuation(self, prefix: Prefix) -> "Continuation":
        """The state that decoding advances."""
        return Continuation(self, prefix)


def _fingerprint(lm: nn.Module) -> str:
    """A digest of names, shapes and samples of all weights: other weights have another one.

    Weights in 4 bits count by name and shape: how they are rounded is up to the device.
    """
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            flat = parameter.detach().reshape(-1)
            seen = flat[:: max(1, len(flat) // 64)][:64] if parameter.is_floating_point() else flat[:0]
            sample = seen.float().cpu().numpy()
            digest.update(json.dumps([name, list(parameter.shape)]).encode() + sample.tobytes())
    return digest.hexdigest()
