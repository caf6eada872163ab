/* link_server.h - a bad controller for the tests of dynod-link: a Python script on loopback, plain
 * and with TLS, that answers by the first part of the path. */
#ifndef TESTS_LINK_SERVER_H
#define TESTS_LINK_SERVER_H

#include "base/fdio.h"
#include "base/scoped.h"
#include "certificates.h"
#include "tmpdir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* argv: directory, certificate ("": none), whether a client has to have one. */
static const char server_script[] =
    "import json, os, socket, ssl, sys, threading, time, email.utils\n"
    "base, cert, mutual = sys.argv[1:4]\n"
    "ctx = None\n"
    "if cert:\n"
    "    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
    "    ctx.load_cert_chain(f'{base}/{cert}.pem', f'{base}/{cert}.key')\n"
    "    if cert == 'old': ctx.maximum_version = ssl.TLSVersion.TLSv1_1\n"
    "    if cert == 'old': ctx.minimum_version = ssl.TLSVersion.TLSv1; "
    "ctx.set_ciphers('ALL:@SECLEVEL=0')\n"
    "    if mutual == '1':\n"
    "        ctx.load_verify_locations(f'{base}/ca.pem'); ctx.verify_mode = ssl.CERT_REQUIRED\n"
    "last = {}\n"
    "JSON = 'Content-Type: application/json\\r\\n'\n"
    "def answer(c, status, body, head=JSON):\n"
    "    b = body.encode() if isinstance(body, str) else body\n"
    "    c.sendall(f'HTTP/1.1 {status} x\\r\\nContent-Length: {len(b)}\\r\\n{head}\\r\\n'.encode() + b)\n"
    "def endless(c, piece, pause=0):\n"
    "    while True: c.sendall(piece); time.sleep(pause)\n"
    "def say(c, path, head, body, number):\n"
    "    parts = path.split('?')[0].split('/'); what = parts[1]\n"
    "    arg = parts[2] if len(parts) > 2 else ''\n"
    "    if what == 'echo': answer(c, 200, json.dumps({'path': path, 'head': head, 'body': "
    "body.decode(), 'connection': number}))\n"
    "    elif what == 'commands': answer(c, 200, json.dumps({'commands': [{'path': path, 'head': "
    "head, 'body': body.decode()}]}))\n"
    "    elif what == 'last':\n"
    "        global last\n"
    "        answer(c, 200, json.dumps({'commands': [last]}))\n"
    "        last = {'path': path, 'head': head, 'body': body.decode()}\n"
    "    elif what == 'status': answer(c, int(arg), '{}')\n"
    "    elif what == 'redirect': answer(c, 302, '', f'Location: /echo\\r\\n')\n"
    "    elif what == 'html': answer(c, 200, '<html>hello</html>', 'Content-Type: text/html\\r\\n')\n"
    "    elif what == 'retry': answer(c, 429, '{}', f'Retry-After: {arg}\\r\\n' + JSON)\n"
    "    elif what == 'retry-date': answer(c, 503, '{}', 'Retry-After: ' + "
    "email.utils.formatdate(time.time() + int(arg), usegmt=True) + '\\r\\n' + JSON)\n"
    "    elif what == 'endless':\n"
    "        c.sendall(f'HTTP/1.1 200 x\\r\\n{JSON}Transfer-Encoding: chunked\\r\\n\\r\\n'.encode())\n"
    "        endless(c, b'10000\\r\\n' + b'x' * 65536 + b'\\r\\n')\n"
    "    elif what == 'large':\n"
    "        c.sendall(f'HTTP/1.1 200 x\\r\\n{JSON}Content-Length: 10000000000\\r\\n\\r\\n'.encode())\n"
    "        endless(c, b'x' * 65536)\n"
    "    elif what == 'head':\n"
    "        c.sendall(b'HTTP/1.1 200 x\\r\\n'); endless(c, b'X-Y: ' + b'z' * 1000 + b'\\r\\n')\n"
    "    elif what == 'continue': endless(c, b'HTTP/1.1 100 Continue\\r\\n\\r\\n')\n"
    "    elif what == 'drip':\n"
    "        c.sendall(f'HTTP/1.1 200 x\\r\\n{JSON}Content-Length: 1000\\r\\n\\r\\n'.encode())\n"
    "        endless(c, b' ', 0.05)\n"
    "    elif what == 'hang': time.sleep(30)\n"
    "    elif what == 'never': time.sleep(100000)\n"
    "    elif what == 'close': c.close(); return False\n"
    "    elif what == 'half': c.sendall(f'HTTP/1.1 200 x\\r\\n{JSON}Content-Length: "
    "9\\r\\n\\r\\n{{}}'.encode()); c.close(); return False\n"
    "    elif what == 'garbage': c.sendall(b'SSH-2.0-OpenSSH_9\\r\\n\\r\\n'); c.close(); return False\n"
    "    elif what == 'once': answer(c, 200, '{}'); c.close(); return False\n"
    "    elif what == 'file': answer(c, 200, open(f'{base}/{arg}', 'rb').read())\n"
    "    else: answer(c, 404, '{}')\n"
    "    return True\n"
    "def serve(s, number):\n"
    "    try:\n"
    "        c = ctx.wrap_socket(s, server_side=True) if ctx else s\n"
    "        f = c.makefile('rb')\n"
    "        while True:\n"
    "            line = f.readline().decode()\n"
    "            if not line: return\n"
    "            method, path, _ = line.split(' ')\n"
    "            head = {'': method}\n"
    "            while (h := f.readline().decode().strip()):\n"
    "                k, v = h.split(': ', 1); head[k.lower()] = v\n"
    "            body = f.read(int(head.get('content-length', 0)))\n"
    "            if not say(c, path, head, body, number): return\n"
    "    except (OSError, ValueError): pass\n"
    "    finally: s.close()\n"
    "ear = socket.socket(); ear.bind(('127.0.0.1', 0)); ear.listen(50)\n"
    "print(ear.getsockname()[1], flush=True)\n"
    "number = 0\n"
    "while True:\n"
    "    s, _ = ear.accept(); number += 1\n"
    "    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n"
    "    threading.Thread(target=serve, args=(s, number), daemon=True).start()\n";

struct server {
    pid_t pid;
    unsigned port;
};

/* In `base`: certificates, and what "file" answers with. */
static int server_prepare(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (base_make("link-test") < 0 || certificates_make(base) < 0)
        return -1;
    /* The same under a second name: for a server that speaks an old TLS. */
    return link(in_base("server.pem"), in_base("old.pem")) < 0 ||
                   link(in_base("server.key"), in_base("old.key")) < 0
               ? -1
               : 0;
}

static int server_cleanup(void)
{
    return base_remove(NULL);
}

static struct server server_start(const char *cert, bool mutual)
{
    struct server s = {.pid = -1};
    char text[16] = "";
    int out[2];

    if (pipe2(out, O_CLOEXEC) < 0)
        return s;
    s.pid = fork();
    if (s.pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execlp("python3", "python3", "-W", "ignore", "-c", server_script, base, cert,
                     mutual ? "1" : "0", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t n = 0; n < sizeof(text) - 1 && !strchr(text, '\n'); n++)
        if (read(out[0], text + n, 1) != 1)
            break;
    close(out[0]);
    s.port = (unsigned)strtoul(text, NULL, 10);
    return s;
}

static void server_stop(struct server *s)
{
    if (s->pid > 0) {
        (void)kill(s->pid, SIGKILL);
        (void)waitpid(s->pid, NULL, 0);
    }
    s->pid = -1;
}

/* What the path /file/NAME answers with. */
static int server_file(const char *name, const void *data, size_t len)
{
    scoped_fd dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = ERR_INIT;

    return file_write_atomic(dir, name, data, len, 0644, &e);
}

static int server_read(const char *name, char **ret, size_t *ret_len)
{
    scoped_fd dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = ERR_INIT;

    return file_read(dir, name, 1 << 20, ret, ret_len, &e);
}

#endif
