"""Templates of responses as they are written, turn by turn: a file that is gone on with where it was cut short."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crscli.dialogue import Context, Example
from crscli.models.unicrs.layout import Layout
from crscli.training import Run
from crscli.training.processes import joined

Write = Callable[[Sequence[Context]], list[list[int]]]
_AT_ONCE = 256


class TemplateFile:
    """Templates of examples by split and name, on disk where a training can be resumed.

    `rows` are for people and tests: split, name, the text, and its token ids.
    """

    def __init__(self, run: Run, layout: Layout, name: str) -> None:
        self._run, self._layout, self._name = run, layout, name
        self.rows: list[dict[str, Any]] = []

    def complete(self, split: str, examples: Sequence[Example], write: Write) -> dict[str, list[int]]:
        """Token ids of each example's template by its name; those that are not there yet are written.

        Several processes share the work.
        """
        contexts = {f"{e.dialogue_id}:{e.turn_num}": e.context for e in examples}
        with joined(self._run.device) as world:
            found = self._read(split)
            missing = [name for name in contexts if name not in found]
            # Like lengths together: a batch is read as wide as its longest context, and goes on as long as its last.
            missing.sort(key=lambda name: sum(len(t.text) for t in contexts[name].turns[-8:]))
            alone = world.size == 1 or self._run.directory is None
            own = missing if alone else missing[world.rank :: world.size]
            for start in range(0, len(own), _AT_ONCE):
                names = own[start : start + _AT_ONCE]
                made = dict(zip(names, write([contexts[n] for n in names]), strict=True))
                self._append(split, world.rank, made)
                found |= made
                if world.is_first:
                    self._run.progress(f"templates of {split}", min(start + _AT_ONCE, len(own)), len(own), "")
            if not alone:
                world.wait()
                found = self._read(split)
        kept = {name: found[name] for name in contexts}
        text = self._layout.text
        self.rows += [{"split": split, "name": n, "template": text(ids), "tokens": ids} for n, ids in kept.items()]
        return kept

    def _paths(self, split: str) -> list[Path]:
        folder = self._run.directory
        return sorted(folder.glob(f"{self._name}-{split}-*.jsonl")) if folder is not None else []

    def _read(self, split: str) -> dict[str, list[int]]:
        """What was written before; a line that was cut short is no template."""
        found: dict[str, list[int]] = {}
        for path in self._paths(split):
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    found[row["name"]] = row["tokens"]
        return found

    def _append(self, split: str, rank: int, made: dict[str, list[int]]) -> None:
        if self._run.directory is None:
            return
        self._run.directory.mkdir(parents=True, exist_ok=True)
        path = self._run.directory / f"{self._name}-{split}-{rank}.jsonl"
        was_cut = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" if was_cut else "")
            file.writelines(json.dumps({"name": name, "tokens": ids}) + "\n" for name, ids in made.items())
