"""Evaluation protocols by name.

Eleven different "ReDial test sets" circulate. A protocol fixes one of them and the counts it must give when the
data are complete; a mismatch is an error. Knows nothing about models.
"""

from crscli.errors import UsageError, unknown_name
from crscli.protocols.rows import Protocol, Row, TestSet, select

__all__ = ["PROTOCOLS", "Protocol", "Row", "TestSet", "protocol_for", "select"]

_REDIAL = (("redial", "published"),)
_SIGIR26 = "SIGIR 2026 re-evaluation of seven systems (DOI 10.1145/3805712.3808573)"


def _redial(**counts: int) -> dict[tuple[str, str, str], dict[str, int]]:
    return {("redial", "published", "test"): {"dialogues": 1342, **counts}}


def _inspired(form: str, split: str, **counts: int) -> dict[tuple[str, str, str], dict[str, int]]:
    return {("inspired", form, split): {"dialogues": 99, **counts}}


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(
            "redial-merged-all",
            "merged recommender turns with a film and a context; every film is a label",
            f"{_SIGIR26}, full set",
            _REDIAL,
            expected=_redial(rows=3617, labels=4897, named=4933),
        ),
        Protocol(
            "redial-merged-new",
            "the same without films that the context names",
            f"{_SIGIR26}, deduplicated set",
            _REDIAL,
            new_only=True,
            expected=_redial(rows=3372, labels=4426),
        ),
        Protocol(
            "redial-message-all",
            "single recommender messages with a film and a message before them",
            "the unit of KBRD-style code without merging",
            _REDIAL,
            merge=False,
            aggregate="micro",
            expected=_redial(rows=4198, labels=4975),
        ),
        Protocol(
            "redial-message-new",
            "the same without films that the context names",
            "the unit of KBRD-style code without merging",
            _REDIAL,
            merge=False,
            new_only=True,
            aggregate="micro",
            expected=_redial(rows=3838, labels=4472),
        ),
        Protocol(
            "mese-pecrs",
            "one point for each film of a recommender turn that is in the recommender's form and in PECRS's film list",
            "MESE (NAACL 2022) and PECRS (EACL 2024); from the raw file or from PECRS's released form",
            (("redial", "published"), ("redial", "pecrs")),
            distinct=False,
            filled_in=True,
            candidates="listed",
            aggregate="micro",
            expected=_redial(rows=3509, labels=4751, points=8329)
            | {("redial", "pecrs", "test"): {"dialogues": 1342, "rows": 3509, "labels": 4751, "points": 8329}},
        ),
        Protocol(
            "reficr",
            "merged recommender turns, context of the last 4 turns, films of UniCRS's graph and of the given list",
            "ReFICR (RecSys 2024): UniCRS's rows where its film list has a text, 3,457 rows, 4,615 labels of 6,051 "
            "titles. The links of `unicrs` and PECRS's list give 3,449 and 4,605, so no count is asserted. Kept of its "
            "quirks: four turns of context, films that were named count, recall is a mean over rows, whose ceiling at "
            "1 is .86. Not kept: roles dealt by place, wrong in 36 % of its rows; titles without a year, which make "
            "one item of 903 films with 412 names; contexts cut at 512 characters, inside a word",
            (("redial", "published"), ("redial", "pecrs")),
            context_turns=4,
            graph="unicrs",
            candidates="listed",
        ),
        Protocol(
            "unicrs",
            "merged recommender turns with a film of UniCRS's graph and a context; repeats kept",
            "UniCRS (KDD 2022), process_mask.py: 3,500 rows, 4,740 labels, 6,281 candidates. How its films were linked "
            "is not published; by KGSF's id2entity, else title and year, it is 3,489 and 4,728: no count is asserted",
            _REDIAL,
            distinct=False,
            graph="unicrs",
            candidates="linked",
            aggregate="micro",
        ),
        Protocol(
            "ievalm",
            "merged recommender turns with a film of iEvaLM's graph, after a film, person or genre was named",
            "iEvaLM (EMNLP 2023): 3,341 rows, 4,499 labels, 6,576 candidates, with people and genres linked by an "
            "unpublished method; films and words for genres alone give 3,317 and 4,453, so no count is asserted",
            _REDIAL,
            graph="ievalm",
            entity_before=True,
            candidates="linked",
            aggregate="micro",
        ),
        Protocol(
            "crslab",
            "single recommender messages with a film that KBRD and KGSF link to DBpedia; repeats kept",
            "CRSLab's package of ReDial: 3,477 rows, 4,048 labels. Opening messages, which have no context, are rows "
            "there (3,478 and 4,049 with the 17 of them, by KGSF's links); here they are none, so no count is asserted",
            _REDIAL,
            merge=False,
            distinct=False,
            graph="kgsf",
            candidates="linked",
            aggregate="micro",
        ),
        Protocol(
            "inspired-pecrs",
            "merged recommender turns with a film, on PECRS's release; candidates are all films named in any split",
            "PECRS (EACL 2024), dataset.py; distinct films of a turn instead of one point a mention",
            (("inspired", "pecrs"),),
            aggregate="micro",
            expected=_inspired("pecrs", "test", rows=246, labels=276, points=993, named=279)
            | _inspired("pecrs", "valid", rows=268, labels=301, points=977, named=305),
        ),
        Protocol(
            "inspired-unicrs",
            "recommender turns with a linked film, repeats kept, on UniCRS's release; candidates: recommended films",
            "UniCRS (KDD 2022), process_mask.py of INSPIRED; recommender turns only",
            (("inspired", "unicrs"),),
            distinct=False,
            candidates="recommended",
            aggregate="micro",
            expected=_inspired("unicrs", "test", rows=227, labels=256, candidates=1123)
            | _inspired("unicrs", "valid", rows=245, labels=273, candidates=1123),
        ),
        Protocol(
            "turns",
            "merged recommender turns with an item and a context, on any dataset; every item is a label",
            "crs",
            expected=_inspired("published", "test", rows=264, labels=304)
            | _inspired("published", "valid", rows=282, labels=320),
        ),
        Protocol(
            "turns-new",
            "the same without items that the context names",
            "crs",
            new_only=True,
        ),
    )
}


def protocol_for(name: str | None, corpus: str, form: str) -> Protocol:
    """Look a protocol up; without a name, the first that is made for this corpus and form, else `turns`.

    Raises:
        UsageError: unknown, or not defined on this form of this corpus.
    """
    fits = [p for p in PROTOCOLS.values() if (corpus, form) in p.accepts]
    if name is None:
        return fits[0] if fits else PROTOCOLS["turns"]
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS, "crs protocols lists what there is")
    protocol = PROTOCOLS[name]
    if protocol.accepts and protocol not in fits:
        wanted = " or ".join(f"{c} --form {f}" for c, f in protocol.accepts)
        known = ", ".join(p.name for p in PROTOCOLS.values() if not p.accepts or p in fits)
        raise UsageError(
            f"protocol {name} is not defined on {corpus} in the form {form}",
            f"fetch {wanted}, or use a protocol for this data: {known}",
        )
    return protocol
