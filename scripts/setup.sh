#!/usr/bin/env bash
# Makes .venv and installs what the project needs; returns at once when that has not changed.
#
#   bash scripts/setup.sh          to run the experiments
#   bash scripts/setup.sh --dev    to run the tests as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  "") files=(requirements.txt) ;;
  --dev) files=(requirements.txt requirements-dev.txt requirements-cluster.txt) ;;
  *) echo "setup.sh: unknown argument '$1'; use --dev or nothing" >&2; exit 2 ;;
esac

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
  echo "setup.sh: '$python' is not Python 3.10 or newer; name one with PYTHON=..." >&2
  exit 2
fi

# The stamp is written last: its presence means that exactly these requirements are installed.
stamp=".venv/.installed-$(cat "${files[@]}" | cksum | tr " " -)"
[ -e "$stamp" ] && exit 0

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing ${files[*]} into .venv (PyTorch is large: a minute or more)" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check "${files[@]/#/--requirement=}"
touch "$stamp"
