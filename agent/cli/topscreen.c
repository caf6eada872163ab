#include "cli/topscreen.h"

#include "base/clock.h"
#include "base/scoped.h"

#include <curses.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#define HEADER_LINES 4 /* two of the header, the keys or an error, the columns' names */

#define ESC_WAIT_MS 25 /* for the rest of an arrow key */

struct screen {
    const struct top_source *source;
    struct top top;
    char app[APP_NAME_MAX + 1]; /* "": all */
    char mark[DYNO_TEXT_MAX];   /* the marked dyno */
    size_t first;               /* row at the screen's top */
    enum top_sort by;
    struct err why; /* of the last look */
};

static volatile sig_atomic_t ended;

static void on_end(int signo)
{
    (void)signo;
    ended = 1;
}

static void look(struct screen *s)
{
    json_t *answer = NULL;

    s->why = (struct err)ERR_INIT;
    if (s->source->look(s->source->userdata, s->app, &answer, &s->why) < 0)
        return;
    int r = top_take(&s->top, answer, clock_boot());
    if (r < 0)
        (void)err_set(&s->why, -r, "the agent's answer");
    top_order(&s->top, s->by);
}

/* The place of the marked dyno; its row may have moved, or be gone. */
static size_t marked(const struct screen *s)
{
    for (size_t i = 0; i < s->top.n; i++)
        if (!strcmp(s->top.rows[i].name, s->mark))
            return i;
    return 0;
}

static void mark(struct screen *s, size_t at)
{
    if (s->top.n == 0)
        return;
    at = at < s->top.n ? at : s->top.n - 1;
    (void)snprintf(s->mark, sizeof(s->mark), "%s", s->top.rows[at].name);
}

static size_t rows_shown(void)
{
    return LINES > HEADER_LINES ? (size_t)(LINES - HEADER_LINES) : 1;
}

/* --- Drawing --- */

static void put_line(int y, const char *text, int how)
{
    if (y >= LINES)
        return;
    (void)move(y, 0);
    (void)attrset(how);
    (void)addnstr(text, COLS);
    (void)attrset(A_NORMAL);
}

static void draw_header(const struct screen *s)
{
    scoped(str_done) struct str text = {0}, heads = {0};
    char *save = NULL, line[256], safe[ERR_TEXT_MAX];
    int y = 0;

    top_header(&s->top, clock_real(), &text);
    for (char *l = text.data ? strtok_r(text.data, "\n", &save) : NULL; l && y < 2;
         l = strtok_r(NULL, "\n", &save))
        put_line(y++, l, A_NORMAL);
    if (s->why.errnum) {
        put_line(2, text_escape(safe, sizeof(safe), s->why.text, strlen(s->why.text)), A_BOLD);
    } else {
        (void)snprintf(line, sizeof(line), "by %s%s%s  (m c p d n sort, a app, q quit)",
                       top_sort_name(s->by), s->app[0] ? ", only " : "", s->app);
        put_line(2, line, A_DIM);
    }
    top_line(NULL, &heads);
    put_line(3, str_text(&heads), A_REVERSE);
}

static void draw(struct screen *s)
{
    size_t room = rows_shown(), at = marked(s);

    if (at < s->first)
        s->first = at;
    if (at >= s->first + room)
        s->first = at - room + 1;
    (void)erase();
    draw_header(s);
    for (size_t i = 0; i < room && s->first + i < s->top.n; i++) {
        const struct top_row *row = &s->top.rows[s->first + i];
        scoped(str_done) struct str text = {0};
        bool over = row->memory_quota && row->memory > row->memory_quota;

        top_line(row, &text);
        put_line(HEADER_LINES + (int)i, str_text(&text),
                 (s->first + i == at ? (int)A_STANDOUT : 0) | (over ? (int)A_BOLD : 0));
    }
    (void)refresh();
}

/* --- Keys --- */

/* False: leave. *ret_look: a new answer is needed now. */
static bool on_key(struct screen *s, int key, bool *ret_look)
{
    static const char sorts[] = "mcpdn"; /* in the order of enum top_sort */
    const char *found = key > 0 && key < 128 ? strchr(sorts, key) : NULL;
    size_t at = marked(s), page = rows_shown();

    if (found) {
        s->by = (enum top_sort)(found - sorts);
        top_order(&s->top, s->by);
    } else if (key == KEY_UP || key == 'k') {
        mark(s, at ? at - 1 : 0);
    } else if (key == KEY_DOWN || key == 'j') {
        mark(s, at + 1);
    } else if (key == KEY_PPAGE) {
        mark(s, at > page ? at - page : 0);
    } else if (key == KEY_NPAGE) {
        mark(s, at + page);
    } else if (key == 'a' && (s->app[0] || s->top.n)) {
        (void)snprintf(s->app, sizeof(s->app), "%s", s->app[0] ? "" : s->top.rows[at].app);
        *ret_look = true;
    }
    return key != 'q';
}

static void live(struct screen *s)
{
    uint64_t next = 0;
    bool stay = true;

    while (stay && !ended) {
        bool again = false;

        if (clock_boot() >= next) {
            look(s);
            next = clock_boot() + TOP_INTERVAL_MS * USEC_PER_MSEC;
        }
        draw(s);
        uint64_t now = clock_boot();
        timeout(next > now ? (int)((next - now) / USEC_PER_MSEC) + 1 : 0);
        int key = getch(); /* ERR: the time is over, or a signal came */
        if (key != ERR && key != KEY_RESIZE)
            stay = on_key(s, key, &again);
        if (again)
            next = 0;
    }
}

int topscreen_run(const struct top_source *source, const char *app, enum top_sort by, struct err *e)
{
    const struct sigaction act = {.sa_handler = on_end};
    struct screen s = {.source = source, .by = by, .why = ERR_INIT};
    SCREEN *terminal = newterm(NULL, stdout, stdin);

    if (!terminal)
        return err_say(e, ENOTTY, "the terminal cannot show a screen");
    (void)snprintf(s.app, sizeof(s.app), "%s", app);
    (void)sigaction(SIGINT, &act, NULL); /* none of these can fail */
    (void)sigaction(SIGTERM, &act, NULL);
    (void)sigaction(SIGHUP, &act, NULL);
    (void)cbreak();
    (void)noecho();
    (void)keypad(stdscr, TRUE);
    (void)set_escdelay(ESC_WAIT_MS);
    (void)curs_set(0); /* where it can be hidden */
    live(&s);
    (void)endwin();
    delscreen(terminal);
    top_done(&s.top);
    return 0;
}
