# tests.mk - every kind of test, from a unit to a machine.

CMOCKA_SRC := $(wildcard tests/unit/test_*.c)
UNIT_TESTS := $(CMOCKA_SRC:tests/unit/%.c=$(BUILD)/tests/%)

# Tests may look at every floor.
TEST_INC = $(call inc,$(COMPONENTS)) -Itests/unit -I$(CURDIR)
define unit_test
	@mkdir -p $(dir $@)
	$(if $(Q),@echo "  TEST $@")
	$(Q)$(CC) $(CFLAGS) $(TEST_INC) -MMD -MP $(shell $(PKG_CONFIG) --cflags $(PKGS_all) cmocka) $(LDFLAGS) \
	    -o $@ $< $(1) $(1) $(shell $(PKG_CONFIG) --libs $(PKGS_all) cmocka)
endef
$(BUILD)/tests/test_%: tests/unit/test_%.c $(ALL_LIBS) | $(INCLUDE_ROOTS)
	$(call unit_test,$(ALL_LIBS))

# dynod-link has an imds.c as dynod-fetch has one: what includes its headers is linked with it alone.
LINK_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(shell grep -l '^.include "link/' $(CMOCKA_SRC)))
LINK_LIBS  := $(BUILD)/liblink.a $(BUILD)/libbase.a
$(LINK_TESTS): $(BUILD)/tests/%: tests/unit/%.c $(LINK_LIBS) | $(INCLUDE_ROOTS)
	$(call unit_test,$(LINK_LIBS))

$(BUILD)/tests/test_spawn $(BUILD)/tests/test_init_hostile $(BUILD)/tests/test_confine $(BUILD)/tests/test_spare_spawn $(BUILD)/tests/test_spare_confine $(BUILD)/tests/test_room $(BUILD)/tests/test_room_spawn $(BUILD)/tests/test_room_confine $(BUILD)/tests/test_dressed_spawn $(BUILD)/tests/test_dressed_confine $(BUILD)/tests/test_spare $(BUILD)/tests/test_stack: $(BUILD)/bin/dyno-init
$(BUILD)/tests/test_battery $(BUILD)/tests/test_battery_life: $(BUILD)/bin/dyno-init \
    $(BUILD)/tests/battery/probe $(BUILD)/tests/battery/state.golden

# What attacks the sandbox from inside: needs nothing of the stack, nor any sanitizer's memory.
$(BUILD)/tests/battery/%.golden: tests/battery/%.golden
	@mkdir -p $(dir $@) && cp $< $@
PROBE_SRC := $(wildcard tests/battery/*.c)
$(BUILD)/tests/battery/probe: $(PROBE_SRC) $(wildcard tests/battery/*.h) isolate/initproto.h | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	$(if $(Q),@echo "  TEST $@")
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE $(WARN) -O1 -g -static $(call inc,isolate) -o $@ $(PROBE_SRC)

.PHONY: unit unit-build
unit: unit-build
	@for t in $(UNIT_TESTS); do $$t || exit 1; done
unit-build: $(UNIT_TESTS)

# The same under ASan and UBSan, in a tree of its own. The sanitizers' checks hide from gcc what it
# knows about lengths, so its guesses about truncation are those of the normal build only.
ASAN_MAKE = CFLAGS=-Wno-format-truncation $(MAKE) --no-print-directory SAN=1 BUILD=$(BUILD)/asan
.PHONY: asan asan-build
asan: asan-build
	+@$(ASAN_MAKE) unit
asan-build:
	+@$(ASAN_MAKE) all unit-build

# The same sources as a later version, for upgrade.bats; only what has the number in it is compiled again.
NEXT_VERSION = 99.1.0
NEXT_MAKE = $(MAKE) --no-print-directory BUILD=$(BUILD)/next VERSION=$(NEXT_VERSION)
.PHONY: next-build
next-build: all
	@mkdir -p $(BUILD)/next && cp -au $(BUILD)/obj $(BUILD)/lib*.a $(BUILD)/next/
	@grep -rl DYNOD_VERSION --include='*.c' agent slug isolate | sed 's|^|$(BUILD)/next/obj/|; s|c$$|o|' | \
	    while read -r o; do ! cmp -s $$o $$(echo $$o | sed 's|/next/|/|') || rm -f $$o; done
	+@$(NEXT_MAKE) all

-include tests/fuzz/fuzz.mk
-include tests/bench/bench.mk
-include tests/integration/soak.mk
-include tests/vm/vm.mk

# An upward #include does not compile.
.PHONY: check-layers
check-layers: | $(INCLUDE_ROOTS)
	@tests/layers $(CC) $(BUILD)/inc $(foreach c,$(COMPONENTS),"$(c):$(DIR_$(c)):$(SEES_$(c))")

# Everything, built first and then run by one script that counts. pkg-config is one of the packages
# that deps-test installs, hence the second make. `make check T=tests/integration/main.bats`: only
# that story.
T ?=
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))
.PHONY: check check-build
check: deps-test
	@$(MAKE) --no-print-directory $(PARALLEL) $(if $(T),next-build,check-build)
	@BUILD=$(abspath $(BUILD)) tests/check $(T)
check-build: all next-build unit-build asan-build $(FUZZ_TARGETS)

# --- static analysis: quiet, or the exception is written down where it is made ------------------------
ANALYZE_SRC = $(sort $(foreach c,$(COMPONENTS) fetch,$(LIB_SRC_$(c))) $(wildcard agent/*/main.c slug/fetch/main.c))
ANALYZE_INC = $(call inc,$(COMPONENTS))
ANALYZE_PKG = $(shell $(PKG_CONFIG) --cflags $(PKGS_all))
ANALYZE_DEF = -std=gnu17 -D_GNU_SOURCE -DDYNOD_VERSION='"$(VERSION)"' -DDYNOD_PREFIX='"$(PREFIX)"'
# cppcheck looks into no system header, but has to know the list macros; nor does it know what the
# compiler defines, and isolate/ is written for one of two machines.
ANALYZE_MACROS = $(shell printf '\043include <sys/queue.h>\n\043include <jansson.h>\n' | \
    $(CC) $(ANALYZE_PKG) -M -x c - | grep -oE '[^ ]*/(sys/queue|jansson)\.h')
.PHONY: analyze analyze-all
analyze: deps
	@packaging/deps/install analyze
	@$(MAKE) --no-print-directory -k $(PARALLEL) analyze-all
analyze-all: $(ANALYZE_SRC:%.c=$(BUILD)/analyze/%.ok) $(BUILD)/analyze/cppcheck.ok

# What cannot be seen from one file alone; err.c is where it can be seen.
ANALYZE_TOLD = -include tests/analyze.h
$(BUILD)/analyze/agent/base/err.ok: ANALYZE_TOLD =

# One file: its format, clang-tidy, gcc's analyzer (an object of its own, thrown away), which loses
# track of what a scoped clean-up frees once that is inlined.
$(BUILD)/analyze/%.ok: %.c .clang-tidy tests/tests.mk tests/analyze.h | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	@echo "  ANALYZE $<"
	$(Q)clang-format --dry-run -Werror $<
	$(Q)clang-tidy --quiet $< -- $(ANALYZE_DEF) $(ANALYZE_INC) $(ANALYZE_TOLD) $(ANALYZE_PKG) 2>$@.log || { cat $@.log; exit 1; }
	$(Q)$(CC) $(ANALYZE_DEF) $(WARN) -O1 -fno-inline $(ANALYZE_INC) $(ANALYZE_TOLD) $(ANALYZE_PKG) \
	    -fanalyzer -c -o $@.o $<
	@rm -f $@.o $@.log && touch $@

$(BUILD)/analyze/cppcheck.ok: $(ANALYZE_SRC) tests/cppcheck-suppressions | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	@echo "  CPPCHECK"
	$(Q)cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --error-exitcode=1 --suppressions-list=tests/cppcheck-suppressions $(filter-out -std=%,$(ANALYZE_DEF)) \
	    -D__$(ARCH)__ $(ANALYZE_MACROS:%=--include=%) $(ANALYZE_INC) $(ANALYZE_SRC)
	@touch $@
