#!/usr/bin/env bats
# slug-cli.bats - mirrors of a slug, what a store wants to be told, and `dyno slug` against the agent's cache.

load helpers

setup_file() {
    story_begin
    store_start
    slug_from "$ROOT/docs/examples/hello" "$STORY/hello.tgz"
    store_add "$STORY/hello.tgz" hello.tgz
    mkdir -p "$STORY/big"
    echo 'worker: sleep 3600' >"$STORY/big/Procfile"
    head -c 1500000 /dev/urandom >"$STORY/big/noise"
    slug_from "$STORY/big" "$STORY/big.tgz"
    store_add "$STORY/big.tgz" big.tgz
    slug_of_procfile other 'worker: echo other; sleep 3600'
    store_add "$STORY/other.tgz" other.tgz
    slug_of_procfile small 'worker: sleep 3600'
    store_add "$STORY/small.tgz" small.tgz
    (umask 077 && echo let-me-in >"$STORY/token")
    agent_start -o dyno.restart_delay=300ms -o store.fetch_connect=10s \
        -o "store.https_hosts=localhost:$(cat "$STORY/port")" -o "store.https_token_file=$STORY/token"
}
teardown_file() { story_end; }

url() { echo "$(store_url)/$1"; }
digest() { digest_of "$STORY/$1.tgz"; }
# Of one cached slug, what JQ says.
cached() { dyno slug ls --json | jq -r --arg d "$(digest "$1")" ".slugs[] | select(.digest == \$d) | $2"; }
is_cached() { [ -n "$(cached "$1" .kind)" ]; }

@test "mirrors: the first that has the slug is the one" {
    run dyno start mirrors --slug "$(url nothing.tgz)" --slug "$(url busy/x)" --slug "$(url hello.tgz)" \
        --digest "$(digest hello)"
    [ "$status" = 0 ] || fail "$output"
    same "$(curl -s --unix-socket "$AGENT/run/api.sock" http://d/v1/apps/mirrors | jq -r '.release.slug | length')" 3
    dyno stop --forget mirrors
}

@test "mirrors: one with other bytes is only the next one's turn" {
    run dyno slug fetch --json --digest "$(digest other)" "$(url hello.tgz)" "$(url other.tgz)"
    [ "$status" = 0 ] || fail "$output"
    same "$(jq -r .digest <<<"$output")" "$(digest other)"
    is_cached other
}

@test "mirrors: when all fail, the error names each" {
    run dyno slug fetch "$(url nothing.tgz)" "$(url secret/x)"
    same "$status" 1
    has "$output" 404
    has "$output" 403
    has "$output" "operator's fault"
    # One of them was down: not the operator's.
    run dyno slug fetch "$(url nothing.tgz)" "https://localhost:1/x"
    same "$status" 1
    has "$output" "platform's fault"
}

@test "mirrors: what is no list of addresses is refused" {
    local many=() i
    for i in 1 2 3 4 5 6 7 8 9; do many+=(--slug "$(url hello.tgz)"); done
    run dyno start many "${many[@]}"
    same "$status" 2
    run dyno slug fetch gopher://a/b
    same "$status" 1
    has "$output" '"slug" must be'
    run curl -s --unix-socket "$AGENT/run/api.sock" -d '{"slug": ["https://a", 7]}' http://d/v1/slugs
    has "$output" invalid
}

@test "a store that wants to know who asks" {
    [ "$(dyno slug fetch --json "$(url token/other.tgz)" | jq -r .state)" = done ]
    # Read for each fetch: no restart.
    echo wrong >"$STORY/token"
    run dyno slug fetch "$(url token/other.tgz)"
    same "$status" 1
    has "$output" 401
    rm "$STORY/token"
    run dyno slug fetch "$(url token/other.tgz)"
    has "$output" "https_token_file of dynod.conf"
    has "$output" "operator's fault"
    echo let-me-in >"$STORY/token"
    # No line of any log, event or process has it.
    run dyno slug fetch "$(url token/other.tgz)"
    same "$status" 0
    ! grep -rqs let-me-in "$AGENT/dynod.log" "$AGENT/state"
}

@test "fetch: lines where there is no terminal, and what each stage took" {
    run dyno slug fetch --digest "$(digest big)" "$(url slow/big.tgz)"
    [ "$status" = 0 ] || fail "$output"
    grep -qE '^ *[1-9][0-9]*%  [0-9.]+ of 1\.5 MB  [0-9.]+ MB/s( +[0-9]+:[0-9]{2} left)?$' <<<"$output" || fail "$output"
    has "$output" "$(digest big)  1.4 MB"
    has "$output" "download "
    run dyno slug fetch --digest "$(digest big)" "$(url slow/big.tgz)"
    same "$output" "$(digest big)  cached already"
    dyno slug rm "$(digest big)"
}

@test "fetch: a bar on a terminal" {
    local out=$STORY/terminal
    DYNOD_SOCKET=$AGENT/run/api.sock timeout "$PATIENCE" script -qec \
        "stty cols 70; $BIN/dyno slug fetch $(url slow/big.tgz)" "$out" </dev/null >/dev/null
    grep -qE $'\r\x1b\\[K\\[#+-+\\]  *[0-9]+%' "$out" || fail "$(cat -v "$out")"
    has "$(cat "$out")" "$(digest big)"
    dyno slug rm "$(digest big)"
}

@test "fetch: its events, the progress among them only for followers" {
    local follow=$STORY/follow
    rm -f "$follow.head"
    curl -sN --unix-socket "$AGENT/run/api.sock" -D "$follow.head" 'http://d/v1/events?follow=1&n=0' >"$follow" 3>&- 4>&- &
    local pid=$!
    wait_for test -s "$follow.head"
    same "$(dyno slug fetch --no-wait --json "$(url slow/big.tgz)" | jq .cached)" false
    wait_for grep -q '"state":"done"' "$follow"
    kill "$pid"
    jq -es 'map(select(.kind == "fetch")) | (.[0].state == "started" and .[0].id > 0) and
        (.[-1].state == "done" and .[-1].bytes > 1500000 and .[-1].ms.download > 0) and
        (map(select(.state == "progress")) | length > 2 and all(.id == null and (.total == null or .total > 1500000)))' "$follow" ||
        fail "$(cat "$follow")"
    [ "$(dyno events --json | grep -c '"state":"progress"')" = 0 ]
    dyno slug rm "$(digest big)"
}

@test "fetch: also while the instance drains, when nothing is started" {
    slug_of_procfile ahead 'worker: sleep 3600; echo ahead'
    store_add "$STORY/ahead.tgz" ahead.tgz
    dyno drain
    run dyno start ahead --slug "$(url ahead.tgz)" -m worker=1
    [ "$status" != 0 ] || fail "started: $output"
    has "$output" drain
    run dyno slug fetch --json --digest "$(digest ahead)" "$(url ahead.tgz)"
    same "$(jq -r .state <<<"$output")" done
    is_cached ahead
    dyno undrain
}

@test "ls and rm: what is in use stays" {
    dyno start user --slug "$(url small.tgz)" --digest "$(digest small)" -m worker=1
    same "$(cached small .in_use)" true
    same "$(cached small '.used_by | join(" ")')" "user user/worker.1"
    run dyno slug ls
    has "$output" "user user/worker.1"
    local hex
    hex=$(digest small) && hex=${hex#sha256:}
    run dyno slug rm "${hex:0:12}"
    same "$status" 1
    has "$output" "is in use"
    run curl -s -o /dev/null -w '%{http_code}' --unix-socket "$AGENT/run/api.sock" -X DELETE "http://d/v1/slugs/$hex"
    same "$output" 409
    dyno stop --forget user
    wait_for eval '[ "$(cached small .in_use)" = false ]'
    run dyno slug rm "${hex:0:12}"
    same "$output" "removed $(digest small)"
    run ! is_cached small
    run dyno slug rm "${hex:0:12}"
    same "$status" 1
    has "$output" "is not cached"
}

@test "verify (root): a corrupt image is found, dropped, and there again for who needs it" {
    only_root "only root has images"
    dyno start verified --slug "$(url small.tgz)" --digest "$(digest small)" -m worker=1
    [ "$(cached small .kind)" = image ] || skip "no images on this machine: see dyno doctor"
    run dyno slug verify "$(digest small)"
    same "$output" "$(digest small) is as it was published"
    wait_for eval '[ "$(cached small .synced)" = true ]'
    local image=$AGENT/state/cache/sha256/$(digest small | cut -d: -f2)/image
    printf x | dd of="$image" bs=1 seek=5000 conv=notrunc status=none
    run dyno slug verify
    same "$status" 1
    has "$output" "has changed on the disk"
    wait_for is_cached small
    wait_for eval 'dyno slug verify "$(digest small)"'
    up verified/worker.1
    dyno stop --forget verified
}
