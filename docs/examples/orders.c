/* Keeps orders in a linked list. Lines of input: "+TEXT" adds an order with a note, "=NUMBER TEXT" changes the note
   of an order, "?" prints how many orders there are. It has a bug: docs/debugging.md finds it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct order {
    struct order *next;
    char *note;
    int number;
};

static struct order *head;

static void copy(char *to, const char *from) {
    while (*from)
        *to++ = *from++;
    *to = 0;
}

static void add(const char *note) {
    struct order *order = malloc(sizeof *order);
    order->number = head ? head->number + 1 : 1;
    order->note = malloc(16);
    copy(order->note, note);
    order->next = head;
    head = order;
}

static void change_note(int number, const char *note) {
    for (struct order *o = head; o; o = o->next)
        if (o->number == number)
            copy(o->note, note);
}

static int count(void) {
    int n = 0;
    for (struct order *o = head; o; o = o->next)
        n++;
    return n;
}

int main(void) {
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '+')
            add(line + 1);
        else if (line[0] == '=')
            change_note(atoi(line + 1), line + 3);
        else
            printf("%d orders\n", count());
    }
    return 0;
}
