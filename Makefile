# Every verb of the project; `make help` lists them. `make demo` and `make test` do all their set-up themselves.
PYTHON ?= /usr/bin/python3
BIN    := .venv/bin
STAMP  := build/.setup-done
BUILT  := build/.compiled
SOURCES := $(shell find src/_fastpath -type f -name '*.[ch]' -o -name '*.p[yx]*' -not -name '*.pyc')
PYTHON_CODE := src cloud tests bench cross firmware-images setup.py
C_CODE := 'src/_fastpath/*.[ch]' 'tests/*.c'
PREFIX ?= /opt/kubeedge
LINKS  ?= /usr/local/bin

.DEFAULT_GOAL := help
.PHONY: help setup dev wheel wheels deb image test-boot cloud-image mapper-image manifests install uninstall demo test test-kubernetes test-containerd conformance conformance-gateway lint format format-check bench simulate powercut powercut-image chaos fuzz soak cross fresh clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: $(STAMP)  ## Debian packages, virtual environment, compiled extension, kubectl

$(STAMP): setup.py pyproject.toml cloud/pyproject.toml tests/kit/setup.sh tests/kit/requirements.txt
	bash tests/kit/setup.sh $(PYTHON)
	@mkdir -p build && touch $(STAMP) $(BUILT)

# what has changed in src/_fastpath since set-up, which compiles everything
$(BUILT): $(SOURCES) | $(STAMP)
	@[ -z "$$(find $(SOURCES) -newer $@ 2>&1)" ] || $(BIN)/python -m tests.kit.dev_build
	@touch $@

dev:             ## compile what has changed in src/_fastpath, in place
	$(BIN)/python -m tests.kit.dev_build

wheel:           ## both distributions and all that they depend on, in dist/: what other machines of this Debian release install
	$(PYTHON) -m venv build/packaging
	build/packaging/bin/pip install -q --disable-pip-version-check build
	rm -rf dist build/wheels
	build/packaging/bin/python -m build --outdir dist .
	build/packaging/bin/python -m build --outdir dist cloud
	build/packaging/bin/pip wheel -q --disable-pip-version-check --wheel-dir build/wheels dist/*.whl
	cp -n build/wheels/*.whl dist/

wheels:          ## the agent and its dependencies as wheels for ARM and x86-64, in dist/wheels: [TARGET=armv7l] [PYTHON_VERSION=3.11] [TRY=1: emulated, in fresh roots]
	$(PYTHON) -m cross.wheels $(if $(TARGET),--target $(TARGET)) $(if $(PYTHON_VERSION),--python $(PYTHON_VERSION)) $(if $(TRY),--try)

deb:             ## Debian packages of agent and cloud side for amd64, arm64, armhf, Debian 12 and 13, in dist/deb: [TARGET=armv7l] [PYTHON_VERSION=3.11] [REVISION=1]
	PYTHONPATH=src $(PYTHON) -m cross.deb $(if $(TARGET),--target $(TARGET)) $(if $(PYTHON_VERSION),--python $(PYTHON_VERSION)) $(if $(REVISION),--revision $(REVISION))

image: $(STAMP)  ## an image for a card and its bundle for updates, in dist/images: BOARD=tiny|qemu|armhf|devices|rpi5|rpi4|rpi3|zero2w; needs mtools dosfstools squashfs-tools kmod binutils: [KEY=FILE] [QUICK=1: less compressed]
	PYTHONPATH=src:firmware-images:. $(BIN)/python -m cardimage build --board $(or $(BOARD),tiny) $(if $(DEBS),--debs $(DEBS)) $(if $(KEY),--update-key $(KEY)) $(if $(QUICK),--quick)

test-boot: $(BUILT) ## that image in an emulated machine: it joins, runs pods, loses its power, is updated; needs qemu-system-arm u-boot-qemu: [BOARD=tiny|qemu|armhf|rpi3] [STEPS=all|short|update|start] (rpi3: short or start) [KEY=FILE]; GPIO, CAN, serial lines, Bluetooth: BOARD=devices STEPS=devices
	PYTHONPATH=firmware-images:. $(BIN)/python -m bench.boot --board $(or $(BOARD),tiny) --steps $(or $(STEPS),all) $(if $(KEY),--update-key $(KEY)) $(wildcard dist/images/kubeedge-$(or $(BOARD),tiny)-*.img.xz)

cloud-image: wheel $(STAMP) ## the cloud side as an OCI image without a container daemon: build/image/kubeedge-cloud.tar and its SBOM ([IMAGE=name:tag])
	$(BIN)/python -m cloud.image --python build/packaging/bin/python $(if $(IMAGE),--name $(IMAGE))

mapper-image: wheel $(STAMP) ## all mappers of the agent as an OCI image, likewise: build/image/kubeedge-mappers.tar ([IMAGE=name:tag])
	$(BIN)/python -m cloud.image mappers --python build/packaging/bin/python $(if $(IMAGE),--name $(IMAGE))

manifests: $(STAMP) ## what is made from the chart and from the table of its rights: cloud/manifests
	$(BIN)/python -m cloud.manifests

install: wheel   ## both distributions into a virtual environment of their own ([PREFIX=/opt/kubeedge]), `kubeedge` on the PATH
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip install -q --disable-pip-version-check --no-index --find-links dist --force-reinstall kubeedge kubeedge-cloud
	ln -sf $(PREFIX)/bin/kubeedge $(PREFIX)/bin/keadm $(LINKS)/

uninstall:       ## undo install; a node is reset first (`kubeedge reset`), and the cloud's data stays
	if [ -d /run/systemd/system ]; then systemctl disable --now kubeedge-cloud.service; fi
	rm -f /etc/systemd/system/kubeedge-cloud.service $(LINKS)/kubeedge $(LINKS)/keadm
	rm -rf $(PREFIX)
	@echo 'the data of a cloud is in /var/lib/kubeedge/cloud, its configuration in /etc/kubeedge/cloud.yaml'

demo: $(BUILT)   ## the main job, end to end: two edge nodes behind NAT, a cloud, kubectl (KEEP=1 leaves it running, KUBERNETES=1: real Kubernetes)
	$(BIN)/python -m bench.demo --results build/results $(if $(KEEP),--keep) $(if $(QUICK),--quick) $(if $(KUBERNETES),--kubernetes)

test: lint $(BUILT) ## style, types, import rules, all tests
	$(BIN)/python -m pytest -q $(ARGS)

test-kubernetes: $(BUILT) ## the tests against a real Kubernetes control plane alone, built once, kept outside the checkout: [VERSION=1.35]
	$(BIN)/python -m tests.kit.upstream.build $(if $(VERSION),control-plane-$(VERSION),control-plane) etcd kubectl
	KUBERNETES_RELEASE=$(VERSION) $(BIN)/python -m pytest -q tests/kubernetes $(ARGS)

test-containerd: $(BUILT) ## the suite of container runtimes with containerd 2, built once from its module
	$(BIN)/python -m tests.kit.upstream.build containerd containerd-shim-runc-v2 ctr crictl
	CONTAINERD2=1 $(BIN)/python -m pytest -q tests/netns/test_runtime.py -k containerd2 $(ARGS)

conformance: $(BUILT) ## Kubernetes' e2e tests with edge nodes of ours: [FOCUS=regex] [SKIP=regex] [NODES=2] [PARALLEL=2] [SECONDS=420 for one spec] [MISSING=1: not what passed before] [RUNTIME=cri] [LINE=bad] [FAMILIES=dual]
	$(BIN)/python -m tests.kit.upstream.build control-plane etcd kubectl kube-proxy e2e.test agnhost nonewprivs sample-apiserver
	$(BIN)/python -m bench.conformance --nodes $(or $(NODES),2) --parallel $(or $(PARALLEL),2) --seconds $(or $(SECONDS),420) $(if $(FOCUS),--focus '$(FOCUS)') $(if $(SKIP),--skip '$(SKIP)') $(if $(MISSING),--missing) $(if $(RUNTIME),--runtime $(RUNTIME)) $(if $(LINE),--line $(LINE)) $(if $(FAMILIES),--families $(FAMILIES))

conformance-gateway: $(BUILT) ## Gateway API's conformance suite with Gateways of the cloud and pods of edge nodes: [NODE=1: Gateways of a node] [TEST=ShortName] [PROFILES=GATEWAY-HTTP,...]
	$(BIN)/python -m tests.kit.upstream.build control-plane etcd kubectl gateway-conformance echo-basic
	$(BIN)/python -m bench.conformance.gateway $(if $(NODE),--on-node) $(if $(TEST),--test $(TEST)) $(if $(PROFILES),--profiles $(PROFILES))

lint: $(STAMP)   ## ruff, formatters, mypy --strict, import-linter, docstrings
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	git ls-files $(C_CODE) | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.kit.docstrings

format: $(STAMP) ## ruff format and clang-format on everything
	$(BIN)/ruff format $(PYTHON_CODE)
	git ls-files $(C_CODE) | xargs $(BIN)/clang-format -i

bench: $(BUILT)  ## one bench: NAME=demo ...; writes bench/results/NAME.json
	$(if $(wildcard bench/$(or $(NAME),-)/__main__.py),,$(error NAME is one of $(patsubst bench/%/__main__.py,%,$(wildcard bench/*/__main__.py))))
	$(BIN)/python -m bench.$(NAME)

simulate: $(BUILT) ## the seeded simulator: SEEDS=n [SEED=k]
	$(BIN)/python -m tests.simulator --seeds $(or $(SEEDS),200) $(if $(SEED),--seed $(SEED))

powercut: $(BUILT) ## power cuts at every write of the real store: [CUTS=10000] [SEED=1]
	$(BIN)/python -m tests.faults.powercut --cuts $(or $(CUTS),10000) --seed $(or $(SEED),1)

powercut-image: $(BUILT) ## power cuts at every write to a card, of an emulated machine's first start and updates: [CUTS=10000] [SEED=s] [KEY=FILE]; needs make image
	PYTHONPATH=firmware-images:. $(BIN)/python -m tests.faults.powercut_image --cuts $(or $(CUTS),10000) $(if $(SEED),--seed $(SEED)) $(if $(KEY),--update-key $(KEY))

chaos: $(BUILT)  ## kill -9, SIGSTOP and cut cables on real processes: [SECONDS=60] [SEED=s] [ROUNDS=1] [STORE=etcd or sqlite]
	$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(STORE),--store $(STORE))

fuzz: $(BUILT)   ## libFuzzer on the C decoders: [SECONDS=60 for each] [TARGET=packet]
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(if $(TARGET),--only $(TARGET))

soak: $(BUILT)   ## KubeBus for an hour, with cuts and dying relays: [SECONDS=3600] [SEED=s]
	$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),3600) $(if $(SEED),--seed $(SEED))

cross: $(BUILT)  ## the compiled code and its tests on an emulated processor: [ARCH=armhf] (32 bits), s390x (big endian)
	$(BIN)/python -m cross --arch $(or $(ARCH),armhf)

fresh: $(BUILT)  ## docs/INSTALL.md word for word in fresh Debian roots, packages and wheels for ARM: [RELEASE=bookworm or trixie] [TESTS=1: unit tests there, too]
	$(BIN)/python -m tests.install $(or $(RELEASE),bookworm trixie --wheels) $(if $(TESTS),--tests)

clean:           ## remove everything that was built
	rm -rf build dist .venv src/*.egg-info cloud/*.egg-info
