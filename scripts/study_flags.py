"""Flags that the studies of localisation share. This module is light, so that `--help` is quick."""

from collections.abc import Callable

from mi_common import cli


def add_study_arguments(parser: cli.Parser, output_dir: str, **seeds) -> Callable:
    """Adds the common flags and --test-images; returns what adds further flags of the study.

    `seeds` are those of `cli.add_common_arguments`.
    """
    data = "folder of the data sets; (default: that of the run)"
    cli.add_common_arguments(parser, output_dir=output_dir, data=data, resume=False, **seeds)
    add = parser.add_argument_group("study").add_argument
    add("--test-images", type=cli.positive_int, help="test images, spread evenly (all)")
    return add
