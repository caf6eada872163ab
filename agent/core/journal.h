/* journal.h - the desired state on disk: one file of lines "CRC32 LENGTH JSON\n", each an entry of
 * model.h. Appended in one write; survives kill -9 at any instruction (a power cut may take the
 * last few seconds: an instance that lost power lost its dynos too). A torn or corrupt tail is cut,
 * kept beside as journal.bad-TIME, and said so. First line: {"dynod-journal": VERSION}; a file of a
 * version from the future is set aside and said so. Compacted by writing a new file and renaming
 * it. */
#ifndef CORE_JOURNAL_H
#define CORE_JOURNAL_H

#include "base/err.h"
#include "core/model.h"

#define JOURNAL_VERSION    1
#define JOURNAL_LINE_MAX   (8u << 20)
#define JOURNAL_COMPACT_AT (1u << 20) /* bytes, and twice what the model needs */

struct journal;

/* Opens (makes) NAME below DIRFD and replays it into MODEL. *ret_notice: NULL, or what had to be
 * cut or set aside, in words, to be freed. */
int journal_open(int dirfd, const char *name, struct model *model, struct journal **ret,
                 char **ret_notice, struct err *e);
void journal_freep(struct journal **j);

/* Applies ENTRY to the model and appends it: both, or neither. A full disk is an error and changes
 * nothing. *ret_entry as of model_apply(). */
int journal_apply(struct journal *j, const json_t *entry, json_t **ret_entry, struct err *e);

#endif
