"""Losses side by side over seeds: mean, 95 % interval and paired difference to softmax.

    python -m pc_softmax.compare --dataset mnist --losses softmax pc-softmax --seeds 0 1 2
    python -m pc_softmax.compare --dataset tiny-imagenet --losses softmax pc-softmax ldam-drw crt

Trains every loss with every seed (`pc_softmax.train`, a run folder each). `ldam-drw` is LDAM with
class weights in the last fifth of the epochs, `crt` a new head on softmax's features. Each
run is scored by two rules, and softmax by a third:

    as trained          argmax of the logits
    prior subtracted    of logits that hold a class prior: argmax without it, for balanced classes
    prior added         of logits that hold none: argmax with the training prior
    tau-normalised      the head's weights divided by their length (tau = 1)

`--tune lr head` chooses the learning rate and the head of each loss first, out of one grid, on
validation images that are part of the training images, and then trains on all training images.
The criterion is the balanced accuracy without the logits' class prior.

Writes `results.csv` (a row a test set, loss, rule and seed), `table` and `differences` (`.md`,
`.tex`; p-values by Holm's method) and `per_class.csv` and `.png`; with --tune also `tuning.csv`.
"""

from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError
from pc_softmax.names import COMPARED_LOSSES
from pc_softmax.recipes import add_arguments, resolve

TUNED = ("lr", "head")
RATE_FACTORS = (1, 3, 10, 30)


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(
        parser, output_dir=None, folder="runs/pc_softmax/compare-DATASET", seeds=[0, 1, 2]
    )
    cli.add_cluster_argument(parser)
    add, default = parser.add_argument_group("loss").add_argument, ["softmax", "pc-softmax"]
    add("--losses", nargs="+", choices=COMPARED_LOSSES, default=default, help="losses to train")
    add = parser.add_argument_group("tuning").add_argument
    add("--tune", nargs="+", choices=TUNED, default=[], help="what to choose on validation images")
    text = f"learning rates to choose from (default: --lr times {RATE_FACTORS})"
    add("--tune-rates", nargs="+", type=cli.positive_float, metavar="LR", help=text)
    add("--tune-seeds", nargs="+", type=cli.seed_number, default=[0], help="seeds of the choice")
    text = "share of the training images to choose on"
    add("--tune-fraction", type=cli.fraction, default=0.2, help=text)
    add_arguments(parser)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    resolve(args)
    losses, seeds = list(dict.fromkeys(args.losses)), list(dict.fromkeys(args.seeds))
    if "crt" in losses and "softmax" not in losses:
        raise UserError("--losses crt: it starts from softmax's runs; add softmax")
    if "head" in args.tune and args.head:
        raise UserError(f"--head {args.head}: --tune head chooses it; leave one out")
    if args.tune and not args.tune_fraction:
        raise UserError("--tune-fraction 0: no images to choose on; give a number above 0")
    rates = args.tune_rates or [float(f"{args.lr * factor:g}") for factor in RATE_FACTORS]
    args.tune_rates = list(dict.fromkeys(rates))

    from mi_common import runtime
    from mi_common.records import check_output, prepare_output
    from mi_common.results import ResultsFile
    from mi_common.workers import run_cells
    from pc_softmax import comparison, training, tuning
    from pc_softmax.data import load_data
    from pc_softmax.recipes import Settings

    device, flags = runtime.from_flags(args), vars(args)
    folder = args.output_dir or Path(f"runs/pc_softmax/compare-{args.dataset}")
    output_options = {"resume": args.resume, "overwrite": args.overwrite}
    output_options |= {"extendable": ("seeds", "losses")}
    check_output(folder, flags, **output_options)
    runs = {}  # flags of `pc_softmax.train` by the key of a row
    for loss in sorted(losses, key="crt".__eq__):  # crt last: it starts from the runs of softmax
        for seed in seeds:
            run_flags = comparison.train_flags(flags, loss, seed, folder / f"{loss}-{seed}")
            runs[args.dataset, loss, seed] = run_flags
    first_flags = next(iter(runs.values()))
    settings = Settings.from_flags(first_flags)
    data = load_data(**vars(settings.data))
    if not data.tests:
        raise UserError(f"no folder {args.data_dir / 'test'}; losses are compared on test/CLASS")
    for note in data.notes:
        print(f"Note: {note}.")
    fingerprints = training.fingerprints(settings, data)
    check_output(folder, flags, data=fingerprints, **output_options)
    for run_flags in runs.values():
        training.check_loss(Settings.from_flags(run_flags), data)
    if args.tune:
        tuning_settings = tuning.settings_of(flags, folder)
        tuning_images = tuning.tuning_images(tuning_settings.data)
        for note in set(tuning_images.notes) - set(data.notes):
            print(f"Note: with --tune, {note}.")
    if not (args.resume and first_flags["output_dir"].exists()):
        # Before a folder is made, to find what cannot work, unreadable images too; and before
        # worker processes begin, which would all compute the same features.
        classifier = training.build_classifier(settings, data, device)
        training.cache_features(classifier, data, args.augmented_copies)
        if args.tune:
            training.cache_features(classifier, tuning_images, args.augmented_copies)
    output_options |= {"data": fingerprints, "description": {"entry": "pc_softmax.compare"}}
    prepare_output(folder, flags, **output_options)
    print(f"pc_softmax: {device.describe()}, seeds {seeds}, writing {folder}", flush=True)

    computing = {"runtime": device, "num_workers": args.num_workers, "cluster": args.cluster}
    columns, text = comparison.COLUMNS, comparison.TEXT
    if args.tune:
        best_settings = tuning.tune(flags, losses, folder, tuning_images, **computing)
        print("\n".join(tuning.notes(flags, best_settings)), flush=True)
        for (_, loss, _), run_flags in runs.items():
            run_flags |= best_settings[loss]
        columns, text = comparison.TUNED_COLUMNS, comparison.TUNED_TEXT
    text = text | {"dataset": [args.dataset], "test_set": data.tests}
    results = ResultsFile(folder / "results.csv", columns, comparison.KEY, text=text)
    shared = (fingerprints, training.description(data), device)
    jobs = {key: (key[1], run_flags, *shared) for key, run_flags in runs.items()}
    for stage in (False, True):
        cells = {key: job for key, job in jobs.items() if (key[1] == "crt") == stage}
        run_cells(comparison.train_one, cells, results, **computing)
    rows = results.select([(args.dataset, loss, seed) for loss in losses for seed in seeds])
    folders = {loss: [folder / f"{loss}-{seed}" for seed in seeds] for loss in losses}
    comparison.write_comparison(rows, folders, folder)
    print(f"wrote {folder}/results.csv, table, differences, per_class.* and a folder each run")


if __name__ == "__main__":
    main()
