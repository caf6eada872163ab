/* fetch.h - what dynod and dynod-fetch say to each other, in JSON frames on the fetch's stdin (fd
 * 0, a socketpair). One fetch a process: one request, any number of progress frames, one result.
 *
 *  dynod -> fetch, one frame, descriptors: [0] the directory to unpack into (empty, owned by the
 *                  fetch's uid), [1] for file:// the open slug file
 *    {"url": "https://...", "digest": HEX or absent, "ca_file": PATH or absent,
 *     "allow_http": B (absent: false; https and file always are),
 *     "limits": {"compressed": BYTES, "unpacked": BYTES, "entries": N, "depth": N, "ratio": N,
 *                "connect_ms": N, "stall_ms": N, "total_ms": N}}    (absent: see below)
 *
 *  fetch -> dynod
 *    {"progress": {"bytes": N, "total": N or absent, "entries": N}}      at most every 200 ms
 *    {"ok": {"digest": HEX, "compressed": N, "unpacked": N, "entries": N,
 *            "types": [{"name": S, "command": S, "release_file": B}...], "warnings": [S...],
 *            "ms": {"download": N, "hash": N, "inflate": N, "write": N}}}
 *    {"error": {"text": S, "errno": N, "fault": "app|platform|operator", "step": STEP,
 *               "http": N or absent, "expected": HEX, "actual": HEX}}
 *  STEP is one of "sandbox", "connect", "tls", "http", "download", "digest", "gzip", "archive",
 *  "procfile", "disk". Step "digest" is what the platform calls R17.
 *
 * A command that is not UTF-8 comes as "command_hex" in place of "command"; slug_meta_types() reads
 * either. Publish only after the process has exited: until then it could still change the tree.
 *
 * The fetch leaves the tree as `app` in its directory, files owned by itself, and has synced it. It
 * exits 0 after a result of either kind. */
#ifndef SLUG_FETCH_H
#define SLUG_FETCH_H

#define FETCH_COMPRESSED_MAX (500ull << 20) /* docs/contract.md, "Slug" */
#define FETCH_UNPACKED_MAX   (4ull << 30)
#define FETCH_ENTRIES_MAX    1000000ull
#define FETCH_DEPTH_MAX      256ull
#define FETCH_NAME_MAX       4096ull
#define FETCH_RATIO_MAX      200ull /* unpacked : compressed, above 64 MiB unpacked */
#define FETCH_CONNECT_MS     10000ull
#define FETCH_STALL_MS       30000ull /* no byte for so long */
#define FETCH_TOTAL_MS       900000ull

#endif
