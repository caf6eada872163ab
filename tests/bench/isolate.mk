# isolate.mk - what a start costs: `make bench-spawn`, as root or as an ordinary user.
$(BUILD)/bench/hello-byte: tests/bench/hello-byte.c isolate/init/start.c isolate/init/sys.h | $(INCLUDE_ROOTS)
	@mkdir -p $(dir $@)
	$(Q)$(CC) $(INIT_CFLAGS) -static -nostdlib -no-pie -Wl,-z,noexecstack,-z,norelro,--build-id=none \
	    -Wl,-z,noseparate-code -o $@ tests/bench/hello-byte.c isolate/init/start.c

$(BUILD)/bench/floor: tests/bench/floor.c
	@mkdir -p $(dir $@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $<

$(BUILD)/bench/bench_spawn: tests/bench/bench_spawn.c $(BUILD)/libisolate.a $(BUILD)/libbase.a
	@mkdir -p $(dir $@)
	$(Q)$(CC) $(CFLAGS) $(TEST_INC) $(LDFLAGS) -o $@ $^ \
	    $(shell $(PKG_CONFIG) --libs libseccomp libcap libsystemd jansson)

.PHONY: bench-spawn
bench-spawn: $(BUILD)/bench/hello-byte $(BUILD)/bench/floor $(BUILD)/bench/bench_spawn $(BUILD)/bin/dyno-init
	@[ $$(id -u) != 0 ] || $(BUILD)/bench/floor $(BUILD)/bench/hello-byte
	@$(BUILD)/bench/bench_spawn $(BUILD)/bench/hello-byte $(BUILD)/bin/dyno-init
