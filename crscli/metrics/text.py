"""Metrics of generated texts, each with its convention in its name or docstring: papers give one name to several.

Texts are judged as they come: prefixes ("System:", "A:"), slot tokens and special tokens are the caller's to keep or
to strip. "Tokens" are what stands between whitespace, punctuation attached and case kept, unless said otherwise. An
empty text is judged and scores 0; NaN is returned where there is nothing to judge. Knows nothing about models,
dialogues or catalogues.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

ORDERS = (1, 2, 3, 4)
"""Orders of n-grams that `text_figures` reports."""

_ROUGE = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL"}


def text_figures(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """All figures that need only the responses and what was really said, under the defaults of the functions below.

    Args:
        texts: the responses.
        references: what was said instead, one for each response.

    Returns:
        "rouge-1", "rouge-2", "rouge-l", "bleu" (its signature: `bleu`), "bleu-N/order", "distinct-N/token",
        "distinct-N/response" for each N of ORDERS; "words/response", the mean number of tokens; "empty/response", the
        share without any token; "responses", their number. Without responses all but the last are NaN.

    Raises:
        ValueError: the numbers of texts and references differ.
    """
    words = [len(text.split()) for text in texts]
    figures = rouge(texts, references)
    figures["bleu"], _ = bleu(texts, references)
    figures |= {f"bleu-{n}/order": bleu_order(texts, references, n) for n in ORDERS}
    for n in ORDERS:
        figures |= distinct(texts, n)
    return figures | {
        "words/response": _mean(words),
        "empty/response": _mean([count == 0 for count in words]),
        "responses": float(len(texts)),
    }


def rouge(predictions: Sequence[str], references: Sequence[str], *, stem: bool = True) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L: the mean over texts of the F-measure, in [0, 1].

    Tokens are the package's own: lower-cased runs of a-z and 0-9, so that a text in another script has none and
    scores 0, and "[MOVIE_ID]" is the two tokens "movie" and "id". ROUGE-L reads a text as one sentence.

    Args:
        predictions: the texts to judge.
        references: one for each prediction.
        stem: cut tokens of more than three letters to their stems (Porter), as PECRS does; the package's default
            and many papers do not.

    Returns:
        "rouge-1", "rouge-2", "rouge-l".

    Raises:
        ValueError: the numbers of predictions and references differ.

    Source: Lin, ACL workshop 2004, by the package rouge-score 0.1.2. PECRS judges texts with "A: " before both, which
    gives every pair a token in common, and prints 100 times the value.
    """
    _check_pairs(predictions, references)
    scorer = RougeScorer(list(_ROUGE.values()), use_stemmer=stem)
    scores = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    return {name: _mean([score[kind].fmeasure for score in scores]) for name, kind in _ROUGE.items()}


def bleu(predictions: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU over orders 1 to 4, in [0, 1], and the signature that names its tokenisation and smoothing.

    Args:
        predictions: the texts to judge, as a person would read them (sacrebleu splits off punctuation itself).
        references: one for each prediction.

    Raises:
        ValueError: the numbers of predictions and references differ.

    Source: Papineni et al., ACL 2002, by the package sacrebleu with its defaults. Papers on conversational
    recommendation print another one, `bleu_order`.
    """
    _check_pairs(predictions, references)
    # force: no warning that texts look tokenised. A corpus of one empty text stands in where there is none, since
    # the signature is known only after a corpus was judged.
    metric = BLEU(force=True)
    score = metric.corpus_score(list(predictions) or [""], [list(references) or [""]]).score
    value = min(score / 100, 1.0) if len(predictions) else math.nan
    return value, str(metric.get_signature())


def bleu_order(predictions: Sequence[str], references: Sequence[str], n: int, *, skip_empty: bool = False) -> float:
    """The field's BLEU-n: mean sentence BLEU with all weight on order n, in [0, 1].

    For each text the precision of its n-grams (each counted at most as often as the reference has it) times the
    brevity penalty exp(1 - reference tokens / tokens) of a text shorter than its reference. Not the usual BLEU-n,
    which is the geometric mean over orders 1 to n. No smoothing: a text without an n-gram in common scores 0.

    Args:
        predictions: the texts to judge.
        references: one for each prediction.
        n: the order, from 1.
        skip_empty: leave predictions without tokens out of the mean, instead of counting them as 0.

    Raises:
        ValueError: n < 1, or the numbers of predictions and references differ.

    Source: NLTK's sentence_bleu as UniCRS (src/evaluate_conv.py) and CRSLab (evaluator/metrics/gen.py) call it; NLTK
    gives the smallest float where this gives 0. UniCRS divides by the number of non-empty predictions (skip_empty) and
    keeps "System:" before both texts, which lifts BLEU-1; CRSLab splits at single blanks.
    """
    _check_pairs(predictions, references)
    _check_order(n)
    pairs = [(text.split(), reference.split()) for text, reference in zip(predictions, references, strict=True)]
    return _mean([_sentence_bleu(tokens, reference, n) for tokens, reference in pairs if tokens or not skip_empty])


def _sentence_bleu(tokens: list[str], reference: list[str], n: int) -> float:
    grams = _ngrams(tokens, n)
    if not grams:
        return 0.0
    shared = (Counter(grams) & Counter(_ngrams(reference, n))).total()
    return shared / len(grams) * math.exp(min(0.0, 1 - len(reference) / len(tokens)))


def distinct(texts: Sequence[str], n: int, *, skip_empty: bool = False) -> dict[str, float]:
    """Number of different n-grams over all texts, by both denominators in use.

    Both fall as the number of texts grows, so that figures of test sets of different size cannot be compared.

    Args:
        texts: all responses.
        n: the order, from 1.
        skip_empty: leave texts without tokens out of the number of responses.

    Returns:
        "distinct-n/token": divided by the number of all n-grams, in [0, 1]; 0 where there are none.
        "distinct-n/response": divided by the number of texts; above 1 is normal.

    Raises:
        ValueError: n < 1.

    Source: "/token" follows Li et al., NAACL 2016, who divide by the number of tokens at every order; "/response" is
    what papers on conversational recommendation print as Dist-n. UniCRS (src/evaluate_conv.py) drops empty predictions
    from the denominator (skip_empty) and counts the "System:" before each text; PECRS (evaluation.py) keeps empty ones
    and counts "A:" before each text. CRSLab's printed figures count characters, MESE lower-cases and drops
    punctuation: not done here.
    """
    _check_order(n)
    counted = [tokens for tokens in map(str.split, texts) if tokens or not skip_empty]
    if not counted:
        return {f"distinct-{n}/token": math.nan, f"distinct-{n}/response": math.nan}
    grams = [gram for tokens in counted for gram in _ngrams(tokens, n)]
    different = len(set(grams))
    return {
        f"distinct-{n}/token": different / max(len(grams), 1),
        f"distinct-{n}/response": different / len(counted),
    }


def perplexity(nats: float, units: int) -> float:
    """exp(nats / units) over a whole corpus: inf where it is too large for a float, NaN without units.

    The unit must be named beside the figure: per token of one vocabulary says nothing about another; per word and per
    byte of the text compare models with different tokenisers.

    Args:
        nats: sum of the negative log-likelihoods of all tokens, natural logarithm.
        units: how many tokens, words or bytes the same texts have.

    Raises:
        ValueError: units < 0.
    """
    if units < 0:
        raise ValueError(f"a number of units is at least 0, not {units}")
    if units == 0:
        return math.nan
    try:
        return math.exp(nats / units)
    except OverflowError:
        return math.inf


def pecrs_perplexity(
    token_means: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
) -> float:
    """PECRS's perplexity: mean over groups of exp(mean over the group's rows of the row's mean token loss).

    Short rows weigh as much as long ones, small groups as much as large ones, and the value changes with the size of
    the groups: it compares with PECRS's tables and with nothing else.

    Args:
        token_means: (R,) mean negative log-likelihood in nats of each row's tokens.
        groups: (R,) the group of each row, any integers.

    Returns:
        The value; inf where it is too large for a float, NaN without rows.

    Raises:
        ValueError: the two lengths differ.

    Source: PECRS, engine_validation.py. There a group is the rows with an item, or those without, of a batch of at
    most 8. It counts [REC] and one target of padding in each row with an item; here a row's mean comes from the caller.
    """
    means = np.asarray(token_means, dtype=np.float64)
    if len(means) != len(groups):
        raise ValueError(f"{len(means)} rows but {len(groups)} groups")
    if not len(means):
        return math.nan
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    with np.errstate(over="ignore"):
        return float(np.exp(np.bincount(group, weights=means) / np.bincount(group)).mean())


@dataclass(frozen=True)
class Decisions:
    """How well it was decided when to recommend; `always` is the F-1 of recommending in every response."""

    f1: float
    precision: float
    recall: float
    always: float


def decisions(predicted: Sequence[bool] | np.ndarray, gold: Sequence[bool] | np.ndarray) -> Decisions:
    """F-1 of the decision to recommend with its parts, and the F-1 that needs no decision.

    Args:
        predicted: (R,) whether each response recommends an item.
        gold: (R,) whether an item was recommended there.

    Returns:
        Figures in [0, 1]; a ratio without cases is 0, as in scikit-learn; all NaN without responses.

    Raises:
        ValueError: the two lengths differ.

    Source: PECRS, engine_validation.py, where a response recommends if it holds "[MOVIE_ID]". PECRS is told by the
    true response whether to start with an item, so that its printed F-1 (about 86) is no decision of the model's.
    """
    says, is_so = np.asarray(predicted, dtype=bool), np.asarray(gold, dtype=bool)
    return Decisions(
        f1=f1(says, is_so),
        precision=_share(is_so, says),
        recall=_share(says, is_so),
        always=f1(np.ones_like(is_so), is_so),
    )


def best_threshold(margins: np.ndarray, gold: Sequence[bool] | np.ndarray) -> float:
    """The threshold above which deciding yes has the best F-1; 0 where there are cases of one kind alone.

    Args:
        margins: (R,) finite; higher speaks for yes.
        gold: (R,) whether it was.
    """
    is_so = np.asarray(gold, dtype=bool)
    if not is_so.any() or is_so.all():
        return 0.0
    order = np.argsort(-np.asarray(margins), kind="stable")
    hits = np.cumsum(is_so[order])
    best = int(np.argmax(2 * hits / (np.arange(len(order)) + 1 + is_so.sum())))
    if best + 1 == len(order):
        return -1e9
    return float((margins[order[best]] + margins[order[best + 1]]) / 2)


def f1(predicted: Sequence[bool] | np.ndarray, gold: Sequence[bool] | np.ndarray) -> float:
    """F-1 of the positive class, in [0, 1]: 0 where neither side has a positive, NaN without cases.

    Raises:
        ValueError: the two lengths differ.
    """
    says, is_so = np.asarray(predicted, dtype=bool), np.asarray(gold, dtype=bool)
    if len(says) != len(is_so):
        raise ValueError(f"{len(says)} decisions but {len(is_so)} gold ones")
    if not len(says):
        return math.nan
    return 2 * int((says & is_so).sum()) / max(int(says.sum() + is_so.sum()), 1)


def _share(these: np.ndarray, among: np.ndarray) -> float:
    """Share of the cases of `among` that are cases of `these`, 0 without cases; NaN of nothing at all."""
    return int((these & among).sum()) / max(int(among.sum()), 1) if len(among) else math.nan


def _ngrams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _check_order(n: int) -> None:
    if n < 1:
        raise ValueError(f"the order of n-grams is at least 1, not {n}")


def _check_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions but {len(references)} references")
