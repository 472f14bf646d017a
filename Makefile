# One command each: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

.PHONY: env demo board example-elpv test check format lock clean
.DELETE_ON_ERROR:

env: $(STAMP) ## create .venv from the lock; does nothing when it is up to date

# The environment lives beside its stamp: an interrupted install leaves no stamp and is taken up again.
$(STAMP): requirements.lock uv.requirements pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "RiskFuse needs Python 3.11 to 3.13: make env PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r uv.requirements
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: env ## photos in, submission out, on a part of the board: about 10 minutes on 2 cores
	$(BIN)/riskfuse run recipes/tiny/pipeline.yaml

board: env ## the same on the whole board of 3,366 scenes: two and a half hours on 2 cores
	$(BIN)/riskfuse run recipes/tiny/board.yaml

example-elpv: env ## the same on 2,624 real photos of solar cells: about an hour on 2 cores
	$(BIN)/riskfuse run recipes/tiny/elpv.yaml

test: env ## the tests that need no GPU, but for the long ones: the quick ones, then those that start processes of their own, two at a time
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --maxprocesses 4 --dist loadfile
	$(BIN)/python -m pytest -m "slow and not gpu and not long" -n 2 --dist loadfile --no-loadscope-reorder # the longest file comes first

check: env ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin anew after a change of pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --quiet --output-file requirements.lock

clean: ## remove what commands built, but for the environment
	rm -rf data saves predictions runs
