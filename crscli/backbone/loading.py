"""A language model and its tokenizer: from a folder, from the hub, or new with random weights.

The door to the hub. Knows nothing about how a model is read, nor what of it is trained.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from crscli.backbone.bundled import BUNDLED, bundled_folder
from crscli.backbone.devices import free_bytes
from crscli.backbone.messages import first_line, quiet, retold
from crscli.backbone.quantised import quantisation, quantise_layers, settle
from crscli.backbone.shapes import Shape, is_random, random_config
from crscli.backbone.tokens import require_rows, saved_tokenizer, train_tokenizer
from crscli.errors import ConfigError, MachineError, SourceError, UsageError


class Loaded(NamedTuple):
    """A transformers model in fp32, its tokenizer, and the hub's revision of them."""

    lm: Any
    tokenizer: Any
    revision: str = ""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of a seed inside, untouched ones outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def load_model(
    name: str,
    *,
    shape: Shape,
    corpus: Iterable[str],
    tokenizer: Path | None,
    encoder: bool,
    dropout: float | None,
    quantise: str,
    offline: bool,
) -> Loaded:
    """What a name of a backbone stands for; random weights are drawn from torch's random numbers.

    Arguments and errors are those of `Backbone.load`.
    """
    with quiet():
        if is_random(name):
            loaded = _new(name, shape, corpus, tokenizer, encoder)
            if quantise:
                quantise_layers(loaded.lm, name)
        else:
            folder, revision = _folder(name, offline)
            loaded = _saved(name, folder, encoder, quantise)._replace(revision=revision)
    lm = loaded.lm
    settle(lm, lm.get_input_embeddings().weight.device)
    require_rows(loaded.tokenizer, len(lm.get_input_embeddings().weight), name)
    if getattr(lm, "pooler", None) is not None:
        lm.pooler = None  # an encoder's; nothing here uses it, and many checkpoints lack it
    if dropout is not None:
        _set_dropout(lm, dropout)
    _fuse_activations(lm)
    return loaded


# ---- saved models -------------------------------------------------------------------------------------------------


def _folder(name: str, offline: bool) -> tuple[Path, str]:
    """The folder of a saved model, and its revision where it is the hub's."""
    if name in BUNDLED:
        return bundled_folder(name), ""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, ""
    if "/" in name and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ConfigError(f"no folder {name}", "name a folder with a saved model, or a hub id such as gpt2")
    hub_id, _, wanted = name.partition("@")
    folder = _download(hub_id, wanted or None, offline)
    return folder, folder.name


def _download(hub_id: str, revision: str | None, offline: bool) -> Path:
    """The local copy of a hub id's files, fetched where needed."""
    way_out = (
        f"elsewhere run: hf download {hub_id} --local-dir DIR; then give --backbone DIR; or use a *-tiny model, "
        "which needs no download"
    )
    try:
        copy = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"],
            ignore_patterns=["onnx/*", "*/*"],
            local_files_only=offline,
        )
    except OSError as error:
        where = "the local cache (--offline)" if offline else "the model hub"
        raise SourceError(f"{hub_id} was not found in {where}: {first_line(error)}", way_out) from None
    except ValueError as error:  # no hub id at all
        raise UsageError(
            f"backbone {hub_id!r} is neither a folder nor a hub id: {first_line(error)}", way_out
        ) from None
    return Path(copy)


def _saved(name: str, folder: Path, encoder: bool, quantise: str) -> Loaded:
    """The model that was saved in a folder."""
    if not any((folder / f).exists() for f in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt")):
        raise ConfigError(f"{folder} holds no tokenizer", "copy tokenizer.json (or vocab.json and merges.txt) there")
    if not any(folder.glob("*.safetensors")):
        convert = "from transformers import AutoModelForCausalLM as M; M.from_pretrained('IN').save_pretrained('OUT')"
        raise ConfigError(
            f"{name} holds no weights: no .safetensors in {folder}",
            f'copy model.safetensors there; weights that are a .bin alone are converted by: python -c "{convert}"',
        )
    kind = "an encoder" if encoder else "a causal language model"
    in_bits: dict[str, Any] = {"quantization_config": quantisation()} if quantise else {}
    loader: Any = AutoModel if encoder else AutoModelForCausalLM
    with retold(
        f"{name} cannot be loaded as {kind}",
        "the folder needs config.json, model.safetensors and a tokenizer, whole and of one model",
    ):
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
            **in_bits,
        )
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise ConfigError(
            f"{name} lacks {len(missing)} of its model's weights, such as {missing[0]}",
            "take the folder that the model was saved in, with its head",
        )
    return Loaded(lm, tokenizer)


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


# ---- new models ---------------------------------------------------------------------------------------------------


def _new(name: str, shape: Shape, corpus: Iterable[str], saved: Path | None, encoder: bool) -> Loaded:
    """A model with random weights, with a saved tokenizer or a byte-level BPE of the corpus."""
    config = random_config(name, shape, encoder=encoder)
    _require_kind(config, name, encoder)
    loader: Any = AutoModel if encoder else AutoModelForCausalLM
    _require_room(loader, config, name)
    tokenizer = saved_tokenizer(saved) if saved else train_tokenizer(corpus, config.vocab_size)
    return Loaded(loader.from_config(config, attn_implementation="sdpa", dtype=torch.float32), tokenizer)


def _require_room(loader: Any, config: Any, name: str) -> None:
    """Refuse a model that this machine could only begin to build.

    Raises:
        MachineError: its weights are larger than what is free.
    """
    with torch.device("meta"):
        need = 4 * sum(p.numel() for p in loader.from_config(config).parameters())
    if 0 < (free := free_bytes("cpu")) < need:
        raise MachineError(
            f"the weights of backbone {name} take {need / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free",
            "take a smaller backbone, or a machine with more memory",
        )


# ---- what is changed in both --------------------------------------------------------------------------------------


def _set_dropout(lm: nn.Module, dropout: float) -> None:
    """Every dropout of a model, those inside its attention too."""
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        for name in ("attention_dropout", "dropout_prob"):
            if isinstance(getattr(module, name, None), int | float):
                setattr(module, name, dropout)


def _fuse_activations(lm: nn.Module) -> None:
    """GPT-2's activation as one operation instead of seven: the same function, a sixth of the time of a small model."""
    for module in lm.modules():
        for name, child in module.named_children():
            if type(child).__name__ == "NewGELUActivation":
                setattr(module, name, nn.GELU(approximate="tanh"))
