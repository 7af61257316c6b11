# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# One verb per chore, the same by hand and in CI. `make help` lists them.

PYTHON3 ?= /usr/bin/python3
VENV := .venv
BUILD := build
STAMPS := $(BUILD)/stamps
RESULTS := $(BUILD)/results
COLLECTION := $(BUILD)/collections/ansible_collections/livebackup/qemu
WHEELHOUSE := $(BUILD)/wheelhouse
SCENARIOS := receiver hypervisor group_backup
PACKAGES := lab demo bench faults tests/tools
PYTEST_ARGS ?=

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH):/usr/sbin:/sbin
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/$(BUILD)/collections
export ANSIBLE_NOCOWS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The lab makes namespaces and mounts. PATH is named again because sudo has its own; what Ansible keeps in HOME
# must not end up there as root's.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env --set-home env PATH="$(PATH)")
PYTEST = pytest --junitxml=$(RESULTS)/$@.xml $(PYTEST_ARGS)
PIP_COMPILE = CUSTOM_COMPILE_COMMAND="make lock" pip-compile --quiet --generate-hashes --allow-unsafe \
	--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
RECEIVER_SOURCES = receiver/pyproject.toml $(shell find receiver/src -type f -not -name '*.pyc' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z%_-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Setting up ---------------------------------------------------------------------------------

.PHONY: setup
setup: $(STAMPS)/receiver $(STAMPS)/wheelhouse $(COLLECTION) ## Install what every other verb needs (idempotent)

$(STAMPS):
	@mkdir -p $@

$(STAMPS)/packages: tests/tools/packages.sh tests/tools/packages.txt lab/packages.txt | $(STAMPS)
	sh tests/tools/packages.sh tests/tools/packages.txt lab/packages.txt
	@touch $@

$(STAMPS)/venv: requirements-dev.lock $(STAMPS)/packages
	test -x $(VENV)/bin/python || $(PYTHON3) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	@touch $@

$(STAMPS)/receiver: receiver/pyproject.toml $(STAMPS)/venv
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable receiver
	@touch $@

# ansible finds the collection under its own name wherever the checkout lies
$(COLLECTION):
	@mkdir -p $(dir $@)
	ln -sfn $(CURDIR) $@

$(STAMPS)/wheels: receiver/requirements.lock requirements-hosts.lock $(STAMPS)/venv
	@mkdir -p $(WHEELHOUSE)
	$(VENV)/bin/python -m pip wheel --quiet --require-hashes --no-deps --wheel-dir $(WHEELHOUSE) \
		--requirement receiver/requirements.lock --requirement requirements-hosts.lock
	@touch $@

$(STAMPS)/wheelhouse: $(RECEIVER_SOURCES) $(STAMPS)/wheels
	rm -f $(WHEELHOUSE)/livebackup_receiver-*.whl
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEELHOUSE) ./receiver
	@touch $@

## Tests --------------------------------------------------------------------------------------

LINTS := lint-ruff lint-mypy lint-ansible lint-yaml lint-docs lint-changelog lint-licences
MOLECULE := $(SCENARIOS:%=molecule-%)
# In this order: what fails soonest comes first.
SECTIONS := $(LINTS) test-unit test-receiver sanity test-qemu test-lab $(MOLECULE) test-integration \
	faults torture-short

.PHONY: test
test: setup ## Everything below, with one summary at the end
	python tests/tools/run_sections.py --results $(RESULTS) $(SECTIONS)

.PHONY: test-unit
test-unit: setup ## The collection's pure parts, and what the repository promises of itself
	$(PYTEST) tests/unit tests/repository

.PHONY: test-receiver
test-receiver: setup ## The receiver, against real storage daemons
	$(AS_ROOT) $(PYTEST) --numprocesses 2 receiver/tests

.PHONY: test-qemu
test-qemu: setup ## The modules, against real QEMU processes and a real receiver
	$(AS_ROOT) $(PYTEST) --numprocesses 3 tests/qemu

.PHONY: test-lab
test-lab: setup ## The lab's own hosts and guests
	$(AS_ROOT) $(PYTEST) tests/lab

.PHONY: test-integration
test-integration: setup ## Real VMs on the lab's hosts, faults included; the playbooks as AWX starts them
	$(AS_ROOT) $(PYTEST) tests/integration tests/runner

FAULTS = $(AS_ROOT) python -m faults
.PHONY: faults
faults: setup ## Kill, hang and fail every actor at every boundary of a backup; ONLY=text for some of them
	$(FAULTS) enumerate $(ONLY)

SEED ?= 1
ROUNDS ?= 100
.PHONY: torture
torture: setup ## Random sites, random faults, any number at once; SEED=n ROUNDS=m
	$(FAULTS) torture $(SEED) $(ROUNDS)

# seeds whose faults are of many kinds
SHORT_TORTURE := 1:6 2:6
.PHONY: torture-short
torture-short: setup ## Some rounds of torture with fixed seeds
	for each in $(SHORT_TORTURE); do $(FAULTS) torture $${each%:*} $${each#*:} || exit 1; done

CUTS ?= 500
.PHONY: powercut
powercut: setup ## Cut the power while points are committed, dropped and merged; CUTS=n times
	$(AS_ROOT) env LIVEBACKUP_POWERCUTS=$(CUTS) $(PYTEST) receiver/tests/consolidation/test_powercut.py

.PHONY: molecule
molecule: $(MOLECULE) ## The roles, deployed twice and verified on the lab's hosts

.PHONY: $(MOLECULE)
$(MOLECULE): molecule-%: setup
	$(AS_ROOT) python tests/tools/run_scenario.py $*

.PHONY: sanity
sanity: setup ## ansible-test sanity on the files of the checkout
	python tests/tools/sanity.py

.PHONY: lint
lint: $(LINTS) ## Every linter

.PHONY: $(LINTS)
lint-ruff: setup
	ruff check .
	ruff format --check --quiet .
	vermin --quiet --violations --no-tips --target=3.9- plugins

lint-mypy: setup
	cd receiver && mypy
	mypy $(PACKAGES)

lint-ansible: setup
	ansible-lint --offline --profile production

lint-yaml: setup
	yamllint --strict .

lint-docs: setup
	antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .

lint-changelog: setup
	antsibull-changelog lint

lint-licences: setup
	reuse lint

## Seeing it ----------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## Back up three VMs on two hypervisors into a receiver, restore them, and prove it
	$(AS_ROOT) python -m demo

.PHONY: bench
bench: setup ## Measure; SECTION=name for one part
	$(AS_ROOT) python -m bench $(SECTION)

.PHONY: lab-up
lab-up: setup ## Boot the lab: two hypervisors with VMs, one receiver
	$(AS_ROOT) python -m lab up

.PHONY: lab-down
lab-down: setup ## Remove the lab without a trace
	$(AS_ROOT) python -m lab down

.PHONY: lab-status
lab-status: setup ## What runs in the lab
	$(AS_ROOT) python -m lab status

## Taking it to other hosts -------------------------------------------------------------------

DIST := $(BUILD)/dist
.PHONY: dist
dist: setup ## The collection and the receiver's package as files, in build/dist
	rm -rf $(DIST)
	@mkdir -p $(DIST)
	ansible-galaxy collection build --force --output-path $(DIST) .
	cp $(WHEELHOUSE)/livebackup_receiver-*.whl $(DIST)

## Writing ------------------------------------------------------------------------------------

.PHONY: docs
docs: setup ## Build the documentation into build/docs
	sh docs/preview/build.sh $(BUILD)/docs

.PHONY: openapi
openapi: setup ## Write the API's schema anew
	livebackup-receiver openapi > tests/contract/openapi.json

.PHONY: lock
lock: ## Compile the lock files anew (needs a .venv with pip-tools)
	$(PIP_COMPILE) --output-file receiver/requirements.lock receiver/pyproject.toml
	$(PIP_COMPILE) --output-file requirements-dev.lock --extra tests requirements-dev.in receiver/pyproject.toml
	$(PIP_COMPILE) --constraint receiver/requirements.lock --output-file requirements-hosts.lock requirements-hosts.in

.PHONY: clean
clean: ## Remove everything that setup and the tests made
	-$(AS_ROOT) python -m lab down --all
	$(AS_ROOT) rm -rf $(BUILD) $(VENV)
