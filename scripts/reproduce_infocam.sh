#!/usr/bin/env bash
# Makes the tables of localisation: scattered digits, and Tiny-ImageNet with a frozen
# EfficientNet-Lite0: heads by AdamW and SGD, 7 x 7 and 14 x 14 maps, the field's protocol, the
# common part of heads, heads trained on boxes, edges, paddings, options of boxes. Studies of one run
# take the first seed. scripts/gpu_check.sh fine-tunes. Put the archive into data/ first:
#
#   python -m scripts.download_data tiny-imagenet
#   bash scripts/reproduce_infocam.sh                 four hours on two busy cores, the cheap first
#   DRY_RUN=1 bash scripts/reproduce_infocam.sh       prints the commands, to paste one by one
#   SEEDS="0 1" bash scripts/reproduce_infocam.sh     other seeds, in runs/reproduce_infocam-seeds-0-1
#   bash scripts/reproduce_infocam.sh --smoke         the digits alone, shrunk to a check
#
# The rows are collected in runs/reproduce_infocam/tables. A second call goes on where the first
# stopped; delete runs/reproduce_infocam to start afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/steps.sh
read_seeds

runs=runs/reproduce_infocam$of_seeds smoke="" seeds=${SEEDS:-0 1 2} shrink="" test=""
one_of --smoke "$@"
case $argument in
  --smoke)
    runs=runs/reproduce_infocam_smoke$of_seeds smoke=1 seeds=${SEEDS:-0}
    shrink="--images-per-class 150 --val-per-class 30 --epochs 2" test="--test-images 200"
    ;;
esac
first=${seeds%% *}
prepare
run scripts.download_data mnist

# train NAME FLAGS: on Tiny-ImageNet with each seed, into $runs/NAME-SEED; $trained are the folders
train() {
  local name=$1
  shift
  trained=""
  for seed in $seeds; do
    run infocam.train --dataset tiny-imagenet "$@" --seed $seed --output-dir $runs/$name-$seed --resume
    trained="$trained $runs/$name-$seed"
  done
}

# evaluate NAME RUNS AND FLAGS: into $runs/NAME
evaluate() {
  local name=$1
  shift
  run_into $runs/$name infocam.evaluate "$@" --overwrite
}

section "scattered digits"
digits=""
for seed in $seeds; do
  run infocam.train --dataset scattered-digits --seed $seed --output-dir $runs/digits-$seed \
    --resume $shrink
  digits="$digits $runs/digits-$seed"
done
evaluate digits $digits $test
collect infocam_scattered_digits $runs/digits
if [ -n "$smoke" ] || ! has_data tiny-imagenet tiny-imagenet-200; then exit; fi

section "Tiny-ImageNet, 7 x 7 maps, heads by AdamW"
maps="cam infocam infocam+ lowest:20 similar posterior grad-cam grad-cam++ layer-cam"
train tiny-32 --output-stride 32
by_adamw=$trained
evaluate tiny-32 $trained --region 3 --methods $maps

section "heads by SGD"
train tiny-sgd --optimizer sgd --lr 0.1 --schedule cosine
by_sgd=$trained
evaluate tiny-sgd $trained --methods cam infocam infocam+ lowest:20 layer-cam

section "thresholds, the common part of heads, bands along the edges, heads trained on boxes"
evaluate objects $runs/tiny-32-$first
evaluate objects-sgd $runs/tiny-sgd-$first
run_into $runs/common-part scripts.head_common_part $runs/tiny-32-$first $runs/tiny-sgd-$first \
  --names "AdamW, 7 x 7" "SGD, 7 x 7" --factors 0 0.5 1 2 --imagenet --overwrite
run_into $runs/edge-bands scripts.edge_bands $runs/tiny-32-$first --overwrite
run_into $runs/box-head scripts.box_head $runs/tiny-32-$first --seeds $seeds --overwrite
run_into $runs/box-head-sgd scripts.box_head $runs/tiny-sgd-$first --seeds $seeds --overwrite
collect infocam_thresholds $runs/objects $runs/objects-sgd --table threshold_curves.csv \
  --columns optimizer seed=training.seed
collect infocam_common_part $runs/common-part --table common_part.csv
collect infocam_edge_bands $runs/edge-bands --table edge_bands.csv
collect infocam_box_head $runs/box-head $runs/box-head-sgd --table box_head.csv --columns optimizer

section "zero and reflect padding, 20 images a class"
few="--dataset tiny-imagenet --images-per-class 30 --seed $first --resume"
run infocam.train $few --output-dir $runs/tiny-20
run infocam.train $few --padding reflect --output-dir $runs/tiny-20-reflect
evaluate padding-zero $runs/tiny-20
evaluate padding-on-reflect $runs/tiny-20 --padding reflect
evaluate padding-reflect $runs/tiny-20-reflect
collect infocam_padding $runs/padding-zero $runs/padding-on-reflect $runs/padding-reflect \
  --columns training.images_per_class training.padding padding

section "options of boxes, 7 x 7 and 14 x 14 maps of the same heads"
boxes=""
# boxes NAME FLAGS: with propagated maps, into $runs/boxes-NAME
boxes() {
  local name=$1
  shift
  evaluate boxes-$name $trained --output-stride $stride --propagate 2 4 8 "$@"
  boxes="$boxes $runs/boxes-$name"
}
options="--prior-map --threshold-rule adaptive"
for optimizer in adamw sgd; do
  if [ $optimizer = adamw ]; then trained=$by_adamw; else trained=$by_sgd; fi
  for stride in 32 16; do
    boxes $optimizer-$stride --methods cam infocam infocam+ lowest:20
    boxes $optimizer-$stride-options --methods infocam lowest:20 $options --box-rule mean
  done
  evaluate twice-$optimizer-16 $trained --output-stride 16 --methods infocam --propagate 2 \
    --propagate-earlier 2 4 $options --box-rule mean
  stride=32
  boxes $optimizer-32-peak --methods infocam $options --box-rule peak
done
if [ "$seeds" != "$first" ]; then  # several
  collect infocam_boxes_over_seeds $boxes --table over_seeds.csv --columns optimizer
  collect infocam_boxes_twice $runs/twice-adamw-16 $runs/twice-sgd-16 --table over_seeds.csv \
    --columns optimizer
  collect infocam_by_object $runs/boxes-adamw-32 $runs/boxes-sgd-16 $runs/boxes-sgd-16-options \
    --table by_object_over_seeds.csv --columns optimizer
fi

section "14 x 14 maps, heads by AdamW; the field's protocol"
train tiny-16 --output-stride 16
evaluate tiny-16 $trained --region 3 5 --methods $maps
evaluate tiny-16-wsol $runs/tiny-16-$first --protocol wsol --methods cam infocam infocam+ lowest:20
collect infocam_tiny_imagenet $runs/tiny-32 $runs/tiny-16 $runs/tiny-sgd $runs/tiny-16-wsol \
  --columns optimizer
