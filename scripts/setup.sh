#!/usr/bin/env bash
# Makes .venv and installs what the project needs; returns at once when that has not changed.
#
#   bash scripts/setup.sh          to run the experiments
#   bash scripts/setup.sh --dev    to run the tests as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/steps.sh

files=(requirements.txt)
one_of --dev "$@"
if [ -n "$argument" ]; then files+=(requirements-dev.txt requirements-cluster.txt); fi

# Stamps are written last: their presence means that exactly these requirements are installed.
stamp_of() { echo ".venv/.installed-$(cat "$@" | cksum | tr " " -)"; }
stamp=$(stamp_of "${files[@]}")
[ -e "$stamp" ] && exit 0

if [ ! -x "$python" ]; then
  base=${PYTHON:-python3}
  if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "setup.sh: '$base' is not Python 3.10 or newer; name one with PYTHON=..." >&2
    exit 2
  fi
  "$base" -m venv .venv
fi
echo "installing ${files[*]} into .venv (PyTorch is large: a minute or more)" >&2
rm -f .venv/.installed-*
"$python" -m pip install --quiet --disable-pip-version-check "${files[@]/#/--requirement=}"
touch "$(stamp_of requirements.txt)" "$stamp"
