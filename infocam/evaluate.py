"""Localisation maps scored against true boxes: of trained runs, or of maps that were saved.

    python -m infocam.evaluate runs/infocam/tiny-imagenet-softmax-0 --methods cam infocam infocam+
    python -m infocam.evaluate RUN RUN RUN --output-dir runs/infocam/three-seeds
    python -m infocam.evaluate --maps DIR --annotations boxes.csv --protocol wsol

All methods and thresholds come from one pass of the network. The threshold of each method, and
with several `--region` sizes the region, is chosen on the run's validation images (`validation`); a
threshold that is given (`fixed`) and the best on the reported images themselves (`oracle`) stand
beside it. Centre box, whole image and maps of a random direction are the baselines. Several runs
make a table over seeds.

Writes `results.csv`, `table` and, for several runs, `differences` (`.md`, `.tex`),
`threshold_curves` (`.csv`, `.png`), `overlays/` and galleries of the best, the worst and the most
different boxes, these of the first run; with `--save-maps` `maps/PART/METHOD/NAME.npy` and
`maps/PART/annotations.csv`.
"""

from argparse import Namespace
from concurrent.futures import Executor
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import torch

from infocam.data.load import LocalisationSet, data_fingerprints, load_parts
from infocam.figures.gallery import save_galleries, save_overlays
from infocam.figures.plots import plot_threshold_curves
from infocam.localise import Maps, faithfulness, localise
from infocam.maps.cam import region_filter
from infocam.maps.methods import parse_methods
from infocam.models.networks import load_run, run_flags
from infocam.names import (
    GRADIENT_METHODS,
    MAX_REGION,
    NORMALISATIONS,
    PADDINGS,
    PROTOCOLS,
    RANDOM,
)
from infocam.scoring.metrics import ScoredMaps
from infocam.scoring.protocols import Protocol, protocol
from infocam.scoring.saved_maps import evaluate_saved_maps, save_maps
from infocam.scoring.scores import (
    baseline_rows,
    best_regions,
    curve_table,
    method_rows,
    with_best_regions,
)
from infocam.scoring.tables import differences, shown, summary
from mi_common import cli, runtime
from mi_common.errors import UserError
from mi_common.files import write_atomically
from mi_common.information import log_prior_from_labels
from mi_common.records import RunFolder, check_output, prepare_output
from mi_common.runtime import Runtime
from mi_common.tables import to_markdown, write_tables
from mi_common.workers import worker_pool

DEFAULT_METHODS = ("cam", "infocam", "infocam+")
FIXED_THRESHOLD = 0.2  # of the maximum, as Zhou et al. (2016) have it
FOR_RUNS = ("methods", "region", "region_padding", "prior", "test_images", "faithfulness")
FOR_RUNS += ("overlays", "gallery", "save_maps")
DESCRIPTION = ("dataset", "network", "loss", "seed")  # flags that name a run in the tables
# Flags of training that may differ between runs of which a table takes the mean.
NOT_TRAINING = {"output_dir", "data_dir", "num_workers", "device", "resume", "overwrite"}


def evaluate_run(
    path: Path, args: Namespace, device: Runtime, chosen: Protocol, workers: Executor | None
) -> tuple[pd.DataFrame, dict[str, LocalisationSet], dict[str, ScoredMaps]]:
    """The rows of a run, its parts "held-out" and "test", and what was found on them."""
    run = RunFolder(path)
    flags = run_flags(path)
    parts = read_parts(path, flags, args)
    network = load_run(run, len(parts["test"].class_names), device)
    prior = {}
    if args.prior:
        labels, count = parts["train"].labels, len(parts["train"].class_names)
        log_prior = log_prior_from_labels(labels, count).to(device.device)
        shift = torch.zeros_like(log_prior) if flags["loss"] == "pc-softmax" else -log_prior
        prior = {"log_prior": log_prior, "prior_shift": shift}
    names = parts["test"].class_names
    options = Maps(
        [*parse_methods(args.methods, names), RANDOM],
        args.region,
        padding=args.region_padding,
        normalisation=args.normalisation,
        **prior,
    )
    cache_dir = args.data_dir / "features"
    features = {"cache_dir": cache_dir, "num_workers": args.num_workers, "runtime": device}
    misread = flags["dataset"] == "tiny-imagenet" and chosen.legacy
    found = {
        part: localise(
            network, parts[part], options, chosen, misread=misread, workers=workers, **features
        )
        for part in ("held-out", "test")
    }
    side = "x".join(map(str, next(iter(found["test"].maps.values())).shape[1:]))
    shared = {"run": str(path)} | {name: flags[name] for name in DESCRIPTION}
    shared |= {"map": side, "protocol": chosen.name}
    weights = chosen.weights(parts["test"].labels.numpy())
    shared["accuracy"] = float(weights @ (found["test"].ranks == 0))
    baselines = baseline_rows(
        (parts["test"].boxes, parts["test"].sizes),
        (parts["held-out"].boxes, parts["held-out"].sizes),
        chosen,
        ranks=found["test"].ranks,
        weights=weights,
        misread=misread,
    )
    scored = method_rows(found["test"], found["held-out"], weights, fixed=args.fixed_threshold)
    rows = pd.DataFrame([shared | row for row in (*baselines, *scored)])
    if len(args.region) > 1:
        rows = with_best_regions(rows, best_regions(found["held-out"]))
    if args.faithfulness:
        extra = faithfulness(
            network, parts["test"], found["test"], args.faithfulness, runtime=device
        )
        rows = rows.merge(extra, on="method", how="left")
    return rows, parts, found


def read_parts(path: Path, flags: dict, args: Namespace) -> dict[str, LocalisationSet]:
    """The parts of the data that a run was trained on."""
    parts = load_parts(
        flags["dataset"],
        args.data_dir,
        images_per_class=flags["images_per_class"],
        held_out_per_class=flags["held_out_per_class"],
        test_images=args.test_images,
    )
    trained_on = RunFolder(path).data()
    for part, fingerprint in data_fingerprints(parts).items():
        if trained_on.get(part) != fingerprint:
            raise UserError(
                f"{path} was trained with the {part} part {trained_on.get(part)}, but --data-dir "
                f"{args.data_dir} holds {fingerprint}; give its own data folder or train again"
            )
    return parts


def check_runs(args: Namespace) -> None:
    """UserError for a run without its data, or runs that the tables cannot tell apart."""
    seen: dict[tuple, tuple[Path, dict]] = {}
    for run in args.runs:
        flags = run_flags(run)
        seed = flags.pop("seed")
        shown = ("dataset", "network", "loss", "image_size", "output_stride")
        key = tuple(flags.get(name) for name in shown)
        earlier, others = seen.setdefault((*key, seed), (run, flags))
        if earlier != run:
            raise UserError(f"{earlier} and {run}: both have seed {seed}; leave one out")
        earlier, others = seen.setdefault(key, (run, flags))
        for name in sorted((flags.keys() | others.keys()) - NOT_TRAINING):
            if flags.get(name) != others.get(name):
                values = f"{others.get(name)} and {flags.get(name)}"
                name = name.replace("_", "-")
                raise UserError(
                    f"{earlier} and {run}: --{name} {values}; runs in one table must match in it"
                )
    for run in args.runs:
        read_parts(run, run_flags(run), args)


def write_tables_of(results: pd.DataFrame, folder: Path) -> None:
    """Writes results.csv and the tables, and prints them."""
    write_atomically(folder / "results.csv", lambda path: results.to_csv(path, index=False))
    if results["run"].nunique() == 1:
        table = shown(results)
        write_tables(table, folder / "table")
        print(to_markdown(table))
        return
    table, paired = summary(results), differences(results)
    write_tables(table, folder / "table")
    write_tables(paired, folder / "differences")
    print("Mean ± half the 95 % interval over seeds.\n")
    print(to_markdown(table))
    print("Paired differences in points to cam, seed by seed.\n")
    print(to_markdown(paired))


def get_parser() -> cli.Parser:
    parser = cli.Parser("Score the boxes of localisation maps.")
    parser.add_argument("runs", type=Path, nargs="*", help="folders that infocam.train wrote")
    cli.add_common_arguments(parser, output_dir=None, seed=False, resume=False)
    add = parser.add_argument_group("maps").add_argument
    add(
        "--methods",
        nargs="+",
        default=list(DEFAULT_METHODS),
        help="cam, infocam, infocam+, lowest:N, similar, posterior, class:NAME, "
        + ", ".join(GRADIENT_METHODS),
    )
    region = cli.count_to(MAX_REGION)
    add("--region", type=region, nargs="+", default=[1], help="sides of a mean filter")
    add("--region-padding", choices=PADDINGS, default="same", help="of the region filter")
    add("--normalisation", choices=NORMALISATIONS, default="minmax", help="of the maps")
    add(
        "--prior",
        action="store_true",
        help="choose classes by pointwise mutual information, and have maps in its units",
    )
    add = parser.add_argument_group("scores").add_argument
    add("--protocol", choices=PROTOCOLS, default="infocam", help="see infocam/scoring/protocols.py")
    add(
        "--fixed-threshold",
        type=cli.fraction,
        default=FIXED_THRESHOLD,
        help="of the rows with the rule `fixed`, a fraction of the map's maximum",
    )
    add(
        "--test-images",
        type=cli.positive_int,
        help="reported images, spread evenly over the test part; all if not given "
        "(2000 for scattered-digits)",
    )
    add(
        "--faithfulness",
        type=cli.non_negative_int,
        default=0,
        help="images to compute insertion and deletion curves of; each costs some 70 passes",
    )
    add = parser.add_argument_group("pictures and files").add_argument
    add("--overlays", type=cli.non_negative_int, default=12, help="pictures to draw")
    add("--gallery", type=cli.non_negative_int, default=6, help="rows of each gallery")
    add("--save-maps", action="store_true", help="keep the maps, for --maps")
    add = parser.add_argument_group("saved maps, in place of runs").add_argument
    add("--maps", type=Path, help="folder of NAME.npy, a map an image")
    add("--annotations", type=Path, help="CSV of boxes, or a split's folder of WSOL metadata")
    add("--held-out-maps", type=Path, help="maps of other images, to choose the threshold on")
    add("--held-out-annotations", type=Path, help="their boxes")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    device = runtime.from_flags(args)
    if device.world_size > 1:
        raise UserError("infocam.evaluate is one process; run it without torchrun")
    if bool(args.runs) == bool(args.maps):
        parser.error("give run folders, or --maps and --annotations")
    if bool(args.maps) != bool(args.annotations):
        parser.error("--maps and --annotations go together")
    if bool(args.held_out_maps) != bool(args.held_out_annotations):
        parser.error("--held-out-maps and --held-out-annotations go together")
    for name in FOR_RUNS if args.maps else ():
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is for runs, not for --maps")
    if len(args.runs) > 1 and not args.output_dir:
        parser.error("--output-dir: name a folder for the table of several runs")
    chosen = protocol(args.protocol)
    args.region = sorted({1, *args.region})
    for size in args.region:
        region_filter(torch.zeros(1, 1, 1), size)  # its errors, before any work
    parse_methods(args.methods)
    source = args.runs[0] if args.runs else args.maps
    folder = args.output_dir or source / "evaluation"
    if folder.resolve() in (source.resolve(), *source.resolve().parents):
        raise UserError(f"--output-dir {folder}: {source} is in it; choose another folder")
    check_output(folder, vars(args), overwrite=args.overwrite)
    print(f"infocam: {device.describe()}, {source}, writing {folder}", flush=True)
    pool = worker_pool(args.num_workers) if args.num_workers > 1 else nullcontext()
    if args.maps:
        with pool as workers:
            rows = evaluate_saved_maps(
                (args.maps, args.annotations),
                (args.held_out_maps, args.held_out_annotations) if args.held_out_maps else None,
                chosen,
                normalisation=args.normalisation,
                fixed=args.fixed_threshold,
                workers=workers,
            )
        prepare_output(folder, vars(args), overwrite=args.overwrite)
        write_tables_of(rows, folder)
        print(f"wrote {folder}/results.csv and table")
        return
    check_runs(args)  # what is wrong must be found before the work
    results, first = [], None
    with pool as workers:
        for run in args.runs:
            rows, parts, found = evaluate_run(run, args, device, chosen, workers)
            results.append(rows)
            first = first or (rows, parts, found)
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_runs(pd.concat(results, ignore_index=True), first, args, chosen, folder)


def write_runs(
    results: pd.DataFrame, first: tuple, args: Namespace, chosen: Protocol, folder: Path
) -> None:
    """Writes and prints everything that an evaluation of runs consists of; pictures of the first.

    Args:
        first: what `evaluate_run` returns of it.
    """
    rows, parts, found = first
    curves = curve_table(found["test"], found["held-out"])
    write_atomically(folder / "threshold_curves.csv", lambda path: curves.to_csv(path, index=False))
    plot_threshold_curves(curves, rows, folder / "threshold_curves.png")
    drawn = {"protocol": chosen, "normalisation": args.normalisation, "rows": rows}
    save_overlays(folder / "overlays", parts["test"], found["test"], args.overlays, **drawn)
    save_galleries(folder, parts["test"], found["test"], args.gallery, **drawn)
    for part in found if args.save_maps else ():
        save_maps(folder / "maps" / part, parts[part], found[part])
    accuracy = rows["accuracy"].iloc[0]
    print(f"{len(parts['test'])} test images; top-1 accuracy {100 * accuracy:.1f} %.\n")
    write_tables_of(results, folder)
    more = ", maps" if args.save_maps else ""
    print(f"wrote {folder}/results.csv, table, threshold_curves, overlays, galleries{more}")


if __name__ == "__main__":
    main()
