// guest: cflags=-fsanitize=leak,-g,-pthread exit=23 heavy
/* LeakSanitizer traces its own threads, from a process in the same memory, and reports memory without
 * any pointer to it. */
#include "leak.h"
