#!/usr/bin/env bash
# Writes the result file for COCO's test-dev server on a GPU; the log is test/log.txt.
#
#   bash scripts/run_test_gpu.sh MODEL ARGUMENTS... [--dry_run] [--key value ...]
#
# MODEL is the name of a file in configs/ (yolov4) or a path to one; with a wrong number of arguments the script prints
# those of the model.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
# shellcheck source=scripts/launch.sh
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
launch run_test_gpu "$@"
