# Two commands are all a user needs: `make serve` and `make test`. Each sets up what it needs in .venv first.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
PORT ?= $(or $(TIMECONV_PORT),8000)
TRAINING ?= 0
OPENVINO ?= 0
OTEL ?= 0
TLS ?= 0
# One for each address, since it names it.
CERTIFICATE := build/tls$(addprefix -,$(subst :,_,$(ADDRESS)))/cert.pem
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Apart, since these tools bring plug-ins for pytest.
AUDIT := build/audit
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r

.PHONY: help serve test lint clip tutorial train train-smoke bench load soak ops-test javascript screenshots face-region fuzz openapi sbom audit models \
    dashboards lock wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

ifeq ($(OPENVINO),1)
serve test: $(VENV)/openvino.done
endif

ifeq ($(OTEL),1)
serve: $(VENV)/otel.done
endif

ifeq ($(TLS),1)
ifndef TIMECONV_TLS_CERT
serve: $(CERTIFICATE)
serve: export TIMECONV_TLS_CERT = $(CERTIFICATE)
serve: export TIMECONV_TLS_KEY = $(CERTIFICATE:cert.pem=key.pem)
endif
endif

serve: $(VENV)/serve.done ## the service and its page, on http://127.0.0.1:8000; PORT=8080, TLS=1 for https
	exec $(BIN)/timeconv serve --port $(PORT)

test: $(VENV)/test.done ## all tests but those that need torch or OpenVINO; TRAINING=1, OPENVINO=1 for these too
ifeq ($(TRAINING),1)
test: $(VENV)/training.done
	$(BIN)/python -m pytest
else
	@echo "The tests of training/ need torch and are left out; 'make test TRAINING=1' installs it and runs them too."
	$(BIN)/python -m pytest -m "not training" --ignore=tests/training
endif

lint: $(VENV)/test.done ## ruff, and mypy in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy service client/timeconv_client loadtest monitoring examples

CLIP ?= face.avi
clip: $(VENV)/test.done ## two seconds of a face as a video, for who has none at hand; CLIP=face.webm for the page
	$(BIN)/python -m loadtest.clips $(CLIP)

TUTORIAL ?=
tutorial: $(VENV)/test.done ## follow docs/tutorial.md from a fresh clone of the last commit, and time it; TUTORIAL="--port 8080"
	$(BIN)/python -m tests.tutorial $(TUTORIAL)

FER2013 ?= ../shared/data/faces/fer2013.npz
train: $(VENV)/training.done ## train the four networks for people anew, in half a day; FER2013=file.npz
	sh training/ship.sh $(FER2013) $(BIN)/python

train-smoke: $(VENV)/training.done ## render a little, train all six networks for one step and export them; a minute
	$(BIN)/python -m pytest -v tests/training/test_smoke.py

BENCH ?=
bench: $(VENV)/benchmark.done ## CPU time of a prediction beside its floor, in build/bench.json; BENCH=--help; wants an idle machine
	$(BIN)/python -m loadtest.bench $(BENCH)

LOAD ?=
load: $(VENV)/test.done ## an open-loop load, its report in build/load.html; LOAD="--group 60x15 --ramp", LOAD=--help
	$(BIN)/python -m loadtest.load $(LOAD)

SOAK ?=
soak: $(VENV)/test.done ## ten minutes of chaos, what came of it in build/soak.json; SOAK="--seconds 60", SOAK=--help
	$(BIN)/python -m loadtest.soak $(SOAK)

OPS ?=
ops-test: $(VENV)/test.done ## dashboards, rules and alerts against a real prometheus, a load and faults, in build/ops; OPS=--help
	$(BIN)/python -m loadtest.ops $(OPS)

javascript: build/javascript/done ## TypeScript, axe-core, and a WebSocket for Node, for the tests of page and timeconv.js; needs npm

screenshots: $(VENV)/test.done ## the pictures of the page in docs/images, from Chromium; a minute
	$(BIN)/python -m tests.screenshots

# Clips of faces; the figures of docs/javascript.md are of such.
CLIPS ?=
face-region: $(VENV)/test.done ## what sending the face alone saves, in bytes and CPU, and how the emotions agree; CLIPS="a.mpg b.mp4"
	$(BIN)/python -m tests.face_region $(CLIPS)

FUZZ ?=
fuzz: $(VENV)/test.done ## 240,000 inputs for every parser that strangers reach; FUZZ="--inputs 1000000 decoder", FUZZ=--help
	$(BIN)/python -m tests.fuzz $(FUZZ)

URL ?= http://127.0.0.1:8000
# No schema can say that bytes are a JPEG, so what is allowed by it may still be refused.
openapi: $(AUDIT)/audit.done ## a thousand calls of a running service, by its OpenAPI document (schemathesis); URL=, TIMECONV_KEY=
	$(AUDIT)/bin/st run $(URL)/openapi.json $(if $(TIMECONV_KEY),-H "Authorization: Bearer $$TIMECONV_KEY") --continue-on-failure -n 1000 -c all --exclude-checks positive_data_acceptance

sbom: $(AUDIT)/audit.done ## what the service is made of, by the lock file, as CycloneDX in build/sbom.json
	$(AUDIT)/bin/cyclonedx-py requirements requirements/serve.txt --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json

audit: $(AUDIT)/audit.done ## known vulnerabilities of the locked packages; asks the package index
	$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements/serve.txt

models: $(VENV)/test.done ## the tables of README.md and docs/models.md, from manifests and docs/results
	$(BIN)/python -m training.document

dashboards: $(VENV)/test.done ## the Grafana dashboards, and their tables in docs/dashboards.md, from monitoring/dashboards
	$(BIN)/python -m monitoring.dashboards

lock: $(VENV)/uv.done ## compile requirements/*.txt from pyproject.toml
	./requirements/compile.sh $(UV)

wheel: $(VENV)/test.done ## the wheel, in dist/
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .

clean: ## remove the environment and all build products
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache

# Made here and trusted by nobody: a browser asks once, and then lets a page use its camera, which it does over https only.
$(CERTIFICATE):
	@command -v openssl >/dev/null || { echo "TLS=1 needs openssl to make a certificate, or set TIMECONV_TLS_CERT and TIMECONV_TLS_KEY"; exit 1; }
	@mkdir -p $(@D)
	umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$$(hostname)" \
		-addext "subjectAltName=DNS:localhost,DNS:$$(hostname),IP:127.0.0.1$(ADDRESS:%=,IP:%)" \
		-keyout $(@D)/key.pem -out $@ 2>/dev/null

$(VENV)/uv.done: requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/serve.done: $(VENV)/uv.done requirements/serve.txt pyproject.toml
	$(INSTALL) requirements/serve.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/test.done: $(VENV)/serve.done requirements/test.txt
	$(INSTALL) requirements/test.txt
	@touch $@

$(VENV)/benchmark.done: $(VENV)/test.done requirements/benchmark.txt
	$(INSTALL) requirements/benchmark.txt
	@touch $@

build/javascript/done: tests/web/package.json tests/web/package-lock.json
	@mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --silent --no-audit --no-fund
	@touch $@

$(AUDIT)/audit.done: $(VENV)/uv.done requirements/audit.txt
	$(PYTHON) -m venv $(AUDIT)
	$(UV) pip install --quiet --python $(AUDIT)/bin/python --require-hashes -r requirements/audit.txt
	@touch $@

$(VENV)/openvino.done: $(VENV)/serve.done requirements/openvino.txt
	$(INSTALL) requirements/openvino.txt
	@touch $@

$(VENV)/otel.done: $(VENV)/serve.done requirements/otel.txt
	$(INSTALL) requirements/otel.txt
	@touch $@

# torch comes by pip: a plain index serves its CUDA build, which brings libraries that uv's lock would have to pin.
$(VENV)/training.done: $(VENV)/test.done requirements/training.txt
	$(INSTALL) requirements/training.txt
	$(BIN)/python -m pip install --quiet torch==2.13.0
	@touch $@
