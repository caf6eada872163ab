# dynod - `make run` shows it working, `make check` tests it, `make` builds it.
# Needs only make and git to start with: run and check install the packages they need (as root).

V       ?= 0
BUILD   ?= build
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr
VERSION := $(shell cat packaging/VERSION)
Q       := $(if $(filter 1,$(V)),,@)
ARCH    := $(shell uname -m)
# pkg-config is itself a package that `make deps` installs, so nothing below may be expanded early.
PKG_CONFIG ?= pkg-config

WARN    = -Wall -Wextra -Wshadow -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wvla \
          -Wimplicit-fallthrough -Wno-unused-result -Werror
HARDEN  = -O2 -g -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection -fPIE \
          -ftrivial-auto-var-init=zero $(if $(filter x86_64,$(ARCH)),-fcf-protection=full) \
          $(if $(filter aarch64,$(ARCH)),-mbranch-protection=standard)
HARDEN_LD = -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
ifeq ($(SAN),1)
HARDEN  = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
HARDEN_LD =
endif
CFLAGS  += -std=gnu17 $(WARN) $(HARDEN) -D_GNU_SOURCE -DDYNOD_VERSION='"$(VERSION)"' \
           -DDYNOD_PREFIX='"$(PREFIX)"'
LDFLAGS += $(HARDEN_LD)

# --- Components ---------------------------------------------------------------------------------
# Each sees only its own headers and those of the floors below it: an upward #include does not
# compile (`make check-layers` shows it). An include is written as COMPONENT/file.h.
COMPONENTS := base slug isolate core logs link cli
DIR_base := agent/base
DIR_slug := slug
DIR_isolate := isolate
DIR_core := agent/core
DIR_logs := agent/logs
DIR_link := agent/link
DIR_cli := agent/cli
SEES_base := base
SEES_slug := base slug
SEES_isolate := base isolate
SEES_core := base slug isolate core
SEES_logs := base logs
SEES_link := base link
SEES_cli := base slug isolate cli

inc = $(foreach c,$(1),-I$(BUILD)/inc/$(c))
INCLUDE_ROOTS := $(foreach c,$(COMPONENTS),$(BUILD)/inc/$(c)/$(c))
$(INCLUDE_ROOTS):
	@mkdir -p $(dir $@) && ln -sfn $(CURDIR)/$(DIR_$(notdir $@)) $@

# Program sources live in a folder of their own below their component, or are its main.c.
LIB_SRC_base    := $(wildcard agent/base/*.c)
LIB_SRC_slug    := $(wildcard slug/*.c slug/image/*.c)
LIB_SRC_isolate := $(wildcard isolate/*.c)
LIB_SRC_core    := $(filter-out agent/core/main.c,$(wildcard agent/core/*.c agent/core/*/*.c))
LIB_SRC_logs    := $(filter-out agent/logs/main.c,$(wildcard agent/logs/*.c))
LIB_SRC_link    := $(filter-out agent/link/main.c,$(wildcard agent/link/*.c))
LIB_SRC_cli     := $(filter-out agent/cli/main.c,$(wildcard agent/cli/*.c))
LIB_SRC_fetch   := $(filter-out slug/fetch/main.c,$(wildcard slug/fetch/*.c))
SEES_fetch      := base slug
ALL_LIBS := $(foreach l,cli core logs fetch isolate slug base,$(BUILD)/lib$(l).a)

PKGS_net         = libnftables libnftnl libmnl
PKGS_dynod       = libsystemd jansson libmicrohttpd libcap libseccomp inih $(PKGS_net)
PKGS_dynod-logs  = libsystemd jansson zlib libseccomp
PKGS_dynod-link  = libsystemd jansson libcurl libcrypto libseccomp libcap
PKGS_dynod-fetch = libsystemd jansson libcurl libarchive libcrypto zlib libisal libseccomp libcap yaml-0.1
PKGS_dyno        = libsystemd jansson libarchive libcrypto zlib libisal yaml-0.1 libseccomp libcap ncursesw $(PKGS_net)
PKGS_all         = $(sort $(PKGS_dynod) $(PKGS_dynod-logs) $(PKGS_dynod-link) $(PKGS_dynod-fetch) $(PKGS_dyno))

PROGRAMS := $(addprefix $(BUILD)/bin/,dynod dynod-logs dynod-link dynod-fetch dyno dyno-init)

.DEFAULT_GOAL := all
.PHONY: all
all: $(PROGRAMS)

define component
$$(LIB_SRC_$(1):%.c=$(BUILD)/obj/%.o): INCS = $$(call inc,$$(SEES_$(1)))
$(BUILD)/lib$(1).a: $$(LIB_SRC_$(1):%.c=$(BUILD)/obj/%.o)
endef
$(foreach c,$(COMPONENTS) fetch,$(eval $(call component,$(c))))

$(BUILD)/obj/agent/core/main.o: INCS = $(call inc,$(SEES_core))
$(BUILD)/obj/agent/logs/main.o: INCS = $(call inc,$(SEES_logs))
$(BUILD)/obj/agent/link/main.o: INCS = $(call inc,$(SEES_link))
$(BUILD)/obj/agent/cli/main.o: INCS = $(call inc,$(SEES_cli))
$(BUILD)/obj/slug/fetch/main.o: INCS = $(call inc,$(SEES_fetch))

$(BUILD)/obj/%.o: %.c Makefile | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	$(if $(Q),@echo "  CC  $<")
	$(Q)$(CC) $(CFLAGS) $(INCS) $(shell $(PKG_CONFIG) --cflags $(PKGS_all)) -MMD -MP -c -o $@ $<

$(BUILD)/lib%.a:
	$(Q)mkdir -p $(dir $@) && rm -f $@ && ar rcs $@ $^

define program
$(BUILD)/bin/$(1): $(BUILD)/obj/$(2)/main.o $(foreach l,$(3),$(BUILD)/lib$(l).a)
	@mkdir -p $$(dir $$@)
	$$(if $$(Q),@echo "  LD  $$@")
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(shell $$(PKG_CONFIG) --libs $$(PKGS_$(1)))
endef
$(eval $(call program,dynod,agent/core,core isolate slug base))
$(eval $(call program,dynod-logs,agent/logs,logs base))
$(eval $(call program,dynod-link,agent/link,link base))
$(eval $(call program,dynod-fetch,slug/fetch,fetch slug base))
$(eval $(call program,dyno,agent/cli,cli isolate slug base))

# dyno-init has no libc: it is every dyno's fixed cost, in memory and in start time.
INIT_SRC := $(wildcard isolate/init/*.c)
INIT_CFLAGS = -std=gnu17 $(WARN) -Os -g -ffreestanding -fno-builtin-memset -fno-stack-protector \
              -fno-asynchronous-unwind-tables -fno-pie -fno-tree-loop-distribute-patterns \
              $(call inc,isolate)
$(BUILD)/bin/dyno-init: $(INIT_SRC) $(wildcard isolate/init/*.h isolate/*.h) Makefile | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	$(if $(Q),@echo "  LD  $@")
	$(Q)$(CC) $(INIT_CFLAGS) -static -nostdlib -no-pie -Wl,-z,noexecstack,-z,norelro,--build-id=none \
	    -Wl,-z,noseparate-code -o $@ $(INIT_SRC)

include tests/tests.mk
include packaging/packaging.mk

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
