"""slugs.py - the slugs that slug.py measures with, built once below BUILD/bench/slugs."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys

# An app's packages, in exact versions: some 18,000 files, most of them small.
PACKAGES = {"aws-sdk": "2.1692.0", "core-js": "3.37.1", "date-fns": "2.30.0", "express": "4.21.2",
            "lodash": "4.17.21", "react": "18.3.1", "react-dom": "18.3.1", "rxjs": "7.8.1",
            "typescript": "5.4.5", "webpack": "5.94.0"}
FILES_MIN = 15000
SYSTEM_TREES = ("/usr/share/nodejs", "/usr/lib/node_modules", "/usr/lib/python3", "/usr/lib/python3.11",
                "/usr/share/perl", "/usr/share/zoneinfo", "/usr/share/doc", "/usr/share/man", "/usr/include")
MB = 1 << 20


class Slug:
    """One slug, its file and what is in it."""

    def __init__(self, name, path, about):
        self.name, self.path = name, path
        self.files, self.unpacked, self.note = about["files"], about["unpacked"], about["note"]
        self.bytes = os.path.getsize(path)
        self.digest = about["digest"]

    def __str__(self):
        return (f"{self.name}: {self.bytes / 1e6:.1f} MB, {self.files} files, "
                f"{self.unpacked / 1e6:.0f} MB unpacked ({self.note})")


def count(tree):
    files = size = 0
    for root, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path) and not os.path.islink(path):
                files += 1
                size += os.path.getsize(path)
    return files, size


def procfile(app):
    with open(app + "/Procfile", "w") as f:
        f.write("web: node server.js\n")


def node_binary():
    node = shutil.which("node")
    return os.path.realpath(node) if node else None


def add_node(app):
    """The program that runs the app, as a buildpack would put it there."""
    if node_binary():
        os.makedirs(app + "/.heroku/node/bin")
        shutil.copy(node_binary(), app + "/.heroku/node/bin/node")


def install(app):
    """True when npm could get the packages."""
    with open(app + "/package.json", "w") as f:
        json.dump({"name": "bench", "version": "1.0.0", "private": True, "dependencies": PACKAGES}, f)
    print("bench: installing npm packages, once", file=sys.stderr)
    try:
        subprocess.run(["npm", "install", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund",
                        "--no-update-notifier", "--prefer-offline"], cwd=app, check=True, timeout=600,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return False
    return count(app)[0] >= FILES_MIN


def copy_system(app):
    """Small files that are here anyway. The number of those copied."""
    done = 0
    for tree in SYSTEM_TREES:
        for root, _, names in os.walk(tree):
            to = app + "/node_modules" + root
            for name in names:
                path = os.path.join(root, name)
                if done < FILES_MIN + 3000 and os.path.isfile(path) and os.path.getsize(path) < MB:
                    os.makedirs(to, exist_ok=True)
                    shutil.copy(path, to)
                    done += 1
    return done


def make_small(app):
    note = "npm packages"
    if not install(app):
        shutil.rmtree(app)
        os.mkdir(app)
        if copy_system(app) < FILES_MIN:
            sys.exit("bench: npm cannot get packages, and this system has too few files of its own")
        note = "the system's own files: npm could not get its packages"
    add_node(app)
    return note + (" and node" if node_binary() else "")


def make_big(app):
    """Half of it programs and text, half what does not compress: media, models, archives."""
    noise = random.Random(4)
    for n in range(3):
        with open(f"{app}/asset{n}.bin", "wb") as f:
            for _ in range(30):
                f.write(noise.randbytes(MB))
    words = [f"{noise.getrandbits(40):x}" for _ in range(20000)]
    with open(app + "/table.json", "w") as f:
        for n in range(1200000):
            f.write(f'{{"id": {n}, "name": "{noise.choice(words)}", "city": "{noise.choice(words)}", '
                    f'"value": {noise.randrange(10 ** 6)}}}\n')
    add_node(app)
    return "media, a table" + (", node" if node_binary() else "")


def make_tiny(app):
    for n in range(8):
        with open(f"{app}/module{n}.js", "w") as f:
            f.write("module.exports = () => 'hello';\n" * 40)
    return "an app without packages"


# Raise the number to have one built anew.
KINDS = {"small": (make_small, "small files", 1), "big": (make_big, "big files", 1),
         "tiny": (make_tiny, "tiny", 1)}


def build(kind, path):
    make = KINDS[kind][0]
    work = path + ".work"
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work + "/app")
    note = make(work + "/app")
    procfile(work + "/app")
    files, unpacked = count(work + "/app")
    # As a build system packs it: GNU tar, gzip's own default level.
    with open(path + ".new", "wb") as out:
        tar = subprocess.Popen(["tar", "-c", "--sort=name", "--owner=0", "--group=0", "-C", work, "./app"],
                               stdout=subprocess.PIPE)
        subprocess.run(["gzip", "-6", "-n"], stdin=tar.stdout, stdout=out, check=True)
        if tar.wait() != 0:
            sys.exit("bench: tar failed")
    shutil.rmtree(work)
    sha = hashlib.sha256()
    with open(path + ".new", "rb") as f:
        while chunk := f.read(MB):
            sha.update(chunk)
    with open(path + ".json", "w") as f:
        json.dump({"files": files, "unpacked": unpacked, "note": note, "digest": "sha256:" + sha.hexdigest()}, f)
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)


def slugs(build_dir):
    """The slugs by kind, those that are missing built."""
    home = build_dir + "/bench/slugs"
    os.makedirs(home, exist_ok=True)
    found = {}
    for kind, (_, name, number) in KINDS.items():
        path = f"{home}/{kind}-{number}.tgz"
        if not os.path.exists(path):
            build(kind, path)
        with open(path + ".json") as f:
            found[kind] = Slug(name, path, json.load(f))
    return found
