# packaging.mk - what the build and the tests need from the distribution; running, installing.

DESTDIR ?=
BINDIR   = $(DESTDIR)$(PREFIX)/bin
SBINDIR  = $(DESTDIR)$(PREFIX)/sbin
LIBDIR   = $(DESTDIR)$(PREFIX)/lib/dynod
MANDIR   = $(DESTDIR)$(PREFIX)/share/man
DOCDIR   = $(DESTDIR)$(PREFIX)/share/doc/dynod
BASHCOMP = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHCOMP  = $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions
FISHCOMP = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
CONFDIR  = $(DESTDIR)/etc/dynod
# systemd reads these below /usr only, or below /etc and /usr/local/lib for some: with another
# PREFIX they still have to be where it looks.
UNITDIR  = $(DESTDIR)/usr/lib/systemd/system
SYSUSERS = $(DESTDIR)/usr/lib/sysusers.d
TMPFILES = $(DESTDIR)/usr/lib/tmpfiles.d

HELPERS := dynod-fetch dynod-link dynod-logs dyno-init
MAN1 := $(wildcard docs/man/*.1)
MAN5 := $(wildcard docs/man/*.5)
MAN8 := $(wildcard docs/man/*.8)
JOBS ?= $(shell nproc 2>/dev/null || echo 1)

# pkg-config is one of the packages, so what needs it runs in a make of its own, afterwards.
.PHONY: deps deps-test run run-controller
deps:
	@packaging/deps/install build run
deps-test:
	@packaging/deps/install build run test $$([ "$$(id -u)" != 0 ] || echo vm)
run: deps
	@$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS)) all
	@BUILD=$(abspath $(BUILD)) packaging/demo
# Two agents, driven by the example controller: from a browser and from curl.
run-controller: deps
	@packaging/deps/install controller
	@$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS)) all
	@BUILD=$(abspath $(BUILD)) packaging/demo-controller

# The stack images, of this distribution's packages: STACK/stack.squashfs and stack.erofs, with their
# digests. As root, with the network that apt needs; not a part of `all`.
STACK ?= $(BUILD)/stack
STACK_KINDS ?= squashfs erofs
.PHONY: stack
stack:
	@packaging/deps/install stack
	@packaging/stack/build $(abspath $(STACK)) $(STACK_KINDS)

.PHONY: install uninstall
install: all
	install -d $(BINDIR) $(SBINDIR) $(LIBDIR) $(DOCDIR) $(CONFDIR)/dynod.conf.d
	install -m 0755 $(BUILD)/bin/dyno $(BINDIR)/dyno
	install -m 0755 $(BUILD)/bin/dynod $(SBINDIR)/dynod
	install -m 0755 $(HELPERS:%=$(BUILD)/bin/%) $(LIBDIR)
	@# A configuration that is there stays: the shipped one goes beside it.
	if [ -e $(CONFDIR)/dynod.conf ]; then c=dynod.conf.new; else c=dynod.conf; fi; \
	    install -m 0644 packaging/dynod.conf $(CONFDIR)/$$c
	for s in 1 5 8; do install -d $(MANDIR)/man$$s || exit 1; done
	$(if $(MAN1),install -m 0644 $(MAN1) $(MANDIR)/man1)
	$(if $(MAN5),install -m 0644 $(MAN5) $(MANDIR)/man5)
	$(if $(MAN8),install -m 0644 $(MAN8) $(MANDIR)/man8)
	$(if $(wildcard packaging/completion/dyno.bash),install -d $(BASHCOMP) && \
	    install -m 0644 packaging/completion/dyno.bash $(BASHCOMP)/dyno)
	$(if $(wildcard packaging/completion/_dyno),install -d $(ZSHCOMP) && \
	    install -m 0644 packaging/completion/_dyno $(ZSHCOMP)/_dyno)
	install -d $(FISHCOMP) && install -m 0644 packaging/completion/dyno.fish $(FISHCOMP)/dyno.fish
	install -d $(UNITDIR) $(SYSUSERS) $(TMPFILES)
	install -m 0644 systemd/dynod.service systemd/dynod-dynos.service systemd/dynod.slice \
	    $(UNITDIR)
	install -m 0644 systemd/dynod.sysusers $(SYSUSERS)/dynod.conf
	install -m 0644 systemd/dynod.tmpfiles $(TMPFILES)/dynod.conf
	install -m 0644 README.md docs/contract.md $(wildcard docs/openapi.yaml) $(DOCDIR)

uninstall:
	rm -f $(BINDIR)/dyno $(SBINDIR)/dynod $(HELPERS:%=$(LIBDIR)/%)
	rm -f $(addprefix $(MANDIR)/man1/,$(notdir $(MAN1)))
	rm -f $(addprefix $(MANDIR)/man5/,$(notdir $(MAN5))) $(addprefix $(MANDIR)/man8/,$(notdir $(MAN8)))
	rm -f $(BASHCOMP)/dyno $(ZSHCOMP)/_dyno $(FISHCOMP)/dyno.fish
	rm -f $(addprefix $(UNITDIR)/,dynod.service dynod-dynos.service dynod.slice)
	rm -f $(SYSUSERS)/dynod.conf $(TMPFILES)/dynod.conf
	rm -f $(CONFDIR)/dynod.conf.new
	rm -rf $(DOCDIR)
	-rmdir $(LIBDIR) 2>/dev/null
	@echo "left in place: $(CONFDIR), /var/lib/dynod"
