#!/usr/bin/env bash
# Sets up, gets MNIST for the tests that want real digits, and runs linter and tests.
#
#   bash scripts/test.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh --dev
.venv/bin/python -m scripts.download_data mnist
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest "$@"
