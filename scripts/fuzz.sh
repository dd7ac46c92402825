#!/usr/bin/env bash
# Builds and runs the fuzz targets. It needs cargo and a C++ compiler, and no nightly toolchain. Called by `make fuzz` and
# `make test`; CONTRIBUTING.md tells how to use it.
#
#   scripts/fuzz.sh run              each of TARGETS for FUZZ_SECONDS, as many at once as there are processors
#   scripts/fuzz.sh brief            the same from fuzz/corpus alone, without what earlier runs found
#   scripts/fuzz.sh repeat NAME FILE one input again
#   scripts/fuzz.sh corpus           makes fuzz/corpus anew, from itself, the golden data and what was found
#   scripts/fuzz.sh lock             brings fuzz/Cargo.lock to the versions of Cargo.lock
set -euo pipefail
cd "$(dirname "$0")/.."

targets=${TARGETS:-review pod vpa patch_maths}
seconds=${FUZZ_SECONDS:-60}
folder=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
programs=$folder/$host/release
# Where new inputs go, and stay for the next run.
export FOUND=${FOUND:-$folder/found}

# Coverage as libFuzzer counts it. `cargo fuzz` sets the same; the sanitizers that it adds by default need a nightly toolchain,
# and there is no unsafe code here for them to look at.
coverage=(
  -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares "--cfg fuzzing"
)
# Reviews of pods are a few kilobytes, and what takes a second is as bad as a crash; a busy machine gets ten.
limits=(-max_len=16384 -timeout=10)

fail() { echo "fuzz: $*" >&2; exit 1; }

build() {
  local compiler=${CXX:-c++}
  command -v "$compiler" >/dev/null ||
    fail "no C++ compiler ($compiler): libFuzzer is built with one (g++ or clang; build-essential on Debian)"
  # With a target named, the flags are not used for what runs while building.
  RUSTFLAGS="${RUSTFLAGS:-} ${coverage[*]}" cargo build --locked --release --manifest-path fuzz/Cargo.toml \
    --target "$host" --target-dir "$folder"
}

# fuzz NAME: one target. New inputs go to the first folder of inputs, a failing one to fuzz/artifacts.
fuzz() {
  local name=$1 found=$FOUND/$1 log=$folder/$1.log
  mkdir -p "$found" "fuzz/artifacts/$name"
  if "$programs/$name" -max_total_time="$seconds" "${limits[@]}" -print_final_stats=1 \
    -artifact_prefix="fuzz/artifacts/$name/" "$found" "fuzz/corpus/$name" >"$log" 2>&1; then
    awk -v name="$name" '/DONE/{ print "fuzz: " name ": " $1 " inputs, coverage " $4 }' "$log"
    return
  fi
  grep -A 3 -e panicked -e 'ERROR: libFuzzer' "$log" | cut -c 1-2000 >&2 || tail -n 20 "$log" >&2
  local input
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  echo "fuzz: $name failed, see $log; to repeat it: scripts/fuzz.sh repeat $name $input" >&2
  return 1
}

# Runs this script for each target.
run() {
  local jobs
  jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
  build
  # shellcheck disable=SC2086 # names are to be split
  printf '%s\n' $targets | xargs -P "$jobs" -I NAME scripts/fuzz.sh one NAME
}

# Files of a target's corpus: those that add most. Together they take a second to run, and about 300 kB in the repository.
corpus_max=75

# Keeps what reaches code that the rest does not; how often it does so is left to the runs.
corpus() {
  build
  cargo run --locked --quiet -p vpa-fuzz --bin fuzz-seeds -- "$folder/seeds"
  for name in $targets; do
    local kept=$folder/kept
    rm -rf "$kept"
    mkdir -p "$kept" "$FOUND/$name" "fuzz/corpus/$name"
    "$programs/$name" -set_cover_merge=1 -use_counters=0 "${limits[@]}" "$kept" \
      "fuzz/corpus/$name" "$folder/seeds/$name" "$FOUND/$name" >"$folder/merge-$name.log" 2>&1 ||
      fail "merging of $name failed, see $folder/merge-$name.log"
    # They are written in the order of what they add.
    (cd "$kept" && find . -type f -printf '%T@ %p\n' | sort -n | tail -n "+$((corpus_max + 1))" | cut -d ' ' -f 2 | xargs -r rm)
    rm -rf "fuzz/corpus/$name"
    mv "$kept" "fuzz/corpus/$name"
    echo "fuzz: fuzz/corpus/$name: $(find "fuzz/corpus/$name" -type f | wc -l) files"
  done
  du -sk fuzz/corpus
}

# Cargo keeps the versions that it finds, and takes out what is not needed.
lock() {
  cp Cargo.lock fuzz/Cargo.lock
  cargo metadata --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null
}

case ${1:-run} in
  run) run ;;
  brief)
    FOUND=$folder/brief
    rm -rf "$FOUND"
    run
    ;;
  one) fuzz "$2" ;;
  repeat) build && "$programs/$2" "$3" ;;
  corpus) corpus ;;
  lock) lock ;;
  *) fail "unknown command $1: run, brief, repeat, corpus or lock" ;;
esac
