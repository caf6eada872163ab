# fuzz.mk - one libFuzzer program a parser. `make fuzz SECONDS_EACH=600` for longer. Everything a
# target needs is compiled into it with clang and the sanitizers: no object of the normal build.

FUZZ_CC      ?= clang
SECONDS_EACH ?= 10
FUZZ_NAMES   := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TARGETS := $(FUZZ_NAMES:%=$(BUILD)/fuzz/%)
# Of the fetch what the archive goes into. Of core what it reads back.
FUZZ_SRC      = $(LIB_SRC_base) $(LIB_SRC_slug) $(addprefix slug/fetch/,writer.c beneath.c image_sink.c) $(wildcard agent/core/state/*.c) \
                $(addprefix agent/core/,control/control_set.c control/control_fields.c control/control_change.c control/control_sync.c run/spec.c slugs/mirrors.c) \
                $(addprefix agent/link/,answer.c table.c imds.c attachwire.c)
FUZZ_OBJ      = $(FUZZ_SRC:%.c=$(BUILD)/fuzz/obj/%.o)
FUZZ_CFLAGS   = -std=gnu17 -O1 -g -D_GNU_SOURCE -DDYNOD_VERSION='"$(VERSION)"' -DDYNOD_PREFIX='"$(PREFIX)"' \
                -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
                -fno-omit-frame-pointer -Wall -Wextra $(call inc,base slug core link)

$(BUILD)/fuzz/obj/%.o: %.c | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	$(if $(Q),@echo "  FUZZ $<")
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) $(shell $(PKG_CONFIG) --cflags $(PKGS_dyno)) -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/libfuzzed.a: $(FUZZ_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^

$(FUZZ_TARGETS): $(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/%.o $(BUILD)/fuzz/libfuzzed.a
	$(if $(Q),@echo "  LD   $@")
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(filter %.a,$^) $(shell $(PKG_CONFIG) --libs $(PKGS_dyno))

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS)
	@status=0; for t in $^; do SECONDS_EACH=$(SECONDS_EACH) tests/fuzz/run-short $$t || status=1; done; \
	    exit $$status

# The tests that start the real program.
$(BUILD)/tests/test_fetch_roles $(BUILD)/tests/test_slugs: | $(BUILD)/bin/dynod-fetch

# A download, with most of the fetch and libcurl, which the others do without.
FUZZ_FETCH = $(filter-out %/seccomp.c %/confine.c %/landlock.c slug/fetch/role_%.c,$(LIB_SRC_fetch))
$(BUILD)/fuzz/fuzz_http_headers: $(FUZZ_FETCH:%.c=$(BUILD)/fuzz/obj/%.o)
$(BUILD)/fuzz/fuzz_http_headers: PKGS_dyno += libcurl
# What stores say, likewise.
$(BUILD)/fuzz/fuzz_store: $(FUZZ_FETCH:%.c=$(BUILD)/fuzz/obj/%.o)
$(BUILD)/fuzz/fuzz_store: PKGS_dyno += libcurl
# And what is sent to them.
$(BUILD)/fuzz/fuzz_sigv4: $(FUZZ_FETCH:%.c=$(BUILD)/fuzz/obj/%.o)
$(BUILD)/fuzz/fuzz_sigv4: PKGS_dyno += libcurl libcrypto
