"""crs evaluate with models that ask an endpoint, as a user types it."""

import json
import re

import pytest
from llm_server import Endpoint as World
from llm_server import Handler, answer, running
from typer.testing import CliRunner

from crscli.cli import app
from crscli.workspace import Workspace

KEY = "sk-canary-2718281828"


@pytest.fixture
def endpoint(monkeypatch):
    """An endpoint that names films of the tiny world, or orders the labels that it is shown."""
    world = World()

    def do_post(handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        world.asked.append(prompt)
        labels = re.findall(r"^\[(\d+)\]", prompt, re.M)
        text = "\n".join(f"[{n}]" for n in reversed(labels)) or "1. Alder (1990)\n2. A film nobody made (1877)"
        handler.send(200, answer(text))

    monkeypatch.setattr(Handler, "do_POST", do_post)
    monkeypatch.setenv("CRS_LLM_KEY", KEY)
    with running(world) as address:
        world.address = address
        yield world


def evaluated(root, *options):
    shown = CliRunner().invoke(app, ["evaluate", "-w", str(root), "-d", "tiny", "--draws", "20", *options])
    assert KEY not in shown.output
    return shown


def test_models_that_ask_stand_in_the_table_with_what_it_took(tiny_workspace, endpoint):
    options = ["-m", "llm-zeroshot", "-m", "llm-rerank", "--llm-price", "1,2"]
    options += ["--llm-base-url", endpoint.address, "--llm-model", "some-model"]
    train = ["train", "-w", str(tiny_workspace), "-d", "tiny", "-m", "llm-rerank", "--set", "base=cooccurrence"]
    assert CliRunner().invoke(app, train).exit_code == 0
    shown = evaluated(tiny_workspace, *options)
    assert shown.exit_code == 0, shown.output
    assert "asked some-model at http://127.0.0.1" in shown.stdout
    assert "llm-zeroshot: answers" in shown.stdout
    asked = len(endpoint.asked)
    assert asked > 3
    again = evaluated(tiny_workspace, *options, "--force", "--json")
    report = json.loads(again.stdout)
    assert (report["llm"]["asked"], report["llm"]["cached"], report["llm"]["cost"]) == (0, asked, 0)
    assert len(endpoint.asked) == asked
    assert 0 < report["models"]["llm-zeroshot"]["llm"]["hallucination_rate"] < 1
    assert report["models"]["llm-rerank"]["llm"]["complete_share"] == 1
    assert report["models"]["llm-rerank"]["base"]["model"] == "cooccurrence"
    for path in Workspace(tiny_workspace).root.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_requests_are_written_and_answers_taken(tiny_workspace, endpoint, tmp_path):
    options = ["-m", "llm-zeroshot", "--llm-base-url", endpoint.address, "--llm-model", "m"]
    out, back = tmp_path / "out.jsonl", tmp_path / "in.jsonl"
    shown = evaluated(tiny_workspace, *options, "--llm-batch-out", str(out))
    assert shown.exit_code == 0, shown.output
    assert "requests written" in shown.stdout
    assert "R@1" not in shown.stdout
    assert not endpoint.asked
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    answers = [{"custom_id": r["custom_id"], "response": {"status_code": 200, "body": answer("Alder")}} for r in rows]
    back.write_text("\n".join(map(json.dumps, answers)))
    shown = evaluated(tiny_workspace, *options, "--llm-batch-in", str(back))
    assert shown.exit_code == 0, shown.output
    assert "llm-zeroshot" in shown.stdout
    assert not endpoint.asked


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-m", "llm-zeroshot"], 2, "--llm-base-url URL and --llm-model NAME"),
        (["-m", "llm-zeroshot", "--llm-base-url", "http://localhost:1/v1"], 2, "give --llm-model NAME too"),
        (["-m", "llm-zeroshot", "--llm-base-url", "x", "--llm-model", "m"], 2, "no address of an endpoint"),
        (["-m", "ease", "--llm-base-url", "http://localhost:1/v1", "--llm-model", "m"], 2, "none of these models asks"),
        (["-m", "llm-zeroshot", "--llm-base-url", "http://localhost:1/v1", "--llm-model", "m", "--llm-price", "x"], 2,
         "is not two numbers"),
        (["-m", "llm-rerank", "--llm-base-url", "http://localhost:1/v1", "--llm-model", "m"], 3,
         "blend was not trained"),
    ],
)  # fmt: skip
def test_wrong_options_are_told(tiny_workspace, options, code, words):
    shown = evaluated(tiny_workspace, *options)
    assert shown.exit_code == code, shown.output
    assert words in " ".join(shown.output.split())


def test_an_endpoint_that_is_not_there_ends_with_the_code_of_the_network(tiny_workspace, monkeypatch):
    monkeypatch.setattr("crscli.llm.client.random.uniform", lambda *_: 0.0)
    options = ["-m", "llm-zeroshot", "--llm-base-url", "http://127.0.0.1:1/v1", "--llm-model", "m"]
    shown = evaluated(tiny_workspace, *options)
    assert shown.exit_code == 5, shown.output
    assert "cannot be reached" in shown.output
    assert "run the same command again" in " ".join(shown.output.split())
