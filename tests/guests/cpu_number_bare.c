/* cpu_number.c, and assembly code that nothing is known about. */
#define BARE
#include "cpu_number.c"
