"""Groups of features: the columns that are ranked as one, from flags or a file."""

import csv
from dataclasses import dataclass
from pathlib import Path

from mi_common.errors import UserError
from mi_estimator.names import listed


@dataclass(frozen=True)
class Group:
    """A feature, or several that count as one: a name and positions of its features."""

    name: str
    features: tuple[int, ...]


def read_groups(file: Path | None, flags: list[str]) -> dict[str, list[str]]:
    """Names of columns by group, from `name=a,b,c` in each line of a file or each flag.

    A column's name that holds a comma stands in double quotes. UserError for another form, or a
    name given twice.
    """
    definitions = [(f"--group {text}", text) for text in flags]
    if file is not None:
        if not file.is_file():  # a pipe would be waited for
            raise UserError(f"--groups {file}: no such file")
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--groups {file}: cannot be read: {error}") from error
        numbered = enumerate(lines, start=1)
        definitions = [(f"--groups {file}: line {i}", line) for i, line in numbered if line.strip()]
        if not definitions:
            raise UserError(f"--groups {file}: no group in it; write name=a,b,c in each line")
    groups = {}
    for where, text in definitions:
        name, _, columns = text.partition("=")
        name = name.strip()
        columns = next(csv.reader([columns], skipinitialspace=True), [])
        columns = [column.strip() for column in columns]
        if not name or not all(columns) or not columns:
            raise UserError(f"{where}: not of the form name=a,b,c")
        if name in groups:
            raise UserError(f"{where}: there is another group {name}; give each its own name")
        groups[name] = columns
    return groups


def group_features(columns: list[str], groups: dict[str, list[str]]) -> list[Group]:
    """The groups in the order of their first feature; columns outside of them are one each.

    Args:
        columns: the table's column of each feature; features of one column stay together.
        groups: names of columns by group.

    UserError for an unknown column, one in two groups, and a group with the name of a column that
    it does not hold.
    """
    group_of = {}
    for name, members in groups.items():
        for column in members:
            if column not in columns:
                raise UserError(
                    f"group {name}: no feature {column}; the features are "
                    f"{listed(list(dict.fromkeys(columns)))}"
                )
            if column in group_of:
                where = f"groups {group_of[column]} and {name}"
                where = f"group {name} twice" if group_of[column] == name else where
                raise UserError(f"feature {column} is in {where}; groups must not overlap")
            group_of[column] = name
    for name, members in groups.items():
        if name in columns and name not in members:
            raise UserError(f"group {name}: a feature outside of it has this name; choose another")
    features = {}
    for position, column in enumerate(columns):
        features.setdefault(group_of.get(column, column), []).append(position)
    return [Group(name, tuple(positions)) for name, positions in features.items()]


def split_given(groups: list[Group], given: list[str]) -> tuple[list[Group], list[Group]]:
    """The groups to rank, and those named in `given`, on which the information is conditioned.

    UserError for an unknown name, and if nothing is left to compare.
    """
    names = [group.name for group in groups]
    for name in given:
        if name not in names:
            raise UserError(
                f"--conditional-on {name}: no such feature or group; there are {listed(names)}"
            )
    ranked = [group for group in groups if group.name not in given]
    if not ranked:
        raise UserError("--conditional-on names all features; leave out at least one")
    if len(groups) == 1:
        raise UserError(
            f"only one feature, {names[0]}: there is nothing to rank; use mi_estimator.estimate"
        )
    return ranked, [group for group in groups if group.name in given]
