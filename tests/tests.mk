# tests.mk - every kind of test, from a unit to a machine.

CMOCKA_SRC := $(wildcard tests/unit/test_*.c)
UNIT_TESTS := $(CMOCKA_SRC:tests/unit/%.c=$(BUILD)/tests/%)

# Tests may look at every floor.
TEST_INC = $(call inc,$(COMPONENTS)) -Itests/unit -I$(CURDIR)
$(BUILD)/tests/test_%: tests/unit/test_%.c $(ALL_LIBS) | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	$(if $(Q),@echo "  TEST $@")
	$(Q)$(CC) $(CFLAGS) $(TEST_INC) -MMD -MP $(shell $(PKG_CONFIG) --cflags $(PKGS_all) cmocka) $(LDFLAGS) \
	    -o $@ $< $(ALL_LIBS) $(ALL_LIBS) $(shell $(PKG_CONFIG) --libs $(PKGS_all) cmocka)

.PHONY: unit
unit: $(UNIT_TESTS)
	@for t in $(UNIT_TESTS); do $$t || exit 1; done
