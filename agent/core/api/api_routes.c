#include "core/api/api_priv.h"

#include "base/scoped.h"

#include <errno.h>

static struct agent *agent_of(const struct request *rq)
{
    return rq->client->api->agent;
}

static const char *dyno_of(const struct request *rq)
{
    return rq->params.dyno[0] ? rq->params.dyno : NULL;
}

static int route_status(struct request *rq, struct err *e)
{
    return reply_json(rq, MHD_HTTP_OK, agent_status(agent_of(rq)), e);
}

static int route_doctor(struct request *rq, struct err *e)
{
    return reply_json(rq, MHD_HTTP_OK, agent_doctor(agent_of(rq)), e);
}

static int route_instance(struct request *rq, struct err *e)
{
    return reply_json(rq, MHD_HTTP_OK, agent_instance(agent_of(rq)), e);
}

static int route_drain(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_drain(agent_of(rq), rq->spec, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_undrain(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_undrain(agent_of(rq), &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_apps(struct request *rq, struct err *e)
{
    return reply_json(rq, MHD_HTTP_OK, agent_apps(agent_of(rq)), e);
}

static int route_app(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_app(agent_of(rq), rq->params.app, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

/* An app without dynos has an empty list; one that does not exist is an error. */
static int route_dynos(struct request *rq, struct err *e)
{
    const char *app = rq->params.app[0] ? rq->params.app : NULL;
    json_t *dynos = agent_dynos(agent_of(rq), app), *known = NULL;

    if (app && dynos && json_array_size(dynos) == 0) {
        int r = agent_app(agent_of(rq), app, &known, e);

        json_decref(known);
        if (r < 0) {
            json_decref(dynos);
            return r;
        }
    }
    return reply_json(rq, MHD_HTTP_OK, dynos, e);
}

static int route_dyno(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_dyno(agent_of(rq), rq->params.app, rq->params.dyno, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_release(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_release(agent_of(rq), rq->params.app, rq->spec, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_CREATED, json, e);
}

static int route_scale(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_scale(agent_of(rq), rq->params.app, rq->spec, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_restart(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_restart(agent_of(rq), rq->params.app, dyno_of(rq), &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_stop(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_stop(agent_of(rq), rq->params.app, dyno_of(rq), &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_pause(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_pause(agent_of(rq), rq->params.app, dyno_of(rq), &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_resume(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_resume(agent_of(rq), rq->params.app, dyno_of(rq), &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_resize(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_resize(agent_of(rq), rq->params.app, dyno_of(rq), rq->spec, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_top(struct request *rq, struct err *e)
{
    return reply_json(rq, MHD_HTTP_OK,
                      agent_top(agent_of(rq), rq->params.app[0] ? rq->params.app : NULL), e);
}

static int route_forget(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_forget(agent_of(rq), rq->params.app, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_slugs(struct request *rq, struct err *e)
{
    return reply_json(rq, MHD_HTTP_OK, agent_slugs(agent_of(rq)), e);
}

static int route_slug_fetch(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_slug_fetch(agent_of(rq), rq->spec, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_ACCEPTED, json, e);
}

static int route_slug_remove(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_slug_remove(agent_of(rq), &rq->params.digest, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_OK, json, e);
}

static int route_slug_verify(struct request *rq, struct err *e)
{
    json_t *json = NULL;
    int r = agent_slug_verify(agent_of(rq), &rq->params.digest, &json, e);

    return r < 0 ? r : reply_json(rq, MHD_HTTP_ACCEPTED, json, e);
}

#define PARAMS_LOGS   (PARAM_APP | PARAM_DYNO | PARAM_N | PARAM_FOLLOW | PARAM_FORMAT | PARAM_SOURCE)
#define PARAMS_EVENTS (PARAM_AFTER | PARAM_N | PARAM_FOLLOW)

/* In the order of docs/openapi.yaml. */
static const struct route all[] = {
    {"GET", "/v1/status", route_status, BODY_NONE, 0, 0},
    {"GET", "/v1/doctor", route_doctor, BODY_NONE, 0, 0},
    {"GET", "/v1/instance", route_instance, BODY_NONE, 0, 0},
    {"POST", "/v1/instance/drain", route_drain, BODY_OPTIONAL, 0, 0},
    {"POST", "/v1/instance/undrain", route_undrain, BODY_NONE, 0, 0},
    {"GET", "/v1/apps", route_apps, BODY_NONE, 0, 0},
    {"GET", "/v1/apps/{app}", route_app, BODY_NONE, 0, 0},
    {"DELETE", "/v1/apps/{app}", route_forget, BODY_NONE, 0, 0},
    {"POST", "/v1/apps/{app}/releases", route_release, BODY_OBJECT, 0, 0},
    {"PATCH", "/v1/apps/{app}/formation", route_scale, BODY_OBJECT, 0, 0},
    {"POST", "/v1/apps/{app}/restart", route_restart, BODY_NONE, 0, 0},
    {"POST", "/v1/apps/{app}/stop", route_stop, BODY_NONE, 0, 0},
    {"POST", "/v1/apps/{app}/pause", route_pause, BODY_NONE, 0, 0},
    {"POST", "/v1/apps/{app}/resume", route_resume, BODY_NONE, 0, 0},
    {"POST", "/v1/apps/{app}/resize", route_resize, BODY_OBJECT, 0, 0},
    {"POST", "/v1/apps/{app}/run", route_run, BODY_OBJECT, 0, 0},
    {"GET", "/v1/dynos", route_dynos, BODY_NONE, PARAM_APP, 0},
    {"GET", "/v1/dynos/{app}/{dyno}", route_dyno, BODY_NONE, 0, 0},
    {"POST", "/v1/dynos/{app}/{dyno}/restart", route_restart, BODY_NONE, 0, 0},
    {"POST", "/v1/dynos/{app}/{dyno}/stop", route_stop, BODY_NONE, 0, 0},
    {"POST", "/v1/dynos/{app}/{dyno}/pause", route_pause, BODY_NONE, 0, 0},
    {"POST", "/v1/dynos/{app}/{dyno}/resume", route_resume, BODY_NONE, 0, 0},
    {"POST", "/v1/dynos/{app}/{dyno}/resize", route_resize, BODY_OBJECT, 0, 0},
    {"POST", "/v1/dynos/{app}/{dyno}/exec", route_exec, BODY_OBJECT, 0, 0},
    {"GET", "/v1/top", route_top, BODY_NONE, PARAM_APP, 0},
    {"GET", "/v1/slugs", route_slugs, BODY_NONE, 0, 0},
    {"POST", "/v1/slugs", route_slug_fetch, BODY_OBJECT, 0, 0},
    {"DELETE", "/v1/slugs/{digest}", route_slug_remove, BODY_NONE, 0, 0},
    {"POST", "/v1/slugs/{digest}/verify", route_slug_verify, BODY_NONE, 0, 0},
    {"GET", "/v1/logs", route_logs, BODY_NONE, PARAMS_LOGS, API_LOGS_N_MAX},
    {"GET", "/v1/events", route_events, BODY_NONE, PARAMS_EVENTS, API_EVENTS_N_MAX},
};

const struct route *routes(size_t *ret_n)
{
    *ret_n = sizeof(all) / sizeof(all[0]);
    return all;
}
