#!/usr/bin/env bash
# Sets up, gets MNIST for the tests that need real digits, and runs linter, the check that the pages'
# tables agree with the rows in resources/, and tests.
#
#   bash scripts/test.sh               linter and fast tests, 5 to 8 minutes on two cores
#   bash scripts/test.sh ARGUMENTS     linter, and pytest with these arguments alone
#   bash scripts/test.sh --all         the slow tests as well
#   bash scripts/test.sh -m gpu        does the project work on this machine's GPU?
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
arguments=(-m "not slow and not gpu" -n 2 --dist loadfile)
case "${1:-}" in
  --all) arguments=(-n 2 --dist loadfile); shift ;;
  "") ;;
  *) arguments=() ;;
esac
bash scripts/setup.sh --dev
.venv/bin/python -m scripts.download_data mnist
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/python -m scripts.make_tables --check
exec .venv/bin/python -m pytest "${arguments[@]}" "$@"
