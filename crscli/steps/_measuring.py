"""Measuring the models of one report, and the files of what they predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crscli import comparisons, evaluation, management, report
from crscli import config as configuration
from crscli.analyses import Analyses
from crscli.answers import Speaking, text_figures
from crscli.catalogue import Catalogue
from crscli.management import Turns
from crscli.models import MODELS, model_class
from crscli.progress import Progress, Say
from crscli.protocols import TestSet
from crscli.steps._dataset import DatasetInputs, load_run, online, reads_links, refuse_learnt
from crscli.steps._llm import OpenedLlm
from crscli.workspace import Artifact, Workspace

TRIVIAL = ("copy", "popularity", "copy-popularity")


@dataclass(frozen=True)
class Managing:
    """Turns whose acts are predicted: "acts" those that say what they do, "recommends" all of the test set.

    `source` is the dataset that the first are of, where it is another one.
    """

    turns: Mapping[str, Turns]
    source: Artifact | None


@dataclass(frozen=True)
class Measuring:
    """Models that are being measured, one after the other.

    `test_sets` holds the rows twice: as the data have them, and with the people and genres that were linked, for models
    that learn on a graph. `related` are all runs that a name's own is compared with, itself the first.
    """

    workspace: Workspace
    head: dict[str, Any]
    data: DatasetInputs
    runs: dict[str, Artifact | None]
    bases: Mapping[str, tuple[str, Artifact | None]]
    related: Mapping[str, Sequence[Artifact]]
    test_sets: Mapping[bool, TestSet]
    speaking: Speaking | None
    managing: Managing | None
    llm: OpenedLlm | None
    analyse: Sequence[str]
    device: str
    offline: bool
    progress: Progress
    say: Say

    def run(self, directory: Path) -> dict[str, Any]:
        """Predict with every model, write predictions and the pictures of analyses into a folder, build the report.

        The models that were asked for are compared with each other and with the best trivial one.
        """
        head, test_set = self.head, self.test_sets[False]
        seed, draws = head["seed"], head["bootstrap_draws"]
        predictions, facts, analyses = [], {}, Analyses(self.analyse, test_set, head)
        reasons: list[dict[str, Any]] = []
        for name, artifact in self.runs.items():
            recommender, facts[name] = self._recommender(name, artifact)
            if self.managing and "manage" in recommender.tasks:
                facts[name]["management"] = self._managed(name, recommender, reasons)
            if not head["ranks"]:
                continue
            speaking = self.speaking if "respond" in recommender.tasks else None
            predicted = evaluation.predict(
                name, recommender, self.test_sets[reads_links(artifact)], exclude_mentioned=head["exclude_mentioned"],
                speaking=speaking, progress=self.progress,
            )  # fmt: skip
            predictions.append(predicted)
            if self.llm is not None and hasattr(recommender, "use_llm"):
                facts[name]["llm"] = recommender.facts()
            if predicted.answers and speaking:
                facts[name]["text"] = {"decoding": str(speaking.decoding), **text_figures(predicted.answers)}
            if name not in TRIVIAL:
                analyses.add(predicted, recommender, facts[name], self.progress)
        for name, artifacts in self.related.items():
            own = next(p for p in predictions if p.model == name)
            runs = [self._measured(a, own if a is self.runs[name] else None) for a in artifacts]
            analyses.add_runs(name, runs)
        figures = [evaluation.figures(p, draws=draws, seed=seed) for p in predictions]
        asked = head["models_asked"]
        named = [p for p in predictions if p.model in asked or (asked and p.model == TRIVIAL[-1])]
        compared = evaluation.compare(named, aggregation=test_set.protocol.aggregate, seed=seed)
        made = report.build(head, figures, compared, facts) | {"analyses": analyses.draw(directory)}
        made |= {"llm": self.llm.describe()} if self.llm else {}
        made |= {"management": self._trivially_managed(facts)} if self.managing else {}
        if reasons:
            pq.write_table(pa.Table.from_pylist(reasons), directory / "acts.parquet", compression="zstd")
        _save_predictions(directory / "predictions.parquet", predictions, self.data.catalogue)
        _save_replies(directory / "replies.parquet", predictions)
        return made

    def ask(self) -> None:
        """Put every question to the endpoint and measure nothing: for requests that are written to a file."""
        for name, artifact in self.runs.items():
            recommender, _ = self._recommender(name, artifact)
            if hasattr(recommender, "use_llm"):
                rows = self.test_sets[reads_links(artifact)]
                excluded = self.head["exclude_mentioned"]
                evaluation.predict(name, recommender, rows, exclude_mentioned=excluded, progress=self.progress)

    def _managed(self, name: str, recommender: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Figures of a model's acts, and the acts themselves."""
        assert self.managing is not None, "it was asked for"
        found = {}
        for kind, turns in self.managing.turns.items():
            made = management.managed(name, recommender, turns, why=kind == "acts", progress=self.progress)
            says = management.predicted(made, turns.gold.shape[1])
            found[kind] = management.figures(turns, says, draws=self.head["bootstrap_draws"], seed=self.head["seed"])
            rows += [
                {
                    "model": name, "of": kind, "dialogue_id": e.dialogue_id, "turn_num": e.turn_num,
                    "response": e.response.text, "acts": list(e.response.acts), "names_item": bool(e.targets),
                    "predicted": list(m.acts), "likelihoods": list(m.likelihoods), "why": m.why,
                }
                for e, m in zip(turns.examples, made, strict=True)
            ]  # fmt: skip
        return found

    def _trivially_managed(self, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What is said of acts: of what needs no model, then of each model."""
        assert self.managing is not None, "it was asked for"
        made: dict[str, Any] = {name: {} for name in management.TRIVIAL}
        for kind, turns in self.managing.turns.items():
            for name, says in management.trivial(turns).items():
                draws, seed = self.head["bootstrap_draws"], self.head["seed"]
                made[name][kind] = management.figures(turns, says, draws=draws, seed=seed)
        made |= {name: fact["management"] for name, fact in facts.items() if "management" in fact}
        source = self.managing.source
        return {"source": source.dataset if source else None, "models": report.finite(made)}

    def _measured(self, artifact: Artifact, known: evaluation.Predictions | None) -> comparisons.Measured:
        """A run as comparisons want it; it is ranked with unless its rankings are known."""
        if known is None:
            recommender, _ = self._recommender(str(artifact.run), artifact)
            known = evaluation.predict(
                str(artifact.run), recommender, self.test_sets[reads_links(artifact)],
                exclude_mentioned=self.head["exclude_mentioned"], progress=self.progress,
            )  # fmt: skip
        return comparisons.Measured(compared_settings(artifact), artifact.provenance()["seeds"]["seed"], known.ranks)

    def _recommender(self, name: str, artifact: Artifact | None) -> tuple[Any, dict[str, Any]]:
        """Load a run, or fit a count-based model for this split; give it what it asks: an endpoint, another model."""
        recommender, facts = self._own(name, artifact)
        if self.llm is not None and hasattr(recommender, "use_llm"):
            recommender.use_llm(self.llm.llm)
        if hasattr(recommender, "use_base"):
            other, facts["base"] = self._own(*self.bases[name])
            recommender.use_base(other)
        return recommender, facts

    def _own(self, name: str, artifact: Artifact | None) -> tuple[Any, dict[str, Any]]:
        """A run, or a count-based model that is fitted now."""
        data, split, seed = self.data, self.head["split"], self.head["seed"]
        if artifact is not None:
            recommender, record = load_run(
                self.workspace, artifact, data, device=self.device, offline=self.offline, say=self.say
            )
            if artifact.run != name:
                self.say(f"{name}: run {artifact.run}, the newest of this model")
            refuse_learnt(artifact, record, split)
            facts = {"run": artifact.name, "model": record["model"], "fitted_on": record["fitted_on"]}
            if record.get("max_steps"):
                self.say(f"{name}: trained for {record['max_steps']} steps only: comparable to nothing")
            return recommender, facts | {"max_steps": record.get("max_steps"), "settings": record["settings"]}
        spec, model_type = MODELS[name], model_class(name)
        settings = configuration.resolve(model_type.config_class, spec.preset)
        fit_data = data.fit_data(refit=False if split == "valid" else None)
        learnt = ["train", "valid"] if fit_data.refit and fit_data.valid else ["train"]
        if name not in TRIVIAL:
            self.say(f"no run of {name}: fitted now on {' + '.join(learnt)}")
        more = online(model_type, self.offline)
        fitted = model_type.fit(data.catalogue, fit_data, settings, seed=seed, progress=self.progress, **more)
        return fitted, {"run": None, "model": name, "fitted_on": learnt, "max_steps": None, "settings": {}}


def compared_settings(artifact: Artifact) -> dict[str, Any]:
    """What sets runs of one model apart: their settings and their graph."""
    params = artifact.provenance()["params"]
    return params["settings"] | {"kg": params.get("kg")}


def _save_predictions(path: Path, predictions: Sequence[evaluation.Predictions], catalogue: Catalogue) -> None:
    """One record per model and row: the labels, their ranks (0 = not among the first 100), the first 50 items."""
    columns: dict[str, list[Any]] = {
        key: [] for key in ("model", "dialogue_id", "turn_num", "labels", "repeated", "ranks", "top")
    }
    ids = np.array(catalogue.vocabulary.ids, dtype=object)
    for prediction in predictions:
        for row, ranks, top in zip(prediction.test_set.rows, prediction.ranks, prediction.top, strict=True):
            values = (
                prediction.model, row.dialogue_id, row.turn_num, list(row.labels), list(row.repeated),
                ranks.tolist(), ids[top].tolist(),
            )  # fmt: skip
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    pq.write_table(pa.table(columns), path, compression="zstd")


def _save_replies(path: Path, predictions: Sequence[evaluation.Predictions]) -> None:
    """One record per model that speaks and turn."""
    rows = [
        {
            "model": p.model,
            "dialogue_id": a.row.dialogue_id,
            "turn_num": a.row.turn_num,
            "reply": a.utterance.text,
            "template": a.utterance.template,
            "recommends": a.utterance.recommends,
            "told": a.told.text if a.told else None,
            "response": a.row.response.text,
            "names_item": a.names_item,
            "nats": a.likelihood.nats,
            "tokens": a.likelihood.tokens,
        }
        for p in predictions
        for a in p.answers
    ]
    if rows:
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
