# bench.mk - `make bench`: speed and memory as ratios to the floor, in one run. As root.
include tests/bench/isolate.mk

.PHONY: bench
bench: all $(BUILD)/bench/hello-byte $(BUILD)/bench/floor
	@python3 tests/bench/bench.py $(BUILD)

# What a start costs, beside what others do it in (packaging/deps/bench.txt): the targets, one by one.
.PHONY: bench-start
bench-start: all $(BUILD)/bench/hello-byte $(BUILD)/bench/floor
	@packaging/deps/install bench
	@python3 tests/bench/start.py $(BUILD) $(BENCH_START)

# What a fetch costs, beside curl and tar: slug.py says what it prints. As root; as a user, the fallback.
.PHONY: bench-slug
bench-slug: all
	@[ $$(id -u) != 0 ] || packaging/deps/install bench
	@python3 tests/bench/slug.py $(BUILD) $(BENCH_SLUG)
