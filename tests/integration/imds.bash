# imds.bash - the EC2 instance metadata service (version 2), for the stories that need one: loaded after
# helpers.bash. An nginx with lua on loopback; what it answers are files that a test puts and takes away.
# shellcheck shell=bash

IMDS=$STORY/imds
# What a token lives at most here, whatever is asked for: so that renewing is seen.
IMDS_TOKEN_SEC=${IMDS_TOKEN_SEC:-6}

imds_start() {
    local modules=/usr/lib/nginx/modules
    mkdir -p "$IMDS/latest"
    [ -e "$IMDS/port" ] || free_port >"$IMDS/port"
    cat >"$IMDS/nginx.conf" <<CONF
load_module $modules/ndk_http_module.so;
load_module $modules/ngx_http_lua_module.so;
daemon off;
worker_processes 1;
pid $IMDS/nginx.pid;
error_log $IMDS/error.log;
$(is_root && echo "user root;")
events { worker_connections 256; }
http {
  log_format told '\$request_method \$uri \$status';
  access_log $IMDS/requests told;
  lua_shared_dict tokens 1m;
  client_body_temp_path $IMDS/t1; proxy_temp_path $IMDS/t2; fastcgi_temp_path $IMDS/t3;
  uwsgi_temp_path $IMDS/t4; scgi_temp_path $IMDS/t5;
  server {
    listen 127.0.0.1:$(cat "$IMDS/port");
    default_type text/plain;
    location = /latest/api/token { content_by_lua_block {
      if ngx.req.get_method() ~= "PUT" then return ngx.exit(405) end
      if ngx.var.http_x_forwarded_for then return ngx.exit(403) end
      local ttl = tonumber(ngx.var.http_x_aws_ec2_metadata_token_ttl_seconds)
      if not ttl or ttl < 1 or ttl > 21600 then return ngx.exit(400) end
      local random = io.open("/dev/urandom", "rb")
      local token = ngx.encode_base64(random:read(39))
      random:close()
      ngx.shared.tokens:set(token, 1, math.min(ttl, $IMDS_TOKEN_SEC))
      ngx.header["X-aws-ec2-metadata-token-ttl-seconds"] = ttl
      ngx.print(token) } }
    location /latest/ {
      access_by_lua_block {
        local token = ngx.var.http_x_aws_ec2_metadata_token
        if not token or not ngx.shared.tokens:get(token) then return ngx.exit(401) end }
      content_by_lua_block {
        local name = "$IMDS" .. ngx.var.uri
        local file = io.open(name .. "/.list", "rb") or io.open(name, "rb")
        local text = file and file:read("*a")
        if file then file:close() end
        if not text then return ngx.exit(404) end
        if text == "!hang" then ngx.sleep(3600) end
        if text:sub(1, 1) == "!" then return ngx.exit(tonumber(text:sub(2))) end
        ngx.print(text) } }
    location / { return 404; }
  }
}
CONF
    nginx -p "$IMDS" -c "$IMDS/nginx.conf" -e "$IMDS/error.log" </dev/null >/dev/null 2>&1 3>&- 4>&- &
    echo $! >"$IMDS/pid"
    wait_for imds_answers
}
imds_answers() {
    curl -sS -f --max-time 2 -o /dev/null -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 1' "$(imds_url)/latest/api/token"
}
imds_stop() {
    kill -TERM "$(cat "$IMDS/pid")"
    wait_for gone "$(cat "$IMDS/pid")"
    rm -f "$IMDS/pid"
}
imds_url() { echo "http://127.0.0.1:$(cat "$IMDS/port")"; }

# imds_put PATH TEXT: below /latest/. "!500" is a status, "!hang" no answer; PATH/.list a directory's answer.
imds_put() {
    mkdir -p "$(dirname "$IMDS/latest/$1")"
    printf %s "$2" >"$IMDS/latest/$1.new" && mv "$IMDS/latest/$1.new" "$IMDS/latest/$1"
}
imds_take() { rm -f "$IMDS/latest/$1"; }
# imds_asked PATH [STATUS]: how often it was asked for.
imds_asked() { grep -c " /latest/$1 ${2:-}" "$IMDS/requests"; }

# An instance as EC2 describes one.
imds_instance() {
    imds_put meta-data/instance-id "$1"
    imds_put meta-data/placement/region eu-west-1
    imds_put meta-data/placement/availability-zone eu-west-1a
    imds_put meta-data/instance-type m6i.large
    imds_put meta-data/instance-life-cycle spot
    imds_put meta-data/local-ipv4 127.0.0.1
    imds_put meta-data/autoscaling/target-lifecycle-state InService
    imds_put meta-data/events/maintenance/scheduled '[]'
}
