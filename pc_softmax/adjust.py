"""Adapts logits of anybody's classifier to another class prior, known or estimated.

    python -m pc_softmax.adjust logits.npz --train-counts 900 90 10 --target-prior em
    python -m pc_softmax.adjust logits.csv --validation validation.csv --target-prior prior.csv

LOGITS and the file of --validation have one of two formats:

    .npz    logits        (N, K) numbers, whose softmax is the classifier's posterior
            labels        (N,) whole numbers 0..K-1; needed for validation, else for scores
            class_names   (K,) texts (0, 1, 2, ... if there are none)
            files         (N,) texts, names of the samples
            counts        (K,) training samples of each class, as --train-counts
    .csv    a column of logits for each class, under its name; a column `label` with names of
            classes, or numbers from 0; a column `file`

All but the logits may be missing. The training prior is that of --train-counts (K numbers, or a
file with one a line or with the header class,count), else of the array `counts`, else that of the
validation samples. `logits.npz` of `pc_softmax.predict` holds all that is needed. Logits of a
network that was trained with softmax contain the training prior; those of PC-softmax, balanced
softmax and logit adjustment do not (--logits pc-softmax).

Writes

    predictions.csv        class, probability, entropy, pmi and the next classes of each sample; see
                           `pc_softmax.predict`
    posterior.npz          log_posterior (N, K) float32 and class_names
    class_frequencies.csv  estimated share of each class with a 95 % bootstrap interval
    priors.csv             a column for each prior, estimated ones too
    result.json            and with labels all that `pc_softmax.evaluate` writes
"""

from pathlib import Path

from mi_common import cli
from pc_softmax.recipes import add_bootstrap, add_target_prior


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.epilog += "\n\n" + __doc__.split("\n\n", 2)[2]  # the formats
    text = ".npz with the array logits, or .csv with a column for each class"
    parser.add_argument("logits_file", type=Path, metavar="LOGITS", help=text)
    add = parser.add_argument_group("run").add_argument
    add("--seed", type=cli.seed_number, default=0, help="random seed of the resamples")
    text = "folder to write, the name of LOGITS without its ending and -adjusted if not given"
    add("--output-dir", type=Path, help=text)
    add("--overwrite", action="store_true", help="delete what is in the output folder first")
    add = parser.add_argument_group("data").add_argument
    text = "training samples of each class, or a file with one number a line"
    add("--train-counts", nargs="+", metavar="N", help=text)
    text = "logits and labels of samples that the classifier was not trained on, for bbse, "
    text += "pacc and calibration; same formats"
    add("--validation", type=Path, metavar="FILE", help=text)
    text = "what the classifier was trained with: softmax (logits contain the training prior) or "
    text += "pc-softmax (they do not); softmax if the file does not say"
    add("--logits", choices=("softmax", "pc-softmax"), help=text)
    add = parser.add_argument_group("estimate").add_argument
    add_target_prior(add, default="em")
    add_bootstrap(add)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    path, flags = args.logits_file, vars(args)
    folder = args.output_dir or path.with_name(f"{path.stem}-adjusted")

    from mi_common.records import check_output, prepare_output
    from pc_softmax import adjustment
    from pc_softmax.logit_files import read_counts, read_logits, to_predictions

    logits = read_logits(path)
    counts = args.train_counts and read_counts(args.train_counts, logits.class_names)
    validation = args.validation and read_logits(args.validation)
    source = {"kind": args.logits, "counts": counts, "validation": validation}
    predictions = to_predictions(logits, **source)
    check_output(folder, flags, overwrite=args.overwrite)
    rows, classes = logits.values.shape
    text = f"{path}: {rows} samples, {classes} classes, target prior {args.target_prior}"
    print(f"{text}, writing {folder}", flush=True)
    options = {"target": args.target_prior, "replicates": args.bootstrap, "seed": args.seed}
    adjusted = adjustment.adjust(predictions, logits, **options)
    prepare_output(folder, flags, overwrite=args.overwrite)
    adjustment.write_adjustment(adjusted, folder)


if __name__ == "__main__":
    main()
