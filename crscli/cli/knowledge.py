"""The commands around what is known of the items: metadata, links in text, graphs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crscli.cli.frame import DatasetOption, DryRunOption, ForceOption, Run, SeedOption, command
from crscli.console import Console
from crscli.errors import UsageError

_RELATIONS = 25


class Source(StrEnum):
    """Where metadata come from."""

    tmdb = "tmdb"
    file = "file"
    items = "items"


class Graph(StrEnum):
    """What a graph is built from."""

    metadata = "metadata"
    tmdkg = "tmdkg"
    dbpedia = "dbpedia"


@command("fetch-metadata")
def fetch_metadata(
    run: Run,
    dataset: DatasetOption = None,
    sources: Annotated[
        list[Source] | None,
        typer.Option("--source", help="Repeat for several: the first that knows a field of an item wins."),
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--from", help="File for --source file; may be repeated, the first wins.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File with the TMDB read token or key, readable by you alone; else TMDB_API_KEY has it."),
    ] = None,
    ids: Annotated[Path | None, typer.Option(help="CSV of item_id,tmdb_id that settles uncertain matches.")] = None,
    rate: Annotated[float, typer.Option(help="Requests a second at most.")] = 20.0,
    max_age: Annotated[
        float | None, typer.Option(min=0, help="Days after which a stored reply of TMDB is fetched again.")
    ] = None,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Bad rows that may be skipped.")] = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Give the items their metadata: reads items/, writes catalogue/.

    Examples:

      crs fetch-metadata --dataset redial --source file --from movies.jsonl

      crs fetch-metadata -d redial --source tmdb --key-file ~/.tmdb

      crs fetch-metadata --dataset sample
    """
    from crscli.steps.fetch_metadata import fetch_metadata as step

    made = step(
        run.workspace, dataset=run.dataset(dataset), sources=[s.value for s in sources or ()], files=list(files or ()),
        key_file=key_file, ids=ids, rate=rate, max_age=max_age, offline=run.offline, max_bad_rows=max_bad_rows,
        force=force, dry_run=dry_run, progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.__dict__)
        return
    run.console.line(f"{made.dataset}: {made.status}; {made.items:,} items from {', '.join(made.sources)}; {made.path}")
    if made.status != "dry run":
        run.console.table(
            ["field", "items with it", "share"],
            [[name, f"{count:,}", f"{count / max(1, made.items):.0%}"] for name, count in made.coverage.items()],
        )
    rows = [
        [s, *(f"{o.get(k, 0):,}" for k in ("matched", "uncertain", "missing", "unanswered"))]
        for s, o in made.outcomes.items()
    ]
    if rows:
        run.console.line()
        run.console.table(["source", "matched", "uncertain", "missing", "unanswered"], rows)
    for note in made.notes:
        run.console.say(f"note: {note}")
    _say_next(run, made.status, f"crs link-entities --dataset {made.dataset}")


@command("link-entities")
def link_entities(
    run: Run,
    dataset: DatasetOption = None,
    fit: Annotated[
        bool | None,
        typer.Option(
            "--fit/--no-fit",
            help="Learn the linker's weights from the marks in train, or take those that come with crs; by default "
            "learn where there are at least 1,000.",
            show_default=False,
        ),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure it on the dataset's own marks, written in several ways.")
    ] = False,
    variants: Annotated[
        str,
        typer.Option(help="Ways of --evaluate: a as marked, b without years, c lower case, d misspelt, e mixed case."),
    ] = "abcde",
    seed: SeedOption = 0,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Find films, people and genres in what is said: reads dialogues/ and the items, writes links/.

    Examples:

      crs link-entities --dataset redial

      crs link-entities -d inspired --evaluate --variants bc
    """
    from crscli.steps.link_entities import link_entities as step

    made = step(
        run.workspace, dataset=run.dataset(dataset), fit=fit, evaluate=evaluate, variants=variants, seed=seed,
        force=force, dry_run=dry_run, progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.__dict__)
        return
    run.console.line(f"{made.dataset}: {made.status}{_took(made)}; weights {made.weights}; {made.path}")
    if made.links:
        run.console.table(
            ["split", "messages", "with a film", "films", "people", "genres", "answers"],
            [
                [s, f"{made.messages[s]:,}", f"{made.with_film[s]:.1%}"]
                + [f"{n.get(k, 0):,}" for k in ("item", "person", "genre", "answers")]
                for s, n in made.links.items()
            ],
        )
    if made.opinions:
        run.console.line("opinions: " + ", ".join(f"{name} {count:,}" for name, count in made.opinions.items()))
    if made.evaluation:
        run.console.line()
        _show_linking(run.console, made.evaluation)
    _say_next(run, made.status, f"crs build-kg --dataset {made.dataset}")


def _show_linking(console: Console, rows: list[dict[str, Any]]) -> None:
    """The figures of a linker, one way of writing a line."""
    from crscli.linking.measure import VARIANTS

    figures = [name for name in rows[0] if isinstance(rows[0][name], float)]
    figures += [name for row in rows for name in row if isinstance(row[name], float) and name not in figures][:1]
    shown = [
        [f"{row['variant']} {VARIANTS[row['variant']]}", *(f"{row[f]:.3f}" if f in row else "" for f in figures)]
        for row in rows
    ]
    console.table(["written", *figures], shown)


@command("build-kg")
def build_kg(
    run: Run,
    dataset: DatasetOption = None,
    source: Annotated[
        Graph | None,
        typer.Option(help="metadata of the items; tmdkg, the same by KECRS's rules; dbpedia. With --from: dbpedia."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="DBpedia dump (.nt, .ttl, .gz, .bz2), a folder of them, or of a published graph."),
    ] = None,
    item_uris: Annotated[
        Path | None, typer.Option(help="JSON of item id -> resource, which comes before titles and years.")
    ] = None,
    redirects: Annotated[
        list[Path] | None, typer.Option(help="Dump of redirects or disambiguations; may be repeated.")
    ] = None,
    relations: Annotated[
        Path | None, typer.Option(help="Relations to keep of a dump: a JSON list, or one a line.")
    ] = None,
    hops: Annotated[int, typer.Option(min=1, help="Hops from the items along outgoing edges of a dump.")] = 2,
    paper: Annotated[bool, typer.Option("--paper", help="TMDKG with the paper's thresholds.")] = False,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Lines of a dump that may be skipped.")] = 100,
    name: Annotated[
        str | None, typer.Option(help="Name of the graph; its source or published form by default.")
    ] = None,
    show: Annotated[str | None, typer.Option(help="Instead of building: show what a graph tells of this item.")] = None,
    picture: Annotated[Path | None, typer.Option(help="With --show: draw it as a PNG there.")] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Build a knowledge graph around the items: reads the items, writes kg/NAME.

    Examples:

      crs build-kg --dataset redial

      crs build-kg -d redial --source dbpedia --from mappingbased-objects.ttl.bz2

      crs build-kg -d redial --show "The Matrix (1999)" --picture matrix.png
    """
    from crscli.steps import build_kg as step

    chosen = run.dataset(dataset)
    building = {"--from": from_, "--item-uris": item_uris, "--redirects": redirects, "--relations": relations}
    needless = [option for option, given in building.items() if given and show is not None]
    if needless:
        raise UsageError(f"{needless[0]} is for building, and --show shows a graph that is there", "leave it out")
    if picture is not None and show is None:
        raise UsageError("--picture draws the item of --show", "give --show ITEM too")
    if show is not None:
        wanted = name or (source.value if source else None)
        lines = step.show(run.workspace, dataset=chosen, name=wanted, title=show, picture=picture)
        if run.console.as_json:
            run.console.document(lines)
            return
        for line in lines:
            run.console.line(line)
        if picture is not None:
            run.console.say(f"written: {picture}")
        return
    made = step.build_kg(
        run.workspace, dataset=chosen, source=source.value if source else None, from_=from_, item_uris=item_uris,
        redirects=tuple(redirects or ()), relations=relations, hops=hops, paper=paper, max_bad_rows=max_bad_rows,
        name=name, force=force, dry_run=dry_run, progress=run.console.progress, say=run.console.say,
    )  # fmt: skip
    if run.console.as_json:
        run.console.document(made.__dict__)
        return
    run.console.line(f"{made.name}: {made.status}; {made.path}")
    counts = {k: v for k, v in made.statistics.items() if not isinstance(v, dict)}
    if counts:
        run.console.line(", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    for table in (v for v in made.statistics.values() if isinstance(v, dict)):
        by_count = sorted(table.items(), key=lambda pair: (-pair[1], pair[0]))
        shown = by_count if run.console.verbose else by_count[:_RELATIONS]
        run.console.table(["relation", "triples"], [[relation, f"{count:,}"] for relation, count in shown])
        if len(by_count) > len(shown):
            run.console.line(f"... and {len(by_count) - len(shown)} more (-v)")
    for note in made.notes:
        run.console.say(f"note: {note}")
    _say_next(run, made.status, f"crs train --dataset {made.dataset} --model blend")


def _took(made: Any) -> str:
    return f" in {made.seconds:.0f} s" if made.status == "written" else ""


def _say_next(run: Run, status: str, text: str) -> None:
    if status == "written":
        run.console.say(f"next: {text}{run.place}")
