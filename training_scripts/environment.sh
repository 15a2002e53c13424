# Sourced by the launch scripts: the Python of this checkout, and its package whatever folder the user stands in.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -x "$root/.venv/bin/python" ] && PATH="$root/.venv/bin:$PATH"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if ! command -v python >/dev/null; then
  echo "error: there is no python; make the environment with \`make -C $root setup\`" >&2
  exit 2
fi
