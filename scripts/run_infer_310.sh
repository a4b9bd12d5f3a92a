#!/usr/bin/env bash
# Evaluates an exported file on a dataset; the result is acc.log.
#
#   bash scripts/run_infer_310.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]
#
# MODEL is the name of a file in configs/ (yolov4) or a path to one; with a wrong number of arguments the script prints
# those of the model.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
# shellcheck source=scripts/launch.sh
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
launch run_infer_310 "$@"
