"""Languages of films: the codes that catalogues have, and the words that people use for them.

Knows how a language is said, not whether it is wanted (`wishes`).
"""

import re

LANGUAGES: dict[str, tuple[str, ...]] = {
    "en": ("English",),
    "ar": ("Arabic", "Arab", "Egyptian", "Lebanese"),
    "cs": ("Czech",),
    "da": ("Danish",),
    "de": ("German", "Austrian"),
    "el": ("Greek",),
    "es": ("Spanish", "Mexican", "Argentinian", "Argentine"),
    "fa": ("Persian", "Farsi", "Iranian"),
    "fi": ("Finnish",),
    "fr": ("French",),
    "he": ("Hebrew", "Israeli"),
    "hi": ("Hindi", "Bollywood"),
    "hu": ("Hungarian",),
    "it": ("Italian",),
    "ja": ("Japanese",),
    "ko": ("Korean",),
    "nl": ("Dutch",),
    "no": ("Norwegian",),
    "pl": ("Polish",),
    "pt": ("Portuguese", "Brazilian"),
    "ro": ("Romanian",),
    "ru": ("Russian",),
    "sv": ("Swedish",),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "th": ("Thai",),
    "tr": ("Turkish",),
    "vi": ("Vietnamese",),
    "zh": ("Chinese", "Mandarin", "Cantonese", "Taiwanese"),
}
"""ISO 639-1 code -> what it is called, its own name first."""

FOREIGN = "foreign"
"""In place of a code: any language but English."""

_CODES = {name.lower(): code for code, names in LANGUAGES.items() for name in names}
_ALSO = {"cn": "zh", "nb": "no", "nn": "no", "iw": "he"}
"""Codes that TMDB has for some."""

_COUNTRIES = {
    "japan": "ja", "france": "fr", "germany": "de", "italy": "it", "spain": "es", "mexico": "es", "korea": "ko",
    "south korea": "ko", "china": "zh", "hong kong": "zh", "india": "hi", "iran": "fa", "russia": "ru", "sweden": "sv",
    "denmark": "da", "norway": "no", "poland": "pl", "turkey": "tr", "brazil": "pt", "thailand": "th",
}  # fmt: skip
SAID = re.compile(rf"\b(?:{'|'.join(_CODES)}|(?<=from )(?:{'|'.join(_COUNTRIES)}))\b", re.I)
"""A word for a language, or for where a film is from."""


def code_of(word: str) -> str:
    """The code of a word that `SAID` found."""
    return _CODES.get(word.lower()) or _COUNTRIES[word.lower()]


def canonical(code: str) -> str:
    """One code for each language: TMDB's "cn" is "zh"; a name ("French") becomes its code."""
    plain = code.strip().lower()
    return _ALSO.get(plain, _CODES.get(plain, plain))


def name_of(code: str) -> str:
    """What a language is called; an unknown code in capitals."""
    names = LANGUAGES.get(canonical(code))
    return names[0] if names else code.upper()
