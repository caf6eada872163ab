/* log.h - the agent's own log: one line to stderr, "<N>" prefixed for the journal when stderr is
 * not a terminal (sd-daemon(3)). Programs log, once, at their boundary; libraries are silent. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level {
    LOG_LVL_ERR = 3,
    LOG_LVL_WARN = 4,
    LOG_LVL_NOTICE = 5,
    LOG_LVL_INFO = 6,
    LOG_LVL_DEBUG = 7
};

/* NAME goes before each line; lines above LEVEL are dropped. NAME must stay valid. */
void log_open(const char *name, enum log_level level);
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)    log_at(LOG_LVL_ERR, __VA_ARGS__)
#define log_warn(...)   log_at(LOG_LVL_WARN, __VA_ARGS__)
#define log_notice(...) log_at(LOG_LVL_NOTICE, __VA_ARGS__)
#define log_info(...)   log_at(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)  log_at(LOG_LVL_DEBUG, __VA_ARGS__)

#endif
