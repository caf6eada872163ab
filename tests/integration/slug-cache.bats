#!/usr/bin/env bats
# slug-cache.bats - what stays in the cache, what goes, and what is not believed after a power cut.

load helpers

setup_file() {
    story_begin
    local i
    for i in 1 2 3 4; do
        mkdir -p "$STORY/app$i"
        head -c 3000000 /dev/urandom >"$STORY/app$i/ballast"
        printf 'worker: echo content of %s is $(wc -c <ballast); exec sleep 3600\n' "$i" >"$STORY/app$i/Procfile"
        slug_from "$STORY/app$i" "$STORY/slug$i.tgz"
    done
    agent_start -o dyno.restart_delay=300ms -o store.cache_max=10M
}
teardown_file() { story_end; }

hex() { sha256sum "$STORY/slug$1.tgz" | cut -d' ' -f1; }
entry() { echo "$AGENT/state/cache/sha256/$(hex "$1")"; }
cached() { [ -d "$(entry "$1")" ]; }
not_cached() { ! cached "$1"; }
run_slug() {
    dyno start "app$1" --slug "file://$STORY/slug$1.tgz" -m worker=1 >/dev/null
    wait_up "app$1/worker.1"
}
# Not before nothing uses it any more.
stop_slug() {
    dyno stop "app$1"
    wait_for unused "$1"
}
unused() { [ "$(dyno slug ls --json | jq --arg d "sha256:$(hex "$1")" '.slugs[] | select(.digest == $d) | .in_use')" = false ]; }
meta() { jq -r "$2" "$(entry "$1")/meta.json"; }
sealed() { [ "$(meta "$1" .synced)" = true ]; }
images() { [ "$(meta "$1" .kind)" = image ]; }
# Everything that is waiting to be removed has been.
no_trash() { [ -z "$(ls -A "$AGENT/state/trash")" ]; }

@test "as root, where the kernel can: a slug is an image, root's alone, and a dyno runs from it (root)" {
    only_root "only root mounts images"
    run_slug 1
    images 1 || skip "no images on this machine: $(grep -o 'unpacked into directories.*' "$AGENT/dynod.log")"
    same "$(stat -c '%u %a' "$(entry 1)/image")" "0 600"
    wait_logged app1/worker.1 "content of 1 is 3000000"
    grep -q "overlay" "/proc/$(of app1/worker.1 .pid)/mounts"
    # Nobody's mount table but the dyno's has it.
    run ! grep " - erofs " "/proc/$(agent_pid)/mountinfo"
    fsck.erofs "$(entry 1)/image" >/dev/null
    wait_for sealed 1
    same "$(meta 1 .image)" "$(sha256sum "$(entry 1)/image" | cut -d' ' -f1)"
}

@test "no room: the least recently used goes, never one in use, and not after the agent was killed" {
    run_slug 1
    run_slug 2
    stop_slug 2
    run_slug 3
    stop_slug 3
    # 1 is in use, and the oldest; 2 goes.
    agent_kill KILL
    agent_again
    run_slug 4
    wait_for not_cached 2
    cached 1
    cached 3
    cached 4
    wait_for no_trash
    # It comes back when it is wanted, and then 3 goes.
    run_slug 2
    wait_for not_cached 3
    cached 1
    cached 2
    cached 4
    stop_slug 4
    up app1/worker.1
}

@test "no room, and all in use: more is taken than cache_max, nothing stops" {
    run_slug 1
    run_slug 2
    run_slug 3
    run_slug 4
    for i in 1 2 3 4; do
        cached "$i"
        up "app$i/worker.1"
    done
    for i in 2 3 4; do stop_slug "$i"; done
}

@test "published, not synced, and the machine was restarted: gone, and fetched again (root)" {
    only_root "directories are synced before they are published"
    run_slug 1
    images 1 || skip "no images here"
    run_slug 2
    wait_for sealed 2
    agent_kill KILL
    # As it would be after a power cut in the moment before 1 was sealed.
    jq -c '.synced = false | del(.image) | .boot = "another"' "$(entry 1)/meta.json" >"$STORY/meta"
    cp "$STORY/meta" "$(entry 1)/meta.json"
    agent_again
    grep -q "the machine restarted before it was known to be on the disk" "$AGENT/dynod.log"
    not_cached 1
    cached 2
    # Who ran from it runs on; a new start fetches it.
    up app1/worker.1
    dyno restart app1
    wait_for cached 1
    wait_up app1/worker.1
    dyno stop app2
}

@test "an image that cannot be mounted is dropped, said so, and fetched again (root)" {
    only_root "only root mounts images"
    run_slug 2
    images 2 || skip "no images here"
    stop_slug 2
    agent_kill KILL
    printf 'not an image' | dd of="$(entry 2)/image" bs=1 seek=1024 conv=notrunc 2>/dev/null
    agent_again
    run_slug 2
    grep -q "the image of sha256:$(hex 2 | cut -c1-12) is dropped" "$AGENT/dynod.log"
    dyno events --json | jq -cs '(if (.[0] | type) == "array" then .[0] else . end) | map(select(.kind == "slug")) | last | .outcome' |
        grep -q dropped
    fsck.erofs "$(entry 2)/image" >/dev/null
    dyno stop app2
}

@test "a slug that is torn is none" {
    run_slug 2
    stop_slug 2
    agent_kill KILL
    : >"$(entry 2)/meta.json"
    mkdir "$AGENT/state/cache/sha256/nothing" "$AGENT/state/cache/incoming/0123456789abcdef"
    agent_again
    not_cached 2
    [ ! -e "$AGENT/state/cache/sha256/nothing" ]
    [ -z "$(ls -A "$AGENT/state/cache/incoming")" ]
    run_slug 2
    dyno stop app2
}
