"""Whether what models that speak present as a recommendation is in the catalogue and in their ranking.

Run by hand: python tests/benchmarks/truth.py --workspace DIR --dataset sample --model pecrs-tiny --model kbrd ...
Holds dialogues of five turns in the models' own words and prints, of all replies: how many present items, how many of
these items are in the ranking that the model was given, and how many replies name a film of the catalogue in their text
that is neither presented nor was spoken of before.
"""

import argparse
import json
from pathlib import Path

from chat import lines

from crscli.names import key
from crscli.session import Host, Session
from crscli.steps._talking import Opener
from crscli.workspace import Workspace


def heard(host: Host, turns: int) -> dict[str, float]:
    """Figures of one model."""
    given: list[set[int]] = []
    spoken = host.spoken

    def noted(context, item_nums):
        given.append(set(item_nums))
        return spoken(context, item_nums)

    host.spoken = noted  # type: ignore[method-assign]
    counts = {"replies": 0, "with_items": 0, "items": 0, "in_ranking": 0, "other_titles": 0}
    titles = {key(item.title): item.item_id for item in host.catalogue if key(item.title).count(" ")}
    for num, line in enumerate(lines(host.catalogue, turns, seed=1)):
        if num % 5 == 0:
            session = Session(host)
        before = len(given)
        reply = session.say(line)
        if len(given) == before:
            continue  # a fact, a greeting: the realiser's words
        counts["replies"] += 1
        counts["with_items"] += bool(reply.items)
        counts["items"] += len(reply.items)
        counts["in_ranking"] += sum(host.catalogue.vocabulary.num(i.item_id) in given[-1] for i in reply.items)
        known = {i.item_id for i in reply.items} | {i for turn in session.memory.turns for i in turn.items}
        text = f" {key(reply.text)} "
        named = {item_id for title, item_id in titles.items() if f" {title} " in text} - known
        allowed = {key(host.catalogue.item(i).title) for i in known if i in host.catalogue}
        counts["other_titles"] += any(key(host.catalogue.item(i).title) not in " ".join(allowed) for i in named)
    return counts


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--turns", type=int, default=400)
    asked = parser.parse_args()
    opener = Opener(Workspace(asked.workspace))
    found = {name: heard(opener.open(asked.dataset, name), asked.turns) for name in asked.model}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
