// guest: special cflags=-fsanitize=address,-g,-pthread exit=1
/* AddressSanitizer with its leak checker, which traces the process's
 * own threads. */
#include "leak.h"
