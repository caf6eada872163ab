# swift.bash - a real OpenStack Swift on loopback, one of everything, with its S3 interface, for the stories
# that need one: loaded after helpers.bash. Runs as whoever runs the story, all of it below $STORY/swift.
# shellcheck shell=bash disable=SC2034,SC2154

SWIFT=$STORY/swift
# The users of the account `test`: who may do everything, and who may do nothing. For S3 the key's
# name is ACCOUNT:USER.
SWIFT_USER=test:tester SWIFT_KEY=testing
SWIFT_GUEST=test:guest SWIFT_GUEST_KEY=guesting

swift_port() { cat "$SWIFT/$1.port"; }
swift_url() { echo "http://127.0.0.1:$(swift_port proxy)"; }
swift_auth() { echo "$(swift_url)/auth/v1.0"; }

swift_start() {
    # Five programs, four of which read half of Python's libraries: on a busy machine that takes a minute.
    local n PATIENCE=$((PATIENCE * 4))
    mkdir -p "$SWIFT/etc" "$SWIFT/srv/d1"
    for n in account container object proxy memcached; do
        free_port >"$SWIFT/$n.port"
    done
    swift_configure
    swift_rings
    swift_run memcached memcached "$(is_root && echo -unobody)" -l 127.0.0.1 -p "$(swift_port memcached)" -m 16
    for n in account container object proxy; do
        SWIFT_DIR=$SWIFT/etc swift_run "$n" "swift-$n-server" "$SWIFT/etc/$n-server.conf"
    done
    # The first requests fail while one of them is not up.
    for n in account container object; do
        wait_for swift_listens "$n"
    done
    wait_for curl -sf -o /dev/null "$(swift_url)/healthcheck"
}
swift_listens() { (exec 3<>"/dev/tcp/127.0.0.1/$(swift_port "$1")") 2>/dev/null; }

# swift_run NAME COMMAND...: in the background; an empty argument is left out.
swift_run() {
    local name=$1 args=() arg
    shift
    for arg; do
        [ -z "$arg" ] || args+=("$arg")
    done
    "${args[@]}" </dev/null >"$SWIFT/$name.log" 2>&1 3>&- 4>&- &
    echo $! >"$SWIFT/$name.pid"
}

swift_stop() {
    local pid rc=0
    for pid in "$SWIFT"/*.pid; do
        kill -TERM "$(cat "$pid")" 2>/dev/null
    done
    for pid in "$SWIFT"/*.pid; do
        wait_for gone "$(cat "$pid")" || rc=1
    done
    rm -f "$SWIFT"/*.pid
    return $rc
}

swift_configure() {
    local n
    cat >"$SWIFT/etc/swift.conf" <<CONF
[swift-hash]
swift_hash_path_prefix = story
swift_hash_path_suffix = story
[storage-policy:0]
name = Policy-0
default = yes
CONF
    for n in account container object; do
        cat >"$SWIFT/etc/$n-server.conf" <<CONF
[DEFAULT]
$(swift_common "$n")
devices = $SWIFT/srv
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = $n-server
[app:$n-server]
use = egg:swift#$n
CONF
    done
    swift_proxy_conf proxy
}

# No worker processes of their own, no logs anywhere but here.
swift_common() {
    cat <<CONF
bind_ip = 127.0.0.1
bind_port = $(swift_port "$1")
workers = 0
user = $(id -un)
swift_dir = $SWIFT/etc
log_address = $SWIFT/nowhere
log_udp_host =
CONF
}

swift_proxy_conf() {
    cat >"$SWIFT/etc/$1-server.conf" <<CONF
[DEFAULT]
$(swift_common "$1")
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache bulk tempurl s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$(swift_port memcached)
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
dns_compliant_bucket_names = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = $SWIFT_KEY .admin
user_test_guest = $SWIFT_GUEST_KEY
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
CONF
}

# swift-ring-builder, called nine times, takes longer than all else.
swift_rings() {
    # Debian's, which has its modules.
    /usr/bin/python3 - "$SWIFT/etc" account "$(swift_port account)" container "$(swift_port container)" \
        object "$(swift_port object)" <<'PY' >"$SWIFT/rings.log" 2>&1
import sys
from swift.common.ring import RingBuilder

etc, rest = sys.argv[1], sys.argv[2:]
for name, port in zip(rest[::2], rest[1::2]):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port),
                     "device": "d1", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{etc}/{name}.ring.gz")
PY
}

# A second proxy whose clock is SECONDS ahead of ours: what a machine with a wrong clock meets.
swift_skewed_start() {
    mkdir -p "$SWIFT/skew"
    printf 'import time\nreal = time.time\ntime.time = lambda: real() + %d\n' "$1" >"$SWIFT/skew/sitecustomize.py"
    free_port >"$SWIFT/skewed.port"
    swift_proxy_conf skewed
    PYTHONPATH=$SWIFT/skew SWIFT_DIR=$SWIFT/etc swift_run skewed swift-proxy-server "$SWIFT/etc/skewed-server.conf"
    wait_for curl -sf -o /dev/null "http://127.0.0.1:$(swift_port skewed)/healthcheck"
}

# An nginx before it: with TLS (of $STORY/ca) on one port, with 4 MB/s a connection on another.
swift_front_start() {
    free_port >"$SWIFT/tls.port"
    free_port >"$SWIFT/slow.port"
    [ -e "$STORY/ca/ca.pem" ] || store_certificates "$STORY/ca"
    cat >"$SWIFT/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $SWIFT/nginx.own-pid;
error_log $SWIFT/nginx-error.log;
$(is_root && echo "user root;")
events { worker_connections 256; }
http {
  log_format told '\$request_method \$uri \$status \$http_range';
  access_log $SWIFT/requests told;
  client_body_temp_path $SWIFT/t1; proxy_temp_path $SWIFT/t2; fastcgi_temp_path $SWIFT/t3;
  uwsgi_temp_path $SWIFT/t4; scgi_temp_path $SWIFT/t5;
  proxy_set_header Host \$http_host;
  proxy_buffering off;
  server {
    listen 127.0.0.1:$(swift_port tls) ssl;
    ssl_certificate $STORY/ca/server.pem;
    ssl_certificate_key $STORY/ca/server.key;
    location / { proxy_pass $(swift_url); }
  }
  server {
    listen 127.0.0.1:$(swift_port slow);
    proxy_buffering on;
    proxy_max_temp_file_size 0;
    limit_rate 4m;
    location / { proxy_pass $(swift_url); }
    # S3 says so, Swift's S3 layer does it without saying so.
    location /slugs/ { proxy_pass $(swift_url); add_header Accept-Ranges bytes always; }
  }
}
CONF
    swift_run front nginx -p "$SWIFT" -c "$SWIFT/nginx.conf" -e "$SWIFT/nginx-error.log"
    wait_for swift_listens slow
}

# --- what is in it -------------------------------------------------------------------------------------

# swift_login: sets TOKEN and STORAGE, of the account `test`.
swift_login() {
    local head
    head=$(curl -sS -f -D - -o /dev/null -H "X-Auth-User: $SWIFT_USER" -H "X-Auth-Key: $SWIFT_KEY" "$(swift_auth)" | tr -d '\r')
    TOKEN=$(sed -n 's/^X-Auth-Token: //Ip' <<<"$head")
    STORAGE=$(sed -n 's/^X-Storage-Url: //Ip' <<<"$head")
}

# swift_curl METHOD PATH [CURL-ARGUMENT...]: PATH is below the account, encoded.
swift_curl() {
    local method=$1 path=$2
    shift 2
    curl -sS -f --path-as-is -X "$method" -H "X-Auth-Token: $TOKEN" "$@" "$STORAGE$path"
}

# Every token is forgotten.
swift_forget_tokens() {
    exec 3<>"/dev/tcp/127.0.0.1/$(swift_port memcached)"
    printf 'flush_all\r\nquit\r\n' >&3
    cat <&3 >/dev/null
    exec 3>&-
}
