/* slug_cached.h - dyno slug ls, fetch, rm, verify: what the agent has in its cache. Each as a
 * command of cli.h, argv[0] its name. */
#ifndef CLI_SLUG_CACHED_H
#define CLI_SLUG_CACHED_H

#include "cli/cli.h"

int slug_ls_command(struct cli *cli, int argc, char **argv);
int slug_fetch_command(struct cli *cli, int argc, char **argv);
int slug_rm_command(struct cli *cli, int argc, char **argv);
int slug_verify_command(struct cli *cli, int argc, char **argv);

#endif
