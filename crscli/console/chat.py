"""A chat in the terminal: reads lines, shows replies with a card for each film; plain lines or JSON for scripts.

The one door to prompt_toolkit. What films and people type is data: never markup, never control characters.
"""

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from crscli.catalogue import Catalogue, Item
from crscli.console import Console, plain
from crscli.console.commands import HELP, Commands, Done, traced
from crscli.errors import CrsError
from crscli.names import key
from crscli.phrasing import shortened
from crscli.session import Reply
from crscli.session.facts import facts_line

_PROMPT = "you  "
_PLOT_AT_MOST = 140
_LEAST_LETTERS = 3
_MOST_WORDS = 8


class Titles(Completer):
    """Completes titles of the catalogue, from the words before the cursor, and the names of commands."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._names: dict[str, str] = {}

    def know(self, catalogue: Catalogue) -> None:
        """Complete the titles of a catalogue from now on."""
        self._names = {key(item.title): item.name for item in catalogue}
        self._keys = sorted(self._names)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Those that fit, the longest run of words first."""
        before = document.text_before_cursor
        if before.startswith("/") and " " not in before:
            for name, (_, text) in HELP.items():
                if name.startswith(before[1:]):
                    yield Completion(f"/{name}", start_position=-len(before), display_meta=text)
            return
        yield from self._titles(before)

    def _titles(self, before: str) -> Iterator[Completion]:
        words = before.split(" ")
        for count in range(min(_MOST_WORDS, len(words)), 0, -1):
            typed = " ".join(words[-count:])
            wanted = key(typed)
            if len(wanted) < _LEAST_LETTERS:
                continue
            first = bisect_left(self._keys, wanted)
            found = [k for k in self._keys[first : first + 8] if k.startswith(wanted)]
            for name in found:
                yield Completion(self._names[name], start_position=-len(typed))
            if found:
                return


class Chat:
    """The loop of one chat.

    Args:
        console: where it is shown.
        opened: gives the session and its commands; on a terminal it is called while the first line is being typed.
        history: a file that keeps what was typed; None keeps nothing.
    """

    def __init__(self, console: Console, opened: Callable[[], Commands], history: Path | None = None) -> None:
        self.console = console
        self._opened, self._titles = opened, Titles()
        self._is_terminal = console.is_interactive
        self._history = history

    def run(self, greeting: str) -> None:
        """Talk until the end of the input.

        Raises:
            CrsError: the model could not be opened.
        """
        if not self._is_terminal:
            self.commands = self._known()
            for line in self._piped():
                if self._took(line):
                    break
            return
        self.console.line(greeting)
        self.console.line("/help lists the commands, Tab completes titles, Ctrl-D ends.")
        with ThreadPoolExecutor(1) as background:
            opening = background.submit(self._known)
            for line in self._typed():
                with nullcontext() if opening.done() else self.console.out.status("one moment"):
                    self.commands = opening.result()
                if self._took(line):
                    break

    def _known(self) -> Commands:
        commands = self._opened()
        self._titles.know(commands.session.host.catalogue)
        return commands

    # ---- reading ----------------------------------------------------------------------------------------------

    def _piped(self) -> Iterator[str]:
        for line in sys.stdin:
            yield line.rstrip("\r\n")

    def _typed(self) -> Iterator[str]:
        keys = KeyBindings()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        history: History = FileHistory(str(self._history)) if self._history else InMemoryHistory()
        prompt: PromptSession[str] = PromptSession(
            history=history, completer=self._titles, complete_while_typing=False,
            key_bindings=keys, multiline=True, prompt_continuation=" " * len(_PROMPT), reserve_space_for_menu=4,
        )  # fmt: skip
        while True:
            try:
                yield prompt.prompt(_PROMPT)
            except KeyboardInterrupt:
                self.console.say("Ctrl-D or /quit ends")
            except EOFError:
                return

    # ---- answering --------------------------------------------------------------------------------------------

    def _took(self, line: str) -> bool:
        """Answer a line; whether it ends the chat."""
        session, memory = self.commands.session, self.commands.session.memory.copy()
        try:
            done = self.commands.run(line) if line.startswith("/") else Done(reply=session.say(line))
            if done.reply is not None:
                self.commands.keeping.said(session.memory)
        except CrsError as error:
            session.memory = memory
            if self.console.as_json:
                self.console.record({"error": error.message, "hint": error.hint})
            else:
                self.console.error(error.message, error.hint)
            return False
        except KeyboardInterrupt:
            if not self._is_terminal:
                raise
            session.memory = memory
            self.console.say("interrupted: this message is forgotten")
            return False
        self._show(done)
        return done.ends

    def _show(self, done: Done) -> None:
        trace = traced(self.commands.session, done.reply) if self.commands.debug and done.reply else []
        if self.console.as_json:
            plain_form: dict[str, Any] = done.reply.to_json() if done.reply else {"lines": done.lines}
            self.console.record(plain_form | ({"debug": trace} if trace else {}))
            return
        for line in done.lines:
            self.console.line(line)
        if done.reply is not None:
            self._show_reply(done.reply)
        for line in trace:
            self.console.line(f"  {line}")

    def _show_reply(self, reply: Reply) -> None:
        if not self._is_terminal:
            self.console.line(reply.text)
            for num, (item, why) in enumerate(zip(reply.items, reply.whys, strict=True), 1):
                self.console.line("  " + " · ".join(p for p in (f"{num}. {item.name}", facts_line(item), why) if p))
            return
        self.console.out.print()
        self.console.out.print(plain(reply.text))
        for num, (item, why) in enumerate(zip(reply.items, reply.whys, strict=True), 1):
            self.console.out.print(Padding(card(num, item, why), (1, 0, 0, 2)))
        self.console.out.print()


def card(num: int, item: Item, why: str) -> Table:
    """A film in a few lines: number and title, facts, people, what it is about, why."""
    people = [*item.directors[:1], *(name for name in item.cast[:3] if name not in item.directors[:1])]
    lines = [Text(str(plain(item.name)), style="bold")]
    lines += [plain(text) for text in (facts_line(item), ", ".join(people)) if text]
    if item.plot:
        lines.append(Text(str(plain(shortened(item.plot, _PLOT_AT_MOST))), style="dim"))
    if why:
        lines.append(Text(str(plain(why)), style="italic green"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(Text(str(num), style="dim"), Text("\n").join(lines))
    return grid
