"""A language model behind an endpoint puts a recommendation into words; what it says is checked by who asks for it."""

from collections.abc import Sequence

from crscli.catalogue import Item
from crscli.dialogue import Context
from crscli.errors import CrsError
from crscli.llm.prompts import Completer
from crscli.llm.questions import dialogue_text, item_text, reply_request

_DIALOGUE_AT_MOST, _PLOT_AT_MOST, _TOKENS = 3000, 200, 160
_SHOWN = ("title", "year", "genres", "directors", "cast", "plot")


class LlmVoice:
    """Rewrites a draft; a session takes it only if it names no other film."""

    def __init__(self, llm: Completer) -> None:
        """Args: llm: whom to ask."""
        self._llm = llm

    def __call__(self, context: Context, items: Sequence[Item], draft: str) -> str:
        """A reply in the model's words; "" where the endpoint fails, so that the draft is said."""
        texts = [item_text(item, _SHOWN, _PLOT_AT_MOST) for item in items]
        asked = reply_request(dialogue_text(context, _DIALOGUE_AT_MOST), texts, draft, _TOKENS)
        try:
            said = self._llm.complete([asked])[0].text
        except CrsError:
            return ""
        text = " ".join(said.split())
        return text if any(item.title.lower() in text.lower() for item in items) else ""
