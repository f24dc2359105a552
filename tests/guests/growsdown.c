/* A mapping that grows downwards, as stacks do, made by the program itself. */
#include "guest.h"
#include <sys/mman.h>

int main(void) {
    size_t room = 8 << 20;
    unsigned char *hole = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hole != MAP_FAILED && munmap(hole, room) == 0);
    unsigned char *top = hole + room - 4096;
    CHECK(mmap(top, 4096, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0) == top);
    for (int i = 0; i < 200; i++) {
        top[-4096l * i] = (unsigned char)i;
        if (i % 50 == 0) {
            getppid();
        }
    }
    uint64_t sum = 0;
    for (int i = 0; i < 200; i++) {
        sum = sum * 31 + top[-4096l * i];
    }
    printf("%p %016llx\n", (void *)top, (unsigned long long)sum);
    return 0;
}
