#!/usr/bin/env bash
# Makes the tables of mutual information: the paper's with the original's values beside ours, all
# estimators on the hard suite, and the coverage of the interval.
#
#   bash scripts/reproduce_mi.sh           about an hour on two cores
#   bash scripts/reproduce_mi.sh --smoke   everything shrunk, a check of two minutes
#
# A second call goes on where the first stopped; delete runs/reproduce_mi to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=runs/reproduce_mi
paper="--seeds 0 1 2 3 4" hard="--seeds 0 1 2" coverage="--replicates 300 --tasks gaussian-d2 independent-k10"
case "${1:-}" in
  "") ;;
  --smoke)
    runs=runs/reproduce_mi_smoke
    paper="--seeds 0 --n-train 2000 --n-test 5000 --epochs 2"
    hard="--seeds 0 --n-train 300 --n-test 1000 --epochs 2 --members 1"
    coverage="--replicates 2 --samples 200"
    ;;
  *) echo "reproduce_mi.sh: unknown argument '$1'; use --smoke or nothing" >&2; exit 2 ;;
esac

bash scripts/setup.sh
python=.venv/bin/python

echo "== 1 of 3: the paper's table =="
$python -m mi_estimator.benchmark --suite paper --output-dir $runs/paper --resume $paper \
  --estimators oracle softmax pc-softmax softmax-log-k

echo; echo "== 2 of 3: all estimators on hard tasks =="
$python -m mi_estimator.benchmark --suite hard --output-dir $runs/hard --resume $hard \
  --estimators oracle pc-softmax softmax softmax-log-k logistic-regression gradient-boosting lda qda \
  mine nwj infonce smile ross mixed-ksg --batch-size 200

echo; echo "== 3 of 3: coverage of the interval, size of the test =="
$python -m mi_estimator.coverage --output-dir $runs/coverage --resume $coverage
