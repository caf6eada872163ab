# soak.mk - promise 2 under load and by the syscall. `make check` runs short ones; these are for an
# evening: make soak CYCLES=1000, make kill-each-syscall.
CYCLES ?= 50
DYNOS  ?= 20
.PHONY: soak kill-each-syscall
soak: all
	tests/integration/soak $(BUILD) --cycles $(CYCLES) --dynos $(DYNOS) $(if $(SEED),--seed $(SEED))
kill-each-syscall: all
	tests/integration/kill-each-syscall $(BUILD)
