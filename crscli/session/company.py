"""Who is watching: children, the whole family, or grown-ups alone."""

import re

from crscli.dialogue import Turn
from crscli.wishes import Wish, masked

_AGE = r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[2-9]|1[0-2])"
_CHILD = (
    r"(?:sons?|daughters?|nieces?|nephews?|grandsons?|granddaughters?|grandkids?|grandchild(?:ren)?|toddlers?|kids?|kiddos?|"
    r"child(?:ren)?|(?:little|wee)\s+(?:boy|girl|brother|sister|cousin|one)s?|twins|youngsters?|tots?|littl'?uns?)"
)
_WITH_CHILDREN = re.compile(
    rf"\b(?:my|our|his|her|their|the)\s+(?:(?:little|young|younger|small|two|three|four|\d+)\s+)*{_CHILD}\b|"
    rf"\b(?:she|he)(?:['’]?s|\s+is)\s+(?:only\s+|just\s+)?{_AGE}(?:\s+(?:years?|yrs?)\b|\s*(?:[.,!?]|and\b|$))|"
    rf"\bi(?:['’]?m|\s+am)\s+(?:only\s+)?{_AGE}(?:\s+(?:years?|yrs?)\b|\s*(?:[.!?]|and\b|$))|\b(?:has|have)\s+{_AGE}\s+years\b|"
    rf"\b(?:girls?|boys?|kids?|children|twins|ones)\s+(?:are|is|aged|being)\s+{_AGE}\b|\baged?s?\s+(?:[2-9]|1[0-2])\b|"
    r"\b(?:[2-9]|1[0-2])[\s-]*(?:yr|y(?:ea)?rs?|yo)[\s-]*olds?\b|"
    rf"\b{_AGE}[\s-]years?[\s-]olds?\b|"
    rf"\b(?:kids|children|{_CHILD})\s+(?:are|is|will\s+be|can|could|want|should)\s+(?:\w+\s+)?(?:watch\w*|here|"
    r"join\w*|with\s+us|over|around|up|see|enjoy)\b|"
    r"\b(?:whole|entire)\s+family\b|\ball\s+(?:ages|the\s+family)\b|\bfamily\s+(?:movie\s+|film\s+)?(?:night|evening)\b|"
    r"\bkid[ -]?(?:safe|appropriate|proof)\b|\b(?:suitable|appropriate|"
    r"safe|okay|ok|fit|right)\s+for\s+(?:\w+\s+)?(?:kids|children)\b",
    re.I,
)
_ELSEWHERE = re.compile(
    r"\b(?:asleep|sleeping|beds?|away|out\b(?!\s+of)|gone|grown|left|school|camp|grandma'?s|grandparents'?|no\s+kids|without|"
    r"put\s+me|told\s+me|showed|recommended|picks?|chose|says?|not\s+for|(?:isn|aren|won|don|doesn)['’]?t|(?:will|is|are|does|do)\s+not)\b",
    re.I,
)
_GROWN_UP = re.compile(
    r"\bfor\s+(?:adults|grown[ -]?ups)\b|\b(?:adults?|grown[ -]?ups?)[ -]only\b|"
    r"\bgrown[ -]?up\s+(?:stuff|films?|movies?|ones?|things?)\b|"
    r"\bmore\s+(?:grown[ -]?up|adult|mature)\b|"
    r"\bnot\s+(?:\w+\s+)?(?:for\s+(?:kids|children)|childish|kiddie|a\s+kids?['’]?s?\s+\w+)|"
    r"\btoo\s+(?:childish|kiddie|babyish|juvenile)\b",
    re.I,
)
_SENTENCE = re.compile(r"[^.!?;,\n]+")


def company(turn: Turn, number: int) -> list[Wish]:
    """The audience that a seeker's turn speaks of, at most one; children who are asleep or away are none.

    Args:
        turn: the message, with its links.
        number: of the turn in the dialogue.
    """
    text = masked(turn)
    for sentence in _SENTENCE.finditer(text):
        for pattern, wanted in ((_GROWN_UP, False), (_WITH_CHILDREN, True)):
            found = pattern.search(sentence.group())
            if found and not (wanted and _ELSEWHERE.search(sentence.group())):
                start = sentence.start()
                return [Wish("audience", "kids", wanted, True, number, start + found.start(), start + found.end())]
    return []
