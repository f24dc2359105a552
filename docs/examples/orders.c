#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct order {
    char name[16];
    struct order *next;
};

static struct order *head;

static void add(const char *name) {
    struct order *order = malloc(sizeof *order);
    order->next = head;
    strcpy(order->name, name); /* names can be longer */
    head = order;
}

static void rename_first(const char *name) { strcpy(head->name, name); }

static int count(void) {
    int n = 0;
    for (struct order *o = head; o; o = o->next)
        n++;
    return n;
}

int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '+')
            add(line + 1);
        else if (line[0] == '=')
            rename_first(line + 1);
        else
            printf("%d orders\n", count());
    }
    return 0;
}
