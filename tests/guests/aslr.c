/* Addresses that address space randomisation chooses. */
#include "guest.h"
#include <dlfcn.h>
#include <sys/mman.h>

static int data = 1;

int main(void) {
    int local = 0;
    void *heap = malloc(100), *big = malloc(1 << 20);
    void *mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(heap && big && mapping != MAP_FAILED);
    printf("code %p data %p stack %p heap %p big %p mmap %p libc %p brk %p\n", (void *)(uintptr_t)main,
           (void *)&data, (void *)&local, heap, big, mapping, dlsym(RTLD_DEFAULT, "printf"), sbrk(0));
    free(heap);
    free(big);
    return 0;
}
