"""Write the bundled sample dialogues: `python -m crscli.datasets.sample.generate`.

Each seeker has a hidden taste (genres or a person, perhaps a time, something unwanted) and a circle of films that
people of that taste name most. All that is said follows from them, so a model can learn what to recommend.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crscli.datasets.sample import HERE, Filler, Film, GenreWords, Grammar, Piece, load_films, load_wording
from crscli.datasets.sample.talk import Dry, Said, Talk, World

SEED = 20240
DIALOGUES = 480
_IT = ["it", "that", "that one", "this one"]
_SEEN = {
    "liked": ("s_seen_liked", "r_ack_seen"),
    "disliked": ("s_seen_disliked", "r_ack_disliked"),
    "seen": ("s_seen", "r_ack_refusal"),
}
_GENTLE = {"comedy", "family", "animation", "romance", "musical", "music", "sport"}
_GRIM = {"horror", "thriller", "war", "crime"}
_QUESTIONS: list[tuple[str, str, Callable[[Film], str]]] = [
    ("s_ask_director", "r_tell_director", lambda f: f.directors[0]),
    ("s_ask_plot", "r_tell_plot", lambda f: f.plot[1:20]),
    ("s_ask_year", "r_tell_year", lambda f: str(f.year)),
    ("s_ask_cast", "r_tell_cast", lambda f: f.cast[0] if f.cast else ""),
]


class Script(Talk):
    """The course of a dialogue: greeting, wishes, questions, recommendations, goodbye."""

    def play(self) -> list[dict[str, Any]]:
        """Make the dialogue."""
        self.grammar.start()
        self.open()
        asked = {"company"} if "occasion" in self.known else set()
        while not self.known & {"genre", "person", "films"} or (
            len(self.turns) + 5 < self.target and self.rng.random() < 0.5
        ):
            self.ask(asked)
        more = False
        while len(self.turns) + 5 < self.target:
            more = self.recommend(last=False, more=more)
        self.recommend(last=True, more=more)
        self.close()
        return self.turns

    def open(self) -> None:
        """Greet, perhaps talk a little, and let the seeker ask."""
        rng = self.rng
        how = rng.random() < 0.35
        if rng.random() < 0.5:
            offer: list[Said] = [("r_offer", {})] if rng.random() < (0.3 if how else 0.75) else []
            self.say("recommender", ("r_greet_how" if how else "r_hello", {}), *offer, warm=True)
            if not how:
                self.request([("s_hello", {})] if rng.random() < 0.5 or not offer else [])
                return
            low = rng.random() < 0.35
            mood: Said = ("s_low" if low else "s_fine", {})
            if offer or rng.random() < 0.4:
                self.request([mood])
                back: list[Said] = [("r_sympathy" if low else "r_pleased", {})]
            else:
                back = [("r_sympathy" if low else "r_pleased", {})]
                asks = self.say("seeker", mood, warm=True).rstrip(" :)=D").endswith(("you?", "self?", " u?"))
                self.say("recommender", ("r_fine", {}) if asks else back[0], ("r_offer", {}))
                self.request([])
                return
            asks = re.search(r"\b(you|u|yourself)\?", self.turns[-1]["text"]) is not None
            self.lead = [("r_fine", {})] if asks else back
        elif rng.random() < 0.65:
            self.request([("s_greet_how" if how else "s_hello", {})])
            self.lead = [("r_hello", {}), ("r_fine", {})] if how else [(rng.choice(["r_hello", "r_ack"]), {})]
        else:
            self.say("seeker", ("s_greet_how" if how else "s_hello", {}), warm=True)
            self.say("recommender", ("r_hello", {}), *([("r_fine", {})] if how else []), ("r_offer", {}), warm=True)
            self.request([])

    def request(self, start: list[Said]) -> None:
        """The seeker says what he wants, or part of it."""
        taste, rng, acts = self.taste, self.rng, start
        self.lead = []
        if taste.occasion and (rng.random() < 0.65 or taste.occasion == "kids"):
            acts = [*acts, ("s_occasion", {})]
            self.known.add("occasion")
        first = rng.random()
        if taste.person:
            acts = [*acts, self._want_person()]
        elif first < 0.14:
            acts = [*acts, ("s_request", {})]
        elif first < 0.32:
            acts = [*acts, *self._like()]
        else:
            acts = [*acts, *self._want()]
            if not self.terse and rng.random() < 0.25:
                acts = [*acts, *self._like()]
        if not self.terse and rng.random() < 0.3:
            acts = [*acts, *self._constraint(("unwanted", "era"))]
        self.say("seeker", *acts, warm=True)

    def _want_person(self) -> Said:
        self.known.add("person")
        directs = sum(self.taste.person in f.directors for f in self.taste.circle) * 2 > len(self.taste.circle)
        return ("s_director" if directs else "s_person", {})

    def _want(self, short: bool = False) -> list[Said]:
        rng, taste = self.rng, self.taste
        self.known |= {"genre"} | ({"genre1"} if rng.random() < 0.7 else set())
        if short or (self.terse and rng.random() < 0.7):
            return [("s_want_short", {})]
        if taste.era and rng.random() < 0.35:
            self.known.add("era")
            return [("s_want_tail", {"tail": lambda: [Piece(" "), *self._era()]})]
        anchor = self.likable() if rng.random() < 0.12 else None
        if anchor:
            self.name(anchor, liked=True)
            typed = self.film("seeker", anchor)
            return [("s_want_tail", {"tail": lambda: [Piece(" like "), *typed()]})]
        acts: list[Said] = [("s_want", {})]
        if rng.random() < 0.05:
            wrong = rng.choice(sorted({*self.wording["genres"]} - {*taste.genres}))
            acts = [("s_want", {f"genre_{f}": self.genre([wrong], f) for f in ("one", "many", "bare")})]
            acts.append(("s_meant_genre", {"wrong_one": self.genre([wrong], "one")}))
        return acts

    def _like(self, short: bool = False) -> list[Said]:
        rng = self.rng
        chosen: list[Film] = []
        for _ in range(rng.choice([1, 1, 2, 2, 3])):
            if film := self.likable():
                self.name(film, liked=True)
                chosen.append(film)
        if not chosen:
            return [("s_nopref", {})]
        if len(chosen) == 1 and rng.random() < 0.12 and (wrong := self.other()):
            self.name(wrong)
            fill = {"film": self.film("seeker", chosen[0], "liked"), "wrong": self.film("seeker", wrong)}
            return [("s_meant_film", fill)]
        act = "s_like_short" if short or self.terse else "s_like_one" if len(chosen) == 1 else "s_like_many"
        return [(act, {"films": self.films("seeker", chosen, "liked")})]

    def _constraint(self, facets: Sequence[str]) -> list[Said]:
        for facet in facets:
            if facet not in self.known and getattr(self.taste, facet):
                self.known.add(facet)
                newer = self.taste.era in ("newer", "recent") and self.rng.random() < 0.5
                return [("s_newer" if facet == "era" and newer else f"s_{facet}", {})]
        return []

    def ask(self, asked: set[str]) -> None:
        """The recommender asks something and the seeker answers."""
        rng, taste, must = self.rng, self.taste, not self.known & {"genre", "person", "films"}
        topics = ["genre", "films"] if must else ["films", "era", "avoid", "person", "company"]
        if "genre" not in self.known and not taste.person:
            topics.append("genre")
        topics = [t for t in topics if t not in asked | self.known]
        topics = [t for t in topics if t != "avoid" or "unwanted" not in self.known]
        topic = rng.choice(topics or ["avoid"])
        asked.add(topic)
        self.say("recommender", *self._acks(), (f"r_ask_{topic}", {}))
        self.lead = []
        short = self.terse or rng.random() < 0.35
        acts: list[Said] = []
        if topic == "genre":
            acts = self._want(short)
        elif topic == "films":
            acts = self._like(short)
        elif topic == "era":
            acts = self._constraint(["era"]) or [("s_era_any", {})]
        elif topic == "person":
            acts = [self._want_person()] if taste.person else [("s_person_any", {})]
        elif topic == "company":
            said = taste.occasion and taste.occasion not in ("rain", "evening")
            self.known |= {"occasion"} if said else set()
            acts = [("s_occasion_answer" if said else "s_alone", {})]
        else:
            acts = self._constraint(["unwanted"])
            if not acts and rng.random() < 0.6 and (bad := self.other()):
                self.name(bad)
                acts = [("s_dislike", {"film": self.film("seeker", bad, "disliked")})]
            acts = acts or [("s_avoid_none", {})]
        self.say("seeker", *acts, warm=topic in ("genre", "films"))

    def _acks(self) -> list[Said]:
        """How the recommender takes up what the seeker said last."""
        if self.lead:
            return self.lead
        items = [k for k in self.turns[-1].get("links", []) if k.get("opinion") == "liked"]
        genres = [k for k in self.turns[-1].get("links", []) if k["kind"] == "genre"]
        if items and self.rng.random() < 0.6:
            return [("r_ack_film" if len(items) == 1 else "r_ack_films", self.of_liked())]
        if genres and "genre" in self.known and self.rng.random() < 0.3:
            return [("r_ack_genre", {})]
        return [("r_ack", {})] if self.rng.random() < 0.45 else []

    def recommend(self, last: bool, more: bool) -> bool:
        """The recommender names a film, the seeker answers; true if he took it and wants one more."""
        film, why = self._choose(last)
        two = why in ("accept", "more", "seen") and self.rng.random() < 0.2
        other = self.right() if two else None
        lead = [] if more else self._acks()
        self.name(film)
        if other and other != film:
            self.name(other)
            if self.rng.random() < 0.5:
                film, other = other, film
            pair = {"film": self.film("recommender", film), "other": self.film("recommender", other)}
            self.say("recommender", *lead, *self._unasked([("r_rec_two", pair)], "r_tag_two"))
            return self._answer_two(film, other, last)
        self.say("recommender", *lead, *self._pitch(film, more))
        self.known.add("pitched")
        if len(self.turns) + (4 if last else 7) <= self.target + 1 and self.rng.random() < 0.5:
            self._question(film, seen=why in _SEEN)
        return self._answer(film, why)

    def _choose(self, last: bool) -> tuple[Film, str]:
        """The film to name and what the seeker will say of it."""
        rng, taste = self.rng, self.taste
        right = self.right()
        unsaid = {"genre1", "era", "unwanted", "hated"} - self.known
        if taste.genres[1:] and taste.genres[1] not in self.wording["words"]["lacked"]:
            unsaid.discard("genre1")
        new = [f for f in self.world.films if f not in self.named]
        faults = {f: v for f in new if len(v := self.faults[f]) == 1 and v <= unsaid}
        faults = {f: v for f, v in faults.items() if v != {"era"} or abs(f.year - taste.years[0]) > 8}
        plans = ["more", "more", "liked", "liked", "seen", "seen", "disliked", "mood"] + ["fault"] * 6
        plan = "accept" if last else rng.choice(plans)
        if plan == "fault" and (bad := self.world.pick(faults, taste.circle, rng)):
            return bad, next(iter(faults[bad]))
        if plan in ("mood", "disliked"):
            strange = [f for f in new if f not in taste.circle and not self.faults[f]]
            right = self.world.pick(strange, [], rng) or right
        if right is None:
            raise Dry
        return right, "seen" if plan == "fault" else plan

    def _unasked(self, acts: list[Said], tag: str) -> list[Said]:
        return [*acts, (tag, {})] if self.rng.random() < 0.3 else acts

    def _pitch(self, film: Film, more: bool) -> list[Said]:
        rng, facts = self.rng, self.facts(film)
        act = "r_rec_more" if more else "r_rec"
        if not more and self.liked and rng.random() < 0.1:
            act, facts = "r_rec_liked", facts | self.of_liked()
        elif "pitched" in self.known and not more and rng.random() < 0.35:
            act = "r_rec_again"
        dated = ["fits" if "era" in self.known else "year"] if self.typists["recommender"].style.year < 0.4 else []
        reasons = ["genre", "director", "plot", "plot", "praise", *dated, *(["cast"] if film.cast else [])]
        chosen = [f"r_why_{w}" for w in rng.sample(sorted(set(reasons)), rng.choice([0, 1, 1, 1, 2]))]
        if self.taste.person and rng.random() < 0.3:
            chosen = ["r_why_person" if self.taste.person in film.cast else "r_why_director"]
        return self._unasked([(a, facts) for a in (act, *chosen)], "r_tag")

    def _question(self, film: Film, seen: bool) -> None:
        """The seeker asks about a film and the recommender answers."""
        rng, facts, genres = self.rng, self.facts(film), {*film.genres}
        known = self.turns[-1]["text"].lower()
        options = [(a, t) for a, t, said in _QUESTIONS if not seen and said(film).lower() not in known]
        if leads := [n for n in film.cast[:2] if n.lower() not in known and n != self.taste.person]:
            options.append(("s_ask_in", "r_tell_yes"))
            facts["person"] = self._people("seeker", [rng.choice(leads)])
        if seen and not options:
            return
        timid = self.taste.unwanted == "horror" and genres & _GENTLE and not genres & _GRIM
        if self.taste.occasion == "kids" and not seen:
            options += [("s_ask_kids", "r_tell_kids")] * 4
        elif not seen and ("horror" in genres or timid):
            options.append(("s_ask_scary", "r_tell_scary" if "horror" in genres else "r_tell_not_scary"))
        ask, tell = rng.choice(options)
        self.say("seeker", (ask, facts | {"film": self.film("seeker", film)}))
        self.say("recommender", (tell, facts), *([("r_why_praise", {})] if rng.random() < 0.25 else []))

    def _answer_two(self, film: Film, other: Film, last: bool) -> bool:
        self.taken = other
        opinion = "seen" if self.rng.random() < 0.6 else ""
        pair = {"film": self.film("seeker", film, opinion), "other": self.film("seeker", other)}
        acts: list[Said] = [("s_two_pick", pair)]
        if opinion:
            pick: dict[str, Filler] = {"it": lambda: [Piece("that one")], "film": pair["other"]}
            acts = [("s_two_one_seen", pair), *([] if self.terse else [("s_accept", pick)])]
        return self._taken(acts, last)

    def _taken(self, acts: list[Said], last: bool) -> bool:
        if not last:
            acts.append(("s_more", {}))
        elif self.rng.random() < 0.5:
            acts.append(("s_thanks", {}))
            self.known.add("thanked")
        self.say("seeker", *acts, warm=True)
        self.lead = []
        return not last

    def _answer(self, film: Film, why: str) -> bool:
        """The seeker takes the film or says why not."""
        rng, typed = self.rng, self.film("seeker", film)
        fill: dict[str, Filler] = {"film": typed, "year": [Piece(str(film.year))]}
        if why in ("accept", "more"):
            fill["it"] = lambda: typed() if rng.random() < 0.2 else [Piece(rng.choice(_IT))]
            self.taken = film
            return self._taken([("s_accept_short" if self.terse else "s_accept", fill)], why == "accept")
        acts: list[Said]
        if why in ("liked", "disliked", "seen"):
            act, back = _SEEN[why]
            acts = [(act, fill | {"film": self.film("seeker", film, why)})]
            self.lead = [(back, {})]
            self.liked += [film] if why == "liked" else []
        else:
            acts = self._fault(film, why, fill)
            self.lead = [("r_ack_refusal", {})]
        if not self.terse and len(acts) < 2 and rng.random() < 0.3:
            acts += self._constraint(["unwanted", "era"])
        self.lead = self.lead if rng.random() < 0.75 else []
        self.say("seeker", *acts)
        return False

    def _fault(self, film: Film, why: str, fill: dict[str, Filler]) -> list[Said]:
        taste = self.taste
        self.known.add(why)
        if why == "era":
            late = film.year > taste.years[1]
            act = "s_wrong_decade" if taste.era.isdigit() else "s_too_new" if late else "s_too_old"
            return [(act, fill), ("s_era", {})]
        if why == "unwanted":
            words = {f"wrong_{form}": self.genre([taste.unwanted], form) for form in ("one", "many", "mass")}
            return [("s_not_genre", fill | words)]
        if why == "genre1":
            return [("s_need_genre", fill | {"missing_mass": self.genre([taste.genres[1]], "mass")})]
        if why == "hated":
            return [("s_not_person", fill | {"person": self._people("seeker", [taste.hated])})]
        return [("s_not_mood", fill)]

    def close(self) -> None:
        """Thanks and goodbyes."""
        rng = self.rng
        glad: Said = ("r_glad", {})
        if self.taken and rng.random() < 0.12:
            glad = ("r_enjoy_named", {"film": self.film("recommender", self.taken)})
        if len(self.turns) < self.target - 2 and rng.random() < 0.5:
            self.say("recommender", glad, ("r_ask_done", {}), warm=True)
            self.say("seeker", ("s_done", {}), warm=True)
            self.say("recommender", ("r_bye", {}), warm=True)
            return
        bye = rng.random() < 0.4
        self.say("recommender", glad, *([("r_bye", {})] if bye else []), warm=True)
        if "thanked" in self.known and not bye and rng.random() < 0.5:
            return
        thanks: list[Said] = [] if "thanked" in self.known else [("s_thanks", {})]
        self.say("seeker", *thanks, *([("s_bye", {})] if rng.random() < 0.5 or not thanks else []), warm=True)


def dialogues(seed: int = SEED, count: int = DIALOGUES) -> Iterator[dict[str, Any]]:
    """Make all dialogues; six of eight are for training, one each for validation and test."""
    rng = random.Random(seed)
    wording = load_wording()
    world = World(load_films(HERE / "items.jsonl"), rng)
    grammar = Grammar(wording["seeker"] | wording["recommender"], rng)
    words = GenreWords(wording["genres"], rng)
    number = 0
    while number < count:
        try:
            turns = Script(world, wording, grammar, words, rng).play()
        except Dry:
            continue
        if 6 <= len(turns) <= 16:
            split = {6: "valid", 7: "test"}.get(number % 8, "train")
            number += 1
            yield {"dialogue_id": f"sample-{number:04}", "split": split, "turns": turns}


def main() -> None:
    """Rewrite `dialogues.jsonl`."""
    with (HERE / "dialogues.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for dialogue in dialogues():
            file.write(json.dumps(dialogue, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
