/* metrics.js - /metrics as small charts. Asked every two seconds, and only while somebody looks.
 *
 *   text -> sample { t, values {name: number}, buckets {name: [[le, count]]} } -> points of each chart
 *
 * Counters become rates between two samples; a quantile comes from what a histogram's buckets grew by
 * over the last WINDOW samples. Where nothing happened there is no point, and the line has a gap. */

const EVERY_MS = 2000, KEPT = 150, WINDOW = 5;  // samples: five minutes, ten seconds
const WIDE = 300, HIGH = 90;                     // units of a chart's drawing

/* ---- samples ---- */

const SAMPLE = /^fathom_(\w+)(?:\{(.*)\})? (\S+)$/;

/* Labels beyond these split a number by its owner; a number that also comes whole is taken whole. */
function takeLine(sample, line) {
    const match = SAMPLE.exec(line);
    if (!match) return;
    const [, name, labels = '', value] = match;
    const le = /(?:^|,)le="([^"]*)"/.exec(labels);
    const split = /(?:^|,)tenant="/.test(labels);
    if (le) {
        if (!split) (sample.buckets[name.replace(/_bucket$/, '')] ??= []).push([le[1] === '+Inf' ? Infinity : Number(le[1]), Number(value)]);
        return;
    }
    const into = split ? sample.parts : sample.values;
    into[name] = (into[name] ?? 0) + Number(value);
}

function sampleOf(text) {
    const sample = { t: seconds(), values: {}, parts: {}, buckets: {} };
    for (const line of text.split('\n')) takeLine(sample, line);
    sample.values = { ...sample.parts, ...sample.values };
    return sample;
}

const level = (name, factor = 1) => (now) => (name in now.values ? now.values[name] * factor : null);

function grown(now, before, name) {
    const by = now.values[name] - before?.values[name];
    return by >= 0 ? by : null;  // also null where it is not known, or began anew
}

const rate = (name) => (now, before) => {
    const by = grown(now, before, name);
    return by === null ? null : by / (now.t - before.t);
};

const share = (part, whole) => (now, before, past) => {
    const all = grown(now, past, whole);
    return all > 0 ? (100 * grown(now, past, part)) / all : null;
};

/* In ms; inside a bucket it is taken to lie evenly. */
const quantile = (name, q) => (now, before, past) => {
    const new_ = now.buckets[name], old = past?.buckets[name];
    if (!new_ || !old || old.length !== new_.length) return null;
    const by = new_.map(([le, n], i) => [le, n - old[i][1]]), all = by.at(-1)[1];
    if (!(all > 0)) return null;
    const at = by.findIndex(([, n]) => n >= q * all);
    const [low, below] = at > 0 ? by[at - 1] : [0, 0], [high, n] = by[at];
    return 1000 * (high === Infinity ? low : low + ((high - low) * (q * all - below)) / (n - below));
};

/* ---- charts ---- */

const amount = (value) => short(value), percent = (value) => value.toFixed(value < 10 ? 1 : 0) + ' %';
const time = (ms) => (ms >= 1000 ? (ms / 1000).toFixed(2) + ' s' : short(ms) + ' ms');

const CHARTS = [
    { title: 'Tokens per second', tell: amount, lines: [['generated', rate('generation_tokens_total')], ['prompt', rate('prompt_tokens_total')]] },
    { title: 'Requests', tell: (n) => count(n), least: 4, lines: [['running', level('requests_running')], ['waiting', level('requests_waiting')]] },
    { title: 'KV cache in use', tell: percent, least: 100, lines: [['used', level('kv_cache_usage_ratio', 100)]] },
    { title: 'Prompt tokens from cache', tell: percent, least: 100, lines: [['found', share('prefix_cache_hit_tokens_total', 'prefix_cache_query_tokens_total')]] },
    { title: 'Time to first token', tell: time, lines: [['p50', quantile('time_to_first_token_seconds', 0.5)], ['p99', quantile('time_to_first_token_seconds', 0.99)]] },
    { title: 'Time between tokens', tell: time, lines: [['p50', quantile('inter_token_seconds', 0.5)], ['p99', quantile('inter_token_seconds', 0.99)]] },
];

const samples = [];
let pointed = null;  // how far back (0 to 1) somebody points, in all charts at once

function chartView(chart) {
    chart.points = chart.lines.map(() => []);
    chart.paths = chart.lines.map((_, i) => svg('path', { class: 'line l' + i, 'vector-effect': 'non-scaling-stroke' }));
    chart.area = svg('path', { class: 'area' });
    chart.hand = svg('line', { class: 'hand', y1: 0, y2: HIGH, 'vector-effect': 'non-scaling-stroke' });
    chart.values = chart.lines.map(() => el('b', null, '–'));
    chart.top = el('span', { class: 'top' });
    chart.when = el('span');
    const picture = svg('svg', { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': chart.title },
        svg('path', { class: 'grid', d: `M0 0H${WIDE}M0 ${HIGH / 2}H${WIDE}M0 ${HIGH}H${WIDE}`, 'vector-effect': 'non-scaling-stroke' }),
        chart.area, ...chart.paths, chart.hand);
    const point = (event) => {
        const box = picture.getBoundingClientRect();
        pointed = event.type === 'pointerleave' ? null : Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
        CHARTS.forEach(drawChart);
    };
    picture.addEventListener('pointermove', point);
    picture.addEventListener('pointerleave', point);
    const legend = chart.lines.map(([name], i) => el('span', { class: 'key k' + i }, name + ' ', chart.values[i]));
    return el('figure', { class: 'chart' }, el('figcaption', null, el('h2', null, chart.title), el('p', { class: 'legend' }, ...legend)),
        el('div', { class: 'plot' }, chart.top, picture), el('p', { class: 'axis' }, el('span', null, '5 min ago'), chart.when, el('span', null, 'now')));
}

/* A round number a little above the value. */
function roundUp(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10, 12].find((n) => n * power >= 1.04 * value) * power;
}

const xOf = (i, kept) => (WIDE - (kept - 1 - i) * (WIDE / (KEPT - 1))).toFixed(1);

function pathOf(points, top) {
    let d = '', on = false;
    points.forEach((value, i) => {
        if (value === null) return (on = false);
        d += (on ? 'L' : 'M') + xOf(i, points.length) + ' ' + (HIGH - (value / top) * HIGH).toFixed(1) + (on ? '' : 'h.01');
        on = true;
    });
    return d;
}

function drawChart(chart) {
    const most = Math.max(chart.least ?? 0, ...chart.points.flat().filter((value) => value !== null));
    const top = most > (chart.least ?? 0) ? roundUp(most) : chart.least ?? 1, kept = chart.points[0].length;
    const at = pointed === null ? kept - 1 : Math.round(kept - 1 - (1 - pointed) * (KEPT - 1));
    chart.lines.forEach((_, i) => {
        const value = chart.points[i][at] ?? null;
        chart.paths[i].setAttribute('d', pathOf(chart.points[i], top));
        setText(chart.values[i], value === null ? '–' : chart.tell(value));
    });
    const first = chart.points[0].findIndex((value) => value !== null);
    const whole = first >= 0 && !chart.points[0].includes(null, first);
    chart.area.setAttribute('d', whole ? pathOf(chart.points[0], top) + `V${HIGH}H${xOf(first, kept)}Z` : '');
    chart.hand.toggleAttribute('hidden', pointed === null);
    chart.hand.setAttribute('x1', pointed * WIDE);
    chart.hand.setAttribute('x2', pointed * WIDE);
    setText(chart.top, chart.tell(top));
    setText(chart.when, pointed === null ? '' : count(((1 - pointed) * KEPT * EVERY_MS) / 1000) + ' s ago');
}

function takeSample(sample) {
    const before = samples.at(-1);
    samples.push(sample);
    if (samples.length > KEPT) samples.shift();
    const past = samples.at(-1 - WINDOW) ?? samples[0];
    const missed = before ? Math.round((1000 * (sample.t - before.t)) / EVERY_MS) - 1 : 0;  // while nobody looked
    for (const chart of CHARTS) {
        chart.lines.forEach(([, read], i) => {
            const value = before || read.length < 2 ? read(sample, before, past === sample ? undefined : past) : null;
            for (let n = 0; n < Math.min(missed, KEPT); n++) chart.points[i].push(null);
            chart.points[i].push(value ?? null);
            chart.points[i].splice(0, chart.points[i].length - KEPT);
        });
        drawChart(chart);
    }
}

/* ---- asking ---- */

let asking = false;

function metricsTrouble(error) {
    const closed = error.status === 401 || error.status === 403;
    if (closed) return 'The metrics of this server want an API key that is allowed to read them (scope metrics). ' +
        'Such a key can be entered in the settings.';
    return error.message + ' The charts go on when it is back.';
}

const looking = () => !$('metrics').hidden && document.visibilityState === 'visible';

async function pollMetrics() {
    if (!looking() || asking) return;
    asking = true;
    try {
        takeSample(sampleOf(await (await ask('metrics')).text()));
        $('metrics-note').hidden = true;
        $('charts').classList.remove('stale');
    } catch (error) {
        setText($('metrics-note'), metricsTrouble(error));
        $('metrics-note').hidden = false;
        $('charts').classList.add('stale');
    }
    $('charts').hidden = samples.length === 0;
    asking = false;
}

function startMetrics() {
    $('charts').append(...CHARTS.map(chartView));
    CHARTS.forEach(drawChart);
    setInterval(pollMetrics, EVERY_MS);
}
