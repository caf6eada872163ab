/* localrun.h - `dyno local` once its agent runs: output, signals, the first exit that ends all. */
#ifndef CLI_LOCALRUN_H
#define CLI_LOCALRUN_H

#include "base/err.h"
#include "cli/cli.h"
#include "cli/localplan.h"
#include "cli/private.h"

/* How long dynos that were told to stop may take before they are killed: more than the agent's own
 * grace (30 s), so that its R12 comes first. */
#define LOCAL_STOP_MS 40000
#define LOCAL_KILL_MS 10000

/* Starts PLAN in AGENT and stays until all its dynos have ended. SIGNALS: a signalfd of SIGINT,
 * SIGTERM and SIGHUP, which must be blocked. *ret_status: of the first dyno that ended, or 128 + n
 * for the signal that came first. */
int local_run(const struct cli *cli, const struct local_plan *plan, struct private_agent *agent,
              int signals, int *ret_status, struct err *e);

#endif
