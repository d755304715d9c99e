"""The tiny world: a checkerboard of eight films, in the plain schema, so that the right recommendation is known.

A seeker who names an even film is offered the other even films, one who names an odd film the odd ones.
"""

import json
import shutil
from itertools import permutations

ITEMS = [f"f{num}" for num in range(8)]
TITLES = [
    "Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel"
]  # fmt: skip
SIZES = {"train": 16, "valid": 4, "test": 4}


def items(titles=TITLES):
    return [
        {"item_id": i, "title": title, "year": 1990 + num, "genres": [("even", "odd")[num % 2]]}
        for num, (i, title) in enumerate(zip(ITEMS, titles, strict=True))
    ]


def dialogues(titles=TITLES):
    """24 dialogues: seeker names a film, hears of another one, asks on, and hears of a third."""
    colours = [list(permutations(range(colour, 8, 2), 3)) for colour in (0, 1)]
    splits = [split for split, count in SIZES.items() for _ in range(count)]
    for num, split in enumerate(splits):
        liked, first, second = colours[num % 2][num]
        turns = [
            ("seeker", f"Hi! I loved {titles[liked]} and want more of the kind.", liked),
            ("recommender", f"Then watch {titles[first]}.", first),
            ("seeker", "Seen it. Something else?", None),
            ("recommender", f"What about {titles[second]}?", second),
        ]
        yield {
            "dialogue_id": f"d{num}",
            "split": split,
            "order": num,
            "turns": [{"role": r, "text": text, "items": [] if n is None else [ITEMS[n]]} for r, text, n in turns],
        }


def write_tiny(folder, titles=TITLES, splits=tuple(SIZES)):
    """Write items.jsonl and dialogues.jsonl with the given splits."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "items.jsonl", items(titles))
    write_lines(folder / "dialogues.jsonl", [d for d in dialogues(titles) if d["split"] in splits])
    return folder


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def copied(root, folder):
    """A copy of a workspace."""
    return shutil.copytree(root, folder / "workspace")


def listing(root):
    """Every path below a folder with its bytes: what changed is seen at once."""
    return {p.relative_to(root).as_posix(): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


SMALL = {
    "backbone": "tiny", "tune": "full", "layers": 1, "width": 32, "heads": 2, "vocabulary": 400, "context_tokens": 64,
    "turn_tokens": 24, "item_tokens": 24, "item_fields": "name,genres,keywords,directors,cast,plot", "lexical": True,
    "similarity": "cosine", "temperature": 0.1, "rerank_residual": True, "recall_weight": 1.0, "rerank_weight": 0.5,
    "generation_weight": 0.5, "negatives": 4, "candidates": 5, "batch_size": 2, "epochs": 2, "learning_rate": 2e-2,
    "embedding_rate": 0.3, "patience": 0,
}  # fmt: skip
"""Settings with which a neural model learns the tiny world, 32 points in 32 steps, in half a second."""
SMALL_ENVIRONMENT = {f"CRS_SET_{key.upper()}": str(value) for key, value in SMALL.items()}


def small(**changes):
    """These settings as texts for `sets`, some of them changed."""
    return tuple(f"{key}={value}" for key, value in {**SMALL, **changes}.items())
