'use strict';
// The picture of a recording (page.rs writes the data). One canvas; each row is drawn from the events of its task that
// are in sight, and what falls on a pixel that is painted already is left out. So the work of a frame grows with the
// events in sight, and the painting with the pixels.

// A test that looks from outside sees what went wrong.
window.addEventListener('error', e => { document.body.dataset.error = e.message; });

const D = JSON.parse(document.getElementById('data').textContent);
const N = D.time.length;
const KIND = { CALL: 0, ENTER: 1, RETURN: 2, RESTART: 3, TRAP: 4, SIGNAL: 5, POINT: 6, EXIT: 7, CLONE: 8, EXEC: 9, SET: 10 };
const GUTTER = 170, AXIS = 26, ROW = 20, NEAR = 6, SHORTEST = 200;

// ---- What the data say ----

const time = new Float64Array(N);
for (let i = 0, t = 0; i < N; i++) { t += D.time[i]; time[i] = t; }
const kind = i => D.kind[i] >> 1, ran = i => D.kind[i] & 1, number = i => D.first + i;
const buffered = new Map(D.buffered), written = new Map(D.written), outputs = new Map();
for (const [i, text] of D.outputs) outputs.set(i, (outputs.get(i) || '') + text);
const end = N ? Math.max(time[N - 1], 1) : 1;

// The events of each row; where an event ends a wait, the event that the wait began with.
const ofRow = D.rows.map(() => []);
const waited = new Int32Array(N).fill(-1);
const born = D.rows.map(() => Infinity), died = D.rows.map(() => 0);
// Calls that have created a task, by event; calls that have waited for the end of one, with the event of that end.
const creators = new Map(), reaped = new Map();
{
    const waits = new Int32Array(D.rows.length).fill(-1);
    // Numbers of tasks are used again: the rows of a number, in the order of their births. The first row has no creator.
    const births = new Map();
    D.rows.forEach(([tid], r) => births.set(tid, [...(births.get(tid) || []), r]));
    if (N) births.get(D.rows[D.row[0]][0]).shift();
    const exits = new Map(), waitCalls = D.names.map(name => name === 'wait4' || name === 'waitid');
    for (let i = 0; i < N; i++) {
        const r = D.row[i], k = kind(i);
        ofRow[r].push(i);
        born[r] = Math.min(born[r], i && ran(i) ? time[i - 1] : time[i]);
        died[r] = time[i];
        if (k === KIND.ENTER) waits[r] = i;
        else if (k === KIND.RETURN || k === KIND.RESTART || k === KIND.EXIT || k === KIND.CLONE || k === KIND.EXEC) {
            waited[i] = waits[r];
            waits[r] = -1;
        }
        if (k === KIND.EXIT) exits.set(D.rows[r][0], i);
        if ((k === KIND.CALL || k === KIND.RETURN) && waitCalls[D.name[i]] && exits.has(D.value[i])) reaped.set(i, exits.get(D.value[i]));
        const child = k === KIND.CLONE ? (births.get(D.value[i]) || []).shift() : undefined;
        if (child !== undefined) {
            creators.set(i, child);
            born[child] = Math.min(born[child], time[i]);
        }
    }
}

const program = r => D.rows[r][2].split('/').pop() || '?';
const label = r => (D.rows[r][0] === D.rows[r][1] ? '' : '  ') + program(r) + ' ' + D.rows[r][0];

function duration(ns) {
    const units = [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs'], [1, 'ns']];
    const [size, unit] = units.find(([size]) => Math.abs(ns) >= size) || units[3];
    return +(ns / size).toPrecision(4) + ' ' + unit;
}

function bytes(count) {
    const units = ['B', 'KiB', 'MiB', 'GiB'];
    let n = 0;
    while (count >= 1024 && n < 3) { count /= 1024; n++; }
    return +count.toPrecision(3) + ' ' + units[n];
}

function what(i) {
    const name = D.names[D.name[i]], value = D.value[i];
    switch (kind(i)) {
        case KIND.CALL: case KIND.RETURN: return `${name} = ${value}`;
        case KIND.ENTER: return `${name} begins to wait`;
        case KIND.RESTART: return `${name} is interrupted by a signal and will be made again`;
        case KIND.TRAP: return 'an instruction that reads the outside world';
        case KIND.SIGNAL: return `signal ${name}`;
        case KIND.POINT: return 'an execution point: the task was interrupted in a long computation';
        case KIND.EXIT: return value & 127 ? `is killed by signal ${value & 127}` : `exits with status ${value >> 8}`;
        case KIND.SET: return 'its tracer sets its registers (ptrace)';
        case KIND.CLONE: return `${name} creates task ${value}`;
        default: return `executes ${name}`;
    }
}

// ---- The view ----

const canvas = document.getElementById('canvas'), pen = canvas.getContext('2d');
const view = { from: 0, to: end, top: 0 };
let chosen = null, found = [], isFound = new Uint8Array(N), colours = {}, width = 0, height = 0, scheduled = false;

const scale = () => (width - GUTTER) / (view.to - view.from);
const x = t => GUTTER + (t - view.from) * scale();
const t = px => view.from + (px - GUTTER) / scale();
const y = r => AXIS + r * ROW - view.top;

function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['back', 'panel', 'text', 'faint', 'line', 'life', 'run', 'wait', 'signal', 'exec', 'clone', 'exit',
        'written', 'mark', 'match', 'chosen', 'on-run', 'on-wait']) colours[name] = style.getPropertyValue('--' + name).trim();
}

function redraw() {
    if (!scheduled) { scheduled = true; requestAnimationFrame(() => { scheduled = false; draw(); }); }
}

function limit() {
    const span = Math.min(Math.max(view.to - view.from, SHORTEST), end * 1.1 + SHORTEST);
    const middle = (view.from + view.to) / 2;
    view.from = Math.min(Math.max(middle - span / 2, -0.05 * end), end * 1.05 - Math.min(span, end));
    view.to = view.from + span;
    const most = Math.max(0, D.rows.length * ROW - (height - AXIS - 10));
    view.top = Math.min(Math.max(view.top, 0), most);
}

// The first of some events that is not before a time.
function firstAt(events, when) {
    let low = 0, high = events.length;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (time[events[middle]] < when) low = middle + 1; else high = middle;
    }
    return low;
}

function draw() {
    const began = performance.now();
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(canvas.clientWidth * ratio) || canvas.height !== Math.round(canvas.clientHeight * ratio)) {
        canvas.width = Math.round(canvas.clientWidth * ratio);
        canvas.height = Math.round(canvas.clientHeight * ratio);
    }
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    limit();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = colours.back;
    pen.fillRect(0, 0, width, height);
    pen.font = '11px system-ui, sans-serif';
    pen.textBaseline = 'middle';
    let looked = 0;
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, AXIS, width - GUTTER, height - AXIS);
    pen.clip();
    drawMarks();
    const first = Math.max(0, Math.floor(view.top / ROW)), last = Math.min(D.rows.length, Math.ceil((view.top + height) / ROW));
    for (let r = first; r < last; r++) looked += drawRow(r);
    drawArrows(first, last);
    if (chosen && chosen.event !== undefined) drawChosen(chosen.event);
    pen.restore();
    drawGutter(first, last);
    drawAxis();
    document.body.dataset.events = N;
    document.body.dataset.looked = looked;
    document.body.dataset.drawMs = (performance.now() - began).toFixed(1);
}

function bar(from, to, top, thick, painted) {
    let left = Math.max(x(from), GUTTER), right = Math.min(x(to), width);
    if (right < GUTTER || left > width) return painted;
    right = Math.max(right, left + 1);
    if (right <= painted) return painted;
    left = Math.max(left, painted);
    pen.fillRect(left, top, right - left, thick);
    return Math.ceil(right);
}

function drawRow(r) {
    const events = ofRow[r], top = y(r);
    pen.fillStyle = colours.life;
    if (born[r] <= view.to && died[r] >= view.from) bar(born[r], died[r], top + ROW / 2 - 1, 2, -1);
    const from = firstAt(events, view.from);
    let to = from;
    while (to < events.length && time[events[to]] <= view.to) to++;
    // What ends after the view may have begun in it.
    const past = Math.min(to + 1, events.length);
    pen.fillStyle = colours.wait;
    for (let n = from, painted = -1; n < past; n++) {
        const i = events[n];
        if (waited[i] >= 0) painted = bar(time[waited[i]], time[i], top + 6, ROW - 12, painted);
    }
    pen.fillStyle = colours.run;
    for (let n = from, painted = -1; n < past; n++) {
        const i = events[n];
        if (ran(i)) painted = bar(i ? time[i - 1] : 0, time[i], top + 3, ROW - 6, painted);
    }
    let written_at = -9;
    for (let n = from, name_at = GUTTER; n < past; n++) {
        const i = events[n], at = x(time[i]);
        const start = x(waited[i] >= 0 ? time[waited[i]] : i ? time[i - 1] : 0);
        const left = Math.max(start, GUTTER) + 3, room = Math.min(at, width) - left - 2;
        if (room > 30 && left > name_at && (ran(i) || waited[i] >= 0)) {
            name_at = at;
            const name = D.names[D.name[i]];
            if (name && pen.measureText(name).width < room) {
                pen.fillStyle = ran(i) && waited[i] < 0 ? colours['on-run'] : colours['on-wait'];
                pen.fillText(name, left, top + ROW / 2);
            }
        }
        if (isFound[i]) { pen.fillStyle = colours.match; pen.fillRect(at - 1, top, 3, ROW); }
        if (written.has(i) && at > written_at + 3) {
            written_at = at;
            pen.fillStyle = colours.written;
            pen.fillRect(at - 1, top + 1, 3, 5);
        }
    }
    // What is rare and matters is on top.
    for (let n = from, painted = -9; n < to; n++) {
        const i = events[n], k = kind(i);
        if (k < KIND.SIGNAL || k === KIND.POINT || k === KIND.SET) continue;
        const at = x(time[i]);
        if (k !== KIND.SIGNAL && at < painted + 2) continue;
        painted = at;
        pen.beginPath();
        if (k === KIND.SIGNAL) {
            pen.fillStyle = colours.signal;
            pen.moveTo(at, top + ROW - 4); pen.lineTo(at - 5, top + 2); pen.lineTo(at + 5, top + 2);
        } else if (k === KIND.EXIT) {
            pen.fillStyle = colours.exit;
            pen.rect(at - 1, top + 1, 3, ROW - 2);
        } else if (k === KIND.EXEC) {
            pen.fillStyle = colours.exec;
            pen.moveTo(at, top + 2); pen.lineTo(at + 5, top + ROW / 2); pen.lineTo(at, top + ROW - 2); pen.lineTo(at - 5, top + ROW / 2);
        } else {
            pen.fillStyle = colours.clone;
            pen.arc(at, top + ROW / 2, 4, 0, 7);
        }
        pen.fill();
    }
    return past - from;
}

function drawArrows(first, last) {
    pen.strokeStyle = colours.clone;
    pen.globalAlpha = 0.6;
    let count = 0;
    for (const [i, child] of creators) {
        const parent = D.row[i];
        if (time[i] < view.from || time[i] > view.to || Math.max(parent, child) < first || Math.min(parent, child) >= last) continue;
        if (++count > 500) break;
        const at = Math.round(x(time[i])) + 0.5;
        pen.beginPath();
        pen.moveTo(at, y(parent) + ROW / 2);
        pen.lineTo(at, y(child) + ROW / 2);
        pen.stroke();
    }
    pen.strokeStyle = colours.exit;
    count = 0;
    for (const [i, exit] of reaped) {
        const parent = D.row[i], child = D.row[exit];
        if (time[i] < view.from || time[exit] > view.to || Math.max(parent, child) < first || Math.min(parent, child) >= last) continue;
        if (++count > 500) break;
        pen.beginPath();
        pen.moveTo(x(time[exit]), y(child) + ROW / 2);
        pen.lineTo(x(time[i]), y(parent) + ROW / 2);
        pen.stroke();
    }
    pen.globalAlpha = 1;
}

function drawMarks() {
    pen.fillStyle = colours.mark;
    pen.globalAlpha = 0.35;
    let painted = -1;
    for (const [, when] of D.marks) {
        const at = Math.round(x(when));
        if (at <= painted || at < GUTTER || at > width) continue;
        painted = at;
        pen.fillRect(at, AXIS, 1, height - AXIS);
    }
    pen.globalAlpha = 1;
}

function drawChosen(i) {
    pen.strokeStyle = colours.chosen;
    pen.lineWidth = 2;
    const at = x(time[i]), top = y(D.row[i]);
    const start = waited[i] >= 0 ? time[waited[i]] : ran(i) && i ? time[i - 1] : time[i];
    pen.strokeRect(Math.max(x(start), GUTTER - 5), top + 1, Math.max(at - Math.max(x(start), GUTTER - 5), 2), ROW - 2);
    pen.lineWidth = 1;
}

function drawGutter(first, last) {
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, GUTTER, height);
    pen.save();
    pen.beginPath();
    pen.rect(0, AXIS, GUTTER - 6, height - AXIS);
    pen.clip();
    for (let r = first; r < last; r++) {
        pen.fillStyle = chosen && chosen.event !== undefined && D.row[chosen.event] === r ? colours.chosen : colours.text;
        pen.fillText(label(r), 8 + (D.rows[r][0] === D.rows[r][1] ? 0 : 12), y(r) + ROW / 2);
    }
    pen.restore();
}

function drawAxis() {
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, width, AXIS);
    const about = (view.to - view.from) / Math.max(2, (width - GUTTER) / 110);
    const power = 10 ** Math.floor(Math.log10(about));
    const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= about);
    pen.fillStyle = colours.faint;
    for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
        const px = x(at);
        if (px < GUTTER) continue;
        pen.fillRect(px, AXIS - 6, 1, 6);
        pen.fillText(duration(Math.round(at)), px + 3, AXIS / 2);
    }
    pen.fillStyle = colours.match;
    let painted = -1;
    for (const i of found) {
        const px = Math.round(x(time[i]));
        if (px > painted && px >= GUTTER) { pen.fillRect(px, AXIS - 5, 2, 5); painted = px + 1; }
    }
    pen.fillStyle = colours.mark;
    painted = -9;
    for (const [, when] of D.marks) {
        const px = x(when);
        if (px < GUTTER || px > width || px < painted + 3) continue;
        painted = px;
        pen.beginPath();
        pen.moveTo(px, AXIS - 1); pen.lineTo(px - 4, AXIS - 6); pen.lineTo(px, AXIS - 11); pen.lineTo(px + 4, AXIS - 6);
        pen.fill();
    }
    pen.fillStyle = colours.line;
    pen.fillRect(0, AXIS - 1, width, 1);
    pen.fillRect(GUTTER - 1, 0, 1, height);
}

// ---- What a click says ----

const details = document.getElementById('details');

function element(name, text) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return made;
}

// A word as a shell wants it.
const quoted = word => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\''`)}'`;

function show(title, facts, command) {
    details.replaceChildren(element('h2', title));
    const list = element('dl');
    for (const [name, value] of facts) {
        if (value === undefined || value === '') continue;
        list.append(element('dt', name), element('dd', value));
    }
    details.append(list, element('div', 'To go there:'), element('pre', command));
    const copy = element('button', 'copy');
    copy.type = 'button';
    copy.onclick = () => navigator.clipboard && navigator.clipboard.writeText(command).then(() => { copy.textContent = 'copied'; });
    details.append(copy);
}

function selectEvent(i, bring) {
    chosen = { event: i };
    const r = D.row[i], [tid, tgid, , executes] = D.rows[r];
    const before = waited[i] >= 0 && i > 0 && D.row[i - 1] !== r ? `${what(i - 1)} (task ${D.rows[D.row[i - 1]][0]}, event ${number(i - 1)})` : undefined;
    show(`event ${number(i)}`, [
        ['task', `${tid}, ${program(r)}${tid === tgid ? '' : ', a thread of ' + tgid}`],
        ['what', what(i)],
        ['at', duration(time[i])],
        ['ran for', ran(i) && i ? duration(time[i] - time[i - 1]) + ' before it' : undefined],
        ['waited', waited[i] >= 0 ? `${duration(time[i] - time[waited[i]])}, since event ${number(waited[i])}` : undefined],
        ['waited for', reaped.has(i) ? `the end of task ${D.rows[D.row[reaped.get(i)]][0]}, event ${number(reaped.get(i))}` : undefined],
        ['just before', before],
        ['buffered', buffered.has(i) ? `${buffered.get(i)} calls in the interval before it` : undefined],
        ['wrote', written.has(i) ? bytes(written.get(i)) : undefined],
        ['output', outputs.get(i)],
    ], `rr replay ${executes ? '-p' : '-f'} ${tgid} -g ${number(i)} ${quoted(D.trace)}`);
    history.replaceState(null, '', '#event=' + number(i));
    if (bring) {
        const span = view.to - view.from;
        if (time[i] < view.from || time[i] > view.to) { view.from = time[i] - span / 2; view.to = view.from + span; }
        if (y(r) < AXIS || y(r) + ROW > height) view.top = r * ROW - height / 2;
    }
    redraw();
}

function selectMark(n) {
    const [event, when, pause, size, maker] = D.marks[n];
    chosen = { mark: n };
    show(`checkpoint at event ${event}`, [
        ['at', duration(when)],
        ['size', bytes(size)],
        ['pause', duration(pause * 1000)],
        ['made by', maker],
    ], `rr replay -g ${event} ${quoted(D.trace)}`);
    redraw();
}

function help() {
    details.replaceChildren(element('h2', D.complete ? 'The recording' : 'The recording (it did not end properly)'));
    const list = element('dl');
    const tasks = D.rows.length, processes = new Set(D.rows.map(row => row[1])).size;
    for (const [name, value] of [['events', `${N}`], ['tasks', `${tasks}, in ${processes} processes`], ['time', duration(end)],
        ['checkpoints', `${D.marks.length}`], ['trace', D.trace]]) list.append(element('dt', name), element('dd', value));
    details.append(list, element('p', 'Click an event to see what it is, and the command that takes gdb there.'));
}

// The event of a row that is meant by a place of the canvas.
function eventAt(px, py) {
    const r = Math.floor((py - AXIS + view.top) / ROW);
    if (!(r >= 0 && r < D.rows.length)) return undefined;
    const events = ofRow[r], when = t(px);
    let best, distance = NEAR + 1;
    for (let n = firstAt(events, t(px - NEAR)); n < events.length && x(time[events[n]]) <= px + NEAR; n++) {
        const i = events[n], k = kind(i);
        const far = Math.abs(x(time[i]) - px) - (k >= KIND.SIGNAL && k !== KIND.POINT && k !== KIND.SET ? NEAR : 0);
        if (far < distance) { best = i; distance = far; }
    }
    if (best !== undefined) return best;
    const after = events[firstAt(events, when)];
    if (after === undefined) return undefined;
    const start = waited[after] >= 0 ? time[waited[after]] : ran(after) && after ? time[after - 1] : Infinity;
    return start <= when ? after : undefined;
}

function click(px, py) {
    canvas.focus();
    const near = D.marks.map(([, when], n) => [Math.abs(x(when) - px), n]).sort((a, b) => a[0] - b[0])[0];
    if (py < AXIS && near && near[0] <= NEAR) return selectMark(near[1]);
    const i = eventAt(px, py);
    if (i !== undefined) return selectEvent(i);
    chosen = null;
    help();
    redraw();
}

// ---- Search ----

const query = document.getElementById('query'), matches = document.getElementById('matches');

function search() {
    const wanted = query.value.trim().toLowerCase();
    found = [];
    isFound = new Uint8Array(N);
    if (wanted) {
        const names = D.names.map(name => name.toLowerCase().includes(wanted));
        const rows = D.rows.map((row, r) => String(row[0]) === wanted || program(r).toLowerCase() === wanted);
        const exact = /^\d+$/.test(wanted) ? +wanted - D.first : -1;
        const kinds = { exit: KIND.EXIT, exec: KIND.EXEC, clone: KIND.CLONE, signal: KIND.SIGNAL }[wanted];
        for (let i = 0; i < N; i++) {
            if (i === exact || names[D.name[i]] || rows[D.row[i]] || kind(i) === kinds
                || (outputs.has(i) && outputs.get(i).toLowerCase().includes(wanted))) { found.push(i); isFound[i] = 1; }
        }
        // A number is an event first.
        if (exact >= 0 && exact < N) { found = [exact, ...found.filter(i => i !== exact)]; }
    }
    matches.textContent = wanted ? `${found.length} found` : '';
    redraw();
}

function goTo(direction) {
    if (!found.length) return;
    const here = chosen && chosen.event !== undefined ? found.indexOf(chosen.event) : -1;
    const next = here < 0 ? (direction > 0 ? 0 : found.length - 1) : (here + direction + found.length) % found.length;
    matches.textContent = `${next + 1} of ${found.length}`;
    selectEvent(found[next], true);
}

query.addEventListener('input', search);
document.getElementById('search').addEventListener('submit', e => { e.preventDefault(); goTo(1); });
document.getElementById('previous').addEventListener('click', () => goTo(-1));

// ---- Moving ----

function zoom(factor, px = (GUTTER + width) / 2) {
    const at = t(px);
    view.from = at - (at - view.from) * factor;
    view.to = at + (view.to - at) * factor;
    redraw();
}

function move(pixels) {
    const by = pixels / scale();
    view.from += by;
    view.to += by;
    redraw();
}

canvas.addEventListener('wheel', e => {
    e.preventDefault();
    const amount = e.deltaMode === 1 ? e.deltaY * 16 : e.deltaY;
    if (e.shiftKey || e.offsetX < GUTTER) { view.top += amount || e.deltaX; redraw(); return; }
    if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) { move(e.deltaX); return; }
    zoom(Math.exp(amount * 0.002), e.offsetX);
}, { passive: false });

let drag = null;
canvas.addEventListener('pointerdown', e => {
    drag = { x: e.offsetX, y: e.offsetY, from: view.from, to: view.to, top: view.top, moved: false };
    try { canvas.setPointerCapture(e.pointerId); } catch { /* a pointer that is gone already */ }
});
canvas.addEventListener('pointermove', e => {
    if (!drag) return;
    const by = (drag.x - e.offsetX) / scale();
    drag.moved ||= Math.abs(drag.x - e.offsetX) + Math.abs(drag.y - e.offsetY) > 4;
    if (!drag.moved) return;
    view.from = drag.from + by;
    view.to = drag.to + by;
    view.top = drag.top + drag.y - e.offsetY;
    redraw();
});
canvas.addEventListener('pointerup', e => {
    if (drag && !drag.moved) click(e.offsetX, e.offsetY);
    drag = null;
});
canvas.addEventListener('dblclick', e => zoom(0.25, e.offsetX));

function all() { view.from = -0.01 * end; view.to = 1.01 * end; view.top = 0; redraw(); }

// The event of the same task before or after the chosen one.
function neighbour(direction) {
    if (!chosen || chosen.event === undefined) return;
    const events = ofRow[D.row[chosen.event]];
    let low = 0, high = events.length;
    while (low < high) { const middle = (low + high) >> 1; if (events[middle] < chosen.event) low = middle + 1; else high = middle; }
    const next = events[low + direction];
    if (next !== undefined) selectEvent(next, true);
}

document.addEventListener('keydown', e => {
    if (e.target === query) { if (e.key === 'Escape') canvas.focus(); return; }
    if (e.ctrlKey || e.altKey || e.metaKey) return;
    const step = (width - GUTTER) / 5;
    const actions = {
        '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1 / 0.6), '0': all,
        ArrowLeft: () => move(-step), ArrowRight: () => move(step),
        ArrowUp: () => { view.top -= 3 * ROW; redraw(); }, ArrowDown: () => { view.top += 3 * ROW; redraw(); },
        n: () => goTo(1), N: () => goTo(-1), '/': () => query.focus(), ',': () => neighbour(-1), '.': () => neighbour(1),
    };
    if (actions[e.key]) { e.preventDefault(); actions[e.key](); }
});
document.getElementById('in').onclick = () => zoom(0.5);
document.getElementById('out').onclick = () => zoom(2);
document.getElementById('all').onclick = all;

// ---- The beginning ----

document.title = `rr timeline: ${D.command}`;
document.getElementById('title').textContent = D.command;
document.getElementById('title').title = D.command;
document.getElementById('facts').textContent = `${N} events, ${D.rows.length} tasks, ${duration(end)}, ${D.marks.length} checkpoints`;
readColours();
help();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readColours(); redraw(); });
new ResizeObserver(redraw).observe(canvas);
all();
draw();
{
    const wanted = /^#event=(\d+)$/.exec(location.hash);
    if (wanted && +wanted[1] >= D.first && +wanted[1] < D.first + N) selectEvent(+wanted[1] - D.first, true);
}

// For scripts, tests among them: where an event is on the canvas, what is in sight, and a frame at once.
window.timeline = {
    place: event => ({ x: x(time[event - D.first]), y: y(D.row[event - D.first]) + ROW / 2, time: time[event - D.first] }),
    view, draw, select: event => selectEvent(event - D.first, true),
};
