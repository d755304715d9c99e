import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from llm_server import Endpoint, answer, error, running
from web_world import ANNA, CHAT, user

from crscli.errors import ConfigError, MachineError, UsageError
from crscli.steps.serve import serve
from crscli.web.server import address_of, bound
from crscli.workspace import Workspace


@contextmanager
def served(root, *options, environment=None):
    """A service in a process of its own; gives the process and its port."""
    command = [sys.executable, "-m", "crscli", "serve", "-w", root, "-m", "cooccurrence", "--port", "0", *options]
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | (environment or {}),
    )  # fmt: skip
    try:
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ask(port, method, path, body=None, token=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    return answer.status, answer.headers, told


def test_a_killed_service_goes_on_where_it_was_and_speaks_with_openais_client(tiny_workspace):
    with served(tiny_workspace) as (process, port):
        body = {"messages": [user("Hi! I loved Alder and want more of the kind.")]}
        status, headers, told = ask(port, "POST", CHAT, body)
        assert status == 200
        assert "server" not in headers
        first = json.loads(told)
        assert {item["title"] for item in first["crs"]["items"]} <= {"Cedar", "Elm", "Ginkgo"}
        process.kill()
        assert process.stdout.read() == ""
    with served(tiny_workspace) as (process, port):
        session_id = first["crs"]["session_id"]
        again = {"messages": [user("Seen it. Something else?")], "session_id": session_id}
        second = json.loads(ask(port, "POST", CHAT, again)[2])
        offered = [{item["title"] for item in reply["crs"]["items"]} for reply in (first, second)]
        assert not offered[0] & offered[1]
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            messages = [user("I loved Alder.")]
            whole = client.chat.completions.create(model="cooccurrence", messages=messages)
            with client.chat.completions.create(model="cooccurrence", messages=messages, stream=True) as stream:
                pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            assert "".join(pieces) == whole.choices[0].message.content
            assert whole.crs["items"]
            with pytest.raises(openai.NotFoundError, match="cooccurrence"):
                client.chat.completions.create(model="gpt", messages=messages)
        sessions = list((tiny_workspace / ".sessions").iterdir())
        assert {file.name.split("-")[0] for file in sessions} == {"tiny.sqlite"}
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_language_model_finds_the_words_of_all_who_ask_at_once(tiny_workspace):
    def says(handler, body):
        draft = body["messages"][-1]["content"]
        title = draft.split("<films>\n- ")[1].split("; ")[0]
        handler.send(200, answer(f"Then I would go for {title}."))

    world = Endpoint(forever=says, delay=0.3)
    with running(world) as address:
        options = ("--voice", "llm", "--llm-base-url", address, "--llm-model", "m")
        with served(tiny_workspace, *options) as (_, port), ThreadPoolExecutor(6) as threads:
            body = {"messages": [user("I loved Alder.")]}
            replies = [threads.submit(ask, port, "POST", CHAT, body) for _ in range(6)]
            told = [json.loads(reply.result()[2]) for reply in replies]
            assert all("Then I would go for " in t["choices"][0]["message"]["content"] for t in told)
            assert len({t["crs"]["session_id"] for t in told}) == 6
            assert world.most > 1
            world.forever = error(500, "oops")
            status, _, failed = ask(port, "POST", CHAT, body)
            assert status == 200
            assert json.loads(failed)["crs"]["items"] == told[0]["crs"]["items"]
            assert "Then I would" not in json.loads(failed)["choices"][0]["message"]["content"]
    assert not (tiny_workspace / "tiny" / "raw" / "llm.sqlite").exists()


def test_a_voice_without_an_endpoint_is_told(tiny_workspace):
    with pytest.raises(UsageError, match="needs an endpoint"):
        serve(Workspace(tiny_workspace), dataset="tiny", model="cooccurrence", voice="llm", port=0)


@pytest.mark.slow
def test_several_workers_answer_and_one_that_dies_is_replaced(tiny_workspace, tmp_path):
    file = tmp_path / "token"
    file.write_text(ANNA)
    file.chmod(0o600)
    with served(tiny_workspace, "--workers", 2, "--token-file", file) as (process, port):
        assert ask(port, "GET", "/v1/models")[0] == 401
        session_id = None
        for _ in range(20):  # whichever process it is: one conversation
            body = {"messages": [user("I loved Alder.")], "session_id": session_id}
            told = json.loads(ask(port, "POST", CHAT, body, ANNA)[2])
            session_id = told["crs"]["session_id"]
        kept = json.loads(ask(port, "GET", f"/v1/sessions/{session_id}", token=ANNA)[2])
        assert len(kept["turns"]) == 40
        time.sleep(20)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(n) for n in children if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        time.sleep(15)
        assert {ask(port, "GET", "/health")[0] for _ in range(10)} == {200}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        with pytest.raises(ConnectionRefusedError):
            ask(port, "GET", "/health")


# ---- what is told before a model is loaded ------------------------------------------------------------------------


def test_others_need_a_token(tiny_workspace, monkeypatch):
    monkeypatch.delenv("CRS_SERVE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="everybody may ask") as told:
        serve(Workspace(tiny_workspace), dataset="tiny", model="cooccurrence", host="0.0.0.0", port=0)
    assert "--token-file" in told.value.hint


def test_a_port_in_use_is_told(tiny_workspace):
    with bound("127.0.0.1", 0) as taken, pytest.raises(MachineError, match="in use") as told:
        serve(Workspace(tiny_workspace), dataset="tiny", model="cooccurrence", port=taken.getsockname()[1])
    assert "--port" in told.value.hint
    with pytest.raises(MachineError, match="cannot be listened at"):
        bound("203.0.113.1", 0)


def test_conversations_that_cannot_be_kept_are_told(tiny_workspace):
    (tiny_workspace / ".sessions").mkdir()
    (tiny_workspace / ".sessions" / "tiny.sqlite").write_text("no database" * 100)
    with pytest.raises(MachineError, match="cannot be kept"):
        serve(Workspace(tiny_workspace), dataset="tiny", model="cooccurrence", port=0)


def test_the_address_can_be_opened():
    with bound("127.0.0.1", 0) as found:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address_of(found))
    if socket.has_ipv6:
        try:
            with bound("::1", 0) as found:
                assert address_of(found).startswith("http://[::1]:")
        except MachineError:
            pass  # a machine without


def test_without_the_extra_it_is_told_how_to_get_it(tiny_workspace):
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.argv = ['crs', 'serve', '-w', sys.argv[1]];"
        "from crscli.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_workspace)], capture_output=True, text=True)
    assert (done.returncode, "pip install 'crscli[serve]'" in done.stderr) == (2, True), done.stderr
