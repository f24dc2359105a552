// guest: heavy
/* A directory of 1,500 files: all listed, some removed, listed again. */
#include "guest.h"
#include <dirent.h>

static int list(uint64_t *hash) {
    DIR *dir = opendir(".");
    CHECK(dir != NULL);
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == 'f') {
            count++;
            *hash = *hash * 31 + checksum(entry->d_name, strlen(entry->d_name)) + entry->d_ino;
        }
    }
    rewinddir(dir);
    CHECK(readdir(dir) != NULL);
    closedir(dir);
    return count;
}

int main(void) {
    char *dir = scratch_dir(), name[32];
    CHECK(chdir(dir) == 0);
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "f%d", i);
        CHECK(mknod(name, S_IFREG | 0600, 0) == 0);
    }
    uint64_t hash = 0;
    CHECK(list(&hash) == 1500);
    printf("%016llx\n", (unsigned long long)hash);
    for (int i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "f%d", i);
        CHECK(unlink(name) == 0);
        if (i == 700) {
            CHECK(list(&hash) == 799);
        }
    }
    CHECK(list(&hash) == 0 && chdir("..") == 0 && rmdir(dir) == 0);
    return 0;
}
