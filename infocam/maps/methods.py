"""Methods and classes by the names that users type."""

import difflib

from infocam.names import ALL_METHODS, CONTRASTS, GRADIENT_METHODS
from mi_common.annotation_lines import brief, whole_number
from mi_common.errors import UserError

MAX_LOWEST = 10**9  # of lowest:N; any N above the number of the other classes means all of them
MAX_LISTED = 5  # classes that an error lists


def parse_methods(texts: list[str], class_names: list[str] | None = None) -> list[str]:
    """The canonical names of methods, each once; see `parse_method`."""
    return list(dict.fromkeys(parse_method(text, class_names) for text in texts))


def parse_method(text: str, class_names: list[str] | None = None) -> str:
    """The canonical name of a method; `class:NAME` becomes `class:NUMBER`.

    `text` is a name of `CONTRASTS` or `GRADIENT_METHODS`, lowest:N or class:NAME. Without
    `class_names` to look NAME up in, `class:NAME` is returned as it is.

    UserError for an unknown method, a count below one, or a NAME that `class_number` refuses.
    """
    kind, _, argument = text.partition(":")
    if text in (*CONTRASTS, *GRADIENT_METHODS):
        return text
    if kind == "lowest" and (count := whole_number(argument, 1, MAX_LOWEST)):
        return f"lowest:{count}"
    if kind != "class" or not argument:
        raise UserError(f"method '{brief(text)}': use one of {ALL_METHODS}")
    if class_names is None:
        return text
    return f"class:{class_number(argument, class_names, '--methods class')}"


def class_number(text: str, class_names: list[str], flag: str) -> int:
    """The class that a text means: its name, its number, or the only name that contains it.

    An exact match is preferred to one that differs only in case, and a name to a number.
    No class or several are a UserError that lists the nearest names.
    """
    folded_text, folded_names = text.casefold(), [name.casefold() for name in class_names]
    exact = [k for k, name in enumerate(class_names) if name == text]
    exact = exact or [k for k, name in enumerate(folded_names) if name == folded_text]
    number = whole_number(text, 0, len(class_names) - 1)
    if number is not None and not exact:
        return number
    matches = exact or [k for k, name in enumerate(folded_names) if folded_text in name]
    if len(matches) == 1:
        return matches[0]
    close = difflib.get_close_matches(folded_text, folded_names, MAX_LISTED)
    nearest = matches or [folded_names.index(name) for name in close]
    listed = ", ".join(f"{brief(class_names[k])} = {k}" for k in nearest[:MAX_LISTED])
    raise UserError(
        f"{flag} {brief(text)}: {'several classes' if matches else 'no such class'}; give a name "
        f"or a number below {len(class_names)}" + (f", such as {listed}" if listed else "")
    )
