#!/usr/bin/env bats
# badinput.bats - each mistake gets a clear error with file:line, field or URL, a status that is not 0,
# and changes nothing.

load helpers

setup_file() {
    story_begin
    slug_from "$ROOT/docs/examples/hello" "$STORY/hello.tgz"
    agent_start -o dyno.restart_delay=300ms
    dyno start calm --slug "file://$STORY/hello.tgz" -m worker=1
    wait_up calm/worker.1
}
teardown_file() { story_end; }
setup() { picture >"$BATS_TEST_TMPDIR/before"; }
teardown() {
    picture >"$BATS_TEST_TMPDIR/after"
    diff "$BATS_TEST_TMPDIR/before" "$BATS_TEST_TMPDIR/after"
}
# All that a refused command must not change.
picture() {
    dyno ps --json | jq -c 'map([.app, .dyno, .pid, .state, .release, .restarts]) | sort'
    api GET /v1/apps | jq -c .
}

api() { # METHOD PATH [BODY]
    curl -sS --max-time "$PATIENCE" --unix-socket "$AGENT/run/api.sock" -X "$1" ${3+-H Content-Type:application/json --data-binary "$3"} \
        "http://dynod$2"
}
api_status() { # METHOD PATH BODY: the HTTP status; the body in $STORY/answer
    curl -sS --max-time "$PATIENCE" --unix-socket "$AGENT/run/api.sock" -X "$1" -H Content-Type:application/json \
        --data-binary "$3" -o "$STORY/answer" -w '%{http_code}' "http://dynod$2"
}
# refused STATUS METHOD PATH BODY WORD...
refused() {
    local want=$1 word status
    status=$(api_status "$2" "$3" "$4")
    same "$status" "$want"
    shift 4
    jq -e .error "$STORY/answer" >/dev/null || fail "no error in: $(cat "$STORY/answer")"
    for word; do has "$(cat "$STORY/answer")" "$word"; done
}

dynod_with() { # CONFIG-TEXT: starts a dynod with that file, which must refuse
    printf '%s\n' "$@" >"$STORY/bad.conf"
    run timeout 20 "$BIN/dynod" -c "$STORY/bad.conf" -o "agent.runtime_dir=$STORY/bad-run" -o "agent.state_dir=$STORY/bad-state"
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || fail "dynod ran, status $status"
    [ ! -e "$STORY/bad-state" ] || fail "it made its state directory"
}

# --- configuration ---

@test "config: an unknown key" {
    dynod_with '[dyno]' '' 'boot_timeut = 5s'
    has "$output" "bad.conf:3"
    has "$output" "boot_timeut"
}

@test "config: an unknown section" {
    dynod_with '[dynos]' 'boot_timeout = 5s'
    has "$output" "bad.conf:"
    has "$output" "dynos"
}

@test "config: a bad value" {
    dynod_with '[dyno]' 'boot_timeout = soon'
    has "$output" "bad.conf:2"
    has "$output" "boot_timeout"
}

@test "config: -o is checked in the same way" {
    run timeout 20 "$BIN/dynod" -c "$AGENT/dynod.conf" -o dyno.nonsense=1
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ]
    has "$output" "nonsense"
}

@test "config: a file that is not there" {
    run timeout 20 "$BIN/dynod" -c "$STORY/no-such.conf"
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ]
    has "$output" "no-such.conf"
}

# --- slugs and Procfiles ---

@test "slug pack: a Procfile without a type" {
    mkdir -p "$STORY/empty"
    echo '# nothing here' >"$STORY/empty/Procfile"
    run ! dyno slug pack "$STORY/empty" -o "$STORY/empty.tgz"
    has "$output" Procfile
    [ ! -e "$STORY/empty.tgz" ]
}

@test "slug pack: a Procfile with a conflict marker names file and line" {
    mkdir -p "$STORY/conflict"
    printf 'web: a\n<<<<<<< ours\n' >"$STORY/conflict/Procfile"
    run ! dyno slug pack "$STORY/conflict" -o "$STORY/conflict.tgz"
    has "$output" "Procfile:2"
    [ ! -e "$STORY/conflict.tgz" ]
}

@test "slug pack: no Procfile, no directory, no -o" {
    mkdir -p "$STORY/bare"
    run ! dyno slug pack "$STORY/bare" -o "$STORY/bare.tgz"
    run ! dyno slug pack "$STORY/nowhere" -o "$STORY/bare.tgz"
    has "$output" nowhere
    run -2 dyno slug pack "$STORY/bare"
    [ ! -e "$STORY/bare.tgz" ]
}

@test "slug inspect: what is no slug, what is not there, what is cut" {
    echo "not a slug" >"$STORY/words.tgz"
    run ! dyno slug inspect "$STORY/words.tgz"
    has "$output" words.tgz
    run ! dyno slug inspect "$STORY/never.tgz"
    has "$output" never.tgz
    head -c 700 "$STORY/hello.tgz" >"$STORY/cut.tgz"
    run ! dyno slug inspect "$STORY/cut.tgz"
    has "$output" "cut short"
}

@test "slug inspect: name, types, size, digest, warnings" {
    mkdir -p "$STORY/warned"
    printf 'web: a\nthis is no line\n-x: b\n' >"$STORY/warned/Procfile"
    dyno slug pack "$STORY/warned" -o "$STORY/warned.tgz"
    run -0 dyno slug inspect "$STORY/warned.tgz"
    has "$output" "Procfile:2"
    has "$output" "Procfile:3"
    has "$output" "$(sha256sum "$STORY/warned.tgz" | cut -c1-64)"
    has "$output" web
    dyno slug inspect --json "$STORY/warned.tgz" | jq -e '.digest and .types and .warnings' >/dev/null
}

@test "start: a type that the Procfile has not" {
    run ! dyno start strange --slug "file://$STORY/hello.tgz" -m nosuch=1
    has "$output" nosuch
    dyno stop strange >/dev/null 2>&1 || true
    api DELETE /v1/apps/strange >/dev/null
}

@test "start: digest mismatch" {
    run ! dyno start wrong --slug "file://$STORY/hello.tgz" --digest "sha256:$(printf '1%.0s' $(seq 64))" -m worker=1
    has "$output" "1111111111"
    api DELETE /v1/apps/wrong >/dev/null
}

@test "start: a digest that is none, an app name that is none, a size that is none" {
    run ! dyno start new --slug "file://$STORY/hello.tgz" --digest sha256:abc
    has "$output" digest
    run ! dyno start Bad_Name --slug "file://$STORY/hello.tgz"
    has "$output" Bad_Name
    run ! dyno start new --slug "file://$STORY/hello.tgz" --size enormous
    has "$output" enormous
    run ! dyno start new --slug "ftp://somewhere/x.tgz"
    has "$output" slug
}

@test "start: an .env with an unterminated quote names file and line" {
    printf 'GOOD=1\nBAD="never ends\n' >"$STORY/bad.env"
    run ! dyno start new --slug "file://$STORY/hello.tgz" -e "$STORY/bad.env"
    has "$output" "bad.env:2"
}

@test "scale, stop, restart: what is not there, what is no number" {
    run ! dyno scale calm nosuch=1
    has "$output" nosuch
    run ! dyno scale calm worker=-1
    run ! dyno scale calm worker=many
    has "$output" many
    run ! dyno scale calm worker=101
    has "$output" 101
    run ! dyno scale nobody web=1
    has "$output" nobody
    run ! dyno stop nobody
    has "$output" nobody
    run ! dyno restart calm/worker.7
    has "$output" worker.7
}

@test "the command line: unknown command, unknown option, missing operand" {
    run -2 dyno frobnicate
    has "$output" frobnicate
    run -2 dyno ps --nonsense
    has "$output" nonsense
    run -2 dyno start
    run -2 dyno scale calm
}

@test "no agent: says what to do" {
    DYNOD_SOCKET=$STORY/nobody.sock run -1 "$BIN/dyno" ps
    has "$output" nobody.sock
    has "$output" dynod
}

# --- the API ---

@test "api: JSON that is not JSON, not an object, too deep, with a key twice" {
    refused 400 PATCH /v1/apps/calm/formation '{"worker": }' line
    refused 400 PATCH /v1/apps/calm/formation '[1]'
    refused 400 PATCH /v1/apps/calm/formation "$(printf '{"a":%.0s' $(seq 100))1$(printf '}%.0s' $(seq 100))"
    refused 400 PATCH /v1/apps/calm/formation '{"worker": 2, "worker": 3}' worker
}

@test "api: an unknown field is named, and a wrong type" {
    refused 400 POST /v1/apps/calm/releases "{\"slug\": \"file://$STORY/hello.tgz\", \"colour\": 1}" colour
    refused 400 POST /v1/apps/calm/releases '{"slug": 5}' slug
    refused 400 PATCH /v1/apps/calm/formation '{"worker": "two"}' worker
}

@test "api: over-long" {
    head -c 6000000 /dev/zero | tr '\0' ' ' >"$STORY/long"
    local status
    # The answer comes before the body, for which a client waits that has asked whether it may send it.
    status=$(curl -s --max-time "$PATIENCE" --expect100-timeout "$PATIENCE" --unix-socket "$AGENT/run/api.sock" -X PATCH -H Content-Type:application/json \
        --data-binary "@$STORY/long" -o "$STORY/answer" -w '%{http_code}' http://dynod/v1/apps/calm/formation || true)
    same "$status" 413
}

@test "api: paths and methods that are not" {
    same "$(api_status GET /v1/nothing '')" 404
    same "$(api_status DELETE /v1/status '')" 405
    same "$(api_status GET '/v1/apps/..%2fx' '')" 400
}

@test "api: a socket that the caller may not use (root)" {
    only_root "needs a second user"
    run ! setpriv --reuid 65534 --regid 65534 --clear-groups env DYNOD_SOCKET="$AGENT/run/api.sock" "$BIN/dyno" ps
    has "$output" "api.sock"
    # Also one that can open the socket is refused by its credentials.
    local mode
    mode=$(stat -c %a "$AGENT/run/api.sock")
    chmod 0666 "$AGENT/run/api.sock"
    chmod o+x "$AGENT" "$AGENT/run"
    run ! setpriv --reuid 65534 --regid 65534 --clear-groups env DYNOD_SOCKET="$AGENT/run/api.sock" "$BIN/dyno" stop calm
    chmod "$mode" "$AGENT/run/api.sock"
}

# --- local mode ---

@test "local: a port that is taken" {
    mkdir -p "$STORY/local"
    cp "$ROOT/docs/examples/hello/"* "$STORY/local/"
    local port
    perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalAddr => "0.0.0.0", Listen => 1) or die; print $l->sockport, "\n"; close STDOUT; sleep 100' \
        >"$STORY/taken" 3>&- 4>&- &
    local holder=$!
    wait_for test -s "$STORY/taken"
    port=$(cat "$STORY/taken")
    run timeout 30 "$BIN/dyno" local -p "$port" -m web=1 "$STORY/local"
    kill "$holder"
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || fail "status $status"
    has "$output" "$port"
}

@test "local: bad ports and formations" {
    local bad
    for bad in 0 65536 abc -1; do
        run ! timeout 20 "$BIN/dyno" local -p "$bad" "$STORY/local"
    done
    for bad in nosuch=1 web web= web==2 , web=1,,worker=1 web=1,web=2 web=-1 web=x web=101 '' web=1, web=0,worker=0 release=1; do
        run timeout 20 "$BIN/dyno" local -m "$bad" "$STORY/local"
        [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || fail "formation \"$bad\": status $status"
    done
}

@test "local: a Procfile that is not there, or has no type" {
    run ! timeout 20 "$BIN/dyno" local "$STORY/bare"
    has "$output" Procfile
    run ! timeout 20 "$BIN/dyno" local "$STORY/empty"
    has "$output" Procfile
}
