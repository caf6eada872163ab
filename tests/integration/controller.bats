#!/usr/bin/env bats
# controller.bats - the example controller alone: with agents made of Python, against its documents.

PYTHON=/usr/bin/python3
CONTROLLER=$BATS_TEST_DIRNAME/../controller

selftest() { "$PYTHON" -B "$CONTROLLER/selftest.py" "$@" 3>&- 4>&-; }

@test "start, scale, stop, drain, lost agents, capacity: dynos go where they belong" { selftest Fleet Lost; }
@test "killed, replaced, older than the agent: its memory" { selftest Memory; }
@test "sessions, hashes, long-polls, bad requests, the page" { selftest Protocol LongPoll; }
@test "TLS: a token or a certificate" { selftest Tls; }
@test "the scheduler and the hash alone" { selftest Plan Hash; }
@test "the documents, the schema and the controller say the same" {
    "$PYTHON" -B "$CONTROLLER/check_docs.py"
}
