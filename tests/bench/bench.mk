# bench.mk - `make bench`: speed and memory as ratios to the floor, in one run. As root.
include tests/bench/isolate.mk

.PHONY: bench
bench: all $(BUILD)/bench/hello-byte $(BUILD)/bench/floor
	@python3 tests/bench/bench.py $(BUILD)
