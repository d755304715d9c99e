from crscli.dialogue import Dialogue, Turn
from crscli.recommender import FitData, without_recommenders_of


def dialogue(dialogue_id, recommender_id=None):
    return Dialogue(dialogue_id, (Turn("seeker", "Hi"),), recommender_id=recommender_id)


def ids(dialogues):
    return [d.dialogue_id for d in dialogues]


def test_a_choice_on_valid_is_not_fitted_on_its_recommenders():
    train = [dialogue("a", "x"), dialogue("b", "y"), dialogue("c"), dialogue("d", "x")]
    valid = [dialogue("e", "y"), dialogue("f")]
    chosen = FitData(train, valid, refit=False)
    assert ids(chosen.for_choice) == ids(chosen.learnable) == ["a", "c", "d"]  # an unknown recommender bars nobody
    assert ids(FitData(train, valid).learnable) == ["a", "b", "c", "d", "e", "f"]
    assert ids(FitData(train, refit=False).learnable) == ids(train)
    assert ids(without_recommenders_of(train, [])) == ids(train)
