// Ends by SIGSEGV, or by abort() with an argument.
#include <stdlib.h>
#include <string.h>

struct list {
    struct list *next;
    int value;
} nodes[3] = {{&nodes[1], 1}, {&nodes[2], 2}, {NULL, 3}};

__attribute__((noinline)) static void damage(struct list *node) {
    node->next = (struct list *)0x10; // damage
}

__attribute__((noinline)) static int sum(struct list *node) {
    int all = 0;
    for (; node; node = node->next)
        all += node->value; // sum
    return all;
}

int main(int argc, char **argv) {
    (void)argv;
    int all = sum(nodes);
    damage(&nodes[1]);
    if (argc > 1)
        abort(); // abort
    return sum(nodes) + all;
}
