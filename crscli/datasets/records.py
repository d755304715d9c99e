"""Rows of the text formats that datasets come in. Knows no dataset."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from crscli.datasets.archive import MAX_LINE, shown
from crscli.datasets.source import Source, text_of
from crscli.errors import DataError

_JSON_KINDS = {
    dict: "a JSON object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _number(text: str) -> float:
    value = float(text)
    if value - value != 0.0:  # infinite, or not a number
        raise ValueError(f"{shown(text, 20)} is no finite number")
    return value


def _parse_row(text: str, place: str, number: int, want: type[dict] | type[list]) -> Any:
    """One JSON value; of duplicate keys are allowed, the last one counts."""

    def bad(message: str, at: int = 0) -> DataError:
        excerpt = shown(text[max(0, at - 30) : at + 30])
        return DataError(f"{message}: {excerpt!r}", path=place, line=number)

    try:
        row = json.loads(text, parse_constant=_number, parse_float=_number)
        if "\\ud" in text.lower():  # half of a surrogate pair cannot be written anywhere again
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            if text.strip() in ("[", "{"):
                raise bad("one JSON object a line was expected, found a document over several lines") from error
            raise bad(
                f"cut in the middle: the line ends at column {len(text)} before its JSON does", len(text)
            ) from error
        raise bad(f"not JSON: {error.msg} at column {error.pos + 1}", error.pos) from error
    except UnicodeEncodeError as error:
        raise bad("half a surrogate pair (\\ud8xx without its partner)", text.lower().index("\\ud")) from error
    except RecursionError as error:
        raise bad("nested too deeply") from error
    except ValueError as error:  # not a finite number, or one of thousands of digits
        raise bad(f"not JSON: {shown(str(error), 80)}") from error
    if not isinstance(row, want):
        raise bad(f"{_JSON_KINDS[want]} was expected, found {_JSON_KINDS[type(row)]}")
    return row


@dataclass
class BadRows:
    """Counts the rows that are left out, and ends the reading when they are too many.

    Args:
        limit: how many rows may be bad.
        report: told of each one that is left out.
    """

    limit: int = 0
    report: Callable[[DataError], None] = lambda _: None
    count: int = 0

    def refuse(self, error: DataError) -> None:
        """Leave the row out, or raise its error if the limit is reached."""
        self.count += 1
        if self.count > self.limit:
            if self.limit:
                error.hint = f"more than {self.limit} bad rows: mend the file, or allow more with --max-bad-rows"
            else:
                error.hint = f"{error.hint or 'mend the line'}, or skip it with --max-bad-rows 1"
            raise error
        self.report(error)


def read_json_lines(
    source: Source, name: str, bad: BadRows | None = None, *, want: type[dict] | type[list] = dict
) -> Iterator[tuple[int, Any]]:
    """The values of a JSON Lines file with their line numbers; blank lines are passed over.

    Args:
        source: where the file is.
        name: the file.
        bad: what to do with rows that are not UTF-8, not JSON, of another type, or hold NaN; by default the first
            one ends the reading.
        want: the type of each value.

    Raises:
        DataError: one bad row too many, no row at all, or what `Source.raw_lines` raises.
    """
    bad = bad or BadRows()
    place, good = source.place(name), 0
    for number, offset, raw in source.raw_lines(name):
        try:
            text = text_of(raw, place, number, offset)
            if not text.strip():
                continue
            row = _parse_row(text, place, number, want)
        except DataError as error:
            bad.refuse(error)
            continue
        good += 1
        yield number, row
    if not good:
        raise DataError(f"no row in it ({bad.count} bad ones)", "is this the right file?", path=place)


def read_csv(
    source: Source,
    name: str,
    bad: BadRows | None = None,
    *,
    required: Sequence[str],
    delimiter: str = ",",
    quoted: bool = True,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with a header line, every value as the text it is ("None", "NA" and "300" are titles).

    Args:
        source: holds the file.
        name: of the file.
        bad: what to do with rows of another number of values; by default the first one ends the reading.
        required: columns that must be there.
        delimiter: between the values of a row.
        quoted: whether quotation marks enclose values.

    Yields:
        The line number on which a row ends, and the row.

    Raises:
        DataError: no header, a missing column, or a row with another number of values.
    """
    bad = bad or BadRows()
    place = source.place(name)
    csv.field_size_limit(MAX_LINE)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    lines = (text + "\n" for _, text in source.lines(name))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=quoted)
    try:
        header = next(reader, [])
        absent = [column for column in required if column not in header]
        if absent or not header:
            raise DataError(
                f"no column {', '.join(map(repr, absent))}; found {', '.join(header[:12])}",
                "the first line must name the columns",
                path=place,
                line=1,
            )
        twice = [column for column in required if header.count(column) > 1]
        if twice:
            raise DataError(f"column {twice[0]!r} is there {header.count(twice[0])} times", path=place, line=1)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                wrong = f"{len(header)} values expected, found {len(row)}"
                bad.refuse(DataError(wrong, path=place, line=reader.line_num))
                continue
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(
            f"not a table: {error}", "check the quotation marks", path=place, line=reader.line_num
        ) from None
