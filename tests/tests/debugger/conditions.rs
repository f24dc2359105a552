//! Conditions of breakpoints.

use rr_tests::Rr;
use rr_tests::gdb::{Debugged, Program};

use super::MODES;

/// Conditions are evaluated in the task: all kinds of operands, at many passes, forwards and backwards.
#[test]
fn conditions() {
    let rr = Rr::new();
    for mode in MODES {
        let conditions = Debugged::record(&rr, mode, &Program::c("conditions"));
        assert_eq!(conditions.recorded.shell_status(), 0);
        conditions.check(
            &[],
            &[
                ("break {begin}", "Breakpoint 1"),
                ("continue", "Breakpoint 1, main ()"),
                // A local variable, late.
                ("break {work} if local == 27777", "Breakpoint 2"),
                ("continue", "work (n=77777, m=233331"),
                ("save deep", ""),
                ("tbreak {between}", ""),
                ("continue", "main ()"),
                ("reverse-continue", "work (n=77777, m=233331"),
                ("same deep", ""),
                ("reverse-continue", "Breakpoint 1, main ()"),
                ("continue", "work (n=77777"),
                ("same deep", ""),
                ("stepi", ""),
                ("reverse-stepi", "work (n=77777"),
                ("same deep", ""),
                ("delete 2", ""),
                // Arguments in registers.
                ("tbreak *work if $rdi == 40000 && $rsi == 120000", "breakpoint 4"),
                ("reverse-continue", "breakpoint 4, work"),
                ("print $rdi", "= 40000"),
                // A global variable; one of two.
                ("break {work} if global == 500 || n == 99", "Breakpoint 5"),
                ("reverse-continue", "work (n=500,"),
                ("reverse-continue", "work (n=99,"),
                ("delete 5", ""),
                // Negative numbers, values of less than a word, of more than half a word, and pointers.
                ("tbreak {work} if local > -49891 && local < -49889", ""),
                ("continue", "work (n=110,"),
                (
                    "tbreak {work} if item->letter == 'd' && item->sign == -3 && item->byte == 253 && item->small == -900 && n > 1000",
                    "",
                ),
                ("continue", "work (n=1003,"),
                ("tbreak {work} if wide == 6442450944000", ""),
                ("continue", "work (n=1500,"),
                ("tbreak {work} if item->next->next->value == 66 && n > 2000", ""),
                ("continue", "work (n=2004,"),
                ("tbreak {work} if n % 1000 == 7 && !(n / 100 % 2)", ""),
                ("continue", "work (n=2007,"),
                ("tbreak {work} if (char) m == -5 ? n < 2100 : n == 2100", ""),
                ("continue", "work (n=2100"),
                ("save here", ""),
                // A condition's own access does not trigger a watchpoint.
                ("awatch watched", "watchpoint"),
                ("break {work} if n > 24900 && n < 25100 && watched == 25000 && n == 25002", "Breakpoint 13"),
                ("continue", "Old value = 0 … New value = 25000"),
                ("continue", "Breakpoint 13, work (n=25002,"),
                ("save watched", ""),
                ("continue", "Old value = 25000 … New value = 50000"),
                ("reverse-continue", "Old value = 50000 … New value = 25000"),
                ("reverse-continue", "Breakpoint 13, work (n=25002,"),
                ("same watched", ""),
                ("reverse-continue", "Old value = 25000 … New value = 0"),
                ("delete", ""),
                ("watch watched if watched > 60000", "atchpoint 14"),
                ("break {work} if watched == 50000 && n == 50001", ""),
                ("continue", "work (n=50001,"),
                ("continue", "New value = 75000"),
                ("reverse-continue", "work (n=50001,"),
                ("delete", ""),
                // A condition reads the program's own code everywhere.
                ("tbreak {work} if *(unsigned char *) work == 0x55 && n == 60000", ""),
                ("continue", "work (n=60000,"),
                ("tbreak {work} if *(unsigned char *) $pc == 0xcc || n == 60100", ""),
                ("continue", "work (n=60100,"),
                ("tbreak {work} if *((unsigned char *) $pc + global % 3) == 0xe9 || n == 60200", ""),
                ("continue", "work (n=60200,"),
            ],
        );
    }
}

/// Conditions that cannot read their operands, code that leaves no room, flags, and threads.
#[test]
fn conditions_at_odd_places() {
    let rr = Rr::new();
    for mode in MODES {
        let conditions = Debugged::record(&rr, mode, &Program::c("conditions"));
        let sum = format!("= {}", conditions.recorded.out().trim());
        let output = conditions.check(
            &[],
            &[
                ("break {between}", ""),
                ("continue", "main ()"),
                // A condition with an error counts as true.
                ("break {maybe} if item->value == 33", "Breakpoint 2"),
                ("continue", "Error in testing … maybe (item=0x0)"),
                ("continue", "Error in testing … maybe (item=0x0)"),
                ("delete 2", ""),
                ("break {maybe} if item && item->value == 33", "Breakpoint 3"),
                ("continue", "Breakpoint 3, maybe (item="),
                ("save maybe", ""),
                ("continue", "Breakpoint 3, maybe (item="),
                ("reverse-continue", "Breakpoint 3, maybe (item="),
                ("same maybe", ""),
                ("reverse-continue", "Breakpoint 1, main ()"),
                ("delete", ""),
                // A place two bytes after another, and a place that the code jumps to.
                ("break *two if sum == -1", "Breakpoint 4"),
                ("break *two_more if n == 1000", "Breakpoint 5"),
                ("continue", "Breakpoint 5, "),
                ("continue", "Breakpoint 5, "),
                ("print $rax", "= 1"),
                ("reverse-continue", "Breakpoint 5, "),
                ("print $rax", "= 0"),
                ("delete 5", ""),
                ("tbreak flags", ""),
                ("timed continue", "flags (n=0) … took"),
                ("delete", ""),
                ("tbreak *compared if $rcx == 9998 && $rdx > 5", ""),
                ("continue", "flags (n=9998)"),
                ("save flags", ""),
                // Two conditions at one place, and two threads.
                ("delete", ""),
                ("break {work} if n == 202500", ""),
                ("break {work} if n == 302500", ""),
                ("tbreak {end}", ""),
                ("continue", "work (n="),
                ("save first", ""),
                ("continue", "work (n="),
                ("save second", ""),
                ("continue", "main ()"),
                ("print sum", &sum),
                ("reverse-continue", "work (n="),
                ("same second", ""),
                ("reverse-continue", "work (n="),
                ("same first", ""),
                ("delete", ""),
                ("tbreak *compared if $rcx == 9998 && $rdx > 5", ""),
                ("reverse-continue", "flags (n=9998)"),
                ("same flags", ""),
            ],
        );
        let hits = |n| output.matches(&format!("work (n={n},")).count();
        assert_eq!((hits(202_500), hits(302_500)), (2, 2), "{output}");
    }
}
