#!/usr/bin/env bash
# Makes the tables of localisation: scattered digits, and Tiny-ImageNet's frozen EfficientNet-Lite0
# with 7 x 7 and 14 x 14 maps, three seeds of the head, and options of boxes. Put the archive there
# first:
#
#   python -m scripts.download_data tiny-imagenet
#   bash scripts/reproduce_infocam.sh                 an hour on two cores
#   bash scripts/reproduce_infocam.sh --smoke         the digits alone, shrunk to a check
#
# A second call goes on where the first stopped; delete runs/reproduce_infocam to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runs=runs/reproduce_infocam seeds="0 1 2" shrink="" test=""
case "${1:-}" in
  "") ;;
  --smoke)
    runs=runs/reproduce_infocam_smoke seeds="0"
    shrink="--images-per-class 150 --val-per-class 30 --epochs 2" test="--test-images 200"
    ;;
  *) echo "reproduce_infocam.sh: unknown argument '$1'; use --smoke or nothing" >&2; exit 2 ;;
esac

bash scripts/setup.sh
python=.venv/bin/python
$python -m scripts.download_data mnist

echo "== scattered digits =="
digits=""
for seed in $seeds; do
  $python -m infocam.train --dataset scattered-digits --seed $seed --output-dir $runs/digits-$seed \
    --resume $shrink
  digits="$digits $runs/digits-$seed"
done
$python -m infocam.evaluate $digits --output-dir $runs/digits --overwrite $test

if [ "${1:-}" = --smoke ] || [ ! -e data/tiny-imagenet-200 ]; then
  echo; echo "== tiny-imagenet: not in data/, or a smoke run: left out =="
  exit 0
fi
for stride in 32 16; do
  if [ $stride = 32 ]; then regions=3; else regions="3 5"; fi
  echo; echo "== Tiny-ImageNet, maps of stride $stride =="
  tiny=""
  for seed in $seeds; do
    $python -m infocam.train --dataset tiny-imagenet --output-stride $stride --seed $seed \
      --output-dir $runs/tiny-$stride-$seed --resume
    tiny="$tiny $runs/tiny-$stride-$seed"
  done
  $python -m infocam.evaluate $tiny --output-dir $runs/tiny-$stride --overwrite --region $regions \
    --methods cam infocam infocam+ lowest:20 similar posterior grad-cam grad-cam++ layer-cam
done
echo; echo "== Tiny-ImageNet, options of boxes, seed 0, by AdamW and SGD =="
options="--methods infocam --propagate 2 4 8 --prior-map --threshold-rule adaptive --box-rule mean"
$python -m infocam.train --dataset tiny-imagenet --optimizer sgd --lr 0.1 --schedule cosine \
  --seed 0 --output-dir $runs/tiny-sgd-0 --resume
for stride in 32 16; do  # the same head on finer maps
  for run in tiny-32-0 tiny-sgd-0; do
    $python -m infocam.evaluate $runs/$run --output-dir $runs/boxes-$stride-$run --overwrite \
      --output-stride $stride $options
  done
done
