/* The auxiliary vector: all of it printed, the parts that must hold checked. */
#include "guest.h"
#include <elf.h>
#include <sys/auxv.h>

int main(int argc, char **argv, char **envp) {
    CHECK(argc == 1 && argv[1] == NULL);
    char **end = envp;
    while (*end) {
        end++;
    }
    for (const Elf64_auxv_t *a = (const Elf64_auxv_t *)(end + 1); a->a_type != AT_NULL; a++) {
        printf("%llu = %#llx\n", (unsigned long long)a->a_type, (unsigned long long)a->a_un.a_val);
    }
    CHECK(getauxval(AT_PAGESZ) == 4096);
    CHECK(getauxval(AT_UID) == getuid());
    CHECK(strcmp((const char *)getauxval(AT_PLATFORM), "x86_64") == 0);
    if (recorded()) {
        CHECK(getauxval(AT_SYSINFO_EHDR) == 0); /* the vDSO is hidden, so that time comes by system calls */
    }
    printf("execfn %s\n", (const char *)getauxval(AT_EXECFN));
    return 0;
}
