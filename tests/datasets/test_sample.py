import json
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from crscli.datasets.sample import HERE, bare_sentences
from crscli.datasets.sample.generate import dialogues as generated

SPLITS = ("train", "valid", "test")


@cache
def items():
    lines = (HERE / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["item_id"]: row for row in map(json.loads, lines)}


@cache
def dialogues():
    return [json.loads(line) for line in (HERE / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()]


def links(kind=None, role=None):
    for dialogue in dialogues():
        for turn in dialogue["turns"]:
            for link in turn.get("links", ()):
                if kind in (None, link["kind"]) and role in (None, turn["role"]):
                    yield dialogue, turn, link


def surface(turn, link):
    return turn["text"][link["start"] : link["end"]]


def slotted(turn):
    text = turn["text"]
    for link in sorted(turn.get("links", ()), key=lambda x: -x["start"]):
        text = text[: link["start"]] + "_" + text[link["end"] :]
    return text


def share(holds):
    return sum(map(bool, map(holds, dialogues()))) / len(dialogues())


def test_generator_reproduces_the_file():
    made = (json.dumps(d, ensure_ascii=False, separators=(",", ":")) + "\n" for d in generated())
    path = HERE / "dialogues.jsonl"
    assert "".join(made).encode() == path.read_bytes()
    assert path.stat().st_size < 700_000


def test_counts_and_splits():
    ids = [d["dialogue_id"] for d in dialogues()]
    assert len(set(ids)) == len(ids) >= 480
    texts = {tuple(t["text"] for t in d["turns"]) for d in dialogues()}
    assert len(texts) == len(ids)
    splits = Counter(d["split"] for d in dialogues())
    assert set(splits) == set(SPLITS)
    assert splits["train"] >= 350
    assert min(splits.values()) >= 55
    openers = Counter(d["turns"][0]["role"] for d in dialogues())
    assert 0.4 < openers["recommender"] / len(ids) < 0.6


def test_turns_alternate_and_are_clean():
    for dialogue in dialogues():
        turns = dialogue["turns"]
        assert 6 <= len(turns) <= 16
        for turn, following in pairwise(turns):
            assert {turn["role"], following["role"]} == {"seeker", "recommender"}
        for turn in turns:
            assert turn["text"]
            assert turn["text"] == " ".join(turn["text"].split())
            assert not re.search(r"[{}\[\]|*]|a\(n\)", turn["text"])
            assert not re.search(r"\s[,?!]|\s\.(?!\.)", turn["text"]), turn["text"]
            assert turn.get("links") != []


def test_links_mark_what_exists():
    people = {n for row in items().values() for n in row["directors"] + row["cast"]}
    genres = {g for row in items().values() for g in row["genres"]}
    known = {"item": set(items()), "person": people, "genre": genres}
    for _, turn, link in links():
        assert 0 <= link["start"] < link["end"] <= len(turn["text"])
        assert surface(turn, link) == surface(turn, link).strip() != ""
        assert link["id"] in known[link["kind"]]
        assert link.get("opinion") in (None, "liked", "disliked", "seen")
    for _, turn, _ in links():
        spans = sorted((x["start"], x["end"]) for x in turn["links"])
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_titles_that_two_films_share_come_with_their_year():
    shared = Counter(row["title"].lower() for row in items().values())
    for _, turn, link in links("item"):
        row = items()[link["id"]]
        if shared[row["title"].lower()] > 1:
            assert str(row["year"]) in surface(turn, link)


def test_opinions_do_not_contradict_each_other():
    for dialogue in dialogues():
        said = defaultdict(set)
        for turn in dialogue["turns"]:
            for link in turn.get("links", ()):
                if link["kind"] == "item" and link.get("opinion"):
                    said[link["id"]].add(link["opinion"])
        assert all(len(opinions) == 1 for opinions in said.values())


def test_recommender_leaves_refused_films_alone():
    for dialogue in dialogues():
        refused = set()
        for turn in dialogue["turns"]:
            for link in turn.get("links", ()):
                if link["kind"] != "item":
                    continue
                assert turn["role"] == "seeker" or link["id"] not in refused, dialogue["dialogue_id"]
                if link.get("opinion") in ("disliked", "seen"):
                    refused.add(link["id"])


def test_first_sentences_of_seekers_differ():
    firsts = [next(t for t in d["turns"] if t["role"] == "seeker") for d in dialogues()]
    assert len({bare_sentences(slotted(t))[0] for t in firsts}) >= 150


def test_no_sentence_is_everywhere():
    seen = Counter()
    for dialogue in dialogues():
        seen.update({s for t in dialogue["turns"] for s in bare_sentences(slotted(t)) if len(s.split()) > 4})
    sentence, count = seen.most_common(1)[0]
    assert count <= 0.04 * len(dialogues()), sentence


def plain_title(row):
    return {row["title"], row["title"].removeprefix("The ")}


def typed_titles(dialogue):
    for turn in dialogue["turns"]:
        for link in turn.get("links", ()):
            if link["kind"] == "item":
                typed = re.sub(r" \(?\d{4}\)?$", "", surface(turn, link)) or surface(turn, link)
                yield typed, items()[link["id"]]


@pytest.mark.parametrize(
    ("holds", "floor"),
    [
        (lambda d: any(t != t.title() and t.islower() for t, _ in typed_titles(d)), 0.3),
        (lambda d: any(t.lower() not in {x.lower() for x in plain_title(r)} for t, r in typed_titles(d)), 0.15),
        (lambda d: any(re.search(r"\(\d{4}\)", t["text"]) for t in d["turns"]), 0.3),
        (lambda d: any(k["kind"] == "genre" for t in d["turns"] for k in t.get("links", ())), 0.6),
        (lambda d: any(k["kind"] == "person" for t in d["turns"] for k in t.get("links", ())), 0.4),
    ],
    ids=["lower case", "misspelt", "year", "genre", "person"],
)
def test_share_of_surface_forms(holds, floor):
    assert share(holds) >= floor


CONSTRAINT = re.compile(
    r"\bfrom (the|after|before|this|20)|\bmade (in|after|before)|before 1980|\bnothing\b|\bplease no\b|\bno \w+"
    r"|\bnot (a|scary|in the mood)|can'?t stand|after 2000|for the kids|\b(with|by) [A-Z]",
    re.IGNORECASE,
)
REFUSAL = re.compile(r"\b(seen|saw|watched|pass|not|nah|nope|too|isn'?t|don'?t|rather)\b", re.IGNORECASE)


def test_share_of_constraints_and_refusals():
    def says(pattern, start):
        return lambda d: any(pattern.search(t["text"]) for t in d["turns"][start:] if t["role"] == "seeker")

    assert share(says(CONSTRAINT, 0)) >= 0.4
    assert share(says(REFUSAL, 3)) >= 0.4


def test_repeated_mentions():
    repeated = total = 0
    for dialogue in dialogues():
        before = set()
        for turn in dialogue["turns"]:
            named = [k["id"] for k in turn.get("links", ()) if k["kind"] == "item"]
            if turn["role"] == "recommender":
                total += len(named)
                repeated += sum(i in before for i in named)
            before.update(named)
    assert 0.05 < repeated / total < 0.2


def examples(split):
    """Context items and new target items of each recommender turn that names a new film."""
    for dialogue in dialogues():
        before = []
        for turn in dialogue["turns"] if dialogue["split"] == split else ():
            named = [k["id"] for k in turn.get("links", ()) if k["kind"] == "item"]
            new = [i for i in dict.fromkeys(named) if i not in before]
            if turn["role"] == "recommender" and new:
                yield list(before), new
            before += new


def test_targets_can_be_learnt_but_not_trivially():
    number = {item_id: n for n, item_id in enumerate(items())}
    popular = np.zeros(len(number))
    together = np.zeros((len(number), len(number)))
    for _, new in examples("train"):
        popular[[number[i] for i in new]] += 1
    for dialogue in dialogues():
        if dialogue["split"] == "train":
            named = [k["id"] for t in dialogue["turns"] for k in t.get("links", ()) if k["kind"] == "item"]
            present = np.zeros(len(number))
            present[[number[i] for i in named]] = 1
            together += np.outer(present, present)
    hits = {"popularity": [], "co-occurrence": []}
    for context, new in examples("test"):
        mentioned = [number[i] for i in context]
        prior = popular / (popular.max() + 1)
        for name, scores in (
            ("popularity", prior.copy()),
            ("co-occurrence", together[mentioned].sum(0) + 0.5 * prior),
        ):
            scores[mentioned] = -1
            top = set(np.argsort(-scores, kind="stable")[:10].tolist())
            hits[name] += [number[i] in top for i in new]
    recall = {name: float(np.mean(found)) for name, found in hits.items()}
    assert recall["co-occurrence"] >= 2 * recall["popularity"], recall
    assert recall["co-occurrence"] < 0.9
