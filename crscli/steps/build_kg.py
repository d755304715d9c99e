"""build-kg: catalogue/ (or items/) + a dump or a published graph -> kg/<name>."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crscli import workspace
from crscli.catalogue import Catalogue
from crscli.errors import ArtifactMissing, DataError, MachineError, UsageError, unknown_name
from crscli.kg import KnowledgeGraph, films, published
from crscli.kg.cut import FILM_RELATIONS, ONTOLOGY, Dump, cut
from crscli.kg.metadata import graph_of
from crscli.kg.picture import draw, tree
from crscli.kg.tmdkg import Credit, tmdkg
from crscli.kg.triples import SUFFIXES, BadLines
from crscli.names import key
from crscli.progress import Progress, Say, silent
from crscli.steps._dataset import find_kg, items_of, load_kg
from crscli.workspace import Artifact, Recipe, Workspace, file_digest

STEP_FORMAT = 1
SOURCES = ("metadata", "tmdkg", "dbpedia")
SOME = 3


@dataclass(frozen=True)
class Built:
    """What the step made, for the table; `files` are the paths that were given, by option."""

    dataset: str
    name: str
    source: str
    path: Path
    statistics: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    status: str = "written"


@dataclass(frozen=True)
class Asked:
    """The options of a build, checked against each other; `form` is that of a published graph."""

    source: str
    files: dict[str, Path]
    form: str | None = None
    item_uris: Path | None = None
    redirects: tuple[Path, ...] = ()
    relations: tuple[str, ...] = FILM_RELATIONS
    hops: int = 2
    paper: bool = False
    max_bad_rows: int = 100

    @property
    def params(self) -> dict[str, Any]:
        """What decides the graph, besides the content of files."""
        found: dict[str, Any] = {"source": self.source, "form": self.form}
        if self.source == "tmdkg":
            found["paper"] = self.paper
        if self.source == "dbpedia" and self.form is None:
            found |= {"hops": self.hops, "relations": list(self.relations), "max_bad_rows": self.max_bad_rows}
        return found

    @property
    def every_file(self) -> dict[str, Path]:
        """All files that are read, by a name for the provenance."""
        found = dict(self.files)
        if self.item_uris:
            found[f"item-uris/{self.item_uris.name}"] = self.item_uris
        # Numbered, since files of two folders may have one name.
        return found | {f"redirects/{num}/{path.name}": path for num, path in enumerate(self.redirects)}


def build_kg(
    workspace_: Workspace,
    *,
    dataset: str,
    source: str | None = None,
    from_: Path | None = None,
    item_uris: Path | None = None,
    redirects: Sequence[Path] = (),
    relations: Path | None = None,
    hops: int = 2,
    paper: bool = False,
    max_bad_rows: int = 100,
    name: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Built:
    """Build the knowledge graph of a dataset's items.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        source: "metadata" (of the items), "tmdkg" (the same by KECRS's rules) or "dbpedia"; by default metadata,
            with `from_` dbpedia.
        from_: for dbpedia, a dump of triples, a folder of such files, or the folder of a published graph.
        item_uris: JSON {item id: resource}, which comes before what titles and years tell.
        redirects: dumps of redirects and disambiguations, further names of films.
        relations: a list of the relations to keep of a dump, in JSON or one a line.
        hops: how far to go from the films of a dump.
        paper: TMDKG with the thresholds of the paper, which leave two thirds of the films without a director.
        max_bad_rows: lines of a dump that may be skipped.
        name: the graph's name; by default its source, or the form of the published graph.
        force: build even if nothing has changed, and replace a graph with other settings.
        dry_run: say what would be built.
        progress: told of bytes read.
        say: told what a user should know.
    """
    asked = _asked(source, from_, item_uris, tuple(redirects), relations, hops, paper, max_bad_rows)
    items, catalogue = _catalogue(workspace_, dataset)
    name = name or asked.form or asked.source
    artifact = workspace_.artifact(dataset, "kg", name)
    inputs = {items.name: items.digest} | {n: file_digest(path) for n, path in asked.every_file.items()}
    recipe = Recipe("build-kg", STEP_FORMAT, asked.params, inputs)
    made = Built(dataset, name, asked.source, artifact.path)
    if not force and artifact.is_current(recipe):
        return replace(made, **artifact.provenance()["notes"], status="up to date")
    if artifact.exists() and not force and artifact.provenance()["params"] != recipe.params:
        raise UsageError(
            f"graph '{artifact.name}' was built with other settings",
            "keep both with --name NAME, or replace it with --force",
        )
    if dry_run:
        return replace(made, status="dry run")
    graph, notes = _graph(asked, catalogue, items.open() / "credits.parquet", progress, say)
    statistics = graph.statistics()
    _refuse_empty(from_, statistics, notes, dataset)
    loops = f"{statistics['relations']} relations ({statistics['relations'] + 1} with the self-loops that models add)"
    paths = {"--from": [from_], "--item-uris": [item_uris], "--redirects": redirects, "--relations": [relations]}
    files = {option: [str(path) for path in given if path] for option, given in paths.items()}
    facts: dict[str, Any] = {
        "statistics": statistics,
        "notes": [loops, *notes],
        "files": {option: given for option, given in files.items() if given},
    }
    with workspace.write(artifact, recipe, notes=facts) as folder:
        graph.save(folder)
    return replace(made, **facts)


def show(
    workspace_: Workspace, *, dataset: str, name: str | None, title: str, picture: Path | None = None
) -> list[str]:
    """What a graph tells of an item, as lines of text; with `picture` also as a PNG there.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        name: of the graph; the newest by default.
        title: of the item, with or without its year, or its id.
        picture: where the PNG goes.

    Raises:
        UsageError: no item or several are called so; the picture's name does not end in .png.
        MachineError: the picture cannot be written.
    """
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"--picture {picture} is no PNG", "give a name that ends in .png")
    artifact = find_kg(workspace_, dataset, name)
    _, catalogue = _catalogue(workspace_, dataset)
    graph = load_kg(artifact, catalogue)
    called = _items_called(catalogue, title)
    num = max(called, key=lambda n: len(graph.neighbourhood(n)))
    neighbours = graph.neighbourhood(num)
    if picture is not None:
        try:
            draw(catalogue[num].name, neighbours, picture)
        except OSError as error:
            raise MachineError(f"cannot write {picture} ({error.strerror})", "name a place that is there") from None
    others = [f"(id {catalogue[num].item_id}; the same name has id {catalogue[n].item_id})" for n in called if n != num]
    return [*tree(catalogue[num].name, neighbours), *others]


def _asked(
    source: str | None,
    from_: Path | None,
    item_uris: Path | None,
    redirects: tuple[Path, ...],
    relations: Path | None,
    hops: int,
    paper: bool,
    max_bad_rows: int,
) -> Asked:
    """The options, where they fit together."""
    source = source or ("dbpedia" if from_ else "metadata")
    if source not in SOURCES:
        raise unknown_name("source", source, SOURCES)
    if paper and source != "tmdkg":
        raise UsageError("--paper is for TMDKG", "give --source tmdkg --paper")
    if source != "dbpedia":
        given = {"--from": from_, "--item-uris": item_uris, "--redirects": redirects, "--relations": relations}
        needless = [option for option, value in given.items() if value]
        if needless:
            raise UsageError(f"{needless[0]} is of no use for --source {source}", "leave it out, or --source dbpedia")
        return Asked(source, {}, paper=paper)
    if from_ is None:
        raise UsageError(
            "--source dbpedia reads a dump or a published graph",
            "name it with --from: DBpedia's mappingbased-objects (.ttl.bz2 as downloaded), or a folder that holds"
            f" {' + '.join(published.FORMS['unicrs'])}",
        )
    for option, path in (
        ("--item-uris", item_uris), ("--relations", relations), *(("--redirects", path) for path in redirects)
    ):  # fmt: skip
        if path is not None:
            _refuse_unreadable(path, option)
    if not from_.is_dir():
        _refuse_unreadable(from_, "--from")
    found = published.find(from_)
    if found:
        needless = [option for option, value in (("--redirects", redirects), ("--relations", relations)) if value]
        if needless:
            raise UsageError(f"{needless[0]} is for dumps, and {from_} holds a published graph", "leave it out")
        return Asked(source, found[1], found[0], item_uris)
    if hops < 1:
        raise UsageError(f"--hops {hops} reaches nothing", "give at least 1")
    kept = FILM_RELATIONS if relations is None else _relations(relations)
    return Asked(source, _dump_files(from_), None, item_uris, redirects, kept, hops, max_bad_rows=max_bad_rows)


def _refuse_unreadable(path: Path, option: str) -> None:
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {what}", f"check the path given with {option}")
    if not os.access(path, os.R_OK):
        raise MachineError(f"{path} may not be read", "check its rights")


def _dump_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        if path.name.removesuffix(".gz").endswith(".json"):
            raise UsageError(
                f"{path} is no dump of triples", "of a published graph, name the folder with all its files"
            )
        return {path.name: path}
    found = {p.name: p for p in sorted(path.iterdir()) if p.name.endswith(SUFFIXES) and p.is_file()}
    if not found:
        forms = "; or ".join(" + ".join(names) for names in published.FORMS.values())
        raise UsageError(
            f"{path} holds neither a dump ({', '.join(SUFFIXES)}) nor a published graph", f"wanted: {forms}"
        )
    return found


def _relations(path: Path) -> tuple[str, ...]:
    """Relations from a JSON list or a line each; "starring" is short for DBpedia's."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: byte {error.start + 1}", "save the file as UTF-8", path=path) from None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = text.split()
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError("a list of relations was expected", "one a line, or a JSON list", path=path)
    full = (name if ":" in name else ONTOLOGY + name for name in names)
    return tuple(sorted({name if name.startswith("<") else f"<{name}>" for name in full}))


def _catalogue(workspace_: Workspace, dataset: str) -> tuple[Artifact, Catalogue]:
    """The items, with metadata where they were fetched."""
    items = items_of(workspace_, dataset)
    return items, Catalogue.load(items.open() / "items.parquet")


def _graph(
    asked: Asked, catalogue: Catalogue, credits: Path, progress: Progress, say: Say
) -> tuple[KnowledgeGraph, list[str]]:
    """The graph, and what a user should know of it."""
    if asked.source == "metadata":
        return graph_of(catalogue), []
    if asked.source == "tmdkg":
        crew = pq.read_table(credits, use_threads=False).to_pylist() if credits.exists() else []
        made = tmdkg(
            catalogue, (Credit(*(row[n] for n in Credit.__dataclass_fields__)) for row in crew), paper=asked.paper
        )
        notes = [f"{made.remakes} titles are of several films, which are kept apart"]
        if made.joined:
            notes.append(
                f"{len(made.joined)} films stand under several ids: {_some('; '.join(n) for n in made.joined)}"
            )
        if not crew:
            notes.append("no credits: the crew is what the items tell of directors and writers")
        return made.graph, notes
    given = published.read_item_uris(asked.item_uris) if asked.item_uris else {}
    foreign = [item_id for item_id in given if item_id not in catalogue]
    passed = [f"{len(foreign)} ids of --item-uris are no items of the dataset: {_some(foreign)}"] if foreign else []
    if asked.form:
        graph, matched = published.import_graph(published.read(asked.form, asked.files), catalogue, given)
        return graph, [*passed, *_told(matched)]
    graph, notes = _from_dump(asked, catalogue, given, progress, say)
    return graph, [*passed, *notes]


def _from_dump(
    asked: Asked, catalogue: Catalogue, given: Mapping[str, str], progress: Progress, say: Say
) -> tuple[KnowledgeGraph, list[str]]:
    bad = BadLines(asked.max_bad_rows, say)
    dump = Dump(list(asked.files.values()), bad, progress)
    renames = Dump(asked.redirects, bad, progress)
    linked = {i.item_id: f"<{i.item_id}>" for i in catalogue if "://" in i.item_id} | dict(given)
    linked = films.renamed(renames, {i: uri for i, uri in linked.items() if i in catalogue})
    matched = films.Matched(linked, [])
    if len(linked) < len(catalogue):
        say(f"looking for the films of {len(catalogue) - len(linked):,} items by title and year")
        there = films.films_of_dump(dump)
        names = (name for film in there for name in films.film_names(film))
        matched = films.match(catalogue, names, films.further_names(renames, there), settled=linked)
    linked = matched.linked
    found = cut(dump, set(linked.values()), hops=asked.hops, relations=asked.relations)
    notes = _told(matched)
    notes += [f"{found.isolated_seeds} films have no triple"] if found.isolated_seeds else []
    notes += [f"{bad.count} lines that are no triple were skipped"] if bad.count else []
    return KnowledgeGraph.build(found.triples, [item.item_id for item in catalogue], linked), notes


def _told(matched: films.Matched) -> list[str]:
    if not matched.ambiguous:
        return []
    some = _some(sorted(set(matched.ambiguous)))
    return [f"{len(matched.ambiguous)} items are left without an entity, because several fit: {some}"]


def _some(names: Sequence[str] | Any) -> str:
    listed = list(names)
    return ", ".join(listed[:SOME]) + (", ..." if len(listed) > SOME else "")


def _refuse_empty(from_: Path | None, statistics: Mapping[str, Any], notes: Sequence[str], dataset: str) -> None:
    if from_ is None and not statistics["triples"]:
        raise ArtifactMissing(
            f"the items of {dataset} have no metadata to build a graph from",
            f"run: crs fetch-metadata --dataset {dataset} --source file --from FILE (or --source tmdb)",
        )
    if not statistics["linked_items"] or not statistics["triples"]:
        what = "no film of the dataset is in it" if not statistics["linked_items"] else "none of the relations is in it"
        raise DataError("; ".join((what, *notes)), "is it a graph of films? --item-uris FILE links items by hand,"
                        " --relations FILE tells which relations to keep", path=from_)  # fmt: skip


def _items_called(catalogue: Catalogue, title: str) -> list[int]:
    """The items of that id, name or title: several only where one film stands under several ids."""
    if title in catalogue:
        return [catalogue.vocabulary.num(title)]
    wanted = key(title)
    for name_of in (lambda item: item.name, lambda item: item.title):
        found = [num for num, item in enumerate(catalogue) if key(name_of(item)) == wanted]
        if len({key(catalogue[num].name) for num in found}) == 1:
            return found
        if found:
            several = ", ".join(f"{catalogue[n].name} (id {catalogue[n].item_id})" for n in found[:8])
            raise UsageError(f"{len(found)} items are called {title!r}", f"name one by its year or id: {several}")
    names = {key(name).removeprefix("the "): item.name for item in catalogue for name in (item.name, item.title)}
    near = difflib.get_close_matches(wanted.removeprefix("the "), names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(dict.fromkeys(names[n] for n in near))}?" if near else "give its title or its id"
    raise UsageError(f"no item is called {title!r}", hint)
