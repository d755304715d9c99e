import numpy as np
import pytest

from crscli.dialogue import ACTS, Dialogue, Turn
from crscli.management import TRIVIAL, Turns, figures, managed, predicted, trivial
from crscli.models.reficr.voice import Managed


def dialogue(name, *acts):
    turns = [t for given in acts for t in (Turn("seeker", "?"), Turn("recommender", "!", (), given))]
    return Dialogue(name, tuple(turns))


TURNS = Turns.annotated([
    dialogue("a", ("recommend", "explain"), ("chat",), ()),
    dialogue("b", ("recommend",), ("request",)),
])  # fmt: skip


def test_only_turns_that_say_what_they_do_are_predicted():
    assert len(TURNS.examples) == 4
    assert TURNS.dialogues.tolist() == [0, 0, 1, 1]
    assert TURNS.gold[0].tolist() == [True, True, False, False, False]


def test_figures_are_those_of_scikit_learn_by_hand():
    says = np.zeros((4, 5), dtype=bool)
    says[:, 0] = [True, True, True, False]
    says[0, 1] = True
    made = figures(TURNS, says, draws=50, seed=0)
    assert made["acts"]["recommend"] == {"f1": pytest.approx(0.8), "share": 0.5, "said": 0.75}
    assert made["acts"]["explain"]["f1"] == 1.0
    assert made["acts"]["request"]["f1"] == 0.0
    assert made["macro_f1"]["value"] == pytest.approx((0.8 + 1.0) / 5)
    assert made["macro_f1"]["low"] <= made["macro_f1"]["value"] <= made["macro_f1"]["high"]
    assert made["accuracy"] == 0.75


def test_trivial_rows_need_no_model():
    found = trivial(TURNS)
    assert tuple(found) == TRIVIAL
    assert found["always recommend"].sum() == 4
    every = figures(TURNS, found["every act"], draws=10, seed=0)
    assert every["acts"]["recommend"]["f1"] == pytest.approx(2 / 3)


def test_nothing_to_judge_is_said_so():
    none = figures(Turns.annotated([]), np.zeros((0, len(ACTS)), dtype=bool), draws=10, seed=0)
    assert none["turns"] == 0
    assert np.isnan(none["macro_f1"]["value"])


def test_a_model_is_asked_in_batches_and_its_acts_are_columns():
    class Model:
        def manage(self, contexts, *, why=False):
            return [Managed((0.9, 0, 0, 0, 0), ("recommend",), "because" * why) for _ in contexts]

    made = managed("m", Model(), TURNS, why=True)
    assert [m.why for m in made] == ["because"] * 4
    assert predicted(made, 5)[:, 0].all()
    assert predicted(made, 1).shape == (4, 1)
