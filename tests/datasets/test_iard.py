import json

import pytest

from crscli.datasets import iard
from crscli.datasets.records import BadRows
from crscli.datasets.source import Source
from crscli.dialogue import ACTS, Dialogue, Turn, from_json, merge_turns, to_json
from crscli.errors import DataError
from crscli.management import Turns


def spoken(pos, role, text, top, sub):
    return {"utterance_pos": pos, "worker_id": pos % 2, "role": role, "utterance_text": text,
            "top-level intent/action": top, "sub-intent/action": sub}  # fmt: skip


TURNS = {
    "S1": spoken(1, "seeker", "Something like @5 <Alien  (1979)> ?", ["AskForRec"], ["IQU", "PRO"]),
    "R2": spoken(
        2, "recommender", "Try @7 <Heat (1995)> , it is &quot;cold&quot;", ["Recommend", "Explain"], ["REC-S"]
    ),
    "S3": spoken(3, "seeker", "ok", ["GiveFeedback"], ["ACC"]),
    "R4": spoken(4, "recommender", "Bye", ["OTH"], ["OTH"]),
}


def read(folder, rows, name="umap2020_IARD_Cai.json", bad=None):
    (folder / name).write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
    return iard.read(Source(folder, iard.ALLOW), bad=bad or BadRows())


def rows(**turns):
    return {name: {"accepted_recommendation": [], "dialogue_info": TURNS} for name in turns}


def test_turns_have_roles_films_and_acts(tmp_path):
    corpus = read(tmp_path, {"12": {"dialogue_info": TURNS}, "20001": {"dialogue_info": TURNS}})
    (dialogue,) = corpus.splits["train"]
    assert [t.role for t in dialogue.turns] == ["seeker", "recommender"] * 2
    assert dialogue.turns[0].text == "Something like Alien (1979) ?"
    link = dialogue.turns[1].links[0]
    assert (link.id, dialogue.turns[1].text[link.start : link.end]) == ("7", "Heat (1995)")
    assert dialogue.turns[1].text.endswith('it is "cold"')
    assert [t.acts for t in dialogue.turns] == [
        ("asks for a recommendation", "tells a preference"), ("recommend", "explain"), ("accepts",), ("chat",),
    ]  # fmt: skip
    assert [d.dialogue_id for d in corpus.splits["test"]] == ["20001"]
    assert {i.item_id: i.name for i in corpus.items} == {"5": "Alien (1979)", "7": "Heat (1995)"}
    assert from_json(json.loads(json.dumps(to_json(dialogue)))) == dialogue


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "judge"}, "unknown role 'judge'"),
        ({"top-level intent/action": ["Sing"]}, "unknown label 'Sing'"),
        ({"utterance_pos": "x"}, "invalid literal"),
    ],
)
def test_a_bad_dialogue_is_named(tmp_path, change, said):
    wrong = {"7": {"dialogue_info": {**TURNS, "R2": TURNS["R2"] | change}}}
    with pytest.raises(DataError, match="dialogue '7' is no IARD dialogue") as caught:
        read(tmp_path, wrong)
    assert said in caught.value.message


def test_files_that_are_no_annotations_are_refused(tmp_path):
    for content, said in (("[]", "one JSON object"), ("{", "not JSON"), ('{"1": 3}', "no IARD dialogue")):
        with pytest.raises(DataError, match=said):
            read(tmp_path, content)


def test_what_is_measured_on_is_not_learnt():
    made = [Dialogue(i, (Turn("recommender", "x", (), ("chat",)),)) for i in ("1", "2", "20001", "30000")]
    assert [d.dialogue_id for d in iard.learnable(made, {"2"})] == ["1"]


def test_acts_of_joined_turns_are_joined():
    joined = merge_turns([Turn("recommender", "a", (), ("chat",)), Turn("recommender", "b", (), ("request", "chat"))])
    assert [t.acts for t in joined] == [("chat", "request")]


@pytest.mark.realdata
def test_the_published_file_has_its_counts(shared_data):
    corpus = iard.read(Source(shared_data / "iard", iard.ALLOW), bad=BadRows())
    every = [d for of in corpus.splits.values() for d in of]
    assert {s: len(d) for s, d in corpus.splits.items()} == {"train": 298, "test": 38}
    turns = [t for d in every for t in d.turns]
    assert (len(every), len(turns)) == (336, 4583)
    told = [t for t in turns if t.role == "recommender"]
    counts = {act: sum(act in t.acts for t in told) for act in ACTS}
    assert counts == {"recommend": 1266, "explain": 868, "respond": 543, "request": 322, "chat": 692}
    assert len(Turns.annotated(every).examples) == 2098
