"""What the linker reaches on ReDial: weights and counts of train dialogues, all test messages, five ways of writing."""

import pytest
import redial_films

from crscli.linking import Linker
from crscli.linking.learning import fold_of
from crscli.linking.measure import measure

pytestmark = pytest.mark.realdata

LEAST = {
    "a": {"recall id": 0.985, "recall title": 0.995},
    "b": {"recall title": 0.975, "precision title": 0.935, "recall id": 0.93, "precision id": 0.89},
    "c": {"recall title": 0.96, "precision title": 0.93},
    "d": {"recall typo": 0.95, "precision title": 0.93},
    "e": {"recall title": 0.97, "precision title": 0.935},
}


def check(row):
    for name, least in LEAST[row["variant"]].items():
        assert row[name] >= least, (name, row)
    assert row["unmarked linked"] <= 0.025, row


def test_the_bundled_weights_reach_the_figures_on_all_test_messages(shared_data):
    world = redial_films.load(shared_data)
    linker = Linker.bundled(world.catalogue, world.train)
    rows = measure(linker, world.test)
    assert [row["variant"] for row in rows] == list("abcde")
    for row in rows:
        print(row)
        assert (row["messages"], row["marks"]) == (23_952, 8_521)
        check(row)
    assert rows[3]["typos"] == 6_593


@pytest.mark.slow
def test_weights_fitted_from_scratch_reach_the_figures(shared_data):
    """On one fold of train, with weights and counts of the others."""
    world = redial_films.load(shared_data)
    rest = [dialogue for dialogue in world.train if fold_of(dialogue.dialogue_id)]
    held = [dialogue for dialogue in world.train if not fold_of(dialogue.dialogue_id)]
    for row in measure(Linker.fit(world.catalogue, rest), held):
        print(row)
        least = {name: value - 0.01 for name, value in LEAST[row["variant"]].items()}
        assert all(row[name] >= value for name, value in least.items()), row
