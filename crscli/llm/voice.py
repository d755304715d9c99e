"""A language model behind an endpoint puts a recommendation into words.

What it says is taken only where it keeps to what it was told: whoever wrote a message or the text of an item may have
told it to say something else. What it names is checked again by the session, which knows the catalogue.
"""

import re
from collections.abc import Iterable, Sequence

from crscli.catalogue import Item
from crscli.dialogue import Context
from crscli.errors import CrsError
from crscli.llm.prompts import Completer, Request
from crscli.llm.questions import dialogue_text, item_text, reply_request

_DIALOGUE_AT_MOST, _PLOT_AT_MOST, _TOKENS = 3000, 200, 160
_WORDS_AT_MOST = 120
_SHOWN = ("title", "year", "genres", "directors", "cast", "plot")
_RECITED = 8
"""Words in a row of the instructions that no reply has by chance."""
_FOREIGN = re.compile(
    r"https?:|www\.|\b[\w-]+\.(?:com|net|org|io|ru|example|xyz|info|biz|app|dev|to|me)\b|\w@\w|[<>`{}|\\*#_~]|\[[^\]]*\]\(|"
    r"\d[\d\s().-]{6,}\d|\b(?:password|passcode|credit\s*card|card\s+number|bank\s+account|social\s+security|bitcoin|"
    r"log\s?in|api\s+key|system\s+prompt|my\s+instructions)\b",
    re.I,
)
"""Links, addresses, markup, telephone numbers and what strangers ask for; no recommendation of a film needs them."""
_SHOUTED = re.compile(r"\b[A-Z]{4,}\b")
_NUMBER = re.compile(r"\d{3,}")
_WORD = r"(?:(?:[A-Z]\.)+|[A-Z0-9][\w'’-]*)"
_NAME = re.compile(rf"\b(?=[A-Z]){_WORD}(?:\s+(?:(?:of|the|and|in|a|de|von|van|la|le)\s+)*{_WORD})+")
_ENDLESS = re.compile(r"\b(\w+)(?:\W+\1\b){3}", re.I)
_OPENS = re.compile(r"(?:^|[.!?:]\s+|[\"“])\S*$")


class LlmVoice:
    """Rewrites a draft; a session takes it only if it names no other film."""

    def __init__(self, llm: Completer) -> None:
        """Args: llm: whom to ask."""
        self._llm = llm

    def __call__(self, context: Context, items: Sequence[Item], draft: str) -> str:
        """A reply in the model's words; "" where the endpoint fails or strays, so that the draft is said."""
        texts = [item_text(item, _SHOWN, _PLOT_AT_MOST) for item in items]
        asked = reply_request(dialogue_text(context, _DIALOGUE_AT_MOST), texts, draft, _TOKENS)
        try:
            said = self._llm.complete([asked])[0].text
        except CrsError:
            return ""
        text = " ".join(said.split())
        names_one = any(item.title.lower() in text.lower() for item in items)
        facts = [item_text(item, (f,), _PLOT_AT_MOST) for item in items for f in _SHOWN if f != "plot"]
        named = (t.text[x.start : x.end] for t in context.turns for x in t.links if 0 <= x.start < x.end)
        return text if names_one and keeps_to(text, [*facts, draft, *named], asked) else ""


def keeps_to(text: str, facts: Iterable[str], asked: Request) -> bool:
    """Whether a reply stays with what it was told.

    It has no link, markup or control character; recites none of its instructions; its years and numbers, its names of
    two words and more and its words in capitals are those of the facts. A sentence in plain words that is beside the
    point can pass: this is a net, no proof.

    Args:
        text: on one line.
        facts: what may be named: items without their plots, the draft, what was linked in the dialogue.
        asked: the request, whose instructions may not be recited.
    """
    if not text.isprintable() or len(text.split()) > _WORDS_AT_MOST or _FOREIGN.search(text) or _ENDLESS.search(text):
        return False
    known = " ".join(facts).casefold()
    odd = [found.group() for pattern in (_SHOUTED, _NUMBER) for found in pattern.finditer(text)]
    odd += [_without_opening(text, found) for found in _NAME.finditer(text)]
    if any(name.casefold() not in known for name in odd):
        return False
    instructions = " ".join(m.content for m in asked.messages if m.role == "system") + " " + _task_of(asked)
    told, said = _words(instructions), _words(text)
    recited = {tuple(told[n : n + _RECITED]) for n in range(len(told) - _RECITED + 1)}
    return not any(tuple(said[n : n + _RECITED]) in recited for n in range(len(said) - _RECITED + 1))


def _without_opening(text: str, found: re.Match[str]) -> str:
    """A name without the word before it that is in capitals only because a sentence begins with it."""
    name = found.group().rstrip(".'’-")
    return name.split(maxsplit=1)[1] if _OPENS.search(text[: found.start()]) else name


def _task_of(asked: Request) -> str:
    """The instructions after the material."""
    content = asked.messages[-1].content
    return content[content.rfind("</films>") : content.rfind("<draft>")]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
