"""How a reply's tokens are chosen: the settings of a decoding method and their short text form.

Knows no tensors and no models; `crscli.generation` does what the settings say.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from crscli.errors import UsageError, unknown_name

Method = Literal["greedy", "beam", "diverse-beam", "top-k", "nucleus", "beam-sampling"]

_OWN: dict[str, tuple[str, ...]] = {
    "greedy": (),
    "beam": ("beams",),
    "diverse-beam": ("beams", "groups", "diversity"),
    "top-k": ("k",),
    "nucleus": ("p",),
    "beam-sampling": ("beams", "k"),
}
"""What makes a method what it is: always told. The other settings it uses are told where they are not the default."""


@dataclass(frozen=True)
class Decoding:
    """A decoding method with its settings; those that the method does not use are ignored.

    Args:
        beams: hypotheses a row, over all groups.
        groups: groups of a diverse beam search; divides `beams`.
        diversity: what a diverse beam search takes off a token's log-probability for each earlier choice of it.
        k: how many of the likeliest tokens may be drawn.
        p: the likeliest tokens that together have this probability may be drawn.
        temperature: divides logits before anything is drawn.
        length_penalty: a finished hypothesis scores its log-probability / tokens ** length_penalty.
        max_tokens: the most tokens of a reply.
        no_repeat: n-grams of so many tokens stand only once; 0 for no ban.
        seed: of what is drawn, beside the key of each row.

    Raises:
        ValueError: a setting out of its range, named.
    """

    method: Method = "greedy"
    beams: int = 4
    groups: int = 2
    diversity: float = 1.0
    k: int = 50
    p: float = 0.95
    temperature: float = 1.0
    length_penalty: float = 1.0
    max_tokens: int = 64
    no_repeat: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        wanted = {
            "method": (self.method in _OWN, f"one of {', '.join(_OWN)}"),
            "beams": (self.beams >= 1, "at least 1"),
            "groups": (self.groups >= 1, "at least 1"),
            "diversity": (0 <= self.diversity < math.inf, "at least 0"),
            "k": (self.k >= 1, "at least 1"),
            "p": (0 < self.p <= 1, "above 0 and at most 1"),
            "temperature": (0 < self.temperature < math.inf, "above 0"),
            "length_penalty": (math.isfinite(self.length_penalty), "finite"),
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "no_repeat": (self.no_repeat >= 0, "at least 0"),
            "seed": (0 <= self.seed < 2**64, "at least 0 and below 2**64"),
        }
        for name, (fits, expected) in wanted.items():
            if not fits:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")
        if self.method == "diverse-beam" and self.beams % self.groups:
            raise ValueError(f"groups is {self.groups}, which does not divide beams, {self.beams}")

    @property
    def samples(self) -> bool:
        """Whether replies are drawn at random."""
        return self.method in ("top-k", "nucleus", "beam-sampling")

    @property
    def searches(self) -> bool:
        """Whether several hypotheses of a row are held at a time."""
        return "beams" in _OWN[self.method]

    @property
    def used(self) -> dict[str, int | float]:
        """The settings that the method uses, in the order of their text."""
        general = ["temperature"] * self.samples + ["length_penalty"] * self.searches
        names = [*_OWN[self.method], *general, "max_tokens", "no_repeat", *["seed"] * self.samples]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "nucleus" or "diverse-beam:beams=4,groups=2,diversity=0.5"; what is not said keeps its default.

        Raises:
            UsageError: an unknown method; a setting that the method does not use; a value that does not fit.
        """
        method, _, rest = text.partition(":")
        method = method.strip()
        if method not in _OWN:
            raise unknown_name("decoding", method, _OWN)
        defaults = cls(method).used  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        for pair in rest.split(",") if rest.strip() else ():
            key, equals, value = (part.strip() for part in pair.partition("="))
            if key not in defaults:
                raise unknown_name(f"setting of {method}", key, defaults)
            if not equals or key in values:
                raise UsageError(f"decoding {text!r}: {key} needs one value", f"write {key}={defaults[key]:g} once")
            try:
                values[key] = type(defaults[key])(value)
            except ValueError:
                kind = type(defaults[key]).__name__
                raise UsageError(f"setting {key}: {value!r} is no {kind}", f"write {key}=<{kind}>") from None
        try:
            return cls(method, **values)  # type: ignore[arg-type]
        except ValueError as error:
            raise UsageError(f"decoding {text!r}: {error}", f"the default is {cls(method)}") from None  # type: ignore[arg-type]

    def __str__(self) -> str:
        """The text that `parse` reads back: the method, what makes it, and what else differs from the default."""
        told = [
            f"{name}={value!r}"
            for name, value in self.used.items()
            if name in _OWN[self.method] or value != getattr(Decoding, name)
        ]
        return self.method + (":" + ",".join(told) if told else "")


REFERENCE = Decoding("beam-sampling", beams=2, k=50, temperature=1.15)
"""What the released code of PECRS decodes with."""

# The paper says "4 beams except greedy" of all rows. Four beams with a draw at each would be another method
# (beam-sampling), and the code of these rows was not released: here top-k and nucleus hold one hypothesis.
TABLE_8 = (
    Decoding("greedy"),
    Decoding("beam", beams=4),
    *(Decoding("diverse-beam", beams=4, groups=2, diversity=diversity) for diversity in (0.5, 1.0, 1.5)),
    *(Decoding("top-k", k=k) for k in (25, 50, 75)),
    *(Decoding("nucleus", p=p) for p in (0.90, 0.95, 0.99)),
)
"""The decodings that Table 8 of the PECRS paper compares, in its order."""

assert set(get_args(Method)) == _OWN.keys()
