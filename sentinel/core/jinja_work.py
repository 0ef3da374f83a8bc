"""What operations, filters and methods of Jinja cost, judged before they run."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import pass_context
from jinja2.compiler import has_safe_repr
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import SandboxedFormatter
from jinja2.tests import TESTS
from jinja2.utils import Namespace, _PassArg

# A message of fifty notifications takes some hundreds of steps and ten thousand characters.
MOST_STEPS = 100_000


LONGEST_VALUE = 250_000


_MOST_MADE = 10_000_000


_MOST_LOOKS = 10_000_000


MOST_BITS = 4_096


_MOST_DIGITS = 1_000


DEEPEST = 40


# What an element of a list costs, in characters: some 60 bytes.
_ELEMENT = 8


WORK = "sentinel_work"


_NUMBERS = (int, float)


_TEXTS = (str, bytes)


class TooMuch(SecurityError):
    """A template asks for more than is allowed. The message holds nothing of its values."""


class Work:
    """What one rendering has taken. Each method raises TooMuch where that is more than is allowed."""

    def __init__(self) -> None:
        self._steps = MOST_STEPS
        self._looks = _MOST_LOOKS
        self._made = _MOST_MADE

    def step(self) -> None:
        """One round of a loop, call, filter or operation."""
        self._steps -= 1
        if self._steps < 0:
            raise TooMuch(f"it takes more than {MOST_STEPS:,} steps")

    def look(self, value: Any) -> Any:
        """A value that is about to be compared, searched or copied."""
        elements, characters = _size(value, self._looks)
        self._looks -= elements + characters // 64
        if self._looks < 0:
            raise TooMuch("it looks at too many values")
        return value

    def made(self, value: Any) -> Any:
        """A value that has just been made."""
        if isinstance(value, Iterator):
            return self.over(value)
        _, characters = _size(value, LONGEST_VALUE)
        if not isinstance(value, Mapping | list | tuple):
            self.room(characters)
            return value
        # Its elements are there already; printed or compared, each counts again.
        if characters > _MOST_MADE:
            raise TooMuch("a value has too many characters")
        self.output(len(value) * _ELEMENT)
        return value

    def room(self, characters: int) -> None:
        """Characters that are made now, or that an operation may make."""
        if characters > LONGEST_VALUE:
            raise TooMuch(f"a value gets longer than {LONGEST_VALUE:,} characters")
        self.output(characters)

    def output(self, characters: int) -> None:
        """Characters of the template's own text."""
        self._made -= characters
        if self._made < 0:
            raise TooMuch(f"it makes more than {_MOST_MADE:,} characters")

    def over(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, each of them a step."""
        for each in items:
            self.step()
            yield each

    def folded(self, value: Any) -> Any:
        """The value of a constant expression, as Jinja's compiler would have put it out: as text."""
        return str(self.made(value)) if has_safe_repr(value) else value

    def concat(self, *values: Any) -> str:
        """The `~` of Jinja."""
        for value in values:
            self.made(value)
        return str(self.made("".join(map(str, values))))


def work_of(context: Context) -> Work:
    work = context.parent[WORK]
    assert isinstance(work, Work)
    return work


def _size(value: Any, most: int) -> tuple[int, int]:
    """The elements and characters of a value at any depth, each as often as it stands there.

    Raises TooMuch where there are more than `most` elements, or they are nested too deeply: what
    compares or prints such a value would take long, or end the process.
    """
    elements = characters = 0
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        elements += 1
        if isinstance(each, _TEXTS):
            characters += len(each)
        elif isinstance(each, int):
            characters += each.bit_length() // 3 if each.bit_length() <= MOST_BITS else _too_large()
        elif isinstance(each, range):
            elements += len(each)
        elif isinstance(each, Collection | Namespace) and not isinstance(each, Undefined):
            # What a namespace holds, Jinja shows by its `__repr__` only.
            held = each._Namespace__attrs if isinstance(each, Namespace) else each
            if elements + len(waiting) + len(held) > most:
                raise TooMuch("a value has too many elements")
            if depth >= DEEPEST:
                raise TooMuch("a value is nested too deeply")
            waiting += [(item, depth + 1) for item in held]
            if isinstance(held, Mapping):
                waiting += [(item, depth + 1) for item in held.values()]
        if elements > most:
            raise TooMuch("a value has too many elements")
    return elements, characters


def _too_large() -> int:
    raise TooMuch("a number gets too large")


def _multiplied(work: Work, left: Any, right: Any) -> None:
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        if isinstance(left, int) and isinstance(right, int):
            _bits(left.bit_length() + right.bit_length())
        return
    value, times = (left, right) if hasattr(left, "__len__") else (right, left)
    if hasattr(value, "__len__") and isinstance(times, int):
        work.room(len(value) * max(0, times) * (1 if isinstance(value, _TEXTS) else _ELEMENT))


def _raised(work: Work, left: Any, right: Any) -> None:
    if not (isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS)):
        raise TooMuch("only numbers have a power")
    if isinstance(left, int) and isinstance(right, int):
        _bits(left.bit_length() * abs(right))


def _bits(number: int) -> None:
    if number > MOST_BITS:
        _too_large()


def _percent(work: Work, left: Any, right: Any) -> None:
    if not isinstance(left, _TEXTS):
        return
    text = left if isinstance(left, str) else left.decode("latin-1")
    places = sum(_widths(text))
    elements, characters = _size(right, LONGEST_VALUE)
    times = max(1, places) if isinstance(right, Mapping) else 1
    work.room(len(text) + (characters + elements * _ELEMENT) * times)


def _widths(text: str) -> Iterator[int]:
    """1 for each place of a format such as `%5.2f`, none of which is wider than is allowed."""
    at = text.find("%")
    while at >= 0:
        at += 1
        if text[at : at + 1] == "(":
            depth = 1
            at += 1
            while at < len(text) and depth:
                depth += {"(": 1, ")": -1}.get(text[at], 0)
                at += 1
        spec = _SPEC.match(text, at)
        assert spec is not None
        _width(spec[0])
        yield 1 + int("".join(filter(str.isdecimal, spec[0])) or 0) // _ELEMENT
        at = text.find("%", spec.end() + (text[spec.end() : spec.end() + 1] == "%"))


_SPEC = re.compile(r"[#0\- +*.\dhlL]*")


_DIGITS = re.compile(r"\d+")


def _width(spec: str) -> None:
    if "*" in spec or any(len(run) > 4 or int(run) > _MOST_DIGITS for run in _DIGITS.findall(spec)):
        raise TooMuch(f"a format is wider than {_MOST_DIGITS:,} characters")


BINARY: Mapping[str, Callable[[Work, Any, Any], None]] = {
    "*": _multiplied,
    "**": _raised,
    "%": _percent,
}


class CheckedFormatter(SandboxedFormatter):
    """`str.format` whose fields are bounded, however their width is put together."""

    def __init__(self, env: jinja2.Environment) -> None:
        super().__init__(env)
        self._left = LONGEST_VALUE

    def convert_field(self, value: Any, conversion: Any) -> Any:
        _size(value, self._left)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        _width(format_spec)
        _, characters = _size(value, self._left)
        if characters > self._left:
            raise TooMuch(f"a value gets longer than {LONGEST_VALUE:,} characters")
        field: str = super().format_field(value, format_spec)
        self._left -= len(field)
        if self._left < 0:
            raise TooMuch(f"a value gets longer than {LONGEST_VALUE:,} characters")
        return field


def fits(work: Work, _: Any, *args: Any, **kwargs: Any) -> None:
    """For what makes little more than it is given."""


def _padded(work: Work, _: Any, width: Any = 80, *args: Any, **__: Any) -> None:
    work.room(width if isinstance(width, int) else 0)


def _batched(work: Work, _: Any, linecount: Any = 0, fill_with: Any = None) -> None:
    work.room(linecount * _ELEMENT if isinstance(linecount, int) else 0)


def _formatted(work: Work, value: Any, *args: Any, **kwargs: Any) -> None:
    _percent(work, str(value), kwargs or args)


def _indented(work: Work, value: Any, width: Any = 4, *args: Any, **__: Any) -> None:
    each = len(width) if isinstance(width, str) else int(width)
    work.room(len(str(value)) + each * (str(value).count("\n") + str(value).count("\r") + 1))


def _joined(work: Work, items: Any, d: Any = "", attribute: Any = None) -> None:
    number = len(items) if hasattr(items, "__len__") else 0
    elements, characters = _size(items, LONGEST_VALUE) if attribute is None else (0, 0)
    work.room(characters + elements + number * len(str(d)))


def _replaced(work: Work, value: Any, old: Any = "", new: Any = "", *args: Any, **__: Any) -> None:
    text, old = str(value), str(old)
    work.room(len(text) + (text.count(old) if old else len(text) + 1) * len(str(new)))


def _rounded(work: Work, _: Any, precision: Any = 0, *args: Any, **__: Any) -> None:
    if isinstance(precision, int) and abs(precision) > 100:
        raise TooMuch("a number is rounded to more than 100 digits")


def _summed(work: Work, items: Any, attribute: Any = None, start: Any = 0) -> None:
    if not isinstance(start, _NUMBERS):
        raise TooMuch("only numbers can be summed up")


def _tagged(work: Work, value: Any) -> None:
    if len(str(value)) > 20_000:
        raise TooMuch("a text is too long to take its tags out")


def _jsoned(work: Work, value: Any, indent: Any = None) -> None:
    elements, characters = _size(value, LONGEST_VALUE)
    spaces = len(indent) if isinstance(indent, str) else indent or 0
    if spaces > 16:
        raise TooMuch("JSON is indented by more than 16")
    work.room(characters + elements * (1 + spaces * 4))


def _wrapped(
    work: Work, value: Any, width: Any = 79, break_long_words: Any = True, wrapstring: Any = None,
    *args: Any,
) -> None:  # fmt: skip
    work.room(len(str(value)) * (1 + len(wrapstring or "") // max(1, int(width))) + len(str(value)))


Estimate = Callable[..., None]


_FILTERS: Mapping[str, Estimate] = {
    **dict.fromkeys(
        (
            "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape",
            "filesizeformat", "first", "float", "forceescape", "groupby", "int", "items", "last",
            "length", "list", "lower", "map", "max", "min", "random", "reject", "rejectattr",
            "reverse", "safe", "select", "selectattr", "slice", "sort", "string", "title", "trim",
            "truncate", "unique", "upper", "urlencode", "wordcount", "xmlattr",
        ),
        fits,
    ),
    "batch": _batched,
    "center": _padded,
    "format": _formatted,
    "indent": _indented,
    "join": _joined,
    "replace": _replaced,
    "round": _rounded,
    "striptags": _tagged,
    "sum": _summed,
    "tojson": _jsoned,
    "wordwrap": _wrapped,
}  # fmt: skip


# What takes the whole of an iterator anyway, and is judged by its length.
_WHOLE = frozenset({"batch", "join", "slice", "sum", "tojson"})


def _str_join(work: Work, sep: str, items: Any = ()) -> None:
    _joined(work, items, sep)


METHODS: Mapping[type, Mapping[str, Estimate]] = {
    str: {
        **dict.fromkeys(
            (
                "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
                "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
                "isprintable", "isspace", "istitle", "isupper", "lower", "lstrip", "partition",
                "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip",
                "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
            ),
            fits,
        ),
        "center": _padded, "ljust": _padded, "rjust": _padded, "zfill": _padded,
        "join": _str_join,
        "replace": _replaced,
    },
    int: dict.fromkeys(("bit_length",), fits),
    float: dict.fromkeys(("is_integer",), fits),
    dict: dict.fromkeys(
        ("clear", "copy", "get", "items", "keys", "pop", "setdefault", "update", "values"), fits
    ),
    list: dict.fromkeys(
        ("append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove",
         "reverse"),
        fits,
    ),
    tuple: dict.fromkeys(("count", "index"), fits),
}  # fmt: skip


def checked(function: Callable[..., Any], estimate: Estimate, *, whole: bool) -> Any:
    """A filter or test, counted and judged. It takes the context, so that nothing is worked out
    while the template is compiled, where nothing is counted."""
    wanted = _PassArg.from_obj(function)

    @pass_context
    def bounded(context: Context, /, *given: Any, **kwargs: Any) -> Any:
        work = work_of(context)
        work.step()
        value, *args = given or (None,)
        if whole and isinstance(value, Iterator):
            value = work.made(list(value))
        for each in (value, *args, *kwargs.values()):
            if not isinstance(each, Iterator):
                work.look(each)
        estimate(work, value, *args, **kwargs)
        first: tuple[Any, ...] = ()
        if wanted is _PassArg.context:
            first = (context,)
        elif wanted is _PassArg.eval_context:
            first = (context.eval_ctx,)
        elif wanted is _PassArg.environment:
            first = (context.environment,)
        return work.made(function(*first, value, *args, **kwargs))

    return bounded


BOUNDED_FILTERS = {
    name: checked(FILTERS[name], estimate, whole=name in _WHOLE)
    for name, estimate in _FILTERS.items()
}


_TESTS: Mapping[str, Any] = TESTS


BOUNDED_TESTS = {name: checked(test, fits, whole=False) for name, test in _TESTS.items()}
