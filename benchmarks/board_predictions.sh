#!/usr/bin/env bash
# What all models of a board said about every photo, in one file: fusion can be fitted, and figures made, without
# training anything. `make board` (and `benchmarks/board_seeds.sh`) must be complete to keep; to use what is kept:
#
#   riskfuse run recipes/tiny/board.yaml --to augment          # the photos: two minutes
#   benchmarks/board_predictions.sh restore board              # -> predictions/board, with out_of_fold
#   riskfuse fuse data/corridor_augmented --task recipes/tasks/corridor.yaml --base predictions/board/base \
#     --specialist high_risk=predictions/board/high_risk --specialist clutter=predictions/board/clutter \
#     --specialist objects=predictions/board/objects --out-of-fold predictions/board/out_of_fold \
#     --label-errors 0.02 --out runs/board/fusion
#
#   benchmarks/board_predictions.sh keep board board_seed1     # -> benchmarks/results/predictions/board.tar.xz, …
set -euo pipefail
cd "$(dirname "$0")/.."
kept=benchmarks/results/predictions
action=$1
shift
case "$action" in
  keep)
    mkdir -p "$kept"
    for name in "$@"; do
      # Data and markers alone; the specialists' markers hold the share of positives that they were trained with.
      find "predictions/$name" data/corridor_augmented -maxdepth 4 \
        \( -path "predictions/$name/*" \( -name 'part-*.parquet' -o -name predictions.json -o -name out_of_fold.json \) \
        -o -path 'data/corridor_augmented/high_risk.json' -o -path 'data/corridor_augmented/clutter.json' \
        -o -path 'data/corridor_augmented/objects.json' \) -print0 |
        tar --null --files-from=- --sort=name --owner=0 --group=0 --mtime=@0 -cJf "$kept/$name.tar.xz"
      du -h "$kept/$name.tar.xz"
    done
    ;;
  restore)
    for name in "$@"; do
      if [ -e "predictions/$name" ]; then
        echo "predictions/$name is there already; remove it first" >&2
        exit 2
      fi
      tar -xJf "$kept/$name.tar.xz"
      echo "predictions/$name"
    done
    ;;
  *)
    echo "usage: benchmarks/board_predictions.sh keep|restore NAME…" >&2
    exit 2
    ;;
esac
