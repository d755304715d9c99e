"""Looks behind a model's figures: by genre, by turn, by decoding, by field of an item's text, by number of candidates.

Two compare all runs of a model (`comparisons`). Each gives a table and a picture. Asks of a model what it can do
(`without_field`, `candidates`), not what it is.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crscli import comparisons, evaluation, figures, metrics
from crscli.answers import Speaking, text_figures
from crscli.catalogue import Item
from crscli.decoding import REFERENCE, TABLE_8
from crscli.errors import UsageError
from crscli.evaluation import Predictions
from crscli.progress import Progress
from crscli.protocols import TestSet

ANALYSES = {
    "genre": "share of items, labels and hits by an item's first genre (PECRS, tables 9 and 10)",
    "turns": "recall by the number of turns before the response (PECRS, figure 4)",
    "decoding": "replies by each way of decoding (PECRS, table 8); for models that speak",
    "fields": "recall with one field of the item texts left out (PECRS, table 6); for models that read them",
    "candidates": "recall by the number of reranked candidates, a row for each run (PECRS, figure 3; ReFICR, figure 4)",
    "conversations": "how often one of the most similar stored conversations was recommended a label, beside chance "
    "(ReFICR, Conv2Conv)",
    "pipeline": "recall with the steps after finding switched, nothing trained anew (ReFICR, table 4)",
    "ablation": "what each setting gives: all runs of the model, over labels, seeds together (UniCRS, figures 2 and 3)",
    "scarcity": "recall by the share of dialogues learnt from: all runs of the model, over labels (UniCRS, figure 4)",
}
_PIPELINE_KS = (1, 5, 10, 50)
_NEIGHBOURS = (1, 5, 10, 20)
_LAST_TURN = 20
"""Turns from this one on are one group."""
_K = 50

Rows = list[list[Any]]


@dataclass
class Analyses:
    """Analyses of the models of one report.

    Args:
        names: of ANALYSES.
        test_set: what they are measured on.
        head: the report's header.
    """

    names: Sequence[str]
    test_set: TestSet
    head: Mapping[str, Any]
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, predicted: Predictions, recommender: Any, facts: Mapping[str, Any], progress: Progress) -> None:
        """Analyse one model, which has just been measured, as far as it fits."""
        for name in self.names:
            if name not in comparisons.KINDS and _fits(name, type(recommender)):
                made = _BY_NAME[name](self, predicted, recommender, facts, progress)
                self.found.setdefault(name, {})[predicted.model] = made

    def add_runs(self, model: str, runs: Sequence[comparisons.Measured]) -> None:
        """Compare the runs of one model, the one that was asked for first."""
        for name in comparisons.KINDS:
            if name in self.names:
                groups = comparisons.compare(
                    name, runs, self.test_set.dialogue_nums, draws=self.head["bootstrap_draws"], seed=self.head["seed"]
                )
                if len(groups) > 1:
                    self.found.setdefault(name, {})[model] = groups

    def draw(self, directory: Path) -> dict[str, Any]:
        """Tables as plain values, and their pictures written into a folder: name -> columns, rows, picture."""
        drawn = {}
        for name in self.found:
            columns, rows = _TABLES[name](self.found[name])
            picture = f"{name}.png"
            _draw(
                name, self.found[name], directory / picture, f"{self.head['dataset']}, {self.head['protocol']['name']}"
            )
            drawn[name] = {"summary": ANALYSES[name], "columns": columns, "rows": rows, "picture": picture}
        return drawn

    def recall(self, predicted: Predictions, k: int = _K) -> float:
        """Over labels."""
        flat = np.concatenate([*predicted.ranks, np.zeros(0, dtype=np.int64)])[:, None]
        return float(np.nanmean(metrics.recall_at_k(flat, k))) if len(flat) else float("nan")

    def again(self, predicted: Predictions, recommender: Any) -> Predictions:
        """The same rows ranked once more."""
        return evaluation.predict(
            predicted.model, recommender, predicted.test_set, exclude_mentioned=predicted.exclude_mentioned
        )


def refuse_unfit(names: Sequence[str], models: Sequence[type]) -> None:
    """Refuse an analysis that fits none of the models, before hours were spent on measuring them.

    Args:
        names: of ANALYSES.
        models: the classes of those that are analysed.

    Raises:
        UsageError: there is one.
    """
    for name in names:
        if not any(_fits(name, model) for model in models):
            raise UsageError(
                f"--analyse {name} fits none of these models: {ANALYSES[name]}", "name one with --model, as pecrs-tiny"
            )


def _fits(name: str, model: type) -> bool:
    """Whether a model can do what an analysis asks for."""
    if name == "decoding":
        return "respond" in model.tasks  # type: ignore[attr-defined]
    asked_of = {"fields": "without_field", "candidates": "candidate_counts", "pipeline": "variants",
                "conversations": "similar"}  # fmt: skip
    return name not in asked_of or hasattr(model, asked_of[name])


def _first_genre(item: Item) -> str:
    return item.genres[0].lower() if item.genres else "(none)"


def _genre(run: Analyses, predicted: Predictions, recommender: Any, *_: Any) -> dict[str, dict[str, float]]:
    catalogue = recommender.catalogue
    items = Counter(_first_genre(catalogue[int(n)]) for n in run.test_set.candidates)
    labels: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for row, ranks in zip(run.test_set.rows, predicted.ranks, strict=True):
        for label, rank in zip(row.labels, ranks, strict=True):
            genre = _first_genre(catalogue.item(label)) if label in catalogue else "(none)"
            labels[genre] += 1
            hits[genre] += bool(0 < rank <= _K)
    every, total = max(1, sum(items.values())), max(1, sum(labels.values()))
    return {
        g: {
            "items": items[g] / every,
            "labels": labels[g] / total,
            "hits": hits[g] / labels[g] if labels[g] else np.nan,
        }
        for g in sorted(items | labels, key=lambda g: (-items[g], g))
    }


def _genre_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    first = next(iter(found.values()))
    columns = ["first genre", "items %", "labels %", *(f"{model}: found in 50 %" for model in found)]
    rows = [[g, _percent(v["items"]), _percent(v["labels"]), *(_percent(m[g]["hits"]) for m in found.values())]
            for g, v in first.items()]  # fmt: skip
    return columns, rows


def _turns(run: Analyses, predicted: Predictions, *_: Any) -> dict[int, tuple[int, float]]:
    by_turn: dict[int, list[bool]] = {}
    for row, ranks in zip(run.test_set.rows, predicted.ranks, strict=True):
        by_turn.setdefault(min(row.turn_num, _LAST_TURN), []).extend((0 < r <= _K) for r in ranks.tolist())
    return {turn: (len(hits), float(np.mean(hits))) for turn, hits in sorted(by_turn.items())}


def _turns_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    first = next(iter(found.values()))
    columns = ["turns before", "labels", *(f"{model}: R@50" for model in found)]
    rows = [
        [f"{turn}" if turn < _LAST_TURN else f"{turn} or more", count, *(_share(m[turn][1]) for m in found.values())]
        for turn, (count, _) in first.items()
    ]
    return columns, rows


def _decoding(
    run: Analyses, predicted: Predictions, recommender: Any, _: Any, progress: Progress
) -> dict[str, dict[str, float]]:
    made = {}
    for decoding in (*TABLE_8, REFERENCE):
        spoken = evaluation.predict(
            predicted.model,
            recommender,
            predicted.test_set,
            exclude_mentioned=predicted.exclude_mentioned,
            speaking=Speaking(decoding),
            progress=lambda _, done, total, note="", shown=str(decoding): progress(shown, done, total, note),
        )
        made[str(decoding)] = text_figures(spoken.answers)["masked"]
    return made


def _decoding_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    shown = (
        "rouge-1",
        "rouge-2",
        "distinct-2/response",
        "distinct-3/response",
        "distinct-4/response",
        "words/response",
    )
    rows = [
        [model, decoding, *(f"{values[name]:.3f}" for name in shown)]
        for model, by_decoding in found.items()
        for decoding, values in by_decoding.items()
    ]
    return ["model", "decoding", *shown], rows


def _fields(run: Analyses, predicted: Predictions, recommender: Any, _: Any, progress: Progress) -> dict[str, float]:
    names = recommender.config.fields
    made = {"(none)": run.recall(predicted)}
    whole = recommender.index
    for num, name in enumerate(names):
        if len(names) > 1:
            recommender.without_field(name)
            made[name] = run.recall(run.again(predicted, recommender))
        progress("leaving out fields", num + 1, len(names))
    recommender.use_index(whole)
    return made


def _fields_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    columns = ["left out", *(f"{model}: R@50" for model in found)]
    return columns, [[n, *(_share(values.get(n, np.nan)) for values in found.values())] for n in names]


def _candidates(
    run: Analyses, predicted: Predictions, recommender: Any, facts: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """With few candidates a ranking moves what stands first; with hundreds, what is among the first fifty."""
    usual, counts = recommender.candidates, recommender.candidate_counts
    k = 1 if counts[0] < _K else _K
    made = {}
    for num, many in enumerate(counts):
        recommender.candidates = many
        made[many] = run.recall(run.again(predicted, recommender), k)
        progress("numbers of candidates", num + 1, len(counts))
    recommender.candidates = usual
    settings = facts.get("settings", {})
    return {"trained with": settings["candidates"] if k == 1 else settings.get("negatives", 0) + 1, "k": k,
            "recall": made}  # fmt: skip


def _candidates_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    counts = sorted({(v["k"], many) for v in found.values() for many in v["recall"]})
    columns = ["run", "trained with", *(f"R@{k} with {many}" for k, many in counts)]
    return columns, [
        [model, v["trained with"], *(_share(v["recall"].get(many, np.nan) if v["k"] == k else np.nan)
                                     for k, many in counts)]
        for model, v in found.items()
    ]  # fmt: skip


def _conversations(run: Analyses, predicted: Predictions, recommender: Any, *_: Any) -> dict[int, tuple[float, float]]:
    """(found, by chance) among the first k; chance is the hypergeometric one of k conversations drawn at random."""
    vocabulary, stored = recommender.catalogue.vocabulary, [set(t) for t in recommender.stored_targets]
    rows = [(row, set(vocabulary.nums(row.labels).tolist())) for row in run.test_set.rows]
    rows = [(row, labels) for row, labels in rows if labels]
    near = recommender.similar([row.context for row, _ in rows], max(_NEIGHBOURS))
    of_item: dict[int, set[int]] = {}
    for place, targets in enumerate(stored):
        for target in targets:
            of_item.setdefault(target, set()).add(place)
    made = {}
    for k in _NEIGHBOURS:
        hits = [
            any(labels & set(targets) for targets in found[:k]) for (_, labels), found in zip(rows, near, strict=True)
        ]
        right = np.array([len(set().union(*(of_item.get(n, set()) for n in labels))) for _, labels in rows])
        missed = np.prod([(len(stored) - right - i).clip(min=0) / max(1, len(stored) - i) for i in range(k)], axis=0)
        made[k] = (float(np.mean(hits)), float(np.mean(1 - missed)))
    return made


def _conversations_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    rows = [
        [model, k, _share(hit), _share(chance), f"{hit / chance:.1f}" if chance else "-"]
        for model, values in found.items()
        for k, (hit, chance) in values.items()
    ]
    return ["model", "most similar", "found", "by chance", "times"], rows


def _pipeline(
    run: Analyses, predicted: Predictions, recommender: Any, _: Any, progress: Progress
) -> dict[str, dict[int, float]]:
    made = {"as trained": {k: run.recall(predicted, k) for k in _PIPELINE_KS}}
    for num, (name, switched) in enumerate(recommender.variants.items(), start=1):
        usual = {attribute: getattr(recommender, attribute) for attribute in switched}
        if usual != switched:
            vars(recommender).update(switched)
            again = run.again(predicted, recommender)
            made[name] = {k: run.recall(again, k) for k in _PIPELINE_KS}
            vars(recommender).update(usual)
        progress("switching steps", num, len(recommender.variants))
    return made


def _pipeline_table(found: Mapping[str, Any]) -> tuple[list[str], Rows]:
    rows = [
        [model, name, *(_share(values[k]) for k in _PIPELINE_KS)]
        for model, variants in found.items()
        for name, values in variants.items()
    ]
    return ["model", "switched", *(f"R@{k}" for k in _PIPELINE_KS)], rows


def _draw(name: str, found: Mapping[str, Any], path: Path, title: str) -> None:
    """The picture of one analysis."""
    if name in comparisons.KINDS:
        comparisons.draw(name, found, path, title=title)
    elif name == "genre":
        first = next(iter(found.values()))
        shown = [g for g, v in first.items() if v["labels"] > 0][:15] or list(first)[:15]
        values = np.array([[m[g]["hits"] for m in found.values()] for g in shown])
        figures.grid(shown, list(found), values, path, title=f"{title}: labels found in the first 50", x_label="model",
                     y_label="first genre")  # fmt: skip
    elif name == "turns":
        series = {model: [v for _, v in values.values()] for model, values in found.items()}
        turns = list(next(iter(found.values())))
        figures.lines(turns, series, path, title=title, x_label="turns before the response", y_label="R@50")
    elif name == "decoding":
        flat = {f"{m}, {d}" if len(found) > 1 else d: v["rouge-1"] for m, by in found.items() for d, v in by.items()}
        figures.bars(list(flat), list(flat.values()), path, title=title, axis="ROUGE-1")
    elif name == "fields":
        flat = {f"{m}, {n}" if len(found) > 1 else n: v for m, by in found.items() for n, v in by.items()}
        figures.bars(list(flat), list(flat.values()), path, title=f"{title}: one field left out", axis="R@50")
    elif name == "conversations":
        series = {model: [hit for hit, _ in values.values()] for model, values in found.items()}
        series |= {f"{model}, by chance": [chance for _, chance in v.values()] for model, v in found.items()}
        figures.lines(list(_NEIGHBOURS), series, path, title=title, x_label="most similar conversations",
                      y_label="a label was recommended there")  # fmt: skip
    elif name == "pipeline":
        flat = {f"{m}, {n}" if len(found) > 1 else n: v[1] for m, by in found.items() for n, v in by.items()}
        figures.bars(list(flat), list(flat.values()), path, title=f"{title}: steps switched", axis="R@1")
    else:
        rows = [f"{m} ({v['trained with']})" for m, v in found.items()]
        counts = sorted({(v["k"], many) for v in found.values() for many in v["recall"]})
        grid = np.array([[v["recall"].get(n, np.nan) if v["k"] == k else np.nan for k, n in counts]
                         for v in found.values()])  # fmt: skip
        figures.grid(rows, [str(n) for _, n in counts], grid, path,
                     title=f"{title}: R@{'/'.join(str(k) for k in sorted({k for k, _ in counts}))}",
                     x_label="candidates that are reranked", y_label="run (candidates in training)")  # fmt: skip


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


_BY_NAME: dict[str, Callable[..., Any]] = {
    "genre": _genre,
    "turns": _turns,
    "decoding": _decoding,
    "fields": _fields,
    "candidates": _candidates,
    "conversations": _conversations,
    "pipeline": _pipeline,
}
_TABLES: dict[str, Callable[[Mapping[str, Any]], tuple[list[str], Rows]]] = {
    "genre": _genre_table,
    "turns": _turns_table,
    "decoding": _decoding_table,
    "fields": _fields_table,
    "candidates": _candidates_table,
    "conversations": _conversations_table,
    "pipeline": _pipeline_table,
    **dict.fromkeys(comparisons.KINDS, comparisons.table),
}
