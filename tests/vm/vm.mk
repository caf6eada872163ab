# vm.mk - the stories that need a machine: systemd and the controllers of cgroup v2. Without KVM, so
# slow, but everything in it is real. `make check-vm STORY=resources`: only that one.

STORY ?=
# What the story `isolation` runs in the machine.
ISOLATION_TESTS = $(addprefix $(BUILD)/tests/,test_battery test_battery_life)
.PHONY: check-vm
check-vm:
	@packaging/deps/install build run vm
	@$(MAKE) --no-print-directory $(PARALLEL) all $(ISOLATION_TESTS)
	@BUILD=$(abspath $(BUILD)) tests/vm/check $(STORY)
