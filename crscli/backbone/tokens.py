"""The tokenizer of a language model: new from texts or read again, and which of its tokens no text uses.

The door to tokenizers. Knows nothing about models but how many rows their table of tokens has.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from crscli.backbone.messages import retold
from crscli.errors import ArtifactMissing, ConfigError


def train_tokenizer(corpus: Iterable[str], rows: int) -> Any:
    """A byte-level BPE of the corpus with at most `rows` tokens; every text can be written in it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=rows, initial_alphabet=alphabet, min_frequency=2, show_progress=False)
    bpe.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


def saved_tokenizer(folder: Path) -> Any:
    """The tokenizer that was saved with a model of ours.

    Raises:
        ArtifactMissing: there is none that can be read.
    """
    with retold(f"{folder} holds no tokenizer", "train the model again", ArtifactMissing):
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def require_rows(tokenizer: Any, rows: int, name: str) -> None:
    """Refuse a tokenizer whose texts have tokens that the model has no row for: they would pass for special tokens.

    Raises:
        ConfigError: it has some.
    """
    own = _own_specials(tokenizer)
    beyond = [token for token, i in tokenizer.get_vocab().items() if i >= rows and i not in own]
    if beyond:
        raise ConfigError(
            f"the tokenizer of {name} has {len(beyond)} tokens beyond the model's {rows} rows, such as {beyond[0]!r}",
            "raise vocabulary, or take the tokenizer that the model was saved with",
        )


def ids_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without begin and end tokens; a text that spells a token of the model stays text."""
    if not texts:
        return []
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # lone surrogates
    # Not verbose: it would warn of texts longer than the model's positions, which the caller cuts.
    return tokenizer(
        clean, add_special_tokens=False, return_attention_mask=False, split_special_tokens=True, verbose=False
    )["input_ids"]


def text_of(tokenizer: Any, ids: Sequence[int], rows: int, specials: Sequence[str]) -> str:
    """Text of token ids; those from `rows` on by their name, the tokenizer's own special tokens left out."""
    names = dict(enumerate(specials, start=rows))
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return "".join(
        tokenizer.decode(list(run), **options) if is_own else "".join(names.get(i, "") for i in run)
        for is_own, run in itertools.groupby(map(int, ids), key=lambda i: i < rows)
    )


def unspoken_tokens(tokenizer: Any, rows: int) -> list[int]:
    """Ids below `rows` that no text uses: rows beyond the tokenizer, and its own special tokens."""
    unspoken = _own_specials(tokenizer) | set(range(len(tokenizer), rows))
    return sorted(i for i in unspoken if 0 <= i < rows)


def _own_specials(tokenizer: Any) -> set[int]:
    """A tokenizer's own special tokens, which no text is given where `split_special_tokens` is asked for."""
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}
