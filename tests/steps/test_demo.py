import re

import pytest

from crscli.steps._dataset import read_dataset
from crscli.steps.demo import SAID, demo
from crscli.workspace import KINDS, Workspace

SMALLER = {
    "layers": 1, "width": 16, "vocabulary": 500, "context_tokens": 48, "turn_tokens": 16, "item_tokens": 8,
    "candidates": 20, "batch_size": 128, "patience": 1, "bias_width": 16, "node_width": 16,
    "query_tokens": 32, "passage_tokens": 24, "prompt_tokens": 32, "reply_tokens": 16, "random_negatives": 8,
}  # fmt: skip
"""Settings of the neural models, none of them of blend, with which their training takes seconds."""


def shown_in(workspace):
    """What the demo gives and what it says."""
    told = []
    with pytest.MonkeyPatch.context() as patched:
        for key, value in SMALLER.items():
            patched.setenv(f"CRS_SET_{key.upper()}", str(value))
        return demo(workspace, say=told.append), told


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """The demo in a workspace of its own, run once: the workspace, what it gave and what it said."""
    workspace = Workspace(tmp_path_factory.mktemp("demo") / "demo-workspace")
    return workspace, *shown_in(workspace)


def test_the_demo_goes_through_all_steps_and_says_so(demo_run):
    workspace, _, told = demo_run
    assert [line.split()[0] for line in told if line[0] != " "] == [f"{n}/13" for n in range(1, 14)]
    assert sum("written" in line for line in told) == 12
    assert {a.name.split("/")[1] for a in workspace.artifacts("sample")} == set(KINDS)


def test_blend_beats_the_trivial_rows_and_cooccurrence_on_the_sample(demo_run):
    models = demo_run[1].evaluated.report["models"]
    found = {name: m["figures"]["row"]["all"]["recall@10"]["value"] for name, m in models.items()}
    assert list(found) == [
        "copy", "popularity", "copy-popularity", "cooccurrence", "blend", "kbrd", "pecrs-tiny", "unicrs-tiny",
        "reficr-tiny",
    ]  # fmt: skip
    assert found["blend"] > found["copy-popularity"] + 0.03
    assert found["blend"] == max(found.values())


def test_the_conversation_offers_another_film_each_time_with_a_reason(demo_run):
    workspace, shown, _ = demo_run
    assert [said for said, _ in shown.conversations["blend"]] == list(SAID)
    names = {item.name for item in read_dataset(workspace, "sample").catalogue}
    spoken_of = {"Toy Story (1995)", "Finding Nemo (2003)"}  # in small letters and misspelt
    offered = []
    for _, reply in shown.conversations["blend"]:
        named = [name for name in names - spoken_of if name in reply and name not in offered]
        assert named
        offered += named
        assert len(reply.split(". ")) + len(reply.split("? ")) >= 3
        told = [part for part in re.split(r"(?<=[.!?]) ", reply) if any(name in part for name in spoken_of)]
        assert all(re.search("noted|know that you|Nice|Like |spirit|Close to|your thing|next to|about|well with", part)
                   for part in told)  # fmt: skip


def test_the_model_that_speaks_answers_in_its_own_words(demo_run):
    _, shown, _ = demo_run
    assert [said for said, _ in shown.conversations["kbrd"]] == list(SAID[:2])
    assert all(reply and "[" not in reply for _, reply in shown.conversations["kbrd"])
    models = shown.evaluated.report["models"]
    assert [name for name, model in models.items() if "text" in model] == [
        "kbrd",
        "pecrs-tiny",
        "unicrs-tiny",
        "reficr-tiny",
    ]


def test_a_second_run_is_up_to_date_and_says_the_same(demo_run):
    workspace, shown, _ = demo_run
    again, told = shown_in(workspace)
    assert sum("up to date" in line for line in told) == 12
    assert again.conversations == shown.conversations
    assert again.evaluated.report == shown.evaluated.report
    assert any(f"--workspace {workspace.root}" in command for command in again.next_commands)
