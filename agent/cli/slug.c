/* slug.c - dyno slug pack, dyno slug inspect; the others are in slug_cached.c */
#include "base/fdio.h"
#include "base/frame.h"
#include "base/scoped.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/slug_cached.h"
#include "cli/slugfile.h"
#include "slug/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define PACK_MODE 0666 /* less the umask */

/* --- Where a packed slug is made: in a file without a name, so that no half one is left --- */

/* The directory that OUT lies in, "." for a bare name. */
static void directory_of(const char *out, char dir[PATH_MAX])
{
    const char *slash = strrchr(out, '/');

    if (!slash)
        (void)snprintf(dir, PATH_MAX, ".");
    else
        (void)snprintf(dir, PATH_MAX, "%.*s", slash == out ? 1 : (int)(slash - out), out);
}

static int open_unnamed(const char *out, int *ret, struct err *e)
{
    char dir[PATH_MAX];

    directory_of(strcmp(out, "-") ? out : "/tmp/", dir);
    *ret = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, PACK_MODE);
    if (*ret < 0) {
        (void)err_set(e, errno, "make a file in %s", dir);
        return err_blame(e, FAULT_OPERATOR);
    }
    return 0;
}

/* Gives it its name, in place of a file that had it. */
static int publish(int fd, const char *out, struct err *e)
{
    char from[64], fresh[PATH_MAX];

    (void)snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
    if (snprintf(fresh, sizeof(fresh), "%s.%d.new", out, (int)getpid()) >= (int)sizeof(fresh))
        return err_set(e, ENAMETOOLONG, "%s", out);
    (void)unlink(fresh);
    if (linkat(AT_FDCWD, from, AT_FDCWD, fresh, AT_SYMLINK_FOLLOW) < 0)
        return err_set(e, errno, "make %s", fresh);
    if (rename(fresh, out) < 0) {
        int why = errno;
        (void)unlink(fresh);
        return err_set(e, why, "make %s", out);
    }
    return 0;
}

static int copy_to_stdout(int fd, struct err *e)
{
    char buf[65536];
    ssize_t n;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_set(e, errno, "rewind the slug");
    while ((n = fd_read_full(fd, buf, sizeof(buf))) > 0) {
        int r = fd_write_full(STDOUT_FILENO, buf, (size_t)n);
        if (r < 0)
            return err_set(e, -r, "write to stdout");
    }
    return n < 0 ? err_set(e, (int)-n, "read the slug") : 0;
}

/* --- pack --- */

/* An earlier slug inside the directory goes into the next one. */
static void warn_when_inside(const char *dir, const char *out)
{
    scoped_free char *in = realpath(dir, NULL), *file = realpath(out, NULL);
    scoped(str_done) struct str text = {0};
    size_t len = in ? strlen(in) : 0;

    if (!in || !file || strncmp(file, in, len) != 0 || (file[len] != '/' && len > 1))
        return;
    str_addf(&text, "%s lies inside %s: name it in .slugignore, or it is packed too", out, dir);
    cli_warn(str_text(&text));
}

static int open_dir(const char *dir, int *ret, struct err *e)
{
    *ret = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret >= 0)
        return 0;
    (void)err_set(e, errno, "%s", dir);
    return err_blame(e, FAULT_OPERATOR);
}

static int print_packed(const struct cli *cli, const char *out, const struct slug_packed *p)
{
    char compressed[16], unpacked[16];
    FILE *to = strcmp(out, "-") ? stdout : stderr;

    if (cli->json) {
        scoped(json_freep) json_t *j = json_pack(
            "{s:o*,s:o,s:I,s:I,s:I}", "file", json_string(out), "digest",
            json_sprintf("sha256:%s", p->digest.hex), "compressed", (json_int_t)p->compressed,
            "unpacked", (json_int_t)p->unpacked, "entries", (json_int_t)p->entries);
        (void)json_dumpf(j, to, JSON_COMPACT);
        (void)fputc('\n', to);
    } else {
        (void)fprintf(to, "sha256:%s  %s (%llu bytes), unpacked %s, %llu entries\n", p->digest.hex,
                      format_bytes(compressed, sizeof(compressed), p->compressed),
                      (unsigned long long)p->compressed,
                      format_bytes(unpacked, sizeof(unpacked), p->unpacked),
                      (unsigned long long)p->entries);
    }
    return cli_flush(EXIT_OK);
}

/* Packs, and looks at the result as a fetch would: what cannot be started is not made. */
static int pack(const char *dir, const char *out, struct slug_packed *ret, struct err *e)
{
    scoped(slug_report_done) struct slug_report report = {0};
    scoped_fd dirfd = -1, fd = -1;
    int r = open_dir(dir, &dirfd, e);

    if (r == 0)
        r = open_unnamed(out, &fd, e);
    if (r == 0)
        r = slug_pack(dirfd, fd, ret, e);
    if (r < 0)
        return r;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_set(e, errno, "rewind the slug");
    r = slug_inspect(fd, NULL, &report, e);
    if (r < 0)
        return err_wrap(e, "%s", dir);
    for (size_t i = 0; i < report.types.n_warnings; i++)
        cli_warn(report.types.warnings[i]);
    for (size_t i = 0; i < ret->n_warnings; i++)
        cli_warn(ret->warnings[i]);
    r = procfile_check(&report.types, "Procfile", e);
    if (r < 0)
        return err_wrap(e, "%s", dir);
    return strcmp(out, "-") ? publish(fd, out, e) : copy_to_stdout(fd, e);
}

static int slug_pack_command(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {{"output", required_argument, NULL, 'o'}, CLI_OPTIONS};
    scoped(slug_packed_done) struct slug_packed packed = {0};
    struct err e = ERR_INIT;
    const char *out = NULL;
    int c, status;

    while ((c = cli_option(cli, argc, argv, "o:", longs, &status)) >= 0)
        out = optarg;
    if (c == CLI_STOP)
        return status;
    if (argc - optind != 1)
        return cli_usage(cli, argc == optind ? "DIR is missing" : "only one DIR can be packed");
    if (!out || !*out)
        return cli_usage(cli, "-o FILE is missing; -o - writes to stdout");
    if (!strcmp(out, "-") && isatty(STDOUT_FILENO))
        return cli_usage(cli, "a slug does not go to a terminal; redirect it");
    warn_when_inside(argv[optind], out);
    if (pack(argv[optind], out, &packed, &e) < 0)
        return cli_fail(&e);
    return print_packed(cli, out, &packed);
}

/* --- inspect --- */

static int slug_inspect_command(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    scoped(slug_report_done) struct slug_report report = {0};
    scoped(str_done) struct str text = {0};
    struct err e = ERR_INIT;
    int status;

    if (cli_option(cli, argc, argv, "", longs, &status) == CLI_STOP)
        return status;
    if (argc - optind != 1)
        return cli_usage(cli, argc == optind ? "FILE is missing" : "only one FILE can be read");
    if (slugfile_inspect(argv[optind], &report, &e) < 0)
        return cli_fail(&e);
    if (cli->json) {
        scoped(json_freep) json_t *j = slugfile_json(argv[optind], &report);
        return cli_print_json(j);
    }
    slugfile_text(argv[optind], &report, &text);
    (void)fputs(str_text(&text), stdout);
    return cli_flush(EXIT_OK);
}

int cmd_slug(struct cli *cli, int argc, char **argv)
{
    static const struct option longs[] = {CLI_OPTIONS};
    static const struct {
        const char *name;
        int (*run)(struct cli *cli, int argc, char **argv);
    } all[] = {
        {"pack", slug_pack_command}, {"inspect", slug_inspect_command},
        {"ls", slug_ls_command},     {"fetch", slug_fetch_command},
        {"rm", slug_rm_command},     {"verify", slug_verify_command},
    };
    int status;

    for (size_t i = 0; argc > 1 && i < sizeof(all) / sizeof(all[0]); i++)
        if (!strcmp(argv[1], all[i].name))
            return all[i].run(cli, argc - 1, argv + 1);
    if (cli_option(cli, argc, argv, "+", longs, &status) == CLI_STOP)
        return status;
    if (argc > optind)
        return cli_usage(cli, "'%s' is none of pack, inspect, ls, fetch, rm and verify",
                         argv[optind]);
    return cli_usage(cli, "what to do is missing: pack, inspect, ls, fetch, rm or verify");
}
