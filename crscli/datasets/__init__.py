"""The datasets crs can read. Literal names, loaded when asked for; nothing here imports a reader."""

from dataclasses import dataclass

from crscli.errors import unknown_name


@dataclass(frozen=True)
class DatasetForm:
    """One form of a dataset: who reads it, and which file names it looks for."""

    reader: str
    summary: str


@dataclass(frozen=True)
class DatasetSpec:
    """What the listings tell of a dataset, and where it is published (url, file name, sha256 or None)."""

    summary: str
    licence: str
    citation: str
    forms: dict[str, DatasetForm]
    downloads: tuple[tuple[str, str, str | None], ...] = ()


_INSPIRED_AT = "https://raw.githubusercontent.com/sweetpeach/Inspired/master/data"

DATASETS: dict[str, DatasetSpec] = {
    "redial": DatasetSpec(
        "11,348 dialogues about films between paid workers, films marked by id",
        "CC BY 4.0",
        "Li et al., Towards Deep Conversational Recommendations, NeurIPS 2018",
        {
            "published": DatasetForm(
                "crscli.datasets.redial", "train_data*.jsonl, test_data.jsonl, movies_with_mentions.csv"
            ),
            "pecrs": DatasetForm("crscli.datasets.pecrs", "REDIAL/*_data_processed and movie_db (PECRS's release)"),
        },
        (
            (
                "https://github.com/ReDialData/website/raw/data/redial_dataset.zip",
                "redial_dataset.zip",
                "b48756681ec6f84e0af36979c5e9baa21ea8d9e7036b8764ea9b787bb0baf69b",
            ),
        ),
    ),
    "inspired": DatasetSpec(
        "999 sociable film recommendation dialogues, films marked by title",
        "none stated (public research release)",
        "Hayati et al., INSPIRED: Toward Sociable Recommendation Dialog Systems, EMNLP 2020",
        {
            "published": DatasetForm("crscli.datasets.inspired", "train.tsv, dev.tsv, test.tsv, movie_database.tsv"),
            "unicrs": DatasetForm("crscli.datasets.unicrs", "*_data_dbpedia.jsonl (UniCRS's linked release)"),
            "pecrs": DatasetForm("crscli.datasets.pecrs", "INSPIRED/*_data_processed and movie_db (PECRS's release)"),
        },
        (
            (f"{_INSPIRED_AT}/dialog_data/train.tsv", "train.tsv", None),
            (
                f"{_INSPIRED_AT}/dialog_data/dev.tsv",
                "dev.tsv",
                "15a955be002222ba9e95f886802e06a91fb5e457f8a25deae3e7908d58faa947",
            ),
            (
                f"{_INSPIRED_AT}/dialog_data/test.tsv",
                "test.tsv",
                "a10f63ff26045158460730d4829ffba74bee86fb744d9f48c1c1c511ef609993",
            ),
            (f"{_INSPIRED_AT}/movie_database.tsv", "movie_database.tsv", None),
        ),
    ),
    "iard": DatasetSpec(
        "336 ReDial dialogues whose turns are annotated with what they do: recommend, explain, ask, answer, chat",
        "for research only",
        "Cai & Chen, Predicting User Intents and Satisfaction with Dialogue-based CRS, UMAP 2020",
        {"published": DatasetForm("crscli.datasets.iard", "*IARD*.json")},
    ),
    "sample": DatasetSpec(
        "bundled with crs: real films, written dialogues; for the demo and for trying things out",
        "MIT",
        "the crs developers",
        {"jsonl": DatasetForm("crscli.datasets.jsonl", "items.jsonl, dialogues.jsonl")},
    ),
    "jsonl": DatasetSpec(
        "your own dialogues and item list (README, 'Your own data')",
        "yours",
        "",
        {"jsonl": DatasetForm("crscli.datasets.jsonl", "items.jsonl or items.csv; dialogues.jsonl or one per split")},
    ),
}


def dataset_form(name: str, form: str | None) -> tuple[DatasetSpec, str, DatasetForm]:
    """Look a dataset and a form up; without a form the dataset's first.

    Raises:
        UsageError: either is unknown; suggests the nearest.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS, "crs datasets lists what there is")
    spec = DATASETS[name]
    chosen = form or next(iter(spec.forms))
    if chosen not in spec.forms:
        raise unknown_name(f"form of {name}", chosen, spec.forms)
    return spec, chosen, spec.forms[chosen]
