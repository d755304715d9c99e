"""The commands of a chat: what `/why`, `/like 2` and the others do to a session, as lines to show.

Knows the session, no terminal; files, profiles and models are reached through what the chat was given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crscli.dialogue import Opinion
from crscli.errors import CrsError, UsageError, unknown_name
from crscli.names import key
from crscli.session import Host, Memory, Reply, Session


class Keeping(Protocol):
    """What a chat keeps outside itself."""

    def open_model(self, name: str) -> Host:
        """Another model for the same catalogue."""
        ...

    def save(self, memory: Memory, path: Path) -> Path:
        """Write a dialogue to a file that `load` reads."""
        ...

    def load(self, host: Host, path: Path) -> Memory:
        """Read what `save` wrote."""
        ...

    def export(self, memory: Memory, path: Path) -> Path:
        """Write a dialogue for people (.md, .txt) or as a dataset's dialogue (.jsonl)."""
        ...

    def said(self, memory: Memory) -> None:
        """Take note of a turn: keeps the profile."""
        ...

    def profile(self, action: str) -> list[str]:
        """Show or delete the profile."""
        ...


@dataclass
class Done:
    """What a command came to."""

    lines: list[str] = field(default_factory=list)
    reply: Reply | None = None
    ends: bool = False


HELP: dict[str, tuple[str, str]] = {
    "help": ("", "this list"),
    "why": ("[N]", "why a film was recommended"),
    "like": ("[N or title]", "you like a film"),
    "dislike": ("[N or title]", "you do not"),
    "seen": ("[N or title]", "you have seen it"),
    "more": ("", "other films"),
    "filters": ("[drop N | clear]", "what is asked for and refused; take some of it back"),
    "forget": ("", "begin anew; nothing of this conversation is kept"),
    "model": ("[NAME]", "which model answers; take another"),
    "profile": ("[delete]", "what --profile keeps of you"),
    "save": ("FILE", "keep this conversation"),
    "load": ("FILE", "go on with one that was kept"),
    "export": ("FILE.md", "as text (.md, .txt) or as a dialogue of a dataset (.jsonl)"),
    "debug": ("[on | off]", "show links, wishes and scores"),
    "quit": ("", "end; so does Ctrl-D"),
}


class Commands:
    """Runs the commands of one chat.

    Args:
        session: the dialogue.
        model: name of the model that answers.
        keeping: files, profiles and models.
    """

    def __init__(self, session: Session, model: str, keeping: Keeping) -> None:
        self.session, self.model, self.keeping = session, model, keeping
        self.debug = False
        self._known: dict[str, Callable[[str], Done]] = {
            "help": self._help, "why": self._why, "like": self._marks("liked"), "dislike": self._marks("disliked"),
            "seen": self._marks("seen"), "more": lambda _: Done(reply=self.session.say("Something else, please.")),
            "filters": self._filters, "forget": self._forget, "model": self._model, "profile": self._profile,
            "save": self._save, "load": self._load, "export": self._export, "debug": self._debug,
            "quit": lambda _: Done(ends=True), "exit": lambda _: Done(ends=True),
        }  # fmt: skip

    def run(self, line: str) -> Done:
        """Do what a line that begins with "/" says.

        Raises:
            CrsError: it cannot be done; nothing has changed.
        """
        name, _, rest = line[1:].strip().partition(" ")
        if name.lower() not in self._known:
            raise unknown_name("command", name, self._known, "/help lists them")
        return self._known[name.lower()](rest.strip())

    # ---- what is spoken of ------------------------------------------------------------------------------------

    def _item(self, told: str) -> str:
        """The id of an item by its number in the last recommendation or by its title; of nothing, the one spoken of."""
        memory, catalogue = self.session.memory, self.session.host.catalogue
        last = memory.offered[-1] if memory.offered else []
        if not told:
            if not memory.focus:
                raise UsageError("no film was spoken of yet", "name one: its number or its title")
            return memory.focus
        if told.isdigit() and len(told) < 4 and 1 <= int(told) <= len(last):
            return last[int(told) - 1]
        named = [i.item_id for i in catalogue if key(told) in (key(i.title), key(i.name))]
        linked = [link.id for link in self.session.host.link(told, ()) if link.kind == "item"]
        if not named and not linked:
            raise UsageError(f"no film {told!r} in the catalogue", "give its number on the last cards, or its title")
        return (named or linked)[-1]

    def _marks(self, opinion: Opinion) -> Callable[[str], Done]:
        def mark(told: str) -> Done:
            item_id = self._item(told)
            self.session.memory.mark(item_id, opinion)
            self.keeping.said(self.session.memory)
            return Done([f"noted: {opinion} {self.session.host.catalogue.item(item_id).name}"])

        return mark

    def _why(self, told: str) -> Done:
        item = self.session.host.catalogue.item(self._item(told))
        reasons = self.session.memory.reasons.get(item.item_id, ())
        if not reasons:
            return Done([f"{item.name} was not recommended here"])
        lines = [f"{item.name}:"]
        for reason in reasons:
            evidence = reason.evidence
            if evidence in self.session.host.catalogue:
                evidence = self.session.host.catalogue.item(evidence).name
            lines.append(f"  {reason.kind:<10} {evidence}" + (f"  ({reason.share:.0%})" if reason.share < 1 else ""))
        return Done(lines)

    def _filters(self, told: str) -> Done:
        memory, limits = self.session.memory, self.session.memory.limits()
        word, _, number = told.partition(" ")
        if word == "clear":
            for limit in limits:
                memory.drop(limit)
            return Done(["no filters"])
        if word == "drop":
            if not number.isdigit() or not 1 <= int(number) <= len(limits):
                raise UsageError(
                    f"no filter {number!r}", f"/filters lists them: 1 to {len(limits)}" if limits else None
                )
            memory.drop(limits[int(number) - 1])
            return Done([f"dropped: {limits[int(number) - 1].words}"])
        if word:
            raise UsageError(f"/filters {told!r} is not known", "/filters, /filters drop N, /filters clear")
        return Done([f"{num}  {limit.words}" for num, limit in enumerate(limits, 1)] or ["no filters"])

    # ---- the dialogue -----------------------------------------------------------------------------------------

    def _help(self, _: str) -> Done:
        shown = {name: f"/{name} {arguments}".strip() for name, (arguments, _) in HELP.items()}
        wide = max(map(len, shown.values()))
        return Done([f"{shown[name]:<{wide}}  {text}" for name, (_, text) in HELP.items()])

    def _forget(self, _: str) -> Done:
        self.session.memory = Memory(self.session.host.catalogue)
        return Done(["forgotten: this conversation begins anew"])

    def _model(self, name: str) -> Done:
        if not name:
            return Done([f"model: {self.model}"])
        self.session.host = self.keeping.open_model(name)
        self.model = name
        return Done([f"model: {name}"])

    def _profile(self, told: str) -> Done:
        if told not in ("", "delete"):
            raise UsageError(f"/profile {told!r} is not known", "/profile, /profile delete")
        return Done(self.keeping.profile(told or "show"))

    def _save(self, told: str) -> Done:
        return Done([f"saved: {self.keeping.save(self.session.memory, _path(told, '/save FILE'))}"])

    def _load(self, told: str) -> Done:
        self.session.memory = self.keeping.load(self.session.host, _path(told, "/load FILE"))
        turns = self.session.memory.turns
        return Done([f"loaded: {len(turns)} turns", *(f"{t.role}: {t.text}" for t in turns[-4:])])

    def _export(self, told: str) -> Done:
        return Done([f"exported: {self.keeping.export(self.session.memory, _path(told, '/export FILE.md'))}"])

    def _debug(self, told: str) -> Done:
        self.debug = {"on": True, "off": False}.get(told, not self.debug)
        return Done([f"debug: {'on' if self.debug else 'off'}"])


def _path(told: str, usage: str) -> Path:
    if not told:
        raise UsageError("a file is needed", usage)
    return Path(told).expanduser()


def traced(session: Session, reply: Reply) -> list[str]:
    """What lies behind a reply: links, wishes, and the first of the model's ranking with its scores."""
    host, memory = session.host, session.memory
    known = host.catalogue

    def name(link_id: str) -> str:
        return known.item(link_id).name if link_id in known else link_id

    lines = [f"act      {reply.act}" + (f", asks about {reply.question}" if reply.question else "")]
    lines += [
        f"link     {x.kind} {name(x.id)} {x.score:.2f}" + (f" {x.opinion}" if x.opinion else "")
        + (f" at {x.start}" if x.start >= 0 else "")
        for x in reply.links
    ]  # fmt: skip
    lines += [f"filter   {limit.words}" for limit in memory.limits()]
    lines += [f"relaxed  {words}" for words in reply.relaxed]
    if reply.items:
        ranking = host.recommender.rank([memory.evidence()], 5)[0]
        pairs: Sequence[tuple[int, float]] = list(zip(ranking.item_nums.tolist(), ranking.scores.tolist(), strict=True))
        lines += [f"ranked   {known[num].name} {score:.3f}" for num, score in pairs]
    return lines


__all__ = ["HELP", "Commands", "CrsError", "Done", "Keeping", "traced"]
