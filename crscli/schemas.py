"""JSON schemas of the files that crs reads and writes, as `crs schema NAME` prints them."""

from typing import Any

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_SHARE: dict[str, Any] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


_ITEM = _object(
    "item_id title",
    item_id=_TEXT,
    title={**_TEXT, "description": "may end with a year: 'Police Academy (1984)'"},
    year={"type": ["integer", "null"], "minimum": 1800, "maximum": 2199},
    genres=_TEXTS,
    directors=_TEXTS,
    cast=_TEXTS,
    keywords=_TEXTS,
    plot=_TEXT,
    writers=_TEXTS,
    companies=_TEXTS,
    language=_TEXT,
    aliases={**_TEXTS, "description": "further titles it goes by"},
    ids={**_TEXTS, "description": "what it is elsewhere: 'tmdb:603'"},
    runtime={"type": ["integer", "null"], "minimum": 1, "maximum": 999, "description": "minutes"},
)

_LINK = _object(
    "kind id",
    kind={"enum": ["item", "person", "genre"]},
    id=_TEXT,
    start={**_COUNT, "description": "first character of the span in the turn's text"},
    end={**_COUNT, "description": "character after the span"},
    opinion={"enum": ["liked", "disliked", "seen", None]},
)

_TURN = _object(
    "role text",
    role={"enum": ["seeker", "recommender"]},
    text=_TEXT,
    links={"type": "array", "items": _LINK},
    items={**_TEXTS, "description": "mentioned item ids, where their places in the text are not known"},
    acts={**_TEXTS, "description": "what the turn does; a recommender's: recommend, explain, respond, request, chat"},
)

_DIALOGUE = _object(
    "dialogue_id turns",
    dialogue_id=_TEXT,
    split={"enum": ["train", "valid", "test"], "description": "in dialogues.jsonl; else the file tells"},
    order={"type": "integer", "description": "place in time, where it is known"},
    recommender_id={**_TEXT, "description": "who recommended, where it is known"},
    turns={"type": "array", "minItems": 1, "items": _TURN},
)

_ESTIMATE = _object("value low high", value=_SHARE, low=_SHARE, high=_SHARE)
_FIGURES = _map(_map(_map(_ESTIMATE)))

_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_OF_TEXTS = {
    **_map(_NUMBER),
    "description": "rouge-1, bleu, bleu-2/order, distinct-2/response, ...; null: none to judge",
}
_DECISION = _object("f1 precision recall always", f1=_SHARE, precision=_SHARE, recall=_SHARE, always=_SHARE)
_DECISIONS = _object(
    "own placeholder",
    own={**_DECISION, "description": "whether to recommend, as the model decides"},
    placeholder={**_DECISION, "description": "whether its text holds a placeholder, as PECRS counts"},
)

_REPLIES = _object(
    "decoding readable masked bleu_signature perplexity decision names_item names_ranked_item",
    decoding={**_TEXT, "description": "as --decoding reads it"},
    readable={**_OF_TEXTS, "description": "of replies as a person reads them"},
    masked={**_OF_TEXTS, "description": "the same with placeholders for items and 'A: ' in front"},
    bleu_signature=_TEXT,
    perplexity={
        **_object(
            "token word byte pecrs tokens", token=_NUMBER, word=_NUMBER, byte=_NUMBER, pecrs=_NUMBER, tokens=_NUMBER
        ),
        "description": "of the real responses, masked; null: beyond every number, or nothing to judge",
    },
    decision=_DECISIONS,
    names_item={**_SHARE, "description": "share of replies that name an item"},
    names_ranked_item={**_SHARE, "description": "share of replies that name the first of their ranking"},
    oracle={
        **_object("masked decision", masked=_OF_TEXTS, decision=_DECISIONS),
        "description": "replies again, told when to recommend; with --oracle",
    },
)
_ANALYSIS = _object(
    "summary columns rows picture",
    summary=_TEXT,
    columns=_TEXTS,
    rows={"type": "array", "items": {"type": "array", "items": {"type": ["string", "number"]}}},
    picture={**_TEXT, "description": "a PNG file beside metrics.json"},
)

_ACT = _object("f1 share said", f1=_NUMBER, share=_NUMBER, said=_NUMBER)
_ACTS = _object(
    "turns macro_f1 accuracy acts",
    turns=_COUNT,
    macro_f1=_object("value low high", value=_NUMBER, low=_NUMBER, high=_NUMBER),
    accuracy={**_NUMBER, "description": "of whether a turn recommends"},
    acts={**_map(_ACT), "description": "act -> F-1, share of turns that do it, share that are said to"},
)
_MANAGEMENT = _object(
    "acts recommends",
    acts={**_ACTS, "description": "of annotated turns"},
    recommends={**_ACTS, "description": "of all turns of the test set, by whether they name an item"},
)
_ASKED = {"type": "object", "description": "counts and shares by name"}

_REPORT = _object(
    "schema dataset corpus form protocol models_asked aggregate split counts counts_checked limit exclude_mentioned"
    " mentions seed models comparisons published analyses",
    schema={"const": "crs.report/1"},
    dataset=_TEXT,
    corpus=_TEXT,
    form=_TEXT,
    protocol=_object("name summary source graph", name=_TEXT, summary=_TEXT, source=_TEXT, graph=_TEXT),
    mentions={"enum": ["marked", "linked"], "description": "by the dataset's own marks, or found by crs link-entities"},
    models_asked={**_TEXTS, "description": "compared with each other and with copy-popularity"},
    aggregate={"enum": ["micro", "row"], "description": "what the main table's figures are means over"},
    split={"enum": ["valid", "test"]},
    counts={
        **_object(
            "dialogues rows labels named points responses candidates items labels_outside_candidates",
            dialogues=_COUNT,
            rows={**_COUNT, "description": "contexts that are ranked for"},
            labels=_COUNT,
            named=_COUNT,
            points=_COUNT,
            responses={**_COUNT, "description": "turns that are answered, those without a label too"},
            candidates=_COUNT,
            items=_COUNT,
            labels_outside_candidates=_COUNT,
        )
    },
    counts_checked={"type": "boolean", "description": "the counts were held against the published ones and are equal"},
    comparable={"type": "boolean", "description": "published figures of the protocol may stand beside these"},
    limit={"type": ["integer", "null"], "description": "not null: only the first rows, comparable to nothing"},
    ranks={"type": "boolean", "description": "false: only acts were predicted"},
    exclude_mentioned={"type": "boolean"},
    selection_split={"const": "valid"},
    seed={"type": "integer"},
    bootstrap_draws=_COUNT,
    models=_map(
        _object(
            "run model fitted_on figures units distinct_items",
            run={"type": ["string", "null"], "description": "null: fitted on the spot"},
            model=_TEXT,
            fitted_on=_TEXTS,
            max_steps={
                "type": ["integer", "null"],
                "description": "not null: trained so long only, comparable to nothing",
            },
            settings={"type": "object", "description": "of the run"},
            text={**_REPLIES, "description": "of models that speak, unless left out with --task rank"},
            management={**_MANAGEMENT, "description": "with --task dialogue-management, of models that predict acts"},
            llm={**_ASKED, "description": "of models that ask a language model: what its answers were like"},
            base={"type": "object", "description": "run, model and settings of the model whose candidates are ordered"},
            figures={**_FIGURES, "description": "micro | row | any -> all | new | repeated -> metric -> estimate"},
            units={**_map(_map(_COUNT)), "description": "how many labels or rows each mean is over"},
            distinct_items={**_map(_COUNT), "description": "different items recommended at top1 and top10"},
        )
    ),
    comparisons={
        "type": "array",
        "items": _object(
            "first second metric difference p_value adjusted",
            first=_TEXT,
            second=_TEXT,
            metric=_TEXT,
            difference={"type": "number"},
            p_value=_SHARE,
            adjusted=_SHARE,
        ),
    },
    published={
        "type": "array",
        "items": _object(
            "system protocols kind source",
            system=_TEXT,
            protocols=_TEXTS,
            kind={"enum": ["paper", "reproduced", "quoted"]},
            source=_TEXT,
            r1=_SHARE,
            r10=_SHARE,
            r50=_SHARE,
        ),
    },
    management=_object(
        "source models",
        source={"type": ["string", "null"], "description": "the dataset whose turns are annotated, where another"},
        models={**_map(_MANAGEMENT), "description": "what needs no model first"},
    ),
    llm={**_ASKED, "description": "the endpoint, its model, requests, tokens, seconds and cost"},
    analyses={**_map(_ANALYSIS), "description": "those of --analyse, by name"},
)

_PROVENANCE = _object(
    "format step step_format params inputs seeds fingerprint digest outputs command versions device started finished",
    format={"const": 1},
    step=_TEXT,
    step_format=_COUNT,
    params={"type": "object"},
    inputs={**_map(_TEXT), "description": "artifact or source file -> digest"},
    seeds=_map({"type": "integer"}),
    fingerprint=_TEXT,
    digest={**_TEXT, "description": "of the outputs alone"},
    outputs=_map(_object("sha256 bytes", sha256=_TEXT, bytes=_COUNT)),
    command=_TEXTS,
    versions=_map(_TEXT),
    device=_TEXT,
    started=_TEXT,
    finished=_TEXT,
    notes={"type": "object"},
)

SCHEMAS: dict[str, dict[str, Any]] = {
    name: {"$schema": _DRAFT, "title": title, **schema}
    for name, title, schema in (
        ("items", "one line of items.jsonl, or one row of items.csv (lists separated by |)", _ITEM),
        ("dialogues", "one line of dialogues.jsonl, train.jsonl, valid.jsonl or test.jsonl", _DIALOGUE),
        ("report", "crs evaluate --json, and reports/RUN/metrics.json", _REPORT),
        ("provenance", "provenance.json of every artifact", _PROVENANCE),
    )
}
