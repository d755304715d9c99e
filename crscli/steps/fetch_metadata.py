"""fetch-metadata: items + TMDB, files or the item list itself -> catalogue/."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crscli import workspace
from crscli.catalogue import Catalogue, Item
from crscli.datasets.records import BadRows, read_csv
from crscli.datasets.source import Source
from crscli.errors import DataError, SourceError, UsageError
from crscli.metadata import coverage, has_metadata, known_ids, merge
from crscli.metadata.cache import Cache
from crscli.metadata.files import read_films
from crscli.metadata.match import Match, match_list
from crscli.metadata.session import Pace, TmdbSession, base_address, read_credential
from crscli.metadata.tmdb import NOTICE, Credit, Tmdb, is_understood
from crscli.progress import Progress, Say, silent
from crscli.workspace import Recipe, Workspace

STEP_FORMAT = 1
SOURCES = ("tmdb", "file", "items")
OLD_DAYS = 150  # TMDB lets replies be kept for six months

_ORIGINS = pa.schema([(name, pa.string()) for name in ("item_id", "field", "source")])
_CREDIT_TEXTS = ("item_id", "department", "job", "name")
_CREDITS = pa.schema([*((name, pa.string()) for name in _CREDIT_TEXTS), ("order", pa.int32())])


@dataclass(frozen=True)
class Fetched:
    """What the step made, for the tables: items with each field, and what became of the items at each source."""

    dataset: str
    sources: list[str]
    items: int
    coverage: Mapping[str, int]
    outcomes: Mapping[str, Mapping[str, int]]
    path: Path
    notes: list[str] = field(default_factory=list)
    status: str = "written"


@dataclass
class _Gathered:
    """What the sources told: source -> item id -> record, and what came of the search."""

    records: dict[str, dict[str, Item]] = field(default_factory=dict)
    matches: dict[str, dict[str, Match]] = field(default_factory=dict)
    credits: dict[str, list[Credit]] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    of_tmdb: bool = False


def fetch_metadata(
    workspace_: Workspace,
    *,
    dataset: str,
    sources: Sequence[str] = (),
    files: Sequence[Path] = (),
    key_file: Path | None = None,
    ids: Path | None = None,
    rate: float = 20.0,
    max_age: float | None = None,
    offline: bool = False,
    max_bad_rows: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
    say: Say = silent,
) -> Fetched:
    """Fill the item list with metadata.

    Each field of an item is taken from the first source that has it; what the item list itself has comes last where
    "items" is not named. Replies of TMDB are kept in raw/tmdb.sqlite: a run that was ended goes on where it stopped.

    Args:
        workspace_: where the artifacts are.
        dataset: its name in the workspace.
        sources: of "tmdb", "file", "items", the preferred first; by default the files, else the item list.
        files: the files that "file" stands for, the preferred first.
        key_file: holds the TMDB credential; else TMDB_API_KEY does.
        ids: a CSV of item_id,tmdb_id that settles which film an item is; an empty tmdb_id: TMDB has none.
        rate: requests a second at most.
        max_age: days after which a reply of TMDB is fetched again.
        offline: open no socket: TMDB's replies come from the cache alone.
        max_bad_rows: rows of a file that may be skipped.
        force: write even if nothing has changed; replies in the cache are not fetched again.
        dry_run: say what would be read and written, and write nothing.
        progress: told of the items done.
        say: told what a user should know.

    Raises:
        UsageError: a source is unknown, or has nothing to read.
        DataError: a file cannot be read.
        ConfigError: the TMDB credential is missing or refused.
        SourceError: TMDB cannot be reached (what came is kept), or offline without any kept reply.
    """
    items, artifact = workspace_.artifact(dataset, "items"), workspace_.artifact(dataset, "catalogue")
    listed = list(Catalogue.load(items.open() / "items.parquet"))
    order = _order(sources, files, listed, dataset)
    if ids is not None and "tmdb" not in order:
        raise UsageError("--ids settles which film of TMDB an item is", "give --source tmdb too")
    if ids is not None and not ids.is_file():
        raise UsageError(f"--ids {ids} is no file", "give a CSV of item_id,tmdb_id")
    if not 0 < rate < math.inf:
        raise UsageError(f"--rate {rate} is no pace", "give requests a second, such as 20")
    opened = {name: Source(path, ("*",)) for name, path in _file_names(files).items()}
    settled = None if ids is None else Source(ids, ("*",))
    params = {"sources": order, "files": [str(f) for f in files], "ids": ids and str(ids), "max_bad_rows": max_bad_rows}
    inputs = {items.name: items.digest} | {name: _digest(source) for name, source in opened.items()}
    inputs |= {} if settled is None else {"ids": _digest(settled)}

    def recipe(unanswered: int) -> Recipe:
        return Recipe("fetch-metadata", STEP_FORMAT, {**params, "unanswered": unanswered}, inputs)

    cache_file = workspace_.root / dataset / "raw" / "tmdb.sqlite"
    renews = "tmdb" in order and _has_older(cache_file, max_age)
    if not force and not renews and artifact.is_current(recipe(0)):
        return Fetched(dataset, order, path=artifact.path, **artifact.provenance()["notes"], status="up to date")
    if dry_run:
        notes = [f"would write {artifact.path} from {', '.join(order)}"]
        return Fetched(dataset, order, len(listed), coverage(listed), {}, artifact.path, notes, "dry run")
    if offline and "tmdb" in order and not cache_file.exists():
        raise SourceError(f"offline, and no reply of TMDB was ever kept in {cache_file}", "run it online once")
    gathered = _Gathered(records={"items": {i.item_id: i for i in listed}})
    for name, source in opened.items():
        _from_file(name, source, listed, gathered, BadRows(max_bad_rows, lambda e: say(f"skipped: {e.message}")))
    if "tmdb" in order:
        credential = None if offline else read_credential(key_file)
        by_hand = {} if settled is None else _settled(settled, listed)
        with (
            Cache(cache_file, max_age_days=max_age) as cache,
            TmdbSession(
                cache, credential, base=base_address(), pace=Pace(rate), is_understood=is_understood
            ) as session,
        ):
            _from_tmdb(session, listed, by_hand, gathered, progress)
    facts, merged, origins = _merged(listed, order, gathered)
    with workspace.write(artifact, recipe(len(gathered.unanswered)), notes=facts) as folder:
        _write(folder, listed, merged, origins, gathered)
    stale = [a.name for a in workspace_.artifacts(dataset) if a.kind not in ("items", "dialogues", "catalogue")]
    if stale:
        say(f"made from the former items, and stale if they differ: {', '.join(stale)} (crs status)")
    return Fetched(dataset, order, path=artifact.path, **facts)


def _write(
    folder: Path, listed: Sequence[Item], merged: Sequence[Item], origins: list[dict[str, Any]], gathered: _Gathered
) -> None:
    """The files of the catalogue."""
    Catalogue(merged).save(folder / "items.parquet")
    _write_table(folder / "sources.parquet", origins, _ORIGINS)
    _write_matches(folder / "matches.jsonl", listed, gathered)
    if gathered.credits:
        _write_table(folder / "credits.parquet", _credit_rows(gathered.credits), _CREDITS)
    if gathered.of_tmdb:
        (folder / "NOTICE").write_text(NOTICE + "\n", encoding="utf-8")


def _order(sources: Sequence[str], files: Sequence[Path], listed: Sequence[Item], dataset: str) -> list[str]:
    """The names of the sources, the preferred first: "tmdb", "items" and the names of the files."""
    for name in sources:
        if name not in SOURCES:
            raise UsageError(f"unknown source {name!r}", f"known: {', '.join(SOURCES)}")
    wanted = list(dict.fromkeys(sources)) or (["file"] if files else ["items"])
    if ("file" in wanted) != bool(files):
        what = "--from names a file" if files else "--source file has no file"
        raise UsageError(
            what + (" but --source file is not given" if files else ""), "give both: --source file --from FILE"
        )
    if wanted == ["items"] and not has_metadata(listed):
        raise UsageError(
            f"the items of {dataset} have no metadata of their own",
            "name a source: --source file --from FILE, or --source tmdb",
        )
    expanded = [name for kind in wanted for name in (_file_names(files) if kind == "file" else [kind])]
    return expanded if "items" in expanded else [*expanded, "items"]


def _file_names(files: Sequence[Path]) -> dict[str, Path]:
    """A name for each file: its own, with a number where two have the same."""
    named: dict[str, Path] = {}
    for path in files:
        name, number = path.name, 2
        while name in named or name in SOURCES:
            name, number = f"{path.name} ({number})", number + 1
        named[name] = path
    return named


def _digest(source: Source) -> str:
    return " ".join(source.digest(name)[0] for name in source.names())


def _has_older(cache_file: Path, max_age: float | None) -> bool:
    if max_age is None or not cache_file.exists():
        return False
    with Cache(cache_file) as cache:
        return cache.older_than(max_age) > 0


def _from_file(name: str, source: Source, items: Sequence[Item], gathered: _Gathered, bad: BadRows) -> None:
    read = read_films(source, bad)
    gathered.records[name], gathered.matches[name] = match_list(items, read.films)
    gathered.notes += [f"{name}: {len(read.films):,} films ({read.shape.name})", *read.notes]
    gathered.of_tmdb |= read.shape.of_tmdb
    if bad.count:
        gathered.notes.append(f"{name}: {bad.count} bad rows skipped")


def _from_tmdb(
    session: TmdbSession,
    items: Sequence[Item],
    settled: Mapping[str, str | None],
    gathered: _Gathered,
    progress: Progress,
) -> None:
    for records in list(gathered.records.values()):  # an id that a file knows needs no search
        items = known_ids(items, records)
    found = Tmdb(session).fetch(items, settled=settled, progress=progress)
    gathered.of_tmdb |= bool(found.records)
    gathered.records["tmdb"], gathered.matches["tmdb"] = found.records, found.matches
    gathered.credits, gathered.unanswered = found.credits, found.unanswered
    cache, notes = session.cache, gathered.notes
    notes.append(f"tmdb: {session.sent:,} requests; {len(cache):,} replies in {cache.path.name}")
    if found.unanswered:
        first = next(iter(found.unanswered.values()))
        notes.append(f"tmdb: no reply for {len(found.unanswered):,} items ({first}): run the command again, online")
    if unsure := sum(match.outcome == "uncertain" for match in found.matches.values()):
        notes.append(
            f"tmdb: {unsure:,} items are uncertain: matches.jsonl lists what they may be; "
            "settle them with --ids FILE (a CSV of item_id,tmdb_id)"
        )
    if old := cache.older_than(OLD_DAYS):
        notes.append(
            f"tmdb: {old:,} replies are older than {OLD_DAYS} days, and TMDB lets them be kept for six months: "
            f"fetch them again with --max-age {OLD_DAYS}"
        )


def _settled(source: Source, items: Sequence[Item]) -> dict[str, str | None]:
    """The TMDB ids that a user gave, by item id."""
    name, known = source.names()[0], {item.item_id for item in items}
    place = source.place(name)
    settled: dict[str, str | None] = {}
    for line, row in read_csv(source, name, required=("item_id", "tmdb_id")):
        item_id, tmdb_id = row["item_id"].strip(), row["tmdb_id"].strip().removeprefix("tmdb:")
        if item_id not in known:
            raise DataError(f"item {item_id!r} is not in the item list", "check its id", path=place, line=line)
        if item_id in settled:
            raise DataError(f"item {item_id!r} is settled twice", "leave one line", path=place, line=line)
        if tmdb_id and not (tmdb_id.isascii() and tmdb_id.isdigit()):
            raise DataError(f"tmdb_id {tmdb_id!r} is no number", "such as 603, or nothing", path=place, line=line)
        settled[item_id] = tmdb_id or None
    return settled


def _merged(
    items: Sequence[Item], order: Sequence[str], gathered: _Gathered
) -> tuple[dict[str, Any], list[Item], list[dict[str, Any]]]:
    """What the tables and the provenance tell, the items with their metadata, and where each field came from."""
    merged: list[Item] = []
    origins: list[dict[str, Any]] = []
    for item in items:
        of_item = [(n, gathered.records[n][item.item_id]) for n in order if item.item_id in gathered.records[n]]
        filled, fields = merge(item, of_item)
        merged.append(filled)
        origins += [{"item_id": item.item_id, "field": name, "source": source} for name, source in fields]
    outcomes: dict[str, dict[str, int]] = {}
    for name, matches in gathered.matches.items():
        outcomes[name] = dict(Counter[str](match.outcome for match in matches.values()))
    if gathered.unanswered:
        outcomes["tmdb"]["unanswered"] = len(gathered.unanswered)
    notes = gathered.notes + ([NOTICE] if gathered.of_tmdb else [])
    facts = {"items": len(merged), "coverage": coverage(merged), "outcomes": outcomes, "notes": notes}
    return facts, merged, origins


def _credit_rows(credits: Mapping[str, Sequence[Credit]]) -> list[dict[str, Any]]:
    return [
        {"item_id": item_id, "department": c.department, "job": c.job, "name": c.name, "order": c.order}
        for item_id, lines in credits.items()
        for c in lines
    ]


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def _write_matches(path: Path, items: Sequence[Item], gathered: _Gathered) -> None:
    """One line for each item and source that was searched: what was found there, and how surely."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            about = {"item_id": item.item_id, "name": item.name}
            for source, matches in gathered.matches.items():
                if item.item_id in matches:
                    told = matches[item.item_id].row()
                else:
                    told = {"outcome": "unanswered", "reason": gathered.unanswered[item.item_id]}
                file.write(json.dumps({**about, "source": source, **told}, ensure_ascii=False) + "\n")
