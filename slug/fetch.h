/* fetch.h - what dynod and dynod-fetch say to each other, in JSON frames on fd 0 (a socketpair).
 *
 * One fetch is up to three processes of one program, its first argument the role. dynod starts
 * them, hands each what it may touch by descriptor, and puts a pipe between download and unpack and
 * a socketpair between unpack and image:
 *
 *    store --> download --pipe--> unpack --entries--> image        later, apart: seal
 *                 | spool            | data              | metadata
 *                 v                  v                   v
 *               a file            the image file (or, as a fallback, a directory)
 *
 * A role does what costs time before it is asked (it may be started ahead of its fetch and wait for
 * ever), then reads one request, gives up what it does not need (fetch/confine.h) and works. Each
 * sends any number of progress frames (at most every 200 ms), one result, and exits 0 after a
 * result of either kind. Its agent's end of fd 0 closing ends it.
 *
 * dynod publishes when every role has reported "ok", has exited 0, and download's digest is the one
 * that was asked for. Nothing that unpack or image made may be seen before: they see the bytes
 * before the digest is known.
 *
 * == download. Descriptors: [0] the spool, an empty file that may be written to and read (unlinked,
 * or O_TMPFILE); [1] the pipe's write end; [2..] the open files of file:// mirrors, in the order of
 * "files".
 *    {"mirrors": [URL...] (1 to FETCH_MIRRORS_MAX, tried in order), "digest": HEX or absent,
 *     "files": [I...]  (mirrors whose file came along; absent: none),
 *     "ca_file": PATH or absent, "allow_http": B (absent: false),
 *     "stores": {...}  (settings of the backends, secrets among them: fetch/store.h; absent: none),
 *     "limits": {"compressed": BYTES, "connect_ms": N, "stall_ms": N, "total_ms": N,
 *                "slow_bytes": N, "slow_ms": N, "connections": N, "tries": N,
 *                "part": BYTES}     (absent ones: see below),
 *     "anew": B, "failed": [...]   (only as members of a "next", see below)}
 *
 *    {"progress": {"bytes": N, "total": N or absent, "mirror": I, "connections": N}}
 *    {"ok": {"digest": HEX, "compressed": N, "mirror": I, "failed": [...],
 *            "ms": {"download": N, "hash": N, "wait": N}}}
 *    {"error": {"text", "errno", "fault", "step", "http", "expected", "actual",
 *               "failed": [{"mirror": I, "url": S, "text": S, "fault": F, "step": S,
 *                           "http": N or absent}...],
 *               "next": {"mirrors": [I...], "anew": B, "failed": [...]} or absent}}
 *
 * "failed" is what was tried, in order: an I counts the mirrors of the request that it was in.
 * "url" is without secrets. The error's text names the last mirror's reason, then the others'. Its
 * fault is the operator's when all were the operator's, the app's when the last was (a slug over
 * the limit), else the platform's. "wait" is how long bytes waited for unpack: the time for which
 * unpack, not the network, was the slow part.
 *
 * A mirror that fails before a byte of it went into the pipe is followed by the next at once. After
 * that unpack has to begin anew: the error has a "next". dynod then ends the other roles, throws
 * away what they made, and starts a fresh fetch in which "mirrors" are those with the numbers of
 * "next" (numbered from 0 again) and "anew" and "failed" are taken over as they are. No "next": no
 * mirror is left. A mirror whose bytes had the wrong digest (step "digest", the platform's R17) is
 * never in a "next"; one whose object changed under the download (step "changed") is its first
 * once, with "anew" true. So no slug takes more than 2 * FETCH_MIRRORS_MAX rounds.
 *
 * When unpack is gone early (it refused the archive), download still reads to the end if there is a
 * digest, for the digest may explain why: an "error" of download's (step "digest" above all) counts
 * before unpack's, and unpack's before an "ok" of download's. Only an error of unpack's that is not
 * the app's (a full disk) ends the fetch at once. Without a digest download ends with step
 * "unpack": unpack's own error is the one to tell.
 *
 * == unpack. Descriptors: [0] the pipe's read end; [1] the image file (to write to and read), or
 * the empty directory; [2] with an image: its end of the entry stream (slug/image/entries.h).
 *    {"to": "image"|"directory", "limits": {"compressed", "unpacked", "entries", "depth", "name",
 *                                            "ratio"}}
 *    {"progress": {"entries": N, "unpacked": N}}
 *    {"ok": {"compressed": N, "unpacked": N, "entries": N, "types": [...], "warnings": [S...],
 *            "ms": {"read": N, "inflate": N, "write": N, "total": N}}}
 *    {"error": {"text", "errno", "fault", "step"}}
 * The pipe ends early when download fails: a truncated archive is then download's error to explain.
 *
 * == image and seal: slug/image/role.h says what they are sent and what they say. image gets its
 * "finish" once unpack's pidfd says that it is gone and it had said "ok": nobody unvetted holds the
 * file any more.
 *
 * An error of any role: {"error": {"text": S, "errno": N, "fault": "app|platform|operator",
 * "step": STEP}}, and what is said above. What unpack has published lies as `app` in its directory,
 * owned by itself; "types" is [{"name": S, "command": S, "release_file": B}...]. The roles'
 * "ms" overlap, for they run at once. dynod puts them into one "ms" of the slug's meta.json
 * (slug/cache.h): download, hash, wait; read (the pipe waited for and read), inflate, write, total
 * (of unpack); entries (waited for and checked), metadata.
 *
 * STEP is one of "sandbox", "connect", "tls", "auth", "http", "download", "changed", "digest",
 * "unpack", "gzip", "archive", "procfile", "image", "disk".
 *
 * A command that is not UTF-8 comes as "command_hex" in place of "command"; slug_meta_types() reads
 * either. Publish only after the processes have exited: until then they could still change it. */
#ifndef SLUG_FETCH_H
#define SLUG_FETCH_H

#define FETCH_COMPRESSED_MAX (500ull << 20) /* docs/contract.md, "Slug" */
#define FETCH_UNPACKED_MAX   (4ull << 30)
#define FETCH_ENTRIES_MAX    500000ull
#define FETCH_DEPTH_MAX      256ull
#define FETCH_NAME_MAX       4096ull /* bytes of a path, as Linux has it */
#define FETCH_COMPONENT_MAX  255ull  /* of a name in it, likewise */
#define FETCH_RATIO_MAX      200ull  /* unpacked : compressed, above 64 MiB unpacked */
#define FETCH_CONNECT_MS     10000ull
#define FETCH_STALL_MS       30000ull /* no byte for so long */
#define FETCH_TOTAL_MS       900000ull
#define FETCH_MIRRORS_MAX    8
/* A mirror that gives less than so many bytes a second for so long is given up on. */
#define FETCH_SLOW_BYTES      10240ull
#define FETCH_SLOW_MS         60000ull
#define FETCH_CONNECTIONS     48ull /* at once to one mirror */
#define FETCH_CONNECTIONS_MAX 64ull
#define FETCH_TRIES           4ull /* of one connection without progress */
#define FETCH_TRIES_MAX       100ull
#define FETCH_PART            (16ull << 20) /* bytes of a part, at most */
#define FETCH_PART_MIN        (1ull << 20)

#endif
