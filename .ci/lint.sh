#!/usr/bin/env bash
# What can be checked without compiling: the rules of .ci/lint.py, then the format. Each finding is a line
# `file:line: what`; exit status 1 where there is one. Arguments: the files to look at, in place of all.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  mapfile -t sources < <(git ls-files --cached --others --exclude-standard -- '*.hpp' '*.cpp' | sort -u)
  for file in "${sources[@]}"; do
    [ -e "$file" ] && set -- "$@" "$file" # a file that is deleted and not committed is still listed
  done
fi
[ $# -gt 0 ] || { echo 'lint: no sources found' >&2; exit 1; }
command -v clang-format-14 >/dev/null || { echo 'lint: clang-format-14 is missing' >&2; exit 1; }

status=0
/usr/bin/python3 .ci/lint.py "$@" || status=1

# The first place in each file; `clang-format-14 -i FILE` mends them all.
if ! format=$(clang-format-14 --dry-run -Werror "$@" 2>&1); then
  sed -nE 's/^([^ :]+:[0-9]+):[0-9]+: error: .*/\1: not as clang-format-14 -i writes it/p' <<<"$format" | sort -u -t: -k1,1
  status=1
fi
exit $status
