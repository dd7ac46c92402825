#!/usr/bin/env bash
# Runs everything that a change must pass, part by part, and tells how long each took. Called by `make test`.
# E2E says where the scenarios run: sim, faulty, real or both (the default). With sim, and so with both, those that are to
# end the same when requests fail run with faults as well. FUZZ_SECONDS is the time for each fuzz target, 15 by default; 0
# leaves them out.
set -uo pipefail
cd "$(dirname "$0")/.."

e2e=${E2E:-both}
export FUZZ_SECONDS=${FUZZ_SECONDS:-15}
target=${CARGO_TARGET_DIR:-target}
summary=()
started=$SECONDS

fail() { echo "make test: $*" >&2; exit 1; }

# One clear line for a tool that is missing, before anything is built.
need_tools() {
  case $e2e in sim|faulty|real|both) ;; *) fail "E2E=$e2e: must be sim, faulty, real or both" ;; esac
  command -v cargo >/dev/null || fail "cargo is not installed: see https://rustup.rs"
  command -v cc >/dev/null || fail "no C compiler (cc): the TLS library needs one (build-essential, gcc or clang)"
  [ "$FUZZ_SECONDS" = 0 ] || command -v "${CXX:-c++}" >/dev/null ||
    fail "no C++ compiler (${CXX:-c++}): the fuzz targets need one (build-essential, g++ or clang);" \
      "'make test FUZZ_SECONDS=0' leaves them out"
  cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is not installed: run 'rustup component add rustfmt'"
  cargo clippy --version >/dev/null 2>&1 || fail "clippy is not installed: run 'rustup component add clippy'"
  if [[ $e2e == @(real|both) ]] && [ -z "${KUBEBUILDER_ASSETS:-}" ]; then
    command -v go >/dev/null || fail "go is not installed: the real control plane is built with it (https://go.dev/dl);" \
      "set KUBEBUILDER_ASSETS to a folder with the programs, or run 'make test E2E=sim'"
  fi
}

# part NAME COMMAND...: runs a part; the first that fails ends the run.
part() {
  local name=$1 start=$SECONDS
  shift
  echo
  echo "==> $name"
  if ! "$@"; then
    summary+=("FAILED  $name ($((SECONDS - start))s)")
    report
    fail "$name failed"
  fi
  summary+=("    ok  $name ($((SECONDS - start))s)")
}

report() {
  echo
  printf '%s\n' "${summary[@]}"
  echo "        in all $((SECONDS - started))s"
}

# --test NAME for every integration test of the given folders, but the golden ones, which are a part of their own.
integration() {
  local path name
  for path in "$@"; do
    name=$(basename "$path" .rs)
    case $path in
      */golden_*) ;;
      *.rs) echo "--test $name" ;;
      *) if [ -f "$path/main.rs" ]; then echo "--test $name"; fi ;;
    esac
  done
}

lint() {
  cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check &&
    cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
}

# What is generated is up to date, and the tree keeps its rules.
tidy() {
  local xtask=$target/debug/xtask
  "$xtask" tidy && "$xtask" crds --check && "$xtask" flags --check
}

# All targets at once: building the tests alone and the programs alone would compile many dependencies twice, each
# time with other features.
build() { cargo build --workspace --all-targets --locked; }

# Always the whole workspace, with filters: choosing packages would change the features of dependencies.
tests() { cargo test --workspace --locked --quiet "$@"; }

unit() {
  local others=()
  for dir in crates/*/tests; do [ "$dir" = crates/vpa-sim/tests ] || others+=("$dir"/*); done
  # shellcheck disable=SC2046 # flags are to be split
  tests --lib --bins $(integration "${others[@]}")
}

golden() { cargo test --workspace --locked --test 'golden_*' -- --nocapture; }

# shellcheck disable=SC2046 # flags are to be split
simulator() { tests $(integration crates/vpa-sim/tests/*); }

scenarios() {
  E2E=$1 VPA_BIN_DIR=$(cd "$target/debug" && pwd) cargo test --workspace --locked --test scenarios
}

need_tools
part "lint" lint
part "build" build
part "tidy" tidy
part "unit tests" unit
part "golden cases" golden
if [ "$FUZZ_SECONDS" != 0 ]; then part "fuzz targets" scripts/fuzz.sh brief; fi
part "simulator" simulator
if [[ $e2e == @(sim|both) ]]; then part "scenarios on the embedded cluster" scenarios sim; fi
if [[ $e2e != real ]]; then part "scenarios with failing requests" scenarios faulty; fi
if [[ $e2e == @(real|both) ]]; then part "scenarios on the real control plane" scenarios real; fi
report
