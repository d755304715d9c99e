import math
import random
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from crscli.metrics import text

WORDS = (
    "the",
    "a",
    "movie",
    "movies",
    "Movie",
    "was",
    "great!",
    "great",
    "[MOVIE_ID]",
    "<movie>",
    "Amélie",
    "кино",
    "1984",
)


def random_texts(count, seed):
    rng = random.Random(seed)
    return ["  ".join(rng.choices(WORDS, k=rng.randrange(0, 12))) for _ in range(count)]


# ---- ROUGE ----------------------------------------------------------------------------------------------------------


def test_rouge_by_hand():
    found = text.rouge(["The cat sat!"], ["the cat sat on the mat"])
    assert found == pytest.approx({"rouge-1": 2 / 3, "rouge-2": 4 / 7, "rouge-l": 2 / 3})
    scrambled = text.rouge(["c b a"], ["a b c"])
    assert scrambled == pytest.approx({"rouge-1": 1.0, "rouge-2": 0.0, "rouge-l": 1 / 3})
    halved = text.rouge(["the cat sat", "dog"], ["the cat sat", "horse"])
    assert halved == pytest.approx({"rouge-1": 0.5, "rouge-2": 0.5, "rouge-l": 0.5})


def test_rouge_stems_unless_told_not_to():
    assert text.rouge(["loved movies"], ["loves movie"])["rouge-1"] == 1
    assert text.rouge(["loved movies"], ["loves movie"], stem=False)["rouge-1"] == 0


def test_rouge_of_empty_texts_and_of_other_scripts_is_zero():
    nothing = {"rouge-1": 0, "rouge-2": 0, "rouge-l": 0}
    assert text.rouge([""], ["words"]) == nothing
    assert text.rouge(["words"], [" "]) == nothing
    assert text.rouge([""], [""]) == nothing
    assert text.rouge(["отличное кино"], ["отличное кино"]) == nothing
    assert text.rouge(["!?"], ["!?"]) == nothing


def test_rouge_splits_a_slot_into_its_words():
    assert text.rouge(["[MOVIE_ID]"], ["movie id"])["rouge-2"] == 1


def slow_tokens(line):
    kept = "".join(c if c in "abcdefghijklmnopqrstuvwxyz0123456789" else " " for c in line.lower())
    return kept.split()


def slow_f(shared, one, other):
    return 2 * shared / (one + other) if shared else 0.0


def slow_rouge_n(prediction, reference, n):
    ours = [tuple(prediction[i : i + n]) for i in range(len(prediction) - n + 1)]
    theirs = [tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)]
    left, shared = list(theirs), 0
    for gram in ours:
        if gram in left:
            left.remove(gram)
            shared += 1
    return slow_f(shared, len(ours), len(theirs))


def slow_rouge_l(prediction, reference):
    table = [[0] * (len(reference) + 1) for _ in range(len(prediction) + 1)]
    for i, one in enumerate(prediction):
        for j, other in enumerate(reference):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return slow_f(table[-1][-1], len(prediction), len(reference))


def test_rouge_equals_a_slow_loop_on_random_texts():
    predictions, references = random_texts(300, seed=1), random_texts(300, seed=2)
    pairs = [(slow_tokens(p), slow_tokens(r)) for p, r in zip(predictions, references, strict=True)]
    assert sum(not p or not r for p, r in pairs) > 20
    found = text.rouge(predictions, references, stem=False)
    assert found["rouge-1"] == pytest.approx(np.mean([slow_rouge_n(p, r, 1) for p, r in pairs]))
    assert found["rouge-2"] == pytest.approx(np.mean([slow_rouge_n(p, r, 2) for p, r in pairs]))
    assert found["rouge-l"] == pytest.approx(np.mean([slow_rouge_l(p, r) for p, r in pairs]))
    assert found["rouge-1"] > found["rouge-l"] > found["rouge-2"] > 0


# ---- BLEU -----------------------------------------------------------------------------------------------------------


def test_corpus_bleu_by_hand_with_its_signature():
    value, signature = text.bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert value == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    shorter, _ = text.bleu(["the cat sat on"], ["the cat sat on a mat"])
    assert shorter == pytest.approx(math.exp(1 - 6 / 4))


def test_corpus_bleu_of_equal_texts_is_one_and_of_empty_ones_zero():
    texts = ["Have you seen It (2017)?", "Отличное кино, правда же?", "I'd watch Amélie 🎬 again and again ."] * 50
    assert text.bleu(texts, texts)[0] == pytest.approx(1.0)
    assert text.bleu(texts, texts)[0] <= 1
    assert text.bleu(["", ""], ["some words", ""])[0] == 0


def test_bleu_says_nothing_about_texts_that_look_tokenised(caplog):
    text.bleu(["good movie ."] * 200, ["good movie ."] * 200)
    assert caplog.records == []


def test_bleu_of_one_order_by_hand():
    repeated = (["the the the cat"], ["the cat the"])  # "the" counts twice, as the reference has it twice
    assert text.bleu_order(*repeated, 1) == pytest.approx(3 / 4)
    assert text.bleu_order(*repeated, 2) == pytest.approx(1 / 3)
    assert text.bleu_order(*repeated, 3) == 0
    cut = (["a b"], ["a b c d"])
    assert text.bleu_order(*cut, 1) == pytest.approx(math.exp(-1))
    assert text.bleu_order(*cut, 2) == pytest.approx(math.exp(-1))
    assert text.bleu_order(*cut, 3) == 0
    assert text.bleu_order(["a b c d"], ["a b"], 1) == pytest.approx(1 / 2)


def test_bleu_of_one_order_keeps_case_and_punctuation():
    assert text.bleu_order(["Great movie!"], ["great movie !"], 1) == 0
    assert text.bleu_order(["Отличное  кино"], ["Отличное\nкино"], 2) == 1


def test_bleu_of_one_order_is_a_mean_over_texts_that_may_leave_out_empty_ones():
    assert text.bleu_order(["a b", "", "c"], ["a b", "x", "d"], 1) == pytest.approx(1 / 3)
    assert text.bleu_order(["a b", "", "c"], ["a b", "x", "d"], 1, skip_empty=True) == pytest.approx(1 / 2)
    assert text.bleu_order([""], [""], 1) == 0
    assert math.isnan(text.bleu_order([""], [""], 1, skip_empty=True))


def slow_sentence_bleu(reference, hypothesis, weights):
    """NLTK's sentence_bleu of one reference without smoothing: weighted geometric mean of modified precisions."""
    precisions = []
    for n in range(1, len(weights) + 1):
        counts = Counter(tuple(hypothesis[i : i + n]) for i in range(len(hypothesis) - n + 1))
        most = Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
        clipped = {gram: min(count, most[gram]) for gram, count in counts.items()}
        precisions.append(sum(clipped.values()) / max(1, sum(counts.values())))
    if precisions[0] == 0:
        return 0
    if len(hypothesis) > len(reference):
        penalty = 1
    else:
        penalty = 0 if not hypothesis else math.exp(1 - len(reference) / len(hypothesis))
    logs = [w * math.log(p or sys.float_info.min) for w, p in zip(weights, precisions, strict=True)]
    return penalty * math.exp(math.fsum(logs))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_bleu_of_one_order_equals_the_formula_with_all_weight_on_it(n):
    predictions, references = random_texts(400, seed=3), random_texts(400, seed=4)
    pairs = list(zip(predictions, references, strict=True))
    pairs += [(p, p + " " + r) for p, r in pairs] + [(p + " " + r, p) for p, r in pairs]
    assert sum(not p.split() for p, _ in pairs) > 20
    weights = [float(order == n) for order in (1, 2, 3, 4)]
    slow = [slow_sentence_bleu(r.split(), p.split(), weights) for p, r in pairs]
    for (prediction, reference), value in zip(pairs, slow, strict=True):
        assert text.bleu_order([prediction], [reference], n) == pytest.approx(value, abs=1e-12)
    assert text.bleu_order(*zip(*pairs, strict=True), n) == pytest.approx(np.mean(slow))


# ---- Distinct -------------------------------------------------------------------------------------------------------


def test_distinct_by_hand_with_both_denominators():
    texts = ["a b a b", "a b", ""]
    assert text.distinct(texts, 1) == pytest.approx({"distinct-1/token": 2 / 6, "distinct-1/response": 2 / 3})
    assert text.distinct(texts, 2) == pytest.approx({"distinct-2/token": 2 / 4, "distinct-2/response": 2 / 3})
    assert text.distinct(texts, 5) == {"distinct-5/token": 0, "distinct-5/response": 0}
    skipped = text.distinct(texts, 2, skip_empty=True)
    assert skipped == pytest.approx({"distinct-2/token": 2 / 4, "distinct-2/response": 1})


def test_distinct_by_responses_may_pass_one_and_case_counts():
    assert text.distinct(["Good good кино!"], 1) == {"distinct-1/token": 1, "distinct-1/response": 3}


def test_distinct_does_not_count_across_texts_and_counts_a_prefix():
    assert text.distinct(["a", "b"], 2)["distinct-2/response"] == 0
    assert text.distinct(["A: yes", "A: no"], 1)["distinct-1/response"] == pytest.approx(3 / 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("skip_empty", [False, True])
def test_distinct_equals_a_slow_loop_on_random_texts(n, skip_empty):
    texts = random_texts(200, seed=5)
    different, number = [], 0
    for line in texts:
        words = line.split()
        for i in range(len(words) - n + 1):
            number += 1
            gram = "\t".join(words[i : i + n])
            if gram not in different:
                different.append(gram)
    responses = sum(bool(line.strip()) for line in texts) if skip_empty else len(texts)
    assert skip_empty == (responses < len(texts))
    found = text.distinct(texts, n, skip_empty=skip_empty)
    assert found[f"distinct-{n}/token"] == pytest.approx(len(different) / number)
    assert found[f"distinct-{n}/response"] == pytest.approx(len(different) / responses)


# ---- perplexity -----------------------------------------------------------------------------------------------------


def test_perplexity_per_unit_by_hand():
    nats = 12 * math.log(2)
    assert text.perplexity(nats, 12) == pytest.approx(2)
    assert text.perplexity(nats, 6) == pytest.approx(4)
    assert text.perplexity(nats, 48) == pytest.approx(2**0.25)
    assert text.perplexity(0.0, 5) == 1


def test_perplexity_is_infinite_rather_than_an_error():
    assert text.perplexity(1e9, 1) == math.inf
    assert text.perplexity(math.inf, 7) == math.inf
    assert math.isnan(text.perplexity(math.nan, 7))
    assert math.isnan(text.perplexity(0.0, 0))
    assert text.pecrs_perplexity([1e9, 0.0], [0, 1]) == math.inf


def test_perplexity_of_groups_by_hand():
    rows = [math.log(2), math.log(3), math.log(8)]
    assert text.pecrs_perplexity(rows, [5, -1, 5]) == pytest.approx((4 + 3) / 2)
    assert text.pecrs_perplexity(rows, [0, 1, 2]) == pytest.approx((2 + 3 + 8) / 3)
    assert text.pecrs_perplexity(rows, [7, 7, 7]) == pytest.approx(48 ** (1 / 3))


def test_perplexity_of_groups_equals_a_slow_loop():
    rng = np.random.default_rng(6)
    means, groups = rng.exponential(2, 500), rng.integers(-40, 40, 500)
    slow = []
    for group in set(groups.tolist()):
        mine = [mean for mean, g in zip(means.tolist(), groups.tolist(), strict=True) if g == group]
        slow.append(math.exp(sum(mine) / len(mine)))
    assert text.pecrs_perplexity(means, groups) == pytest.approx(sum(slow) / len(slow))
    assert text.pecrs_perplexity(means.tolist(), groups.tolist()) == text.pecrs_perplexity(means, groups)


# ---- the decision to recommend --------------------------------------------------------------------------------------


def test_decisions_by_hand():
    found = text.decisions([True, True, False, False, True, True], [True, False, True, False, True, False])
    assert found.precision == pytest.approx(2 / 4)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert found.always == pytest.approx(2 * (3 / 6) / (3 / 6 + 1))


def test_always_recommending_scores_its_own_line():
    found = text.decisions([True] * 4, [True, False, False, True])
    assert found.f1 == found.always == pytest.approx(2 / 3)


def test_decisions_without_positives_score_zero():
    assert text.decisions([False, False], [False, False]) == text.Decisions(0.0, 0.0, 0.0, 0.0)
    assert text.decisions([True], [False]) == text.Decisions(0.0, 0.0, 0.0, 0.0)
    assert text.decisions([False], [True]) == text.Decisions(f1=0.0, precision=0.0, recall=0.0, always=1.0)


def test_f1_equals_a_slow_loop_on_random_decisions():
    rng = np.random.default_rng(7)
    for _ in range(100):
        predicted, gold = rng.random(20) < 0.6, rng.random(20) < 0.4
        hits = said = due = 0
        for p, g in zip(predicted.tolist(), gold.tolist(), strict=True):
            hits, said, due = hits + (p and g), said + p, due + g
        harmonic = 2 / (said / hits + due / hits) if hits else 0
        assert text.f1(predicted, gold) == pytest.approx(harmonic)
        assert text.decisions(predicted.tolist(), gold.tolist()).f1 == text.f1(predicted, gold)


# ---- all together ---------------------------------------------------------------------------------------------------


def test_all_figures_are_those_of_the_single_functions():
    predictions, references = random_texts(50, seed=8), random_texts(50, seed=9)
    figures = text.text_figures(predictions, references)
    counts = [len(line.split()) for line in predictions]
    expected = text.rouge(predictions, references) | {"bleu": text.bleu(predictions, references)[0]}
    expected |= {f"bleu-{n}/order": text.bleu_order(predictions, references, n) for n in (1, 2, 3, 4)}
    for n in (1, 2, 3, 4):
        expected |= text.distinct(predictions, n)
    expected |= {"words/response": sum(counts) / 50, "empty/response": counts.count(0) / 50, "responses": 50.0}
    assert figures == pytest.approx(expected)
    assert len(figures) == 19
    assert counts.count(0) > 0
    assert all(type(value) is float for value in figures.values())


def test_figures_of_one_text():
    figures = text.text_figures(["Have you seen Amélie yet ?"], ["Have you seen Amélie yet ?"])
    ones = {name for name, value in figures.items() if value == pytest.approx(1)}
    perfect = {"rouge-1", "rouge-2", "rouge-l", "bleu", *(f"bleu-{n}/order" for n in (1, 2, 3, 4))}
    assert ones == perfect | {f"distinct-{n}/token" for n in (1, 2, 3, 4)} | {"responses"}
    assert figures["distinct-2/response"] == 5
    assert figures["words/response"] == 6
    assert figures["empty/response"] == 0


def test_figures_of_one_empty_text_are_zero():
    figures = text.text_figures([" \n"], ["what was said"])
    assert {name for name, value in figures.items() if value} == {"empty/response", "responses"}


def test_without_texts_there_is_nothing_to_judge():
    figures = text.text_figures([], [])
    assert figures.pop("responses") == 0
    assert len(figures) == 18
    assert all(math.isnan(value) for value in figures.values())
    assert text.bleu([], [])[1] == text.bleu(["a"], ["a"])[1]
    assert math.isnan(text.pecrs_perplexity([], []))
    assert math.isnan(text.f1([], []))
    found = text.decisions([], [])
    assert all(math.isnan(value) for value in (found.f1, found.precision, found.recall, found.always))


def test_wrong_arguments_are_refused():
    for function in (text.rouge, text.bleu, text.text_figures):
        with pytest.raises(ValueError, match="1 predictions but 2 references"):
            function(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="2 predictions but 1 references"):
        text.bleu_order(["a", "b"], ["a"], 1)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        text.bleu_order(["a"], ["a"], 0)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        text.distinct(["a"], 0)
    with pytest.raises(ValueError, match="at least 0, not -1"):
        text.perplexity(1.0, -1)
    with pytest.raises(ValueError, match="2 rows but 1 groups"):
        text.pecrs_perplexity([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="1 decisions but 2 gold"):
        text.f1([True], [True, False])
    with pytest.raises(ValueError, match="2 decisions but 1 gold"):
        text.decisions([True, False], [True])


def test_ranking_metrics_load_no_package_for_texts():
    look = "import sys, crscli.metrics; print(*({'rouge_score', 'sacrebleu', 'nltk'} & sys.modules.keys()), 'looked')"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["looked"]
