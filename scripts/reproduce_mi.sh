#!/usr/bin/env bash
# Makes the tables of mutual information: the paper's with the original's values beside ours, the
# coverage of intervals, tasks like people's tables, and all estimators on the hard suite.
#
#   bash scripts/reproduce_mi.sh               two to two and a half hours on two cores, the cheap first
#   DRY_RUN=1 bash scripts/reproduce_mi.sh     prints the commands, to paste one by one
#   SEEDS="0 1" bash scripts/reproduce_mi.sh     other seeds, in runs/reproduce_mi-seeds-0-1
#   bash scripts/reproduce_mi.sh --smoke       everything shrunk, a check of two minutes
#
# The rows are collected in runs/reproduce_mi/tables. A second call goes on where the first stopped;
# delete runs/reproduce_mi to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/steps.sh
read_seeds

runs=runs/reproduce_mi$of_seeds
paper="--seeds ${SEEDS:-0 1 2 3 4}" hard="--seeds ${SEEDS:-0 1 2}"
tables="--seeds ${SEEDS:-0 1 2} --n-train 500 2000 10000"
coverage="--replicates 300 --tasks gaussian-d2 independent-k10"
zero="--replicates 25 --samples 200"
one_of --smoke "$@"
case $argument in
  --smoke)
    runs=runs/reproduce_mi_smoke$of_seeds
    paper="--seeds ${SEEDS:-0} --n-train 2000 --n-test 5000 --epochs 2"
    hard="--seeds ${SEEDS:-0} --n-train 300 --n-test 1000 --epochs 2 --members 1"
    tables="--seeds ${SEEDS:-0} --n-train 100 --n-test 1000 --candidates lda gradient-boosting"
    coverage="--replicates 2 --samples 200"
    zero="--replicates 1 --samples 200"
    ;;
esac
prepare

section "the paper's task"
run mi_estimator.benchmark --suite paper --output-dir $runs/paper --resume $paper \
  --estimators oracle softmax pc-softmax softmax-log-k
collect mi_estimator $runs/paper

section "intervals of auto where there is no information"
run mi_estimator.coverage --output-dir $runs/zero --resume $zero --estimator auto \
  --tasks independent-k2-d50 independent-k5-d50 independent-k10-d50
collect mi_zero $runs/zero --table replicates.csv

section "coverage of the interval, size of the test"
run mi_estimator.coverage --output-dir $runs/coverage --resume $coverage
collect mi_coverage $runs/coverage --table coverage.csv

section "tasks like people's tables"
run mi_estimator.benchmark --suite tables --output-dir $runs/tables-like-peoples --resume $tables \
  --estimators auto pc-softmax gradient-boosting lda ross mixed-ksg
collect mi_tables $runs/tables-like-peoples

section "all estimators on hard tasks"
run mi_estimator.benchmark --suite hard --output-dir $runs/hard --resume $hard \
  --estimators oracle pc-softmax softmax softmax-log-k mine nwj infonce smile ross mixed-ksg \
  --batch-size 200
run mi_estimator.benchmark --suite hard --output-dir $runs/hard_auto --resume $hard \
  --estimators auto logistic-regression lda shrunk-lda qda regularised-qda gradient-boosting \
  extra-trees nearest-neighbours
collect mi_hard $runs/hard $runs/hard_auto
