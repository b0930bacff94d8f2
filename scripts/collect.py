"""Joins the result tables of finished runs into one CSV file, and records where each row is from.

    python -m scripts.collect runs/digits --output runs/tables/infocam_scattered_digits.csv

`--columns optimizer tuned=tune` adds columns, named as flags or otherwise, that a table lacks: the
run's own flag or, where it has none, that of the runs that it read; `training.padding` is always
that of the runs that it read.

Writes NAME.csv, whose column `source` names the run folder of each row where there are several, and
NAME.json with the commands, commit (`-dirty`: with changes that no commit holds), versions,
hardware, start and seconds of each run and of the runs that it read. `--overwrite` keeps what an
earlier NAME.json says in words.
"""

from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of one script")
    add = parser.add_argument_group("run").add_argument
    add("--output", type=Path, required=True, metavar="CSV", help="file to write")
    add("--table", default="results.csv", metavar="CSV", help="the table in each folder")
    add("--columns", nargs="+", default=[], metavar="[NAME=]FLAG", help="columns to add")
    add("--holds", help="what the rows are, in words")
    add("--page", help="the section that shows them, such as infocam/README.md#scattered-digits")
    add("--overwrite", action="store_true", help="replace the file and its NAME.json")
    return parser


def check_output(output: Path, sidecar: Path, runs: list[Path], overwrite: bool) -> None:
    """UserError for an output that cannot or must not be written, and for a run given twice."""
    from scripts.finished_runs import require_outside_runs

    folders = [run.resolve() for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"{run}: given twice; give each run once")
    require_outside_runs(output, "--output")
    if output.suffix != ".csv":
        raise UserError(f"--output {output}: not a name that ends with .csv")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give the name of a file")
    if files := [parent for parent in output.parents if parent.is_file()]:
        raise UserError(f"--output {output}: {files[0]} is a file; use another folder")
    for path in (output, sidecar):
        if path.exists() and not overwrite:
            raise UserError(f"--output {output}: {path} exists; use --overwrite or another name")


def columns_of(texts: list[str]) -> dict[str, str]:
    """Names of columns and their flags, from [NAME=]FLAG; UserError for a wrong or second name."""
    from scripts.provenance import SOURCE

    columns = {}
    for text in texts:
        name, _, flag = text.partition("=")
        name, flag = name.replace(".", "_"), flag or name
        if name in ("", SOURCE, *columns):
            raise UserError(f"--columns {text}: give each column a name of its own, not {SOURCE!r}")
        columns[name] = flag
    return columns


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_common.files import read_json, write_json
    from mi_common.tables import write_csv
    from scripts import provenance

    output = args.output
    sidecar = provenance.sidecar_of(output)
    check_output(output, sidecar, args.runs, args.overwrite)
    rows, sources = provenance.join_tables(args.runs, args.table, columns_of(args.columns))
    words = {"holds": "", "page": ""}
    if sidecar.exists():
        earlier = read_json(sidecar)
        if "sources" not in earlier:
            raise UserError(f"--overwrite {sidecar}: not of a table; use another --output")
        words |= {name: earlier.get(name, "") for name in words}
    words |= {name: value for name in words if (value := getattr(args, name)) is not None}
    write_csv(rows, output)
    recorded = {"recorded": provenance.RECORDED, "sha256": provenance.digest(output)}
    write_json(sidecar, words | recorded | {"sources": sources})
    print(f"wrote {output} ({len(rows)} rows of {len(sources)} runs) and {sidecar.name}")
    for_pages = output.resolve().parent.name == "resources"
    fields = provenance.FIELDS if for_pages else provenance.FIELDS[2:]
    try:
        provenance.check_sidecar(output, fields=fields)
    except UserError as error:
        print(f"not for resources/: {error}")


if __name__ == "__main__":
    main()
