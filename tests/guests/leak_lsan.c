// guest: cflags=-fsanitize=leak,-g,-pthread exit=23
/* LeakSanitizer traces its own threads, from a process in the same memory, and reports what nobody points to. */
#include "leak.h"
