# Functions of the other shell scripts, which source this file from the root.
#
#   SEEDS="0 1" bash scripts/reproduce_mi.sh     other seeds than the pages', in a folder of their own
#   DRY_RUN=1 bash scripts/reproduce_mi.sh       prints the commands, to paste one by one; runs none
#
# A script that is called again skips what is finished.

python=.venv/bin/python

# one_of ALLOWED ARGUMENTS: sets $argument to the only argument, or to nothing
one_of() {
  local allowed=$1 word
  shift
  argument=${1:-}
  for word in "" $allowed; do
    if [ $# -le 1 ] && [ "$argument" = "$word" ]; then return; fi
  done
  echo "${0##*/}: arguments '$*'; use at most one of $allowed" >&2
  exit 2
}

# read_seeds: sets $SEEDS to whole numbers with a space between them, or to nothing if it is not
# set; then $of_seeds, which ends the name of a folder, is empty too
read_seeds() {
  local wrong
  SEEDS=$(set -f; set -- ${SEEDS:-}; printf '%s\n' "$*")
  wrong=$(tr " " "\n" <<<"$SEEDS" | grep -vxE '(0|[1-9][0-9]*)?' ||
    tr " " "\n" <<<"$SEEDS" | sort | uniq -d)
  of_seeds=${SEEDS:+-seeds-${SEEDS// /-}}
  if [ -z "$wrong" ]; then return; fi
  echo "${0##*/}: SEEDS='$SEEDS'; give whole numbers with spaces between them, each once" >&2
  exit 2
}

prepare() {
  if [ -z "${DRY_RUN:-}" ]; then bash scripts/setup.sh; return; fi
  echo "bash scripts/setup.sh"
  echo "source .venv/bin/activate"
}

section() { printf '\n%s== %s ==\n' "${DRY_RUN:+# }" "$1"; }

note() { printf '%s%s\n' "${DRY_RUN:+# }" "$1"; }

# A command to paste.
command_of() {
  local word line="python -m"
  for word in "$@"; do
    case $word in
      "" | *[!A-Za-z0-9_@%+=:,./-]*) line="$line '$word'" ;;
      *) line="$line $word" ;;
    esac
  done
  printf '%s\n' "$line"
}

# run MODULE ARGUMENTS: skips the command if its --output-dir holds its finished output, of runs
# that have not changed since.
run() {
  local word before="" folder=""
  if [ -n "${DRY_RUN:-}" ]; then command_of "$@"; return; fi
  for word in "$@"; do
    if [ "$before" = --output-dir ]; then folder=$word; fi
    before=$word
  done
  if [ -n "$folder" ] && [ -e "$folder/config.json" ] &&
    "$python" -m scripts.finished_runs "$folder" "$@"; then
    note "$folder is finished"
  else
    "$python" -m "$@"
  fi
}

# run_into FOLDER MODULE ARGUMENTS: adds --output-dir FOLDER
run_into() {
  local folder=$1
  shift
  run "$@" --output-dir "$folder"
}

# collect NAME RUNS AND FLAGS: into $runs/tables/NAME.csv
collect() {
  local name=$1
  shift
  run scripts.collect "$@" --output "$runs/tables/$name.csv" --overwrite
}

# has_data NAME FOLDER: says so if the data set is missing; a dry run then shows the download.
has_data() {
  if [ -e "data/$2" ]; then return; fi
  if [ -n "${DRY_RUN:-}" ]; then run scripts.download_data "$1"; return; fi
  note "left out: no data/$2; get it with: python -m scripts.download_data $1"
  return 1
}
