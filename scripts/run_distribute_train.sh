#!/usr/bin/env bash
# Trains on several devices; the logs are train_parallel<rank>/log.txt (RefineDet: LOG<rank>/log.txt).
#
#   bash scripts/run_distribute_train.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]
#
# MODEL is the name of a file in configs/ (yolov4) or a path to one; with a wrong number of arguments the script prints
# those of the model.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
# shellcheck source=scripts/launch.sh
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
launch run_distribute_train "$@"
