/* journal.h - the desired state on disk: one file of lines "CRC32 LENGTH JSON\n", each an entry of
 * model.h. Appended in one write; survives kill -9 at any instruction (a power cut may take the
 * last few seconds: an instance that lost power lost its dynos too). CRC32 is the one of zlib and
 * IEEE 802.3, of the JSON text, as 8 hex digits.
 *
 * A torn or corrupt tail is cut, kept beside as NAME.bad-TIME, and said so. First line:
 * {"dynod-journal": VERSION}; the version before ours is read and written anew in ours, at the
 * latest before the next entry is added. A file of a version from the future, or with an "op" from
 * it, is set aside whole, and said so. An intact entry that the model refuses is skipped, the whole
 * file kept beside, and said so. Compacted by writing a new file and renaming it.
 *
 * Everything here blocks, for one write(2) a command; a compaction also waits for the disk. The
 * file is 0600: it holds config vars. Only one process may have it open: the caller sees to that.
 */
#ifndef CORE_JOURNAL_H
#define CORE_JOURNAL_H

#include "base/err.h"
#include "core/state/model.h"

/* The oldest that we read is without "by", drain, control, lists of numbers. */
#define JOURNAL_VERSION        2
#define JOURNAL_VERSION_OLDEST 1
#define JOURNAL_LINE_MAX       (8u << 20)
#define JOURNAL_COMPACT_AT     (1u << 20) /* bytes, and twice what the model needs */

struct journal;

/* Opens (makes) NAME below DIRFD (borrowed; must stay open) and replays it into MODEL, which is
 * empty and outlives the journal. *ret_notice: NULL, or what had to be cut, skipped or set aside,
 * in words, to be freed. An error (a disk that cannot be read, no memory) leaves the file as it is
 * and MODEL in any state. */
int journal_open(int dirfd, const char *name, struct model *model, struct journal **ret,
                 char **ret_notice, struct err *e);
void journal_freep(struct journal **j);

/* Applies ENTRY to the model and appends it: both, or neither. A full disk is an error and changes
 * nothing; so is an entry of more than JOURNAL_LINE_MAX bytes (-EMSGSIZE). *ret_entry as of
 * model_apply(). A file that was removed or changed by somebody else is written anew. */
int journal_apply(struct journal *j, const json_t *entry, json_t **ret_entry, struct err *e);

#endif
