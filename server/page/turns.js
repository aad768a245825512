/* turns.js - how the conversation looks. Each turn has an element with the parts that change; an answer
 * under way is shown once a frame, however many pieces came. */

const views = new Map();  // turn -> { root, ... }
let frame = 0, dirty = null;

/* ---- the scroller follows the end only while it is there ---- */

const NEAR = 40;  // pixels
let following = true, scrolledTo = 0;

function atEnd() {
    const box = $('scroller');
    return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
}

function toEnd() {
    const box = $('scroller');
    box.scrollTop = box.scrollHeight;
    noteScroll();
}

/* Only who scrolls up leaves the end: that it is out of view may also be for want of room. */
function noteScroll() {
    const top = $('scroller').scrollTop;
    if (atEnd()) following = true;
    else if (top < scrolledTo) following = false;
    scrolledTo = top;
    $('latest').hidden = following;
}

/* After what is shown has changed, or the room for it: if the end was in view it stays there. */
function keepEnd() {
    if (following) toEnd();
    else noteScroll();
}

/* ---- a user's turn ---- */

function userView(turn) {
    const said = el('div', { class: 'said' }, turn.text);
    const copy = button('Copy', () => copyText(turn.text, copy), { class: 'quiet' });
    const edit = button('Edit', () => editTurn(turn), { class: 'quiet edit' });
    const foot = el('footer', null, el('span', { class: 'acts' }, edit, copy));
    return { root: el('article', { class: 'turn user', 'aria-label': 'You' }, said, foot), said, foot, edit };
}

function editTurn(turn) {
    const view = views.get(turn);
    const area = el('textarea', { class: 'edit-box', 'aria-label': 'Edit the message' });
    area.value = turn.text;
    const close = () => {
        editor.replaceWith(view.said);
        view.foot.hidden = false;
        view.edit.focus();
    };
    const send = () => area.value.trim() && (sayInstead(turn, area.value), $('message').focus());
    const editor = el('div', { class: 'editor', onkeydown: (event) => {
        if (event.key === 'Escape') event.stopPropagation(), close();
        if (isSend(event) && event.target === area) event.preventDefault(), send();
    } }, area, el('div', { class: 'acts' }, button('Send', send, { class: 'main' }), button('Cancel', close)));
    view.said.replaceWith(editor);
    view.foot.hidden = true;
    grow(area);
    area.focus();
}

const isSend = (event) => event.key === 'Enter' && !event.shiftKey && !event.isComposing;

/* A text box as high as its text; CSS limits it. */
function grow(area) {
    area.style.height = 'auto';
    area.style.height = area.scrollHeight + area.offsetHeight - area.clientHeight + 'px';
}

/* ---- an answer ---- */

function answerView(answer) {
    const view = { userOpened: false, opened: null };
    view.progress = el('p', { class: 'progress' });
    view.summary = el('summary', { onclick: () => (view.userOpened = true) });
    view.thought = document.createTextNode('');
    view.thoughtBox = el('div', { class: 'thought-text', tabindex: '0' }, view.thought);
    view.details = el('details', { class: 'thought', hidden: true }, view.summary, view.thoughtBox);
    view.prose = el('div', { class: 'prose' });
    view.calls = el('div', { class: 'calls' });
    view.note = el('p', { class: 'note', hidden: true });
    view.figures = el('span', { class: 'figures' });
    const copy = button('Copy', () => copyText(answer.text, copy), { class: 'quiet' });
    const again = button('Regenerate', () => answerAgain(answer), { class: 'quiet again' });
    view.acts = el('span', { class: 'acts' }, copy, again);
    view.root = el('article', { class: 'turn answer', 'aria-label': 'Answer', 'aria-busy': 'true' },
        view.progress, view.details, view.prose, view.calls, view.note, el('footer', null, view.figures, view.acts));
    return view;
}

function progressText(answer, now) {
    const since = span(Math.floor((now - answer.asked) * 10) / 10);
    const tokens = answer.promptTokens ? ' about ' + plural(answer.promptTokens, 'token') : ' the conversation';
    const known = answer.knownTokens ? ', ' + count(answer.knownTokens) + ' of them known' : '';
    if (answer.state === 'queued' && now - answer.asked < 1) return 'Sending';
    if (answer.state === 'queued') return 'Waiting for a turn · ' + since;
    return 'Reading' + tokens + (answer.promptTokens ? known : '') + ' · ' + since;
}

function showThought(answer, view, now) {
    view.details.hidden = !answer.thought;
    if (!answer.thought) return;
    const live = answer.state === 'thinking', box = view.thoughtBox;
    setText(view.summary, live ? 'Thinking · ' + span(Math.floor((now - answer.thoughtFrom) * 10) / 10)
                               : 'Thought for ' + span(answer.thoughtFor));
    const follow = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    view.thought.appendData(answer.thought.slice(view.thought.length));
    view.details.classList.toggle('live', live);
    if (!view.userOpened) view.details.open = live;
    if (live && follow) box.scrollTop = box.scrollHeight;
}

function pretty(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}

function callView(answer, call) {
    const code = el('code'), head = el('header', null, el('span', null, 'Call'), el('b'));
    const root = el('section', { class: 'call' }, head, el('pre', { tabindex: '0' }, code), el('div', { class: 'result' }));
    return { root, name: head.lastChild, code, result: root.lastChild, shown: undefined };
}

function showResult(answer, call, view) {
    const state = call.result ?? (answer.state === 'done' ? 'open' : 'coming');
    if (view.shown === state) return;
    view.shown = state;
    if (call.result !== null) return view.result.replaceChildren(el('small', null, 'Result'), el('pre', { tabindex: '0' }, call.result));
    if (answer.state !== 'done') return;
    const area = el('textarea', { rows: '2', class: 'code', spellcheck: 'false', placeholder: 'The result of ' + call.name,
        'aria-label': 'The result of ' + call.name, oninput: () => grow(area),
        onkeydown: (event) => isSend(event) && (event.preventDefault(), answerCall(answer, call, area.value)) });
    view.result.replaceChildren(area, button('Send result', () => answerCall(answer, call, area.value)));
}

function showCalls(answer, view) {
    const shown = (view.call ??= []);
    answer.calls.forEach((call, i) => {
        if (!shown[i]) view.calls.append((shown[i] = callView(answer, call)).root);
        setText(shown[i].name, call.name);
        setText(shown[i].code, pretty(call.arguments));
        showResult(answer, call, shown[i]);
    });
    while (shown.length > answer.calls.length) shown.pop().root.remove();
}

/* Tokens a second from the first to the last one, as they came here. */
function figuresText(answer) {
    const usage = answer.usage, parts = [];
    if (!usage) return '';
    const took = answer.last - answer.first;
    parts.push(plural(usage.completion_tokens, 'token'));
    if (took > 0.05 && usage.completion_tokens > 2) parts.push(short((usage.completion_tokens - 1) / took) + ' tokens/s');
    if (answer.first) parts.push('first after ' + span(answer.first - answer.asked));
    const cached = usage.prompt_tokens_details?.cached_tokens;
    parts.push('prompt ' + count(usage.prompt_tokens) + (cached ? ', ' + count(cached) + ' from cache' : ''));
    return parts.join(' · ');
}

function noteText(note) {
    const left = Math.ceil(((note.trouble?.at ?? 0) - Date.now()) / 1000);
    if (note.trouble?.code === 'loading' && health.state === 'ready') return 'The model is ready now.';
    if (note.trouble?.code === 'loading') return 'The model is still being loaded: ' + (health.detail || 'starting') + '.';
    return note.text + (left > 0 ? ' Trying again is worth it in ' + left + ' s.' : '');
}

function showNote(answer, view) {
    const note = answer.note;
    view.note.hidden = !note;
    if (!note) return;
    if (!view.noteSaid) {
        view.noteSaid = el('span');
        view.note.classList.add(note.kind);
        view.note.append(view.noteSaid);
        if (note.trouble?.retry) view.note.append(button('Try again', () => answerAgain(answer)));
        if (note.trouble?.status === 401) view.note.append(button('Enter a key', () => openSettings('key')));
    }
    setText(view.noteSaid, noteText(note));
}

function showTurn(turn) {
    const view = views.get(turn), now = seconds();
    if (!view || turn.role === 'user') return;
    const waits = turn.state === 'queued' || turn.state === 'reading';
    view.progress.hidden = !waits;
    if (waits) setText(view.progress, progressText(turn, now));
    showThought(turn, view, now);
    showMarkdown(view.prose, turn.text);
    showCalls(turn, view);
    showNote(turn, view);
    setText(view.figures, figuresText(turn));
    view.root.classList.toggle('done', turn.state === 'done');
    view.root.classList.toggle('empty', !turn.text);
    view.root.setAttribute('aria-busy', String(turn.state !== 'done'));
    keepEnd();
}

function showSoon(answer) {
    dirty = answer;
    frame ||= requestAnimationFrame(() => {
        frame = 0;
        showTurn(dirty);
    });
}

/* ---- all of them ---- */

function addTurn(turn) {
    const view = turn.role === 'user' ? userView(turn) : answerView(turn);
    views.set(turn, view);
    $('log').append(view.root);
    showTurn(turn);
    toEnd();
}

function removeTurn(turn) {
    views.get(turn)?.root.remove();
    views.delete(turn);
}

/* What may be done depends on what is last, and on whether an answer is under way. */
function showRunning() {
    const lastUser = turns.findLast((turn) => turn.role === 'user'), last = turns.at(-1);
    for (const [turn, view] of views) {
        if (turn.role === 'user') view.edit.hidden = running !== null || turn !== lastUser;
        else view.acts.querySelector('.again').hidden = turn !== last || turn.note?.trouble?.retry;
    }
    const idle = running === null;
    $('welcome').hidden = turns.length > 0;
    $('fresh').disabled = turns.length === 0;
    setText($('send'), idle ? 'Send' : 'Stop');
    $('send').classList.toggle('stop', !idle);
}

/* Times that pass without news. */
setInterval(() => {
    if (running) showSoon(running.answer);
    else if (turns.at(-1)?.note?.trouble) showTurn(turns.at(-1));
}, 100);
