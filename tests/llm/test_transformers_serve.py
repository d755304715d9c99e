"""The client against a real server: transformers serve with a tiny model of random weights."""

import os
import socket
import subprocess
import sys
import time

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from crscli.llm import Endpoint, Llm, Message, Request
from crscli.metadata.cache import Cache

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A folder with a model as save_pretrained makes it."""
    folder = tmp_path_factory.mktemp("served") / "tiny-llama"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(["I love films."], trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"],
                                                                  initial_alphabet=alphabet))  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=300, max_position_embeddings=512, bos_token_id=0, eos_token_id=1, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(tiny_model, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    serve = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    command = [*serve, "--host", "127.0.0.1", "--port", str(port),
               "--device", "cpu"]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + 90
            while time.monotonic() < until and server.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            assert server.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(20)


def test_a_real_server_answers_and_a_rerun_is_kept(address, tiny_model, tmp_path):
    asked = [Request((Message("system", "You name films."), Message("user", text)), max_tokens=6)
             for text in ("One?", "Another?")]  # fmt: skip
    endpoint = Endpoint(address, str(tiny_model), timeout_s=60)
    with Cache(tmp_path / "llm.sqlite") as cache:
        llm = Llm(endpoint, cache)
        found = llm.complete(asked)
        assert llm.usage.asked == 2
        assert all(isinstance(c.text, str) for c in found)
        again = Llm(endpoint, cache)
        assert [c.text for c in again.complete(asked)] == [c.text for c in found]
        assert (again.usage.asked, again.usage.cached) == (0, 2)
