# vm.mk - the stories that need a machine: systemd and the controllers of cgroup v2. Without KVM, so
# slow, but everything in it is real. `make check-vm STORY=resources`: only that one.

STORY ?=
# What the stories `isolation` and `units` run in the machine.
VM_UNITS = $(addprefix $(BUILD)/tests/,test_battery test_battery_life $(shell sed 's/\#.*//' tests/vm/units))
.PHONY: check-vm
check-vm:
	@packaging/deps/install build run vm
	@$(MAKE) --no-print-directory $(PARALLEL) all $(VM_UNITS)
	@BUILD=$(abspath $(BUILD)) tests/vm/check $(STORY)
