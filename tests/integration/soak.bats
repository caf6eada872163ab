#!/usr/bin/env bats
# soak.bats - a short soak: dynod and its helpers are killed again and again while dynos start, stop, crash and are
# scaled. `make soak CYCLES=1000` is the long one.

load helpers

# What is counted is kills, not seconds: they take one minute, or ten where the processors are others'.
setup_file() { export BATS_TEST_TIMEOUT=800; }

@test "fifty kills under churn: no dyno lost, none twice, no exit and no line missing" {
    timeout 780 "$ROOT/tests/integration/soak" "$BUILD" --cycles 50
}
