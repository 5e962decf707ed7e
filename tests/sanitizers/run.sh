#!/usr/bin/env bash
# Runs the tests of the scoring kernel on a library built with the address and undefined-behaviour sanitizers.
# It works on a copy of the project, so the library in use stays as it is. Needs gcc with libasan and libubsan (Linux).
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r nightscore tests hatch_build.py pyproject.toml "$copy"
python=$PWD/.venv/bin/python
cd "$copy"
CC=gcc "$python" - <<'PYTHON'
from pathlib import Path

from hatch_build import build_kernel

flags = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
assert build_kernel(Path(), extra_flags=flags), "gcc could not build with the sanitizers"
PYTHON
# Python's and NumPy's blocks come from malloc itself, so that each column's end is known; what they leak is theirs.
export PYTHONPATH=$copy PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
libraries="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
# A read past the end must be found, or the run proves nothing.
if LD_PRELOAD=$libraries "$python" tests/sanitizers/read_past_the_end.py 2>report.txt; then
  echo "a read past the end of a column was not found" >&2 && exit 1
fi
grep -q "heap-buffer-overflow" report.txt
LD_PRELOAD=$libraries "$python" -m pytest -q --timeout 1200 tests/unit/test_kernel.py tests/unit/test_forest.py "$@"
