"""Scores a trained network under any class prior at test time, without training again.

    python -m pc_softmax.evaluate runs/pc_softmax/mnist-pc-softmax-0 --target-prior em --shift

Reads `predictions.npz` of the run, and pictures of mistakes where training found them. The target
prior is the class prior that predictions assume: `uniform`, `train` (that of the training data),
that of a file, or an estimate from the test set without its labels: `em`, `bbse`, `pacc`, or
`auto`, which takes the one that the number of validation samples allows. `argmax` takes the logits
as they are; the others use logits that the validation samples calibrate, if that helps in
cross-validation. `--shift` also scores subsets of a test set whose class priors go from that of the
training data to its reverse.

Writes `scores.csv`, `table` (.md, .tex), `per_class.csv`, `confusion.csv`, `confusion.png`,
`reliability.png`, `mistakes.csv` (all of them), `mistakes_TEST_SET.png` (those with the most
probable predictions) and `result.json`; with `--shift` also `shift` (.csv, .md, .tex, .png) and
`shift_gains` (.md, .tex).
"""

import shlex
from pathlib import Path

from mi_common import cli
from mi_common.errors import UserError
from pc_softmax.recipes import add_target_prior


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("run", type=Path, help="folder that pc_softmax.train wrote")
    add = parser.add_argument_group("run").add_argument
    add("--seed", type=cli.seed_number, default=0, help="random seed of the subsets of --shift")
    add("--output-dir", type=Path, help="folder to write, RUN/evaluation if not given")
    add("--overwrite", action="store_true", help="delete what is in the output folder first")
    add = parser.add_argument_group("evaluation").add_argument
    add_target_prior(add, default="uniform")
    add("--test-sets", nargs="+", metavar="NAME", help="test sets to score, all if not given")
    add("--shift", action="store_true", help="also score subsets with shifted class priors")
    text = "resamples of the test set for each prior of --shift"
    add("--resamples", type=cli.positive_int, default=10, help=text)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    folder, flags = args.output_dir or args.run / "evaluation", vars(args)
    if folder.resolve() in (args.run.resolve(), *args.run.resolve().parents):
        raise UserError(f"--output-dir {folder} holds the run itself; choose another folder")

    import numpy as np

    from mi_common.records import check_output, prepare_output
    from pc_softmax import evaluation, gallery, shift_tables
    from pc_softmax.predictions import Predictions

    predictions = Predictions.load(args.run / "predictions.npz")
    if not predictions.tests:
        raise UserError(
            f"{args.run}: trained without test images; put some into test/CLASS of the data folder "
            "and train again, or use pc_softmax.predict"
        )
    names = list(dict.fromkeys(args.test_sets or predictions.tests))
    if unknown := [name for name in names if name not in predictions.tests]:
        raise UserError(f"--test-sets {unknown[0]}: the run has {', '.join(predictions.tests)}")
    shifted = "official" if "official" in names else names[0]
    lacking = {name: predictions.classes_without_tests(name) for name in names}
    if args.shift and lacking[shifted]:
        raise UserError(f"--shift: no samples of {lacking[shifted]} in {shifted}; leave it out")
    check_output(folder, flags, overwrite=args.overwrite)
    print(f"pc_softmax: {args.run}, target prior {args.target_prior}, writing {folder}", flush=True)

    evaluations = {
        name: evaluation.evaluate(predictions, name, args.target_prior) for name in names
    }
    if args.shift:
        generator = np.random.default_rng(args.seed)
        rows, failures = shift_tables.shift_table(
            predictions, shifted, generator, resamples=args.resamples
        )
    for note in evaluation.notes(predictions, names, args.target_prior, shift=args.shift):
        print(f"Note: {note}.")
    for name, missing in lacking.items():
        if missing:
            print(f"Note: no samples of {missing} in {name}; scores leave these classes out.")
    prepare_output(folder, flags, overwrite=args.overwrite)
    evaluation.write_evaluation(evaluations, predictions, args.target_prior, folder)
    posteriors = {name: e.log_posterior for name, e in evaluations.items()}
    labels = {name: predictions.tests[name][1] for name in names}
    classes = predictions.unique_names
    for note in gallery.write_mistakes(args.run, posteriors, labels, classes, folder):
        print(f"Note: {note}.")
    if args.shift:
        shift_tables.write_shift(rows, failures, shifted, folder)
    evaluation.write_result(evaluations, predictions, args.target_prior, folder)
    figures = "confusion.png, reliability.png, mistakes" + (", shift.png" if args.shift else "")
    print(f"wrote {folder}: table.md, scores.csv, per_class.csv, confusion.csv, {figures}")
    if not args.shift:
        words = [args.run, "--target-prior", "auto", "--output-dir", f"{folder}-auto"]
        words += [] if lacking[shifted] else ["--shift"]
        print(f"next: python -m pc_softmax.evaluate {shlex.join(map(str, words))}")


if __name__ == "__main__":
    main()
