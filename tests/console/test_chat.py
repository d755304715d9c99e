import json
import os
import pty
import subprocess
import sys
import time

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from typer.testing import CliRunner

from crscli import cli
from crscli.catalogue import Catalogue, Item
from crscli.console.chat import Titles, card


@pytest.fixture
def chat(tiny_workspace):
    """Type lines into a chat with the tiny dataset; gives exit code, stdout and stderr."""

    def run(*lines, args=(), code=0):
        typed = "".join(f"{line}\n" for line in lines)
        result = CliRunner().invoke(cli.app, ["chat", "-w", str(tiny_workspace), *map(str, args)], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


def documents(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_lines_are_answered_in_turn_and_the_choice_of_the_model_is_said(chat):
    said = chat("hi", "I loved Alder (1990)", "more")
    assert "model: cooccurrence" in said.stderr
    assert "  1. " in said.stdout
    assert "Alder (1990)" in said.stdout


def test_json_is_one_document_a_line_errors_too(chat):
    hello, liked, wrong, filters, last = documents(
        chat("hi", "I loved Alder (1990)", "/like 77", "/filters", "more", args=["--json", "-q"])
    )
    assert hello["act"] == "ask"
    assert [link["opinion"] for link in liked["links"]] == ["liked"]
    assert {"item_id", "title", "year", "why", "reasons"} <= liked["items"][0].keys()
    assert wrong["error"].startswith("no film '77'")
    assert filters == {"lines": ["no filters"]}
    ids = [item["item_id"] for reply in (liked, last) for item in reply["items"]]
    assert len(ids) == len(set(ids))


def test_every_command_does_something(chat, tmp_path):
    kept, text, plain = tmp_path / "kept.json", tmp_path / "talk.md", tmp_path / "talk.jsonl"
    lines = "/help|I loved Alder (1990)|/why 1|/like 1|/dislike 1|/seen|/more|a comedy please|/filters|/filters drop 1|"
    lines += "/filters|/debug|more|/debug off|/model|/model popularity|more|/profile|"
    lines += f"/save {kept}|/export {text}|/export {plain}|/forget|/load {kept}|/quit|never read"
    said = chat(*lines.split("|"), args=["--shown", 1]).stdout
    for words in ("/export FILE.md", "noted: liked", "noted: disliked", "noted: seen", "1  comedy", "dropped: comedy",
                  "no filters", "ranked   ", "model: popularity", "no profile is kept", "saved: ", "exported: ",
                  "forgotten", "loaded: "):  # fmt: skip
        assert words in said
    assert "never read" not in said
    assert "**seeker**: I loved Alder (1990)" in text.read_text()
    assert json.loads(plain.read_text())["turns"][0]["role"] == "seeker"
    assert json.loads(kept.read_text())["crs"] == "conversation"
    assert oct(kept.stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("/hepl", "unknown command 'hepl'"),
        ("/like", "no film was spoken of yet"),
        ("/like no such film", "no film 'no such film'"),
        ("/filters drop 3", "no filter '3'"),
        ("/filters bogus", "/filters 'bogus' is not known"),
        ("/save", "a file is needed"),
        ("/load nowhere.json", "no such file"),
        ("/export talk.pdf", ".pdf is no form of export"),
        ("/model bogus", "unknown model 'bogus'"),
        ("/model pecrs-tiny", "pecrs-tiny was not trained"),
        ("/profile bogus", "/profile 'bogus'"),
    ],
)
def test_wrong_commands_are_refused_and_the_chat_goes_on(chat, line, error):
    result = chat(line, "surprise me")
    assert error in result.stderr
    assert "  1. " in result.stdout


def test_files_that_are_something_else_are_left_alone(chat, tmp_path):
    other = tmp_path / "notes.json"
    other.write_text('{"my": "notes"}')
    result = chat(f"/save {other}", f"/load {other}", f"/export {other}")
    assert "is no saved conversation" in result.stderr
    assert "no saved conversation" in result.stderr
    assert f"{other} is there" in result.stderr
    assert other.read_text() == '{"my": "notes"}'
    damaged = tmp_path / "damaged.json"
    chat(f"/save {damaged}")
    damaged.write_text(damaged.read_text().replace('"turns"', '"burns"'))
    assert "no dialogue" in chat(f"/load {damaged}").stderr


def test_a_profile_is_kept_shown_heeded_and_deleted(chat, tiny_workspace):
    first = documents(chat("surprise me", "/seen 1", "/like 2", args=["--profile", "anna", "--json", "-q"]))
    seen = first[0]["items"][0]["item_id"]
    file = tiny_workspace / ".profiles" / "tiny" / "anna.json"
    assert json.loads(file.read_text())["opinions"][seen] == "seen"
    again = documents(chat("surprise me", args=["--profile", "anna", "--json", "-q"]))
    assert seen not in [item["item_id"] for item in again[0]["items"]]
    assert "1 liked" in chat(args=["--profile", "anna", "--show-profile"]).stdout
    chat(args=["--profile", "anna", "--delete-profile"])
    assert not file.exists()
    assert "cannot be used" in chat(args=["--profile", "../anna"], code=2).stderr
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{")
    assert "no profile" in chat("hi", args=["--profile", "anna"], code=4).stderr


def test_a_conversation_goes_on_where_it_was_saved(chat, tmp_path):
    kept = tmp_path / "kept.json"
    first = documents(chat("I loved Alder (1990)", f"/save {kept}", args=["--json", "-q"]))
    second = documents(chat("more", args=["--json", "-q", "--resume", kept]))
    assert not {i["item_id"] for i in first[0]["items"]} & {i["item_id"] for i in second[0]["items"]}
    assert "no such file" in chat("hi", args=["--resume", tmp_path / "none.json"], code=4).stderr


def test_a_missing_model_and_an_unknown_voice_are_told(chat):
    assert "crs train --dataset tiny --model blend" in chat("hi", args=["--model", "blend"], code=3).stderr
    assert "unknown voice 'bogus'" in chat("hi", args=["--voice", "bogus"], code=2).stderr
    assert "--llm-base-url" in chat("hi", args=["--voice", "llm"], code=2).stderr


def test_titles_and_commands_are_completed():
    titles = Titles()
    titles.know(
        Catalogue([Item("1", "The Matrix", 1999), Item("2", "Toy Story", 1995), Item("3", "Toy Story 2", 1999)])
    )

    def completed(text):
        return [c.text for c in titles.get_completions(Document(text), CompleteEvent())]

    assert completed("I loved toy st") == ["Toy Story (1995)", "Toy Story 2 (1999)"]
    assert completed("have you seen the mat") == ["The Matrix (1999)"]
    assert completed("/fo") == ["/forget"]
    assert completed("xy") == completed("zzzz") == []


def test_what_films_are_called_is_never_markup(capsys):
    from rich.console import Console

    nasty = Item("1", "[red]Bold[/red] \x1b[31m", 2000, ("[b]x",), plot="\x07[link=x]y")
    Console(markup=True, emoji=True).print(card(1, nasty, "[blink]why"))
    shown = capsys.readouterr().out
    assert "[red]Bold[/red]" in shown
    assert "[blink]why" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


@pytest.mark.slow
def test_a_terminal_gets_a_prompt_and_ctrl_c_and_d_behave(tiny_workspace):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "crscli", "chat", "-w", str(tiny_workspace)]
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "60", "LINES": "30"}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    for keys in ("surprise me\r", "half\x03", "/quit\r"):
        time.sleep(4)
        os.write(leader, keys.encode())
    assert process.wait(timeout=30) == 0
    shown = os.read(leader, 100_000).decode(errors="replace")
    assert "What would you like to watch?" in shown
