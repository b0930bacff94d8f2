#!/usr/bin/env bash
# Makes the tables of imbalanced classification: Tiny-ImageNet's frozen features (and CUB-200-2011,
# if it is in data/), another class prior at test time, all losses on MNIST, and the simulation of
# class-prior shift. With --fair, the tables in which every loss has its own best learning rate and
# head, chosen on validation images; with Fashion-MNIST in data/, on that too. Put the archives into
# data/ first:
#
#   python -m scripts.download_data tiny-imagenet        (and: cub, fashion-mnist)
#   bash scripts/reproduce_pc_softmax.sh                 an hour on two cores, the cheap first
#   bash scripts/reproduce_pc_softmax.sh --fair          three hours on two cores
#   DRY_RUN=1 bash scripts/reproduce_pc_softmax.sh       prints the commands, to paste one by one
#   SEEDS="0 1" bash scripts/reproduce_pc_softmax.sh     other seeds, in runs/reproduce_pc_softmax-seeds-0-1
#   bash scripts/reproduce_pc_softmax.sh --smoke         without Tiny-ImageNet and CUB, shrunk to a check
#
# The rows are collected in runs/reproduce_pc_softmax/tables. A second call goes on where the first
# stopped; delete runs/reproduce_pc_softmax to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/steps.sh
read_seeds

runs=runs/reproduce_pc_softmax$of_seeds fair="" smoke="" seeds=${SEEDS:-0 1 2 3 4} shrink=""
all="softmax pc-softmax weighted class-balanced focal ldam logit-adjusted ldam-drw crt"
one_of "--fair --smoke" "$@"
case $argument in
  --fair) fair=1 ;;
  --smoke)
    runs=runs/reproduce_pc_softmax_smoke$of_seeds smoke=1 seeds=${SEEDS:-0 1} shrink="--epochs 1"
    ;;
esac
prepare
run scripts.download_data mnist

# tune DATASET FOLDER_IN_DATA IMBALANCE LOSSES RATES
tune() {
  section "$1, $3: learning rate and head of each loss, chosen on validation images"
  if ! has_data $1 $2; then return; fi
  run pc_softmax.compare --dataset $1 --imbalance $3 --losses $4 --tune lr head --tune-rates $5 \
    --output-dir $runs/tuned-$1-${3//:/-} --resume --seeds $seeds
  tuned="${tuned:-} $runs/tuned-$1-${3//:/-}"
}

if [ -n "$fair" ]; then
  few="softmax pc-softmax ldam ldam-drw crt lade logit-adjusted" many="$all lade vs"
  tune tiny-imagenet tiny-imagenet-200 paper "$many" "0.003 0.01 0.03 0.1 0.3"
  tune tiny-imagenet tiny-imagenet-200 exp:100 "$many" "0.003 0.01 0.03 0.1 0.3"
  section "mnist: PC-softmax and softmax with LDAM's cosine head"
  run pc_softmax.compare --dataset mnist --head cosine --losses pc-softmax softmax \
    --output-dir $runs/cosine-mnist --resume --seeds $seeds
  tune mnist MNIST paper "$few" "0.01 0.03 0.1"
  tune fashion-mnist FashionMNIST paper "$few" "0.01 0.03 0.1"
  section "rows of all"
  collect pc_softmax_fair $tuned $runs/cosine-mnist --columns imbalance head lr tuned=tune
  collect pc_softmax_fair_tuning $tuned --table tuning.csv --columns imbalance
  exit
fi

for set in tiny-imagenet:tiny-imagenet-200 cub:CUB_200_2011; do
  if [ -n "$smoke" ]; then continue; fi
  dataset=${set%:*}
  section "$dataset, the paper's lists, frozen features"
  if has_data $dataset ${set#*:}; then
    run pc_softmax.compare --dataset $dataset --network efficientnet_lite0 --losses $all \
      --output-dir $runs/$dataset --resume --seeds $seeds
    collect pc_softmax_${dataset//-/_} $runs/$dataset
  fi
done

section "MNIST, another class prior at test time"
shifts="" first=""
for seed in $seeds; do
  run pc_softmax.train --dataset mnist --loss pc-softmax --val-fraction 0.2 --seed $seed \
    --output-dir $runs/mnist-val-$seed --resume $shrink
  run_into $runs/mnist-shift-$seed pc_softmax.evaluate $runs/mnist-val-$seed --target-prior em \
    --shift --seed $seed --overwrite
  shifts="$shifts $runs/mnist-shift-$seed" first=${first:-$runs/mnist-val-$seed}
done
collect pc_softmax_shift $shifts --table shift.csv --columns seed

section "estimates of the class prior beside QuaPy's"
beside=$runs/quapy
if [ -n "${DRY_RUN:-}" ] || ! "$python" -c "import quapy" 2>/dev/null; then
  note "rows of QuaPy need it installed: .venv/bin/python -m pip install quapy==0.2.3"
  if [ -z "${DRY_RUN:-}" ]; then beside=$runs/without-quapy; fi
fi
run_into $beside scripts.label_shift_quapy --run $first --overwrite \
  --resamples $([ -n "$smoke" ] && echo 2 || echo 20)
collect label_shift_quapy $beside --table label_shift_quapy.csv

section "MNIST, the paper's lists"
run pc_softmax.compare --dataset mnist --losses $all --val-fraction 0 \
  --output-dir $runs/mnist --resume --seeds $seeds $shrink
collect pc_softmax_mnist $runs/mnist
collect pc_softmax_classes $runs/mnist --table per_class.csv

section "simulated classifiers under a shift of the class prior"
simulation=""
if [ -n "$smoke" ]; then simulation="--classes 2 --per-class 3 --tests 50"; fi
run_into $runs/simulation scripts.label_shift_simulation \
  --draws $([ -n "$smoke" ] && echo 1 || echo 5) $simulation --overwrite
collect label_shift_simulation $runs/simulation --table label_shift_simulation.csv
