"""Compares estimates of the class prior with those of QuaPy, the library for this task.

    python -m scripts.label_shift_quapy --run runs/mnist-val-0

On MNIST (a run of `pc_softmax.train --val-fraction 0.2`), noisy digits and a made-up table: class
ratios of 1, 10, 50 and 100 along and against the training classes, and five Dirichlet draws; both
validation and test images are resampled. Rows of QuaPy are there if it is installed (`pip install
quapy`). Writes `label_shift_quapy.csv`: for each data set, shift and method the total variation
between estimated and true prior in percent, the gain of accuracy on the argmax in points, and how
many resamples have no estimate; and `table` (.md, .tex) with their means over the shifts.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

from mi_common import cli


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    add = parser.add_argument_group("run").add_argument
    add("--run", type=Path, help="folder of pc_softmax.train; without MNIST if not given")
    add("--resamples", type=cli.positive_int, default=20, help="of validation and test images")
    add("--seed", type=cli.seed_number, default=0, help="of the resamples")
    add("--output-dir", type=Path, default=Path("runs/label_shift_quapy"), help="folder to write")
    add("--overwrite", action="store_true", help="replace an earlier table")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    import pandas as pd

    from mi_common.records import prepare_output
    from mi_common.tables import to_markdown, write_csv, write_tables
    from scripts import quapy_comparison

    with_quapy = importlib.util.find_spec("quapy") is not None
    data = {"digits": quapy_comparison.digits(), "tabular": quapy_comparison.tabular()}
    if args.run:
        data = {"mnist": quapy_comparison.of_run(args.run)} | data
    folder, parts = args.output_dir, []
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    for name, (counts, validation, test) in data.items():
        options = {"resamples": args.resamples, "seed": args.seed, "with_quapy": with_quapy}
        rows = pd.DataFrame(quapy_comparison.compare(counts, validation, test, **options))
        parts.append(rows.assign(data=name))
    rows = pd.concat(parts)
    table, shown = quapy_comparison.summary(rows), quapy_comparison.shown(rows)
    if with_quapy:
        table["quapy"] = importlib.metadata.version("quapy")
    write_csv(table, folder / "label_shift_quapy.csv", float_format="%.5g")
    write_tables(shown, folder / "table")
    print(to_markdown(shown))
    if not with_quapy:
        print("Without rows of QuaPy, which is not installed: pip install quapy")
    print(f"wrote {folder}/label_shift_quapy.csv, table.md and table.tex")


if __name__ == "__main__":
    main()
