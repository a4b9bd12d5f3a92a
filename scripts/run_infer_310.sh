#!/usr/bin/env bash
# Runs an exported file over a dataset and scores it; the result is acc.log.
#
#   bash scripts/run_infer_310.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]
#
# MODEL is the name of a file in configs/ (yolov4) or a path to one; without the right number of arguments the script
# prints those that the model takes.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
# shellcheck source=scripts/launch.sh
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
launch run_infer_310 "$@"
