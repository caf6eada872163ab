# helpers.bash - an agent of the story's own, a store, slugs of real apps. Loaded by every story.
#
# A story's setup_file calls story_begin and then what it needs (store_start, agent_start); its
# teardown_file calls story_end, which fails the story when anything is left behind. All state is in
# files below $STORY, because bats runs each test in a process of its own.
# shellcheck shell=bash disable=SC2034,SC2154

bats_require_minimum_version 1.5.0

ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
BUILD=${BUILD:-$ROOT/build}
# A copy of the programs for each story: whose process one is, its /proc/PID/exe tells.
BIN=$BATS_FILE_TMPDIR/bin
SLUGS=$BUILD/integration
APPS=$BATS_TEST_DIRNAME/apps
STORY=$BATS_FILE_TMPDIR
AGENT=$STORY/agent
RUN_ID=${DYNOD_TEST_RUN:-$$}
# How long anything may take before a test gives up; never how long it is expected to take.
PATIENCE=${PATIENCE:-40}

is_root() { [ "$(id -u)" = 0 ]; }
only_root() { is_root || skip "${1:-needs root}"; }

# jq 1.6 compiles its library at each start, ten times what `dyno ps` takes; nearly every wait asks it.
jq() { command gojq "$@"; }

# --- waiting and saying -------------------------------------------------------------------------------

# wait_for COMMAND...: polls until COMMAND succeeds; fails loudly when it never does.
wait_for() {
    local deadline=$((SECONDS + PATIENCE)) pause=0.1 asked=0
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            echo "gave up waiting for: $*"
            diagnose
            return 1
        fi
        # What is not there by then takes seconds, and asking takes the processor from it.
        ((++asked < 10)) || pause=0.25
        sleep "$pause"
    done
}

# What a failed test shows beside its own output.
diagnose() {
    echo "--- dyno ps"
    dyno ps 2>&1 | tail -20
    echo "--- the agent's log"
    tail -n 25 "$AGENT/dynod.log" 2>/dev/null
    echo "--- events"
    dyno events 2>/dev/null | tail -n 15
    echo "---"
}

fail() {
    echo "$*"
    diagnose
    return 1
}

# has TEXT PART: TEXT contains PART, literally.
has() { [[ $1 == *"$2"* ]] || fail "expected to find: $2" "in: $1"; }
hasnt() { [[ $1 != *"$2"* ]] || fail "expected not to find: $2" "in: $1"; }
same() { [ "$1" = "$2" ] || fail "expected: $2, found: $1"; }

# alive PID: it exists and is no zombie.
alive() { grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }
gone() { ! alive "$1"; }

# free_port: never the same twice, and nobody else's meanwhile, not while its server is restarted either:
# neither the kernel nor an agent of these stories gives out those, and the other user's are others.
free_port() {
    local first=10000
    is_root || first=15000
    perl -MIO::Socket::INET -e '
        my ($first, $number, $file) = @ARGV;
        my $n = -e $file ? do { open my $f, "<", $file; <$f> } : $number;
        for (1 .. 5000) {
            my $port = $first + ++$n % 5000;
            IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => $port, Proto => "tcp") or next;
            open my $f, ">", $file or die "$file: $!";
            print $f $n;
            print $port;
            exit;
        }
        die "no port is free";' "$first" "$(cksum <<<"$STORY" | cut -d' ' -f1)" "$STORY/last-port"
}

# --- the story ------------------------------------------------------------------------------------------

story_begin() {
    # The helpers are users of their own: they must be able to pass through to the CA's file.
    chmod 0711 "$BATS_RUN_TMPDIR" "$STORY" "$(dirname "$STORY")" "$(dirname "$(dirname "$STORY")")" 2>/dev/null
    mkdir -p "$AGENT" "$SLUGS" "$STORY/www"
    cp -r "$BUILD/bin" "$BIN"

    : >"$AGENT/dynod.conf"
    echo "$BIN" >"$AGENT/bin"
}

story_end() {
    local bad=0
    if [ -e "$AGENT/pid" ]; then
        agent_end || bad=1
    fi
    if [ -e "$STORY/nginx.pid" ]; then
        store_stop || bad=1
    fi
    return $bad
}

# --- the agent ------------------------------------------------------------------------------------------

dyno() { DYNOD_SOCKET=$AGENT/run/api.sock timeout "$PATIENCE" "$BIN/dyno" "$@"; }
# dyno_background ARG...: as a child that can be killed: `dyno ... &` would be a shell around it.
dyno_background() {
    DYNOD_SOCKET=$AGENT/run/api.sock "$BIN/dyno" "$@" 3>&- 4>&- &
    BACKGROUND=$!
}
agent_pid() { cat "$AGENT/pid"; }
agent_answers() { dyno ps; }

# The stories of root and of the user run at the same time: neither takes a port that the other chose. Who runs
# more than one check on a machine gives each 10000 ports of its own, from $DYNOD_TEST_PORTS on: as root, the
# port of one agent's dyno is no other program's, on the whole host.
port_range() {
    local first=${DYNOD_TEST_PORTS:-20000}
    is_root || first=$((first + 5000))
    echo "$first-$((first + 4999))"
}

# agent_start [-o SECTION.KEY=VALUE]...: the options are kept for agent_again.
agent_start() {
    mkdir -p "$AGENT/run" "$AGENT/state"
    : >"$AGENT/dynod.conf"
    chmod 0711 "$AGENT"
    # Stories run beside each other, with the same users and ports.
    printf '%s\n' -o "agent.runtime_dir=$AGENT/run" -o "agent.state_dir=$AGENT/state" \
        -o "agent.claims_dir=$STORY/claims" \
        -o "agent.cgroup_parent=$(cgroup_parent)" -o "dyno.port_range=$(port_range)" \
        -o "network.ipv4_range=$(network_range)" -o "network.ipv6_range=$(network_range6)" "$@" >"$AGENT/options"
    if [ -e "$STORY/ca/ca.pem" ]; then
        printf '%s\n' -o "store.ca_file=$STORY/ca/ca.pem" >>"$AGENT/options"
    fi
    agent_again
}

# A range of the story's own, so that what one that fails leaves behind is not in the next one's way.
network_number() { cksum <<<"$STORY" | awk '{ print $1 % 1024 }'; }
network_range() {
    local n
    n=$(network_number)
    echo "10.$((192 + n / 16)).$((n % 16 * 16)).0/20"
}
network_range6() { printf 'fd64:796e:6f64:%x::/64\n' $((0x1000 + $(network_number))); }

cgroup_parent() { echo "/dynod-it-$RUN_ID-$(id -u)-$(basename "$BATS_TEST_FILENAME" .bats)"; }

# Starts the agent with the options that it had.
agent_again() {
    local options
    mapfile -t options <"$AGENT/options"
    # A session of its own; not bats' descriptors, which would keep bats waiting.
    setsid "$(cat "$AGENT/bin")/dynod" -c "$AGENT/dynod.conf" "${options[@]}" \
        </dev/null >>"$AGENT/dynod.log" 2>&1 3>&- 4>&- &
    echo $! >"$AGENT/pid"
    wait_for answers_or_dead
    agent_answers >/dev/null || { echo "the agent does not run:"; tail -n 20 "$AGENT/dynod.log"; return 1; }
}
answers_or_dead() { agent_answers || gone "$(agent_pid)"; }

# agent_kill [SIGNAL]: and waits until it is gone.
agent_kill() {
    local pid
    pid=$(agent_pid)
    kill -"${1:-KILL}" "$pid"
    wait_for gone "$pid"
}

# The helper NAME of the running agent.
helper_pid() { pgrep -P "$(agent_pid)" -x "$1"; }

# Stops all apps, then the agent, and checks that nothing is left.
agent_end() {
    local app pids pid bad=0
    if ! alive "$(agent_pid)"; then
        agent_again || return 1
    fi
    pids=$(dyno ps --json | jq -r '.[].pid // empty')
    for app in $(dyno ps --json | jq -r '.[].app' | sort -u); do
        dyno stop "$app" >/dev/null || bad=1
    done
    wait_for all_ended || bad=1
    for pid in $pids; do
        wait_for gone "$pid" || bad=1
    done
    agent_kill TERM || bad=1
    agent_left_nothing || bad=1
    return $bad
}
all_ended() { same "$(dyno ps --json | jq '[.[] | select(.state | IN("provisioning", "starting", "up", "paused", "stopping"))] | length')" 0; }

agent_left_nothing() {
    local left
    left=$(agent_leftovers)
    [ -z "$left" ] || { printf 'left behind:\n%s\n' "$left"; tail -n 20 "$AGENT/dynod.log"; return 1; }
}
# Every process that runs one of this story's programs: "PID EXE". A dyno-init's link has no path, but leads to
# the file. (Asking about one process after the other takes minutes on a machine that has much to do.)
story_processes() {
    {
        find /proc/[0-9]*/exe -maxdepth 0 -lname "$STORY/*" -printf '%p %l\n'
        find -L /proc/[0-9]*/exe -maxdepth 0 -samefile "$BIN/dyno-init" -printf '%p dyno-init\n'
    } 2>/dev/null | cut -d/ -f3- | sed 's,/exe , ,' | sort -u -k 1,1
}
agent_leftovers() {
    local range
    range=$(network_range)
    story_processes | sed 's/^/process /'
    find /sys/fs/cgroup -maxdepth 5 -type d -path "*$(cgroup_parent)/*" 2>/dev/null | sed 's/^/cgroup /'
    awk -v dir="$STORY" 'index($5, dir) == 1 { print "mount " $5 }' /proc/self/mountinfo
    ! is_root || ip route show table all proto 213 | grep -F "${range%.*}." | sed 's/^/route /'
}

# --- dynos ------------------------------------------------------------------------------------------------

# of DYNO FIELD: a field of `dyno ps --json`; DYNO is APP/web.1.
of() { dyno ps --json | jq -r --arg d "$1" ".[] | select(.app + \"/\" + .dyno == \$d) | $2"; }
is() { [ "$(of "$1" "$2")" = "$3" ]; }
state_of() { of "$1" .state; }
up() { is "$1" .state up; }
wait_up() { local d; for d; do wait_for up "$d" || return 1; done; }
# count APP TYPE [STATE]
count() {
    dyno ps --json "$1" | jq --arg t "$2" --arg s "${3:-up}" '[.[] | select(.type == $t and .state == $s)] | length'
}
counts() { [ "$(count "$1" "$2" "${4:-up}")" = "$3" ]; }
port_of() { of "$1" .port; }
# get DYNO PATH: from a web dyno
get() { curl -sS --max-time 10 "http://127.0.0.1:$(port_of "$1")$2"; }
answers() { get "$1" / | grep -q "${1#*/}"; }
# A new process, up again: PID is the old one.
replaced() { up "$1" && ! is "$1" .pid "$2"; }

logs() { dyno logs -n 100000 "$@"; }
logged() { logs "$1" | grep -qF -- "$2"; }
wait_logged() { wait_for logged "$@"; }
# The bodies of a dyno's log, without time: "heroku[web.1]: State changed ..."
bodies() { logs "$1" | sed -E 's/^[^ ]+ //'; }

# last_event APP DYNO KIND: the newest, as JSON
last_event() {
    dyno events --json | jq -cs --arg a "$1" --arg d "$2" --arg k "$3" \
        '(if (.[0] | type) == "array" then .[0] else . end) | map(select(.app == $a and .dyno == $d and .kind == $k)) | last'
}

digest_of() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }

# --- slugs ------------------------------------------------------------------------------------------------

# slug_from DIR FILE: packs a directory
slug_from() { "$BUILD/bin/dyno" slug pack "$1" -o "$2" >/dev/null; }

# slug_app NAME: the slug of tests/integration/apps/NAME, built once a checkout; prints its path.
slug_app() {
    local name=$1 out=$SLUGS/$1.tgz stamp
    mkdir -p "$SLUGS"
    exec 9>"$SLUGS/.lock"
    flock 9
    stamp=$(cd "$APPS/$name" && find . -path ./node_modules -prune -o -type f -print0 | sort -z |
        xargs -0 sha256sum | sha256sum)
    if [ ! -e "$out" ] || [ "$(cat "$out.stamp" 2>/dev/null)" != "$stamp" ]; then
        slug_build "$name" "$out" || { exec 9>&-; return 1; }
        echo "$stamp" >"$out.stamp"
    fi
    exec 9>&-
    echo "$out"
}

# As a buildpack would: the app, its packages, and the node that runs it.
slug_build() {
    local name=$1 out=$2 dir
    dir=$(mktemp -d "$STORY/build.XXXXXX")
    (cd "$APPS/$name" && tar -c --exclude=./node_modules .) | tar -x -C "$dir" || return 1
    if [ -e "$dir/package-lock.json" ]; then
        (cd "$dir" && npm ci --omit=dev --prefer-offline --no-update-notifier --cache "$STORY/npm") >&2 || return 1
        mkdir -p "$dir/.heroku/node/bin"
        cp -L "$(command -v node)" "$dir/.heroku/node/bin/node" || return 1
    fi
    slug_from "$dir" "$out.new" && mv "$out.new" "$out" || return 1
    rm -rf "$dir" "$STORY/npm"
}

# slug_of_procfile NAME LINE...: a slug of nothing but a Procfile; prints its path.
slug_of_procfile() {
    local name=$1 dir=$STORY/procfile-$1
    shift
    mkdir -p "$dir"
    printf '%s\n' "$@" >"$dir/Procfile"
    slug_from "$dir" "$STORY/$name.tgz" || return 1
    echo "$STORY/$name.tgz"
}

# --- the store ----------------------------------------------------------------------------------------------

# An nginx with TLS by a CA of its own. $STORY/www is what it serves.
store_start() {
    local modules=/usr/lib/nginx/modules
    store_certificates "$STORY/ca" >/dev/null 2>&1 || return 1
    # A second authority, which nobody trusts.
    store_certificates "$STORY/stranger" >/dev/null 2>&1 || return 1
    free_port >"$STORY/port"
    free_port >"$STORY/stranger-port"
    cat >"$STORY/nginx.conf" <<CONF
load_module $modules/ndk_http_module.so;
load_module $modules/ngx_http_lua_module.so;
daemon off;
worker_processes 1;
pid $STORY/nginx.pid;
error_log $STORY/nginx-error.log;
$(is_root && echo "user root;")
events { worker_connections 256; }
http {
  log_format story '\$request \$status \$http_range';
  access_log $STORY/access.log story;
  default_type application/octet-stream;
  client_body_temp_path $STORY/t1; proxy_temp_path $STORY/t2; fastcgi_temp_path $STORY/t3;
  uwsgi_temp_path $STORY/t4; scgi_temp_path $STORY/t5;
  ssl_protocols TLSv1.2 TLSv1.3;
  root $STORY/www;
  server {
    listen 127.0.0.1:$(cat "$STORY/port") ssl;
    ssl_certificate $STORY/ca/server.pem;
    ssl_certificate_key $STORY/ca/server.key;
    location / { }
    location /slow/ { alias $STORY/www/; limit_rate 400k; }
    location /busy/ { return 503; }
    location /secret/ { return 403; }
    location /token/ {
      if (\$http_authorization != "Bearer let-me-in") { return 401; }
      alias $STORY/www/;
    }
    # The right Content-Length, half of the bytes, then the connection dies.
    location = /cut.tgz { content_by_lua_block {
      local f = io.open("$STORY/www/hello.tgz", "rb"); local data = f:read("*a"); f:close()
      ngx.header["Content-Length"] = #data
      ngx.print(data:sub(1, math.floor(#data / 2))); ngx.flush(true); return ngx.exit(ngx.ERROR) } }
  }
  server {
    listen 127.0.0.1:$(cat "$STORY/stranger-port") ssl;
    ssl_certificate $STORY/stranger/server.pem;
    ssl_certificate_key $STORY/stranger/server.key;
  }
}
CONF
    nginx -p "$STORY" -c "$STORY/nginx.conf" -e "$STORY/nginx-error.log" </dev/null >/dev/null 2>&1 3>&- 4>&- &
    echo $! >"$STORY/nginx.pid.ours"
    wait_for curl -s --cacert "$STORY/ca/ca.pem" -o /dev/null "$(store_url)/"
}

store_stop() {
    kill -TERM "$(cat "$STORY/nginx.pid.ours")"
    wait_for gone "$(cat "$STORY/nginx.pid.ours")"
}

store_url() { echo "https://localhost:$(cat "$STORY/port")"; }
# store_add FILE [NAME]: serves it; prints its URL.
store_add() {
    local name=${2:-$(basename "$1")}
    ln -f "$1" "$STORY/www/$name" 2>/dev/null || cp -f "$1" "$STORY/www/$name"
    chmod 0644 "$STORY/www/$name"
    echo "$(store_url)/$name"
}
# How often NAME was downloaded.
# How often it was downloaded, in however many parts.
store_hits() { grep -cE "^GET /$1 HTTP/[0-9.]+ 20[06] (-|bytes=0-.*)\$" "$STORY/access.log"; }

# A CA and a server's certificate for localhost, in DIR.
store_certificates() {
    local dir=$1
    mkdir -p "$dir" && cd "$dir" || return 1
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -days 30 -subj "/CN=CA of the tests $(basename "$dir")" -out ca.pem \
        -addext basicConstraints=critical,CA:TRUE
    openssl ecparam -name prime256v1 -genkey -noout -out server.key
    openssl req -new -key server.key -subj /CN=localhost -out server.csr
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext \
        -out server.pem
    local rc=$?
    cd - >/dev/null || return 1
    return $rc
}
