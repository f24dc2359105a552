// guest: args=one,,two=2,--flag
/* Arguments and environment arrive as given. */
#include "guest.h"

extern char **environ;

int main(int argc, char **argv) {
    CHECK(argc == 5);
    CHECK(strcmp(argv[2], "") == 0);
    for (int i = 0; i < argc; i++) {
        printf("argv[%d] at %p: %s\n", i, (void *)argv[i], argv[i]);
    }
    for (char **e = environ; *e; e++) {
        puts(*e);
    }
    return 0;
}
