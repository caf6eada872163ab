#!/usr/bin/env bats
# fetch.bats - slugs that cannot be had: each failure says why and whose fault it is, and leaves nothing.

load helpers

setup_file() {
    story_begin
    store_start
    slug_from "$ROOT/docs/examples/hello" "$STORY/hello.tgz"
    store_add "$STORY/hello.tgz" hello.tgz
    head -c 900 "$STORY/hello.tgz" >"$STORY/www/truncated.tgz"
    # Of all that noise may begin with, "<" would be taken for a page.
    { printf '\1'; head -c 20000 /dev/urandom; } >"$STORY/www/noise.tgz"
    echo "just words" | gzip >"$STORY/www/words.tgz"
    echo '<!DOCTYPE html><title>Maintenance</title>' >"$STORY/www/page.html"
    : >"$STORY/www/nothing.tgz"
    tar -czf "$STORY/www/empty.tgz" -T /dev/null
    local dir=$STORY/evil
    mkdir -p "$dir/app"
    echo 'worker: sleep 3600' >"$dir/app/Procfile"
    echo gotcha >"$dir/outside"
    (cd "$dir" && tar -czPf "$STORY/www/dotdot.tgz" app/Procfile --transform 's,^outside$,app/../../outside,' outside)
    (cd "$dir" && tar -czPf "$STORY/www/absolute.tgz" app/Procfile --transform "s,^outside\$,$STORY/absolute-was-here," outside)
    (cd "$dir" && mkfifo app/pipe && tar -czf "$STORY/www/fifo.tgz" app)
    rm "$dir/app/pipe"
    (cd "$dir" && tar -czf "$STORY/www/appless.tgz" outside)
    rm "$dir/app/Procfile"
    echo hello >"$dir/app/readme"
    (cd "$dir" && tar -czf "$STORY/www/untyped.tgz" app)
    # Real slugs link to where things are on the platform.
    echo 'worker: cat link; readlink root python; exec sleep 3600' >"$dir/app/Procfile"
    (cd "$dir/app" && ln -s readme link && ln -s /app root && ln -s /usr/bin/python3 python)
    (cd "$dir" && tar -czf "$STORY/www/links.tgz" app)
    (cd "$dir/app" && tar -czf "$STORY/www/toplevel.tgz" .)
    agent_start -o dyno.restart_delay=300ms -o store.fetch_connect=3s -o store.fetch_stall=3s
}
teardown_file() { story_end; }
teardown() {
    # No partial slug is visible after a failure, and no other file.
    wait_for nothing_incoming
}
nothing_incoming() { [ -z "$(find "$AGENT/state" -path '*incoming/*' 2>/dev/null | head -1)" ]; }

# fails NAME URL FAULT WORD...: the fetch of URL fails; its words hold each WORD.
fails() {
    local app=$1 url=$2 fault=$3 word
    shift 3
    dyno start "$app" --slug "$url" -m worker=1 >"$STORY/said" 2>&1 || true
    fetch_failed() { [ "$(last_event "$app" worker.1 exit | jq -r .fault)" = "$fault" ]; }
    wait_for fetch_failed
    local event
    event=$(last_event "$app" worker.1 exit)
    for word; do
        grep -qi -- "$word" <<<"$event" || fail "no \"$word\" in: $event"
    done
    # The one who started it was told.
    [ -s "$STORY/said" ]
    [ "$(count "$app" worker up)" = 0 ]
    dyno stop "$app" >/dev/null
}

@test "file:// and https:// give the same slug, fetched once for many dynos" {
    dyno start first --slug "$(store_url)/hello.tgz" -m worker=5
    wait_for counts first worker 5
    dyno start second --slug "file://$STORY/hello.tgz" --digest "$(digest_of "$STORY/hello.tgz")" -m worker=1
    wait_up second/worker.1
    same "$(store_hits hello.tgz)" 1
    same "$(find "$AGENT/state" -mindepth 2 -type d -path '*sha256/*' -prune -o -type d -path '*sha256/*' -print | wc -l)" 0
    dyno stop first
    dyno stop second
}

@test "404: the operator or the app named a slug that is not there" {
    dyno start none --slug "$(store_url)/nothing-here.tgz" -m worker=1 >"$STORY/said" 2>&1 || true
    seen() { dyno events --json | grep '"none"' | grep -q 404; }
    wait_for seen
    [ "$(count none worker up)" = 0 ]
    dyno stop none
}

@test "403 and 503 say their number" {
    dyno start forbidden --slug "$(store_url)/secret/hello.tgz" -m worker=1 >/dev/null 2>&1 || true
    dyno start busy --slug "$(store_url)/busy/hello.tgz" -m worker=1 >/dev/null 2>&1 || true
    forbidden() { dyno events --json | grep '"forbidden"' | grep -q 403; }
    busy() { dyno events --json | grep '"busy"' | grep -q 503; }
    wait_for forbidden
    wait_for busy
    dyno stop forbidden
    dyno stop busy
}

@test "a certificate that nobody trusts" {
    fails untrusted "https://localhost:$(cat "$STORY/stranger-port")/hello.tgz" operator certificate
}

@test "a store that is not there" {
    fails unreachable "https://127.0.0.1:$(free_port)/hello.tgz" platform connect
}

@test "a connection that dies in the middle" {
    fails cut "$(store_url)/cut.tgz" platform
}

@test "a wrong digest is R17, with both" {
    local wrong
    wrong=$(printf '0%.0s' $(seq 64))
    dyno start wrong --slug "$(store_url)/hello.tgz" --digest "sha256:$wrong" -m worker=1 >/dev/null 2>&1 || true
    seen() { logs wrong | grep -q "Error R17 (Checksum error) -> Checksum does not match expected value. Expected: SHA256:$wrong Actual: SHA256:$(sha256sum "$STORY/hello.tgz" | cut -c1-64)"; }
    wait_for seen
    [ "$(count wrong worker up)" = 0 ]
    dyno stop wrong
}

@test "a truncated gzip" { fails truncated "$(store_url)/truncated.tgz" app "cut short"; }
@test "what is no gzip" { fails noise "$(store_url)/noise.tgz" app gzip; }
@test "a gzip that holds no tar" { fails words "$(store_url)/words.tgz" app; }
@test "a slug without process types" { fails untyped "$(store_url)/untyped.tgz" app Procfile; }

@test "a page for people, with status 200" { fails page "$(store_url)/page.html" operator "an HTML page, not a slug"; }
@test "an empty file" { fails nothing "$(store_url)/nothing.tgz" app "the file is empty"; }
@test "an archive that holds nothing" { fails empty "$(store_url)/empty.tgz" app "the archive holds no file"; }
@test "an archive without app/, and without a Procfile at its root" {
    fails appless "$(store_url)/appless.tgz" app "no Procfile"
}

@test "an archive that leaves its directory" {
    fails dotdot "$(store_url)/dotdot.tgz" app outside
    [ -z "$(find "$AGENT/state" -name outside 2>/dev/null)" ]
}

@test "an archive with an absolute path" {
    fails absolute "$(store_url)/absolute.tgz" app absolute
    [ ! -e "$STORY/absolute-was-here" ]
}

@test "an archive with a FIFO" { fails fifo "$(store_url)/fifo.tgz" app pipe; }

@test "symbolic links are kept as data" {
    dyno start links --slug "$(store_url)/links.tgz" -m worker=1
    wait_up links/worker.1
    wait_logged links/worker.1 "app[worker.1]: hello"
    wait_logged links/worker.1 "app[worker.1]: /app"
    wait_logged links/worker.1 "app[worker.1]: /usr/bin/python3"
    dyno stop links
}

@test "a tar with the app at its root" {
    dyno start toplevel --slug "$(store_url)/toplevel.tgz" -m worker=1
    wait_up toplevel/worker.1
    dyno stop toplevel
}

@test "a file:// slug that is not there, or is a directory" {
    run ! dyno start gone --slug "file://$STORY/never.tgz" -m worker=1
    has "$output" never.tgz
    run ! dyno start folder --slug "file://$STORY/www" -m worker=1
    [ "$(dyno ps --json | jq 'map(select(.state == "up")) | length')" = 0 ]
    dyno stop folder || true
}

@test "http:// is refused unless allowed" {
    run ! dyno start plain --slug "http://localhost:1/hello.tgz" -m worker=1
    has "$output" http
}

@test "after a failure the app can be started with a good slug" {
    fails again "$(store_url)/truncated.tgz" app
    dyno start again --slug "$(store_url)/hello.tgz" -m worker=1
    wait_up again/worker.1
    dyno stop again
}

# roles [ROLE]: the processes of fetches, the one that waits among them.
roles() { pgrep -P "$(agent_pid)" -f "^dynod-fetch $1"; }
# What a fetch has written so far.
incoming_bytes() { du -sk "$AGENT/state/cache/incoming" | cut -f1; }
fetching() { [ "$(incoming_bytes)" -gt "$1" ]; }

@test "kill -9 of any role of dynod-fetch: the fetch failed, the agent goes on and tries again" {
    local role pids
    # Nothing else in it is left behind; the store gives it slowly.
    head -c 4000000 /dev/urandom >"$STORY/evil/app/ballast"
    (cd "$STORY/evil" && tar -czf "$STORY/www/slow.tgz" app)
    for role in download unpack image; do
        if [ "$role" = image ] && ! is_root; then
            continue
        fi
        dyno_background start "slow-$role" --slug "$(store_url)/slow/slow.tgz" -m worker=1 >/dev/null 2>&1
        wait_for fetching 64
        mapfile -t pids < <(roles "$role")
        kill -KILL "${pids[@]}"
        killed() { last_event "slow-$role" worker.1 exit | grep -q "dynod-fetch $role died without an answer"; }
        wait_for killed
        same "$(last_event "slow-$role" worker.1 exit | jq -r .fault)" platform
        agent_answers
        # It is tried again without a word, and may be stopped.
        wait_for fetching 64
        dyno stop "slow-$role"
    done
    dyno start slow --slug "$(store_url)/slow.tgz" -m worker=1
    wait_up slow/worker.1
    dyno stop slow
}

# The roles of fetches that are at work, the waiting one not among them: it gives up the last when it is asked.
at_work() {
    local p
    for p in $(roles ""); do
        ! grep -qs '^Seccomp:.2$' "/proc/$p/status" || echo "$p"
    done
}
status_of() { awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"; }
namespace_of() { readlink "/proc/$1/ns/$2"; }

@test "what is at work on a slug owns nothing: a uid of this fetch, no capability, namespaces, a bounded cgroup (root)" {
    only_root "as a user nothing can be given up but what landlock and seccomp take"
    local p ns dynod uids=() group working
    dynod=$(agent_pid)
    head -c 4000000 /dev/urandom >"$STORY/evil/app/ballast"
    (cd "$STORY/evil" && tar -czf "$STORY/www/watched.tgz" app)
    dyno slug fetch --no-wait "$(store_url)/slow/watched.tgz?1"
    dyno slug fetch --no-wait "$(store_url)/slow/watched.tgz?2"
    two_at_work() { [ "$(at_work | wc -l)" = 6 ]; }
    wait_for two_at_work
    mapfile -t working < <(at_work)
    kill -STOP "${working[@]}" # asking all this may take longer than their work
    for p in "${working[@]}"; do
        uids+=("$(status_of "$p" Uid)")
        same "$(awk '/^(Uid|Gid):/ { print $2, $3, $4, $5 }' "/proc/$p/status" | tr ' ' '\n' | sort -u | wc -l)" 1
        same "$(awk '/^Groups:/ { print NF }' "/proc/$p/status")" 1
        same "$(awk '/^Cap(Inh|Prm|Eff|Amb):/ { print $2 }' "/proc/$p/status" | sort -u)" 0000000000000000
        same "$(status_of "$p" NoNewPrivs)" 1
        for ns in mnt pid ipc; do
            [ "$(namespace_of "$p" $ns)" != "$(namespace_of "$dynod" $ns)" ] || fail "$p shares $ns"
        done
        if [ "$p" != "$(roles download | grep -x "$p")" ]; then
            [ "$(namespace_of "$p" net)" != "$(namespace_of "$dynod" net)" ] || fail "$p has the network"
            same "$(nsenter -t "$p" -n ip -o link | grep -cv ' lo: ')" 0
        fi
        group=$(grep -om1 "$(cgroup_parent)/fetch-[0-9a-f]*" "/proc/$p/cgroup")
        cat /sys/fs/cgroup{/memory,/unified,}"$group"/memory.{limit_in_bytes,max} 2>/dev/null | grep -qx 1073741824 ||
            fail "no limit of memory in $group"
    done
    kill -CONT "${working[@]}"
    # One uid a fetch, nobody else's.
    same "$(printf '%s\n' "${uids[@]}" | sort | uniq -c | awk '{ print $1 }' | tr '\n' ' ')" "3 3 "
    [[ " ${uids[*]} " != *" 0 "* ]]
}
