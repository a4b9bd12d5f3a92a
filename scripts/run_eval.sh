#!/usr/bin/env bash
# Scores a checkpoint; the log is eval/log.txt (RefineDet: eval<device>/log.txt).
#
#   bash scripts/run_eval.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]
#
# MODEL is the name of a file in configs/ (yolov4) or a path to one; without the right number of arguments the script
# prints those that the model takes.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
# shellcheck source=scripts/launch.sh
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
launch run_eval "$@"
