# SPDX-License-Identifier: GPL-2.0
#
# The front door.  "make help" lists what there is; Kbuild has the objects.
#
#   make                     everything from nothing, in the project's own
#                            environment (tools/env.sh)
#   make KDIR=/path/to/tree  an out-of-tree build as of any other module

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := all
.PHONY: all module env shell run check check-stress check-conformance \
	check-differential check-fuzz check-programs bench fuzz mount.rovl \
	helper_install deb check-packages rustfmt rustfmtcheck clippy doc intree check-intree \
	modules_install clean distclean update-kernel status prune help FORCE

KERNEL ?= stock
ENV := $(CURDIR)/tools/env.sh
IN := $(ENV) run --

ifneq ($(filter-out stock debug,$(KERNEL)),)
$(error KERNEL is "stock" or "debug", not "$(KERNEL)")
endif

# what the commands in the environment may want to know
export KERNEL SERIES T V CI FRESH ACCEL

ifneq ($(if $(KEY),1),$(if $(CERT),1))
$(error KEY=FILE and CERT=FILE sign the module together; one is missing)
endif

ifdef KDIR

# --- out of tree, with the tools on the PATH --------------------------------

with-kdir = all module modules_install clean clippy doc rust-analyzer help
ifneq ($(filter-out $(with-kdir),$(MAKECMDGOALS)),)
$(error with KDIR= there are $(with-kdir), and no "$(filter-out $(with-kdir),$(MAKECMDGOALS))")
endif

kbuild = +$(MAKE) -C $(KDIR) M=$(CURDIR)

all module:
	$(kbuild) modules

modules_install:
	$(kbuild) modules_install

clean:
	$(kbuild) clean

clippy:
	$(kbuild) CLIPPY=1 KRUSTFLAGS=-Dwarnings modules

doc:
	$(kbuild) ROVL_DOC=1 modules

rust-analyzer:
	$(kbuild) rust-analyzer

else

# --- in the environment -----------------------------------------------------

all: module

module: env
	@$(ENV) build $(KERNEL)

env:
	@$(ENV) kernel $(KERNEL)

clippy: env
	@$(ENV) build $(KERNEL) clippy

doc: env
	@$(ENV) build $(KERNEL) doc

modules_install: module
	@set -e; release=$$($(ENV) release $(KERNEL)); \
	dir=$(INSTALL_MOD_PATH)/lib/modules/$$release; \
	install -D -m 644 $$($(ENV) path $(KERNEL)/rovl.ko) $$dir/updates/rovl.ko; \
	echo "  INSTALL $$dir/updates/rovl.ko"; \
	if [ -e $$dir/modules.order ]; then \
		PATH="$$PATH:/usr/sbin:/sbin" \
			depmod $(addprefix -b ,$(INSTALL_MOD_PATH)) $$release; \
	fi

# Static, so that it runs whatever C library the machine has.
mount.rovl: env
	@$(IN) cargo build --quiet --release --locked \
		--config 'build.rustflags=["-Ctarget-feature=+crt-static"]' \
		--manifest-path tools/mount-rovl/Cargo.toml \
		--target-dir build/mount-rovl
	@cp build/mount-rovl/release/mount-rovl build/mount.rovl
	@echo '  built build/mount.rovl'

helper_install: mount.rovl
	install -D -m 755 build/mount.rovl $(DESTDIR)/sbin/mount.rovl
	@echo '  for mount -t overlay too: ln -s mount.rovl $(DESTDIR)/sbin/mount.overlay'

# KEY and CERT sign the module; nothing else is seen of the machine in there.
PACKAGING = ROVL_TREE=packaging ROVL_KEY='$(abspath $(KEY))' ROVL_CERT='$(abspath $(CERT))' \
	ROVL_BIND='$(sort $(dir $(abspath $(KEY) $(CERT))))' $(IN)

deb: env
	@$(PACKAGING) python3 tools/packages.py

check-packages: env
	@for series in $$($(ENV) series); do SERIES=$$series $(ENV) kernel stock; done
	@$(PACKAGING) python3 tools/check_packages.py $(if $(QUICK),--quick) \
		$(if $(T),--test '$(T)')

clean:
	rm -rf build
	@rm -rf rovl.ko rovl.mod rovl.mod.c modules.order Module.symvers \
		bindings_generated.rs rovl-doc.stamp doc *.o vfs/*.o .*.cmd \
		vfs/.*.cmd .module-common.o .tmp_*

endif

# --- running and testing ----------------------------------------------------

run: module
	@$(IN) tools/run.sh

CHECK = $(IN) python3 tools/check.py --kernel $(KERNEL) $(if $(PAUSE),--pause) \
	$(if $(T),--test '$(T)')

# The kernel's metadata does not keep all CPUs busy all the time. On two it is a small gain.
check:
	@$(ENV) tree
	@$(MAKE) -j2 module check-programs
	$(if $(PAUSE),@$(ENV) build $(KERNEL) pause)
	@$(CHECK)

# Through a pipe: two that rewrite the same line of a terminal are not to be read.
check-programs:
	@$(CHECK) --build 2>&1 | cat

# Inside the build tree nothing is seen of the machine but this checkout.
bench: module
	$(if $(BASE),@mkdir -p build/bench && cat '$(BASE)' > build/bench/.base)
	@$(IN) python3 tools/bench.py --kernel $(KERNEL) $(if $(QUICK),--quick) \
		$(if $(T),--row '$(T)') $(if $(BASE),--base build/bench/.base)

check-stress: module
	$(if $(PAUSE),@$(ENV) build $(KERNEL) pause)
	@ROVL_SEED=$(or $(SEED),$(ROVL_SEED)) $(IN) python3 tools/check.py --kernel $(KERNEL) \
		$(if $(PAUSE),--pause) --test stress. \
		--minutes $(or $(MINUTES),10)

check-conformance: module
	@$(IN) python3 tools/conformance.py --kernel $(KERNEL) $(if $(QUICK),--quick) \
		$(if $(T),--test '$(T)')

check-differential: module
	@ROVL_SEED=$(or $(SEED),$(ROVL_SEED)) $(IN) python3 tools/check.py --kernel $(KERNEL) \
		--test $(or $(T),differential.random) --minutes $(or $(MINUTES),10)

# On this machine, and only the parsers; of the module, tests in a virtual machine.
fuzz: env
	@$(IN) python3 tools/fuzz.py --seconds $$(( $(or $(MINUTES),1) * 60 )) $(T)

check-fuzz: module
	@ROVL_SEED=$(or $(SEED),$(ROVL_SEED)) $(IN) python3 tools/check.py --kernel $(KERNEL) \
		--test $(or $(T),fuzz.random) --minutes $(or $(MINUTES),10)

# --- into a kernel source ---------------------------------------------------

# Who signs the patches off is whom git knows on this machine.
AUTHOR ?= $(shell git var GIT_AUTHOR_IDENT | sed 's/>.*/>/')
INTREE = $(IN) tools/intree --author '$(AUTHOR)'

intree: env
	$(if $(SOURCE),,$(error which kernel? make intree SOURCE=DIR))
	@ROVL_BIND='$(abspath $(SOURCE))' $(INTREE) $(if $(QUICK),-n) '$(abspath $(SOURCE))'

check-intree:
	@$(ENV) kernel debug
	@$(INTREE) -n "$$($(ENV) path source)"
	@$(IN) tools/check_intree.sh build/intree build/intree.work $(if $(QUICK),last)

# --- the rest ---------------------------------------------------------------

RUSTFMT = $(IN) rustfmt --edition 2021 \
	--config-path "$$($(ENV) path source)/.rustfmt.toml"

rustfmt: env
	@$(RUSTFMT) rust_overlay.rs

rustfmtcheck: env
	@$(RUSTFMT) --check rust_overlay.rs

shell:
	@$(ENV) shell

update-kernel:
	@$(ENV) update-kernel
	@$(ENV) kernel stock

status:
	@$(ENV) status

prune:
	@$(ENV) prune
	@$(IN) python3 tools/vm.py prune

# Asks first: the cache is shared by all checkouts.
distclean: clean
	@$(ENV) remove-cache

help:
	@echo 'Building:'
	@echo '  make                  rovl.ko for the stock kernel, in build/stock; the first'
	@echo '                        time makes all that it takes (Debian tree, kernel)'
	@echo '  make KERNEL=debug     rovl.ko for the debug kernel, in build/debug; the first'
	@echo '                        time builds that kernel (10 min on 2 cores)'
	@echo '  make SERIES=7.2       for the kernel series before the newest that rovl supports;'
	@echo '                        also with check, run and the others'
	@echo '  make KDIR=DIR         rovl.ko for the kernel build tree DIR, in this directory,'
	@echo '                        with the tools on the PATH; needs CONFIG_RUST=y'
	@echo '  make modules_install  install rovl.ko (INSTALL_MOD_PATH=DIR for another root)'
	@echo '  make mount.rovl       the helper of mount(8) for long lists of layers, static,'
	@echo '                        in build; make helper_install (DESTDIR=) installs it'
	@echo '  make deb              Debian packages in build/deb: rovl-dkms, rovl-tools, and the'
	@echo '                        module for the stock kernel (KEY=FILE CERT=FILE sign it)'
	@echo '  make intree SOURCE=DIR   put it into fs/rovl of an unpacked kernel source, as patches,'
	@echo '                        which are also in build/intree (QUICK=1: leave DIR alone);'
	@echo '                        make check-intree builds each of them'
	@echo '  make clean            remove what was built here (not the cache)'
	@echo
	@echo 'Running:'
	@echo '  make run              a Debian system on rovl, in a virtual machine'
	@echo '  make run FRESH=1      the same, forgetting what earlier runs wrote'
	@echo '  make check            all tests'
	@echo '  make check T=NAME     one of them'
	@echo '  make check KERNEL=debug   on the debug kernel'
	@echo '  make check PAUSE=1    with a module that tests can make stand still'
	@echo '  make check-stress [MINUTES=10] [SEED=N]   everything against copy-up at once'
	@echo '  make check-conformance    what others have written to test filesystems, on bare'
	@echo '                        filesystem, overlay and rovl (hours; T=SUITE: some of it)'
	@echo '  make check-differential [MINUTES=10] [SEED=N]   random operations on rovl, overlay'
	@echo '                        and a plain tree, and what differs'
	@echo '  make fuzz [MINUTES=1] fuzz the parsers of what is on disk, each for so long, in'
	@echo '                        build/fuzz (T=TARGET: one of them)'
	@echo '  make check-fuzz [MINUTES=10] [SEED=N]   random layers with forged marks, mounted and'
	@echo '                        used on rovl, and what must not happen'
	@echo '  make check-packages   the Debian packages on Debian 13: build, dkms, and in a virtual'
	@echo '                        machine install, upgrades, the root on rovl, purge'
	@echo '                        (T=build|dkms|prebuilt: a part; QUICK=1: dkms for one kernel)'
	@echo '  make bench            measure bare filesystem, overlay and rovl (about 8 min);'
	@echo '                        samples go to build/bench/KERNEL-DATE.json'
	@echo '  make bench BASE=FILE  the same, and the change since that run'
	@echo '  make bench QUICK=1    only see that it works (T=ROW: some of it)'
	@echo
	@echo 'For those that run:'
	@echo '  KERNEL=stock|debug    default: stock'
	@echo '  SERIES=7.3|7.2        default: the newest'
	@echo '  MINUTES=N             default: as above, 10, and 1 for fuzz'
	@echo '  SEED=N                repeats a run that has printed ROVL_SEED=N; default: another'
	@echo '                        one each time'
	@echo '  T=NAME,NAME           whose names begin so; default: all'
	@echo '  ACCEL=kvm|tcg|icount  how the virtual machine runs; default: kvm where it works,'
	@echo '                        tcg elsewhere. icount: its clock counts instructions'
	@echo
	@echo 'Source:'
	@echo '  make rustfmt          format the Rust source (rustfmtcheck: only look)'
	@echo '  make clippy           lint it, warnings are errors'
	@echo '  make doc              its documentation, in build/$(KERNEL)-doc/doc'
	@echo
	@echo 'Environment (in the cache, $${ROVL_CACHE:-~/.cache/rovl}):'
	@echo '  make env              make it and nothing else (KERNEL=debug too)'
	@echo '  make shell            a shell in it'
	@echo '  make status           what is in the cache'
	@echo '  make update-kernel    take the newest stock kernel'
	@echo '  make prune            remove what this checkout does not use'
	@echo '  make distclean        remove what was built here, and the whole cache (asks)'
	@echo
	@echo 'V=1 shows the commands of the module build.'
