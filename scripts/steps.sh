# Functions of the reproduce scripts, which source this file from the repository root.
#
#   SEEDS="0 1" bash scripts/reproduce_mi.sh     other seeds than the pages'
#   DRY_RUN=1 bash scripts/reproduce_mi.sh       prints the commands, to paste one by one; runs none
#
# A script that is called again skips what is finished.

python=.venv/bin/python
seeds=${SEEDS:-}

prepare() {
  if [ -z "${DRY_RUN:-}" ]; then bash scripts/setup.sh; fi
}

section() { printf '\n%s== %s ==\n' "${DRY_RUN:+# }" "$1"; }

note() { printf '%s%s\n' "${DRY_RUN:+# }" "$1"; }

# The command as Python writes it into config.json.
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

run() {
  if [ -n "${DRY_RUN:-}" ]; then command_of "$@"; else "$python" -m "$@"; fi
}

# run_into FOLDER MODULE ARGUMENTS: adds --output-dir FOLDER, and skips the command if the folder
# holds its finished output.
run_into() {
  local folder=$1
  shift
  set -- "$@" --output-dir "$folder"
  if [ -z "${DRY_RUN:-}" ] && [ -e "$folder/config.json" ] &&
    grep -qF "\"command\": \"$(command_of "$@")\"" "$folder/config.json" &&
    grep '"finished"' "$folder/config.json" | tail -n 1 | grep -q true; then
    note "$folder is finished"
  else
    run "$@"
  fi
}

# collect NAME RUNS AND FLAGS: into $runs/tables/NAME.csv
collect() {
  local name=$1
  shift
  run scripts.collect "$@" --output "$runs/tables/$name.csv" --overwrite
}

# Whether a data set is there; says so if it is not. A dry run shows what would need it, too.
has_data() {
  [ -n "${DRY_RUN:-}" ] || [ -e "data/$2" ] || {
    note "left out: no data/$2; get it with: python -m scripts.download_data $1"
    return 1
  }
}
