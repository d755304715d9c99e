"""The report of an evaluation: plain values, and the tables made from them. It prints nothing."""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crscli import metrics
from crscli.evaluation import SUBSETS, Comparison, Estimate, Figures
from crscli.protocols import TestSet

SCHEMA = "crs.report/1"
_PUBLISHED = Path(__file__).parent / "published.toml"


def header(
    dataset: str,
    corpus: str,
    form: str,
    test_set: TestSet,
    params: Mapping[str, Any],
    seed: int,
    *,
    marked: bool = True,
) -> dict[str, Any]:
    """What was measured: everything that decides the figures besides the models.

    `marked` is False where the dataset names no items itself: mentions and labels are what the linker found.
    """
    protocol = test_set.protocol
    return {
        "schema": SCHEMA,
        "dataset": dataset,
        "corpus": corpus,
        "form": form,
        "protocol": {
            "name": protocol.name,
            "summary": protocol.summary,
            "source": protocol.source,
            "graph": protocol.graph,
        },
        "mentions": "marked" if marked else "linked",
        "models_asked": list(params["asked"]),
        "aggregate": protocol.aggregate,
        "split": test_set.split,
        "counts": dict(test_set.counts),
        "counts_checked": test_set.checked,
        "comparable": _is_comparable(test_set, params),
        "limit": params["limit"],
        "ranks": params.get("tasks") != ["dialogue-management"],
        "exclude_mentioned": params["exclude_mentioned"],
        "selection_split": "valid",
        "seed": seed,
        "bootstrap_draws": params["draws"],
    }


def _is_comparable(test_set: TestSet, params: Mapping[str, Any]) -> bool:
    """Whether published figures of the protocol may stand beside these: the same rows, candidates and exclusions."""
    protocol = test_set.protocol
    own_candidates = params["candidates_file"] is not None and protocol.candidates != "listed"
    whole = params["limit"] is None and test_set.split == "test" and (test_set.checked or not protocol.expected)
    return whole and not own_candidates and not params["exclude_mentioned"]


def build(
    head: Mapping[str, Any],
    figures: Sequence[Figures],
    comparisons: Sequence[Comparison],
    facts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The whole report as plain values (crs schema report)."""
    models = {
        f.model: {
            **facts[f.model],
            "figures": {
                aggregation: {
                    subset: {name: _plain(e) for name, e in by_metric.items()}
                    for subset, by_metric in by_subset.items()
                }
                for aggregation, by_subset in f.estimates.items()
            },
            "units": {aggregation: dict(counts) for aggregation, counts in f.units.items()},
            "distinct_items": {f"top{k}": n for k, n in f.distinct_items.items()},
        }
        for f in figures
    }
    published = published_figures(head["protocol"]["name"]) if head["comparable"] else []
    compared = [asdict(c) for c in comparisons]
    return finite({**head, "models": models, "comparisons": compared, "published": published})


def finite(value: Any) -> Any:
    """Plain values with null in place of what is no finite number, which JSON cannot hold."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {k: None if v != v else v for k, v in asdict(estimate).items()}


def published_figures(protocol: str) -> list[dict[str, Any]]:
    """Figures of papers that were measured under this protocol, with where they were read."""
    with _PUBLISHED.open("rb") as file:
        entries = tomllib.load(file)["figure"]
    return [e for e in entries if protocol in e["protocols"]]


# ---- tables ---------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 4) -> str:
    """A share as ".0476", all as wide as each other (one is "1.000"); "-" where there was nothing to judge."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text[:-1]


def main_table(report: Mapping[str, Any], *, intervals: bool = True) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: every metric of the protocol's aggregation over all labels, intervals below the values."""
    aggregate = report["aggregate"]
    columns = ["model", *(_short(name) for name in metrics.METRICS)]
    rows = []
    for name, model in report["models"].items():
        estimates = model["figures"][aggregate]["all"]
        rows.append([name, *(_cell(estimates[m], intervals) for m in metrics.METRICS)])
    return columns, rows


def distinct_items(report: Mapping[str, Any]) -> str:
    """How many different items each model recommends over all rows, as one line."""
    counts = [f"{name} {model['distinct_items']['top10']:,}" for name, model in report["models"].items()]
    return "different items among the first 10: " + ", ".join(counts)


def text_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """What the models say: readable and masked texts, perplexity, decisions; None if none of them speaks."""
    columns = [
        "replies of", "text", "ROUGE-1/2/L", "BLEU", "Dist-2/3/4 a reply", "Dist-2 a token", "words", "F-1 own/text",
        "PPL token/word/byte", "names an item", "the ranked one",
    ]  # fmt: skip
    rows = []
    for name, model in report["models"].items():
        if "text" not in model:
            continue
        found = model["text"]
        own = [_ratio(found["decision"][how]["f1"]) for how in ("own", "placeholder")]
        perplexity = "/".join(_fixed(found["perplexity"][unit], 2) for unit in ("token", "word", "byte"))
        shares = [_ratio(found["names_item"]), _ratio(found["names_ranked_item"])]
        rows.append([name, "as read", *_text_cells(found["readable"]), "/".join(own), perplexity, *shares])
        rows.append(["", "with placeholders", *_text_cells(found["masked"]), "", "", "", ""])
        if "oracle" in found:
            told = "/".join(_ratio(found["oracle"]["decision"][how]["f1"]) for how in ("own", "placeholder"))
            rows.append(["", "the same, told when", *_text_cells(found["oracle"]["masked"]), told, "", "", ""])
    return (columns, rows) if rows else None


def text_notes(report: Mapping[str, Any]) -> list[str]:
    """How to read the table of replies."""
    ways = dict.fromkeys(m["text"]["decoding"] for m in report["models"].values() if "text" in m)
    always = next(m["text"]["decision"]["own"]["always"] for m in report["models"].values() if "text" in m)
    return [
        f"replies to all {report['counts']['responses']:,} turns of the recommender, decoding {', '.join(ways)}; ROUGE "
        "with stemming; Dist: different n-grams over replies (above 1 is normal) or over n-grams; with placeholders: "
        "titles as [MOVIE_ID] and 'A: ' in front, as PECRS measures",
        "F-1: whether to recommend, by the model's own decision and by a placeholder in its text; always recommending "
        f"has {_ratio(always)}; perplexity of the real responses with placeholders, given the model's own decision "
        "and item",
    ]


def management_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """Which acts are predicted, and whether a turn recommends; None if that was not measured."""
    if "management" not in report:
        return None
    models = report["management"]["models"]
    acts = list(next((m["acts"]["acts"] for m in models.values()), {}))
    columns = ["acts of", "macro F-1", *acts, "recommends F-1", "accuracy"]
    rows = []
    for name, found in models.items():
        known, every = found["acts"], found["recommends"]
        cells = [_ratio(known["acts"][act]["f1"]) for act in acts]
        rows.append(
            [name, _cell(known["macro_f1"], True), *cells, _cell(every["macro_f1"], True), _ratio(every["accuracy"])]
        )
    return columns, rows


def management_notes(report: Mapping[str, Any]) -> list[str]:
    """How to read the table of acts."""
    first = next(iter(report["management"]["models"].values()))
    source = report["management"]["source"]
    of = f"{first['acts']['turns']:,} annotated turns" + (f" of {source}" if source else "")
    shares = ", ".join(f"{act} {100 * v['share']:.0f} %" for act, v in first["acts"]["acts"].items())
    every = first["recommends"]
    return [
        f"acts: F-1 of each on {of}, {report['split']} split" + (f"; done in {shares}" if shares else ""),
        f"recommends: F-1 and accuracy of whether a turn names an item, {every['turns']:,} turns, "
        f"{100 * every['acts'].get('recommend', {'share': 0})['share']:.0f} % do; intervals over dialogues",
    ]


def simulation_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Simulated dialogues by model: success after each exchange, 0 by the context alone, and what the talk was like."""
    rounds = [str(n) for n in range(report["turns"] + 1)]
    columns = ["model", *(f"success@{n}" for n in rounds), "turns", "questions", "violations", "repeats", "different"]
    rows = []
    for name, figures in report["models"].items():
        cells = [_cell(figures["success"][n], intervals=n in (rounds[0], rounds[-1])) for n in rounds]
        told = [number(figures[key], 2) for key in ("turns_needed", "questions_a_dialogue")]
        told += [number(figures[key], 3) for key in ("violations", "repeats", "different_replies")]
        rows.append([name, *cells, *told])
    return columns, rows


def llm_notes(report: Mapping[str, Any]) -> list[str]:
    """What was asked of a language model behind an endpoint, what it took, and what its answers were like."""
    if "llm" not in report:
        return []
    used = dict(report["llm"])
    lines = [f"asked {used.pop('model')} at {used.pop('base_url')}: {_listed(used)}"]
    return lines + [f"{name}: {_listed(m['llm'])}" for name, m in report["models"].items() if "llm" in m]


def _listed(values: Mapping[str, Any]) -> str:
    shown = {k.replace("_", " "): v for k, v in values.items() if v is not None}
    return ", ".join(f"{k} {f'{v:.3f}' if isinstance(v, float) else f'{v:,}'}" for k, v in shown.items())


def _text_cells(figures: Mapping[str, float]) -> list[str]:
    rouge = "/".join(_ratio(figures[f"rouge-{n}"]) for n in ("1", "2", "l"))
    spread = "/".join(_fixed(figures[f"distinct-{n}/response"], 2) for n in (2, 3, 4))
    words = _fixed(figures["words/response"], 1)
    return [rouge, _ratio(figures["bleu"]), spread, _ratio(figures["distinct-2/token"]), words]


def _ratio(value: float | None) -> str:
    return number(value, 3)


def _fixed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def subset_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """R@1/10/50 of all, new and repeated labels, in every aggregation."""
    columns = ["model", "mean over", *(f"{subset} R@1/10/50" for subset in SUBSETS)]
    rows = []
    for name, model in report["models"].items():
        for aggregation, label in (("micro", "labels"), ("row", "rows"), ("any", "rows, any hit")):
            cells = [_triple(model["figures"][aggregation][subset]) for subset in SUBSETS]
            rows.append([name, label, *cells])
            name = ""
    return columns, rows


def comparison_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Differences between pairs of models, with p-values."""
    columns = ["first - second", "metric", "difference", "p", "p (Holm)"]
    rows = [
        [
            f"{c['first']} - {c['second']}",
            _short(c["metric"]),
            f"{c['difference']:+.4f}",
            f"{c['p_value']:.4f}",
            f"{c['adjusted']:.4f}",
        ]
        for c in report["comparisons"]
    ]
    return columns, rows


def published_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Published figures under the same protocol."""
    columns = ["published", "R@1", "R@10", "R@50", "kind", "source"]
    rows = [
        [e["system"], *(number(e[k], 3) if k in e else "-" for k in ("r1", "r10", "r50")), e["kind"], e["source"]]
        for e in report["published"]
    ]
    return columns, rows


def caption(report: Mapping[str, Any]) -> list[str]:
    """Lines that say what the table shows: protocol, counts, candidates, what is known and not known of it."""
    c, protocol = report["counts"], report["protocol"]
    checked = "counts as published" if report["counts_checked"] else "no published counts for these rows"
    chosen = "nothing was chosen on test" if report["split"] == "test" else "settings are chosen on valid: it flatters"
    what = {"micro": "labels", "row": "rows"}[report["aggregate"]]
    lines = [
        f"{report['dataset']} {report['split']}, protocol {protocol['name']}: {protocol['summary']}",
        f"{c['dialogues']:,} dialogues, {c['rows']:,} rows, {c['labels']:,} labels ({checked}); "
        f"{c['candidates']:,} candidates of {c['items']:,} items, "
        f"{c['labels_outside_candidates']:,} labels outside them",
        f"means over {what}; 95 % bootstrap intervals over dialogues ({report['bootstrap_draws']} draws, "
        f"seed {report['seed']}); {chosen}; items of the context "
        f"{'excluded from' if report['exclude_mentioned'] else 'left in'} the rankings",
    ]
    if protocol["graph"]:
        lines.append(f"films of the graph {protocol['graph']}; {protocol['source']}")
    if report["mentions"] == "linked":
        lines.append("the dataset marks no item: mentions and labels are those that crs link-entities found")
    if report["limit"] is not None:
        lines.append(f"LIMITED to the first {report['limit']:,} rows: for a quick look, comparable to nothing")
    return lines


def _short(metric: str) -> str:
    return metric.replace("recall", "R").replace("mrr", "MRR").replace("ndcg", "NDCG")


def _cell(estimate: Mapping[str, float | None], intervals: bool) -> str:
    value = number(estimate["value"])
    if not intervals or estimate["value"] is None:
        return value
    return f"{value}\n{number(estimate['low'], 3)}-{number(estimate['high'], 3)}"


def _triple(estimates: Mapping[str, Mapping[str, float | None]]) -> str:
    return "/".join(number(estimates[f"recall@{k}"]["value"], 3) for k in (1, 10, 50))


def markdown(report: Mapping[str, Any]) -> str:
    """The main table, the subsets, the replies, the published figures and the analyses as Markdown."""
    spoken, managed = text_table(report), management_table(report)
    parts = [
        "\n".join(caption(report)), _markdown_table(*main_table(report)), distinct_items(report),
        _markdown_table(*subset_table(report)),
        *([_markdown_table(*spoken), "\n".join(text_notes(report))] if spoken else []),
        *([_markdown_table(*managed), "\n".join(management_notes(report))] if managed else []),
        "\n".join(llm_notes(report)), _markdown_table(*published_table(report)),
    ]  # fmt: skip
    for name, found in report.get("analyses", {}).items():
        parts += [f"{name}: {found['summary']}", _markdown_table(found["columns"], found["rows"])]
        parts += [f"![{name}]({found['picture']})"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Nothing without rows."""
    lines = [columns, ["---"] * len(columns), *rows] if rows else []
    cells = [[str(cell).replace("\n", " ").replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


def latex(report: Mapping[str, Any]) -> str:
    """LaTeX tables that need no package: the main one, its best values bold, then the replies and the analyses."""
    columns, rows = main_table(report, intervals=False)
    cells = _latex_cells(rows)
    for num in range(1, len(columns)):
        values = [float(row[num]) if row[num] != "-" else -1.0 for row in rows]
        for row, value in zip(cells, values, strict=True):
            if value == max(values) and value >= 0:
                row[num] = rf"\textbf{{{row[num]}}}"
    tables = [_latex_table(columns, cells, ". ".join(caption(report)))]
    if spoken := text_table(report):
        tables.append(_latex_table(spoken[0], _latex_cells(spoken[1]), ". ".join(text_notes(report))))
    if managed := management_table(report):
        tables.append(_latex_table(managed[0], _latex_cells(managed[1]), ". ".join(management_notes(report))))
    for found in report.get("analyses", {}).values():
        tables.append(_latex_table(found["columns"], _latex_cells(found["rows"]), found["summary"]))
    return "\n".join(tables)


def _latex_cells(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[str(cell).replace("\\", "/").translate(_LATEX) for cell in row] for row in rows]


def _latex_table(columns: Sequence[str], cells: Sequence[Sequence[str]], text: str) -> str:
    body = " \\\\\n".join(" & ".join(row) for row in cells)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n\\hline\n"
        f"{' & '.join(_latex_cells([columns])[0])} \\\\\n\\hline\n{body} \\\\\n\\hline\n"
        f"\\end{{tabular}}\n\\caption{{{text.translate(_LATEX)}}}\n\\end{{table}}\n"
    )


FORMATS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "markdown": ("table.md", markdown),
    "latex": ("table.tex", latex),
}
"""Format -> (file name, renderer)."""
