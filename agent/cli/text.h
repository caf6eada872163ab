/* text.h - words for people: durations, memory, colours, lines safe for a terminal. Pure. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The two largest units: "45s", "2h3m", "3d4h"; OUT of TEXT_DURATION_MAX. Returns OUT. */
#define TEXT_DURATION_MAX 32
char *text_duration(uint64_t usec, char out[TEXT_DURATION_MAX]);

/* A time as the agent writes it (base/clock.h, clock_text()), as real usec, to the second. */
bool text_time(const char *text, uint64_t *ret_real);

/* "21.0M", "2.5G", "512" (bytes), with at most one digit after the point; whole numbers from 100
 * on. OUT of TEXT_MEMORY_MAX. Returns OUT. */
#define TEXT_MEMORY_MAX 16
char *text_memory(uint64_t bytes, char out[TEXT_MEMORY_MAX]);

/* Escape sequences; "" instead of them where colours are off is the caller's part. */
#define COLOR_RESET  "\x1b[0m"
#define COLOR_BOLD   "\x1b[1m"
#define COLOR_RED    "\x1b[31m"
#define COLOR_GREEN  "\x1b[32m"
#define COLOR_YELLOW "\x1b[33m"
#define COLOR_WHITE  "\x1b[37m"
#define COLOR_DIM    "\x1b[2m"

/* The palette that foreman's users know, in its order. N is any number. */
const char *color_cycle(size_t n);
/* A colour of the palette that NAME always gets. */
const char *color_of(const char *name);

/* Appends what an app wrote, made safe for a terminal: tabs, UTF-8 and colours (SGR sequences)
 * pass, and are reset at the end; other control characters become \xNN. */
void text_terminal(struct str *out, const char *text, size_t len);

/* A program's name out of a path, as an app's name: lower case, other characters become '-',
 * "local" when nothing is left. OUT of APP_NAME_MAX + 1 bytes. Always app_name_valid(). */
char *text_app_name(const char *path, char *out);

/* The words for a wait status given as a shell has it (128 + signal): "exited with code 1",
 * "terminated by SIGKILL". Returns OUT. */
char *text_exit(int status, char *out, size_t cap);

/* A signal's name, "SIGTERM"; "signal 63" for those without. Returns OUT. */
char *text_signal(int signo, char *out, size_t cap);

#endif
