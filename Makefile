# Everything sets itself up: git, make and Python 3.11 or newer are enough.  `make help` lists what there is.
# Each command takes more arguments: make demo ARGS="--help"

SHELL = /bin/sh
.DEFAULT_GOAL = help
.NOTPARALLEL:

PYTHON ?=
ARGS ?=
DATA ?= ../shared/data/handbook
TABLE ?=
export PYTHON

run = .venv/bin/python -m
set_up = sh deploy/bootstrap.sh
# All four are run and reported, also where one has found something.
checks = "ruff check ." "ruff format --check ." "mypy" "pytest -m 'not slow' $(ARGS)"

.PHONY: setup demo test up servers mine down status lint faults mutants bench swaps handbook oracle bench-quality lock clean help

setup: ## The environment for developing, in .venv/ and .local/: a minute the first time
	@$(set_up) dev

demo: ## The main job on a real Kafka: simulate, train, load, score 240,000 live transactions, sum up
	@$(set_up) demo
	@$(run) loadgen demo $(ARGS)

test: ## Everything that is checked: ruff, mypy, and all tests but the slow ones
	@$(set_up) dev
	@failed=; for check in $(checks); do \
		echo "== $$check"; eval "$(run) $$check" || failed="$$failed [$$check]"; \
	done; \
	if [ -n "$$failed" ]; then echo "== failed:$$failed"; exit 1; fi

up: ## Kafka, Redis, one worker and an explainer, left running; prints the addresses, and by which model is judged
	@$(set_up) demo
	@$(run) deploy.local up $(ARGS)

servers: ## Kafka, Redis and the topics alone, to load a past; `make up` then adds what judges
	@$(set_up) demo
	@$(run) deploy.local up --servers-only $(ARGS)

mine: ## From your table to your model judging your payments, left running; TABLE=payments.csv
	@if [ -z "$(TABLE)" ]; then echo "say which table: make mine TABLE=payments.csv" >&2; exit 2; fi
	@$(set_up) demo
	@$(run) deploy.local mine "$(TABLE)" $(ARGS)

down: ## Ends what `make up`, `make servers` and `make mine` started
	@if [ -x .venv/bin/python ]; then $(run) deploy.local down; else echo "nothing is set up here"; fi

status: ## What runs, where, and by which model is judged; eval "$(make -s status)" sets what commands need
	@$(set_up) demo
	@$(run) deploy.local status $(ARGS)

lint: ## ruff and mypy; ARGS=--fix mends what can be mended
	@$(set_up) dev
	@$(run) ruff check $(ARGS) .
	@$(run) ruff format .
	@$(run) mypy

faults: ## Half an hour: kills, stops and wiped stores under load, 100,000 spoiled messages, and what must hold after each; ARGS="-k kills" for some
	@$(set_up) dev
	@$(run) pytest tests/faults -m slow $(ARGS)

mutants: ## An hour at most: small faults planted in the code one by one, and which of them no test notices; ARGS="--minutes 5 training/gates.py"
	@$(set_up) dev
	@$(run) benchmarks.mutants $(ARGS)

bench: ## Minutes: how fast workers drain a full topic, what alerts cost, and how long a verdict takes at 2,000 a second
	@$(set_up) demo
	@$(run) benchmarks.drain $(ARGS)
	@$(run) benchmarks.reasons $(ARGS)
	@$(run) benchmarks.open_loop $(ARGS)

swaps: ## Minutes: models come and go under load; what must hold of latency, memory and every verdict
	@$(set_up) demo
	@$(run) benchmarks.swaps $(ARGS)

handbook: ## Minutes: published transactions through the worker; DATA=the folder of its transactions.parquet
	@$(set_up) demo
	@$(run) benchmarks.handbook "$(DATA)" $(ARGS)

oracle: ## Minutes: August of the published transactions through the worker, against the features published of them; DATA
	@$(set_up) demo
	@$(run) benchmarks.oracle "$(DATA)" $(ARGS)

bench-quality: ## An hour at most: the handbook's published protocol, its table beside ours; DATA
	@$(set_up) demo
	@$(run) benchmarks.quality "$(DATA)" $(ARGS)

lock: ## Resolve the requirements and Kafka's jars anew; ARGS=--upgrade takes newer versions
	@$(set_up) dev
	@sh deploy/lock.sh $(ARGS)
	@$(run) deploy.local.jars lock

clean: ## Removes all that was made here: the environment, the downloads, the data, the models
	-@$(MAKE) --no-print-directory down
	rm -rf .venv .local .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
