# make demo   set up, then run the whole chain on the embedded models (2 cores are enough)
# make test   set up, then lint, type-check and test
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup demo browser test test-fast test-end-to-end lint graph docs reference bench lock clean

help:
	@sed -n 's/^# make/  make/p' Makefile

# make setup  .venv with pinned packages
setup:
	@training_scripts/setup_env.sh

demo: setup
	$(PY) -m seg_zero.cli demo

# make lint   ruff, mypy, the layers of the code, the Dockerfiles
lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --num-workers 2 seg_zero
	.venv/bin/lint-imports --no-cache
	.venv/bin/hadolint Dockerfile.cpu Dockerfile.cuda

# make graph  docs/images/architecture.svg, the picture of the layers
graph: setup
	$(PY) docs/import_graph.py

# make reference  docs/commands.md and docs/configuration.md, from the parsers and configs/
reference: setup
	$(PY) docs/reference.py

# make docs   the documentation as a site: build/site/index.html, which needs no server; links are checked
docs: reference
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "open $(CURDIR)/build/site/index.html"

# make browser  a Chromium for the browser tests, if there is none
browser: setup
	$(PY) tests/helpers/chromium.py

# make test-fast  without the end-to-end tests
# One thread each: two processes with two threads each on two cores wait for one another's threads.
test-fast: export OMP_NUM_THREADS = 1
test-fast: browser
	$(PY) -m pytest tests --ignore tests/end_to_end -n 2 --dist loadfile

# make test-end-to-end  training runs, kills and servers
test-end-to-end: setup
	$(PY) -m pytest tests/end_to_end

test: lint test-fast test-end-to-end

# make bench  all benchmarks, the better part of an hour: outputs/benchmarks/report.md; docs/benchmarks.md says what they mean
bench: setup
	$(PY) benchmarks/report.py

# make lock   pin requirements/*.txt anew from setup.py
lock:
	for kind in cpu gpu; do \
	  uv pip compile --universal --python-version 3.10 --override requirements/overrides.txt \
	    --extra $$kind --extra train --extra serve --extra web --extra open-vocabulary --extra online3d --extra rerun --extra remote-sensing --extra dev --no-annotate --no-header --quiet --output-file requirements/$$kind.txt setup.py || exit 1; \
	done

clean:
	rm -rf .venv build outputs *.egg-info .pytest_cache .mypy_cache .ruff_cache
