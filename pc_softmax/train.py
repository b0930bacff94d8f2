"""Trains a classifier on imbalanced images and saves its predictions of every test set.

    python -m pc_softmax.train --dataset mnist --loss pc-softmax --seed 0
    python -m pc_softmax.train --dataset tiny-imagenet --loss ldam --drw 20
    python -m pc_softmax.train --dataset folder --data-dir pictures --imbalance none

MNIST is the original's protocol: 16,500 training images (3,000 of each odd digit, 300 of each even
one), SGD with momentum 0.5, learning rate 0.01, batch 64, 8 epochs. For photographs the backbone is
frozen as in the paper: its features are computed once and cached under the data folder, and a
linear head trains on them; `--no-freeze-backbone` trains the whole network. There is no early
stopping: the weights of the last epoch are kept.

Writes `predictions.npz` (logits and labels of each test set, priors), `indices.npz` (the positions
of the images), and the files of a run folder; see `mi_common.records`.
"""

from pathlib import Path

from mi_common import cli
from pc_softmax.names import LOSSES, REWEIGHTED_LOSSES
from pc_softmax.recipes import Settings, add_arguments, default_head, resolve


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    cli.add_common_arguments(parser, output_dir=None, folder="runs/pc_softmax/DATASET-LOSS-SEED")
    add = parser.add_argument_group("loss").add_argument
    add("--loss", choices=LOSSES, default="pc-softmax", help="training loss")
    add_arguments(parser)
    text = f"class weights from this epoch on, counted from 0, for {', '.join(REWEIGHTED_LOSSES)} "
    text += "(default: weighted and class-balanced from the start, focal and ldam without)"
    add("--drw", type=cli.non_negative_int, metavar="EPOCH", help=text)
    add = parser.add_argument_group("first stage").add_argument
    add("--init", type=Path, metavar="RUN", help="start from the network of a finished run")
    text = "train a new head on --init's features, every class drawn equally often (cRT)"
    add("--retrain-head", action="store_true", help=text)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    resolve(args)
    args.head = args.head or default_head(args.loss)
    settings, flags = Settings.from_flags(vars(args)), vars(args)

    from mi_common import runtime
    from mi_common.records import RunFolder, check_output, prepare_output
    from mi_common.tables import to_markdown
    from pc_softmax import training
    from pc_softmax.data import load_data
    from pc_softmax.metrics import scores_table

    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/pc_softmax/{args.dataset}-{args.loss}-{args.seed}")
    run, output_options = RunFolder(folder), {"resume": args.resume, "overwrite": args.overwrite}
    device.on_main(check_output, folder, flags, **output_options)
    data = load_data(**vars(settings.data))
    for note in data.notes:
        device.say(f"Note: {note}.")
    training.check_loss(settings, data)
    output_options["data"] = training.fingerprints(settings, data)
    device.on_main(check_output, folder, flags, **output_options)
    done = device.gather(args.resume and run.finished)[0]
    if not done:  # before anything is written, to find unreadable images in time
        classifier = training.build_classifier(settings, data, device)
        training.cache_features(classifier, data, args.augmented_copies)
    output_options["description"] = training.description(data)
    device.on_main(prepare_output, folder, flags, **output_options)
    device.require_shared(folder)
    device.say(f"pc_softmax: {device.describe()}, seed {args.seed}, writing {folder}")
    if not done:
        training.train(settings, data, classifier, run)
    run.require_files("predictions.npz", "indices.npz", "checkpoint.pt")
    following = f"predict {folder} PICTURES"
    if data.tests:
        device.say(to_markdown(scores_table(run.result()["test_sets"])))
        following = f"evaluate {folder}"
    device.say(
        f"wrote {folder}/predictions.npz, indices.npz, checkpoint.pt and result.json; "
        f"next: python -m pc_softmax.{following}"
    )


if __name__ == "__main__":
    main()
